# SPDX-License-Identifier: GPL-2.0-or-later
"""python3 -m tests.fuzz: hostile input in numbers, and one input again."""

import argparse
import multiprocessing
import sys
from random import SystemRandom

from .run import replay, run, shares, table
from .targets import TARGETS

ROUND = 500_000  # inputs, after which there is an interim report and the next seed
_NAMED = {target.name: target for target in TARGETS}


def _run(job):
    name, count, seed = job
    return run(_NAMED[name], count, seed)


def main():
    """Returns the exit status: 1 where anything is wrong."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.fuzz", description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000, help="how many, over all targets")
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(1 << 31), help="for the same ones again")
    parser.add_argument("--target", action="append", choices=_NAMED, help="only this; may be repeated")
    parser.add_argument("--jobs", type=int, default=1, help="processes beside each other")
    parser.add_argument("--replay", metavar="HEX", help="feed this one input to the target")
    options = parser.parse_args()
    if options.replay:
        faults = [replay(_NAMED[name], bytes.fromhex(options.replay)) for name in options.target or ()]
        print("\n".join(fault or "nothing is wrong" for fault in faults))
        return int(any(faults))
    targets = [_NAMED[name] for name in options.target] if options.target else TARGETS
    print(f"seed {options.seed}", flush=True)
    reports = {}
    with multiprocessing.get_context("fork").Pool(options.jobs, maxtasksperchild=1) as pool:
        for number in range(0, options.messages, ROUND):
            counts = shares(targets, min(ROUND, options.messages - number))
            jobs = [(name, count, options.seed + number // ROUND) for name, count in counts.items()]
            for report in pool.imap_unordered(_run, jobs, chunksize=1):
                reports[report.name] = reports[report.name] + report if report.name in reports else report
                for what, index, data in report.findings:
                    print(f"{report.name}, seed {report.seed}, input {index}: {what}\n"
                          f"    --target '{report.name}' --replay {data.hex()}", flush=True)
            print(table(reports.values()), flush=True)
    return int(any(report.wrong for report in reports.values()))


if __name__ == "__main__":
    sys.exit(main())
