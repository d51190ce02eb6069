# SPDX-License-Identifier: GPL-2.0-or-later
"""Turns of the listener: looks at initial subflows, what is made of their absence, rounds and overruns."""

import pytest
from pmdamptcp import listener
from pmdamptcp.listener import AFTER_OVERRUN, RECONCILE, SPARE
from pmdamptcp.watch import FIRST_LOOKS, GRACE, GROWTH, LOOKS, SOON, STEADY, STEADY_RATE

from . import messages as m
from .hosts import TOKEN, Host


@pytest.fixture
def host(monkeypatch, log):
    """A host that is listened to, with nothing on it."""
    return Host(monkeypatch, log).start()


def looks(host):
    """How many lookups there were, by local port."""
    return [port for ports in host.looked_up for port in ports]


# Ages.


def test_the_first_look_is_early_and_books(host):
    """What an abort would take is known up to there, and the cookie with it."""
    host.open(11, sent=10).tick()
    assert not host.looked_up
    host.tick(SOON)
    assert (host.looked_up, host.bytes()) == ([[1011]], (0, 10))
    [flow] = host.ledger.flows
    assert flow.cookie == 11
    assert host.listener.lookups == 1


def test_looks_come_at_growing_ages(host):
    """From one to the next it is a twentieth of the age, within limits; what is between is booked."""
    host.open(11).tick()
    born, before, found = host.clock.now, host.clock.now, []
    while host.clock.now < born + 60:
        seen = len(host.looked_up)
        host.tick(0.001 if host.clock.now < born + 1 else 0.02)
        if len(host.looked_up) > seen:
            found.append((before - born, host.clock.now - before))
            before = host.clock.now
    for age, wait in found[1:]:
        usual = min(STEADY, max(SOON, GROWTH * age))
        assert usual * 7 / 8 - 0.001 <= wait <= usual + 0.021
    assert found[-1][1] > STEADY * 7 / 8 - 0.001
    assert len(found) < 300


@pytest.mark.parametrize("more", [{"joined": True}, {"flags": 2, "joined": True}])
def test_subflows_that_joined_are_not_looked_at(host, more):
    """Their ends are always exact."""
    host.open(11, **more).tick(0.5, times=20)
    assert not host.looked_up


def test_no_more_looks_than_a_tick_has_time_for(host):
    """The rest comes with the next ones; all of them get their turn, and first looks come first."""
    count = FIRST_LOOKS + LOOKS
    for number in range(count):
        host.open(11 + number, token=100 + number, port=2000 + number)
    host.listener.drain()
    host.tick(1, times=1)
    assert list(map(len, host.looked_up)) == [FIRST_LOOKS]
    host.tick(0, times=1)
    assert list(map(len, host.looked_up)) == [FIRST_LOOKS, LOOKS]
    assert sorted(looks(host)) == list(range(2000, 2000 + count))
    host.tick(10, times=3)
    assert list(map(len, host.looked_up)) == [FIRST_LOOKS] + [LOOKS] * 4


def test_very_many_are_looked_at_less_often(host):
    """So that no more than STEADY_RATE a second are passed, but for the youngest."""
    for number in range(4):
        host.open(11 + number, token=100 + number)
    host.listener.drain()
    host.listener.watch._queue += [(10**9, number, None) for number in range(10 * STEADY_RATE)]
    host.tick(0.02).tick(1000)
    before = len(host.looked_up)
    host.tick(8)
    assert len(host.looked_up) == before
    host.tick(2.1)
    assert len(host.looked_up) > before


def test_those_that_a_dump_finds_are_spread(monkeypatch, log):
    """The first dump finds all of them at once; they are looked at over the longest wait."""
    host = Host(monkeypatch, log)
    for number in range(100):
        host.open(11 + number, token=100 + number, told=False)
    host.start()
    first, parts = set(), []
    for _ in range(12):
        host.tick(STEADY / 10)
        parts.append(len(set(looks(host)) - first))
        first.update(looks(host))
    assert max(parts) <= 20
    assert first == set(range(1011, 1111))


# Gone.


@pytest.mark.parametrize("listening", [False, True])
def test_one_that_is_gone_and_was_never_met_is_given_up(host, listening):
    """After some time for its end to be told; a listener's answer is not taken for it."""
    host.listening = listening
    host.open(11).tick()
    host.end(11, told=False)
    host.tick().tick().tick(GRACE - 0.1)
    assert (host.known(), host.ledger.truncated) == ([1011], 0)
    host.tick(0.2)
    assert (host.known(), host.ledger.truncated, host.counts()) == ([], 1, (1, 1))
    assert not host.ledger._by_ends


@pytest.mark.parametrize("after", [0.02, GRACE / 2])
def test_an_end_that_is_told_in_time(host, after):
    """Is booked, and nothing is truncated."""
    host.open(11).tick()
    message = host.carry(11, sent=9).end(11, told=False)
    host.tick().tick(after)
    host.kernel.ends.waiting.append(message)
    host.tick()
    host.tick(GRACE * 2)
    assert (host.bytes(), host.ledger.truncated, host.counts()) == ((0, 9), 0, (1, 1))


def test_one_that_is_gone_after_it_was_met(host):
    """Given up, and counted once, though its end is told much later."""
    host.open(11, sent=5).tick().tick()
    message = host.carry(11, sent=9).end(11, told=False, zeroed=True)
    host.tick(1).tick(GRACE - 0.1)
    assert (host.ledger.truncated, host.counts()) == (0, (1, 0))
    host.tick(0.2)
    assert (host.ledger.truncated, host.counts()) == (1, (1, 1))
    host.kernel.ends.waiting.append(message)
    host.tick()
    assert (host.bytes(), host.ledger.truncated, host.known()) == ((0, 5), 1, [])


def test_one_that_is_found_again_is_not_given_up(host):
    """A dump shows it after all."""
    host.open(11, told=False)
    host.sample().open(12, token=200)
    host.tick()
    kept = dict(host.sockets)
    host.sockets.clear()
    host.tick(0.5)
    host.sockets.update(kept)
    host.tcp_sockets = 0
    host.sample().tick(GRACE + 1)
    assert 1012 in host.known()


def test_one_that_is_bound_is_found_by_its_device(host):
    """Events do not tell of it: the device is the one that its packets leave by."""
    host.open(11, "l3", bound=4, sent=5).tick().tick().tick()
    assert host.bytes("l3") == (0, 5)
    assert host.ledger.flows[0].cookie == 11
    host.end(11, zeroed=True)
    host.tick()
    assert (host.ledger.truncated, host.known()) == (1, [])


@pytest.mark.parametrize("plain", [False, True])
def test_a_lookup_that_finds_another_socket_with_these_ends(host, plain):
    """A subflow of another connection, or plain TCP: not booked for this one."""
    host.open(11, sent=5).tick()
    host.sockets.pop(11)
    host.open(12, token=200, port=1011, told=False, sent=10**6, plain=plain).tick().tick().tick(GRACE + 0.1)
    assert host.bytes() == (0, 0)
    assert host.ledger.truncated == 1


# SUB_CLOSED.


def mending(host):
    """A connection of two subflows that was watched from its beginning, with 100 and 1000 bytes received."""
    host.open(11).open(12, "l2", joined=True).tick().sample()
    host.carry(11, received=100).carry(12, received=1000).sample()
    assert (host.bytes("l1"), host.bytes("l2")) == ((100, 0), (1000, 0))


def test_a_closed_initial_subflow_is_looked_at_at_once(host):
    """Its counters may still be there."""
    mending(host)
    host.tick(0.5)
    before = len(host.looked_up)
    host.carry(11, sent=77)
    host.tell(m.SUB_CLOSED, 11)
    host.tick(0)
    assert host.looked_up[before:] == [[1011]]
    assert host.bytes("l1") == (100, 77)


@pytest.mark.parametrize("lost, others", [(50, 0), (50, 500), (0, 500), (0, 0)])
def test_what_a_dead_initial_subflow_received_is_mended(host, lost, others):
    """From the connection's total, once, and not with what others received meanwhile; what it sent is not known."""
    mending(host)
    host.carry(11, received=100 + lost, sent=33).carry(12, received=1000 + others)
    host.tell(m.SUB_CLOSED, 11, error=104)
    message = host.end(11, told=False, zeroed=True)
    host.tick(0)
    assert (host.bytes("l1"), host.bytes("l2")) == ((100 + lost, 0), (1000 + others, 0))
    host.carry(12, received=5000).tick(0.1).tick(GRACE).sample()
    host.kernel.ends.waiting.append(message)
    host.tick()
    assert (host.bytes("l1"), host.bytes("l2")) == ((100 + lost, 0), (5000, 0))
    assert (host.ledger.truncated, host.counts("l1")) == (1, (1, 1))


@pytest.mark.parametrize("told", [0, 1000, 1099])
def test_mending_is_never_too_much(host, told):
    """The total may lag behind what subflows received, which may be the same bytes twice."""
    mending(host)
    host.connections[TOKEN]["info"]["bytes_received"] = told
    host.tell(m.SUB_CLOSED, 11)
    host.end(11, told=False)
    host.tick(0)
    assert host.bytes("l1") == (100, 0)


@pytest.mark.parametrize("why", ["gone", "no total", "not whole", "joined first", "sole", "other gone"])
def test_where_nothing_can_be_mended(monkeypatch, log, why):
    """Rather too little than a guess."""
    host = Host(monkeypatch, log)
    if why == "not whole":  # the agent came later: a subflow may have ended before
        host.open(11, told=False).open(12, "l2", joined=True, told=False).start()
    elif why == "joined first":  # nobody told how the connection began
        host.start().open(12, "l2", joined=True).listener.drain()
        host.tcp_sockets = 0
        host.open(11, told=False)
    else:
        host.start().open(11)
        if why != "sole":
            host.open(12, "l2", joined=True)
    host.tick().sample()
    if why == "gone":
        host.connections.clear()
    elif why == "no total":
        host.connections[TOKEN]["info_length"] = 48
    host.connections.get(TOKEN, {"info": {}})["info"]["bytes_received"] = 10**6
    host.tell(m.SUB_CLOSED, 11)
    host.sockets.pop(11)
    if why == "other gone":
        host.sockets.pop(12)
    host.tick(0)
    assert host.bytes("l1")[0] == 0


def test_a_closed_subflow_that_joined_is_left_alone(host):
    """Its end is exact; error and reason are counted."""
    host.open(11).open(12, "l2", joined=True).tick().tick()
    before = len(host.looked_up)
    host.tell(m.SUB_CLOSED, 12, error=110, reason=6)
    host.tell(m.SUB_CLOSED, 12, error=110)
    host.tick(0)
    assert len(host.looked_up) == before
    assert (dict(host.listener.errors), dict(host.listener.reasons)) == ({110: 2}, {6: 1})


# Rounds.


def test_a_round_in_a_while(host):
    """When nobody asks for samples."""
    host.dumped.clear()
    host.tick(RECONCILE - 1)
    assert not host.dumped
    host.tick(2)
    assert (host.dumped, host.listener.rounds) == ([m.TCP], 1)
    host.tick(RECONCILE - 1)
    assert host.listener.rounds == 1
    host.tick(2)
    assert host.listener.rounds == 2


def test_a_sample_that_dumps_stands_for_a_round(host):
    """No second one is due so soon."""
    host.tcp_sockets = 0
    host.open(11, joined=True).tick(RECONCILE - 10).sample().tick(20)
    assert host.listener.rounds == 0


@pytest.mark.parametrize("flows, rounds", [(0, 0), (1, 1)])
def test_a_change_of_routes_makes_a_round(host, flows, rounds):
    """Of those subflows that are known, and not more than one a second; none without any."""
    for number in range(flows):
        host.open(11 + number, joined=True)
    host.tick(SPARE + 1)
    host.dumped.clear()
    for _ in range(10):
        host.kernel.changed = True
        host.tick(0.05)
    assert host.listener.rounds == rounds
    assert not host.dumped
    host.kernel.changed = True
    host.tick(SPARE)
    assert host.listener.rounds == 2 * rounds


@pytest.mark.parametrize("source", ["events", "ends"])
def test_an_overrun_is_counted_told_once_and_made_up_for(host, log, source):
    """A round at once finds what was opened, a second after a while what is gone."""
    host.open(11, joined=True).tick()
    host.open(12, joined=True, told=False)
    host.end(11, told=False)
    host.dumped.clear()
    getattr(host.kernel, source).overrun = True
    host.tick()
    assert (host.listener.overruns, host.listener.rounds, host.dumped) == (1, 1, [m.TCP])
    assert host.known() == [1011, 1012]
    host.tick(AFTER_OVERRUN - 1)
    assert host.listener.rounds == 1
    host.tick(2)
    assert host.listener.rounds == 2
    assert host.known() == [1012]
    getattr(host.kernel, source).overrun = True
    host.tick()
    assert host.listener.overruns == 2
    assert sum("ran over" in line for line in log) == 1


def test_no_round_without_a_reason(host):
    """Most ticks."""
    host.open(11, joined=True).tick(times=100)
    assert (host.listener.rounds, host.listener.faults) == (0, 0)


# Faults.


def test_a_look_that_fails_is_made_up_for(host):
    """The subflows that it was about are looked at again."""
    host.open(11, sent=5).tick()
    host.fault = OSError("no buffer")
    with pytest.raises(OSError):
        host.tick()
    host.fault = None
    host.tick(1, times=3)
    assert host.bytes() == (0, 5)


def test_the_turns_of_the_listener_wait_no_longer_than_for_the_next_look(host, monkeypatch):
    """And no longer than IDLE."""
    waits = []
    monkeypatch.setattr(listener.select, "select", lambda read, write, other, wait: waits.append(wait))
    host.listener._wait()
    host.open(11).listener.drain()
    host.listener._wait()
    host.clock.now += 1
    host.listener._wait()
    assert waits == pytest.approx([listener.IDLE, SOON, 0])
