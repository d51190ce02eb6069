# SPDX-License-Identifier: GPL-2.0-or-later
"""Limits and endpoints: recorded bytes through pyroute2's own message class."""

import pytest
from pmdamptcp.kernel import path_manager
from pmdamptcp.records import Endpoint, Limits
from pyroute2.netlink.generic import mptcp

from . import messages as m

SIGNAL, SUBFLOW, BACKUP, FULLMESH, IMPLICIT = 1, 2, 4, 8, 16


def parsed(data):
    """The messages of a recorded answer, as pyroute2 hands them out."""
    found = []
    for message in m.split(data):
        if m.HEADER.unpack_from(message)[1] > 16:  # a generic netlink family, not the end of the dump
            one = mptcp.mptcp_msg(message)
            one.decode()
            found.append(one)
    return found


class Kernel:
    """In the place of pyroute2.MPTCP."""

    def __init__(self, limits=b"", endpoints=b""):
        self._limits, self._endpoints = parsed(limits), parsed(endpoints)

    def __call__(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def limits(self, command):
        """As pyroute2: an iterable of messages."""
        assert command == "show"
        return iter(self._limits)

    def endpoint(self, command):
        """As pyroute2: an iterable of messages."""
        assert command == "show"
        return iter(self._endpoints)


@pytest.fixture
def read(monkeypatch):
    """Read from a kernel that answers with these bytes."""

    def from_kernel(**answers):
        monkeypatch.setattr(path_manager, "MPTCP", Kernel(**answers))
        return path_manager.read()

    return from_kernel


@pytest.mark.parametrize(
    "host, expected",
    [
        (
            "host-a",
            [
                Endpoint(1, "fd00:3::1", 0, 4, SUBFLOW | BACKUP | FULLMESH),
                Endpoint(77, "10.0.3.1", 0, 4, SUBFLOW),
                Endpoint(78, "10.0.1.1", 0, 0, IMPLICIT),
                Endpoint(79, "10.0.2.1", 0, 0, IMPLICIT),
            ],
        ),
        (
            "host-b",
            [
                Endpoint(1, "10.0.2.2", 0, 3, SIGNAL),
                Endpoint(2, "10.0.3.2", 0, 4, SIGNAL),
                Endpoint(3, "fd00:2::2", 0, 3, SIGNAL),
                Endpoint(4, "fd00:3::2", 0, 4, SIGNAL | BACKUP),
                Endpoint(33, "10.0.1.2", 5555, 0, SIGNAL),
            ],
        ),
    ],
)
def test_recorded_endpoints(read, host, expected):
    """As ip mptcp endpoint printed them: l2 is device 3, l3 is 4."""
    limits, endpoints = read(
        limits=m.recorded(f"pm_limits_{host}.bin"), endpoints=m.recorded(f"pm_endpoints_{host}.bin")
    )
    assert limits == Limits(subflows=8, add_addr_accepted=8)
    assert endpoints == expected


@pytest.mark.parametrize("host", ["host-a", "host-b"])
def test_the_text_of_the_record_says_the_same(read, host):
    """Flags in words, and ids; written by another program."""
    _, endpoints = read(endpoints=m.recorded(f"pm_endpoints_{host}.bin"))
    said = {}
    for line in m.lines(f"pm_endpoints_{host}.txt")[2:]:
        words = line.split()
        said[int(words[words.index("id") + 1])] = words
    assert {one.id for one in endpoints} == set(said)
    for one in endpoints:
        words = said[one.id]
        assert one.address == words[0]
        assert ("dev" in words) == bool(one.ifindex)
        assert one.port == (int(words[words.index("port") + 1]) if "port" in words else 0)
        for name, bit in path_manager.FLAGS.items():
            # The iproute2 that wrote it did not know `implicit` by name.
            assert bool(one.flags & bit) == (name in words or (name == "implicit" and "rawflags" in words))


def test_nothing_configured(read):
    """No endpoint; and limits that did not come have no value."""
    assert read() == (Limits(None, None), [])


def test_endpoints_come_in_the_order_of_their_ids(read):
    """Whatever order the kernel has."""
    dump = m.split(m.recorded("pm_endpoints_host-b.bin"))
    _, endpoints = read(endpoints=b"".join(reversed(dump)))
    assert [one.id for one in endpoints] == [1, 2, 3, 4, 33]


@pytest.mark.parametrize("pairs, expected", [
    ([(3, b"\n\0\2\1")], [Endpoint(0, "10.0.2.1", 0, 0, 0)]),  # an address alone
    ([(2, b"\7")], []),  # an id alone: without an address it is none
])
def test_an_endpoint_with_one_attribute_only(read, pairs, expected):
    """Numbers that a kernel leaves out are 0, and no exception."""
    body = b"\3\1\0\0" + m.pack([(1 | 0x8000, m.pack(pairs))])
    message = m.HEADER.pack(16 + len(body), 28, 2, 1, 0) + body
    assert read(endpoints=message)[1] == expected


def test_an_empty_answer_is_no_endpoint(read):
    """A message without the address attribute."""
    message = m.HEADER.pack(20, 28, 2, 1, 0) + b"\3\1\0\0"
    assert read(endpoints=message)[1] == []


@pytest.mark.parametrize(
    "value, index",
    [("03:00:00:00", 3), ("ff:ff:00:00", 65535), ("00:00:00:00", 0), (3, 3), (0, 0), (None, 0)],
)
def test_interface_index_of_any_pyroute2(value, index):
    """Up to 0.9 it is text in hex; a number in one that mends this."""
    assert path_manager._index(value) == index
