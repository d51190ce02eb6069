# SPDX-License-Identifier: GPL-2.0-or-later
"""The MPTcpExt counters of /proc/net/netstat (net/mptcp/mib.c).

Names and order differ from kernel to kernel, so the fields are taken by the
names of the header line that stands above the values.
"""

from typing import Dict

PATH = "/proc/net/netstat"
_PREFIX = "MPTcpExt:"


def read(path: str = PATH) -> Dict[str, int]:
    """Field name -> value, empty when the kernel has no MPTCP.

    Raises OSError (unreadable) and ValueError (header and values disagree).
    """
    with open(path, encoding="ascii", errors="replace") as file:
        lines = [line.replace("\0", "?").split()[1:] for line in file if line.startswith(_PREFIX)]
    if not lines:
        return {}
    if len(lines) != 2 or len(lines[0]) != len(lines[1]):
        raise ValueError(f"{path}: the {_PREFIX} lines do not fit each other")
    return {name: number(value) for name, value in zip(*lines)}


def number(text: str) -> int:
    """A counter of 64 bits as the kernel prints it; int() takes more.  Raises ValueError."""
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and int(text) < 1 << 64):
        raise ValueError(f"{text[:40]!r} for a number")
    return int(text)
