# SPDX-License-Identifier: GPL-2.0-or-later
"""Limits and endpoints of the in-kernel path manager (linux/mptcp_pm.h).

Through pyroute2: there are few of them.  Under a userspace path manager
(mptcpd) the kernel keeps both but ignores them.
"""

from typing import Any, Optional

from pyroute2 import MPTCP

from ..records import Endpoint, Limits, PathManager

#: Endpoint flags by name: MPTCP_PM_ADDR_FLAG_*.
FLAGS = {"signal": 0x01, "subflow": 0x02, "backup": 0x04, "fullmesh": 0x08, "implicit": 0x10, "laminar": 0x20}


def read() -> PathManager:
    """Limits and endpoints.

    Raises OSError (no such family: a kernel without MPTCP) and pyroute2's
    NetlinkError, which the kernel's refusal comes as.
    """
    with MPTCP() as kernel:
        limits = list(kernel.limits("show"))
        endpoints = [_endpoint(message) for message in kernel.endpoint("show")]
    first = limits[0] if limits else None
    return PathManager(
        Limits(_attr(first, "MPTCP_PM_ATTR_SUBFLOWS"), _attr(first, "MPTCP_PM_ATTR_RCV_ADD_ADDRS")),
        sorted(endpoint for endpoint in endpoints if endpoint))


def _attr(message: Any, name: str) -> Any:
    return message.get_attr(name) if message is not None else None


def _endpoint(message: Any) -> Optional[Endpoint]:
    nest = message.get_attr("MPTCP_PM_ATTR_ADDR")
    if nest is None:
        return None
    address = nest.get_attr("MPTCP_PM_ADDR_ATTR_ADDR4") or nest.get_attr("MPTCP_PM_ADDR_ATTR_ADDR6")
    return Endpoint(id=nest.get_attr("MPTCP_PM_ADDR_ATTR_ID") or 0, address=address or "",
                    port=nest.get_attr("MPTCP_PM_ADDR_ATTR_PORT") or 0,
                    ifindex=_index(nest.get_attr("MPTCP_PM_ADDR_ATTR_IF_IDX")),
                    flags=nest.get_attr("MPTCP_PM_ADDR_ATTR_FLAGS") or 0)


def _index(value: Any) -> int:
    """The interface index; pyroute2 up to 0.9 gives its bytes as '03:00:00:00'."""
    if isinstance(value, str):
        return int.from_bytes(bytes.fromhex(value.replace(":", "")), "little")
    return value or 0
