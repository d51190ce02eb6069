# SPDX-License-Identifier: GPL-2.0-or-later
"""What the agent's metrics show when something on the path meddles with MPTCP, and that they do not without it."""

import time

import pytest

from . import wait_for
from .scenarios import middlebox
from .scenarios.counters import AtLeast, counters, quiet, rises


def same(*names, count=1):
    """Counters that all rose by the same."""
    return dict.fromkeys(names, count)


# What one connection makes rise where all is well: the start, the two announcements, and the two joins.
CLIENT = same("mib.mpcapablesyntx", "mib.mpcapablesynackrx", "event.created", "event.established")
SERVER = same("mib.mpcapablesynrx", "mib.mpcapableackrx", "event.created", "event.established")
HEARD = same("mib.addaddr", "mib.echoaddtx", "event.announced", count=2)
ANNOUNCED = same("mib.addaddrtx", "mib.echoadd", count=2)
TRIED = same("mib.mpjoinsyntx", count=2)
JOINED = {**TRIED, **same("mib.mpjoinsynackrx", "event.sub_established", count=2)}
WAS_JOINED = same("mib.mpjoinsynrx", "mib.mpjoinackrx", "event.sub_established", count=2)

# fault: rises at the client, rises at the server, live paths as each of them sees it (0: no MPTCP connection),
# and whether the service counts the connection as MPTCP
STARTS = {
    "": (
        {**CLIENT, **HEARD, **JOINED}, {**SERVER, **ANNOUNCED, **WAS_JOINED}, 3, 3, True),
    "strips_mptcp": (
        same("mib.mpcapablesyntx", "mib.mpcapablefallbacksynack"), {}, 0, 0, False),
    "strips_answers": (
        same("mib.mpcapablesyntx", "mib.mpcapablefallbacksynack"),
        same("mib.mpcapablesynrx", "mib.mpcapablefallbackack"), 0, 0, False),
    "drops_mptcp": (
        same("mib.mpcapablesyntx", "mib.mpcapablesyntxdrop", "mib.blackhole"), {}, 0, 0, False),
    "drops_joins": (
        {**CLIENT, **HEARD, **TRIED}, {**SERVER, **ANNOUNCED}, 1, 1, True),
    "resets_joins": (
        {**CLIENT, **HEARD, **TRIED, **same("event.sub_closed", "event.subflow_closed_by.error ECONNREFUSED", count=2)},
        {**SERVER, **ANNOUNCED}, 1, 1, True),
    "strips_joins": (
        {**CLIENT, **HEARD, **TRIED, **same("event.sub_closed", "mib.mprsttx", count=2)},
        {**SERVER, **ANNOUNCED}, 1, 1, True),
    "drops_join_answers": (
        {**CLIENT, **HEARD, **TRIED}, {**SERVER, **ANNOUNCED, **same("mib.mpjoinsynrx", count=2)}, 1, 1, True),
    # The client believes in its joins, the server does not.
    "drops_join_ends": (
        {**CLIENT, **HEARD, **JOINED}, {**SERVER, **ANNOUNCED, **same("mib.mpjoinsynrx", count=2)}, 3, 1, True),
    # The server announces the first address until it is confirmed, then the next.
    "drops_announcements": (
        CLIENT, {**SERVER, "mib.addaddrtx": AtLeast(1)}, 1, 1, True),
    # The announcement is the first packet after the handshake: without an option it ends MPTCP, for the client only.
    "strips_announcements": (
        {"event.created": 1, **same("mib.mpcapablesyntx", "mib.mpcapablesynackrx", "mib.mpcapabledatafallback")},
        {**SERVER, "mib.addaddrtx": AtLeast(1)}, 0, 1, True),
}


@pytest.fixture(autouse=True)
def no_blackhole(lab):
    """MPTCP is not given up for an hour because of a test."""
    yield
    middlebox.forget_blackholes(lab)


def live_paths(host):
    """The live paths of the only connection; 0: there is none that speaks MPTCP."""
    found = [int(paths) for paths, count in host.pminfo("mptcp.redundancy.connections").items() if count]
    assert len(found) <= 1
    return found[0] if found else 0


@pytest.mark.parametrize("fault", STARTS)
def test_a_connection_starts(lab, fault):
    """Exactly these counters rise, on this host, when one connection opens with this box on the path."""
    hosts = client, server = lab.client, lab.server
    *expected, client_paths, server_paths, speaks_mptcp = STARTS[fault]
    before = quiet(*hosts)
    box = getattr(middlebox, fault)(lab).start() if fault else None
    try:
        # Data could be confirmed before the announcement comes, and then it is too late to doubt the peer.
        payload = b"" if fault == "strips_announcements" else b"x" * 10000
        with lab.hold(1, payload=payload) as held:
            seen = []

            def as_expected():
                seen.append([rises(old, counters(host)) for old, host in zip(before, hosts)])
                return seen[-1] == expected

            try:
                wait_for(as_expected, timeout=5)
                time.sleep(0.5)  # and it stays so
            except TimeoutError:
                pass
            as_expected()
            hits = box.hits() if box else {"client": 0, "server": 0}
            print(f"{fault or 'nothing'}: client {seen[-1][0]}, server {seen[-1][1]}, packets met {hits}")
            assert seen[-1][0] == expected[0]
            assert seen[-1][1] == expected[1]
            assert any(hits.values()) == bool(fault)
            assert [live_paths(host) for host in hosts] == [client_paths, server_paths]
            assert client.pminfo("mptcp.connections")[None] == (client_paths > 0)
            assert client.pminfo("mptcp.fallback.connections")[None] == (client_paths == 0)
            service = [server.pminfo(f"mptcp.service.{kind}_connections")[str(held.port)] for kind in ("mptcp", "tcp")]
            assert service == ([1, 0] if speaks_mptcp else [0, 1])
    finally:
        if box:
            box.stop()


def test_after_a_blackhole_mptcp_is_off(lab):
    """The connection after the one that met the blackhole does not even try, and the next does, once reset."""
    hosts = lab.client, lab.server
    with middlebox.drops_mptcp(lab):
        lab.hold(1).close()
    for forgotten, name in ((False, "mib.mpcapablesyntxdisabled"), (True, "mib.mpcapablesynackrx")):
        if forgotten:
            middlebox.forget_blackholes(lab)
        before = quiet(*hosts)
        with lab.hold(1):
            wait_for(lambda: name in rises(before[0], counters(lab.client)), timeout=5,
                     message=lambda: f"{name} did not rise")
            grew = rises(before[0], counters(lab.client))
            print(f"forgotten {forgotten}: {grew}")
            assert (grew == {name: 1}) is not forgotten


@pytest.mark.parametrize("link", [1, 3])
@pytest.mark.parametrize("fault", ["strips_data", "resets_subflows"])
def test_a_subflow_is_broken_later(lab, fault, link):
    """A download loses one path, its initial one too: the sender is told and goes on with the other two."""
    client, server = lab.client, lab.server
    quiet(client, server)
    download = lab.iperf3(seconds=60, reverse=True)
    try:
        wait_for(lambda: server.pminfo("mptcp.redundancy.connections")["3"] == 2, message="not all paths")
        before = [counters(host) for host in (client, server)]
        wait_for(lambda: client.pminfo("mptcp.interface.in.bytes")[client.link(link)] > 0)
        grew = rises(before[1], counters(server))
        assert not any(name.startswith("event.sub") for name in grew), f"without the fault: {grew}"
        with getattr(middlebox, fault)(lab, link) as box:
            # iperf3's control connection is idle: only the data connection meets the box.
            wait_for(lambda: server.pminfo("mptcp.redundancy.connections")["2"] == 1,
                     message=lambda: f"no connection lost a path; packets met {box.hits()}")
            wait_for(lambda: "event.sub_closed" in rises(before[1], counters(server)), message="no event")
            at_client, at_server = (rises(old, counters(host)) for old, host in zip(before, (client, server)))
            print(f"{fault} on link {link}: client {at_client}, server {at_server}, packets met {box.hits()}")
            assert at_server.pop("event.sub_closed") == 1
            assert at_server.pop("event.subflow_closed_by.error ECONNRESET") == 1
            # The client of a stripped subflow resets it itself; whether its reason survives the box is chance.
            at_server.pop("mib.mprstrx", None), at_server.pop("event.subflow_closed_by.reason middlebox", None)
            for grew in (at_server, at_client):  # on a busy machine another path may be late for a moment
                grew.pop("mib.subflowstale", None), grew.pop("mib.subflowrecover", None)
            assert at_server == {}
            assert at_client == ({"mib.mprsttx": 1} if fault == "strips_data" else {})
            assert server.pminfo("mptcp.redundancy.connections")["3"] == 1  # the control connection
        assert download.client.poll() is None, "iperf3 ended"
    finally:
        download.stop()


def test_a_path_dies_silently_and_comes_back(lab):
    """The sender alone notices: stale, then stalled; no event; and the path recovers when the box is gone."""
    client, server = lab.client, lab.server
    quiet(client, server)
    download = lab.iperf3(seconds=60, reverse=True)
    try:
        wait_for(lambda: server.pminfo("mptcp.redundancy.connections")["3"] == 2, message="not all paths")
        before = [counters(host) for host in (client, server)]
        with middlebox.swallows_data(lab, 3):
            wait_for(lambda: "mib.subflowstale" in rises(before[1], counters(server)), message="no stale subflow")
            wait_for(lambda: server.pminfo("mptcp.interface.stalled_subflows")["enp3s0"] == 1, message="none stalled")
            assert server.pminfo("mptcp.redundancy.connections")["2"] == 1
            grew = [rises(old, counters(host)) for old, host in zip(before, (client, server))]
            print(f"client {grew[0]}, server {grew[1]}")
            assert grew[0] == {} and not any(name.startswith("event.") for name in grew[1])
        wait_for(lambda: "mib.subflowrecover" in rises(before[1], counters(server)), timeout=30,
                 message="the path did not come back")
        wait_for(lambda: server.pminfo("mptcp.redundancy.connections")["3"] == 2, message="not all paths again")
        assert server.pminfo("mptcp.interface.stalled_subflows")["enp3s0"] == 0
    finally:
        download.stop()
