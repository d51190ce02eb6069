# SPDX-License-Identifier: GPL-2.0-or-later
"""Booking from events, ends of sockets and dumps, in whatever order these come."""

import itertools

import pytest
from pmdamptcp.watch import GRACE

from . import messages as m
from .hosts import REMOTE, TOKEN, Host


@pytest.fixture
def host(monkeypatch, log):
    """A host that is listened to, with nothing on it."""
    return Host(monkeypatch, log).start()


# Told of, ended, booked.


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("turns", [0, 1])
def test_an_event_then_the_end_books_everything(host, joined, turns):
    """To the byte, without any dump; also when both come with one tick."""
    host.open(11, joined=joined, received=5, sent=7, retrans=2).tick(times=turns)
    host.carry(11, received=1000, sent=2000, retrans=30).end(11)
    host.tick()
    assert host.bytes() == (1000, 2000)
    assert host.path().retrans == 30
    assert host.counts() == (1, 1)
    assert host.known() == []
    assert host.ledger.truncated == host.ledger.unrouted == 0


def test_ends_are_booked_after_the_events_of_the_same_tick(host):
    """Of many sockets at once, on the interface of each."""
    for number, link in enumerate(["l1", "l2", "l3"] * 3):
        host.open(11 + number, link, joined=number > 0)
        host.carry(11 + number, sent=10 ** number).end(11 + number)
    host.tick()
    assert [host.bytes(link)[1] for link in ("l1", "l2", "l3")] == [1001001, 10010010, 100100100]
    assert host.counts("l2") == (3, 3)


@pytest.mark.parametrize("local, remote, mapped", [
    (("10.0.1.1", 7), REMOTE, False), (("fd00:1::1", 7), ("fd00:1::2", 5040), False)])
def test_families(host, local, remote, mapped):
    """An event names the socket as its end does."""
    host.kernel.events.waiting.append(m.event(m.CREATED, 5, local, remote, mapped=mapped))
    host.kernel.ends.waiting.append(m.destroyed(11, sent=9, local=local, remote=remote))
    host.tick()
    assert host.bytes() == (0, 9)


@pytest.mark.parametrize("cookie_known", [False, True])
def test_counters_that_were_seen_before_are_not_booked_again(host, cookie_known):
    """By a dump, a lookup, or both."""
    host.open(11, joined=True, sent=100).tick()
    if cookie_known:
        host.sample()
        assert host.bytes() == (0, 100)
    host.carry(11, sent=150).end(11)
    host.tick()
    assert host.bytes() == (0, 150)


def test_an_event_for_a_subflow_that_a_dump_met_already(host):
    """One subflow, counted once."""
    host.open(11, told=False, sent=10).sample()
    host.tell(m.CREATED, 11)
    host.tick()
    assert len(host.ledger) == 1
    host.carry(11, sent=30).end(11)
    host.tick()
    assert (host.bytes(), host.counts()) == ((0, 30), (1, 1))


def test_what_was_carried_before_the_agent_began_does_not_count(monkeypatch, log):
    """But it is the connection's: its totals are those of its whole life."""
    host = Host(monkeypatch, log).open(11, told=False, received=50, sent=500).start()
    host.carry(11, sent=505).end(11)
    host.tick()
    assert host.bytes() == (0, 5)
    assert host.counts() == (0, 1)
    assert [(one.received, one.sent) for one in host.snapshot.sample.connections] == [(50, 505)]


def test_a_subflow_that_events_told_of_before_the_first_sample_counts_as_a_whole(monkeypatch, log):
    """It began after the agent did."""
    host = Host(monkeypatch, log)
    host.open(11, sent=10).listener.open(0)
    host.sample()
    assert (host.bytes(), host.counts()) == ((0, 10), (1, 0))


# Plain TCP.


@pytest.mark.parametrize("local, remote", [
    (("10.0.1.1", 1011), ("10.0.1.2", 5041)), (("10.0.1.1", 1012), REMOTE), (("10.0.2.1", 1011), REMOTE),
    (("10.0.1.1", 1011), ("10.0.1.3", 5040)), (("fd00:1::1", 1011), ("fd00:1::2", 5040))])
def test_ends_of_plain_tcp_are_nobodys(host, local, remote):
    """All four parts of the two ends count."""
    host.open(11).tick()
    host.kernel.ends.waiting.append(m.destroyed(99, sent=10**6, local=local, remote=remote))
    host.tick()
    assert host.bytes() == (0, 0)
    assert host.known() == [1011]


def test_the_end_of_another_socket_with_the_ends_of_a_known_one(host):
    """Once its cookie is known, no other socket can be taken for it."""
    host.open(11).sample()
    host.kernel.ends.waiting.append(m.destroyed(99, sent=10**6, local=("10.0.1.1", 1011), remote=REMOTE))
    host.tick()
    assert (host.bytes(), host.known()) == ((0, 0), [1011])


# Ends without counters.


@pytest.mark.parametrize("joined, truncated", [(False, 1), (True, 0)])
def test_the_zeroed_end_of_a_known_socket(host, joined, truncated):
    """Told by its cookie: what the last look found is kept, and an initial subflow counts as truncated, once."""
    host.open(11, joined=joined, sent=100).sample()
    message = host.carry(11, sent=130).end(11, zeroed=True)
    host.kernel.ends.waiting.append(message)  # twice
    host.tick()
    assert (host.bytes(), host.counts(), host.known()) == ((0, 100), (1, 1), [])
    assert host.ledger.truncated == truncated


def test_the_zeroed_end_of_a_socket_that_was_never_met(host):
    """Nothing tells whose it is: it is nobody's."""
    host.open(11).listener.drain()
    host.end(11, zeroed=True)
    host.listener.drain()
    assert host.known() == [1011]
    assert host.ledger.truncated == 0


# The same two ends again.


@pytest.mark.parametrize("met", itertools.product([False, True], repeat=3))
@pytest.mark.parametrize("one_tick", [False, True])
def test_ends_that_are_used_again(host, met, one_tick):
    """Three sockets after each other: each books its own bytes for its own connection, met or not."""
    for number, is_met in enumerate(met):
        cookie, token = 11 + number, 100 + number
        host.open(cookie, token=token, port=7)
        if is_met:
            host.listener.drain()
            host.carry(cookie, sent=1).tick(0.1)  # a look
        host.carry(cookie, sent=10 ** (number + 1)).end(cookie)
        if not one_tick:
            host.tick()
    host.tick()
    assert host.bytes() == (0, 1110)
    assert host.counts() == (3, 3)
    assert (host.known(), host.ledger.truncated) == ([], 0)


@pytest.mark.parametrize("order", itertools.permutations([0, 1, 2]))
def test_ends_of_known_sockets_in_any_order(host, order):
    """Cookies tell them apart."""
    ends = []
    for number in range(3):
        cookie = 11 + number
        host.open(cookie, token=100 + number, port=7).listener.drain()
        host.tick(0.1)
        ends.append(host.carry(cookie, sent=10 ** (number + 1)).end(cookie, told=False))
    assert len(host.ledger) == 3
    for position, number in enumerate(order):
        host.kernel.ends.waiting.append(ends[number])
        host.listener.drain()
        assert len(host.ledger) == 2 - position
    assert host.bytes() == (0, 1110)
    assert host.counts() == (3, 3)


def test_the_first_end_that_nobody_claims_is_that_of_the_oldest_socket(host):
    """Two sockets with the same ends that were not met: their ends come in the order of their lives."""
    host.open(11, token=100, port=7).listener.drain()
    host.carry(11, sent=10)
    first = host.end(11, told=False)
    host.open(12, token=200, port=7).listener.drain()
    host.kernel.ends.waiting.append(first)
    host.listener.drain()
    [left] = host.ledger.flows
    assert left.token == 200
    host.carry(12, sent=100).end(12)
    host.listener.drain()
    assert (host.bytes(), host.known()) == ((0, 110), [])


def test_a_socket_that_was_connected_anew_is_another_subflow(host):
    """The cookie of the old one, the token of another connection."""
    host.open(11, sent=10).sample()
    host.sockets.pop(11)
    host.connections.clear()
    host.open(11, token=200, told=False, sent=3).sample()
    assert (host.bytes(), host.counts()) == ((0, 13), (2, 1))
    assert [flow.token for flow in host.ledger.flows] == [200]


# Connections that are TCP after all.


def test_a_connection_that_fell_back_carries_nothing_more(host):
    """What it carried before stays; its end is not booked, nor are subflows that it is told to have."""
    host.open(11, sent=10).sample()
    host.connections[TOKEN]["flags"] = 1
    host.carry(11, sent=100).sample()
    assert (host.bytes(), host.counts()) == ((0, 10), (1, 1))
    host.open(12, joined=True, sent=1000).tick()
    for cookie in (11, 12):
        host.end(cookie)
    host.tick()
    assert (host.bytes(), host.counts()) == ((0, 10), (1, 1))


@pytest.mark.parametrize("flags, booked", [(m.OPENED_BY_US, 7), (m.JOINED_BY_PEER, 7), (2, 0), (0x82, 0)])
def test_a_round_leaves_out_what_fell_back_from_the_start(host, flags, booked):
    """No event told of it, and its peer never spoke MPTCP."""
    host.open(11, told=False, flags=flags, sent=7)
    host.sampler.reconcile(True)
    assert host.bytes() == (0, booked)


# Rounds.


def test_a_round_finds_what_nobody_told_of(host):
    """And books it from its beginning, for it began after the agent."""
    host.open(11, told=False, sent=10)
    host.sampler.reconcile(True)
    assert (host.bytes(), host.counts()) == ((0, 10), (1, 0))
    host.carry(11, sent=15).end(11)
    host.tick()
    assert (host.bytes(), host.counts()) == ((0, 15), (1, 1))


@pytest.mark.parametrize("met", [False, True])
def test_two_rounds_without_a_socket_retire_it(host, met):
    """One alone can miss it, and one that was opened in between was not there to be seen."""
    host.open(11, joined=True).tick()
    if met:
        host.sampler.reconcile(True)
    host.end(11, told=False)
    for known in ([1011], [], []):
        host.sampler.reconcile(True)
        assert host.known() == known
    assert host.counts() == (1, 1)


def test_a_socket_that_one_round_missed(host):
    """Is the same afterwards."""
    host.open(11, joined=True, sent=10)
    host.sampler.reconcile(True)
    kept = host.sockets.pop(11)
    host.sampler.reconcile(True)
    host.sockets[11] = {**kept, "sent": 30}
    for _ in range(3):
        host.sampler.reconcile(True)
    assert (host.bytes(), host.counts(), host.known()) == ((0, 30), (1, 0), [1011])


def test_a_round_that_breaks_off_retires_nothing(host):
    """Only what came to its end counts."""
    host.open(11, joined=True)
    host.sampler.reconcile(True)
    host.fault = OSError("cut")
    for _ in range(3):
        with pytest.raises(OSError):
            host.sampler.reconcile(True)
    host.fault = None
    host.sockets.clear()
    host.sampler.reconcile(True)
    assert host.known() == [1011]


# Interfaces.


def test_a_round_after_a_change_of_routes_books_on_both_interfaces(host):
    """What was carried up to the round went the old way."""
    host.open(11, joined=True, sent=10).tick()
    host.reroute("10.0.1.1", "l2")
    host.carry(11, sent=25).tick(1.5)
    host.carry(11, sent=100).end(11)
    host.tick()
    assert (host.bytes("l1"), host.bytes("l2")) == ((0, 25), (0, 75))
    assert (host.counts("l1"), host.counts("l2")) == ((1, 0), (0, 1))


def test_a_subflow_without_a_route_is_asked_for_once_more_at_its_end(host):
    """Then its bytes are on an interface after all, or told as unrouted."""
    host.reroute("10.0.1.1", None)
    host.open(11, joined=True).open(12, joined=True).tick()
    assert host.counts() == (0, 0)
    host.carry(11, received=3, sent=4).end(11)
    host.tick()
    assert (host.bytes(), host.ledger.unrouted) == ((0, 0), 7)
    assert host.known() == [1012]
    host.kernel.egress["10.0.1.1"] = 2
    host.sampler.topology._egress.clear()
    host.carry(12, sent=9).end(12)
    host.listener.drain()
    assert (host.bytes(), host.counts(), host.ledger.unrouted) == ((0, 9), (1, 1), 7)


def test_a_bound_socket_is_booked_on_its_device(host, monkeypatch):
    """The event of an initial subflow does not tell of it; a dump does, and its route is asked for again."""
    egress = host.sampler.topology.egress
    monkeypatch.setattr(host.sampler.topology, "egress", lambda keys: [
        4 if key[32:36] == b"\4\0\0\0" else index for key, index in zip(keys, egress(keys))])
    host.tcp_sockets = 0
    host.open(11, bound=4, sent=5).listener.drain()
    assert host.counts("l1") == (1, 0)
    host.sample()
    assert len(host.ledger) == 1
    assert (host.bytes("l1"), host.bytes("l3")) == ((0, 0), (0, 5))
    host.carry(11, sent=7).end(11)
    host.tick()
    assert (host.bytes("l3"), host.known()) == ((0, 7), [])


def test_connections_are_forgotten_with_their_last_subflow(host):
    """Nothing is kept of what nobody shows."""
    for number in range(5):
        host.open(11 + number, token=100 + number)
        host.end(11 + number)
    host.tick()
    assert not host.ledger._connections and not host.ledger._by_ends and not host.ledger._by_cookie
    host.connections.clear()
    host.open(21).sample()
    assert len(host.ledger._connections) == 1
    host.end(21)
    host.connections.clear()
    for _ in range(4):
        host.tick().sample()
    assert not host.ledger._connections and not host.ledger._older and not host.ledger._by_cookie


def test_an_end_that_is_told_after_all(host):
    """A look finds nothing, the subflow is given up, and then comes its end with all that it carried: booked."""
    host.open(11, sent=100).tick(times=2)
    host.carry(11, received=30, sent=500)
    late = host.end(11, told=False)
    host.tick(1).tick(GRACE + 1)
    assert host.bytes() == (0, 100) and host.counts() == (1, 1) and host.ledger.truncated == 1
    host.kernel.ends.waiting.append(late)
    host.tick()
    assert host.bytes() == (30, 500) and host.counts() == (1, 1)
    assert host.known() == []


def test_a_second_connection_with_a_token_that_is_in_use(host):
    """Told of by an event, while dumps still show the first alone: it has no row, and its subflow none."""
    host.open(11).tick().sample()
    host.open(12).tick()  # another initial subflow
    host.connections[TOKEN]["info"]["subflows_total"] = 9  # so that a sample looks at all sockets
    for _ in range(3):
        host.tick().sample()
    sample = host.sampler.sample
    assert [flow.name.split()[0] for flow in sample.shown_subflows.values()] == ["c1::1"]
    assert host.counts() == (2, 0)


def test_a_cookie_of_0_is_none(host):
    """No kernel gives it: the subflow stays known by its ends, once."""
    host.open(0, joined=True, sent=100).tick().sample()
    assert len(host.ledger.flows) == len(host.ledger) == 1
    host.carry(0, sent=300).end(0)
    host.tick()
    assert host.bytes() == (0, 300) and host.known() == []
