# SPDX-License-Identifier: GPL-2.0-or-later
"""Counters of devices that are made anew."""

from pmdamptcp import devices
from pmdamptcp.kernel.interfaces import Traffic


def told(*looks):
    """What is told of each look."""
    waiting = iter(looks)
    reader = devices.Devices(lambda: {name: Traffic(*counters) for name, counters in next(waiting).items()})
    return [{name: tuple(counters) for name, counters in reader.read().items()} for _ in looks]


def test_counters_are_the_devices_own():
    """As long as they grow, a device that was not there for a moment included."""
    looks = [{"a": (5, 7)}, {"a": (9, 7), "b": (0, 0)}, {"b": (1, 0)}, {"a": (12, 8), "b": (1, 0)}]
    assert told(*looks) == looks


def test_a_device_made_anew_goes_on():
    """Whether it was seen to be gone or not, and again; both counters are of the new one when one fell."""
    assert told({"a": (500, 70)}, {"a": (20, 90)}, {}, {"a": (10, 5)}, {"a": (11, 9)}) == [
        {"a": (500, 70)}, {"a": (520, 160)}, {}, {"a": (530, 165)}, {"a": (531, 169)}]


def test_vanished_names_are_forgotten():
    """Of a host that makes devices all the time."""
    looks = [{f"veth{number}": (1, 1)} for number in range(3000)]
    waiting = iter(looks)
    reader = devices.Devices(lambda: {name: Traffic(*one) for name, one in next(waiting).items()})
    for _ in looks:
        reader.read()
    assert len(vars(reader)["_known"]) <= 1002
