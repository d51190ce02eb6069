# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers as a person reads them, tables, and colours.  What is not known is "-"."""

import re
from typing import Any, Callable, Iterable, List, NamedTuple, Optional, Sequence, Tuple

UNKNOWN = "-"
_STEPS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_SPANS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_COLOURS = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "grey": "90", "bold": "1"}
DIGITS = re.compile(r"(\d+)")
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def _scaled(value: float, unit: str) -> str:
    for size, prefix in _STEPS:
        if abs(value) >= 0.9995 * size:
            number = value / size
            return f"{number:.{0 if number >= 99.95 else 1}f} {prefix}{unit}"
    return f"{value:.0f} {unit}"


def rate(octets: Optional[float]) -> str:
    """Bytes per second as links are sold: `47.2 Mbit/s`."""
    return UNKNOWN if octets is None else _scaled(8 * octets, "bit/s")


def size(octets: Optional[float]) -> str:
    """Bytes: `1.2 GB`."""
    return UNKNOWN if octets is None else _scaled(octets, "B")


def number(value: Optional[float]) -> str:
    """A count."""
    return UNKNOWN if value is None else str(value)


def milliseconds(micro: Optional[float]) -> str:
    """Microseconds: `21.4 ms`."""
    return UNKNOWN if micro is None else f"{micro / 1000:.{2 if micro < 995 else 1 if micro < 99950 else 0}f} ms"


def percent(part: Optional[float]) -> str:
    """A part of one: `33 %`, and `0.4 %` where it is small."""
    return UNKNOWN if part is None else f"{100 * part:.{1 if 0 < part < 0.0995 else 0}f} %"


def span(seconds: Optional[float]) -> str:
    """A time: `0.4 s`, `12 s`, `3 min 5 s`, `2 d 4 h`."""
    if seconds is None:
        return UNKNOWN
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    left = round(seconds)
    words: List[Tuple[int, str]] = []
    for length, unit in _SPANS:
        if left >= length or words:
            words.append((left // length, unit))
            left %= length
    return " ".join(f"{count} {unit}" for count, unit in words[:2] if count)


def plural(count: Optional[int], noun: str) -> str:
    """`1 connection`, `2 connections`."""
    return f"{UNKNOWN if count is None else count} {noun}{'' if count == 1 else 's'}"


def printable(text: str) -> str:
    """Without anything that a terminal takes for a command: names of processes are anybody's to choose."""
    return "".join(one if one.isprintable() else "?" for one in text)


class Paint:
    """Colours, or none."""

    def __init__(self, colours: bool):
        self._colours = colours

    def __call__(self, colour: str, text: str) -> str:
        """The text in a colour."""
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self._colours and colour else text


def width(text: str) -> int:
    """Columns that a text takes on a terminal."""
    return len(_ESCAPE.sub("", text))


class Column(NamedTuple):
    """A column of a table: its name for --sort and --json (an attribute of the rows), its head, how it is shown."""

    key: str
    head: str
    show: Callable[[Any], str] = number
    right: bool = True
    colour: Callable[[Any], str] = lambda row: ""  # of the cell, by the row
    seldom: bool = False  # left out while it is 0 in all rows


def words(key: str, head: str, colour: Callable[[Any], str] = lambda row: "") -> Column:
    """A column of text."""
    return Column(key, head, lambda value: UNKNOWN if value in (None, "") else printable(str(value)), False, colour)


def table(columns: Sequence[Column], rows: Iterable[Any], paint: Paint, indent: str = "") -> List[str]:
    """Lines of a table with a line of heads."""
    rows = list(rows)
    columns = [one for one in columns if not one.seldom or any(getattr(row, one.key) for row in rows)]
    body = [[column.show(getattr(row, column.key)) for column in columns] for row in rows]
    colours = [[column.colour(row) for column in columns] for row in rows]
    widths = [max(map(len, cells)) for cells in zip([column.head for column in columns], *body)]

    def line(cells: Sequence[str], tints: Sequence[str]) -> str:
        padded = (cell.rjust(wide) if column.right else cell.ljust(wide)
                  for cell, wide, column in zip(cells, widths, columns))
        return indent + "  ".join(paint(tint, cell) for tint, cell in zip(tints, padded)).rstrip()

    return [line([column.head for column in columns], ["grey"] * len(columns))] + [
        line(cells, tints) for cells, tints in zip(body, colours)]
