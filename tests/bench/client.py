# SPDX-License-Identifier: GPL-2.0-or-later
"""What `pcp mptcp` costs its user on a large host: CPU time and memory, against ss and pminfo on the same sockets."""

import os
import statistics
import time

from tests.lab import Lab
from tests.lab.client import SCRIPT
from tests.lab.common import PYTHON
from .common import Verdict, hold, say, spread

CONNECTIONS, LINKS = 3000, 3
#: Command -> (what of ss's CPU time it may take at most, MiB at most)
COMMANDS = {(): (2, 60), ("check",): (2, 60), ("connections",): (30, 250), ("subflows",): (30, 250),
            ("why", "c17"): (30, 250)}
PEERS = (("ss", "-tinM"), ("pminfo", "-h", "unix:", "-f", "mptcp.subflow", "mptcp.connection"))


def main(options):
    """pcp mptcp with 3000 connections of three subflows, against ss -tinM and pminfo -f."""
    verdict = Verdict()
    with Lab(links=LINKS, rate=None, delay_ms=0) as lab:
        lab.tutorial()
        host = lab.client
        host.start_pcp()
        with hold(lab, CONNECTIONS):
            say(f"{'':60} CPU ms  of ss's (least-most)     MiB")
            ss = [cost(host, PEERS[0])[0] for _ in range(options.rounds)]
            say(f"{' '.join(PEERS[0]):60} {statistics.median(ss) * 1e3:6.0f}")
            measure(host, PEERS[1], ss)
            for command, (share, memory) in COMMANDS.items():
                argv = (PYTHON, SCRIPT, "-h", "unix:", "-t", "1", "-s", "1", *command)
                seen, size = measure(host, argv, ss, "pcp mptcp " + " ".join(command))
                verdict.most(f"of ss's CPU time, pcp mptcp {' '.join(command)}", seen, share)
                verdict.most(f"MiB of pcp mptcp {' '.join(command)}", size, memory)
    return verdict.missed


def measure(host, argv, ss, name=""):
    """Median of its CPU time as a part of ss's, and its memory in MiB."""
    found = [cost(host, argv) for _ in ss]
    ratios = [cpu / other for (cpu, _), other in zip(found, ss)]
    memory = max(size for _, size in found)
    say(f"{name or ' '.join(argv):60} {statistics.median(cpu for cpu, _ in found) * 1e3:6.0f}  {spread(ratios):>22} "
        f"{memory:7.0f}")
    return statistics.median(ratios), memory


def cost(host, argv):
    """CPU seconds, user and system, and the resident set at its most in MiB, of a command."""
    time.sleep(0.3)
    with open(os.devnull, "w", encoding="ascii") as null:
        process = host.popen(*argv, stdout=null)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode in (0, 2), argv
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
