# SPDX-License-Identifier: GPL-2.0-or-later
"""The little netlink: walking, requests, and how a dump ends."""

import errno
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pmdamptcp.kernel import netlink

from . import messages as m


class Socket:
    """A socket that has its answers ready."""

    def __init__(self, *answers):
        self.answers, self.sent = list(answers), []

    def send(self, data):
        """Remember the request."""
        self.sent.append(data)

    def recv(self, _size):
        """The next answer: bytes or an exception."""
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def dump(*answers):
    """The buffers of a dump that gets these answers."""
    return list(netlink.dump(Socket(*answers), m.SOCK_DIAG_BY_FAMILY, b""))


MESSAGES = b"".join(m.sockets("mptcp_dump_host-a_af2.bin"))


def test_walk_of_a_recorded_dump():
    """Type and place of each message."""
    data = m.recorded("tcp_dump_host-b_af10.bin")
    walked = [(kind, data[start - 16:end]) for kind, start, end in netlink.messages(data)]
    assert walked == [(m.HEADER.unpack_from(message)[1], message) for message in m.split(data)]


@pytest.mark.parametrize(
    "data",
    [
        b"\1",
        bytes(15),
        m.HEADER.pack(15, 20, 0, 0, 0),
        m.HEADER.pack(17, 20, 0, 0, 0),
        m.HEADER.pack(0, 20, 0, 0, 0),
        m.done() + b"xyz",
    ],
)
def test_walk_ends_at_nonsense(data):
    """Stray bytes, lengths below the header's or beyond the buffer."""
    with pytest.raises(netlink.Malformed):
        list(netlink.messages(data))


def test_attributes_of_a_recorded_socket():
    """Each payload at its place."""
    message = m.sockets("tcp_dump_host-a_af2.bin")[0]
    found = netlink.attributes(message, m.BODY, len(message))
    assert {kind: message[start:start + size] for kind, (start, size) in found.items()} == dict(
        m.attributes(message[m.BODY:])
    )


def test_attribute_types_lose_their_flag_bits():
    """NLA_F_NESTED and NLA_F_NET_BYTEORDER."""
    data = m.pack([(1 | 0x8000, b"a"), (2 | 0x4000, b"")])
    assert netlink.attributes(data, 0, len(data)) == {1: (4, 1), 2: (12, 0)}


@pytest.mark.parametrize("length", [0, 3, 9, 0xFFFF])
def test_attribute_lengths_that_cannot_be(length):
    """Shorter than a header, longer than what is left."""
    with pytest.raises(netlink.Malformed):
        netlink.attributes(m.ATTRIBUTE.pack(length, 1) + bytes(4), 0, 8)


@given(st.binary(max_size=200), st.integers(0, 60))
def test_walks_of_garbage_end(data, start):
    """With places inside the data, or with Malformed."""
    try:
        for _, begin, end in netlink.messages(data):
            assert 16 <= begin <= end <= len(data)
    except netlink.Malformed:
        pass
    try:
        for begin, size in netlink.attributes(data, start, len(data)).values():
            assert start + 4 <= begin <= begin + size <= len(data)
    except netlink.Malformed:
        pass


@pytest.mark.parametrize("payload", [b"", b"abc", b"abcd"])
def test_requests_are_padded_and_say_their_length(payload):
    """So that the next one can follow at once."""
    data = netlink.request(26, 0, payload, 7)
    assert netlink.HEADER.unpack_from(data) == (16 + len(payload), 26, netlink.NLM_F_REQUEST, 7, 0)
    assert data[16:] == payload + bytes(-len(payload) % 4)


def test_a_dump_asks_once_and_returns_all_buffers():
    """The end in a buffer of its own."""
    sock = Socket(MESSAGES, MESSAGES[:224], m.done())
    assert list(netlink.dump(sock, 20, b"body")) == [MESSAGES, MESSAGES[:224], m.done()]
    assert sock.sent == [netlink.request(20, netlink.NLM_F_DUMP, b"body")]


def test_the_end_of_a_dump_may_close_a_buffer():
    """As in all recorded dumps: no further recv, which would wait in vain."""
    data = m.recorded("tcp_dump_host-a_af2.bin")
    assert dump(data) == [data]


@pytest.mark.parametrize(
    "answer", [m.done(-errno.EPERM, m.NLMSG_ERROR), m.done(-errno.EPERM), MESSAGES + m.done(-errno.EPERM)]
)
def test_a_refusal_is_raised_with_its_errno(answer):
    """As a message of its own, or in the NLMSG_DONE that ends a dump half done."""
    with pytest.raises(OSError) as refusal:
        dump(answer)
    assert (refusal.value.errno, refusal.value.strerror) == (errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize("fault", [socket.timeout("timed out"), OSError(errno.ENOBUFS, "overrun")])
def test_a_fault_in_the_middle_is_no_short_dump(fault):
    """What came so far is not passed for everything."""
    with pytest.raises(OSError):
        dump(MESSAGES, fault)


def test_a_closed_socket_ends_a_dump():
    """No endless loop of empty answers."""
    with pytest.raises(OSError) as fault:
        dump(MESSAGES, b"", b"", m.done())
    assert fault.value.errno == errno.EPIPE


def looks_like_the_end(last_ack_recv=0):
    """A connection that confirmed 80 GiB over 3 subflows: the end of its message reads like an NLMSG_DONE."""
    info = bytearray(96)
    info[72:80] = (20 << 32 | 12345).to_bytes(8, "little")  # bytes_acked: its high word is DONE's length
    info[80] = netlink.NLMSG_DONE  # subflows_total, and 0 endp_laminar_max
    info[92:96] = last_ack_recv.to_bytes(4, "little")
    return m.socket_message(1, [(m.INFO, bytes(info))])


@pytest.mark.parametrize("last_ack_recv", [0, 1])
def test_socket_data_are_not_taken_for_the_end(last_ack_recv):
    """Whatever a socket's counters are, the sockets after it are there."""
    data = looks_like_the_end(last_ack_recv)
    assert dump(data, MESSAGES, m.done()) == [data, MESSAGES, m.done()]


def test_sockets_listen_without_waiting_and_ask_with_a_limit():
    """Netlink needs no privileges for this."""
    with netlink.open_socket(0) as asking, netlink.open_socket(0, 1) as listening:
        assert asking.gettimeout() == netlink.TIMEOUT
        assert listening.gettimeout() == 0
        assert not os.get_inheritable(asking.fileno())


def test_sockets_of_protocols_that_do_not_exist():
    """Refused by socket(2)."""
    with pytest.raises(OSError):
        netlink.open_socket(99)
