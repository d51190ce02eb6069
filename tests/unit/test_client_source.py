# SPDX-License-Identifier: GPL-2.0-or-later
"""Samples out of archives: which records make the values of a moment."""

import pytest
from pcp_mptcp.arguments import Arguments
from pcp_mptcp.reader import REACH
from pcp_mptcp.sample import Trouble
from pcp_mptcp.source import Source
from pcp_mptcp.view import View

from .archives import BEGIN, GAP, Error, extract, join, write

GAUGE, COUNTER, BY_LINK, SETTING = ("mptcp.connections", "mptcp.agent.overruns", "mptcp.interface.in.bytes",
                                    "mptcp.sysctl.enabled")
BY_CONNECTION, COMMAND = "mptcp.connection.subflows", "mptcp.connection.command"
NAMES = (GAUGE, COUNTER, BY_LINK, BY_CONNECTION, COMMAND)
APPVERSION = -12357

#: PCP has one set of options in a process, and a pmOptions that is deleted takes away those of the next.
_KEPT = []


@pytest.fixture
def make(tmp_path):
    """A table as a source, with options of the command line."""

    def make(table, *options, **label):
        return opened(write(tmp_path / f"archive{len(list(tmp_path.iterdir()))}", table, **label), *options)

    return make


def opened(path, *options):
    """A Source of an archive that has all metrics of these tests."""
    arguments = Arguments(["pcp-mptcp", "-a", path, *options], {"": ""})
    _KEPT.append(arguments)
    source = Source(arguments.connect(), arguments.pcp)
    source.choose(NAMES)
    return source


def every(step, until, **more):
    """A record each `step` seconds: the gauge is the second, the counter ten times it."""
    return {second: {SETTING: 1, GAUGE: second, COUNTER: 10 * second, **more} for second in range(0, until + 1, step)}


def seconds(pairs):
    """Of each pair the seconds, and the growth of the counter."""
    return [(before and before.time - BEGIN, now.time - BEGIN, View(before, now).growth(COUNTER))
            for before, now in pairs]


# Which moments

@pytest.mark.parametrize("version", [2, 3])
def test_the_end_and_the_change_since_the_beginning(make, version):
    """Without an interval: one pair."""
    assert seconds(make(every(10, 60), version=version).pairs()) == [(0, 60, 600)]


@pytest.mark.parametrize("options, pairs", [
    ("-t 20", [(0, 20, 200), (20, 40, 200), (40, 60, 200)]),
    ("-t 25", [(0, 20, 200), (20, 50, 300)]),
    ("-t 20 -s 2", [(0, 20, 200), (20, 40, 200)]),
    ("-t 20 -s 9", [(0, 20, 200), (20, 40, 200), (40, 60, 200)]),
    ("-s 6", [(0, 0, 0)] * 4 + [(0, 10, 100), (10, 10, 0)]),
    ("-S +10 -T +40", [(10, 50, 400)]),
    ("-S +15 -T +30", [(20, 40, 200)]),
    ("-S -20", [(40, 60, 200)]),
    ("-O +30", [(20, 30, 100)]),
    ("-O -10", [(40, 50, 100)]),
    ("-S +10 -T +40 -t 20", [(10, 30, 200), (30, 50, 200)]),
    ("-O +30 -t 10", [(30, 40, 100), (40, 50, 100), (50, 60, 100)]),
    ("-S +10 -O +20 -T +40 -t 10", [(30, 40, 100), (40, 50, 100)]),
    ("-A 30sec -S +5 -t 30", [(20, 50, 300)]),  # from 03:04:30 on
])
def test_times_of_the_options(make, options, pairs):
    """-t, -s, -S, -T (from -S on), -O (from -S on, or from the end) and -A mean what they do to PCP's other tools."""
    assert seconds(make(every(10, 60), *options.split()).pairs()) == pairs


def test_the_first_interval_has_rates_although_pmlogger_needs_a_moment(make):
    """The label of an archive is older than its first record: that is the earlier sample then."""
    table = {second + 0.3: record for second, record in every(10, 60).items()}
    pairs = seconds(make(table, "-S", "@2026-01-02 03:04:05", "-t", "20").pairs())
    assert [growth for _, _, growth in pairs] == [100, 200, 200]


def test_the_earlier_sample_is_not_a_later_one(make):
    """What is recorded first after the moment that is shown is no beginning of anything."""
    source = make({0: {SETTING: 1, GAUGE: 1}, 30: {COUNTER: 5}, 60: {GAUGE: 1}}, "-T", "+20")
    ((before, now),) = source.pairs()
    assert COUNTER not in now and View(before, now).growth(COUNTER) is None
    assert before.time <= now.time


def test_the_rates_of_a_moment_are_those_of_the_last_interval(make):
    """Of each group its own, and nothing from before a gap: what a link carried an hour ago is no rate of now."""
    table = {0: {SETTING: 1, COUNTER: 0, BY_LINK: {"eth0": 0}}, 10: {BY_LINK: {"eth0": 500}},
             20: {BY_LINK: {"eth0": 600}}, 30: {COUNTER: 60, BY_LINK: {"eth0": 600}}, 40: {BY_LINK: {"eth0": 630}},
             50: GAP, 60: {SETTING: 1, BY_LINK: {"eth0": 640}}}
    rates = {}
    for moment in (10, 20, 30, 45, 60):
        ((before, now),) = make(table, "-O", f"+{moment - 1e-3 if moment == 60 else moment}").pairs()
        rates[moment] = View(before, now).rate(BY_LINK, "eth0"), View(before, now).rate(COUNTER)
    assert rates == {10: (50.0, None), 20: (10.0, None), 30: (0.0, 2.0), 45: (3.0, 2.0), 60: (3.0, 2.0)}
    after_gap = make({**table, 70: {BY_LINK: {"eth0": 640}}}, "-O", "+65")
    assert after_gap.reader.before(after_gap.reader.at(BEGIN + 65)) is None


# Which records

def test_groups_at_different_intervals(make):
    """pmlogger records each group at its own times: the values of a moment are the last of each metric."""
    table = {0: {SETTING: 1, GAUGE: 1, COUNTER: 100}, 10: {GAUGE: 2}, 20: {GAUGE: 3}, 30: {COUNTER: 160},
             40: {GAUGE: 4}, 50: {GAUGE: 5}}
    source = make(table)
    now = source.reader.at(BEGIN + 45)
    assert (now.value(GAUGE), now.value(COUNTER)) == (4, 160)
    assert (now.when(GAUGE) - BEGIN, now.when(COUNTER) - BEGIN, now.time - BEGIN) == (40, 30, 40)
    ((before, now),) = source.pairs()
    assert View(before, now).rate(COUNTER) == 2.0, "its own 30 s count, not those of the pair"


def test_nothing_lives_on_that_ended(make):
    """An instance that is not in the last record is gone, also when it was the last one."""
    source = make({0: {SETTING: 1, BY_CONNECTION: {"c1 a": 1, "c2 b": 2}}, 10: {BY_CONNECTION: {"c2 b": 2}},
                   20: {BY_CONNECTION: {}}, 30: {GAUGE: 0}})
    assert source.reader.at(BEGIN + 5).all(BY_CONNECTION) == {"c1 a": 1, "c2 b": 2}
    assert source.reader.at(BEGIN + 15).all(BY_CONNECTION) == {"c2 b": 2}
    last = source.reader.at(BEGIN + 30)
    assert last.all(BY_CONNECTION) == {} and BY_CONNECTION in last and not last.has(BY_CONNECTION)


def test_an_endpoint_that_was_removed_is_no_endpoint(make):
    """Although its id, recorded once, is still the last value of a setting."""
    source = make({0: {SETTING: 1, "mptcp.pm.endpoint.id": {"1 a": 1}, "mptcp.pm.endpoint.subflows": {"1 a": 0}},
                   10: {"mptcp.pm.endpoint.subflows": {}}})
    source.choose(["mptcp.pm.endpoint.id", "mptcp.pm.endpoint.subflows"])
    assert [one.name for one in View(None, source.reader.at(BEGIN + 5)).endpoints] == ["1 a"]
    assert View(None, source.reader.at(BEGIN + 10)).endpoints == []


def test_what_hardly_changes_is_recorded_once(make):
    """A setting is known however long ago it was recorded, by its last value."""
    late = 3 * REACH
    source = make({0: {SETTING: 0, GAUGE: 1}, 10: {SETTING: 1}, 20: {GAUGE: 2}, late: {GAUGE: 3},
                   late + 10: {SETTING: 0}})
    found = source.reader.at(BEGIN + late + 5)
    assert (found.value(SETTING), found.value(GAUGE)) == (1, 3)
    assert source.reader.at(BEGIN + 5).value(SETTING) == 0


@pytest.mark.parametrize("age, known", [(REACH - 1, True), (REACH, True), (REACH + 1, False)])
def test_records_reach_only_so_far(make, age, known):
    """Who looks at a moment long after the last record is told nothing, not old news."""
    source = make({0: {SETTING: 1, GAUGE: 7}, 2 * REACH: {COUNTER: 1}})
    assert source.reader.at(BEGIN + age).has(GAUGE) is known


def test_a_gap_stops_the_look_back(make):
    """What was recorded before pmlogger was restarted says nothing about the time after."""
    source = make({0: {SETTING: 1, GAUGE: 1, COUNTER: 5}, 10: GAP, 20: {SETTING: 1, GAUGE: 2}, 30: {GAUGE: 3}})
    found = source.reader.at(BEGIN + 30)
    assert found.value(GAUGE) == 3 and COUNTER not in found
    assert source.reader.since(BEGIN, BEGIN + 30).value(COUNTER) == 5


def test_a_moment_in_a_gap_is_answered_by_what_was_before(make):
    """Within reach: the host was last seen like that."""
    source = make({0: {SETTING: 1, GAUGE: 1}, 5: GAP, 100: {GAUGE: 2}})
    assert source.reader.at(BEGIN + 50).value(GAUGE) == 1


def test_the_agent_was_restarted(make):
    """Its counters begin anew: there is no growth to tell, and no rate."""
    ((before, now),) = make({0: {SETTING: 1, COUNTER: 900, BY_LINK: {"eth0": 5}},
                             10: {COUNTER: 3, BY_LINK: {"eth0": 9}}}).pairs()
    view = View(before, now)
    assert view.growth(COUNTER) is None and view.rate(COUNTER) is None
    assert view.growth(BY_LINK, "eth0") == 4


# Record by record

def told(source):
    """What records() yields, as seconds and the gauge."""
    return [None if one is None else (one.time - BEGIN, one.value(GAUGE)) for one in source.records()]


def test_all_records_in_order(make):
    """None is where a gap is; what was known before it is forgotten."""
    table = {0: {SETTING: 1, GAUGE: 1}, 10: {GAUGE: 2}, 20: {COUNTER: 1}, 30: GAP, 40: {COUNTER: 2}, 50: {GAUGE: 3}}
    assert told(make(table)) == [(0, 1), (10, 2), (20, 2), None, (40, None), (50, 3)]


def test_records_of_the_window(make):
    """They begin with what was known when the window begins."""
    found = [(one.time - BEGIN, one.value(GAUGE), one.value(COUNTER)) for one in make(
        {0: {SETTING: 1, GAUGE: 1, COUNTER: 7}, 10: {GAUGE: 2}, 20: {GAUGE: 3}, 30: {GAUGE: 4}},
        "-S", "+5", "-T", "+20").records()]
    assert found == [(10, 2, 7), (20, 3, 7)]


def test_records_without_a_metric_of_ours_are_passed_over(make):
    """An archive of a whole host has many."""
    assert told(make({0: {SETTING: 1, GAUGE: 1}, 10: {"kernel.all.uptime": 9}, 20: {GAUGE: 2}})) == [(0, 1), (20, 2)]


# Names

def test_ids_of_instances_are_given_anew_after_a_restart(tmp_path):
    """A restarted agent counts from 1 again: the same id is another connection."""
    first = write(tmp_path / "a", {0: {SETTING: 1, BY_CONNECTION: {"c1 old": 1}, COMMAND: {"c1 old": "ssh"}}})
    second = write(tmp_path / "b", {20: {SETTING: 1, BY_CONNECTION: {"c1 new": 2}, COMMAND: {"c1 new": "curl"}}})
    source = opened(join(tmp_path / "both", first, second))
    assert source.reader.at(BEGIN + 20).all(BY_CONNECTION) == {"c1 new": 2}
    assert source.reader.at(BEGIN + 10).all(BY_CONNECTION) == {"c1 old": 1}
    seen = [one and one.all(COMMAND).copy() for one in source.records()]
    assert seen == [{"c1 old": "ssh"}, None, {"c1 new": "curl"}]


def test_ids_of_instances_are_given_anew_while_pmlogger_goes_on(tmp_path):
    """Then there is not even a mark in the archive."""
    five = {SETTING: 1, GAUGE: 1, "pmcd.pid": 7, "pmcd.seqnum": 1}
    old, new = ({BY_CONNECTION: {"c1 old": 1}, **five}, {BY_CONNECTION: {"c1 new": 2}, **five})
    first, second = write(tmp_path / "a", {0: old, 10: old}), write(tmp_path / "b", {20: new, 30: new})
    source = opened(extract(tmp_path / "both", first, second))
    seen = [one and one.all(BY_CONNECTION).copy() for one in source.records()]
    assert seen == [{"c1 old": 1}] * 2 + [{"c1 new": 2}] * 2
    assert source.reader.at(BEGIN + 10).all(BY_CONNECTION) == {"c1 old": 1}
    assert source.reader.at(BEGIN + 20).all(BY_CONNECTION) == {"c1 new": 2}


def test_a_name_that_comes_back_has_its_values(make):
    """A link that is pulled and plugged in."""
    source = make({0: {SETTING: 1, BY_LINK: {"lo": 1, "eth0": 2}}, 10: {BY_LINK: {"lo": 3}},
                   20: {BY_LINK: {"wlan0": 7, "eth0": 5, "lo": 4}}})
    assert [dict(one.all(BY_LINK)) for one in source.records()] == [
        {"lo": 1, "eth0": 2}, {"lo": 3}, {"lo": 4, "eth0": 5, "wlan0": 7}]


def test_all_connections_end_before_their_names_are_asked_for(make, monkeypatch):
    """Live, values and names are two questions; PCP has (None, None) for a domain without instances."""
    source = make({0: {SETTING: 1, GAUGE: 1, BY_CONNECTION: {"c1 a": 1}}})
    monkeypatch.setattr(source.reader._context, "pmGetInDom", lambda desc: (None, None))
    assert source.reader.at(BEGIN).value(GAUGE) == 1
    assert source.reader.at(BEGIN).all(BY_CONNECTION) == {"c1 a": 1}, "asked for one by one"


# What is not there

def test_an_archive_without_mptcp(make):
    """One line, with what to do."""
    with pytest.raises(Trouble, match="holds no MPTCP metrics: pmlogger must record"):
        make({0: {"kernel.all.uptime": 1}})


def test_an_archive_of_few_metrics(make):
    """Somebody's own pmlogger configuration need not have our probe."""
    ((_, now),) = make({0: {GAUGE: 3}}).pairs()
    assert now.value(GAUGE) == 3 and not now.has(SETTING) and now.value(COUNTER) is None


@pytest.mark.parametrize("options, said", [
    (["-S", f"+{2 * REACH:.0f}", "-T", f"+{REACH:.0f}"], "no MPTCP values in the ten minutes up to 2026-01-02 03:34"),
    (["-S", f"+{2 * REACH:.0f}", "-T", f"+{REACH:.0f}", "-t", "60"], "no MPTCP values in this time window"),
    (["-t", "1h", "-T", "+60"], "no MPTCP values in this time window at intervals of 3600 s"),
    (["-S", "@2030-01-01"], "outside of the archive"),
    (["-T", "@2020-01-01"], "outside of the archive"),
])
def test_a_window_without_data(make, options, said):
    """One line, with what the archive spans."""
    table = {0: {SETTING: 1, GAUGE: 1}, 4 * REACH: {GAUGE: 1}}
    with pytest.raises(Trouble, match=said) as trouble:
        list(make(table, *options).pairs())
    assert "pmdumplog -L" in str(trouble.value) and "\n" not in str(trouble.value)


def test_what_an_older_kernel_lacks_is_unknown(make):
    """The agent answers APPVERSION, and pmlogger records that."""
    source = make({0: {SETTING: 1, GAUGE: 1, COUNTER: Error(APPVERSION), BY_LINK: Error(APPVERSION)},
                   10: {GAUGE: 2, COUNTER: Error(APPVERSION), BY_LINK: Error(APPVERSION)}})
    ((before, now),) = source.pairs()
    assert COUNTER not in now and not now.has(BY_LINK)
    assert View(before, now).growth(COUNTER) is None


def test_an_error_does_not_bring_back_what_was(make):
    """The agent failed for a moment: the values before are not those of now."""
    assert make({0: {SETTING: 1, GAUGE: 1}, 10: {GAUGE: Error(APPVERSION)}}).reader.at(BEGIN + 10).value(GAUGE) is None


def test_strings_of_any_bytes(make):
    """Names of processes are anybody's to choose."""
    source = make({0: {SETTING: 1, COMMAND: {"c1 a": "caf\u00e9", "c2 b": b"\xff\xfe"}}})
    found = source.reader.at(BEGIN).all(COMMAND)
    assert found["c1 a"] == "caf\u00e9" and "xff" in found["c2 b"]


def test_the_clock_has_the_zone_of_the_options(make):
    """-z: the host's, -Z: any."""
    table = {0: {SETTING: 1}}
    assert make(table, "-Z", "EST+5").clock(BEGIN) == "2026-01-01 22:04:05"
    assert make(table, "-z", zone="CET-1").clock(BEGIN) == "2026-01-02 04:04:05"
    assert make(table, "-Z", "UTC").clock(BEGIN, "%a %j %H") == "Fri 002 03"
