# SPDX-License-Identifier: GPL-2.0-or-later
"""A clock that is set does the agent no harm: it never asks what time it is, only how much time has passed."""

import ast
from pathlib import Path

import pmdamptcp
import pytest

WALL = {"time", "time_ns", "ctime", "localtime", "gmtime", "strftime", "asctime", "datetime", "clock_gettime",
        "clock_gettime_ns", "now", "today", "utcnow", "pmLocaltime"}
PACKAGE = Path(pmdamptcp.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))


def taken(text):
    """The names that a module takes from `time` and `datetime`, and those that it asks any object for."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module in ("time", "datetime"):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in ("datetime",)}
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_asks_for_the_time_of_day(path):
    """Neither by a function of its own nor by one of a module."""
    assert not taken(path.read_text(encoding="utf-8")) & WALL


def test_it_would_be_found():
    """And what is asked for is found: the agent does measure time."""
    assert taken("from time import time") & WALL and taken("import time\ntime.time()") & WALL
    assert any("monotonic" in taken(path.read_text(encoding="utf-8")) for path in MODULES)
