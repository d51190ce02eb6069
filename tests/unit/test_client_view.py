# SPDX-License-Identifier: GPL-2.0-or-later
"""Two samples as links, connections and subflows, with what changed between them."""

import pytest
from pcp_mptcp.between import Between, part, total
from pcp_mptcp.rows import word
from pcp_mptcp.view import View

from .client_host import C1, C2, ENDPOINT, FLOWS, changed, record, sample, view, without

IN, SUBFLOW_IN = "mptcp.interface.in.bytes", "mptcp.subflow.in.bytes"


def link(seen, name):
    """One of its links."""
    return next(one for one in seen.links if one.name == name)


def test_links():
    """Rates by the second, and the parts of the link and of MPTCP."""
    eth0 = link(view(), "eth0")
    assert (eth0.up, eth0.state, eth0.subflows, eth0.sole, eth0.rtt) == (True, "up", 2, 0, 12000)
    assert (eth0.in_rate, eth0.out_rate, eth0.in_bytes, eth0.out_bytes) == (1e6, 1e4, 20001000, 200000)
    assert eth0.of_link == 1.01e6 / 2.02e6
    assert eth0.of_mptcp == pytest.approx(1.01e6 / 1.515e6)
    assert eth0.retrans == 0.01
    assert eth0.backup_rate == 0
    assert [one.name for one in view().links] == ["lo", "eth0", "wlan0"]


def test_a_link_without_traffic_has_no_parts():
    """No division by nothing."""
    lo = link(view(), "lo")
    assert (lo.in_rate, lo.retrans, lo.carried) == (0, None, False)
    assert lo.of_link == 0 and lo.of_mptcp == 0
    still = View(*(sample(changed(record(10), {}), when) for when in (0.5, 10.5)))
    assert {one.of_mptcp for one in still.links} == {None} and link(still, "eth0").in_rate == 0


def test_backup_traffic_of_both_directions():
    """In and out, as much as is known of them."""
    assert link(view({"mptcp.interface.in.backup_bytes": {"eth0": 300},
                      "mptcp.interface.out.backup_bytes": {"eth0": 200}}), "eth0").backup_rate == 50
    assert link(view({"mptcp.interface.in.backup_bytes": {"eth0": 300},
                      "mptcp.interface.out.backup_bytes": None}), "eth0").backup_rate == 30


@pytest.mark.parametrize("gone", ["mptcp.interface.up", "mptcp.interface.rtt", "mptcp.interface.total",
                                  "mptcp.interface.out", "mptcp.subflows"])
def test_a_link_of_which_less_is_known(gone):
    """None, never 0."""
    eth0 = link(View(sample(without(record(10), gone), 10.0), sample(without(record(20), gone), 20.0)), "eth0")
    lost = {"mptcp.interface.up": ["up"], "mptcp.interface.rtt": ["rtt"], "mptcp.interface.total": ["of_link"],
            "mptcp.interface.out": ["out_rate", "out_bytes", "retrans"], "mptcp.subflows": ["subflows"]}[gone]
    for name in ("up", "rtt", "of_link", "out_rate", "out_bytes", "retrans", "subflows", "in_rate", "of_mptcp"):
        assert (getattr(eth0, name) is None) == (name in lost), name


def test_without_an_earlier_sample_nothing_has_a_rate():
    """What is, is known all the same."""
    seen = View(None, sample(record(20), 20.0))
    assert (link(seen, "eth0").in_rate, link(seen, "eth0").of_mptcp, link(seen, "eth0").in_bytes) == (
        None, None, 20001000)
    assert (seen.connections[0].in_rate, seen.subflows[0].busy, seen.connections[0].in_bytes) == (None, None, 20000000)
    assert seen.seconds(IN) is None


def test_two_samples_of_one_moment_have_no_rate():
    """A window of one record."""
    now = sample(record(20), 20.0)
    assert View(now, now).growth(IN, "eth0") == 0
    assert View(now, now).rate(IN, "eth0") is None


def test_growth_from_nothing():
    """A new connection began at 0; an interface that appears has carried before, as may have what was not asked for."""
    before = sample({SUBFLOW_IN: {"a": 5}, IN: {"lo": 0}}, 1.0)
    now = sample({SUBFLOW_IN: {"b": 70}, IN: {"usb0": 70}}, 11.0)
    change = Between(before, now)
    assert change.growth(SUBFLOW_IN, "b", born=True) == 70 and change.rate(SUBFLOW_IN, "b", born=True) == 7.0
    assert change.growth(SUBFLOW_IN, "b") is None and change.rate(SUBFLOW_IN, "b") is None
    assert change.growth(IN, "usb0") is None
    assert change.growth(SUBFLOW_IN, "a", born=True) is None, "it ended"
    assert Between(sample({}, 1.0), now).growth(SUBFLOW_IN, "b", born=True) is None
    assert Between(None, now).growth(SUBFLOW_IN, "b", born=True) is None


def test_new_subflows_count_from_their_beginning():
    """Those of the view, too; links do not."""
    new = {SUBFLOW_IN: {FLOWS[1]: None}, "mptcp.connection.in.bytes": {C2: None}, IN: {"wlan0": None}}
    seen = view(before=new)
    assert seen.subflows[1].in_rate == 600000 and seen.connections[1].in_rate == 1000000
    wlan0 = link(view(before={f"mptcp.interface.{name}": {"wlan0": None} for name in (
        "in.bytes", "out.bytes", "out.retrans_bytes", "in.backup_bytes", "out.backup_bytes", "total.in.bytes",
        "total.out.bytes")}), "wlan0")
    assert (wlan0.in_rate, wlan0.out_rate, wlan0.retrans, wlan0.backup_rate, wlan0.of_link) == (None,) * 5


def test_a_counter_that_began_anew():
    """No growth, no rate, and the other links still share what is known."""
    seen = view(before={IN: {"eth0": 10**12}})
    assert link(seen, "eth0").in_rate is None
    assert link(seen, "wlan0").of_mptcp == pytest.approx(505000 / (505000 + 10000))


def test_rates_take_the_time_of_their_own_metric():
    """Groups of metrics may be recorded at different intervals."""
    before, now = sample({IN: {"a": 0}}, 0.5), sample({IN: {"a": 100}}, 20.5)
    for one, when in ((before, 15.5), (now, 25.5)):
        one.put("mptcp.connections", {None: 1}, when)
    assert Between(before, now).rate(IN, "a") == 5.0


def test_connections():
    """With their subflows, and what they wait for."""
    one, two = view().connections
    assert (one.name, one.local, one.server_side, one.process, one.idle, one.paths) == (
        "c1", "10.0.1.1:40000", False, "curl/4711", 0.04, "2")
    assert (two.name, two.server_side, two.process, two.idle) == ("c2", True, "iperf3/815", 8.5)
    assert [flow.name for flow in one.flows] == ["c1::1", "c1::2"]
    assert (one.links, one.retrans, one.in_rate) == ("eth0,wlan0", 0.01, 1e6)
    assert [flow.name for flow in view().subflows] == ["c1::1", "c1::2", "c2::1", "c2::2"]


@pytest.mark.parametrize("changes, paths", [
    ({}, "2"),
    ({"live_subflows": 1}, "1/2"),
    ({"live_subflows": 1, "live_subflows_most": 3}, "1/3"),
    ({"live_subflows": 0, "subflows": 1, "live_subflows_most": None}, "0/1"),
    ({"live_subflows": 1, "subflows": 1, "live_subflows_most": 1}, "1"),
    ({"live_subflows": 0, "subflows": 0, "live_subflows_most": 0}, "0"),
    ({"live_subflows": None}, ""),
    ({"fallback": 1}, "TCP"),
])
def test_paths_of_a_connection(changes, paths):
    """Live ones, of how many."""
    seen = view({f"mptcp.connection.{name}": {C1: value} for name, value in changes.items()})
    assert seen.connections[0].paths == paths


@pytest.mark.parametrize("command, pid, said", [("curl", 7, "curl/7"), (None, 7, "?/7"), ("curl", None, ""),
                                                (None, 0, "")])
def test_process_of_a_connection(command, pid, said):
    """As far as the agent may see it."""
    seen = view({"mptcp.connection.command": {C1: command}, "mptcp.connection.pid": {C1: pid}})
    assert seen.connections[0].process == said


@pytest.mark.parametrize("changes, health", [
    ({}, "ok"),
    ({"backup": 1}, "backup"),
    ({"live": 0, "backoff": 3}, "stalled"),
    ({"live": 0, "backoff": 2}, "no way out"),
    ({"live": 0, "backoff": None}, "no way out"),
    ({"live": 0, "state": "SYN-SENT"}, "syn-sent"),
])
def test_health_of_a_subflow(changes, health):
    """One word for it."""
    seen = view({f"mptcp.subflow.{name}": {FLOWS[0]: value} for name, value in changes.items()})
    assert seen.subflows[0].health == health


def test_what_limits_a_subflow():
    """The longer of the two, as a part of the time, from 5 % on."""
    assert [flow.limit for flow in view().subflows] == ["", "", "", "send buffer 20 %"]
    assert view().subflows[3].busy == 0.5
    assert view({"mptcp.subflow.rwnd_limited": {FLOWS[3]: 9000000}}).subflows[3].limit == "peer's window 90 %"
    assert view({"mptcp.subflow.rwnd_limited": {FLOWS[0]: 490000}}).subflows[0].limit == ""


def test_endpoints():
    """As the path manager has them."""
    (one,) = view().endpoints
    assert (one.name, one.id, one.address, one.interface, one.flags, one.owner, one.subflows) == (
        ENDPOINT, 2, "10.0.2.1", "wlan0", "subflow", "wlan0", 1)
    assert (one.used, one.misrouted) == (True, False)


@pytest.mark.parametrize("signal, subflow, implicit, used", [(1, 0, 0, True), (0, 1, 0, True), (0, 0, 0, False),
                                                             (1, 0, 1, False), (None, None, None, False)])
def test_endpoints_that_are_meant_to_carry(signal, subflow, implicit, used):
    """The kernel's implicit ones are not, nor those that are only marked fullmesh or backup."""
    (one,) = view({f"mptcp.pm.endpoint.{name}": {ENDPOINT: value} for name, value in
                   (("signal", signal), ("subflow", subflow), ("implicit", implicit))}).endpoints
    assert one.used is used


def test_an_archive_with_settings_but_no_counts_of_endpoints():
    """Then they are those that have an id; what has a count of none is none."""
    assert [one.name for one in view({"mptcp.pm.endpoint.subflows": None}).endpoints] == [ENDPOINT]
    assert view({"mptcp.pm.endpoint.subflows": {ENDPOINT: None}}).endpoints == []
    assert [one.name for one in view({IN: None}).links] == ["lo", "eth0", "wlan0"]
    assert view({IN: None, "mptcp.interface.up": None}).links == []


def test_helpers():
    """None is what is not known."""
    assert (part(1, 4), part(0, 4), part(None, 4), part(1, None), part(1, 0)) == (0.25, 0, None, None, None)
    assert (total(1, None, 2), total(None), total(), total(0, None)) == (3, None, None, 0)
    assert (word("c1 a b"), word("c1"), word(None), word("")) == ("c1", "c1", "", "")
