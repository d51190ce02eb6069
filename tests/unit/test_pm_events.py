# SPDX-License-Identifier: GPL-2.0-or-later
"""Path-manager events against the record, and against bytes that no kernel should send."""

import errno
import socket
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pmdamptcp.kernel import inet_diag, netlink, pm_events
from pmdamptcp.kernel.layouts import Decoder
from pmdamptcp.kernel.pm_events import Event

from . import messages as m

HOSTS = ("host-a", "host-b")
LOCAL, REMOTE = ("10.0.1.1", 1000), ("10.0.1.2", 5040)
LOCAL6, REMOTE6 = ("fd00:1::1", 1000), ("fd00:1::2", 5040)


def decode(data, decoder=None):
    """The events in a buffer."""
    return [event for event, *_ in (decoder or Decoder(m.EVENTS_FAMILY, pm_events.learn)).decode([data])]


def packed(address, family):
    """An address in the 16 bytes of inet_diag: IPv4 in front, or v4-mapped in an IPv6 socket."""
    if ":" in address:
        return socket.inet_pton(socket.AF_INET6, address)
    four = socket.inet_pton(socket.AF_INET, address)
    return four + bytes(12) if family == socket.AF_INET else bytes(10) + b"\xff\xff" + four


def identity(local, remote, family, bound=0):
    """Ports, addresses and device as inet_diag has them."""
    return b"".join((local[1].to_bytes(2, "big"), remote[1].to_bytes(2, "big"), packed(local[0], family),
                     packed(remote[0], family), bound.to_bytes(4, "little")))


def said(one):
    """The Event that a line of the record means."""
    kind = {name.upper(): number for number, name in pm_events.NAMES.items()}[one["ev"]]
    if "token" not in one:
        return Event(kind)
    if "saddr" not in one:
        return Event(kind, one["token"])
    ends = (one["saddr"], one["sport"]), (one["daddr"], one["dport"])
    return Event(kind, one["token"], one["family"], identity(*ends, one["family"], one.get("if_idx", 0)),
                 one.get("error"), one.get("reset_reason"), bool(one.get("backup")))


# Recorded.


@pytest.mark.parametrize("host", HOSTS)
def test_each_recorded_event_is_what_the_record_says(host):
    """Kind, token, family, both ends, device, error and reason; all in one buffer, and one by one."""
    data, expected = m.recorded(f"pm_events_{host}.bin"), [said(one) for one in m.told(f"pm_events_{host}.txt")]
    assert decode(data) == expected
    assert [decode(message) for message in m.split(data)] == [[event] for event in expected]


def test_the_record_has_what_these_tests_need():
    """All kinds of addresses, a bound device, an error, a reason, events without addresses and without a token."""
    events = [said(one) for host in HOSTS for one in m.told(f"pm_events_{host}.txt")]
    mapped = [event for event in events if event.identity[4:].startswith(inet_diag.V4_MAPPED)]
    assert {event.family for event in events} == {0, socket.AF_INET, socket.AF_INET6}
    assert mapped and all(event.family == socket.AF_INET6 for event in mapped)
    assert {event.error for event in events} == {None, errno.ECONNABORTED, errno.ECONNRESET}
    assert {event.reason for event in events} == {None, 0}
    assert {event.backup for event in events} == {False, True}
    assert Counter(event.kind for event in events if not event.identity).keys() == {3, 6, 7, 15}
    assert any(event.identity[36:] == b"\4\0\0\0" for event in events)
    assert [event.kind for event in events if not event.token] == [m.LISTENER_CREATED]


@pytest.mark.parametrize("host", HOSTS)
def test_events_and_the_ends_of_sockets_name_a_subflow_alike(host):
    """The two ends in an event are those in the broadcast of the socket's end: the ledger relies on it."""
    opened = {event.identity[:36] for event in decode(m.recorded(f"pm_events_{host}.bin"))
              if event.kind in (pm_events.CREATED, pm_events.SUB_ESTABLISHED)}
    ended = {message[20:56] for message in m.split(m.recorded(f"tcp_destroy_{host}.bin")) if message[22:24] != b"\0\0"}
    assert len(opened) == 20
    assert ended <= opened and len(ended) >= 19


@pytest.mark.parametrize("kind, name", [
    (1, "created"), (2, "established"), (3, "closed"), (6, "announced"), (7, "removed"), (10, "sub_established"),
    (11, "sub_closed"), (13, "sub_priority"), (15, "listener_created"), (16, "listener_closed")])
def test_names_are_those_of_the_kernels_header(kind, name):
    """enum mptcp_event_type in linux/mptcp_pm.h."""
    assert pm_events.NAMES[kind] == name
    assert len(pm_events.NAMES) == 10


def test_numbers_of_the_family_and_of_its_group():
    """As the kernel answered; the other group of the family is not taken for it."""
    assert pm_events.ids(m.recorded("genl_getfamily_host-a.bin")) == (28, 9)


# Made-up.


@pytest.mark.parametrize("more", [{}, {"bound": 7}, {"error": 0}, {"error": 255}, {"reason": 6}, {"reason": 2**32 - 1},
                                  {"backup": True}, {"backup": False},
                                  {"error": 110, "reason": 3, "bound": 2**31 - 1}])
@pytest.mark.parametrize("ends, mapped, family", [
    ((LOCAL, REMOTE), False, socket.AF_INET), ((LOCAL6, REMOTE6), False, socket.AF_INET6),
    ((LOCAL, REMOTE), True, socket.AF_INET6)])
def test_all_that_an_event_can_say(ends, mapped, family, more):
    """0 is a value, absent is None."""
    message = m.event(m.SUB_CLOSED, 2**32 - 1, *ends, mapped=mapped, **more)
    assert decode(message) == [Event(m.SUB_CLOSED, 2**32 - 1, family, identity(*ends, family, more.get("bound", 0)),
                                     more.get("error"), more.get("reason"), more.get("backup", False))]


@pytest.mark.parametrize("missing", [m.EV_SADDR4, m.EV_DADDR4, m.EV_SPORT, m.EV_DPORT])
def test_half_an_end_is_none(missing):
    """Such an event names no subflow."""
    pairs = [pair for pair in m.attributes(m.event(1, 5, LOCAL, REMOTE)[20:]) if pair[0] != missing]
    assert decode(m.generic(1, pairs)) == [Event(1, 5)]


@pytest.mark.parametrize("kind", [0, 4, 12, 17, 255])
def test_kinds_of_later_kernels_are_told_with_what_they_have(kind):
    """And a message without any attribute."""
    assert decode(m.event(kind, 5, LOCAL, REMOTE)) == [Event(kind, 5, 2, identity(LOCAL, REMOTE, 2))]
    assert decode(m.generic(kind, [])) == [Event(kind)]


@pytest.mark.parametrize("attribute, least", [
    (m.EV_TOKEN, 4), (m.EV_FAMILY, 2), (m.EV_SADDR4, 4), (m.EV_SADDR6, 16), (m.EV_DADDR4, 4), (m.EV_DADDR6, 16),
    (m.EV_SPORT, 2), (m.EV_DPORT, 2), (m.EV_BACKUP, 1), (m.EV_ERROR, 1), (m.EV_IF_IDX, 4), (m.EV_RESET_REASON, 4)])
def test_an_attribute_that_is_too_short(attribute, least):
    """It would read its neighbour's bytes: malformed.  Just long enough is read."""
    others = [pair for pair in m.attributes(m.event(1, 5, LOCAL, REMOTE)[20:]) if pair[0] != attribute]
    decoder = Decoder(m.EVENTS_FAMILY, pm_events.learn)
    assert decode(m.generic(1, [*others, (attribute, bytes(least - 1))]), decoder) == []
    assert decoder.malformed == 1
    assert len(decode(m.generic(1, [*others, (attribute, bytes(least))]), decoder)) == 1
    assert decoder.malformed == 1


def test_messages_of_other_families_are_none_of_ours():
    """Whatever is in them."""
    decoder = Decoder(m.EVENTS_FAMILY, pm_events.learn)
    assert decode(m.generic(1, [(1, b"x")], family=29) + m.event(3, 5), decoder) == [Event(3, 5)]
    assert (decoder.messages, decoder.malformed) == (1, 0)


# The answer to CTRL_CMD_GETFAMILY.


def answer(groups, family=28):
    """An answer with these (name, number) of groups."""
    nest = m.pack([(number + 1, m.pack([(2, group.to_bytes(4, "little")), (1, name)]))
                   for number, (name, group) in enumerate(groups)])
    return m.generic(1, [(2, b"mptcp_pm\0"), (1, family.to_bytes(2, "little")), (7, nest)], family=16)


@pytest.mark.parametrize("groups, found", [
    ([(b"mptcp_pm_cmds\0", 8), (b"mptcp_pm_events\0", 0x12345)], (300, 0x12345)),
    ([(b"mptcp_pm_events\0", 1)], (300, 1))])
def test_ids_are_found_by_name(groups, found):
    """In whatever order, behind whatever else."""
    assert pm_events.ids(m.generic(9, [], family=3) + answer(groups, 300)) == found


@pytest.mark.parametrize("data, number", [
    (m.done(-errno.ENOENT, m.NLMSG_ERROR), errno.ENOENT),
    (m.done(-errno.EPERM, m.NLMSG_ERROR), errno.EPERM),
    (answer([(b"mptcp_pm_cmds\0", 8)]), errno.EOPNOTSUPP),
    (answer([(b"mptcp_pm_events", 8)]), errno.EOPNOTSUPP),
    (answer([]), errno.EOPNOTSUPP),
    (m.generic(1, [(1, b"\x1c\0")], family=16), errno.EOPNOTSUPP),
    (b"", errno.EOPNOTSUPP)])
def test_kernels_without_events(data, number):
    """No MPTCP at all, or that of Linux 5.10."""
    with pytest.raises(OSError) as refusal:
        pm_events.ids(data)
    assert refusal.value.errno == number


def test_a_cut_answer_is_malformed_or_has_no_events():
    """Never a wrong number."""
    data = m.recorded("genl_getfamily_host-a.bin")
    for cut in range(1, len(data)):
        with pytest.raises((netlink.Malformed, OSError)):
            pm_events.ids(data[:cut])


class Asked:
    """A generic netlink socket with an answer, and a subscription that may be refused."""

    def __init__(self, reply, refusal=None):
        self.reply, self.refusal = reply, refusal
        self.sent, self.joined, self.closed = [], [], 0

    def __call__(self, *_args):
        return self

    __enter__ = __call__

    def __exit__(self, *_args):
        pass

    def send(self, data):
        """Remember it."""
        self.sent.append(data)

    def recv(self, _size):
        """The answer."""
        return self.reply

    def join(self, group):
        """As netlink.Subscription."""
        self.joined.append(group)
        if self.refusal:
            raise self.refusal

    def close(self):
        """Count it."""
        self.closed += 1


@pytest.mark.parametrize("refusal", [None, PermissionError(errno.EPERM, "no")])
def test_listen_asks_for_the_family_and_joins_its_group(monkeypatch, refusal):
    """And leaves no socket behind when that is refused."""
    fake = Asked(m.recorded("genl_getfamily_host-a.bin"), refusal)
    monkeypatch.setattr(netlink, "open_socket", fake)
    monkeypatch.setattr(netlink, "Subscription", fake)
    if refusal:
        with pytest.raises(PermissionError):
            pm_events.listen(1000)
    else:
        subscription, decoder = pm_events.listen(1000)
        assert subscription is fake
        assert decode(m.recorded("pm_events_host-a.bin"), decoder)
    assert (fake.joined, fake.closed) == ([9], int(bool(refusal)))
    [asked] = fake.sent
    assert m.HEADER.unpack_from(asked)[:3] == (16 + 4 + 13, 16, 1)  # GENL_ID_CTRL, NLM_F_REQUEST
    assert asked[16:18] == b"\3\1"  # CTRL_CMD_GETFAMILY, version
    assert m.attributes(asked[20:]) == [(2, b"mptcp_pm\0")]


# Bytes that no kernel should send.


def reference(message):
    """An event parsed attribute by attribute; the last of a kind counts."""
    found = {kind & 0x3FFF: payload for kind, payload in m.attributes(message[20:])}
    number = {name: int.from_bytes(found[place][:size], "little") if place in found else None
              for name, place, size in (("token", 1, 4), ("error", 12, 1), ("reason", 16, 4), ("bound", 15, 4))}
    if number["token"] is None:
        return Event(message[16])
    four = m.EV_SADDR4 in found
    source, target = (m.EV_SADDR4, m.EV_DADDR4) if four else (m.EV_SADDR6, m.EV_DADDR6)
    if not {source, target, m.EV_SPORT, m.EV_DPORT} <= found.keys():
        return Event(message[16], number["token"])
    size = 4 if four else 16
    ends = [found[m.EV_SPORT][:2], found[m.EV_DPORT][:2], *(found[one][:size].ljust(16, b"\0")
                                                            for one in (source, target))]
    return Event(message[16], number["token"], socket.AF_INET if four else socket.AF_INET6,
                 b"".join(ends) + (number["bound"] or 0).to_bytes(4, "little"), number["error"], number["reason"],
                 found.get(m.EV_BACKUP, b"\0")[0] > 0)


def check(data):
    """Decode: nothing escapes, nothing is made up, and the cost is bounded."""
    decoder, found = Decoder(m.EVENTS_FAMILY, pm_events.learn), []
    for event, buffer, offset, layout in decoder.decode([data]):
        assert event == reference(buffer[offset:offset + layout.length])
        found.append(event)
        assert len(found) <= 64
    assert decoder.malformed in (0, 1)
    return found


EVENTS = [message for host in HOSTS for message in m.split(m.recorded(f"pm_events_{host}.bin"))]
SHORT = [*EVENTS[:3], m.event(m.SUB_CLOSED, 9, LOCAL, REMOTE, bound=4, error=104, reason=2), EVENTS[-3], EVENTS[-1]]
STARTS = [sum(map(len, SHORT[:number])) for number in range(len(SHORT))]


def test_a_buffer_of_events_cut_at_any_byte():
    """Whole messages before the cut are served."""
    data, everything = b"".join(SHORT), check(b"".join(SHORT))
    assert len(everything) == len(SHORT)
    for cut in range(len(data) + 1):
        assert check(data[:cut]) == everything[:sum(start + len(one) <= cut for start, one in zip(STARTS, SHORT))]


def headers():
    """Places of the message and attribute headers, which decide most."""
    for start, message in zip(STARTS, SHORT):
        yield from range(start, start + 6)
        yield start + 16
        place = 20
        for _, payload in m.attributes(message[20:]):
            yield from range(start + place, start + place + 4)
            place += 4 + len(payload) + -len(payload) % 4


@settings(max_examples=400)
@given(st.lists(st.tuples(st.sampled_from(list(headers())) | st.integers(0, sum(map(len, SHORT)) - 1),
                          st.integers(0, 20) | st.integers(0, 255)), min_size=1, max_size=6))
def test_mutated_events(changes):
    """Whatever bytes change: no exception, no event that the bytes do not say."""
    data = bytearray(b"".join(SHORT))
    for place, value in changes:
        data[place] = value
    check(bytes(data))
    check(b"".join(SHORT) + bytes(data))  # with layouts that were learned from good ones


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_garbage_instead_of_events(data):
    """Random bytes, alone, behind a good event and as the body of one; and as an answer about the family."""
    check(data)
    assert check(SHORT[0] + data)[0] == decode(SHORT[0])[0]
    check(m.HEADER.pack(16 + len(data), m.EVENTS_FAMILY, 0, 0, 0) + data)
    for reply in (data, m.HEADER.pack(16 + len(data), 16, 0, 0, 0) + data):
        with pytest.raises((netlink.Malformed, OSError)):
            pm_events.ids(reply)
