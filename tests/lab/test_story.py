# SPDX-License-Identifier: GPL-2.0-or-later
"""One ncat connection loses its three links one by one, and what pmlogger records by default tells it afterwards."""

import shutil

import pytest

from . import missing
from .archived import at, check_archive, events, mbit, overview, read, recorded_at
from .scenarios import walk
from .scenarios.groups import recorded


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What was done and measured, and the archives of the default groups, recorded ten times as often."""
    problems = missing() + ([] if shutil.which("ncat") else ["ncat is missing: Debian package ncat"])
    if problems:
        pytest.skip("; ".join(problems))
    directory = tmp_path_factory.mktemp("links")
    with walk.three_links() as lab, recorded(lab, directory, {"often": 0.1}) as archives:
        return walk.lose_links(lab, directory, each=5), archives


def test_an_ncat_connection_loses_its_links_one_by_one(run):
    """The link that the connection began on goes first; one link is enough to live, and all come back."""
    story, _ = run
    print(story.table())
    assert story.connected, "ncat ended"
    working = {"three links": 3, "two links": 2, "one link": 1, "three links again": 3}
    for name, links in working.items():
        rates = list(story.phases[name].rates.values())
        assert [rate > 30 for rate in rates] == [False] * (3 - links) + [True] * links
        assert sum(rates[:3 - links]) < 1
        assert max(rates) < 55
    check_archive(story, "server")
    sole = {name: recorded_at(story.archives["client"], "mptcp.interface.sole_path_connections",
                              story.phases[name].end - 0.5)["enp3s0"] for name in working}
    print(f"connections whose sole path is enp3s0: {sole}")
    assert list(sole.values()) == [0, 0, 1, 0]


@pytest.mark.parametrize("host", ["client", "server"])
def test_links_went_one_by_one(run, host):
    """Each is named in order, with its time and what it carried."""
    done, archive = run[0], run[1][host, "often"]
    lost = events(archive, "link_lost")
    assert [one["subject"] for one in lost] == ["enp1s0", "enp2s0"]
    before = [done.phases["three links"], done.phases["two links"]]
    after = [done.phases["two links"], done.phases["one link"]]
    for one, number, had, left in zip(lost, (1, 2), before, after):
        assert one["time"] == pytest.approx(done.when(f"link {number} down"), abs=2)
        told = [mbit(one["details"][name]) for name in ("rate_before", "total_before", "total_during")]
        # Server and client name their links alike here.
        assert told == pytest.approx([had.rates[f"enp{number}s0"], had.total, left.total], rel=0.3)  # of a busy machine
        assert (one["details"]["cause"] == "down") is (host == "client")
    assert not events(archive, "link_away")


def test_the_last_one_standing(run):
    """One link carries all, and what depends on it is said; the receiver only sees that the others carry nothing."""
    done, archives = run
    for name, working, status in (("three links", 3, 0), ("two links", 2, 1), ("one link", 1, 1),
                                  ("three links again", 3, 0)):
        when = done.phases[name].end - 0.5
        for host in ("client", "server"):
            _, links = overview(archives[host, "often"], when)
            carry = [mbit(link["in_rate"] + link["out_rate"]) > 20 for link in links.values() if link["name"] != "lo"]
            assert carry == [False] * (3 - working) + [True] * working, (name, host)
        client = archives["client", "often"]
        got, out, _ = read(client, "check", "-O", at(when))
        print(f"{name}: {out}")
        assert got == status
        assert ("1 connection depends on enp3s0 alone" in out) is (working == 1)
        assert [f"link_down: enp{n}s0 is down" in out for n in (1, 2, 3)] == [n <= 3 - working for n in (1, 2, 3)]
        assert "stalled_subflow" not in out
