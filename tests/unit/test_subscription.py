# SPDX-License-Identifier: GPL-2.0-or-later
"""Broadcasts of this host's kernel: ends of sockets over loopback, which everybody may hear."""

import errno
import socket
import time

import pytest
from pmdamptcp.kernel import inet_diag, netlink, sock_diag
from pmdamptcp.kernel.netlink import Subscription


def opened(size=1 << 20):
    """A subscription to ends of sockets."""
    return sock_diag.listen(size)


def end_sockets(count=1, reset=True):
    """Open and close connections over loopback; returns the ports of the clients."""
    ports = []
    with socket.create_server(("127.0.0.1", 0), backlog=count) as server:
        for _ in range(count):
            client = socket.create_connection(server.getsockname())
            ports.append(client.getsockname()[1])
            peer = server.accept()[0]
            client.send(b"abc")
            assert peer.recv(3) == b"abc"
            for one in (client, peer):
                if reset:  # gone at once, and the kernel sets its counters to 0 first
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                one.close()
    return ports


def until(subscription, condition):
    """Drain until something came; returns all messages."""
    found, end = [], time.monotonic() + 5
    while not condition(found):
        found += subscription.drain(1000)
        assert time.monotonic() < end
        time.sleep(0.002)
    return found


def ended(messages):
    """{local port: values} of these broadcasts."""
    return {inet_diag.local_port(data, offset): values
            for values, data, offset, _ in inet_diag.Decoder(inet_diag.CLOSED).decode(messages)}


def test_the_end_of_a_socket_is_told_with_what_it_carried():
    """Without privileges, and without asking."""
    subscription = opened()
    try:
        [port] = end_sockets(reset=False)
        found = until(subscription, lambda messages: port in ended(messages))
        _, cookie, received, sent, retrans = ended(found)[port]
        assert cookie and (sent, retrans) == (3, 0)
        assert received <= 1  # the peer's FIN counts as a byte
        assert subscription.messages == len(found)
        assert subscription.overruns == 0
    finally:
        subscription.close()


def test_a_drain_does_not_wait():
    """Of a subscription to groups and of one that has none yet."""
    for groups in (0, 1 << 1):  # ends of UDP sockets
        subscription = Subscription(sock_diag.NETLINK_SOCK_DIAG, 1 << 16, groups)
        assert not list(subscription.drain(1000))
        assert subscription.fileno() >= 0
        subscription.close()
        assert subscription.fileno() == -1


def test_an_overrun_is_counted_and_what_was_kept_follows():
    """Once for all that was lost; later messages come again."""
    subscription = opened(1)  # the kernel makes the smallest buffer of it
    try:
        ports = end_sockets(50)
        time.sleep(0.2)  # the kernel tells it from a thread of its own
        kept = list(subscription.drain(1000))
        assert subscription.overruns
        assert 0 < len(kept) < 50
        assert subscription.messages == len(kept)
        assert ended(kept).keys() & set(ports)
        [port] = end_sockets()
        until(subscription, lambda messages: port in ended(messages))
    finally:
        subscription.close()


def test_a_larger_buffer_holds_more():
    """The size is what is asked for, as far as the kernel gives it."""
    subscription = opened(1 << 20)
    try:
        ports = end_sockets(100)
        found = until(subscription, lambda messages: set(ports) <= ended(messages).keys())
        assert len(found) >= 100
        assert subscription.overruns == 0
    finally:
        subscription.close()


class Broken:
    """A socket whose recv gives these, then nothing; set and joined are remembered."""

    def __init__(self, *answers, refuse=()):
        self.answers, self.refuse, self.options, self.blocking = list(answers), refuse, [], True

    def setblocking(self, on):
        """Remember it."""
        self.blocking = on

    def setsockopt(self, *option):
        """Remember it, or refuse."""
        if option[1] in self.refuse:
            raise PermissionError(errno.EPERM, "no")
        self.options.append(option)

    def recv(self, _size):
        """The next answer, raised if it is an exception."""
        if not self.answers:
            raise BlockingIOError
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def subscribed(monkeypatch, *args, **more):
    """A subscription with such a socket."""
    sock = Broken(*args, **more)
    monkeypatch.setattr(netlink, "open_socket", lambda protocol, groups: sock)
    return Subscription(4, 12345), sock


LOST = OSError(errno.ENOBUFS, "lost")


@pytest.mark.parametrize("answers, messages, overruns", [
    ([b"a", b"b"], [b"a", b"b"], 0), ([LOST, b"a", b"b"], [b"a", b"b"], 1), ([b"a", LOST, b"b", LOST], [b"a", b"b"], 2),
    ([LOST], [], 1)])
def test_drains_on_after_an_overrun(monkeypatch, answers, messages, overruns):
    """Wherever it comes."""
    subscription, _ = subscribed(monkeypatch, *answers)
    assert list(subscription.drain(1000)) == messages
    assert (subscription.messages, subscription.overruns) == (len(messages), overruns)


def test_other_errors_are_raised(monkeypatch):
    """What came before is not lost; nothing is taken for an overrun."""
    subscription, _ = subscribed(monkeypatch, b"a", OSError(errno.ENOMEM, "no memory"))
    drain = subscription.drain(1000)
    assert next(drain) == b"a"
    with pytest.raises(OSError):
        next(drain)
    assert (subscription.messages, subscription.overruns) == (1, 0)


def test_a_flood_is_left_for_the_next_drain(monkeypatch):
    """It must not keep the caller from all else."""
    subscription, _ = subscribed(monkeypatch, b"a", LOST, b"b", b"c", b"d")
    assert [list(subscription.drain(3)) for _ in range(3)] == [[b"a", b"b"], [b"c", b"d"], []]
    assert subscription.overruns == 1


@pytest.mark.parametrize("refuse, option", [((), 33), ((33,), socket.SO_RCVBUF)])
def test_the_buffer_is_as_large_as_the_kernel_lets(monkeypatch, refuse, option):
    """SO_RCVBUFFORCE, or without the capability SO_RCVBUF."""
    _, sock = subscribed(monkeypatch, refuse=refuse)
    assert sock.options == [(socket.SOL_SOCKET, option, 12345)]
    assert sock.blocking is False


def test_groups_beyond_the_bit_mask_are_joined(monkeypatch):
    """By their number (SOL_NETLINK, NETLINK_ADD_MEMBERSHIP); a refusal is passed on."""
    subscription, sock = subscribed(monkeypatch)
    subscription.join(99)
    assert sock.options[-1] == (270, 1, 99)
    refusing, _ = subscribed(monkeypatch, refuse=(1,))
    with pytest.raises(PermissionError):
        refusing.join(99)
