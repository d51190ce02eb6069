# SPDX-License-Identifier: GPL-2.0-or-later
"""The screen of `pcp mptcp`, as it is and as data."""

import json

import pytest
from pcp_mptcp import overview
from pcp_mptcp.checks import check
from pcp_mptcp.text import _ESCAPE, Paint
from pcp_mptcp.view import View

from .client_host import ENDPOINT, links, record, sample, view, without

HEALTHY = """\
2 MPTCP connections, 0 fell back to TCP, 4 subflows, in 12.0 Mbit/s, out 120 kbit/s
Redundancy: 2 with 2 live paths

LINK   STATE  FLOWS          IN          OUT  OF MPTCP  OF LINK      RTT  RESENT  SOLE
eth0   up         2  8.0 Mbit/s  80.0 kbit/s      67 %     50 %  12.0 ms   1.0 %     0
wlan0  up         2  4.0 Mbit/s  40.0 kbit/s      33 %     99 %  31.5 ms     0 %     0

Nothing is wrong."""

BROKEN = """\
2 MPTCP connections, 1 fell back to TCP, 3 subflows, in 8.8 Mbit/s, out 80.0 kbit/s
Redundancy: 1 with 1 live path, 1 with 0 live paths, 2 with fewer than they had

LINK   STATE  FLOWS  STALLED          IN          OUT  OF MPTCP  OF LINK      RTT  RESENT  SOLE
eth0   up         3        1  8.0 Mbit/s  80.0 kbit/s      91 %     50 %  12.0 ms   1.0 %     1
wlan0  down       0        0  800 kbit/s      0 bit/s     9.0 %     20 %        -       -     0
Up, without MPTCP: usb0

Endpoints that carry nothing
  2 10.0.2.1%wlan0  subflow

CRITICAL  1 of 2 connections without any live path
          redundancy_lost: see which path is gone: pcp mptcp connections, pcp mptcp events
WARNING   1 of 2 connections has fewer live paths than it had; 1 connection depends on eth0 alone
          redundancy_lost: see which path is gone: pcp mptcp connections, pcp mptcp events
WARNING   endpoint 2 10.0.2.1%wlan0 (subflow) carries nothing: wlan0 is down
          endpoint_unused: bring wlan0 back
WARNING   wlan0 is down or gone, it has carried 6.1 MB of MPTCP
          link_down: ip link show wlan0; cable, radio or provider; pcp mptcp events tells since when
WARNING   eth0: 1 subflow without an answer for seconds, though not closed
          stalled_subflow: the path beyond eth0 is dead: ping its gateway from there
NOTE      1 connection asked for MPTCP and runs as TCP
          fallback: pcp mptcp why PORT: the peer, its application, or a firewall on the way does not speak MPTCP"""

FAULT = {
    "mptcp.fallback.connections": 1, "mptcp.redundancy.degraded_connections": 2,
    "mptcp.redundancy.connections": {"2": 0, "1": 1, "0": 1}, "mptcp.subflows": {**links(0, 3, 0), "usb0": 0},
    "mptcp.interface.up": {**links(1, 1, 0), "usb0": 1}, "mptcp.interface.rtt": {"wlan0": None},
    "mptcp.interface.stalled_subflows": {"eth0": 1}, "mptcp.interface.sole_path_connections": {"eth0": 1},
    "mptcp.interface.in.bytes": {"wlan0": 6001000, "usb0": 0}, "mptcp.interface.out.bytes": {"wlan0": 50000, "usb0": 0},
    "mptcp.pm.endpoint.subflows": {ENDPOINT: 0},
}


def screen(seen, paint=Paint(False)):
    """The lines as text."""
    return "\n".join(overview.lines(seen, check(seen), paint))


def test_a_healthy_host():
    """Every figure of it."""
    assert screen(view()) == HEALTHY


def test_a_host_with_faults():
    """The gravest first, with what to do."""
    assert screen(view(FAULT)) == BROKEN


@pytest.mark.parametrize("changes, plain", [({}, HEALTHY), (FAULT, BROKEN)])
def test_colours_change_nothing_else(changes, plain):
    """Without them it is the same text."""
    coloured = screen(view(changes), Paint(True))
    stripped = [line.rstrip() for line in _ESCAPE.sub("", coloured).splitlines()]
    assert stripped == plain.splitlines()


def test_colours_say_what_is_bad():
    """Red is what is down or critical, green what is well, nothing a link that is not used."""
    healthy, broken = screen(view(), Paint(True)), screen(view(FAULT), Paint(True))
    assert "\x1b[32mNothing is wrong.\x1b[0m" in healthy and "\x1b[32mup" in healthy and "\x1b[31m" not in healthy
    for red in ("CRITICAL", "1 with 0 live paths", "down"):
        assert "\x1b[31m" + red in broken, red
    for yellow in ("WARNING", "1 fell back to TCP", "1 with 1 live path", "2 with fewer than they had"):
        assert "\x1b[33m" + yellow in broken, yellow
    assert "\x1b[90mNOTE" in broken and "Nothing is wrong" not in broken


@pytest.mark.parametrize("changes, said", [
    ({"mptcp.sysctl.enabled": 0}, "MPTCP is switched off here (net.mptcp.enabled=0)"),
    ({"mptcp.connections": 0, "mptcp.redundancy.connections": {"2": 0}}, "Redundancy: no connection"),
    ({"mptcp.redundancy.connections": None}, "Redundancy: not known"),
    ({"mptcp.redundancy.connections": {"8+": 3, "2": 1}}, "Redundancy: 3 with 8+ live paths, 1 with 2 live paths"),
    ({"mptcp.redundancy.degraded_connections": 1}, ", 1 with fewer than it had"),
    ({"mptcp.connections": 1}, "1 MPTCP connection, 0 fell"),
    ({"mptcp.connections": None, "mptcp.fallback.connections": None}, "- MPTCP connections, - fell back to TCP, 4 sub"),
    ({"mptcp.interface.up": {"\x1b[2Jusb": 1}, "mptcp.interface.in.bytes": {"\x1b[2Jusb": 0}}, "MPTCP: ?[2Jusb"),
    ({"mptcp.pm.endpoint.subflows": {ENDPOINT: 0}, "mptcp.pm.endpoint.flags": {ENDPOINT: "a\x1bb"}}, "wlan0  a?b"),
])
def test_what_it_says_of(changes, said):
    """Sentences of other states."""
    assert said in screen(view(changes))


def test_notes_alone_are_no_fault():
    """Nothing is wrong, and yet there is something to say."""
    lines = screen(view({"mptcp.mib.blackhole": 1}, before={"mptcp.mib.blackhole": 1})).splitlines()
    assert lines[-3] == "Nothing is wrong." and lines[-2].startswith("NOTE      1 blackhole found")


def test_links_that_are_shown():
    """Those that carry, that carried, or that an endpoint is for; lo is not even named."""
    idle = {"mptcp.interface.in.bytes": links(0, 0, 0), "mptcp.interface.out.bytes": links(0, 0, 0),
            "mptcp.subflows": links(0, 0, 0)}
    assert [one.name for one in overview.used_links(view(idle))] == ["wlan0"]
    assert "Up, without MPTCP: eth0\n" in screen(view(idle))
    one_flow = view({**idle, "mptcp.subflows": links(0, 1, 0)})
    assert [one.name for one in overview.used_links(one_flow)] == ["eth0", "wlan0"]
    unused = {f"mptcp.pm.endpoint.{name}": {ENDPOINT: 0} for name in ("signal", "subflow")}
    assert overview.used_links(view({**idle, **unused})) == []


def test_the_first_moment_has_no_rates():
    """Dashes, not zeros."""
    seen = View(None, sample(record(20), 20.0))
    assert "in -, out -" in screen(seen)
    (line,) = [line.split() for line in screen(seen).splitlines() if line.startswith("eth0")]
    assert line == ["eth0", "up", "2", "-", "-", "-", "-", "12.0", "ms", "-", "0"]


def test_an_archive_of_almost_nothing():
    """It still says what it can."""
    assert screen(View(None, sample({"mptcp.connections": 3}, 1.0))).splitlines()[:2] == [
        "3 MPTCP connections, - fell back to TCP, in -, out -", "Redundancy: not known"]


def test_data_for_programs():
    """JSON has the same figures, and null for what is not known."""
    seen = view(FAULT)
    found = overview.data(seen, check(seen))
    assert json.loads(json.dumps(found)) == found
    assert (found["enabled"], found["connections"], found["fallback_connections"], found["degraded_connections"]) == (
        1, 2, 1, 2)
    assert found["redundancy"]["0"] == 1
    eth0, wlan0 = found["links"][1:3]
    assert (eth0["name"], eth0["in_rate"], eth0["rtt"], eth0["up"]) == ("eth0", 1e6, 12000, True)
    assert (wlan0["rtt"], wlan0["up"], wlan0["subflows"], wlan0["retrans"]) == (None, False, 0, None)
    assert [one["rule"] for one in found["findings"]][:2] == ["redundancy_lost"] * 2
    assert found["endpoints"][0]["name"] == ENDPOINT and found["endpoints"][0]["misrouted"] is False


def test_it_needs_no_single_connections():
    """As an archive of pmlogger's default group has none."""
    both = [sample(without(record(second), "mptcp.connection.", "mptcp.subflow."), 1000.0 + second)
            for second in (10, 20)]
    assert screen(View(*both)) == HEALTHY
