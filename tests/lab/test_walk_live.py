# SPDX-License-Identifier: GPL-2.0-or-later
"""Ethernet is unplugged under a download: the Overview shows Wi-Fi take over, live, and the archive shows the same."""

import contextlib
import threading
import time

import pytest

from . import grafana, missing, services
from .archived import recorded_at
from .dashboards import BOARDS, spec
from .scenarios import walk

TRAFFIC, STATE = "Traffic in by link", "Connections by number of live paths"


class Watcher(threading.Thread):
    """A browser that shows the Overview: what its panels got at each refresh, (time, {title: {instance: value}})."""

    def __init__(self, pmproxy, host):
        super().__init__()
        self._board = BOARDS["mptcp-overview"]
        self._page = grafana.Vector(pmproxy, spec(host))
        self._variables = grafana.resolve(self._board, self._page.ask)
        self._ended = threading.Event()
        self.seen, self.errors = [], []

    def run(self):
        while not self._ended.wait(1):
            try:
                self._page.poll(self._page.exprs(self._board, self._variables))
                answers = self._page.answers(self._board, self._variables)
            except grafana.QueryError as error:  # told at the end
                self.errors.append(str(error))
                continue
            shown = {}
            for answer in answers:
                if answer.target["refId"] == "A":
                    shown[answer.panel["title"]] = {name: value for (_, name), value in answer.values.items()}
            self.seen.append((time.time(), shown))

    def during(self, phase, title):
        """What a panel showed in a phase, but for its first two seconds, in which rates tell of before."""
        return [shown[title] for when, shown in self.seen if phase.start + 2 <= when <= phase.end and shown.get(title)]

    def close(self):
        self._ended.set()
        self.join(30)


@pytest.fixture(scope="module", name="walked")
def fixture_walked(tmp_path_factory):
    """The story of the walk, and who watched it."""
    problems = missing() + services.missing()
    if problems:
        pytest.skip("; ".join(problems))
    with walk.ethernet_and_wifi() as lab, services.Pmproxy(lab.client) as pmproxy:
        watcher = Watcher(pmproxy, lab.client)
        watcher.start()
        with contextlib.closing(watcher):
            story = walk.unplug_ethernet(lab, tmp_path_factory.mktemp("walk"))
        yield story, watcher


def mean(rows, link):
    """Of a link, in Mbit/s."""
    assert rows, "nothing was shown"
    return sum(row[link] for row in rows) / len(rows) / 1e6


def test_live(walked):
    """The panel has both links, then Wi-Fi alone, then both; a line at 0, for eth0 is still there."""
    story, watcher = walked
    assert not watcher.errors, watcher.errors
    print(story.table())
    for name, phase in story.phases.items():
        rows = watcher.during(phase, TRAFFIC)
        for link in ("eth0", "wlan0"):
            assert mean(rows, link) == pytest.approx(phase.rates[link], rel=0.15, abs=3), f"{name}, {link}: {rows}"
    alone = watcher.during(story.phases["Wi-Fi alone"], STATE)
    assert alone and all(row["1"] > 0 and row["2"] == 0 for row in alone), alone
    again = watcher.during(story.phases["both again"], STATE)
    assert again and all(row["1"] == 0 and row["2"] > 0 for row in again), again


def test_archive(walked):
    """What was shown live is what pmlogger recorded."""
    story, watcher = walked
    for name, phase in story.phases.items():
        start, end = phase.start + 1, phase.end - 1
        before, after = (recorded_at(story.archives["client"], "mptcp.interface.in.bytes", when)
                         for when in (start, end))
        for link in ("eth0", "wlan0"):
            rate = (after[link] - before[link]) * 8e-6 / (end - start)
            assert rate == pytest.approx(mean(watcher.during(phase, TRAFFIC), link), rel=0.15, abs=3), f"{name}, {link}"
