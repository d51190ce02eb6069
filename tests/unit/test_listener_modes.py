# SPDX-License-Identifier: GPL-2.0-or-later
"""What the listener can do with what the kernel lets it, its thread, and what its samples cost."""

import errno
import threading
import time

import pytest
from pmdamptcp import listener, sampler
from pmdamptcp.kernel import netlink
from pmdamptcp.records import Link

from . import messages as m
from .hosts import TOKEN, Host
from .kernels import named

EPERM = PermissionError(errno.EPERM, "Operation not permitted")


@pytest.fixture
def host(monkeypatch, log):
    """A host that is listened to, with nothing on it."""
    return Host(monkeypatch, log).start()


# Without some of it.


@pytest.mark.parametrize("answers, mode, told", [
    ({}, "events", []), ({"events": EPERM}, "ends", ["path-manager events"]),
    ({"events": OSError(errno.ENOENT, "the kernel has no MPTCP")}, "ends", ["path-manager events"]),
    ({"events": netlink.Malformed("cut")}, "ends", ["path-manager events"]),
    ({"ends": EPERM}, "samples", ["ends of sockets"]),
    ({"events": EPERM, "ends": EPERM}, "samples", ["ends of sockets", "path-manager events"])])
def test_modes(monkeypatch, log, answers, mode, told):
    """What is refused is said, and the rest is used."""
    host = Host(monkeypatch, log, **answers).start()
    assert host.listener.mode == host.snapshot.mode == mode
    assert [line.split(":")[0] for line in log] == told
    assert (host.listener.events_told is None) == ("events" in answers)
    assert (host.listener.ends_told is None) == ("ends" in answers)
    assert host.listener.complete == (not answers)
    host.tick(times=3).sample()


def test_without_events_each_subflow_that_a_sample_showed_is_booked_to_its_end(monkeypatch, log):
    """Those that no sample showed are not known."""
    host = Host(monkeypatch, log, events=EPERM).start()
    host.open(11, told=False, sent=10).sample()
    host.open(12, told=False, joined=True)
    for cookie in (11, 12):
        host.carry(cookie, sent=100).end(cookie)
    host.tick()
    assert (host.bytes(), host.counts()) == ((0, 100), (1, 1))


def test_without_both_samples_count_alone(monkeypatch, log):
    """As far as the last one before the end."""
    host = Host(monkeypatch, log, events=EPERM, ends=EPERM).start()
    host.open(11, told=False, sent=10).sample()
    host.carry(11, sent=100).end(11)
    for _ in range(3):
        host.sample()
    assert (host.bytes(), host.counts()) == ((0, 10), (1, 1))


@pytest.mark.parametrize("setting, answers, runs", [
    (True, {}, True), (True, {"events": EPERM}, True), (True, {"events": EPERM, "ends": EPERM}, False),
    (False, {}, False)])
def test_the_thread_runs_where_it_has_something_to_listen_to(monkeypatch, log, setting, answers, runs):
    """The setting `listener` and the kernel must allow it."""
    started = []
    host = Host(monkeypatch, log, **answers)
    monkeypatch.setattr(threading.Thread, "start", lambda thread: started.append(thread))
    host.snapshot = host.kernel.snapshot(log, listener=setting)
    host.snapshot.start()
    assert bool(started) is runs
    assert host.snapshot.samples == 1
    assert setting or host.snapshot.mode == "samples"


# The thread.


def until(condition):
    """Wait for the thread."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.mark.parametrize("fault, words", [
    (OSError("broken"), "listener: OSError: broken"), (netlink.Malformed("cut"), "listener: Malformed: cut"),
    (KeyError("bug"), "KeyError: 'bug'")])
def test_a_fault_does_not_end_the_thread(host, monkeypatch, log, fault, words):
    """It is logged once, counted each time, and the next turn comes; after a bug all is looked at anew."""
    monkeypatch.setattr(listener, "MOST", 0.002)
    monkeypatch.setattr(host.listener, "_wait", lambda: None)
    broken, ticks = [], []
    tick = host.listener.tick

    def failing():
        if broken:
            raise type(fault)(*fault.args)
        ticks.append(1)
        tick()

    monkeypatch.setattr(host.listener, "tick", failing)
    broken.append(fault)
    host.listener.start()
    try:
        until(lambda: host.listener.faults >= 3)
        broken.clear()
        until(lambda: len(ticks) >= 2)
        host.open(11, joined=True).end(11)
        until(lambda: host.counts() == (1, 1))
        assert len([line for line in log if words in line]) == 1
        due = host.listener._due
        assert (due <= host.clock.now + listener.SPARE) is isinstance(fault, KeyError)
    finally:
        host.listener.stop()
        host.listener.join(10)
    assert not host.listener.is_alive()
    assert host.listener.cpu > 0
    assert host.listener.daemon


def test_another_fault_is_logged_too(host, log):
    """And the first again after it."""
    for text in ("a", "a", "b", "a"):
        host.listener._complain(text)
    assert log == ["listener: a", "listener: b", "listener: a"]
    assert host.listener.faults == 4


def test_the_thread_holds_the_lock_for_its_turns(host, monkeypatch):
    """A sample that is being taken is not disturbed."""
    monkeypatch.setattr(host.listener, "_wait", lambda: None)
    with host.sampler.lock:
        host.open(11, joined=True)
        host.listener.start()
        time.sleep(0.1)
        assert not host.known()
    until(host.known)
    host.listener.stop()
    host.listener.join(10)


# Samples.


def looked_up(host):
    """How many of its next sample's subflows come from lookups; None when it dumps them."""
    host.dumped.clear()
    before, lookups = host.sampler.lookup_samples, len(host.looked_up)
    host.sample()
    is_dump = m.TCP in host.dumped
    assert host.sampler.lookup_samples == before + (not is_dump)
    assert bool(host.looked_up[lookups:]) is not is_dump
    return None if is_dump else len(host.looked_up[-1])


@pytest.mark.parametrize("subflows, sockets, expected", [(1, 3, None), (1, 4, 1), (5, 19, None), (5, 20, 5)])
def test_few_subflows_are_looked_up_and_many_are_dumped(host, subflows, sockets, expected):
    """A lookup costs as much as four sockets of a dump; the values are the same."""
    for number in range(subflows):
        host.open(11 + number, joined=number > 0, sent=number)
    host.tcp_sockets = sockets
    assert looked_up(host) == expected
    assert len(host.snapshot.sample.subflows) == subflows
    assert host.bytes()[1] == sum(range(subflows))


@pytest.mark.parametrize("length", [40, 80, 96])
def test_a_connection_with_more_subflows_than_are_known(host, length):
    """The kernel counts them, older ones those that joined: so there is one that only a dump can find."""
    host.open(11, sent=1)
    host.connections[TOKEN]["info_length"] = length
    assert looked_up(host) == 1
    host.open(12, joined=True, told=False, sent=10)
    assert looked_up(host) is None
    assert host.bytes() == (0, 11)
    assert looked_up(host) == 2


@pytest.mark.parametrize("answers", [{"events": EPERM}, {"ends": EPERM}])
def test_without_events_or_ends_samples_are_dumped(monkeypatch, log, answers):
    """Not all subflows would be known."""
    host = Host(monkeypatch, log, **answers).start()
    host.open(11)
    assert looked_up(host) is None


def test_after_an_overrun_a_sample_makes_a_round_first(host):
    """What events did not tell of is found."""
    host.open(11).open(12, joined=True, told=False, sent=3)
    host.kernel.events.overrun = True
    host.sample()
    assert (host.listener.rounds, host.bytes()) == (1, (0, 3))
    assert looked_up(host) == 2


def test_an_overrun_that_is_not_reconciled_is_not_forgotten(host):
    """The round failed: the next sample makes up for it, or dumps."""
    host.open(11).sample()
    host.kernel.events.overrun = True
    host.fault = OSError("no")
    host.sample()
    assert not host.snapshot.sampled
    host.fault = None
    host.dumped.clear()
    host.sample()
    assert m.TCP in host.dumped


def test_fallen_back_connections_need_no_subflows(host):
    """Theirs is plain TCP."""
    host.open(11)
    host.open(12, token=200, told=False, flags=2)
    host.connections[200]["flags"] = 1
    assert looked_up(host) == 1
    assert len(host.snapshot.sample.subflows) == 1


def test_the_cost_of_a_lookup_is_known_to_this_test():
    """See the numbers above."""
    assert sampler._LOOKUP_COST == 4


# Interfaces.


@pytest.mark.parametrize("names", [["l1", "new", "l1"], ["l1", None, "l1"], ["l1", None, "new", "l1"]])
def test_an_interface_that_goes_and_comes_back_keeps_its_counters(host, names):
    """By its name, whatever its index is then; under another name it is another interface."""
    host.open(11, "l2", joined=True, sent=1).tick()
    instances = named(host.snapshot, "mptcp.interface.up")
    for turn, name in enumerate(names):
        index = 50 + turn
        host.kernel.links = [link for link in host.kernel.links if link.ifindex not in (2, index - 1)]
        host.kernel.links += [Link(index, name, True)] if name else []
        host.kernel.egress["10.0.1.1"] = index if name else None
        host.kernel.changed = True
        host.tick()
        if name:
            cookie = 20 + turn
            host.open(cookie, joined=True, sent=100).tick()
            host.end(cookie)
            host.tick()
    assert host.bytes("l1") == (0, 200)
    assert host.counts("l1") == (2, 2)
    if "new" in names:
        assert (host.bytes("new"), host.counts("new")) == ((0, 100), (1, 1))
        assert host.path("new").up is False
    up = named(host.snapshot, "mptcp.interface.up")
    assert set(instances) <= set(up) and up["l1"] == 1
