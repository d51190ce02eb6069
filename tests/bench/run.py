# SPDX-License-Identifier: GPL-2.0-or-later
"""The budgets of the agent, each measured against something on the same sockets in the same run.

    sudo python3 tests/bench/run.py [NAME ...]

Exit status 1 when a budget is missed.  Only ratios mean something; a shared
machine needs more rounds.
"""

import argparse
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True  # root must leave no files in a user's checkout
REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:1] = [str(REPOSITORY), str(REPOSITORY / "pmda-mptcp")]


def sample(options):
    """A full sample of 15,000 connections of two subflows, against ss -tinM and against the bare dumps."""
    script = Path(__file__).with_name("sample.py")
    return subprocess.call([sys.executable, script, "15000", "--rounds", str(options.rounds)])


def benchmarks():
    """Name -> function."""
    from tests.bench import archive, big_fetch, churn, client, few_among_many, soak
    return {"sample": sample, "few_among_many": few_among_many.main, "churn": churn.mptcp,
            "plain_closes": churn.plain, "big_fetch": big_fetch.main, "soak": soak.main, "archive": archive.main,
            "client": client.main}


def parse(known):
    """The command line."""
    names = "\n".join(f"  {name:15} {function.__doc__.splitlines()[0]}" for name, function in known.items())
    parser = argparse.ArgumentParser(description=f"{__doc__}\nNames (default: all):\n{names}",
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to run")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default: %(default)s)")
    parser.add_argument("--rate", type=int, help="churn, plain_closes, soak: connections per second")
    parser.add_argument("--life", type=int, default=100,
                        help="churn, plain_closes, soak: milliseconds that a connection is open (default: %(default)s)")
    parser.add_argument("--host", choices=("client", "server"), default="server",
                        help="churn, plain_closes, soak: where the agent runs; the client is the one that closes first "
                             "(default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=3, help="soak: how long (default: %(default)s)")
    options = parser.parse_args()
    options.names = options.names or list(known)
    for name in options.names:
        if name not in known:
            parser.error(f"no benchmark {name}: {', '.join(known)}")
    return options


def main():
    """Run what is asked for."""
    if sys.argv[1:2] == ["--worker"]:
        from tests.bench.workers import WORKERS
        WORKERS[sys.argv[2]](*sys.argv[3:])
        return 0
    known = benchmarks()
    options = parse(known)
    missed = []
    for name in options.names:
        print(f"== {name}: {known[name].__doc__.splitlines()[0]}", flush=True)
        if known[name](options):
            missed.append(name)
    if missed:
        print(f"missed: {', '.join(missed)}")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
