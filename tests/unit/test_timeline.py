# SPDX-License-Identifier: GPL-2.0-or-later
"""The story that the timeline tells of values fed by hand: each kind, and what must not be told."""

import pytest

from pcp_mptcp import changes, comings, timeline, traffic
from pcp_mptcp.sample import Sample

LINKS = ("enp1s0", "enp2s0", "enp3s0")
M = 1e6  # bytes


class Host:
    """A host whose values are set by hand; each tick is a sample, a second later."""

    def __init__(self, interval=1.0):
        self.interval = interval
        self.now = 1000.0
        self.timeline = timeline.Timeline()
        self.sample = Sample(0.0)
        self.story = []
        self.values = {
            traffic.IN: dict.fromkeys(LINKS, 0), traffic.OUT: dict.fromkeys(LINKS, 0),
            traffic.UP: dict.fromkeys(LINKS, 1), traffic.SUBFLOWS: dict.fromkeys(LINKS, 2),
            traffic.STALLED: dict.fromkeys(LINKS, 0), traffic.BACKUP: dict.fromkeys(LINKS, 0),
            comings.OPENED_BY: dict.fromkeys(LINKS, 0), comings.CLOSED_BY: dict.fromkeys(LINKS, 0),
            traffic.CONNECTIONS: {None: 2}, comings.DEGRADED: {None: 0}, timeline.SAMPLES: {None: 0},
            comings.REASON: {"prohibited": 0}, comings.ERROR: {}, changes.FLAGS: {},
        }
        for metric in (*changes.KERNELS, *comings.KERNELS, *changes.EVENTS, comings.CREATED, comings.JOINED,
                       traffic.CLOSED, traffic.REPEATED):
            self.values[metric] = {None: 0}

    def put(self, metric, instance, value):
        """Set a value."""
        self.values[metric] = {**self.values.get(metric, {}), instance: value}

    def add(self, metric, count=1, instance=None):
        """Let a counter rise."""
        self.put(metric, instance, self.values[metric].get(instance, 0) + count)

    def tick(self, times=1, carried=(), without=(), apart=()):
        """Samples, each an interval later; carried: bytes a second by link, in their order.

        Metrics may be missing in it, or come in a record of their own.
        """
        for _ in range(times):
            self.now += self.interval
            for link, rate in zip(LINKS, carried):
                self.add(traffic.IN, int(rate * self.interval), link)
            self.add(timeline.SAMPLES)
            for metric, values in self.values.items():
                if metric not in without and metric not in apart:
                    self.sample.put(metric, dict(values), self.now)
            self.story += self.timeline.take(self.sample)
            for metric in apart:
                self.sample.put(metric, dict(self.values[metric]), self.now + 0.02)
            self.story += self.timeline.take(self.sample) if apart else []
        return self

    def gap(self, seconds):
        """The recording stops for a while."""
        self.story += self.timeline.take(None)
        self.sample = Sample(0.0)
        self.now += seconds

    def end(self):
        """The kinds and subjects of the whole story, which must be in order and of known kinds."""
        self.story += self.timeline.end()
        for happening in self.story:
            print(f"{happening.time - 1000:7.2f} {happening.kind:18} {happening.text}")
            assert happening.kind in timeline.KINDS and "\n" not in happening.text
        times = [happening.time for happening in self.story]
        assert times == sorted(times)
        return [(happening.kind, happening.subject) for happening in self.story]

    def one(self, kind):
        """The only happening of a kind."""
        (found,) = [happening for happening in self.story if happening.kind == kind]
        return found


@pytest.fixture
def host():
    """A host with three links and two connections."""
    return Host()


FULL = (6 * M, 6 * M, 6 * M)


def test_a_link_that_goes_down_and_comes_back(host):
    """Down 0.25 s into an interval, up after ten, traffic two later: when, how much, who took over."""
    host.tick(8, FULL)
    host.put(traffic.UP, "enp3s0", 0)
    host.put(traffic.SUBFLOWS, "enp3s0", 0)
    host.tick(1, (5 * M, 5 * M, 1.5 * M)).tick(9, (6 * M, 6 * M, 0))
    host.put(traffic.UP, "enp3s0", 1)
    host.put(traffic.SUBFLOWS, "enp3s0", 2)
    host.tick(2, (6 * M, 6 * M, 0)).tick(1, (6 * M, 6 * M, 3 * M)).tick(5, FULL)
    assert host.end() == [("link_lost", "enp3s0"), ("link_up", "enp3s0"), ("link_back", "enp3s0")]
    lost, back = host.one("link_lost"), host.one("link_back")
    assert lost.time == pytest.approx(1008.25) and lost.details["cause"] == "down"
    assert lost.details["rate_before"] == pytest.approx(6 * M) and lost.details["share"] == pytest.approx(1 / 3)
    assert (lost.details["total_before"], lost.details["total_during"]) == pytest.approx((18 * M, 12 * M))
    assert lost.details["took_over"] == pytest.approx(0.75)
    assert "48.0 Mbit/s (33 %) of 2 connections" in lost.text and "the link is down" in lost.text
    assert back.details["away"] == pytest.approx(12.25) and back.details["total_after"] == pytest.approx(18 * M)
    assert timeline.summary(host.story)[0] == "enp3s0: lost once, without traffic for 12 s"


@pytest.mark.parametrize("sign, cause", [
    ((traffic.STALE, 2, None), "dead"), ((traffic.STALLED, 2, "enp3s0"), "dead"),
    ((traffic.REPEATED, 200, None), "repeated"),
    ((traffic.CLOSED, 1, None), "closed"), (None, "silent")])
def test_a_path_that_dies_silently(host, sign, cause):
    """The interface is up and has its subflows: only the traffic stops, and there may be a sign of why."""
    host.tick(8, FULL)
    if sign:
        host.add(*sign)
    host.tick(1, (6 * M, 6 * M, 3 * M)).tick(10, (6 * M, 6 * M, 0))
    host.end()
    lost = host.one("link_lost")
    assert lost.details["cause"] == cause and lost.time == pytest.approx(1008.5)
    assert lost.details["rate_before"] == pytest.approx(6 * M)
    away = host.one("link_away")
    assert away.details["away"] == pytest.approx(10.5)
    assert "not back at the end" in timeline.summary(host.story)[0]
    assert not [happening for happening in host.story if happening.kind == "stalled"], "the loss says it"


@pytest.mark.parametrize("metric, cause", [(traffic.STALE, "dead"), (traffic.REPEATED, "repeated")])
def test_signs_in_records_of_their_own(host, metric, cause):
    """The kernel's counters are recorded every six intervals: the sign comes when the link is away for long."""
    for number in range(30):
        if number == 12:
            host.add(metric, 100)
        rare = bool(number % 6)
        host.tick(1, FULL if number < 12 else (5 * M, 5 * M, 0),
                  without=timeline.KERNELS if rare else (), apart=() if rare else timeline.KERNELS)
    assert [kind for kind, _ in host.end()] == ["link_lost", "link_away"]
    assert host.one("link_lost").details["cause"] == cause


def test_a_sign_that_is_recorded_late(host):
    """The link is back before the kernel's counters are recorded: the stall that they tell of was told as a loss."""
    host.tick(6, FULL)
    host.add(traffic.STALE)
    host.add(comings.RECOVERED)
    host.tick(6, (6 * M, 6 * M, 0), without=timeline.KERNELS)
    host.tick(6, FULL, without=timeline.KERNELS).tick(3, FULL)
    assert host.end() == [("link_lost", "enp3s0"), ("link_back", "enp3s0")]


def test_slow_takeover(host):
    """The others stand still for two seconds before they go on: that is what the failover took."""
    host.tick(8, FULL)
    host.add(traffic.STALE)
    host.tick(2, (M, M, 0)).tick(6, (6 * M, 6 * M, 0))
    host.end()
    lost = host.one("link_lost")
    assert lost.time == pytest.approx(1008) and lost.details["took_over"] == pytest.approx(2.0)


@pytest.mark.parametrize("away, other", [("enp1s0", "enp2s0"), ("enp2s0", "enp1s0")])
def test_another_link_rests_when_one_is_back(host, away, other):
    """The scheduler goes back to the link that it prefers; what was under way twice is no sign of a death."""
    rates = {away: 6 * M, other: 0}
    host.tick(8, [rates.get(link, 0) for link in LINKS])
    host.put(traffic.UP, away, 0)
    rates = {away: 0, other: 6 * M}
    host.tick(8, [rates.get(link, 0) for link in LINKS])
    host.put(traffic.UP, away, 1)
    for _ in range(3):
        host.add(traffic.REPEATED, 100)
        rates = {away: 6 * M, other: 0}
        host.tick(1, [rates.get(link, 0) for link in LINKS])
    host.tick(5, [rates.get(link, 0) for link in LINKS])
    assert host.end() == [("link_lost", away), ("link_back", away)]


@pytest.mark.parametrize("life", [[(1, (6 * M, 6 * M, 0)), (6, ())], [(20, (8 * M, 0, 0))]])
def test_a_suspicion_does_not_hold_the_story_back(host, life):
    """A silent link is no loss, when the transfer ends or wants less: what follows is told at once."""
    host.tick(8, FULL)
    for seconds, carried in life:
        host.tick(seconds, carried)
    host.add("mptcp.mib.mpjoinrejected")
    host.tick(1, life[-1][1])
    assert [happening.kind for happening in host.story] == ["join_failed"]


def down_and_up(host):
    """A link that carried goes down, and is up again seven seconds later."""
    host.tick(8, FULL)
    host.put(traffic.UP, "enp1s0", 0)
    host.tick(6, (0, 6 * M, 6 * M))
    host.put(traffic.UP, "enp1s0", 1)
    host.tick(1, (0, 6 * M, 6 * M))


def test_closed_between_two_records(host):
    """The event is in one record, and that the subflows are gone in the next."""
    host.tick(8, FULL)
    host.add(traffic.CLOSED, 2)
    host.tick(1, FULL)
    host.put(traffic.SUBFLOWS, "enp3s0", 0)
    host.tick(8, (6 * M, 6 * M, 0))
    assert ("link_lost", "enp3s0") in host.end()
    assert host.one("link_lost").details["cause"] == "closed"


def test_losses_that_overlap(host):
    """A return is compared with what was carried just before it, not with the time before the next loss."""
    host.tick(8, FULL)
    for number, carried in ((1, (0, 6 * M, 6 * M)), (2, (0, 0, 6 * M))):
        host.put(traffic.UP, f"enp{number}s0", 0)
        host.tick(7, carried)
    for number, carried in ((1, (6 * M, 0, 6 * M)), (2, FULL)):
        host.put(traffic.UP, f"enp{number}s0", 1)
        host.tick(7, carried)
    host.end()
    totals = [(one.subject, one.details["total_during"] / M, one.details["total_after"] / M)
              for one in host.story if one.kind == "link_back"]
    assert totals == [("enp1s0", pytest.approx(6), pytest.approx(12)), ("enp2s0", pytest.approx(12), pytest.approx(18))]


def test_a_sender_that_waits(host):
    """All links stand still for some seconds after one is up again: its return is told nevertheless."""
    down_and_up(host)
    host.tick(3).tick(1, (2 * M, M, M)).tick(1, (0, M, M)).tick(3).tick(6, FULL)
    assert host.end() == [("link_lost", "enp1s0"), ("link_up", "enp1s0"), ("link_back", "enp1s0")]
    assert timeline.summary(host.story)[0].startswith("enp1s0: lost once, without traffic for 1")


def test_a_burst_after_a_hole(host):
    """Data that waited behind a hole comes all at once: that is not what the link carries."""
    down_and_up(host)
    host.tick(1, (M, M, M)).tick(1, (9 * M, 6 * M, 10 * M)).tick(1, (6 * M, 7.5 * M, 7.5 * M)).tick(8, FULL)
    host.end()
    details = host.one("link_back").details
    assert (details["rate_after"], details["total_after"]) == pytest.approx((6 * M, 18 * M))


@pytest.mark.parametrize("other", [0, 12 * M])
def test_more_than_before(host, other):
    """A link that carries more than it did, with the others or not, is told nevertheless."""
    down_and_up(host)
    host.tick(8, (9 * M, 6 * M, other))
    host.end()
    details = host.one("link_back").details
    assert (details["rate_after"], details["total_after"]) == pytest.approx((9 * M, 15 * M + other))


@pytest.mark.parametrize("seconds", [3, 30])
def test_nothing_to_carry(host, seconds):
    """The transfer ended while a link was away: how long it was down is known, it is not away at the end."""
    down_and_up(host)
    host.tick(seconds)
    assert host.end() == [("link_lost", "enp1s0"), ("link_up", "enp1s0")]
    assert timeline.summary(host.story)[0] == "enp1s0: lost once, without traffic for 7.0 s"


@pytest.mark.parametrize("interval", [1.0, 10.0])
def test_a_transfer_that_has_just_begun(interval):
    """It filled a part of its first interval only: that is not what the link carried."""
    host = Host(interval)
    host.tick(2).tick(1, (4 * M, 4 * M, 4 * M)).tick(2, FULL)
    host.put(traffic.UP, "enp1s0", 0)
    host.tick(1, (3 * M, 6 * M, 6 * M)).tick(4, (0, 6 * M, 6 * M))
    host.end()
    details = host.one("link_lost").details
    assert (details["rate_before"], details["total_before"]) == pytest.approx((6 * M, 18 * M))
    assert host.one("link_lost").time == pytest.approx(1000 + 5.5 * interval)


def test_the_last_link(host):
    """Nothing takes over when the only link that carried is gone."""
    host.tick(8, (6 * M, 0, 0))
    host.put(traffic.UP, "enp1s0", 0)
    host.tick(6)
    host.end()
    assert host.one("link_lost").details["took_over"] is None
    assert "nothing took over" in host.one("link_lost").text


def nothing(host):
    """Idle."""
    host.tick(30)


def transfer(host):
    """A transfer starts, runs and ends."""
    host.tick(5).tick(1, (3 * M, 2 * M, M)).tick(9, FULL).tick(1, (3 * M, 2 * M, 0)).tick(20)


def bursts(host):
    """Bursts with breaks, not all of them on all links."""
    for number in range(20):
        host.tick(1, FULL).tick(number % 4, (0, 0, 0)).tick(1, (5 * M, 6 * M, 2 * M))


def less(host):
    """The application wants less, and the scheduler prefers the first link."""
    host.tick(10, FULL).tick(10, (2 * M, 0, 0))


def less_for_long(host):
    """The same, and what the first link carries would be a takeover."""
    host.tick(10, FULL).tick(40, (8 * M, 0, 0))


def small(host):
    """Keepalives on one link, next to much on another; then none."""
    host.tick(10, (6 * M, 6 * M, 0.1 * M)).tick(10, (6 * M, 6 * M, 0))


def ends_on_one(host):
    """A connection that used one link only ends, another goes on."""
    host.tick(10, FULL)
    host.put(traffic.SUBFLOWS, "enp3s0", 0)
    host.tick(10, (6 * M, 6 * M, 0))


def ends_on_one_of_two(host):
    """The same, and an idle connection has a subflow there."""
    host.tick(10, FULL)
    host.put(traffic.SUBFLOWS, "enp3s0", 1)
    host.tick(10, (6 * M, 6 * M, 0))


def backup_rests(host):
    """A backup link carried while another was away, and rests when that is back."""
    host.put(traffic.BACKUP, "enp3s0", 2)
    host.tick(10, (6 * M, 0, 6 * M)).tick(10, (6 * M, 6 * M, 0))


def long_intervals(host):
    """Records a minute apart."""
    host.interval = 60.0
    host.tick(3).tick(5, FULL).tick(5)


@pytest.mark.parametrize("life", [
    nothing, transfer, bursts, less, less_for_long, small, ends_on_one, ends_on_one_of_two, backup_rests,
    long_intervals], ids=lambda life: life.__name__)
def test_no_false_alarm(host, life):
    """Ordinary life is no story."""
    life(host)
    assert host.end() == []


def test_idle_links_go_down(host):
    """Without traffic it is no loss, but told."""
    host.tick(10)
    host.put(traffic.UP, "enp2s0", 0)
    host.tick(10)
    host.put(traffic.UP, "enp2s0", 1)
    host.tick(10)
    assert host.end() == [("link_down", "enp2s0"), ("link_up", "enp2s0")]
    assert "2 subflows used it, without traffic" in host.one("link_down").text
    assert host.one("link_up").details["away"] == pytest.approx(10)


def test_connections_with_their_subflows(host):
    """What comes and goes together is one line."""
    host.tick(3)
    host.add(comings.CREATED, 2)
    host.add(comings.JOINED, 4)
    host.put(traffic.CONNECTIONS, None, 4)
    for link in LINKS:
        host.add(comings.OPENED_BY, 2, link)
    host.tick(3)
    host.put(traffic.CONNECTIONS, None, 1)
    for link in LINKS:
        host.add(comings.CLOSED_BY, 3, link)
    host.tick(3)
    assert host.end() == [("connection_opened", ""), ("connection_closed", "")]
    assert host.story[0].text == "2 connections opened, with subflows on enp1s0 (2), enp2s0 (2), enp3s0 (2)"
    assert host.story[1].details == {"count": 3, "links": {link: 3 for link in LINKS}}


def test_a_subflow_that_closes_and_another(host):
    """By link, with the error, and by name where subflows are recorded."""
    names = {f"c1::{number} {link} 10.0.{number}.1:4000->10.0.{number}.2:80": "c1 10.0.1.1:4000->10.0.1.2:80"
             for number, link in enumerate(LINKS, 1)}
    host.values[comings.OWNER] = names
    host.tick(3)
    host.values[comings.OWNER] = dict(list(names.items())[:2])
    host.add(comings.CLOSED)
    host.add(comings.ERROR, 1, "ECONNABORTED")
    host.add(comings.CLOSED_BY, 1, "enp3s0")
    host.tick(3)
    host.values[comings.OWNER] = names
    host.add(comings.JOINED)
    host.add(comings.OPENED_BY, 1, "enp3s0")
    host.tick(3)
    assert host.end() == [("subflow_closed", "enp3s0"), ("subflow_opened", "enp3s0")]
    assert host.story[0].text == ("1 subflow closed on enp3s0 while its connection goes on: ended by this host; "
                                  "c1::3 enp3s0 10.0.3.1:4000->10.0.3.2:80")
    assert host.story[1].text == "1 subflow opened on enp3s0; c1::3 enp3s0 10.0.3.1:4000->10.0.3.2:80"


def test_without_events(host):
    """A kernel or an agent that tells no events: by the counters of interfaces and of the kernel."""
    for metric in (comings.CREATED, comings.JOINED, comings.CLOSED, comings.REASON, comings.ERROR, *changes.EVENTS):
        host.values.pop(metric, None)
    host.tick(3)
    host.add(comings.CLOSED_BY, 1, "enp2s0")
    host.tick(3)
    host.add(comings.ACCEPTED)
    host.put(traffic.CONNECTIONS, None, 3)
    host.add(comings.OPENED_BY, 1, "enp1s0")
    host.tick(3)
    assert host.end() == [("subflow_closed", "enp2s0"), ("connection_opened", "")]


@pytest.mark.parametrize("metric, kind, words", [
    ("mptcp.mib.mpcapablefallbacksynack", "fallback", "3 connections fell back to TCP: the server, or something"),
    ("mptcp.mib.blackhole", "blackhole", "drops SYNs with MPTCP"),
    ("mptcp.mib.mpjoinrejected", "join_failed", "3 joins failed: refused here"),
    ("mptcp.mib.mpjoinackhmacfailure", "join_failed", "HMAC"),
    ("mptcp.mib.datacsumerr", "damaged", "checksum"),
    ("mptcp.event.announced", "address_announced", "peers announced 3 addresses"),
    ("mptcp.event.removed", "address_removed", "peers withdrew 3 addresses"),
    ("mptcp.event.sub_priority", "priority", "backup flag of 3 subflows"),
    (comings.STALE, "stalled", "3 subflows stale"),
    (comings.DEGRADED, "degraded", "3 connections with fewer live paths"),
])
def test_counters(host, metric, kind, words):
    """A rise is told once, in words."""
    host.tick(3)
    host.add(metric, 3)
    host.tick(5)
    assert host.end() == [(kind, "")]
    assert words in host.one(kind).text and host.one(kind).details["count"] == 3


def test_joins_without_an_answer(host):
    """Those that are answered two seconds later are none; those that are not are told once."""
    host.tick(3)
    host.add(comings.JOINS, 3)
    host.tick(2)
    host.add(comings.JOINS_ANSWERED, 2)
    host.tick(10)
    host.end()
    assert host.one("join_failed").details["count"] == 1


def test_stalled_and_recovered(host):
    """By link, while no link is lost."""
    host.tick(3)
    host.put(traffic.STALLED, "enp2s0", 2)
    host.tick(3)
    host.put(traffic.STALLED, "enp2s0", 0)
    host.tick(3)
    assert host.end() == [("stalled", "enp2s0"), ("recovered", "enp2s0")]


def test_a_stall_that_is_over_when_it_is_recorded(host):
    """Stalled and recovered in one record is nothing that an operator could act on; what goes beyond is told."""
    host.tick(3)
    host.add(comings.STALE)
    host.add(comings.RECOVERED)
    host.tick(3)
    host.add(comings.STALE, 3)
    host.add(comings.RECOVERED)
    host.tick(3)
    assert host.end() == [("stalled", "")]
    assert host.one("stalled").details["count"] == 2


def test_fewer_and_fewer_paths(host):
    """Each loss of a path is told, with what is left; new connections and those with one path only are not."""
    def paths(degraded, *counts):
        host.values[comings.PATHS] = {str(number): count for number, count in enumerate(counts)}
        host.put(comings.DEGRADED, None, degraded)
        host.tick(3)
    paths(0, 0, 1, 0, 2)
    paths(2, 0, 1, 2, 0)
    paths(2, 0, 4, 2, 0)
    paths(2, 0, 5, 1, 0)
    paths(2, 2, 3, 1, 0)
    paths(2, 0, 5, 1, 0)
    paths(0, 0, 4, 0, 2)
    paths(0, 0, 5, 0, 1)
    host.end()
    assert [(happening.text, happening.details) for happening in host.story] == [
        ("2 connections with fewer live paths than once, 2 with 2 live paths now",
         {"count": 2, "paths": 2}),
        ("5 connections depend on one path now", {"count": 2, "paths": 1}),
        ("2 connections with no live paths now", {"count": 2, "paths": 0}),
        ("each connection has as many live paths as it ever had", {"count": 0})]


def test_backup_traffic(host):
    """Begins and ends, from the bytes that backup subflows carried."""
    for metric in (comings.IN_BACKUP, comings.OUT_BACKUP):
        host.values[metric] = dict.fromkeys(LINKS, 0)
    host.tick(3)
    for _ in range(4):
        host.add(comings.IN_BACKUP, int(M), "enp3s0")
        host.tick()
    host.tick(3)
    assert host.end() == [("backup_begins", "enp3s0"), ("backup_ends", "enp3s0")]
    assert host.one("backup_ends").details["seconds"] == pytest.approx(4)


def test_settings(host):
    """Endpoints, limits and settings: what they were and are."""
    host.values["mptcp.sysctl.enabled"] = {None: 1}
    host.values["mptcp.pm.limits.subflows"] = {None: 2}
    host.values[changes.FLAGS] = {"1 10.0.2.1%enp2s0": "subflow"}
    host.tick(3)
    host.put("mptcp.sysctl.enabled", None, 0)
    host.tick(3)
    host.put("mptcp.pm.limits.subflows", None, 4)
    host.tick(3)
    host.values[changes.FLAGS] = {"1 10.0.2.1%enp2s0": "subflow backup", "2 10.0.3.1%enp3s0": ""}
    host.tick(3)
    host.values[changes.FLAGS] = {"2 10.0.3.1%enp3s0": ""}
    host.tick(3)
    assert host.end() == [
        ("setting_changed", "net.mptcp.enabled"), ("limits_changed", "limit subflows"),
        ("endpoint_changed", "1 10.0.2.1%enp2s0"), ("endpoint_added", "2 10.0.3.1%enp3s0"),
        ("endpoint_removed", "1 10.0.2.1%enp2s0")]
    assert host.story[0].text == "net.mptcp.enabled changed from 1 to 0"
    assert host.story[2].text == "endpoint 1 10.0.2.1%enp2s0 changed: subflow -> subflow backup"


def test_a_path_manager_that_cannot_be_read_has_lost_no_endpoint(host):
    """Its limits have no value then, and no endpoint does."""
    host.put(changes.LIMITS[0], None, 2)
    host.put(changes.FLAGS, "1 10.0.2.1%enp2s0", "subflow")
    host.tick(2)
    known = {metric: host.values[metric] for metric in (changes.LIMITS[0], changes.FLAGS)}
    host.values.update(dict.fromkeys(known, {}))
    host.tick(2)
    host.values.update(known)
    assert host.tick(2).end() == []


def test_the_agent_restarts(host):
    """Its counters begin at 0: that is told, and nothing else; the story goes on."""
    host.tick(8, FULL)
    for metric in timeline.OWN:
        if metric in host.values:
            host.values[metric] = dict.fromkeys(host.values[metric], 0)
    host.add("mptcp.event.announced", 2)
    host.tick(8, FULL)
    assert host.end() == [("agent_restarted", "")]
    assert "the agent was restarted" in host.story[0].text


def test_the_agent_restarts_while_a_link_is_away(host):
    """The link is still away after that, and its return is told."""
    host.tick(8, FULL)
    host.put(traffic.UP, "enp3s0", 0)
    host.tick(1, (6 * M, 6 * M, 0))
    for metric in timeline.OWN:
        if metric in host.values:
            host.values[metric] = dict.fromkeys(host.values[metric], 0)
    host.tick(8, (6 * M, 6 * M, 0))
    host.put(traffic.UP, "enp3s0", 1)
    host.tick(5, FULL)
    assert [kind for kind, _ in host.end()] == ["link_lost", "agent_restarted", "link_back"]
    assert host.one("link_back").details["away"] == pytest.approx(9)


def test_a_gap(host):
    """Is told with its length; what rose meanwhile is not taken for one second's, what was set is told."""
    host.tick(8, FULL)
    host.gap(100)
    host.add(traffic.IN, int(1000 * M), "enp1s0")
    host.add("mptcp.mib.mpcapablefallbackack", 7)
    host.values[changes.FLAGS] = {"1 10.0.2.1%enp2s0": "subflow"}
    host.tick(8, FULL)
    assert host.end() == [("gap", ""), ("endpoint_added", "1 10.0.2.1%enp2s0")]
    assert host.story[0].text == "nothing was recorded for 1 min 41 s"


def test_groups_with_their_own_intervals(host):
    """Counters that are recorded rarely are told when they are, once."""
    rare = changes.KERNELS
    host.tick(4)
    host.add("mptcp.mib.mpjoinrejected", 2)
    for number in range(40):
        host.tick(1, FULL, without=rare if number % 10 else ())
    assert host.end() == [("join_failed", "")]


def test_what_never_stops_is_summed_up(host):
    """A busy server: the first few lines at once, then a sum from time to time; nothing is lost."""
    host.tick(3)
    for _ in range(1200):
        host.add(comings.CREATED, 10)
        host.add(traffic.CONNECTIONS, 1)
        host.tick()
    host.end()
    opened = [happening.details for happening in host.story if happening.kind == "connection_opened"]
    closed = [happening.details for happening in host.story if happening.kind == "connection_closed"]
    assert sum(details["count"] for details in opened) == 12000
    assert sum(details["count"] for details in closed) == 10800
    assert len(opened) < 12 and len(closed) < 12
    assert timeline.summary(host.story) == ["connections: 12000 opened, 10800 closed"]
