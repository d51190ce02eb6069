# SPDX-License-Identifier: GPL-2.0-or-later
"""Does the agent grow with the connections that it has seen?"""

import statistics

from tests.lab import Lab
from tests.lab.common import LabError
from .common import Verdict, agent_of, say, settle, value
from .generator import Generator, read

LINKS = 3
EVERY = 5.0  # seconds between looks
WARM_UP = 0.2  # of the time
BUDGET = 5.0  # bytes per connection: memory settles for a while, but the smallest object would be 32


def main(options):
    """Memory of the agent over as many MPTCP connections as fit in the time."""
    verdict = Verdict()
    with Lab(links=LINKS, rate=None, delay_ms=0) as lab:
        lab.tutorial()
        host = getattr(lab, options.host)
        host.start_pcp()
        with Generator(lab) as generator:
            points = watch(host, generator.client(options.rate or 0, options.minutes * 60, options.life, 200))
        followed = settle(lambda: value(host, "mptcp.agent.subflows"), 0)
        overruns = value(host, "mptcp.agent.overruns")
    warm = [point for point in points if point[0] >= WARM_UP * points[-1][0]]
    slope = fit([point[1] for point in warm], [point[2] for point in warm])
    say(f"{points[-1][1]} connections in {points[-1][0]:.0f} s; {slope:.2f} bytes per connection after the warm-up")
    verdict.most("bytes per connection", slope, BUDGET)
    verdict.exactly("threads at the end", warm[-1][3], warm[0][3])
    verdict.exactly("open files at the end", warm[-1][4], warm[0][4])
    verdict.exactly("overruns", overruns, 0)
    verdict.exactly("subflows still followed", followed, 0)
    return verdict.missed


def watch(host, client):
    """(seconds, connections, bytes of memory, threads, open files), every EVERY seconds."""
    agent, points = agent_of(host), []
    say("seconds  connections  subflows each  memory kB  threads  files")
    for done in map(read, client.stdout):
        if done.seconds < (len(points) + 1) * EVERY:
            continue
        point = done.seconds, done.connections, agent.memory, agent.threads, agent.files
        points.append(point)
        say(f"{done.seconds:7.0f} {done.connections:12d} {done.subflows / max(1, done.connections):14.2f} "
            f"{point[2] / 1024:10.0f} {point[3]:8d} {point[4]:6d}")
    if client.wait() or len(points) < 4:
        raise LabError("churn: the client failed, or the time is too short")
    return points


def fit(xs, ys):
    """The slope of the line that fits best."""
    middle_x, middle_y = statistics.mean(xs), statistics.mean(ys)
    return (sum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys))
            / sum((x - middle_x) ** 2 for x in xs))
