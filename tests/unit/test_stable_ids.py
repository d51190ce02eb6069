# SPDX-License-Identifier: GPL-2.0-or-later
"""Ids of things that come and go under a name."""

from hypothesis import given
from hypothesis import strategies as st
from pmdamptcp.stable_ids import Ids


def test_what_comes_back_has_its_old_id():
    """An interface that is pulled and plugged in."""
    ids = Ids()
    assert ids.of(["eth0", "usb0"]) == {"eth0": 1, "usb0": 2}
    assert ids.of(["eth0"]) == {"eth0": 1}
    assert ids.of(["ppp0", "usb0"]) == {"ppp0": 3, "usb0": 2}


def test_memory_has_a_limit():
    """Container hosts make interfaces without end; an id that was forgotten is not given to another."""
    ids, given_out = Ids(), set()
    for number in range(5000):
        found = ids.of(["lo", f"veth{number}"])
        assert found["lo"] == 1
        assert found[f"veth{number}"] not in given_out
        given_out.add(found[f"veth{number}"])
    assert len(ids._ids) <= 1003


@given(st.lists(st.sets(st.integers(0, 20))))
def test_ids_are_positive_and_nobody_elses(samples):
    """Over any history of so few things, each has one id for good."""
    ids, owner = Ids(), {}
    for keys in samples:
        found = ids.of(keys)
        assert set(found) == keys
        for key, number in found.items():
            assert number > 0
            assert owner.setdefault(number, key) == key
    assert len(owner) == len(set(owner.values()))
