# SPDX-License-Identifier: GPL-2.0-or-later
"""Two samples as what an operator speaks of."""

from functools import cached_property
from typing import Any, List

from .between import Between, part, total
from .rows import Connection, Endpoint, Link, Subflow, metrics, rows

#: What is known of the host as a whole.
HOST = ["mptcp.connections", "mptcp.fallback.connections", "mptcp.redundancy.connections",
        "mptcp.redundancy.degraded_connections", "mptcp.sysctl.enabled", "mptcp.pm.limits.subflows",
        "mptcp.pm.limits.add_addr_accepted", "mptcp.sysctl.path_manager", "mptcp.sysctl.pm_type"]
LINKS = ["mptcp.subflows", *metrics(Link)]
ENDPOINTS, SUBFLOWS, CONNECTIONS = metrics(Endpoint), metrics(Subflow), metrics(Connection)


class View(Between):
    """What is known of a host at a moment, and what changed since an earlier one."""

    def host(self, name: str) -> Any:
        """A value of the host: `connections` for mptcp.connections."""
        return self.now.value("mptcp." + name)

    def _listing(self, metric: str, other: str) -> str:
        """What has the instances: the first if it is known, be it of none, for in archives settings outlive theirs."""
        return metric if metric in self.now else other

    @property
    def userspace(self) -> bool:
        """Does a program such as mptcpd decide about the paths of new connections?"""
        return bool(self.host("sysctl.path_manager") == "userspace" or self.host("sysctl.pm_type") == 1)

    @cached_property
    def links(self) -> List[Link]:
        """All interfaces, in the order of the agent."""
        links = list(rows(Link, self, self._listing("mptcp.interface.in.bytes", "mptcp.interface.up")).values())
        whole = total(*(rate for link in links for rate in (link.in_rate, link.out_rate)))
        for link in links:
            link.subflows = self.now.value("mptcp.subflows", link.name)
            link.of_mptcp = part(total(link.in_rate, link.out_rate), whole)
        return links

    @cached_property
    def endpoints(self) -> List[Endpoint]:
        """Endpoints of the path manager, by id."""
        found = rows(Endpoint, self, self._listing("mptcp.pm.endpoint.subflows", "mptcp.pm.endpoint.id"))
        for name, endpoint in found.items():
            endpoint.name = name
        return list(found.values())

    @cached_property
    def subflows(self) -> List[Subflow]:
        """Subflows, connection by connection."""
        return list(rows(Subflow, self, "mptcp.subflow.live").values())

    @cached_property
    def connections(self) -> List[Connection]:
        """Connections with their subflows, the oldest first."""
        found = list(rows(Connection, self, "mptcp.connection.subflows").values())
        by_name = {connection.name: connection for connection in found}
        for flow in self.subflows:
            if flow.connection in by_name:
                by_name[flow.connection].flows.append(flow)
        return found
