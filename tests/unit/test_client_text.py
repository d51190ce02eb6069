# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers, tables and colours as a person reads them."""

from types import SimpleNamespace

import pytest
from pcp_mptcp import text
from pcp_mptcp.screen import cut
from pcp_mptcp.text import Column, Paint, words

PLAIN, COLOURED = Paint(False), Paint(True)


@pytest.mark.parametrize("bits, said", [
    (None, "-"), (0, "0 bit/s"), (1, "1 bit/s"), (999.4, "999 bit/s"), (999.5, "1.0 kbit/s"), (1040, "1.0 kbit/s"),
    (99940, "99.9 kbit/s"), (99960, "100 kbit/s"), (999400, "999 kbit/s"), (999960, "1.0 Mbit/s"),
    (47.25e6, "47.2 Mbit/s"), (1e9, "1.0 Gbit/s"), (2.5e12, "2.5 Tbit/s"), (3e15, "3000 Tbit/s"), (-2e6, "-2.0 Mbit/s"),
])
def test_rate(bits, said):
    """Three digits; a unit begins where its number has become 1.0."""
    assert text.rate(None if bits is None else bits / 8) == said


@pytest.mark.parametrize("octets, said", [(None, "-"), (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (10**9, "1.0 GB"),
                                          (1234567, "1.2 MB"), (2**64 - 1, "18446744 TB")])
def test_size(octets, said):
    """Of bytes, in powers of ten as the rates."""
    assert text.size(octets) == said


@pytest.mark.parametrize("micro, said", [(None, "-"), (0, "0.00 ms"), (43, "0.04 ms"), (994, "0.99 ms"),
                                         (999, "1.0 ms"), (1000, "1.0 ms"), (21449, "21.4 ms"), (99940, "99.9 ms"),
                                         (99960, "100 ms"), (100000, "100 ms"), (1234567, "1235 ms")])
def test_milliseconds(micro, said):
    """Three digits here, too."""
    assert text.milliseconds(micro) == said


@pytest.mark.parametrize("part, said", [(None, "-"), (0, "0 %"), (0.004, "0.4 %"), (0.0994, "9.9 %"), (0.0996, "10 %"),
                                        (0.335, "34 %"), (0.9996, "100 %"), (1, "100 %"), (1.5, "150 %")])
def test_percent(part, said):
    """Small parts have a decimal: 0.4 % retransmitted is not nothing."""
    assert text.percent(part) == said


@pytest.mark.parametrize("seconds, said", [
    (None, "-"), (0, "0.0 s"), (0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min"),
    (61, "1 min 1 s"), (3599.7, "1 h"), (3605, "1 h"), (3660, "1 h 1 min"), (86399, "23 h 59 min"), (86400, "1 d"),
    (90061, "1 d 1 h"), (187200, "2 d 4 h"),
])
def test_span(seconds, said):
    """Two units at most."""
    assert text.span(seconds) == said


def test_counts():
    """With and without a noun."""
    assert [text.plural(count, "path") for count in (None, 0, 1, 2)] == ["- paths", "0 paths", "1 path", "2 paths"]
    assert [text.number(value) for value in (None, 0, 7)] == ["-", "0", "7"]


@pytest.mark.parametrize("name, shown", [
    ("curl", "curl"), ("caf\u00e9 \u4e2d", "caf\u00e9 \u4e2d"), ("a\x1b[2Jb", "a?[2Jb"),
    ("\x9b31m", "?31m"), ("a\nb\tc\r", "a?b?c?"),
    ("\u202etxt", "?txt"), ("\x00\x7f", "??"), ("", ""), ("\udcff", "?"),
])
def test_printable(name, shown):
    """Nothing reaches the terminal that it would obey."""
    assert text.printable(name) == shown


COLUMNS = (words("name", "NAME", lambda row: "red" if row.rate is None else ""),
           Column("rate", "RATE", text.rate), Column("stalled", "STALLED", seldom=True), words("last", "LAST"))


def row(name, rate, stalled=0, last="x"):
    """A row of the table."""
    return SimpleNamespace(name=name, rate=rate, stalled=stalled, last=last)


def test_table():
    """Words to the left, numbers to the right, no blanks at the end of a line."""
    assert text.table(COLUMNS, [row("eth0", 125000), row("longer", None, last=None)], PLAIN) == [
        "NAME          RATE  LAST",
        "eth0    1.0 Mbit/s  x",
        "longer           -  -"]
    assert text.table(COLUMNS, iter([row("a", 1)]), PLAIN, indent="  ")[1] == "  a     8 bit/s  x"
    assert text.table(COLUMNS, [], PLAIN) == ["NAME  RATE  LAST"]


def test_columns_that_are_seldom_of_use():
    """Left out while they say 0 or nothing, but not when a single row has more."""
    assert "STALLED" not in text.table(COLUMNS, [row("a", 1), row("b", 1, None)], PLAIN)[0]
    assert text.table(COLUMNS, [row("a", 1), row("b", 1, 2)], PLAIN)[0].split() == ["NAME", "RATE", "STALLED", "LAST"]


def test_colours_do_not_move_columns():
    """A coloured table is the plain one, once the colours are taken out."""
    rows = [row("eth0", 125000), row("x", None), row("evil\x1b[2J", 1)]
    plain, coloured = (text.table(COLUMNS, rows, paint) for paint in (PLAIN, COLOURED))
    assert "\x1b[31mx" in coloured[2] and "\x1b[2J" not in "".join(coloured) and "\x1b" not in "".join(plain)
    assert [text._ESCAPE.sub("", line).rstrip() for line in coloured] == plain
    assert text.width(COLOURED("red", "four")) == 4


def test_paint():
    """Only where colours are wanted, and one is given."""
    assert (COLOURED("red", "a"), COLOURED("", "a"), PLAIN("red", "a")) == ("\x1b[31ma\x1b[0m", "a", "a")


@pytest.mark.parametrize("columns, shown", [
    (0, "\x1b[31m\x1b[0m"), (2, "\x1b[31mab\x1b[0m"), (3, "\x1b[31mabc\x1b[0m"), (5, "\x1b[31mabc\x1b[0mde"),
    (99, "\x1b[31mabc\x1b[0mdef"),
])
def test_a_line_is_cut_to_the_width_of_the_terminal(columns, shown):
    """Letters are cut, colours are not: the last one must end."""
    assert cut(COLOURED("red", "abc") + "def", columns) == shown
