# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables of connections and subflows: filters, order, and one connection in detail."""

from types import SimpleNamespace

import pytest
from pcp_mptcp import tables
from pcp_mptcp.sample import Trouble
from pcp_mptcp.tables import CONNECTION_COLUMNS, DETAIL, SUBFLOW_COLUMNS, Filter, ordered
from pcp_mptcp.text import Column, Paint, words

from .client_host import C1, C2, FLOWS, view


def names(rows):
    """Of connections or subflows."""
    return [one.name for one in rows]


@pytest.mark.parametrize("wanted, found", [
    (Filter(), ["c1", "c2"]),
    (Filter(interface="eth0"), ["c1", "c2"]),
    (Filter(interface="eth"), []),
    (Filter(address="10.0.1.1"), ["c1"]),
    (Filter(address="10.0.2.1"), ["c1"]),  # of a subflow only
    (Filter(address="10.0.9.9"), ["c1"]),
    (Filter(address="10.0.1"), []),
    (Filter(address="fd00:1::1"), ["c2"]),
    (Filter(address="FD00:0001:0:0::1"), ["c2"]),
    (Filter(address="fd00:2:0::1"), ["c2"]),
    (Filter(address="nonsense"), []),
    (Filter(port=443), ["c1"]),
    (Filter(port=40001), ["c1"]),  # of a subflow only
    (Filter(port=5201), ["c2"]),
    (Filter(port=44), []),
    (Filter(process="curl"), ["c1"]),
    (Filter(process="815"), ["c2"]),
    (Filter(process="cur"), []),
    (Filter(process="curl", port=5201), []),
    (Filter(names=("c2",)), ["c2"]),
    (Filter(names=("c2", "c1")), ["c1", "c2"]),
    (Filter(names=("c2",), interface="eth0", address="fd00:9::9", port=50000, process="iperf3"), ["c2"]),
])
def test_filters_of_connections(wanted, found):
    """A connection is where any of its subflows is."""
    assert names(tables.connections(view(), wanted)) == found


@pytest.mark.parametrize("wanted, found", [
    (Filter(), ["c1::1", "c1::2", "c2::1", "c2::2"]),
    (Filter(interface="wlan0"), ["c1::2", "c2::2"]),
    (Filter(address="10.0.1.1"), ["c1::1"]),
    (Filter(address="10.0.2.1"), ["c1::2"]),
    (Filter(address="10.0.9.9"), ["c1::1", "c1::2"]),
    (Filter(address="fd00:2::1"), ["c2::2"]),
    (Filter(port=50001), ["c2::2"]),
    (Filter(process="curl"), ["c1::1", "c1::2"]),
    (Filter(names=("c1",)), ["c1::1", "c1::2"]),
    (Filter(names=("c1::2", "c2")), ["c1::2", "c2::1", "c2::2"]),
    (Filter(names=("c1",), interface="wlan0"), ["c1::2"]),
])
def test_filters_of_subflows(wanted, found):
    """By their own ends, not by those of the connection; by the name or process of the connection."""
    assert names(tables.subflows(view(), wanted)) == found


@pytest.mark.parametrize("find, name, said", [
    (tables.connections, "c9", "no connection c9 at that time, there are 2: pcp mptcp connections"),
    (tables.connections, "c1::1", "no connection c1::1 at that time"),
    (tables.connections, "", "no connection  at that time"),
    (tables.subflows, "c1::9", "no subflow c1::9 at that time, there are 4: pcp mptcp subflows"),
])
def test_unknown_names(find, name, said):
    """One line, although others are known."""
    with pytest.raises(Trouble) as trouble:
        find(view(), Filter(names=("c1", name)))
    assert str(trouble.value).startswith(said)


def test_a_name_that_is_known_but_filtered_is_no_error():
    """It is there, only not on this link."""
    assert tables.connections(view(), Filter(names=("c1",), interface="usb0")) == []


@pytest.mark.parametrize("end, found", [("10.0.1.1:443", ("10.0.1.1", 443)), ("[fd00::1]:5201", ("fd00::1", 5201)),
                                        ("", ("", 0)), ("x:y", ("x", 0))])
def test_ends(end, found):
    """Address and port."""
    assert tables.split(end) == found


@pytest.mark.parametrize("one, other, same", [
    ("fd00::1", "FD00:0::0:1", True), ("10.0.0.1", "10.0.0.1", True), ("10.0.0.1", "10.0.0.2", False),
    ("x", "x", True), ("x", "10.0.0.1", False), ("::ffff:10.0.0.1", "::ffff:a00:1", True)])
def test_same_address(one, other, same):
    """However it is written."""
    assert tables.same_address(one, other) is same


# Order

ROWS = [SimpleNamespace(name=name, rate=rate, note=note) for name, rate, note in (
    ("c10", 5.0, ""), ("c9", None, "b"), ("c1", 0, "a"), ("c9::10", 7.5, None), ("c9::9", 5.0, "B"))]
COLUMNS = (words("name", "NAME"), Column("rate", "IN RATE"), words("note", "NOTE"))


@pytest.mark.parametrize("key, backwards, found", [
    ("", False, ["c10", "c9", "c1", "c9::10", "c9::9"]),
    ("", True, ["c9::9", "c9::10", "c1", "c9", "c10"]),
    ("name", False, ["c1", "c9", "c9::9", "c9::10", "c10"]),
    ("name", True, ["c10", "c9::10", "c9::9", "c9", "c1"]),
    ("rate", False, ["c9::10", "c10", "c9::9", "c1", "c9"]),
    ("rate", True, ["c1", "c10", "c9::9", "c9::10", "c9"]),
    ("IN rate", False, ["c9::10", "c10", "c9::9", "c1", "c9"]),
    ("note", False, ["c9::9", "c1", "c9", "c10", "c9::10"]),
    ("NOTE", True, ["c9", "c1", "c9::9", "c10", "c9::10"]),
])
def test_order(key, backwards, found):
    """The largest first, text by the alphabet, c9 before c10; what is not known last in both directions; 0 is known."""
    assert names(ordered(ROWS, COLUMNS, key, backwards)) == found


@pytest.mark.parametrize("columns, find", [(CONNECTION_COLUMNS, tables.connections),
                                           (SUBFLOW_COLUMNS, tables.subflows)])
def test_every_column_has_an_order(columns, find):
    """Also where some rows have no value: they come last, and none is lost."""
    broken = view({name: {instance: None} for name, instance in (
        ("mptcp.connection.pid", C1), ("mptcp.connection.live_subflows", C1), ("mptcp.connection.in.bytes", C2),
        ("mptcp.subflow.rtt", FLOWS[0]), ("mptcp.subflow.cwnd", FLOWS[3]), ("mptcp.subflow.interface", FLOWS[1]))})
    rows = find(broken, Filter())
    for column in columns:
        values = [[getattr(one, column.key) for one in ordered(rows, columns, key, backwards)]
                  for key in (column.key, column.head) for backwards in (False, True)]
        assert values[:2] == values[2:] and all(len(each) == len(rows) for each in values)
        for each in values:
            known = [value for value in each if value not in (None, "")]
            assert each[:len(known)] == known
        if column.right:
            known = [value for value in values[0] if value is not None]
            assert known == sorted(known, reverse=True)


@pytest.mark.parametrize("value", ["5\u00b2", "\u00b2", "\u0663x", "", "\udcff", "1.2.3", "007"])
def test_any_text_can_be_ordered(value):
    """Digits that are none for int(), too."""
    rows = [SimpleNamespace(name=name) for name in ("b1", value, "a2", "5")]
    assert len(ordered(rows, (words("name", "NAME"),), "name", False)) == 4


@pytest.mark.parametrize("columns", [CONNECTION_COLUMNS, SUBFLOW_COLUMNS])
def test_an_unknown_column(columns):
    """Those that there are."""
    with pytest.raises(Trouble, match="no column speed, there are: name, .*in_rate"):
        ordered([], columns, "speed", False)


# One connection

def test_a_connection_in_detail():
    """Facts, then the subflows side by side."""
    (one,) = tables.connections(view({"mptcp.subflow.live": {FLOWS[1]: 0}, "mptcp.subflow.backoff": {FLOWS[1]: 5},
                                      "mptcp.connection.live_subflows": {C1: 1}}), Filter(names=("c1",)))
    lines = tables.detail(one, Paint(False))
    assert lines[:12] == [
        "Connection  c1  10.0.1.1:40000 -> 10.0.9.9:443  (client side)",
        "State       ESTAB",
        "Process     curl/4711",
        "Paths       1 live, 2 established, at most 2 live so far; the limit lets 3 subflows be",
        "Addresses   announced 0 of 0, accepted 1 of 2",
        "In          8.0 Mbit/s, 20.0 MB in all",
        "Out         80.0 kbit/s, 200 kB in all, 0 B not confirmed",
        "Last data   0.0 s ago",
        "",
        "                        c1::1           c1::2",
        "LINK                     eth0           wlan0",
        "HEALTH                     ok         stalled"]
    assert [line.split("  ")[0] for line in lines[10:]] == [column.head for column in DETAIL]
    assert len({len(line) for line in lines[9:]}) == 1, "in columns"


def test_a_connection_of_which_little_is_known():
    """Only what an archive without details has."""
    changes = {f"mptcp.connection.{name}": {C2: None} for name in (
        "local remote state server_side live_subflows live_subflows_most subflows_max in.bytes out.bytes pid command "
        "out.unacked_bytes addresses.signalled addresses.signalled_max addresses.accepted addresses.accepted_max "
        "since.data_sent since.data_received").split()}
    (one,) = tables.connections(view({**changes, "mptcp.subflow.live": None}), Filter(names=("c2",)))
    assert tables.detail(one, Paint(False)) == [
        "Connection  c2   ->   (? side)", "State       ", "Process     -",
        "Paths       - live, 2 established, at most - live so far; the limit lets - be",
        "Addresses   announced - of -, accepted - of -", "In          -, - in all",
        "Out         -, - in all, - not confirmed", "Last data   -"]


def test_fallback_and_server_in_detail():
    """In words."""
    (one,) = tables.connections(view({"mptcp.connection.fallback": {C2: 1}}), Filter(names=("c2",)))
    lines = tables.detail(one, Paint(True))
    assert "(server side)" in lines[0] and "ESTAB, fell back to TCP" in lines[1]


def test_colours_of_connections():
    """Red without a path or without MPTCP, yellow with fewer than it had."""
    paths = next(one for one in CONNECTION_COLUMNS if one.key == "paths")
    for changes, colour in (({}, ""), ({"live_subflows": 1}, "yellow"), ({"live_subflows": 0}, "red"),
                            ({"fallback": 1}, "red"), ({"live_subflows": None}, "")):
        seen = view({f"mptcp.connection.{name}": {C1: value} for name, value in changes.items()})
        assert paths.colour(seen.connections[0]) == colour, changes


def test_a_process_cannot_command_the_terminal():
    """Neither in a table nor in detail."""
    evil = view({"mptcp.connection.command": {C1: "\x1b]0;owned\x07\x1b[2J"},
                 "mptcp.subflow.interface": {FLOWS[0]: "\x1bc"}})
    rows = tables.connections(evil, Filter())
    shown = "\n".join(tables.text.table(CONNECTION_COLUMNS, rows, Paint(False)) + tables.detail(rows[0], Paint(False)))
    assert "?]0;owned??[2J/4711" in shown and "\x1b" not in shown and "\x07" not in shown


# What an archive has

@pytest.mark.parametrize("what, metric", [("connections", "mptcp.connection.subflows"),
                                          ("subflows", "mptcp.subflow.live")])
def test_an_archive_without_single_connections(what, metric):
    """By default pmlogger records none: that is not the same as none at all."""
    tables.known(view({metric: {instance: None for instance in (*FLOWS, C1, C2)}}), what)
    with pytest.raises(Trouble, match=f"no values of single {what} here.*mptcp/subflows"):
        tables.known(view({metric: None}), what)


def test_data_for_programs():
    """All there is, by name; the subflows within their connection."""
    (one,) = tables.data(tables.connections(view(), Filter(names=("c1",))))
    assert (one["name"], one["in_rate"], one["idle"]) == ("c1", 1e6, 0.04)
    assert [(flow["name"], flow["rtt"], flow["retrans"]) for flow in one["flows"]] == [
        ("c1::1", 12000, 0.01), ("c1::2", 31500, None)]


@pytest.mark.parametrize("shown, wanted, same", [("192.0.2.0/24", "192.0.2.77", True), ("*", "192.0.2.77", False),
                                                 ("192.0.2.0/24", "192.0.3.77", False), ("", "192.0.2.77", False),
                                                 ("2001:db8:1::/48", "2001:db8:1:2::3", True),
                                                 ("2001:db8:1::/48", "192.0.2.77", False)])
def test_a_masked_address(shown, wanted, same):
    """The agent may show no more than its network, and that finds it as well as can be."""
    assert tables.same_address(shown, wanted) is same


@pytest.mark.parametrize("end, typed", [("192.0.2.77:443", "192.0.2.77"), ("[2001:db8::1]:443", "2001:db8::1"),
                                        ("192.0.2.0/24:443", "PEER"), ("[2001:db8:1::/48]:443", "PEER"),
                                        ("*", "PEER")])
def test_an_address_to_be_typed(end, typed):
    """No command takes a mask."""
    assert tables.host(end) == typed
