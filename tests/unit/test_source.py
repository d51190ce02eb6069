# SPDX-License-Identifier: GPL-2.0-or-later
"""Readers that age, cost, fail and recover."""

import errno
import struct

import pytest
from pmdamptcp import source
from pmdamptcp.kernel import netlink
from pyroute2.netlink.exceptions import NetlinkError

from . import kernels


@pytest.fixture
def clock(monkeypatch):
    """The time that a source sees."""
    fake = kernels.Clock()
    monkeypatch.setattr(source, "monotonic", fake)
    return fake


class Reader:
    """Reads `answer`, or raises it, and takes `cost` seconds."""

    def __init__(self, clock):
        self.clock, self.cost, self.answer, self.reads = clock, 0.0, "value", 0

    def __call__(self):
        self.reads += 1
        self.clock.now += self.cost
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_a_value_serves_until_it_has_its_age(clock, log):
    """One client's several requests are one picture."""
    reader = Reader(clock)
    one = source.Source("thing", reader, log)
    assert one.value is None
    read = []
    for _ in range(4):
        read.append(one.refresh(0.1))
        clock.now += 0.06
    assert read == [True, False, True, False]
    assert one.value == "value"
    assert log == []


@pytest.mark.parametrize(
    "cost, after, read", [(1.0, 4.9, False), (1.0, 5.1, True), (0.001, 0.05, False), (0.001, 0.11, True)]
)
def test_an_expensive_reader_rests_five_times_as_long(clock, log, cost, after, read):
    """However often clients ask, at most a sixth of the time goes into reading."""
    reader = Reader(clock)
    reader.cost = cost
    one = source.Source("thing", reader, log)
    one.refresh(0.1)
    clock.now += after
    assert one.refresh(0.1) is read


@pytest.mark.parametrize(
    "fault",
    [
        OSError(errno.ENOENT, "gone"),
        ValueError("no number"),
        NetlinkError(1, "no"),
        struct.error("short"),
        netlink.Malformed("cut"),
    ],
)
def test_a_reader_that_fails(clock, log, fault):
    """Logged once, no value meanwhile, and logged when it works again."""
    reader = Reader(clock)
    one = source.Source("thing", reader, log)
    one.refresh(1)
    reader.answer = fault
    for _ in range(3):
        clock.now += 2
        assert one.refresh(1) is True
        assert one.value is None
    assert len(log) == 1
    assert log[0].startswith(f"thing: {type(fault).__name__}: ")
    reader.answer = 0
    for _ in range(3):
        clock.now += 2
        one.refresh(1)
    assert one.value == 0
    assert log[1:] == ["thing: works again"]


def test_another_fault_is_another_line(clock, log):
    """It may be the one that helps."""
    reader = Reader(clock)
    one = source.Source("thing", reader, log)
    for answer in (ValueError("a"), ValueError("a"), ValueError("b"), "value", ValueError("b")):
        reader.answer = answer
        clock.now += 1
        one.refresh(0)
    assert [line.split(";")[0] for line in log] == [
        "thing: ValueError: a",
        "thing: ValueError: b",
        "thing: works again",
        "thing: ValueError: b",
    ]


@pytest.mark.parametrize("fault", [ZeroDivisionError, KeyError, IndexError])
def test_a_fault_of_the_agent_itself_is_not_hidden(clock, log, fault):
    """Only what a kernel can cause is caught."""
    reader = Reader(clock)
    reader.answer = fault()
    with pytest.raises(fault):
        source.Source("thing", reader, log).refresh(0)


def test_an_expired_value_is_read_again(clock, log):
    """However young it is, and however expensive."""
    reader = Reader(clock)
    reader.cost = 7
    one = source.Source("thing", reader, log)
    one.refresh(100)
    one.expire()
    assert one.refresh(100) is True
    assert one.refresh(100) is False
    assert reader.reads == 2
