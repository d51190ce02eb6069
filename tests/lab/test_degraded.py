# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections that lost live subflows, and traffic that moves to a backup link and back."""

import re
import time

import pytest

from . import wait_for

HELD = 5
ROLES = ("client", "server")


def degraded(host):
    """How many connections have lost live subflows."""
    return host.pminfo("mptcp.redundancy.degraded_connections")[None]


def losses(host):
    """[(live subflows, most that it had)] of each connection."""
    live, most = (host.pminfo(f"mptcp.connection.live_subflows{name}") for name in ("", "_most"))
    return sorted((live[name], most[name]) for name in live.keys() & most.keys())  # two fetches


# Redundancy.


@pytest.fixture
def held(lab):
    """Idle connections of three subflows each; both hosts have seen them whole."""
    with lab.hold(HELD) as connections:
        for role in ROLES:
            host = getattr(lab, role)
            wait_for(lambda: host.pminfo("mptcp.redundancy.connections")["3"] == HELD,
                     message=f"{role}: not all connections have three live subflows: {losses(host)}")
        yield connections


def test_a_link_that_goes_and_comes_back(lab, held):
    """All connections are degraded while it is down, and none afterwards."""
    client = lab.client
    assert degraded(client) == 0 and losses(client) == [(3, 3)] * HELD
    client.link_down(3)
    try:
        wait_for(lambda: degraded(client) == HELD, message=f"one link down: {losses(client)}")
        assert losses(client) == [(2, 3)] * HELD
        client.link_down(2)
        wait_for(lambda: losses(client) == [(1, 3)] * HELD, message=f"two links down: {losses(client)}")
        assert degraded(client) == HELD
        print(f"two links down: {degraded(client)} degraded, (live, most) {losses(client)}")
    finally:
        client.link_up(2)
        client.link_up(3)
    wait_for(lambda: degraded(client) == 0, message=f"links are up: {losses(client)}")
    assert losses(client) == [(3, 3)] * HELD


def test_new_connections_are_not_degraded(lab, held):
    """One that began without the link never had more; it gets more, and that is no loss either."""
    client = lab.client
    client.link_down(3)
    try:
        wait_for(lambda: degraded(client) == HELD, message=f"one link down: {losses(client)}")
        with lab.hold(2):
            wait_for(lambda: losses(client) == [(2, 2)] * 2 + [(2, 3)] * HELD,
                     message=f"two new ones without the link: {losses(client)}")
            assert degraded(client) == HELD
    finally:
        client.link_up(3)
    wait_for(lambda: degraded(client) == 0, message=f"link is up: {losses(client)}")


# Backup.


def by_link(host, direction):
    """(backup bytes, all bytes) by interface: of one fetch, so that the one can be compared with the other."""
    names = [f"mptcp.interface.{direction}.{part}" for part in ("backup_bytes", "bytes")]
    text = host.pcp("pminfo", "-f", *names).stdout
    part, whole = (dict(re.findall(r'inst \[\d+ or "(.*?)"\] value (\d+)', one)) for one in
                   re.split(f"^{re.escape(names[1])}$", text, flags=re.MULTILINE))
    return {name: (int(part[name]), int(whole[name])) for name in whole}


def growth(before, now):
    """By interface."""
    return {name: tuple(new - old for new, old in zip(now[name], before[name])) for name in now}


def test_traffic_moves_to_the_backup_link(lab):
    """Nothing is carried by it before; then all that it carries is backup's, on the sender and on the receiver."""
    client, server = lab.client, lab.server
    server.ip("mptcp endpoint flush")
    server.endpoint(2, "signal", "backup")
    ways = ((server, "out"), (client, "in"))
    traffic = None
    try:
        traffic = lab.iperf3(seconds=60, reverse=True)
        for host in (client, server):
            wait_for(lambda: host.pminfo("mptcp.interface.backup_subflows").get("enp2s0") == 2,
                     message=f"{host.name}: no backup subflow of either connection")
        before = {host.name: by_link(host, way) for host, way in ways}
        time.sleep(2)
        for host, way in ways:
            grown = growth(before[host.name], by_link(host, way))
            print(f"{host.name}: both up, (backup, all) {way} {grown}")
            assert grown["enp1s0"][0] == 0 and grown["enp1s0"][1] > 2e6
            assert grown["enp2s0"][0] == grown["enp2s0"][1] < 0.01 * grown["enp1s0"][1]
        client.link_down(1)
        wait_for(lambda: growth(before["client"], by_link(client, "in"))["enp2s0"][1] > 5e6, timeout=30,
                 message="no traffic moved to the backup link")
        assert degraded(client) == 2
        for host, way in ways:
            grown = growth(before[host.name], by_link(host, way))
            print(f"{host.name}: main link down, (backup, all) {way} {grown}")
            assert grown["enp2s0"][0] == grown["enp2s0"][1] > 4e6  # to the byte
            assert grown["enp1s0"][0] == 0 and grown["enp3s0"] == (0, 0)
    finally:
        client.link_up(1)
        if traffic:
            traffic.stop()
        server.ip("mptcp endpoint flush")
        for number in (2, 3):
            server.endpoint(number, "signal")
    for host, way in ways:
        wait_for(lambda: host.pminfo("mptcp.subflows")["enp2s0"] == 0, timeout=20, message=f"{host.name}: not closed")
        grown = growth(before[host.name], by_link(host, way))
        print(f"{host.name}: at the end, (backup, all) {way} {grown}")
        assert grown["enp2s0"][0] == grown["enp2s0"][1] > 4e6  # last words and all
        assert grown["enp1s0"][0] == 0
