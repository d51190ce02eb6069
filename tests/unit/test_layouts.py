# SPDX-License-Identifier: GPL-2.0-or-later
"""Layouts are learned once and used as long as they fit: never for a message of another shape."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pmdamptcp.kernel import inet_diag, netlink, pm_events
from pmdamptcp.kernel.layouts import Decoder, learned, reader

from . import messages as m

LOCAL, REMOTE = ("10.0.1.1", 1000), ("10.0.1.2", 5040)


class Learner:
    """Counts what it learns; a message's value is its body behind the byte that tells shapes apart."""

    def __init__(self):
        self.learned = []

    def __call__(self, message):
        self.learned.append(message)
        found = netlink.attributes(message, 20, len(message))
        return learned(message, found.values(), lambda data, offset: bytes(data[offset + 16:offset + len(message)]))


def kinds(messages):
    """The kinds of these events, as they are decoded from one buffer."""
    return [event.kind for event, *_ in Decoder(m.EVENTS_FAMILY, pm_events.learn).decode([b"".join(messages)])]


@pytest.mark.parametrize("ends", [(), (LOCAL, REMOTE)])
@pytest.mark.parametrize("order", [(1, 2), (2, 1), (1, 2, 1), (1, 1, 2, 2, 11, 1)])
def test_two_commands_with_the_same_attributes_in_one_buffer(ends, order):
    """CREATED and ESTABLISHED differ in one byte only."""
    assert kinds([m.event(kind, 5, *ends) for kind in order]) == list(order)


@given(st.lists(st.sampled_from([m.CREATED, m.ESTABLISHED_EVENT, m.CLOSED, m.SUB_CLOSED, 200]), max_size=20))
def test_any_order_of_commands(order):
    """Each is what it is."""
    assert kinds([m.event(kind, 5) for kind in order]) == order


def test_families_of_one_length_in_one_buffer():
    """A v4 and a v6 socket with the same attributes."""
    sockets = [m.plain_tcp(1), m.plain_tcp(2, local=("fd00::1", 1), remote=("fd00::2", 2)), m.plain_tcp(3)]
    found = list(inet_diag.Decoder(inet_diag.PLAIN).decode([b"".join(sockets)]))
    assert [values[1] for values, *_ in found] == [1, 2, 3]
    assert found[0][3] is found[2][3] is not found[1][3]


def test_attributes_of_one_length_in_another_order():
    """The same length, command and set of attributes: only their headers tell."""
    pairs = [(m.EV_TOKEN, (7).to_bytes(4, "little")), (m.EV_RESET_REASON, (3).to_bytes(4, "little"))]
    sent = [m.generic(1, pairs), m.generic(1, pairs[::-1]), m.generic(1, pairs)]
    events = [event for event, *_ in Decoder(m.EVENTS_FAMILY, pm_events.learn).decode([b"".join(sent)])]
    assert [event.token for event in events] == [7, 7, 7]


def test_a_shape_is_learned_once_and_again_when_it_no_longer_fits():
    """One layout for each length and command; a change of attributes replaces it."""
    learn = Learner()
    decoder = Decoder(m.EVENTS_FAMILY, learn)
    one, two = m.generic(1, [(1, b"abcd")]), m.generic(2, [(1, b"abcd")])
    other = m.generic(1, [(2, b"abcd")])
    assert [values for values, *_ in decoder.decode([one + two + one + two])] == [
        message[16:] for message in (one, two, one, two)]
    assert learn.learned == [one, two]
    assert [values for values, *_ in decoder.decode([one + other, other + one])] == [
        message[16:] for message in (one, other, other, one)]
    assert learn.learned == [one, two, other, one]
    assert (decoder.messages, decoder.malformed) == (8, 0)


def test_shapes_without_end_are_forgotten():
    """A kernel has some ten; whoever sends others gets no memory for them."""
    decoder = Decoder(m.EVENTS_FAMILY, pm_events.learn)
    for length in range(4, 3000):
        assert len(list(decoder.decode([m.generic(3, [(1, bytes(length))])]))) == 1
    assert len(decoder._layouts) <= 1000


def test_an_attribute_that_is_there_twice():
    """The last counts; where the first ends is a part of the layout, too."""
    def event(length):
        pairs = bytearray(m.pack([(1, b"1111"), (3, b"\1"), (1, b"2222")]))
        pairs[:2] = length.to_bytes(2, "little")
        body = bytes([3, 1, 0, 0]) + pairs
        return m.HEADER.pack(16 + len(body), m.EVENTS_FAMILY, 0, 0, 0) + body
    decoder = Decoder(m.EVENTS_FAMILY, pm_events.learn)
    assert [one.token for one, *_ in decoder.decode([event(8)])] == [int.from_bytes(b"2222", "little")]
    # 24 bytes long, it swallows the others: there is but one token, and it is another.
    assert [one.token for one, *_ in decoder.decode([event(24)])] == [int.from_bytes(b"1111", "little")]


@pytest.mark.parametrize("kind", [m.NLMSG_DONE, m.NLMSG_ERROR, 29])
def test_messages_of_another_type_are_passed_over(kind):
    """Not learned, not counted; what follows is served."""
    learn = Learner()
    decoder, one = Decoder(m.EVENTS_FAMILY, learn), m.generic(1, [])
    foreign = m.HEADER.pack(19, kind, 0, 0, 0) + b"xyz\0"
    assert len(list(decoder.decode([foreign + one + foreign + foreign + one + foreign]))) == 2
    assert (decoder.messages, decoder.malformed, learn.learned) == (2, 0, [one])


@pytest.mark.parametrize("broken", [
    b"\1", bytes(15), bytes(16), m.HEADER.pack(15, 28, 0, 0, 0), m.HEADER.pack(16, 28, 0, 0, 0),
    m.HEADER.pack(999, 28, 0, 0, 0) + bytes(4), m.HEADER.pack(17, 28, 0, 0, 0) + bytes(4)])
def test_a_broken_message_costs_the_rest_of_its_buffer(broken):
    """What was before it, and the next buffer, are served; also in the shape of the last good one."""
    decoder, one = Decoder(m.EVENTS_FAMILY, pm_events.learn), m.event(3, 5)
    assert len(list(decoder.decode([one + broken + one, one]))) == 2
    assert (decoder.messages, decoder.malformed) == (2, 1)


def test_a_reader_skips_what_is_between():
    """Fields at their places, in ascending order, from any offset."""
    read = reader([(0, "B"), (2, "H"), (8, "Q")])
    assert read(b"x" + bytes([1, 9, 2, 0, 9, 9, 9, 9, 3, 0, 0, 0, 0, 0, 0, 0]), 1) == (1, 2, 3)
