# SPDX-License-Identifier: GPL-2.0-or-later
"""What the benchmarks share: CPU times, processes, verdicts, and programs inside a host of the lab."""

import contextlib
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.lab.common import PYTHON, LabError, wait_for

RUN = Path(__file__).with_name("run.py")
_HOLD = 12_500  # connections for one process
_TICK = os.sysconf("SC_CLK_TCK")


def cpu_of(work):
    """CPU seconds that a call takes, in all threads of this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def spread(values, digits=2):
    """Median, least and most, as text."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def say(*words):
    """Print now: a benchmark takes long."""
    print(*words, flush=True)


class Verdict:
    """Compares with budgets; `missed` tells if one was exceeded."""

    def __init__(self):
        self.missed = False

    def most(self, what, value, limit, digits=2):
        """A value that must not be larger."""
        self._judge(f"{what} <= {limit}", f"{value:.{digits}f}", value <= limit)

    def exactly(self, what, value, wanted):
        """A value that must be this."""
        self._judge(f"{what} = {wanted}", value, value == wanted)

    def _judge(self, claim, value, met):
        say(f"budget {claim}: {value}, {'met' if met else 'missed'}")
        self.missed |= not met


class Process:
    """What proc(5) tells of a process."""

    def __init__(self, pid):
        self._directory = Path("/proc", str(pid))
        self.pid = pid

    @property
    def cpu(self):
        """User and system seconds so far."""
        fields = (self._directory / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    @property
    def memory(self):
        """Resident bytes."""
        return self._status("VmRSS") * 1024

    @property
    def threads(self):
        """How many."""
        return self._status("Threads")

    @property
    def files(self):
        """How many are open."""
        return len(os.listdir(self._directory / "fd"))

    def _status(self, name):
        for line in (self._directory / "status").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return int(value.split()[0])
        raise KeyError(name)


def children(pid):
    """Processes that a process started."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def agent_of(host):
    """The agent that the pmcd of a host started."""
    for pid in children(host.pmcd.pid):
        if host.agent.name in Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8"):
            return Process(pid)
    raise LabError(f"{host.name}: pmcd has no agent")


@contextlib.contextmanager
def hold(lab, number, **options):
    """Connections held open by as many processes as the limit of open files asks for."""
    with contextlib.ExitStack() as held:
        while number:
            part = min(number, _HOLD)
            held.enter_context(lab.hold(part, **options))
            number -= part
        yield


def value(host, metric):
    """The value of a metric without instances."""
    return host.pminfo(metric)[None]


@contextlib.contextmanager
def worker(host, name, *words):
    """A function of workers.py inside a host: yields the process once that says "ready"."""
    process = host.popen(PYTHON, RUN, "--worker", name, *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         stderr=sys.stderr)
    try:
        if process.stdout.readline() != "ready\n":
            raise LabError(f"the worker {name} did not start")
        yield process
    finally:
        host.stop(process)


def ask(host, name, *words, timeout=600):
    """What a function of workers.py prints inside a host, as numbers by line."""
    out = host.run(PYTHON, RUN, "--worker", name, *words, timeout=timeout).stdout
    return [[float(word) for word in line.split()] for line in out.splitlines()]


def settle(read, wanted, timeout=10):
    """Wait for a value; returns what it is in the end."""
    with contextlib.suppress(TimeoutError):
        wait_for(lambda: read() == wanted, timeout)
    return read()
