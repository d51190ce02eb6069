# SPDX-License-Identifier: GPL-2.0-or-later
"""A screen that is drawn anew with each sample, until q or Ctrl-C."""

import os
import re
import select
import shutil
import sys
import termios
import time
import tty
from typing import Any, List

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_TOP, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
_PIECE = re.compile(r"(\x1b\[[0-9;]*m)")


class Quit(Exception):
    """The user has seen enough."""


def cut(line: str, columns: int) -> str:
    """A line that fits, colours kept."""
    out, room = [], columns
    for piece in _PIECE.split(line):
        if not piece.startswith("\x1b"):
            piece = piece[:room]
            room -= len(piece)
        out.append(piece)
    return "".join(out)


class Screen:
    """The terminal for the time of a with block."""

    def __init__(self) -> None:
        self._input, self._saved = sys.stdin.fileno(), None  # type: Any, Any

    def __enter__(self) -> "Screen":
        if os.isatty(self._input):
            self._saved = termios.tcgetattr(self._input)
            tty.setcbreak(self._input)
        self._write(_ENTER)
        return self

    def __exit__(self, *unused: Any) -> None:
        self._write(_LEAVE)
        if self._saved:
            termios.tcsetattr(self._input, termios.TCSADRAIN, self._saved)

    def draw(self, lines: List[str]) -> None:
        """Show these lines, as many as fit."""
        columns, rows = shutil.get_terminal_size()
        shown = [cut(line, columns) + _REST_OF_LINE for line in lines[:rows]]
        if len(lines) > rows > 0:
            shown[-1] = f"... {len(lines) - rows + 1} more lines" + _REST_OF_LINE
        self._write(_TOP + "\r\n".join(shown) + _REST_OF_SCREEN)

    def pause(self, seconds: float) -> None:
        """Wait; Quit if q is pressed meanwhile."""
        end = time.monotonic() + seconds
        while True:
            left = end - time.monotonic()
            if left <= 0:
                return
            if self._saved is None:
                time.sleep(left)
            elif select.select([self._input], [], [], left)[0] and os.read(self._input, 64)[:1] in (b"q", b"Q", b""):
                raise Quit

    @staticmethod
    def _write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
