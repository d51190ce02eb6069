# SPDX-License-Identifier: GPL-2.0-or-later
"""Links, addresses and device counters, and word of their changes (rtnetlink(7))."""

import errno
from typing import Dict, List, NamedTuple, Union

import psutil
from pyroute2 import IPRoute

from ..records import Link
from . import netlink

NETLINK_ROUTE = 0
IFF_UP, IFF_LOWER_UP = 0x1, 0x10000
# RTNLGRP_*: link, IPv4 address, route, rule, IPv6 address, route, rule, next hop.
_GROUPS = sum(1 << (group - 1) for group in (1, 5, 7, 8, 9, 11, 19, 32))


class Traffic(NamedTuple):
    """A device's own byte counters, as in /proc/net/dev."""

    received: int
    sent: int


def links() -> List[Link]:
    """Every link of this network namespace.  Raises OSError, ValueError, NetlinkError."""
    with IPRoute() as route, netlink.sensible():
        return [Link(link["index"], _text(link.get_attr("IFLA_IFNAME")),
                     link["flags"] & (IFF_UP | IFF_LOWER_UP) == IFF_UP | IFF_LOWER_UP)
                for link in route.get_links()]


def addresses() -> Dict[str, int]:
    """Address -> index of the link that owns it.  Raises OSError, ValueError, NetlinkError."""
    with IPRoute() as route, netlink.sensible():
        found = {entry.get_attr("IFA_LOCAL") or entry.get_attr("IFA_ADDRESS"): entry["index"]
                 for entry in route.get_addr()}
    return {address: index for address, index in found.items() if isinstance(address, str)}


def traffic() -> Dict[str, Traffic]:
    """Device name -> counters.  Raises OSError, ValueError."""
    with netlink.sensible():
        return {_text(name): Traffic(_counter(counters.bytes_recv), _counter(counters.bytes_sent))
                for name, counters in psutil.net_io_counters(pernic=True, nowrap=False).items()}


def _counter(value: int) -> int:
    if not 0 <= value < 1 << 64:
        raise ValueError(f"a counter of {value}")
    return value


def _text(name: Union[str, bytes]) -> str:
    """A name as PCP can show it: the kernel allows any bytes in one, PCP only UTF-8.

    What is not printable, such as a terminal's control characters, becomes a question mark.
    """
    raw = name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")
    text = raw.decode("utf-8", "replace")
    return text if text.isprintable() else "".join(one if one.isprintable() else "?" for one in text)


class Changes:
    """Tells whether links, addresses, routes or rules changed since it was last asked."""

    def __init__(self) -> None:
        """Raises OSError."""
        self._socket = netlink.open_socket(NETLINK_ROUTE, _GROUPS)
        self._first = True

    def any(self) -> bool:
        """True the first time, after each change and after an overrun."""
        changed, self._first = self._first, False
        while True:
            try:
                self._socket.recv(netlink.RECEIVE_SIZE)
            except BlockingIOError:
                return changed
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # an overrun: something did change
                    raise
            changed = True
