# SPDX-License-Identifier: GPL-2.0-or-later
"""Route look-ups: the questions in bytes, and every kind of answer."""

import errno
import socket
import struct

import pytest
from pmdamptcp.kernel import inet_diag, netlink, routes

from . import messages as m

V4, V6 = routes.key("10.0.1.1", "10.0.2.2"), routes.key("fd00::1", "fd00::2", 4)
MAPPED = routes.key("::ffff:10.0.1.1", "::ffff:10.0.2.2")


def answer(number, index=None, kind=routes.RTM_NEWROUTE):
    """The kernel's answer to one question."""
    interface = [(4, index.to_bytes(4, "little"))] if index is not None else []
    body = bytes(12) + m.pack([(1, bytes(4)), *interface])
    return m.HEADER.pack(16 + len(body), kind, 0, number, 0) + body


def refusal(number):
    """No route: -ENETUNREACH and the question's header."""
    return m.HEADER.pack(36, m.NLMSG_ERROR, 0, number, 0) + struct.pack("=i", -errno.ENETUNREACH) + bytes(16)


class Socket:
    """Answers each batch with what `reply` makes of its questions."""

    def __init__(self, reply):
        self.reply, self.waiting, self.batches = reply, [], []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def send(self, data):
        """A batch of questions."""
        self.batches.append(m.split(data))
        self.waiting = self.reply(self.batches[-1])

    def recv(self, _size):
        """The next buffer of answers."""
        return self.waiting.pop(0)


@pytest.fixture
def ask(monkeypatch):
    """Look keys up in a kernel that replies so; returns the answers and the batches of questions."""

    def egress(keys, reply):
        sock = Socket(reply)
        monkeypatch.setattr(netlink, "open_socket", lambda protocol: sock)
        return routes.egress(keys), sock.batches

    return egress


def question(message):
    """Family, prefix lengths, and attributes of a question."""
    assert m.HEADER.unpack_from(message)[:3] == (len(message), routes.RTM_GETROUTE, netlink.NLM_F_REQUEST)
    return tuple(message[16:19]), dict(m.attributes(message[28:]))


def test_questions(ask):
    """v4-mapped addresses are asked as IPv4, the bound device goes along."""
    _, [questions] = ask([V4, V6, MAPPED], lambda batch: [b"".join(answer(n) for n in range(len(batch)))])
    four = {routes.RTA_DST: socket.inet_aton("10.0.2.2"), routes.RTA_SRC: socket.inet_aton("10.0.1.1")}
    assert question(questions[0]) == ((socket.AF_INET, 32, 32), four)
    assert question(questions[1]) == (
        (socket.AF_INET6, 128, 128),
        {
            routes.RTA_DST: socket.inet_pton(socket.AF_INET6, "fd00::2"),
            routes.RTA_SRC: socket.inet_pton(socket.AF_INET6, "fd00::1"),
            routes.RTA_OIF: b"\4\0\0\0",
        },
    )
    assert question(questions[2]) == ((socket.AF_INET, 32, 32), four)


def test_keys_are_those_of_recorded_sockets():
    """What a socket gives as its key is what is made from its addresses."""
    for dump in ("host-a_af2", "host-a_af10", "host-b_af2"):
        for _, data, offset, layout in inet_diag.Decoder(m.TCP).decode([m.recorded(f"tcp_dump_{dump}.bin")]):
            row = inet_diag.Row()
            row.data, row.offset, row.layout = data, offset, layout
            local, _, remote, _ = row.endpoints
            identity, family = inet_diag.identity(data, offset)
            assert identity[4:] + bytes([family]) == routes.key(local, remote, row.bound)


def test_answers_in_any_order_and_number_of_buffers(ask):
    """An interface, no route, and an answer that names no interface."""
    found, _ = ask([V4, V6, MAPPED], lambda batch: [answer(2, 7), refusal(1) + answer(0)])
    assert found == {V4: None, V6: None, MAPPED: 7}


def test_many_questions_go_in_batches(ask):
    """So that the answers fit the receive buffer."""
    keys = [routes.key("10.0.0.1", f"10.1.{number // 256}.{number % 256}") for number in range(150)]
    found, batches = ask(
        keys,
        lambda batch: [
            b"".join(
                answer(n, int.from_bytes(question(one)[1][routes.RTA_DST][2:], "big") + 1)
                for n, one in enumerate(batch)
            )
        ],
    )
    assert [len(batch) for batch in batches] == [64, 64, 22]
    assert found == {key: number + 1 for number, key in enumerate(keys)}


def test_no_question_needs_no_socket(ask):
    """A host without subflows."""
    assert ask([], None) == ({}, [])


@pytest.mark.parametrize("reply", [answer(1, 3), answer(2**32 - 1, 3), b"\0" * 9, answer(0, 3)[:-1]])
def test_answers_that_make_no_sense(ask, reply):
    """To no question of the batch, or cut: an error, not a wrong interface."""
    with pytest.raises(netlink.Malformed):
        ask([V4], lambda batch: [reply])


def test_the_kernel_itself():
    """This needs no privileges; every host has its loopback."""
    key = routes.key("127.0.0.1", "127.0.0.1")
    assert routes.egress([key]) == {key: socket.if_nametoindex("lo")}


def test_sources_of_an_address():
    """An IPv4 endpoint is also that of v4-mapped sockets."""
    assert routes.source_of(V4) in routes.sources("10.0.1.1")
    assert routes.source_of(MAPPED) in [*routes.sources("10.0.1.1"), *routes.sources("::ffff:10.0.1.1")]
    assert routes.source_of(V6) in routes.sources("fd00::1")
    assert routes.source_of(V4) not in routes.sources("10.0.1.2")


@pytest.mark.parametrize(
    "route, source, expected",
    [
        (V4, "10.0.3.1", routes.key("10.0.3.1", "10.0.2.2", 9)),
        (V6, "fd00::7", routes.key("fd00::7", "fd00::2", 9)),
        (V4, "fd00::7", None),
        (V6, "10.0.3.1", None),
    ],
)
def test_the_same_destination_from_elsewhere(route, source, expected):
    """An IPv6 address cannot send to an IPv4 one."""
    assert routes.rerooted(route, source, 9) == expected
