# SPDX-License-Identifier: GPL-2.0-or-later
"""What the benchmarks run inside a host of the lab, each as a process of its own."""

import select
import socket
import statistics
import sys
import time

from pmdamptcp.config import Config
from pmdamptcp.kernel import pm_events, sock_diag
from pmdamptcp.listener import MOST as TICK
from pmdamptcp.metrics.registry import GROUPS
from pmdamptcp.snapshot import Snapshot

from . import clients
from .common import cpu_of

BUFFER, MOST = 8 << 20, 1_000_000


def log(text):
    """What the agent would log."""
    print(text, file=sys.stderr)


def receive():
    """Take in the broadcasts that the listener does, and throw them away; prints CPU seconds and messages.

    Ends with its standard input.
    """
    subscriptions = sock_diag.listen(BUFFER), pm_events.listen(BUFFER)[0]
    print("ready", flush=True)
    start = time.process_time()
    while not select.select([sys.stdin], [], [], 0)[0]:
        for subscription in subscriptions:
            for _ in subscription.drain(MOST):
                pass
        time.sleep(TICK)
    print(time.process_time() - start, *[one.messages for one in subscriptions],
          sum(one.overruns for one in subscriptions))


def few_among_many(rounds):
    """CPU seconds by round: a dump of all TCP sockets, a sample of them, and all groups of metrics.

    Then how many samples there were, and how many of them were spared the dump.
    """
    snapshot = Snapshot(Config(sample_age=0), log, True)
    snapshot.start()
    taken = snapshot.samples

    def all_groups():
        for group in GROUPS:
            group.refresh(snapshot)
            group.rows_of(snapshot, group.domain.instances(snapshot) if group.domain else None)

    def dump():
        for _ in sock_diag.dump(socket.IPPROTO_TCP):
            pass

    def cost(work):
        costs = []
        for _ in range(3):
            snapshot.expire()
            costs.append(cpu_of(work))
        return statistics.median(costs)

    for _ in range(int(rounds)):
        print(cost(dump), cost(snapshot.refresh_sockets), cost(all_groups))
    print(snapshot.samples - taken, snapshot.sampler.lookup_samples, len(snapshot.sample.connections),
          len(snapshot.sample.subflows))


def poll(spec):
    """A client of PMAPI at the agent of the pmcd at this socket; ends with its standard input."""
    clients.poll(spec, lambda wait: select.select([sys.stdin], [], [], wait)[0])


WORKERS = {"receive": receive, "few_among_many": few_among_many, "poll": poll}
