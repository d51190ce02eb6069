# SPDX-License-Identifier: GPL-2.0-or-later
"""What every part of the lab uses: errors, waiting, processes, requirements."""

import os
import shutil
import signal
import subprocess
import time

# Namespaces and work directories are called mptcplab-PID-NUMBER-..., so that
# labs can coexist and the leftovers of a killed one can be told apart.
PREFIX = "mptcplab"

# The PCP modules belong to the system's Python, which need not be the
# "python3" that PATH finds (pyenv, virtual environments).
PYTHON = "/usr/bin/python3"

# Seconds that something may take to start; more where all is slow, in an emulated machine.
PATIENCE = int(os.environ.get("MPTCPLAB_PATIENCE", "15"))

# program -> Debian package
PROGRAMS = {
    "ip": "iproute2", "tc": "iproute2", "ss": "iproute2",
    "nsenter": "util-linux", "unshare": "util-linux", "sysctl": "procps",
    "cc": "gcc and libc6-dev",
    "mptcpize": "mptcpize", "iperf3": "iperf3",
}
PCP_PROGRAMS = {
    "pmrep": "pcp", "pminfo": "pcp", "pmlogger": "pcp",
}


class LabError(Exception):
    """The lab cannot be built, or something in it failed."""


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP arrived.

    A KeyboardInterrupt because pytest takes a SystemExit for one failed test
    and goes on with the next.
    """

    def __init__(self, signum):
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


def wait_for(predicate, timeout=10, interval=0.1, message=None):
    """Call predicate until its result is true; return that result.

    message may be a function, which is called when the time is over.
    """
    end = time.monotonic() + timeout
    while True:
        result = predicate()
        if result:
            return result
        if time.monotonic() > end:
            text = message() if callable(message) else message
            raise TimeoutError(text or f"not true within {timeout} s: {predicate}")
        time.sleep(interval)


def run(*argv, check=True, timeout=60, input=None, env=None, cwd=None):
    """Run a program to its end; its error text becomes the exception."""
    result = subprocess.run(
        [str(word) for word in argv], text=True, input=input, timeout=timeout, env=env, cwd=cwd,
        stdin=subprocess.DEVNULL if input is None else None,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if check and result.returncode:
        text = (result.stderr or result.stdout).strip()
        raise LabError(f"{' '.join(map(str, argv))}: exit status {result.returncode}: {text}")
    return result


def signal_group(process, signum):
    """Signal a tracked process and its group.

    Not once it has been waited for: its number may be a stranger's by then.
    """
    if process.poll() is None:
        try:
            os.killpg(process.pid, signum)
        except ProcessLookupError:
            pass


def stop_processes(processes, grace=3):
    """End processes that lead their own groups: ask all, wait, then kill."""
    for process in processes:
        signal_group(process, signal.SIGTERM)
    end = time.monotonic() + grace
    for process in processes:
        try:
            process.wait(max(0.01, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            signal_group(process, signal.SIGKILL)
            process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                try:
                    stream.close()
                except OSError:  # unwritten input to a process that is gone
                    pass


def missing(pcp=True):
    """What the lab lacks on this machine, as sentences (empty: nothing)."""
    problems = []
    if os.geteuid() != 0:
        problems.append("the lab needs root (network namespaces): use sudo")
    if not os.path.exists("/proc/sys/net/mptcp/enabled"):
        problems.append("this kernel has no MPTCP (CONFIG_MPTCP, Linux 5.6 or later)")
    wanted = dict(PROGRAMS)
    if pcp:
        wanted.update(PCP_PROGRAMS)
    for program, package in wanted.items():
        if not shutil.which(program, path=search_path()):
            problems.append(f"{program} is missing: Debian package {package}")
    if pcp and os.path.exists(PYTHON) and subprocess.run(
            [PYTHON, "-c", "import pcp.pmda, cpmda"], stderr=subprocess.DEVNULL,
            check=False).returncode:
        problems.append(f"{PYTHON} has no module pcp: Debian package python3-pcp")
    return problems


def search_path():
    """PATH with the system's directories first: PCP's scripts start "python3"."""
    return "/usr/sbin:/usr/bin:/sbin:/bin:" + os.environ.get("PATH", "")
