# SPDX-License-Identifier: GPL-2.0-or-later
"""This host as the tests of Install see it: PCP's directories, pmcd and its agents, every file."""
import os
import pathlib
import re
import subprocess
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
NOBODY = 65534


def run(*command, timeout=180, **options):
    """Run a command and return it with its output, both streams together."""
    # What pmcd is started with, its agents have; tests/run has put the generator's library there.
    options.setdefault("env", {name: value for name, value in os.environ.items() if name != "PYTHONPATH"})
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=subprocess.DEVNULL, text=True, timeout=timeout,
                          check=False, **options)


def pcp_paths():
    """PCP's variables, from the file that every PCP script reads."""
    shell = run("sh", "-c", ". /etc/pcp.env && env")
    return dict(line.split("=", 1) for line in shell.stdout.splitlines()
                if line.startswith("PCP_") and "=" in line)


PCP = pcp_paths()
PMDA_DIR = pathlib.Path(PCP.get("PCP_PMDAS_DIR", "/nonexistent"), "mptcp")
CONFIG = pathlib.Path(PCP.get("PCP_SYSCONF_DIR", "/nonexistent"), "mptcp", "mptcp.conf")
AGENT_LOG = pathlib.Path(PCP.get("PCP_LOG_DIR", "/nonexistent"), "pmcd", "mptcp.log")


def why_not_here():
    """A reason to leave this host alone, or None."""
    if os.geteuid() != 0:
        return "only root can install"
    if not PCP:
        return "PCP is not installed"
    if not os.path.isdir("/proc/sys/net/mptcp"):
        return "this kernel has no MPTCP"
    if PMDA_DIR.exists() or "mptcp" in configured_agents():
        return "an MPTCP agent is installed here already"
    return None


def configured_agents():
    """Name and whole line of each agent in pmcd's configuration."""
    with open(PCP["PCP_PMCDCONF_PATH"], encoding="utf-8") as conf:
        lines = conf.read().split("[access]")[0].splitlines()
    return {line.split()[0]: line.split() for line in lines
            if line.strip() and not line.startswith("#")}


def running_agents():
    """What pmcd says of its agents: name -> status (0 is well); empty if pmcd is down."""
    found = re.findall(r'or "(\w+)"\] value (\d+)', run("pminfo", "-f", "pmcd.agent.status").stdout)
    return {name: int(status) for name, status in found}


def files():
    """Every file where Install could leave one, without those that PCP itself comes and goes with."""
    roots = [PCP[name] for name in ("PCP_VAR_DIR", "PCP_SYSCONF_DIR", "PCP_SHARE_DIR", "PCP_BINADM_DIR",
                                    "PCP_PMDASADM_DIR")]
    roots += [PCP["PCP_MAN_DIR"] + "/man1", PCP["PCP_LOG_DIR"] + "/pmcd"]
    passing = re.compile(r"/pmcd\.log|/tmp/|/\.sw|/pmns/(root|\.)|/config/pmda/(?!262\b)|\.prev$")
    found = {os.path.join(folder, name) for root in roots
             for folder, folders, names in os.walk(root) for name in folders + names}
    return {name for name in found if not passing.search(name) or "mptcp" in name}


def agent_pid():
    """The process of the registered agent."""
    return run("pgrep", "-f", f"{PMDA_DIR}/pmdamptcp.python").stdout.split()


def install(*arguments, **options):
    """Run Install of this tree."""
    return run(str(TOP / "Install"), *arguments, **options)


def remove(*arguments):
    """Run Remove of this tree."""
    return run(str(TOP / "Remove"), *arguments)


def start_pmcd():
    """Start pmcd the way this host starts it, if it is down."""
    if running_agents():
        return
    if os.path.isdir("/run/systemd/system"):
        run("systemctl", "start", "pmcd")
    else:
        run(PCP["PCP_RC_DIR"] + "/pmcd", "start")
    deadline = time.monotonic() + 20
    while not running_agents() and time.monotonic() < deadline:
        time.sleep(0.2)


def stop_pmcd():
    """Stop pmcd the way this host stops it."""
    if os.path.isdir("/run/systemd/system"):
        run("systemctl", "stop", "pmcd")
    else:
        run(PCP["PCP_RC_DIR"] + "/pmcd", "stop")
    deadline = time.monotonic() + 20
    while running_agents() and time.monotonic() < deadline:
        time.sleep(0.2)
