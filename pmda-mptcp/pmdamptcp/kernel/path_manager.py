# SPDX-License-Identifier: GPL-2.0-or-later
"""Limits and endpoints of the in-kernel path manager (linux/mptcp_pm.h).

Through pyroute2: there are few of them.  Under a userspace path manager
(mptcpd) the kernel keeps both but ignores them.
"""

from typing import Any, Optional

from pyroute2 import MPTCP

from ..records import Endpoint, Limits, PathManager
from . import netlink

#: Endpoint flags by name: MPTCP_PM_ADDR_FLAG_*.
FLAGS = {"signal": 0x01, "subflow": 0x02, "backup": 0x04, "fullmesh": 0x08, "implicit": 0x10, "laminar": 0x20}


def read() -> PathManager:
    """Limits and endpoints.

    Raises OSError (no such family: a kernel without MPTCP), ValueError and
    pyroute2's NetlinkError, which the kernel's refusal comes as.
    """
    with MPTCP() as kernel, netlink.sensible():
        limits = list(kernel.limits("show"))
        endpoints = [_endpoint(message) for message in kernel.endpoint("show")]
    first = limits[0] if limits else None
    return PathManager(
        Limits(_number(first, "MPTCP_PM_ATTR_SUBFLOWS"), _number(first, "MPTCP_PM_ATTR_RCV_ADD_ADDRS")),
        sorted(endpoint for endpoint in endpoints if endpoint))


def _number(message: Any, name: str) -> Optional[int]:
    """A number of at most 32 bits; None: not there.  What pyroute2 cannot read it gives as bytes: ValueError."""
    value = message.get_attr(name) if message is not None else None
    if value is not None and not (isinstance(value, int) and 0 <= value < 1 << 32):
        raise ValueError(f"{name} is {value!r}")
    return value


def _endpoint(message: Any) -> Optional[Endpoint]:
    nest = message.get_attr("MPTCP_PM_ATTR_ADDR")
    if nest is None:
        return None
    address = nest.get_attr("MPTCP_PM_ADDR_ATTR_ADDR4") or nest.get_attr("MPTCP_PM_ADDR_ATTR_ADDR6")
    if address is None:
        return None  # then it is none, whatever else it has
    if not isinstance(address, str):
        raise ValueError(f"an endpoint's address is {address!r}")
    return Endpoint(id=_number(nest, "MPTCP_PM_ADDR_ATTR_ID") or 0, address=address,
                    port=_number(nest, "MPTCP_PM_ADDR_ATTR_PORT") or 0,
                    ifindex=_index(nest.get_attr("MPTCP_PM_ADDR_ATTR_IF_IDX")),
                    flags=_number(nest, "MPTCP_PM_ADDR_ATTR_FLAGS") or 0)


def _index(value: Any) -> int:
    """The interface index; pyroute2 up to 0.9 gives its bytes as '03:00:00:00'."""
    index = int.from_bytes(bytes.fromhex(value.replace(":", "")), "little") if isinstance(value, str) else value or 0
    if not (isinstance(index, int) and 0 <= index < 1 << 31):
        raise ValueError(f"an interface index is {value!r}")
    return index
