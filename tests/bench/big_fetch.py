# SPDX-License-Identifier: GPL-2.0-or-later
"""50,000 subflows fetched through pmcd: how long an answer takes, what is left out, and the agent's memory."""

import statistics
import time

from tests.lab import Lab
from .common import Verdict, agent_of, hold, say, spread, value

CONNECTIONS, LINKS = 25_000, 2
SHOWN = 10_000  # the agent's default for `instances`
SECONDS = 1.0
PAUSE = 4.0  # seconds, in which the last sample becomes too old to serve again
IDLE, FULL = 45, 120  # MiB
COMMANDS = (
    ("pminfo", "-f", "mptcp.subflow.in.bytes"),
    ("pminfo", "-f", "mptcp.connection.in.bytes"),
    ("pminfo", "-f", "mptcp.subflows"),
    ("pmrep", "mptcp.subflows", "mptcp.interface.in.bytes", "-s1"),
)


def main(options):
    """Each fetch of 50,000 subflows within a second; the sums exact; memory."""
    verdict = Verdict()
    with Lab(links=LINKS, rate=None, delay_ms=0) as lab:
        lab.tutorial()
        host = lab.client
        host.start_pcp()
        agent = agent_of(host)
        time.sleep(2)
        idle = agent.memory / 2**20
        with hold(lab, CONNECTIONS):
            say(f"{'':55} wall ms  agent's CPU ms  wall/ss (least-most)  agent MiB")
            ss = [wall(host.run, "ss", "-tinM") for _ in range(options.rounds)]
            say(f"{'ss -tinM':55} {statistics.median(ss) * 1e3:7.0f} {'':38} {agent.memory / 2**20:9.0f}")
            for command in COMMANDS:
                ask(host, agent, command, ss, verdict)
            full = agent.memory / 2**20
            check(host, verdict)
        verdict.most("MiB of the idle agent", idle, IDLE, 1)
        verdict.most(f"MiB with {CONNECTIONS * LINKS} subflows", full, FULL, 1)
    return verdict.missed


def ask(host, agent, command, ss, verdict):
    """One command, as often as ss was."""
    times, costs, text = [], [], " ".join(command)
    for _ in ss:
        time.sleep(PAUSE)
        start = agent.cpu
        times.append(wall(host.pcp, *command))
        costs.append(agent.cpu - start)
    say(f"{text:55} {statistics.median(times) * 1e3:7.0f} {statistics.median(costs) * 1e3:15.0f} "
        f"{spread([one / other for one, other in zip(times, ss)]):>22} {agent.memory / 2**20:9.0f}")
    verdict.most(f"seconds of {text}", statistics.median(times), SECONDS)


def check(host, verdict):
    """What is shown one by one, what is left out, and the sums."""
    subflows = CONNECTIONS * LINKS
    verdict.exactly("subflows of all interfaces", sum(host.pminfo("mptcp.subflows").values()), subflows)
    verdict.exactly("connections", value(host, "mptcp.connections"), CONNECTIONS)
    verdict.exactly("subflows shown", len(host.pminfo("mptcp.subflow.in.bytes")), SHOWN)
    verdict.exactly("subflows omitted", value(host, "mptcp.agent.omitted.subflows"), subflows - SHOWN)
    verdict.exactly("connections shown", len(host.pminfo("mptcp.connection.in.bytes")), SHOWN)
    verdict.exactly("connections omitted", value(host, "mptcp.agent.omitted.connections"), CONNECTIONS - SHOWN)


def wall(work, *words):
    """Seconds that a call takes."""
    start = time.monotonic()
    work(*words)
    return time.monotonic() - start
