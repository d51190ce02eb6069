# SPDX-License-Identifier: GPL-2.0-or-later
"""What the listener costs while connections come and go, against a process that only receives the same messages."""

import statistics

from tests.lab import Lab
from .common import Verdict, agent_of, say, settle, spread, value, worker
from .generator import Generator

LINKS = 3
SECONDS = 10  # of each round
BUDGET_MPTCP, RATE_MPTCP = 12.0, 1000  # percent of a core at so many connections a second
BUDGET_PLAIN, RATE_PLAIN = 2.0, 2000
# The kernel's counters of handshakes that made a subflow, on a server and on a client.
HANDSHAKES = "MPCapableACKRX", "MPJoinAckRx", "MPCapableSYNACKRX", "MPJoinSynAckRx"


def mptcp(options):
    """1000 MPTCP connections of three subflows each second: CPU of the agent, and nothing lost."""
    return _run(options, False, options.rate or RATE_MPTCP, RATE_MPTCP, BUDGET_MPTCP)


def plain(options):
    """2000 plain TCP connections each second: CPU of the agent."""
    return _run(options, True, options.rate or RATE_PLAIN, RATE_PLAIN, BUDGET_PLAIN)


def _run(options, tcp, rate, nominal, budget):
    verdict, costs = Verdict(), []
    with Lab(links=LINKS, rate=None, delay_ms=0) as lab:
        lab.tutorial()
        host = getattr(lab, options.host)
        host.start_pcp()
        before = _counts(host)
        with Generator(lab, tcp) as generator:
            generator.churn(rate, 2, life=options.life)  # the first of everything
            say(f"connections of {options.life} ms; bare: a process that only receives the same messages")
            say(f"  conn./s  subflows  messages  agent % of a core  at {nominal}/s  us/message  bare  agent/bare")
            for _ in range(options.rounds):
                costs.append(_round(host, generator, rate, nominal, options))
            settle(lambda: value(host, "mptcp.agent.subflows"), 0, 5)
            after = _counts(host)
        grown = {name: after[name] - before[name] for name in after}
        share = [one["share"] for one in costs]
        say(f"percent of a core at {nominal}/s: {spread(share)}; agent/bare: {spread([one['ratio'] for one in costs])}")
        verdict.most(f"percent of a core at {nominal}/s", statistics.median(share), budget)
        verdict.exactly("overruns", grown["overruns"], 0)
        verdict.exactly("faults", grown["faults"], 0)
        if not tcp:
            # The kernel's own count: some connections are closed before all their subflows have joined.
            verdict.exactly("subflows opened", grown["opened"], grown["handshakes"])
            verdict.exactly("subflows closed", grown["closed"], grown["opened"])
        verdict.exactly("subflows still followed", after["followed"], 0)
    return verdict.missed


def _counts(host):
    """What must agree, from the agent, and the kernel's count of handshakes that made a subflow."""
    def of_agent(name):
        return value(host, f"mptcp.agent.{name}")

    def of_interfaces(name):
        return sum(host.pminfo(f"mptcp.interface.subflows_{name}").values())

    handshakes = [int(line.split()[1]) for line in host.run("nstat", "-az").stdout.splitlines()
                  if line.split()[0].replace("MPTcpExt", "") in HANDSHAKES]
    return {"overruns": of_agent("overruns"), "faults": of_agent("faults"), "followed": of_agent("subflows"),
            "opened": of_interfaces("opened"), "closed": of_interfaces("closed"), "handshakes": sum(handshakes)}


def _round(host, generator, rate, nominal, options):
    agent = agent_of(host)
    with worker(host, "receive") as bare:
        messages, start = _messages(host), agent.cpu
        done = generator.churn(rate, SECONDS, life=options.life)
        cpu, messages = agent.cpu - start, _messages(host) - messages
        out, _ = bare.communicate(timeout=60)
    bare_cpu, ends, events, overruns = map(float, out.split())
    share = cpu / done.connections * nominal * 100
    ours, floor = cpu / messages * 1e6, bare_cpu / (ends + events) * 1e6
    say(f"{done.connections / done.seconds:9.0f} {done.subflows / done.connections:9.2f} {messages:9.0f} "
        f"{cpu / done.seconds * 100:18.1f} {share:10.1f} {ours:11.1f} {floor:5.1f} {ours / floor:11.2f}"
        + (f"  the bare receiver overran {overruns:.0f} times" if overruns else ""))
    return {"share": share, "ratio": ours / floor}


def _messages(host):
    return value(host, "mptcp.agent.events") + value(host, "mptcp.agent.ends")
