# SPDX-License-Identifier: GPL-2.0-or-later
"""Plain TCP through two gateways over three links, seen by the agents of both gateways."""

import os
import shutil

import pytest

from . import wait_for
from .client import pcp_mptcp, pcp_mptcp_json
from .scenarios.gateway import PORT, Gateways

LINKS = ("enp1s0", "enp2s0", "enp3s0")
SERVICE = str(PORT)
COUNTERS = ("mptcp.interface.out.bytes", "mptcp.interface.out.retrans_bytes", "mptcp.interface.in.bytes")


@pytest.fixture(scope="module")
def gateways(lab):
    """The two gateways and the plain hosts behind them."""
    if not shutil.which("socat"):
        pytest.skip("socat is missing: Debian package socat")
    with Gateways(lab) as built:
        yield built


@pytest.fixture
def clients(gateways):
    """Two plain clients that are connected to the office and wait."""
    all_gone(gateways)
    processes = [gateways.connect() for _ in range(2)]
    for host in (gateways.near, gateways.far):
        wait_for(lambda: all(host.pminfo("mptcp.subflows").get(link) == 2 for link in LINKS),
                 message=lambda: f"no subflow of each connection on each link of the {host.name}")
    yield processes
    for process in processes:
        gateways.finish(process, b"")


def all_gone(gateways):
    """Wait until what an earlier test opened is closed on both gateways."""
    for host in (gateways.near, gateways.far):
        wait_for(lambda: service(host)[0] == 0 and host.pminfo("mptcp.connections")[None] == 0
                 and not any(host.pminfo("mptcp.subflows").values()),
                 message=lambda: f"connections are left on the {host.name}")


def service(host):
    """The connections of the gateway's listener: total, MPTCP and plain TCP."""
    return [host.pminfo(f"mptcp.service.{name}connections")[SERVICE] for name in ("", "mptcp_", "tcp_")]


def test_who_comes_by_tcp_and_who_by_mptcp(gateways, clients):
    """The near gateway's listener gets plain TCP only, the far one's MPTCP only, and both are socat."""
    near, far = service(gateways.near), service(gateways.far)
    print(f"total, MPTCP, plain TCP: near {near}, far {far}")
    assert near == [2, 0, 2] and far == [2, 2, 0]
    for host in (gateways.near, gateways.far):
        wait_for(lambda: host.pminfo("mptcp.service.command").get(SERVICE) == "socat", message="not socat's service")
        # Owners are looked up on the side.
        wait_for(lambda: set(host.pminfo("mptcp.connection.command").values()) == {"socat"},
                 message=lambda: f"not socat's: {host.pminfo('mptcp.connection.command')}")


def test_the_leg_to_the_office_falls_back(gateways, clients):
    """mptcpize asks the office for MPTCP in vain; the legs over the links are the MPTCP ones on both gateways."""
    for host, fallen in ((gateways.near, 0), (gateways.far, 2)):
        print(f"{host.name}: {host.pminfo('mptcp.connection.fallback')}")
        assert host.pminfo("mptcp.connections")[None] == 2
        assert host.pminfo("mptcp.fallback.connections")[None] == fallen
        assert host.pminfo("mptcp.redundancy.connections")["3"] == 2
        assert host.pminfo("mptcp.subflows")["lan0"] == 0
    fallback = gateways.far.pminfo("mptcp.connection.fallback")
    assert {value for name, value in fallback.items() if gateways.office.local in name} == {1}


def test_pcp_mptcp_at_both_gateways(gateways, clients):
    """The proxy's connections by its name, both legs at the far gateway; and nothing is called wrong."""
    def said(host, *argv):
        return pcp_mptcp_json(host, *argv, "-t", "0.3", "-s", "1")

    office = {f"{gateways.office.local}:{PORT}"}
    for host, fallen in ((gateways.near, 0), (gateways.far, 2)):
        wait_for(lambda: set(host.pminfo("mptcp.connection.command").values()) == {"socat"}, message="not socat's")
        legs = said(host, "connections", "--process=socat")["connections"]
        print([f"{one['local']} {one['remote']} {one['paths']}" for one in legs])
        over_links = [one for one in legs if not one["fallback"]]
        assert [(one["live"], one["server_side"]) for one in over_links] == [(3, host is gateways.far)] * 2
        assert {one["remote"] for one in legs if one["fallback"]} == (office if fallen else set())
        assert len(legs) == 2 + fallen and all(one["process"].startswith("socat/") for one in legs)
        # A client of the far gateway is one process with two legs.
        assert {one["pid"] for one in legs} == {one["pid"] for one in over_links}
        assert said(host, "connections", "--process=nobody")["connections"] == []
        found = said(host)["overview"]
        assert (found["connections"], found["fallback_connections"], found["degraded_connections"]) == (2, fallen, 0)
        assert {link["name"]: link["subflows"] for link in found["links"] if link["name"] != "lo"} == {
            **dict.fromkeys(LINKS, 2), "lan0": 0}
        assert [(one["rule"], one["level"]) for one in found["findings"]] == [("fallback", "note")] * (fallen > 0)


def test_why_at_both_gateways(gateways, clients):
    """By port: the near one's clients are plain TCP, which is no fault; the far one's leg to the office fell back."""
    (status, near, _), (failed, far, _) = (
        pcp_mptcp(host, "why", SERVICE, "-t", "0.3") for host in (gateways.near, gateways.far))
    print(near, far)
    assert status == 0 and "BAD" not in near
    assert "connections of the service: MPTCP 0, plain TCP 2" in near and "3 live paths over" in near
    assert failed == 2 and "connections of the service: MPTCP 2, plain TCP 0" in far
    assert f"to {gateways.office.local}:{PORT}" in far and "the peer answers, but not with MPTCP" in far


def test_without_mptcp_the_gateway_is_told_too(gateways):
    """A host that comes to the far gateway by plain TCP is counted as such: the numbers above are no constants."""
    all_gone(gateways)
    process = gateways.near.popen("socat", "-", f"TCP:{gateways.far.address(1)}:{PORT}", stdin=-1)
    try:
        wait_for(lambda: service(gateways.far) == [1, 0, 1],
                 message=lambda: f"one plain connection, but the service has {service(gateways.far)}")
    finally:
        gateways.near.stop(process)
    wait_for(lambda: service(gateways.far) == [0, 0, 0], message="the connection is still there")


def test_the_links_carry_what_the_clients_sent(gateways):
    """Three clients at a time send 5 MB each; the links' counters on both gateways have every byte once."""
    all_gone(gateways)
    before = {host: sample(host) for host in (gateways.near, gateways.far)}
    messages = [os.urandom(5_000_000) for _ in range(3)]
    gateways.send(*messages)
    sent = sum(map(len, messages))
    all_gone(gateways)
    grew = {host: growth(before[host], sample(host)) for host in before}
    out, again, _ = grew[gateways.near]
    _, _, received = grew[gateways.far]
    print(f"sent {sent}; out {out}, of it again {again}; received {received}")
    assert out["lan0"] == received["lan0"] == 0
    assert all(out[link] > sent / 10 for link in LINKS)
    fresh = sum(out.values()) - sum(again.values())
    # What MPTCP sent again by another link is in no counter but out and in.bytes.
    reinjected = 0.02 * sent if grown_retrans(gateways.near, before) else 0
    assert sent <= fresh <= sent + reinjected
    # A FIN counts as a byte received, one for each subflow.
    assert sent <= sum(received.values()) <= sent + reinjected + 9


def sample(host):
    """The counters that the test compares, and the reinjections."""
    return [host.pminfo(metric) for metric in COUNTERS] + [host.pminfo("mptcp.mib.mptcpretrans")]


def growth(before, after):
    """How much each counter grew, by interface."""
    return [{name: new[name] - old[name] for name in new} for old, new in zip(before[:3], after[:3])]


def grown_retrans(host, before):
    """How often MPTCP sent something again meanwhile."""
    return host.pminfo("mptcp.mib.mptcpretrans")[None] - before[host][3][None]
