# SPDX-License-Identifier: GPL-2.0-or-later
"""What metrics say of events, of the listener itself, of owners and of nftables' counters."""

import errno

import pytest
from pmdamptcp.config import Config, Processes
from pmdamptcp.credentials import Viewer
from pmdamptcp.kernel import nftables, pm_events
from pmdamptcp.kernel.nftables import Wire
from pmdamptcp.kernel.processes import Process
from pmdamptcp.snapshot import Snapshot

from . import messages as m
from .hosts import Host
from .kernels import METRICS, named, values

EPERM = PermissionError(errno.EPERM, "Operation not permitted")
REASON, ERROR = "mptcp.event.subflow_closed_by.reason", "mptcp.event.subflow_closed_by.error"


@pytest.fixture
def host(monkeypatch, log):
    """A host that is listened to, with nothing on it."""
    return Host(monkeypatch, log).start()


def events(host):
    """All event counters that have a value."""
    found = {name: values(host.snapshot, f"mptcp.event.{name}") for name in pm_events.NAMES.values()}
    return {name: value for name, value in found.items() if value is not None}


# Events.


@pytest.mark.parametrize("name", ["host-a", "host-b"])
def test_recorded_events_are_counted_by_kind(host, name):
    """As many as the record has lines of each."""
    data = m.recorded(f"pm_events_{name}.bin")
    host.kernel.events.waiting += m.split(data)
    expected = dict.fromkeys((one for one in pm_events.NAMES.values() if not one.startswith("listener_")), 0)
    for one in m.told(f"pm_events_{name}.txt"):
        expected[one["ev"].lower()] = expected.get(one["ev"].lower(), 0) + 1
    assert events(host) == expected
    assert values(host.snapshot, "mptcp.agent.events") == len(m.split(data))
    reasons = named(host.snapshot, REASON)
    assert reasons.pop("unspecified") == (2 if name == "host-b" else 0)
    assert not any(reasons.values())
    assert named(host.snapshot, ERROR) == ({"ECONNRESET": 2} if name == "host-b" else {"ECONNABORTED": 2})


def test_a_fetch_hears_what_just_happened(host):
    """It does not wait for the listener's turn."""
    assert events(host)["created"] == 0
    host.open(11)
    host.clock.now += 1
    assert events(host)["created"] == 1


@pytest.mark.parametrize("kind, name", [(15, "listener_created"), (16, "listener_closed")])
def test_events_that_older_kernels_do_not_tell_of(host, kind, name):
    """No value before the first."""
    assert name not in events(host)
    host.kernel.events.waiting.append(m.generic(kind, []))
    host.clock.now += 1
    assert events(host)[name] == 1


def test_reasons_and_errors_by_name(host):
    """RFC 8684 section 3.6 and errno(3); what has no name has a number.  Of SUB_CLOSED only."""
    host.open(11)
    for reason, error in ((None, None), (0, 0), (3, 110), (3, 111), (6, 110), (9, 255)):
        host.tell(m.SUB_CLOSED, 11, reason=reason, error=error)
    host.tell(m.SUB_ESTABLISHED, 11, reason=1, error=12)
    assert named(host.snapshot, REASON) == {
        "unspecified": 1, "mptcp_error": 0, "no_resources": 0, "prohibited": 2, "outstanding_data": 0,
        "bad_performance": 0, "middlebox": 1, "reason_9": 1}
    assert values(host.snapshot, REASON)[4] == 2
    assert named(host.snapshot, ERROR) == {"ETIMEDOUT": 2, "ECONNREFUSED": 1, "errno_255": 1}
    assert events(host)["sub_closed"] == 6


def test_without_events_there_are_no_counters(monkeypatch, log):
    """Nor instances; ends are counted still."""
    host = Host(monkeypatch, log, events=EPERM).start()
    assert events(host) == {}
    assert values(host.snapshot, REASON) == values(host.snapshot, ERROR) == {}
    assert values(host.snapshot, "mptcp.agent.events") is None
    host.open(11).end(11)
    assert values(host.snapshot, "mptcp.agent.ends") == 1


# The agent.


@pytest.mark.parametrize("answers, mode", [
    ({}, "events"), ({"events": EPERM}, "ends"), ({"events": EPERM, "ends": EPERM}, "samples"), ({"ends": EPERM},
                                                                                                 "samples")])
@pytest.mark.parametrize("wires, suffix", [(None, ""), ({}, "+nftables"), (EPERM, "")])
def test_mode(monkeypatch, log, answers, mode, wires, suffix):
    """Each with nftables' counters, without, and refused."""
    host = Host(monkeypatch, log, **answers)

    def read():
        if isinstance(wires, Exception):
            raise wires
        return wires

    monkeypatch.setattr(nftables, "read", read)
    snapshot = host.snapshot = host.kernel.snapshot(log, nftables=wires is not None)
    snapshot.sampler.listener.open(0)
    assert values(snapshot, "mptcp.agent.mode") == mode + suffix


def test_what_the_listener_did(host):
    """Each of its numbers, after something that makes it."""
    def agent():
        names = "events ends lookups overruns rounds faults truncated unrouted subflows lookup_samples".split()
        return {name: values(host.snapshot, f"mptcp.agent.{name}") for name in names}

    assert not any(value for name, value in agent().items() if name != "lookup_samples")
    host.open(11).open(12, joined=True).tick()
    host.tick()  # one lookup
    host.end(11, zeroed=True)
    host.tick()
    host.reroute("10.0.2.1", None)
    host.open(13, "l2", joined=True, sent=7).tick()
    host.end(13)
    host.kernel.ends.overrun = True
    host.tick()
    host.listener._complain("a")
    host.sample()
    found = agent()
    assert found == {"events": 3, "ends": 2, "lookups": 1, "overruns": 1, "rounds": 1, "faults": 1, "truncated": 1,
                     "unrouted": 7, "subflows": 1, "lookup_samples": found["lookup_samples"]}
    assert found["lookup_samples"] == host.sampler.lookup_samples > 0
    host.listener.cpu = 1.5
    assert values(host.snapshot, "mptcp.agent.listener_time") == 1500000


@pytest.mark.parametrize("broken", ["events", "ends", "lookup"])
def test_malformed_messages_of_the_listener_are_counted(host, monkeypatch, broken):
    """With those of samples."""
    if broken == "lookup":
        host.open(11).tick()
        monkeypatch.setattr("pmdamptcp.kernel.sock_diag.look_up", lambda requests: [b"\1", b"\2"])
        host.tick()
        expected = 2
    else:
        family = m.EVENTS_FAMILY if broken == "events" else m.SOCK_DIAG_BY_FAMILY
        getattr(host.kernel, broken).waiting.append(m.HEADER.pack(16, family, 0, 0, 0))
        host.tick()
        expected = 1
    monkeypatch.undo()
    assert host.sampler.malformed == expected


# Owners.


class Owners:
    """In the place of the child: knows some inodes, remembers what it was asked for."""

    def __init__(self, known):
        self.known, self.wanted = known, []

    def want(self, inodes):
        """Remember."""
        self.wanted.append(set(inodes))

    def of(self, inode):
        """Who has it."""
        return self.known.get(inode)


def test_owners_of_connections_and_services(kernel, log):
    """Those of the record: asked for together, once for each picture; unknown ones have no value."""
    inodes = {one["ino"] for family in ("af2", "af10") for one in m.truth(f"mptcp_dump_host-a_{family}.txt")}
    first, second = sorted(inodes)[:2]
    kernel.listeners = [message for message in m.sockets("mptcp_dump_host-b_af10.bin") if message[17] == m.LISTEN]
    owners = Owners({first: Process(7, "seven"), 1111712: Process(9, "nine")})
    snapshot = Snapshot(Config(sample_age=0.1), log, True, owners)
    snapshot.viewer = lambda: Viewer(0, True)
    assert list(named(snapshot, "mptcp.connection.pid").values()) == [7]
    assert list(named(snapshot, "mptcp.connection.command").values()) == ["seven"]
    assert named(snapshot, "mptcp.service.pid") == {"5040": 9}
    assert named(snapshot, "mptcp.service.command") == {"5040": "nine"}
    assert owners.wanted == [inodes | {1111712}]
    owners.known[second] = Process(8, "eight")
    assert sorted(named(snapshot, "mptcp.connection.pid").values()) == [7, 8]
    kernel.dumps[m.MPTCP] = [m.done()]
    kernel.clock.now += 1
    assert named(snapshot, "mptcp.connection.pid") == {}
    assert owners.wanted[1:] == [{1111712}]


@pytest.mark.parametrize("name", ["mptcp.connection.pid", "mptcp.connection.command", "mptcp.service.pid",
                                  "mptcp.service.command"])
def test_without_a_child_nobody_owns_anything(kernel, log, name):
    """The setting `processes` is off, say."""
    assert values(kernel.snapshot(log), name) == {}


# Wires.

WIRES = {"l1": Wire(1, 2, 3, 4), "l2": Wire(None, None, 5, 6), "gone": Wire(7, 8, 9, 10)}


@pytest.mark.parametrize("name, expected", [
    ("in.bytes", {"l1": 1}), ("in.packets", {"l1": 2}), ("out.bytes", {"l1": 3, "l2": 5}),
    ("out.packets", {"l1": 4, "l2": 6})])
def test_wires_by_interface(kernel, log, monkeypatch, name, expected):
    """Of interfaces that there are; a direction that was never seen has no value."""
    monkeypatch.setattr(nftables, "read", lambda: WIRES)
    snapshot = kernel.snapshot(log, nftables=True)
    snapshot.refresh_links()
    assert named(snapshot, f"mptcp.interface.wire.{name}") == expected


def test_a_fetch_of_wires_needs_no_other_metric(kernel, log, monkeypatch):
    """Interfaces are brought up to date for it, as for those of the same instances."""
    monkeypatch.setattr(nftables, "read", lambda: WIRES)
    assert named(kernel.snapshot(log, nftables=True), "mptcp.interface.wire.in.bytes") == {"l1": 1}


def test_wires_are_not_read_unless_they_are_wanted(kernel, log, monkeypatch):
    """It takes a capability and costs."""
    asked = []
    monkeypatch.setattr(nftables, "read", lambda: asked.append(1) or WIRES)
    snapshot = kernel.snapshot(log)
    for name in METRICS:
        if ".wire." in name:
            assert values(snapshot, name) == {}
    assert values(snapshot, "mptcp.agent.mode") == "samples"
    assert not asked


def test_wires_that_cannot_be_read(kernel, log, monkeypatch):
    """No value, one line in the log."""
    def refuse():
        raise OSError(errno.ENOENT, "no table inet pcp_mptcp: load mptcp.nft")

    monkeypatch.setattr(nftables, "read", refuse)
    snapshot = kernel.snapshot(log, nftables=True)
    for _ in range(2):
        assert values(snapshot, "mptcp.interface.wire.in.bytes") == {}
        kernel.clock.now += 1
    assert len(log) == 1 and "mptcp.nft" in log[0]


def test_owners_for_those_who_may_know(kernel, log):
    """A user sees the own ones; whoever has no credentials is told that it may not, which is not "nobody has it"."""
    first, second = sorted({one["ino"] for family in ("af2", "af10")
                            for one in m.truth(f"mptcp_dump_host-a_{family}.txt")})[:2]
    owners = Owners({first: Process(7, "seven", 1000), second: Process(8, "eight", 0)})
    snapshot = Snapshot(Config(sample_age=0.1), log, True, owners)
    snapshot.refresh_owners()

    def pids(viewer, asked=snapshot):
        asked.viewer = lambda: viewer
        found = []
        for owner, row in asked.owned_connections.values():
            try:
                found.append(getattr(owner(row), "pid", None))
            except PermissionError:
                found.append("hidden")
        return sorted(set(found), key=str)

    assert pids(Viewer(0, True)) == [7, 8, None] or pids(Viewer(0, True)) == [7, 8]
    assert pids(Viewer(1000)) == [7, "hidden"]
    assert pids(Viewer(1001)) == pids(Viewer()) == ["hidden"]
    everybody = Snapshot(Config(sample_age=0.1, processes=Processes.ALL), log, True, owners)
    everybody.refresh_owners()
    assert 7 in pids(Viewer(), everybody) and "hidden" not in pids(Viewer(), everybody)
