# SPDX-License-Identifier: GPL-2.0-or-later
"""How many TCP sockets are there? (/proc/net/sockstat, proc(5))"""

from .netstat import number

PATHS = "/proc/net/sockstat", "/proc/net/sockstat6"


def tcp_sockets() -> int:
    """TCP sockets in use in this network namespace, listeners included.  Raises OSError and ValueError."""
    return sum(_in_use(path) for path in PATHS)


def _in_use(path: str) -> int:
    try:
        with open(path, encoding="ascii") as file:
            for line in file:
                kind, *pairs = line.split()
                if kind in ("TCP:", "TCP6:") and "inuse" in pairs[:-1]:
                    return number(pairs[pairs.index("inuse") + 1])
    except FileNotFoundError:
        if path == PATHS[0]:
            raise
    return 0
