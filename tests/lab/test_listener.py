# SPDX-License-Identifier: GPL-2.0-or-later
"""What is heard between samples: events, ends, services, owners; and what happens when it cannot be heard."""

import os
import pwd
import signal
import time
from pathlib import Path

import pytest

from . import wait_for


@pytest.fixture(autouse=True)
def quiet(lab):
    """Nothing of the test before is under way."""
    for host in (lab.client, lab.server):
        wait_for(lambda host=host: value(host, "mptcp.agent.subflows") == 0, message="subflows left over")


def value(host, metric):
    """The one value of a metric."""
    return host.pminfo(metric)[None]


def total(host, metric):
    """The sum over all interfaces."""
    return sum(host.pminfo(metric).values())


def wait_for_subflows(host, count):
    """Joins come a moment after the connection is open."""
    wait_for(lambda: sum(host.pminfo("mptcp.subflows").values()) == count,
             message=f"not {count} subflows on {host.name}")


def kill(host, port, source):
    """End the subflows from an address, as an administrator would."""
    host.run("ss", "-K", "dport", "=", f":{port}", "src", source, check=False)


def test_events_tell_why_subflows_closed(lab):
    """One killed by hand: an error here, a reset by the peer there; the connection goes on with two."""
    before = {host: host.pminfo("mptcp.event.sub_closed")[None] for host in (lab.client, lab.server)}
    with lab.hold(4, payload=b"x" * 1000) as held:
        wait_for_subflows(lab.client, 12)
        created = value(lab.client, "mptcp.event.created"), value(lab.client, "mptcp.event.sub_established")
        kill(lab.client, held.port, lab.client.address(2))
        for host, error in ((lab.client, "ECONNABORTED"), (lab.server, "ECONNRESET")):
            wait_for(lambda host=host: value(host, "mptcp.event.sub_closed") == before[host] + 4,
                     message="closings not told")
            found = host.pminfo("mptcp.event.subflow_closed_by.error")
            print(host.name, "closed by", found, host.pminfo("mptcp.event.subflow_closed_by.reason"))
            assert found[error] >= 4
        wait_for(lambda: list(lab.client.pminfo("mptcp.connection.subflows").values()) == [2] * 4,
                 message="not two subflows each")
        assert created[0] >= 4 and created[1] >= 8


def test_an_initial_subflow_that_is_killed_counts_as_closed(lab):
    """Though the kernel tells of its end only with that of the connection; what it had received is booked."""
    before = lab.client.pminfo("mptcp.interface.subflows_closed")["enp1s0"]
    received = lab.client.pminfo("mptcp.interface.in.bytes")["enp1s0"]
    with lab.hold(3, payload=b"x" * 50_000) as held:
        wait_for_subflows(lab.client, 9)
        truth = sum(int(line.split("bytes_received:")[1].split()[0]) for line in lab.client.sockets(
            f"( dport = :{held.port} and src {lab.client.address(1)} )") if "bytes_received" in line)
        kill(lab.client, held.port, lab.client.address(1))
        wait_for(lambda: lab.client.pminfo("mptcp.interface.subflows_closed")["enp1s0"] == before + 3, timeout=8,
                 message="initial subflows not counted as closed")
        booked = lab.client.pminfo("mptcp.interface.in.bytes")["enp1s0"] - received
        print(f"initial subflows had received {truth}, booked {booked}")
        assert truth > 0 and booked == truth


def test_services_and_owners(lab):
    """Who listens, who speaks MPTCP with it and who does not, and what programs these are."""
    with lab.hold(5) as mptcp, lab.hold(3, port=mptcp.port + 500, client_mptcp=False) as plain:
        def command(host, metric, count):
            wait_for(lambda: list(host.pminfo(metric).values()) == ["python3"] * count, timeout=8,
                     message=f"{metric}: {host.pminfo(metric)}")

        for name, expected in (("mptcp_connections", (5, 0)), ("tcp_connections", (0, 3)), ("connections", (5, 3))):
            found = lab.server.pminfo(f"mptcp.service.{name}")
            print(name, found)
            assert (found[str(mptcp.port)], found[str(plain.port)]) == expected
        assert lab.server.pminfo("mptcp.service.addresses")[str(mptcp.port)] == "0.0.0.0"
        command(lab.server, "mptcp.service.command", 2)
        command(lab.client, "mptcp.connection.command", 5)
        assert set(lab.client.pminfo("mptcp.connection.pid").values()) == {mptcp.client.pid}
        assert lab.server.pminfo("mptcp.service.pid")[str(plain.port)] == plain.server.pid
    wait_for(lambda: lab.server.pminfo("mptcp.service.port") == {}, message="services not gone")


def test_few_subflows_among_many_sockets_are_asked_for_one_by_one(lab):
    """And the values are the same as ever."""
    with lab.hold(300, client_mptcp=False, server_mptcp=False), lab.hold(2, payload=b"x" * 5000):
        wait_for_subflows(lab.client, 6)
        spared = value(lab.client, "mptcp.agent.lookup_samples")
        read = value(lab.client, "mptcp.agent.sockets")
        time.sleep(0.2)  # older than a sample may be
        subflows = lab.client.pminfo("mptcp.subflows")
        received = lab.client.pminfo("mptcp.subflow.in.bytes")
        print(f"{value(lab.client, 'mptcp.agent.sockets') - read} sockets read, subflows {subflows}")
        assert value(lab.client, "mptcp.agent.lookup_samples") > spared
        assert value(lab.client, "mptcp.agent.sockets") - read < 100
        assert [subflows[link] for link in lab.client.links] == [2, 2, 2]
        assert len(received) == 6 and sum(received.values()) == 10_000


def test_a_renamed_interface_keeps_its_counters(lab):
    """Under its old name, while the new one starts at 0; and it goes on when the name comes back."""
    host = lab.client
    with lab.hold(2, payload=b"x" * 20_000):
        pass
    before = host.pminfo("mptcp.interface.out.bytes")
    host.ip("link set enp3s0 down")
    host.ip("link set enp3s0 name other3")
    wait_for(lambda: "other3" in host.pminfo("mptcp.interface.out.bytes"), message="the new name is not seen")
    renamed = host.pminfo("mptcp.interface.out.bytes")
    print(f"before {before}, renamed {renamed}")
    assert renamed == {**before, "other3": 0}
    host.ip("link set other3 name enp3s0")
    host.link_up(3)
    wait_for(lambda: host.pminfo("mptcp.interface.up")["enp3s0"] == 1, message="the old name is not back")
    assert host.pminfo("mptcp.interface.out.bytes") == before


def test_an_overrun_is_counted_and_mended(lab):
    """The agent stands still while a small buffer runs over: counted, nothing falls, all is exact afterwards."""
    host, metrics = lab.server, ("in.bytes", "out.bytes", "subflows_opened", "subflows_closed")
    host.configure("receive_buffer = 131072\n")

    def totals():
        return {metric: host.pminfo(f"mptcp.interface.{metric}") for metric in metrics}

    def not_fallen(old, new):
        return all(new[metric][link] >= old[metric][link] for metric in metrics for link in old[metric])

    with lab.hold(10, payload=b"x" * 1000):
        before = totals()
        os.kill(host.agent_pid(), signal.SIGSTOP)
        try:
            for _ in range(3):
                with lab.hold(60, payload=b"x" * 1000):
                    pass
            stay = lab.hold(5, payload=b"x" * 1000)
        finally:
            os.kill(host.agent_pid(), signal.SIGCONT)
        wait_for(lambda: value(host, "mptcp.agent.overruns") > 0, message="no overrun told")
        after = totals()
        print(f"{value(host, 'mptcp.agent.overruns')} overruns; before {before}, after {after}")
        assert not_fallen(before, after)
        wait_for_subflows(host, 45)
        stay.close()
    wait_for(lambda: value(host, "mptcp.agent.subflows") == 0, timeout=15, message="subflows left over")
    settled = totals()
    assert not_fallen(after, settled)
    with lab.hold(20, payload=b"x" * 1000):
        wait_for_subflows(host, 60)
    wait_for(lambda: total(host, "mptcp.interface.subflows_closed")
             == sum(settled["subflows_closed"].values()) + 60, message="closings after the overrun not seen")
    received = total(host, "mptcp.interface.in.bytes") - sum(settled["in.bytes"].values())
    print(f"after it 20 connections of 1000 bytes: {received} booked, at most 60 of them for FINs")
    assert 20_000 <= received <= 20_060
    assert "ran over" in host.agent_log()
    host.configure("")


@pytest.mark.parametrize("settings, mode", [("", "events"), ("listener = no\n", "samples")])
def test_the_agent_says_how_it_counts(lab, settings, mode):
    """And without the listener, short connections are not seen."""
    host = lab.client
    host.configure(settings)
    assert value(host, "mptcp.agent.mode") == mode
    with lab.hold(5, payload=b"x" * 1000):
        pass
    time.sleep(0.5)
    booked = total(host, "mptcp.interface.out.bytes")
    print(f"{mode}: 5 connections of 1000 bytes, {booked} booked")
    assert booked == (5000 if mode == "events" else 0)
    host.configure("")


RULESET = Path(__file__).resolve().parents[2] / "pmda-mptcp" / "mptcp.nft"


def test_counters_of_nftables_are_read_where_they_are_wanted(lab):
    """Loaded by hand and turned on: wire bytes of each link, and the mode says so; else no value."""
    host, metric = lab.client, "mptcp.interface.wire.out.bytes"
    pytest.importorskip("nftables", reason="Debian and Fedora package python3-nftables")
    host.run("nft", "-f", RULESET)
    try:
        assert host.pminfo(metric) == {}
        host.configure("nftables = yes\n")
        assert value(host, "mptcp.agent.mode") == "events+nftables"
        with lab.hold(5, payload=b"x" * 20_000):
            pass
        wire, payload = host.pminfo(metric), host.pminfo("mptcp.interface.out.bytes")
        print(f"on the wire {wire}, payload {payload}, packets {host.pminfo('mptcp.interface.wire.out.packets')}")
        assert payload["enp1s0"] < wire["enp1s0"] < payload["enp1s0"] * 1.2
        host.run("nft", "delete", "table", "inet", "pcp_mptcp")
        time.sleep(0.2)
        assert host.pminfo(metric) == {} and value(host, "mptcp.agent.mode") == "events"
        assert "load mptcp.nft" in host.agent_log()
    finally:
        host.run("nft", "delete", "table", "inet", "pcp_mptcp", check=False)
        host.configure("")


UNPRIVILEGED = """import os, runpy, sys
os.setgroups([])
os.setgid({gid})
os.setuid({uid})
sys.path.insert(0, os.path.dirname({agent!r}))
sys.argv[0] = {agent!r}
runpy.run_path({agent!r}, run_name="__main__")
"""


def test_without_cap_net_admin(lab):
    """It says so; ends of sockets are still told, so what a sample has seen once is booked to its end."""
    host = lab.client
    user = pwd.getpwnam("pcp")
    script = host.work / "unprivileged.python"
    agent = host.agent
    script.write_text(UNPRIVILEGED.format(uid=user.pw_uid, gid=user.pw_gid, agent=str(agent)), encoding="utf-8")
    host.stop_pcp()
    host.start_pcp(agent=script)
    assert value(host, "mptcp.agent.mode") == "ends"
    print(host.agent_log())
    assert "path-manager events" in host.agent_log()
    with lab.hold(3) as held:
        wait_for_subflows(host, 9)
        held.client.stdin.close()  # no sample is taken from here to the end of the connections
        held.client.wait(10)
    wait_for(lambda: total(host, "mptcp.interface.subflows_closed") == 9, message="ends not told")
    host.stop_pcp()
    host.start_pcp(agent=agent)
