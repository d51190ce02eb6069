# SPDX-License-Identifier: GPL-2.0-or-later
"""The tutorial: three links, two announced endpoints, one link lost and found."""

import re
import time

import pytest

from . import wait_for

LINKS = ("enp1s0", "enp2s0", "enp3s0")


@pytest.fixture(scope="module", autouse=True)
def download(lab):
    """iperf3 from the server to the client for the whole module."""
    traffic = lab.iperf3(seconds=120, reverse=True)
    for host in (lab.client, lab.server):
        wait_for(lambda: all(host.pminfo("mptcp.subflows").get(link) == 2 for link in LINKS),
                 message=f"no subflow on each link of the {host.name}: iperf3 has a control and a data connection")
    yield traffic
    traffic.stop()


def growth(host, metric, seconds=1.0):
    """How much each instance of a counter grew."""
    before = host.pminfo(metric)
    time.sleep(seconds)
    after = host.pminfo(metric)
    return {name: after[name] - before.get(name, 0) for name in after}


@pytest.mark.parametrize("role", ["client", "server"])
def test_one_subflow_on_each_interface(lab, role):
    """mptcp.subflow.* of the data connection names each of the three interfaces once."""
    host = getattr(lab, role)
    owner = host.pminfo("mptcp.subflow.connection")
    for connection in host.pminfo("mptcp.connection.name").values():
        interfaces = [name for flow, name in host.pminfo("mptcp.subflow.interface").items()
                      if owner[flow] == connection]
        print(f"{role}: {connection} uses {sorted(interfaces)}")
        assert sorted(interfaces) == list(LINKS)
    assert host.pminfo("mptcp.redundancy.connections")["3"] == 2
    assert host.pminfo("mptcp.subflows")["lo"] == 0


@pytest.mark.parametrize("role, direction", [("client", "in"), ("server", "out")])
def test_all_three_carry_bytes(lab, role, direction):
    """Each link carries at least a megabyte a second of payload, and the device a little more."""
    host = getattr(lab, role)
    host.pminfo("mptcp.connections")  # what was carried since the last sample counts in this one
    payload = growth(host, f"mptcp.interface.{direction}.bytes", 2)
    device = growth(host, f"mptcp.interface.total.{direction}.bytes", 2)
    print(f"{role}: payload {payload}, device {device} bytes in 2 s")
    for link in LINKS:
        assert payload[link] > 2e6
        assert 0.5 < payload[link] / device[link] < 1.5
    assert payload["lo"] == 0


def test_device_totals_are_those_of_network_interface(lab):
    """The device counters are bracketed by two looks at PCP's own network.interface.in.bytes."""
    before = lab.client.pminfo("network.interface.in.bytes")
    ours = lab.client.pminfo("mptcp.interface.total.in.bytes")
    after = lab.client.pminfo("network.interface.in.bytes")
    assert set(ours) == set(before)
    for name, value in ours.items():
        print(f"{name}: {before[name]} <= {value} <= {after[name]}")
        assert before[name] <= value <= after[name]


def test_endpoints_are_used_and_well_routed(lab):
    """Both announced endpoints of the server carry both connections and leave by their own link."""
    used = lab.server.pminfo("mptcp.pm.endpoint.subflows")
    print(f"endpoints: {used}")
    assert used == {"1 10.0.2.2%enp2s0": 2, "2 10.0.3.2%enp3s0": 2}
    assert set(lab.server.pminfo("mptcp.pm.endpoint.misrouted").values()) == {0}
    assert lab.server.pminfo("mptcp.pm.endpoint.signal") == dict.fromkeys(used, 1)


def test_without_source_routing_an_endpoint_is_misrouted(lab):
    """The rule for one address is taken away: its packets leave by another link, and the metric says so."""
    rule = next(line for line in lab.server.ip("rule show").splitlines() if "10.0.3.2" in line)
    priority, table = rule.split(":")[0], rule.split()[-1]
    lab.server.ip(f"rule del pref {priority}")
    lab.server.ip("route replace 10.0.3.1/32 dev enp2s0")
    try:
        wait_for(lambda: lab.server.pminfo("mptcp.subflows")["enp3s0"] == 0, message="still taken for enp3s0")
        found = lab.server.pminfo("mptcp.pm.endpoint.misrouted")
        subflows = lab.server.pminfo("mptcp.subflows")
        print(f"misrouted: {found}; subflows {subflows}")
        assert found["2 10.0.3.2%enp3s0"] == 1 and found["1 10.0.2.2%enp2s0"] == 0
        assert subflows["enp2s0"] == 4
    finally:
        lab.server.ip("route del 10.0.3.1/32 dev enp2s0")
        lab.server.ip(f"rule add from 10.0.3.2 pref {priority} table {table}")
    wait_for(lambda: lab.server.pminfo("mptcp.subflows")["enp3s0"] == 2, message="routing did not come back")


def test_pmrep_shows_a_column_for_each_interface(lab):
    """The command of the README gives a table with the interfaces' names over the columns."""
    out = lab.client.pcp("pmrep", "mptcp.subflows", "network.interface.in.bytes", "-t2", "-s2").stdout
    print(out)
    lines = [line for line in out.splitlines() if line.strip()]
    assert lines[1].split() == ["lo", *LINKS] * 2
    assert re.fullmatch(r"(\s*\d+){4}(\s+\d[\d.]*){4}\s*", lines[-1])
    assert lines[-1].split()[1:4] == ["2", "2", "2"]


def test_a_link_goes_down_and_comes_back(lab):
    """The sender sees the path stall, the traffic moves, sole paths are told; then all is as before."""
    client, server = lab.client, lab.server
    client.link_down(3)
    try:
        wait_for(lambda: client.pminfo("mptcp.interface.up")["enp3s0"] == 0, message="link still up")
        wait_for(lambda: client.pminfo("mptcp.subflows")["enp3s0"] == 0,
                 message="packets cannot leave by a link that is down")
        assert client.pminfo("mptcp.redundancy.connections")["2"] == 2
        wait_for(lambda: server.pminfo("mptcp.interface.stalled_subflows")["enp3s0"] >= 1, timeout=20,
                 message="the sender saw no stalled subflow")
        moved = growth(client, "mptcp.interface.in.bytes", 2)
        print(f"one link down, bytes in 2 s: {moved}")
        assert moved["enp3s0"] == 0 and moved["enp1s0"] > 2e6 and moved["enp2s0"] > 2e6
        assert client.pminfo("mptcp.interface.sole_path_connections")["enp1s0"] == 0
        client.link_down(2)
        wait_for(lambda: client.pminfo("mptcp.interface.up")["enp2s0"] == 0, message="link still up")
        wait_for(lambda: client.pminfo("mptcp.redundancy.connections")["1"] == 2, message="still two live paths")
        sole = client.pminfo("mptcp.interface.sole_path_connections")
        print(f"two links down: sole path of {sole}")
        assert sole == {"lo": 0, "enp1s0": 2, "enp2s0": 0, "enp3s0": 0}
    finally:
        client.link_up(2)
        client.link_up(3)
    wait_for(lambda: all(client.pminfo("mptcp.subflows")[link] == 2 for link in LINKS), message="subflows not back")
    wait_for(lambda: growth(client, "mptcp.interface.in.bytes", 1)["enp3s0"] > 1e5, timeout=40,
             message="no traffic on the link that came back")
    assert client.pminfo("mptcp.interface.sole_path_connections")["enp1s0"] == 0


def test_counters_only_grow(lab):
    """Twenty samples in a row, with a link flapping: no counter of an interface ever falls."""
    metrics = [f"mptcp.interface.{name}" for name in ("in.bytes", "out.bytes", "out.retrans_bytes", "subflows_opened",
                                                      "subflows_closed")]
    last = {}
    for number in range(20):
        if number % 6 == 2:
            lab.client.link_down(2)
        if number % 6 == 4:
            lab.client.link_up(2)
        for metric in metrics:
            for name, value in lab.client.pminfo(metric).items():
                assert value >= last.get((metric, name), 0), f"{metric} of {name} fell"
                last[metric, name] = value
        time.sleep(0.15)
    lab.client.link_up(2)
    print(f"20 samples of {len(metrics)} counters never fell; in.bytes at the end: "
          f"{ {name: value for (metric, name), value in last.items() if metric.endswith('.in.bytes')} }")
