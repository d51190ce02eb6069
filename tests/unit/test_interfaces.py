# SPDX-License-Identifier: GPL-2.0-or-later
"""Links and addresses from recorded bytes, and word of changes."""

import errno

import pytest
from pmdamptcp.kernel import interfaces, netlink
from pmdamptcp.records import Link
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from . import messages as m


class Route:
    """In the place of pyroute2.IPRoute: recorded answers."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    @staticmethod
    def _parsed(name, kind):
        for message in m.split(m.recorded(name)):
            if m.HEADER.unpack_from(message)[1] != m.NLMSG_DONE:
                one = kind(message)
                one.decode()
                yield one

    def get_links(self):
        """RTM_GETLINK."""
        return self._parsed("rt_links_host-a.bin", ifinfmsg)

    def get_addr(self):
        """RTM_GETADDR."""
        return self._parsed("rt_addrs_host-a.bin", ifaddrmsg)


@pytest.fixture(autouse=True)
def recorded(monkeypatch):
    """Nothing here asks the kernel."""
    monkeypatch.setattr(interfaces, "IPRoute", Route)


def test_links():
    """Named and numbered as ip link printed them."""
    assert interfaces.links() == [
        Link(1, "lo", True),
        Link(2, "l1", True),
        Link(3, "l2", True),
        Link(4, "l3", True),
    ]


@pytest.mark.parametrize("flags, up", [(0x1 | 0x10000, True), (0x1, False), (0x10000, False), (0, False)])
def test_up_needs_carrier(monkeypatch, flags, up):
    """Administratively up alone is not enough."""
    link = type("Message", (dict,), {"get_attr": lambda self, name: "eth0"})(index=9, flags=flags)
    monkeypatch.setattr(Route, "get_links", lambda self: [link])
    assert interfaces.links() == [Link(9, "eth0", up)]


def test_owners_of_addresses():
    """IPv4 and IPv6, by the link's number."""
    owners = interfaces.addresses()
    assert owners["127.0.0.1"] == 1
    assert {
        address: owners[address]
        for address in ("10.0.1.1", "10.0.2.1", "10.0.3.1", "fd00:1::1", "fd00:2::1", "fd00:3::1")
    } == {"10.0.1.1": 2, "10.0.2.1": 3, "10.0.3.1": 4, "fd00:1::1": 2, "fd00:2::1": 3, "fd00:3::1": 4}


class Listening:
    """A socket with these messages waiting."""

    def __init__(self, *waiting):
        self.waiting = list(waiting)

    def recv(self, _size):
        """What waits, or EAGAIN."""
        if not self.waiting:
            raise BlockingIOError(errno.EAGAIN, "nothing there")
        answer = self.waiting.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def changes(monkeypatch):
    """A listener, past its first answer, and its socket."""
    sock = Listening()
    monkeypatch.setattr(netlink, "open_socket", lambda protocol, groups: sock)
    listener = interfaces.Changes()
    assert listener.any() is True  # nobody has looked yet
    return listener, sock


def test_no_news(changes):
    """The usual case."""
    listener, _ = changes
    assert [listener.any(), listener.any()] == [False, False]


@pytest.mark.parametrize(
    "waiting",
    [[b"x"], [b"x", b"y"], [OSError(errno.ENOBUFS, "overrun")], [OSError(errno.ENOBUFS, "overrun"), b"x"]],
)
def test_news(changes, waiting):
    """All that waits is one change, and so is what was lost."""
    listener, sock = changes
    sock.waiting += waiting
    assert [listener.any(), listener.any()] == [True, False]


def test_a_listener_that_broke(changes):
    """Left to the caller, who then looks each time."""
    listener, sock = changes
    sock.waiting.append(OSError(errno.EBADF, "closed"))
    with pytest.raises(OSError):
        listener.any()
