# SPDX-License-Identifier: GPL-2.0-or-later
"""The C table that libpcp_pmda reads."""

import ctypes

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pmdamptcp import indoms
from pmdamptcp.indoms import ListIndom


@pytest.fixture(scope="module", autouse=True)
def needs_refresh():
    """Count what would be told to libpcp_pmda, which knows no agent here."""
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indoms.cpmda, "set_need_refresh", lambda: told.append(1))
        yield told


def table(indom):
    """What C sees, read through the pointer."""
    return {
        indom.it_set[place].i_inst: ctypes.string_at(indom.it_set[place].i_name).decode()
        for place in range(indom.it_numinst)
    }


def test_empty():
    """Before the first sample, and after the last connection."""
    indom = ListIndom(5)
    assert table(indom) == {}
    indom.replace({1: "a"}, str)
    indom.replace({}, str)
    assert table(indom) == {}


@given(
    st.lists(
        st.dictionaries(
            st.integers(1, 2**31 - 1),
            st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])),
            max_size=50,
        ),
        max_size=5,
    )
)
def test_replaced_as_a_whole(samples):
    """Nothing of the last table is left; names may be empty or beyond ASCII."""
    indom, shown = ListIndom(5), {}
    for rows in samples:
        if list(rows) != list(shown):  # names of the same ids do not change
            shown = rows
        indom.replace(rows, str)
        assert table(indom) == shown
        assert indom.it_numinst == len(shown)


def test_the_table_before_is_still_readable():
    """libpcp_pmda may walk it until the refresh callback is over."""
    indom = ListIndom(5)
    indom.replace(
        {number: f"c{number} 10.0.0.1:{number}->10.0.0.2:80" for number in range(1, 1001)}, lambda name: name
    )
    before, count = ctypes.cast(indom.it_set, type(indom.it_set)), indom.it_numinst  # a pointer of our own
    indom.replace({7: "x"}, str)
    names = [ctypes.string_at(before[place].i_name) for place in range(count)]
    assert names[999] == b"c1000 10.0.0.1:1000->10.0.0.2:80"
    assert table(indom) == {7: "x"}


def test_the_same_instances_cost_nothing(needs_refresh):
    """Names are not even made."""
    indom = ListIndom(5)
    indom.replace({1: "a", 2: "b"}, str)
    told = len(needs_refresh)

    def never(_row):
        raise AssertionError("named again")

    indom.replace({1: "a", 2: "b"}, never)
    assert len(needs_refresh) == told
    indom.replace({2: "b", 1: "a"}, str)
    assert len(needs_refresh) == told + 1


def test_names_that_are_no_unicode():
    """A device name may hold any bytes; it must not end the agent."""
    indom = ListIndom(5)
    indom.replace({1: "bad\udcff", 2: "good"}, str)
    assert table(indom) == {1: "bad?", 2: "good"}
