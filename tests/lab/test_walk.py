# SPDX-License-Identifier: GPL-2.0-or-later
"""Ethernet is unplugged and plugged in again under a download, and the archives tell it afterwards.

"often" is what pmlogger records by default ten times as often: links each
second, counters each 6 s; "default" is what a host has that nobody prepared:
10 s, 60 s and 5 min.
"""

import itertools
import re
import time

import pytest

from . import missing
from .archived import at, check_archive, events, mbit, overview, read, recorded_at
from .scenarios import walk
from .scenarios.groups import recorded

ETHERNET = {"client": "eth0", "server": "enp1s0"}
OTHER = {"client": "wlan0", "server": "enp2s0"}
WITHIN = {"often": 2, "default": 11}  # seconds
VIEWS = [(host, how) for how in WITHIN for host in ETHERNET]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What was done and measured, and the archives of what is recorded by default."""
    problems = missing()
    if problems:
        pytest.skip("; ".join(problems))
    directory = tmp_path_factory.mktemp("ethernet")
    with walk.ethernet_and_wifi() as lab, recorded(lab, directory, {"often": 0.1, "default": 1}) as archives:
        # At 10 s, three whole intervals before it, and two meanwhile.
        return walk.unplug_ethernet(lab, directory, both=42, without=22, again=22), archives


def alarms(archive, step):
    """What `check` says in steps through the archive: (when, its word, the rules that found something)."""
    status, out, _ = read(archive, "check", "-t", str(step))
    found = []
    for line in out.splitlines():
        head = re.match(r"(\d+-\d+-\d+ \d+:\d+:\d+)  MPTCP (\w+) - ", line)
        if head:
            found.append((time.mktime(time.strptime(head[1], "%Y-%m-%d %H:%M:%S")), head[2], []))
        else:
            found[-1][2].append(line.split()[1].rstrip(":"))
    return status, found


def test_ethernet_is_unplugged_and_plugged_in(run):
    """Both links, Wi-Fi alone, both again: iperf3 is never disconnected and never without data for long."""
    story, _ = run
    print(story.table())
    both, alone, again = story.phases.values()
    for phase in (both, again):
        assert 160 < phase.total < 205
        assert min(phase.rates.values()) > 70
    assert alone.rates["eth0"] == 0 and 80 < alone.rates["wlan0"] < 105
    # iperf3 went to its end by itself, without an error.
    assert "error" not in story.report and story.report["end"]["sum_received"]["bytes"] > 0
    rates = [interval["sum"]["bits_per_second"] / 1e6 for interval in story.report["intervals"]]
    print("iperf3, Mbit/s each second:", [round(rate) for rate in rates])
    longest = max((len(list(group)) for still, group in itertools.groupby(rate < 1 for rate in rates) if still),
                  default=0)
    assert longest <= 2, f"no data for {longest} s"
    check_archive(story, "client")
    links = {text: recorded_at(story.archives["client"], "mptcp.interface.up", story.when(text) + 2)
             for text in ("download starts", "Ethernet unplugged", "Ethernet carries again")}
    assert [link["eth0"] for link in links.values()] == [1, 0, 1]
    assert [link["wlan0"] for link in links.values()] == [1, 1, 1]


@pytest.fixture(params=VIEWS, ids=" ".join)
def ethernet(request, run):
    """A view of the unplugged Ethernet: host, how often, archive, and what was done."""
    host, how = request.param
    return host, how, run[1][request.param], run[0]


def test_ethernet_was_lost(ethernet):
    """When, how long, which link, and how much rate was lost."""
    host, how, archive, done = ethernet
    happened = events(archive, "link_lost", "link_back", "link_away")
    assert [(one["kind"], one["subject"]) for one in happened] == [
        ("link_lost", ETHERNET[host]), ("link_back", ETHERNET[host])]
    lost, back = happened
    unplugged, again = done.when("Ethernet unplugged"), done.when("Ethernet carries again")
    print(f"{host}, {how}: lost {lost['time'] - unplugged:+.1f} s, back {back['time'] - again:+.1f} s")
    assert lost["time"] == pytest.approx(unplugged, abs=WITHIN[how])
    assert back["time"] == pytest.approx(again, abs=WITHIN[how])
    assert back["details"]["away"] == pytest.approx(again - unplugged, abs=WITHIN[how])
    assert lost["details"]["cause"] == ("down" if host == "client" else "dead")
    both, alone, later = done.phases.values()
    told = [lost["details"][name] for name in ("rate_before", "total_before", "total_during")] + [
        back["details"][name] for name in ("rate_after", "total_after")]
    true = [both.rates["eth0"], both.total, alone.total, later.rates["eth0"], later.total]
    print("told", [round(mbit(rate)) for rate in told], "true", [round(rate) for rate in true])
    assert [mbit(rate) for rate in told] == pytest.approx(true, rel=0.15)


def test_the_cable_was_seen_on_one_side(ethernet):
    """The host whose cable it was knows when it was plugged in, before TCP tries it; the other one cannot."""
    host, how, archive, done = ethernet
    ups = events(archive, "link_up")
    assert [one["subject"] for one in ups] == (["eth0"] if host == "client" else [])
    for one in ups:
        assert one["time"] == pytest.approx(done.when("Ethernet plugged in"), abs=WITHIN[how])


def test_the_moment_in_between(ethernet):
    """The overview while Ethernet was away, and before and after: that link carries nothing, the other one all."""
    host, _, archive, done = ethernet
    away = {"client": ["redundancy_lost", "link_down"], "server": ["redundancy_lost", "stalled_subflow"]}[host]
    # The interval that was recorded last before begins up to 20 s earlier.
    for when, rules, rates in (
            (done.when("Ethernet unplugged") - 1, [], done.phases["Ethernet and Wi-Fi"].rates),
            (done.when("Ethernet unplugged") + 21, away, done.phases["Wi-Fi alone"].rates),
            (done.when("Ethernet carries again") + 21, [], done.phases["both again"].rates)):
        found, links = overview(archive, when)
        print([one["text"] for one in found["findings"]])
        assert [one["rule"] for one in found["findings"]] == rules
        for link, true in ((links[ETHERNET[host]], rates["eth0"]), (links[OTHER[host]], rates["wlan0"])):
            carried = mbit(link["in_rate"] + link["out_rate"])
            # Of a single second, it may be; the rates of the phases are in the events.
            assert carried == pytest.approx(true, rel=0.5, abs=0.1), link["name"]
            assert link["up"] is not (host == "client" and true == 0)
        assert links[OTHER[host]]["sole"] == (0 if not rules else 2 if host == "client" else 1)


def test_check_through_the_archive(ethernet):
    """Quiet before and after, a warning in between; and its status is the worst."""
    host, how, archive, done = ethernet
    status, found = alarms(archive, 1 if how == "often" else 10)
    assert status == 1 and read(archive, "check")[0] == 0
    begin, end = done.when("Ethernet unplugged"), done.when("Ethernet carries again")
    fired = [(when, rules) for when, word, rules in found if word == "WARNING"]
    assert {word for _, word, _ in found} == {"OK", "WARNING"}
    assert begin - 1 <= fired[0][0] <= begin + WITHIN[how] + 3 and fired[-1][0] <= end + WITHIN[how]
    named = {rule for _, rules in fired for rule in rules}
    assert named == {"redundancy_lost", "link_down" if host == "client" else "stalled_subflow"}


def test_why_knows_without_single_connections(ethernet):
    """They are not recorded by default; what is known of links and redundancy is enough for the cause."""
    host, _, archive, done = ethernet
    for when, status, said in (
            (done.when("Ethernet unplugged") - 1, 0, "nothing is known to be wrong"),
            (done.when("Ethernet unplugged") + 21, 2, "eth0, which carried MPTCP, is down" if host == "client" else
             "no answer comes by enp1s0: the path is dead though the link looks up")):
        got, out, _ = read(archive, "why", "-O", at(when))
        print(out)
        assert got == status and f"Verdict: {said}" in out
    status, out, err = read(archive, "connections")
    assert (status, out) == (1, "") and "pmlogger records the group mptcp/subflows" in err
