# SPDX-License-Identifier: GPL-2.0-or-later
"""What of a peer's address leaves the agent: all of it, its network, or nothing.

flows.Flow.remote is the only place where a peer's address becomes text, so
that metrics, names of instances and labels cannot differ in what they show.
"""

import ipaddress
from enum import Enum
from functools import lru_cache
from typing import Union

_Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]

HIDDEN = "*"  # as ss(8) shows an end that is not told
_6TO4 = 0x2002  # the first 16 bits of an address that has an IPv4 address in the next 32 (RFC 3056)
_TRANSLATED = 0x64FF9B  # the first 32 bits of one that has it somewhere in the rest (RFC 6052, RFC 8215)


class Remote(Enum):
    """The setting remote_addresses."""

    FULL = "full"
    NETWORK = "network"
    NONE = "none"

    def text(self, address: str, port: int) -> str:
        """`10.0.1.1:5201`, `10.0.1.0/24:5201` or `*`.

        A network keeps the port, which tells a client's service; without the
        address, ports of clients would still tell those behind one translator
        apart: so `none` hides both.
        """
        if self is Remote.NONE:
            return HIDDEN
        return socket_text(network(address) if self is Remote.NETWORK else address, port)


def socket_text(address: str, port: int) -> str:
    """`10.0.1.1:5201` or `[fd00::1]:5201`."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@lru_cache(maxsize=1024)
def network(address: str) -> str:
    """The /24 of an IPv4 address and the /48 of an IPv6 address; never more of an IPv4 address within one."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
        return str(ipaddress.ip_network((found, _bits(found)), strict=False))
    except ValueError:
        return HIDDEN


def _bits(address: _Address) -> int:
    if address.version == 4:
        return 24
    first = int(address) >> 96
    if first >> 16 == _6TO4:
        return 16 + 24
    if first == _TRANSLATED or first == 0:  # also ::ffff:10.0.1.1 and ::10.0.1.1, which have it at the end
        return 32
    return 48
