# SPDX-License-Identifier: GPL-2.0-or-later
"""A sample of 100 MPTCP connections on a host with 100,000 plain TCP sockets, against one dump of them."""

import statistics

from tests.lab import Lab
from .common import Verdict, ask, hold, say, spread

BUDGET = 0.1
PLAIN = 100_000
CONNECTIONS, LINKS = 100, 2


def main(options):
    """A sample of 100 connections among 100,000 plain TCP sockets, against one dump of all."""
    verdict = Verdict()
    with Lab(links=LINKS, rate=None, delay_ms=0) as lab:
        lab.tutorial()
        with hold(lab, PLAIN, client_mptcp=False, server_mptcp=False), lab.hold(CONNECTIONS):
            measure(lab, options.rounds, verdict)
    return verdict.missed


def measure(lab, rounds, verdict):
    """On both hosts."""
    say("            CPU ms: TCP dump  sample  all metrics    sample/dump (least-most)  all/dump")
    for host in (lab.client, lab.server):
        *costs, (samples, spared, connections, subflows) = ask(host, "few_among_many", rounds)
        dump, sample, full = (statistics.median(column) for column in zip(*costs))
        ratio = [one[1] / one[0] for one in costs]
        say(f"{host.name:18} {dump * 1e3:9.1f} {sample * 1e3:7.1f} {full * 1e3:12.1f}  "
            f"{spread(ratio, 3):>27}  {spread([one[2] / one[0] for one in costs], 3)}")
        say(f"{host.name:18} {connections:.0f} connections, {subflows:.0f} subflows; "
            f"{spared:.0f} of {samples:.0f} samples asked for single sockets")
        verdict.most(f"sample/dump on the {host.name}", statistics.median(ratio), BUDGET, 3)
        verdict.exactly("samples that dumped all sockets", int(samples - spared), 0)
