# SPDX-License-Identifier: GPL-2.0-or-later
"""What does one sample cost, against ss(8) and against the bare dumps?

    sudo python3 tests/bench/sample.py [N ...]

For each N it opens N connections of 2 subflows in the lab and, in turn and
several times, takes the CPU time (user and system) of three things on the
same sockets: `ss -tinM`; receiving the same dumps without decoding them; and
a full sample of the agent, every group of metrics refreshed with its
instances.  Only the ratios of one run mean something.
"""

import argparse
import os
import resource
import socket
import statistics
import subprocess
import sys
import time

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [REPOSITORY, os.path.join(REPOSITORY, "pmda-mptcp")]

BUDGET_SS, BUDGET_RAW = 0.5, 1.8


def receive(count):
    """CPU seconds of each of `count` dumps of both protocols, not decoded."""
    from pmdamptcp.kernel import inet_diag, sock_diag

    def once():
        for protocol in (inet_diag.IPPROTO_MPTCP, socket.IPPROTO_TCP):
            for _ in sock_diag.dump(protocol):
                pass
    return [cpu_of(once) for _ in range(count)]


def sample(count):
    """CPU seconds of `count` full samples in one process; the first one meets all sockets for the first time."""
    from pmdamptcp.config import Config
    from pmdamptcp.metrics.registry import GROUPS
    from pmdamptcp.snapshot import Snapshot
    snapshot = Snapshot(Config(sample_age=0), print)

    def once():
        for group in GROUPS:
            group.refresh(snapshot)
            group.rows_of(snapshot, group.domain.instances(snapshot) if group.domain else None)
    costs = []
    for _ in range(count):
        snapshot.expire()
        costs.append(cpu_of(once))
    return costs


def cpu_of(work):
    """CPU seconds that a call takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def cpu_of_command(argv):
    """CPU seconds of a command whose output is thrown away."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def worker(kind, count):
    """What runs inside the host's namespaces: prints CPU seconds, and of this process itself the memory in KiB."""
    if kind == "ss":
        print(*[cpu_of_command(["ss", "-tinM"]) for _ in range(count)])
    else:
        print(*{"raw": receive, "sample": sample}[kind](count), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def measure(lab, number, rounds):
    """For each round: CPU seconds of ss, raw, the first and a later sample (medians), and its memory in MiB."""
    def ask(kind, count):
        out = lab.client.run(sys.executable, os.path.abspath(__file__), "--worker", kind, str(count), timeout=300)
        return [float(one) for one in out.stdout.split()]

    costs = []
    with lab.hold(number):
        for _ in range(rounds):
            median = statistics.median
            ss, raw = median(ask("ss", 3)), median(ask("raw", 6)[1:-1])
            first, *later, memory = ask("sample", 6)
            costs.append({"ss": ss, "raw": raw, "first": first, "sample": median(later), "memory": memory / 1024})
    return costs


def spread(values):
    """Median, least and most of some ratios, as text; and the median."""
    middle = statistics.median(values)
    return f"{middle:.2f} ({min(values):.2f}-{max(values):.2f})", middle


def main():
    """Print the table; exit status 1 when a budget is missed at the largest N."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("connections", nargs="*", type=int, default=[100, 1000, 5000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return worker(options.worker[0], int(options.worker[1]))
    from tests.lab import Lab
    print("CPU ms      ss -tinM  dumps only  first sample  sample    sample/ss (least-most)  sample/dumps  "
          "memory MB", flush=True)
    missed = False
    with Lab(links=2, rate="1gbit", delay_ms=0) as lab:
        lab.tutorial()
        for number in options.connections:
            costs = measure(lab, number, options.rounds)
            cost = {name: statistics.median(one[name] for one in costs) for name in costs[0]}
            ss, to_ss = spread([one["sample"] / one["ss"] for one in costs])
            raw, to_raw = spread([one["sample"] / one["raw"] for one in costs])
            print(f"{number:6d} conn. {cost['ss'] * 1e3:8.1f}  {cost['raw'] * 1e3:10.1f}  "
                  f"{cost['first'] * 1e3:12.1f}  {cost['sample'] * 1e3:6.1f}  {ss:>22}  {raw:>12}  "
                  f"{cost['memory']:9.0f}", flush=True)
            missed = to_ss > BUDGET_SS or to_raw > BUDGET_RAW
    print(f"budget at the largest: sample/ss <= {BUDGET_SS}, sample/dumps <= {BUDGET_RAW}: "
          f"{'missed' if missed else 'met'}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
