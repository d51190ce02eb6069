# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel readers return (sockets are sock_diag.Row)."""

from typing import List, NamedTuple, Optional


class Link(NamedTuple):
    """A network device. `up`: administratively up and with carrier."""

    ifindex: int
    name: str
    up: bool


class Limits(NamedTuple):
    """The path manager's limits, as `ip mptcp limits` shows them."""

    subflows: Optional[int]
    add_addr_accepted: Optional[int]


class Endpoint(NamedTuple):
    """A path-manager endpoint, as `ip mptcp endpoint` shows it.

    `port` 0: any; `ifindex`: the device it is tied to, 0 for none; `flags`:
    MPTCP_PM_ADDR_FLAG_* of linux/mptcp_pm.h.
    """

    id: int
    address: str
    port: int
    ifindex: int
    flags: int


class PathManager(NamedTuple):
    """Limits, and endpoints in the order of their ids."""

    limits: Limits
    endpoints: List[Endpoint]
