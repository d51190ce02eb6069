# SPDX-License-Identifier: GPL-2.0-or-later
"""The path manager's endpoints, against subflows and routes: which carry nothing, and which go astray."""

from collections import Counter
from typing import Dict, Iterable, List, Optional, Set, Tuple

from .masks import socket_text
from .kernel import path_manager, routes
from .records import Endpoint
from .sample import Sample
from .stable_ids import Ids
from .topology import Topology

#: Is it IPv6? -> an address nobody has (RFC 5737, RFC 3849): routed as the internet at large is.
_ANYWHERE = {False: "192.0.2.1", True: "2001:db8::1"}
_MAX_PEERS = 64  # peers that an endpoint's routing is checked against


class EndpointRow:
    """An endpoint with what its subflows and its routes say about it."""

    def __init__(self, number: int, endpoint: Endpoint, interface: str):
        self.id, self.endpoint, self.interface = number, endpoint, interface
        self.owner: Optional[str] = None  # the interface that has its address, "" if none has
        self.subflows: Optional[int] = None
        self.misrouted: Optional[bool] = None

    @property
    def name(self) -> str:
        """`3 10.0.2.2%enp1s0`, with `:port` where it has one."""
        endpoint = self.endpoint
        address = socket_text(endpoint.address, endpoint.port) if endpoint.port else endpoint.address
        return f"{endpoint.id} {address}" + (f"%{self.interface}" if self.interface else "")


class Endpoints:
    """Endpoints with lasting ids."""

    def __init__(self, topology: Topology):
        self._topology = topology
        self._ids: Ids[Tuple[Endpoint, str]] = Ids()
        self.rows: List[EndpointRow] = []

    def update(self, endpoints: Iterable[Endpoint]) -> None:
        """Those that exist now."""
        found = [(endpoint, self._topology.name_of(endpoint.ifindex)) for endpoint in endpoints]
        self.rows = [EndpointRow(number, *key) for key, number in self._ids.of(found).items()]

    def use(self, sample: Sample) -> None:
        """Live subflows of each endpoint, and whether its packets leave by the link that owns its address.

        A subflow uses an endpoint when it has its address (and port, if the
        endpoint has one); address ids do not tell, the initial subflow's is 0.
        """
        flows = sample.subflows
        by_source: Dict[bytes, List[bytes]] = {}
        for route in sample.routes:
            by_source.setdefault(routes.source_of(route), []).append(route)
        ported = [row.endpoint for row in self.rows if row.endpoint.port]
        used = Counter(flow.endpoints[:2] for flow in flows if flow.live) if ported else Counter()
        servers = {flow.route for flow in flows if flow.initial and flow.connection.server_side is False} \
            if any(row.endpoint.flags & path_manager.FLAGS["subflow"] for row in self.rows) else set()
        for row in self.rows:
            address, port = row.endpoint.address, row.endpoint.port
            own = [route for source in routes.sources(address) for route in by_source.get(source, ())]
            owner = self._topology.owners.get(address)
            row.owner = "" if owner is None else self._topology.name_of(owner)
            row.subflows = used[address, port] if port else sum(
                sample.routes[route] - sample.dead_routes[route] for route in own) - sum(
                used[one.address, one.port] for one in ported if one.address == address)
            row.misrouted = self._misrouted(row.endpoint, own, servers)

    def _misrouted(self, endpoint: Endpoint, own: List[bytes], servers: Set[bytes]) -> Optional[bool]:
        """Asked with the routes of its subflows; a `subflow` endpoint would also join to our servers."""
        owner = self._topology.owners.get(endpoint.address)
        if owner is None:
            return None
        asked = sorted(own)[:_MAX_PEERS]
        if endpoint.flags & path_manager.FLAGS["subflow"]:
            joins = {routes.rerooted(server, endpoint.address, endpoint.ifindex) for server in servers}
            asked += sorted(filter(None, joins))[:_MAX_PEERS]
        found = self._topology.egress(asked or [routes.key(endpoint.address, _ANYWHERE[":" in endpoint.address])])
        known = [index for index in found if index is not None]
        return any(index != owner for index in known) if known else None
