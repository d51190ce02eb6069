# SPDX-License-Identifier: GPL-2.0-or-later
"""Half an hour of a busy host: does the agent grow, slow down, lose anything, or keep anybody waiting?

Connections come and go by the hundred each second, others stay, links flap.
A client of PMAPI, a dashboard (pmproxy) and pmrep ask every second, and
pmlogger records.
"""

import contextlib
import itertools
import statistics
import threading

from tests.lab import Lab
from tests.lab.common import LabError
from tests.lab.services import Pmproxy
from .clients import archived, dashboard, poller, pmrep
from .common import Verdict, agent_of, say, settle, value
from .generator import Generator, read

LINKS, HELD = 3, 100
RATE = 300  # connections a second
FLAP = 7.0  # seconds that a link is up, or down
LOOK = 5.0  # seconds between looks at the agent
WARM_UP = 0.2  # of the time
GROWTH = 5.0  # bytes per connection: memory settles for a while, but the smallest object would be 32
SETTLED = 300  # seconds, before which memory is not flat yet; until then it may grow by
SETTLING = 4.0  # MiB
TAIL = 1.0  # seconds that an answer may take
RECORD = """
log mandatory on 1 sec { mptcp.agent mptcp.interface mptcp.subflows mptcp.event mptcp.mib mptcp.redundancy }
log mandatory on 10 sec { mptcp }
"""


def main(options, tail=TAIL):
    """Memory, CPU, answers and losses of the agent on a host with churn, flapping links and four kinds of clients."""
    verdict = Verdict()
    with Lab(links=LINKS, rate=None, delay_ms=0) as lab:
        lab.tutorial()
        host = getattr(lab, options.host)
        host.start_pcp()
        archive = host.work / "soak"
        with contextlib.ExitStack() as stack:
            stack.enter_context(lab.hold(HELD))
            generator = stack.enter_context(Generator(lab))
            proxy = stack.enter_context(Pmproxy(host))
            stack.enter_context(host.pmlogger(RECORD, archive))
            polls = stack.enter_context(poller(host))
            asks = stack.enter_context(dashboard(proxy, host))
            prints = stack.enter_context(pmrep(host))
            flaps = stack.enter_context(_flapping(lab, host))
            agent = agent_of(host)
            start = agent.cpu, value(host, "mptcp.agent.samples"), value(host, "mptcp.agent.sample_time")
            points = _watch(agent, generator.client(options.rate or RATE, options.minutes * 60, options.life, 1000))
            cpu, samples, sample_time = (end - begin for end, begin in zip(
                (agent.cpu, value(host, "mptcp.agent.samples"), value(host, "mptcp.agent.sample_time")), start))
        lost = {name: value(host, f"mptcp.agent.{name}") for name in ("overruns", "faults", "malformed")}
        followed = settle(lambda: value(host, "mptcp.agent.subflows"), 0, 30)
        records = archived(archive)
        say(host.agent_log())
    seconds, done = points[-1][:2]
    say(f"{done} connections in {seconds:.0f} s, {flaps[0]} times a link went down or up")
    say(f"agent: {cpu / seconds * 100:.1f} % of a core; {samples} samples of {sample_time / samples / 1e3:.1f} ms CPU")
    _judge_memory(verdict, points)
    for report in (polls, asks, prints, records):
        report.judge(verdict, tail)
    for name, number in lost.items():
        verdict.exactly(name, number, 0)
    verdict.exactly("subflows still followed", followed, 0)
    return verdict.missed


@contextlib.contextmanager
def _flapping(lab, host):
    """Links 2, 3, ... go down and up in turn, the first stays; what is yielded counts it."""
    stop, count = threading.Event(), [0]

    def flap():
        for n in itertools.cycle(range(2, LINKS + 1)):
            for change in (host.link_down, host.link_up):
                if stop.wait(FLAP):
                    return
                change(n)
                count[0] += 1

    thread = threading.Thread(target=flap)
    thread.start()
    try:
        yield count
    finally:
        stop.set()
        thread.join()
        for n in range(2, lab.links + 1):
            host.link_up(n)


def _watch(agent, client):
    """(seconds, connections, bytes of memory, threads, open files), every LOOK seconds."""
    points = []
    say("seconds  connections  subflows each  memory kB  threads  files")
    for done in map(read, client.stdout):
        if done.seconds < (len(points) + 1) * LOOK:
            continue
        point = done.seconds, done.connections, agent.memory, agent.threads, agent.files
        if len(points) % 12 == 0:
            say(f"{done.seconds:7.0f} {done.connections:12d} {done.subflows / max(1, done.connections):14.2f} "
                f"{point[2] / 1024:10.0f} {point[3]:8d} {point[4]:6d}")
        points.append(point)
    if client.wait() or len(points) < 4:
        raise LabError("churn: the client failed, or the time is too short")
    return points


def _judge_memory(verdict, points):
    warm = [point for point in points if point[0] >= WARM_UP * points[-1][0]]
    say(f"memory: {warm[0][2] / 2**20:.1f} MiB after the warm-up, {warm[-1][2] / 2**20:.1f} at the end, "
        f"{max(point[2] for point in warm) / 2**20:.1f} at most")
    if points[-1][0] < SETTLED:
        verdict.most("MiB more since the warm-up", (warm[-1][2] - warm[0][2]) / 2**20, SETTLING)
    else:
        verdict.most("bytes per connection", fit([point[1] for point in warm], [point[2] for point in warm]), GROWTH)
    verdict.exactly("threads at the end", warm[-1][3], warm[0][3])
    verdict.most("more open files at the end", warm[-1][4] - warm[0][4], 1, 0)


def fit(xs, ys):
    """The slope of the line that fits best."""
    middle_x, middle_y = statistics.mean(xs), statistics.mean(ys)
    return (sum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys))
            / sum((x - middle_x) ** 2 for x in xs))
