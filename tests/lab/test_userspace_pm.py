# SPDX-License-Identifier: GPL-2.0-or-later
"""The path manager in user space: mptcpd opens the subflows, and the agent shows what it did."""

import pytest

from . import Lab, missing, wait_for
from .client import pcp_mptcp_json
from .scenarios import userspace
from .scenarios.counters import AtLeast, counters, quiet, rises
from .scenarios.userspace import Mptcpd

LINKS = ("enp1s0", "enp2s0", "enp3s0")
LIMITS = ("subflows_max", "addresses.signalled_max", "addresses.accepted_max")
ONE_PATH = dict.fromkeys(("event.created", "event.established"), 1)


@pytest.fixture(scope="module")
def lab():
    """A lab without endpoints and limits: who wants paths has to make them."""
    problems = missing() + userspace.missing()
    if problems:
        pytest.skip("; ".join(problems))
    with Lab() as built:
        for host in (built.client, built.server):
            host.mptcp(subflows=0, add_addr_accepted=0)
            host.start_pcp()
        yield built


@pytest.fixture
def in_userspace(lab):
    """The paths of new connections are user space's business."""
    for host in (lab.client, lab.server):
        userspace.use_userspace(host)
    yield
    for host in (lab.client, lab.server):
        userspace.use_userspace(host, False)


def subflows(host):
    """Subflows of each link."""
    return [host.pminfo("mptcp.subflows")[link] for link in LINKS]


def said(host, *argv):
    """What `pcp mptcp` says to programs."""
    found = pcp_mptcp_json(host, *argv, "-t", "0.3", "-s", "1")[argv[0] if argv else "overview"]
    print(f"{host.name} {' '.join(argv)}: {found.get('verdict') or found['findings']}")
    return found


def test_the_settings_say_who_manages(lab, in_userspace):
    """pm_type and path_manager, before and after."""
    def settings():
        return [(host.pminfo("mptcp.sysctl.pm_type")[None], host.pminfo("mptcp.sysctl.path_manager")[None])
                for host in (lab.client, lab.server)]
    wait_for(lambda: settings() == [(1, "userspace")] * 2, message=lambda: f"pm_type 1, but {settings()}")
    for host in (lab.client, lab.server):
        userspace.use_userspace(host, False)
    wait_for(lambda: settings() == [(0, "kernel")] * 2, message=lambda: f"pm_type 0, but {settings()}")


def test_without_mptcpd_there_is_one_path(lab, in_userspace):
    """Endpoints and limits of the kernel do nothing for a connection whose paths user space manages."""
    lab.tutorial()
    try:
        before = quiet(lab.client, lab.server)
        with lab.hold(1, payload=b"x" * 1000) as held:
            for host, old in zip((lab.client, lab.server), before):
                wait_for(lambda: subflows(host) == [1, 0, 0], message=lambda: f"{host.name}: {subflows(host)}")
                grew = {name: value for name, value in rises(old, counters(host)).items() if name.startswith("event.")}
                print(f"{host.name}: {grew}")
                assert grew == ONE_PATH
            assert lab.server.pminfo("mptcp.pm.endpoints")[None] == 2
            assert set(lab.server.pminfo("mptcp.pm.endpoint.subflows").values()) == {0}
            for host in (lab.client, lab.server):
                found = said(host, "why", str(held.port))
                assert (found["healthy"], found["verdict"]) == (False, "the userspace path manager opened no further "
                                                                "subflow")
                assert found["mend"] == ["is mptcpd running, and with which plugins? mptcpd(8)"]
                assert not any(step["level"] == "BAD" for step in found["steps"])
            found = said(lab.server)
            assert found["redundancy"]["1"] == 1 and {one["subflows"] for one in found["endpoints"]} == {0}
            assert [(one["rule"], one["level"]) for one in found["findings"]] == [("endpoint_unused", "note")]
            assert "2 endpoints of the kernel without use: a program in userspace" in found["findings"][0]["text"]
    finally:
        for host in (lab.client, lab.server):
            host.ip("mptcp endpoint flush")
            host.mptcp(subflows=0, add_addr_accepted=0)


def test_mptcpd_opens_a_subflow_on_each_link(lab, in_userspace):
    """It announces ports of its own and joins them; there are no endpoints, and the connection has no limits."""
    client, server = lab.client, lab.server
    with Mptcpd(server), Mptcpd(client) as daemon:
        before = quiet(client, server)
        with lab.hold(2, payload=b"x" * 1000) as held:
            for host in (client, server):
                wait_for(lambda: subflows(host) == [2, 2, 2],
                         message=lambda: f"{host.name}: {subflows(host)}; mptcpd: {daemon.log()[-500:]}")
                assert host.pminfo("mptcp.redundancy.connections")["3"] == 2
                assert host.pminfo("mptcp.pm.endpoints")[None] == 0
                limits = {name: set(host.pminfo(f"mptcp.connection.{name}").values()) for name in LIMITS}
                assert limits == dict.fromkeys(LIMITS, {0}), f"{host.name}: {limits}"
            at_client, at_server = (rises(old, counters(host)) for old, host in zip(before, (client, server)))
            print(f"client {at_client}\nserver {at_server}")
            events = {"event.created": 2, "event.established": 2, "event.sub_established": 4}
            # The kernel announces again what was not confirmed, which is told again.
            expected = {**events, "event.announced": AtLeast(4), "mib.mpjoinsyntx": 4, "mib.mpjoinsynackrx": 4,
                        "mib.mpjoinportsynackrx": 4, "mib.portadd": AtLeast(4), "mib.addaddr": AtLeast(4)}
            assert {name: at_client.get(name) for name in expected} == expected
            expected = {**events, "mib.mpjoinsynrx": 4, "mib.mpjoinportsynrx": 4, "mib.mpjoinackrx": 4,
                        "mib.mpjoinportackrx": 4, "mib.addaddrtx": AtLeast(4)}
            assert {name: at_server.get(name) for name in expected} == expected
            for host in (client, server):
                found = said(host)
                assert (found["connections"], found["redundancy"]["3"], found["findings"]) == (2, 2, [])
                assert {link["name"]: link["subflows"] for link in found["links"] if link["carried"]} == {
                    link: 2 for link in LINKS}
                found = said(host, "why", str(held.port))
                assert found["healthy"] and "3 live paths over enp1s0, enp2s0, enp3s0" in found["verdict"]
                assert {step["name"]: step["text"] for step in found["steps"]}["limits"].startswith(
                    "a program in userspace (mptcpd) decides about subflows")
            # Each announced address has a listener of mptcpd, that takes joins and no connections.
            services = server.pminfo("mptcp.service.mptcp_connections")
            print(f"services: {services}")
            assert services.pop(str(held.port)) == 2
            assert len(services) == 4 and set(services.values()) == {0}
            wait_for(lambda: list(server.pminfo("mptcp.service.command").values()).count("mptcpd") == 4,
                     message="mptcpd's listeners are not its own")


def test_a_download_uses_what_mptcpd_opened(lab, in_userspace):
    """iperf3 gets all three links; and keeps them when mptcpd is gone, as a path manager only opens and closes."""
    client, server = lab.client, lab.server
    quiet(client, server)
    with Mptcpd(server), Mptcpd(client):
        download = lab.iperf3(seconds=60, reverse=True)
        wait_for(lambda: subflows(client) == [2, 2, 2], message=lambda: f"{subflows(client)}")
    try:
        before = client.pminfo("mptcp.interface.in.bytes")
        wait_for(lambda: all(client.pminfo("mptcp.interface.in.bytes")[link] > before[link] + 1e6 for link in LINKS),
                 message="not all links carry the download")
        assert subflows(client) == subflows(server) == [2, 2, 2]
        # Who comes now gets one path.
        with lab.hold(1):
            wait_for(lambda: subflows(client) == [3, 2, 2], message=lambda: f"{subflows(client)}")
        assert download.client.poll() is None, "iperf3 ended"
    finally:
        download.stop()


def test_addr_adv_configures_the_kernel(lab):
    """mptcpd's default plugin makes endpoints of all addresses and raises limits; the kernel opens the subflows."""
    client, server = lab.client, lab.server
    quiet(client, server)
    assert client.pminfo("mptcp.pm.endpoints")[None] == server.pminfo("mptcp.pm.endpoints")[None] == 0
    try:
        with Mptcpd(server, "addr_adv", "signal"), Mptcpd(client, "addr_adv", "subflow"):
            for host, flag in ((client, "subflow"), (server, "signal")):
                # IPv4 and IPv6 of three links.
                wait_for(lambda: host.pminfo("mptcp.pm.endpoints")[None] == 6,
                         message=lambda: f"{host.name}: {host.ip('mptcp endpoint')}")
                wait_for(lambda: set(host.pminfo(f"mptcp.pm.endpoint.{flag}").values()) == {1})
                wait_for(lambda: host.pminfo("mptcp.pm.limits.subflows")[None] == 8,
                         message=lambda: f"{host.name}: limits {host.ip('mptcp limits')}")
            assert client.pminfo("mptcp.pm.limits.add_addr_accepted")[None] == 8
            with lab.hold(1, payload=b"x" * 1000):
                for host in (client, server):
                    # Some joins cross links, and it is chance which of them work.
                    wait_for(lambda: min(subflows(host)) >= 1, message=lambda: f"{host.name}: {subflows(host)}")
                used = server.pminfo("mptcp.pm.endpoint.subflows")
                print(f"endpoints: {used}")
                carrying = {name.split()[1] for name, count in used.items() if count}
                assert carrying == {f"10.0.{n}.2%{link}" for n, link in enumerate(LINKS, 1)}
                assert {count for name, count in used.items() if "fd00:" in name} == {0}
    finally:
        for host in (client, server):
            host.ip("mptcp endpoint flush")
            host.mptcp(subflows=0, add_addr_accepted=0)
