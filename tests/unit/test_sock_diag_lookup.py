# SPDX-License-Identifier: GPL-2.0-or-later
"""Asking for single sockets: what is asked, in which portions, and whose answer is whose."""

import errno
import socket

import pytest
from pmdamptcp.kernel import inet_diag, netlink, sock_diag

from . import messages as m

ANY = [(socket.AF_INET, bytes([number]) * 40 + inet_diag.NO_COOKIE) for number in range(130)]


class Socket:
    """Answers each request of a batch in order, once it was sent; a test may change the answers."""

    def __init__(self):
        self.batches, self.waiting, self.opened, self.closed = [], [], 0, 0
        self.answer = lambda request: request[:16] + request[20:68]  # some bytes that tell whose answer it is

    def __call__(self, protocol):
        assert protocol == sock_diag.NETLINK_SOCK_DIAG
        self.opened += 1
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_args):
        self.closed += 1

    def send(self, data):
        """One batch; none before the last was answered."""
        assert not self.waiting
        self.batches.append(m.split(data))
        self.waiting += map(self.answer, self.batches[-1])

    def recv(self, _size):
        """The next answer: bytes or an exception."""
        answer = self.waiting.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def sock(monkeypatch):
    """In the place of the netlink socket."""
    fake = Socket()
    monkeypatch.setattr(netlink, "open_socket", fake)
    return fake


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_lookup_asks_for_one_socket_with_info(sock, family):
    """inet_diag_req_v2 without NLM_F_DUMP; its sockid is what was given, the cookie included."""
    identity = bytes(range(48))
    assert len(list(sock_diag.look_up([(family, identity)]))) == 1
    [[request]] = sock.batches
    assert m.HEADER.unpack_from(request) == (16 + 56, m.SOCK_DIAG_BY_FAMILY, 1, 0, 0)
    assert request[16:20] == bytes([family, socket.IPPROTO_TCP, 1 << 1, 0])
    assert request[24:72] == identity


@pytest.mark.parametrize("token", [1, 0x89ABCDEF, 2**32 - 1])
def test_a_connection_is_asked_for_by_its_token(sock, token):
    """The kernel takes it from the first word of the cookie, and the protocol from an attribute."""
    assert len(list(sock_diag.look_up_connections([token]))) == 1
    [[request]] = sock.batches
    assert request[16:18] == bytes([socket.AF_INET, m.MPTCP & 0xFF])
    assert request[24:72] == bytes(40) + token.to_bytes(4, "little") + bytes(4)
    assert m.attributes(request[72:]) == [(3, (262).to_bytes(4, "little"))]


@pytest.mark.parametrize("count, batches", [(1, [1]), (63, [63]), (64, [64]), (65, [64, 1]), (130, [64, 64, 2])])
@pytest.mark.parametrize("ask, asked", [
    (sock_diag.look_up, ANY), (sock_diag.look_up_connections, [7 * number for number in range(130)])])
def test_batches(sock, ask, asked, count, batches):
    """What a receive buffer holds, each request with its number; all answers in order, by one socket."""
    found = list(ask(iter(asked[:count])))
    assert [len(batch) for batch in sock.batches] == batches
    for batch in sock.batches:
        assert [m.HEADER.unpack_from(request)[3] for request in batch] == list(range(len(batch)))
    assert found == [sock.answer(request) for batch in sock.batches for request in batch]
    assert (sock.opened, sock.closed) == (1, 1)


def test_nothing_to_ask_needs_no_socket(sock):
    """Most ticks of the listener."""
    assert not list(sock_diag.look_up([]))
    assert not list(sock_diag.look_up_connections([]))
    assert not sock.opened


def refused(request, number=errno.ENOENT):
    """The kernel's refusal of a request."""
    return m.HEADER.pack(36, m.NLMSG_ERROR, 0, m.HEADER.unpack_from(request)[3], 0) + (
        -number).to_bytes(4, "little", signed=True) + request[:16]


@pytest.mark.parametrize("gone", [{0}, {1}, {2}, {0, 1, 2}, {0, 64}])
def test_sockets_that_are_gone_are_answered_too(sock, gone):
    """A refusal takes its socket's place, and is none of the decoder's messages."""
    count = max(gone) + 3
    number = iter(range(count))
    sock.answer = lambda request: refused(request) if next(number) in gone else (
        request[:16] + m.subflow(5, 100)[16:])
    found = list(sock_diag.look_up(ANY[:count]))
    assert {place for place, data in enumerate(found) if m.HEADER.unpack_from(data)[1] == m.NLMSG_ERROR} == gone
    decoder = inet_diag.Decoder(m.TCP)
    sockets = [message for message in found if m.HEADER.unpack_from(message)[1] != m.NLMSG_ERROR]
    assert len(sockets) == count - len(gone)
    fixed = [m.HEADER.pack(len(one), 20, 0, 0, 0) + one[16:] for one in sockets]
    assert len(list(decoder.decode([data for data in found if data not in sockets] + fixed))) == len(sockets)
    assert decoder.malformed == 0


def test_a_listeners_answer_is_no_subflow():
    """Once the socket is gone, the kernel answers with who listens: as recorded, of MPTCP and of TCP."""
    listeners = [message for message in m.sockets("tcp_dump_host-b_af10.bin") + m.sockets("tcp_dump_host-b_af2.bin")
                 if message[17] == m.LISTEN]
    assert len(listeners) == 3
    assert not list(inet_diag.Decoder(m.TCP).decode(listeners))


@pytest.mark.parametrize("shift", [1, -1, 1000])
@pytest.mark.parametrize("place", [0, 1, 65])
def test_an_answer_to_something_else_is_malformed(sock, place, shift):
    """A late one, say: from there on no answer could be told from its neighbour's."""
    number = iter(range(100))

    def answer(request):
        wrong = (m.HEADER.unpack_from(request)[3] + (shift if next(number) == place else 0)) % 2**32
        return m.HEADER.pack(16, 20, 0, wrong, 0)

    sock.answer = answer
    answers = sock_diag.look_up(ANY[:70])
    assert len([next(answers) for _ in range(place)]) == place
    with pytest.raises(netlink.Malformed):
        next(answers)
    assert sock.closed == 1


@pytest.mark.parametrize("data", [b"", b"\1", bytes(15)])
def test_an_answer_without_a_header_is_malformed(sock, data):
    """It has no sequence number."""
    sock.answer = lambda request: data
    with pytest.raises(netlink.Malformed):
        list(sock_diag.look_up(ANY[:1]))


def test_no_answer_is_an_error(sock):
    """The socket is closed all the same."""
    sock.answer = lambda request: socket.timeout("timed out")
    with pytest.raises(OSError):
        list(sock_diag.look_up(ANY[:2]))
    assert sock.closed == 1


# This kernel's own answers.


@pytest.mark.parametrize("with_cookie", [True, False])
def test_looking_up_real_sockets(with_cookie):
    """More than a batch, in order; when they are gone the answers are refusals, or the listener."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        clients = [socket.create_connection(server.getsockname()) for _ in range(70)]
        try:
            ports = [client.getsockname()[1] for client in clients]
            rows = {inet_diag.local_port(data, offset): (inet_diag.identity(data, offset)[0], values[1])
                    for values, data, offset, _ in inet_diag.Decoder(inet_diag.PLAIN).decode(
                        sock_diag.dump(socket.IPPROTO_TCP, 1 << m.ESTABLISHED, ports=ports))}
            asked = [(socket.AF_INET, rows[port][0] + (
                rows[port][1].to_bytes(8, "little") if with_cookie else inet_diag.NO_COOKIE)) for port in ports]
            found = list(sock_diag.look_up(asked))
            assert [inet_diag.local_port(data, 0) for data in found] == ports
            assert [values[1] for values, *_ in inet_diag.Decoder(inet_diag.CLOSED).decode(found)] == [
                rows[port][1] for port in ports]
            asked[0] = socket.AF_INET, rows[ports[0]][0] + (2**63).to_bytes(8, "little")
            first, *others = sock_diag.look_up(asked)
            assert netlink.error_of(first, 16) == errno.ENOENT
            assert [data[20:68] for data in others] == [data[20:68] for data in found[1:]]
        finally:
            for client in clients:
                client.close()
