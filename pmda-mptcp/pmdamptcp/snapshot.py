# SPDX-License-Identifier: GPL-2.0-or-later
"""One consistent picture of the host's MPTCP for each fetch.

A reader that fails is logged once, its metrics have no value, and the rest
is served; when it works again, that is logged too.
"""

import gc
import os
import socket
from collections import Counter
from operator import attrgetter
from struct import error as StructError
from time import monotonic, process_time
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple, TypeVar

from pyroute2.netlink.exceptions import NetlinkError

from .config import Config
from .kernel import interfaces, netstat, path_manager, routes, sock_diag, sysctl
from .ledger import Connection, Ledger, Path, Subflow
from .records import Endpoint
from .stable_ids import Ids

Shown = TypeVar("Shown", Connection, Subflow)
_route = attrgetter("route")

FAULTS = (OSError, ValueError, NetlinkError, StructError, KeyError, TypeError, AttributeError)

#: Is it IPv6? -> an address nobody has (RFC 5737, RFC 3849): routed as the internet at large is.
_ANYWHERE = {False: "192.0.2.1", True: "2001:db8::1"}
_MAX_PEERS = 64  # peers that an endpoint's routing is checked against
_MAX_ROUTES = 200_000  # cached lookups


class Source:
    """A reader with its last result; `value` is None while it fails."""

    def __init__(self, name: str, read: Callable[[], Any], log: Callable[[str], None]):
        self.name, self._read, self._log = name, read, log
        self.value: Any = None
        self._at = float("-inf")
        self._cost = 0.0
        self._complaint = ""

    def expire(self) -> None:
        """Let the next refresh read again, however young the value is."""
        self._at = float("-inf")

    def refresh(self, age: float) -> bool:
        """Read again, unless the value is younger than `age` or than five times what reading takes.

        Returns whether it was read.
        """
        start = monotonic()
        if start - self._at < max(age, 5 * self._cost):
            return False
        try:
            self.value, complaint = self._read(), ""
        except FAULTS as fault:
            self.value, complaint = None, f"{type(fault).__name__}: {fault}"
        self._at = monotonic()
        self._cost = self._at - start
        if complaint != self._complaint:
            self._complaint = complaint
            self._log(f"{self.name}: {complaint}; its metrics have no value" if complaint
                      else f"{self.name}: works again")
        return True


class EndpointRow:
    """An endpoint with what its subflows and its routes say about it."""

    def __init__(self, number: int, endpoint: Endpoint, interface: str):
        self.id, self.endpoint, self.interface = number, endpoint, interface
        self.subflows: Optional[int] = None
        self.misrouted: Optional[bool] = None

    @property
    def name(self) -> str:
        """`3 10.0.2.2%enp1s0`, with `:port` where it has one."""
        endpoint = self.endpoint
        address = f"[{endpoint.address}]:{endpoint.port}" if endpoint.port and ":" in endpoint.address else \
            f"{endpoint.address}:{endpoint.port}" if endpoint.port else endpoint.address
        return f"{endpoint.id} {address}" + (f"%{self.interface}" if self.interface else "")


class Cost:
    """What the agent itself does: its own metrics."""

    def __init__(self) -> None:
        self.samples = 0
        self.cpu = 0.0  # seconds
        self.sockets = 0
        self.malformed = 0

    @property
    def memory(self) -> Optional[int]:
        """Resident set in bytes (proc(5))."""
        try:
            with open("/proc/self/statm", encoding="ascii") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError, ValueError):
            return None


class Snapshot:
    """The readers, the ledger, and what the metric tables ask of them."""

    def __init__(self, config: Config, log: Callable[[str], None], privileged: bool = True):
        self._config, self._log, self._privileged = config, log, privileged
        self.cost = Cost()
        self.counters = Source(netstat.PATH, netstat.read, log)
        self.settings = Source(sysctl.PATH, sysctl.read, log)
        self.path_manager = Source("path manager", path_manager.read, log)
        self.traffic = Source("device counters", interfaces.traffic, log)
        self._sockets = Source("sock_diag", self._sample, log)
        self._links = Source("links", self._read_links, log)
        self._routes = Source("route lookup", lambda: None, log)
        self._changes: Optional[interfaces.Changes] = None
        self._route_cache: Dict[bytes, Optional[int]] = {}
        self._links_changed = True  # since they were last read
        self._rerouted = False  # since the last sample of the sockets
        self._owners: Dict[str, int] = {}
        self._by_index: Dict[int, Path] = {}
        self._paths: Dict[str, Path] = {}
        self._path_ids: Ids[str] = Ids()
        self._endpoint_ids: Ids[Tuple[Endpoint, str]] = Ids()
        self._decoders = {protocol: sock_diag.Decoder(protocol)
                          for protocol in (socket.IPPROTO_TCP, sock_diag.IPPROTO_MPTCP)}
        self._told_blind = False
        self.ledger = Ledger(self._route)
        self.endpoints: List[EndpointRow] = []

    def expire(self) -> None:
        """Let the next refreshes look at the kernel anew."""
        for source in (self.counters, self.settings, self.path_manager, self.traffic, self._sockets):
            source.expire()

    # What the tables refresh: each brings one source up to date, and what it needs.

    def refresh_counters(self) -> None:
        """MPTcpExt."""
        self.counters.refresh(self._config.sample_age)

    def refresh_settings(self) -> None:
        """net.mptcp."""
        self.settings.refresh(self._config.sample_age)

    def refresh_links(self) -> None:
        """Links and addresses, when something about them or about routes changed."""
        changed = True
        try:
            if self._changes is None:
                self._changes = interfaces.Changes()
            changed = self._changes.any()
        except OSError:
            self._changes = None  # no word of changes: look each time
        self._links_changed |= changed or self._links.value is None
        if self._links_changed and self._links.refresh(0):
            self._links_changed = False
            self._route_cache.clear()
            self._rerouted = True

    def refresh_traffic(self) -> None:
        """Device counters and link state."""
        self.refresh_links()
        self.traffic.refresh(self._config.sample_age)

    def refresh_path_manager(self) -> None:
        """Limits and endpoints."""
        self.refresh_links()
        if self.path_manager.refresh(self._config.sample_age):
            found = [(endpoint, self._link_name(endpoint.ifindex))
                     for endpoint in (self.path_manager.value or (None, ()))[1]]
            self.endpoints = [EndpointRow(number, *key) for key, number in self._endpoint_ids.of(found).items()]

    def refresh_sockets(self) -> None:
        """Connections, subflows, and the gauges of the interfaces."""
        start = process_time()
        if self._sockets.refresh(self._config.sample_age):
            self.cost.samples += 1
            self.cost.cpu += process_time() - start

    def refresh_endpoints(self) -> None:
        """Endpoints against subflows and routes."""
        self.refresh_path_manager()
        self.refresh_sockets()
        if self.subflows_known:
            self._use_of_endpoints()

    # What the tables show.

    @property
    def sampled(self) -> bool:
        """Did the last dump of the sockets work?"""
        return self._sockets.value is not None

    @property
    def subflows_known(self) -> bool:
        """Does the kernel tell which sockets are subflows?  Not to everybody before Linux 6.18."""
        return self.sampled and not self._blind()

    def _blind(self) -> bool:
        return not self._privileged and not self.ledger.subflows and any(
            one.established and not one.fallback for one in self.ledger.connections)

    @property
    def connections(self) -> List[Connection]:
        """Connections to show one by one, the oldest first."""
        return self._shown(self.ledger.connections)

    @property
    def subflows(self) -> List[Subflow]:
        """Subflows to show one by one, the oldest first."""
        return self._shown(self.ledger.subflows)

    def _shown(self, rows: List[Shown]) -> List[Shown]:
        return rows[:self._config.instances] if self.sampled else []

    def omitted(self, rows: List[Shown]) -> int:
        """How many of these are beyond what is shown one by one."""
        return max(0, len(rows) - self._config.instances)

    @property
    def paths(self) -> List[Path]:
        """Interfaces that exist or that carried MPTCP."""
        return list(self._paths.values())

    def count(self, fallback: bool) -> Optional[int]:
        """Established connections that are (not) fallen back; None: unknown."""
        return sum(one.established and one.fallback == fallback for one in self.ledger.connections) \
            if self.sampled else None

    def redundancy(self) -> "Counter[int]":
        """Live subflows -> number of established connections that have so many."""
        return Counter(one.live for one in self.ledger.connections if one.established and not one.fallback)

    # How it is found out.

    def _read_links(self) -> bool:
        links = interfaces.links()
        self._owners = interfaces.addresses()
        ids = self._path_ids.of([*(link.name for link in links),
                                 *(name for name, path in self._paths.items() if path.carried)])
        self._paths = {name: self._paths.get(name) or Path(number, name) for name, number in ids.items()}
        self._by_index = {link.ifindex: self._paths[link.name] for link in links}
        state = {link.name: link.up for link in links}
        for path in self._paths.values():
            path.up = state.get(path.name, False)
        return True

    def _link_name(self, index: int) -> str:
        path = self._by_index.get(index)
        return path.name if path else ""

    def _sample(self) -> bool:
        self.refresh_links()
        rerouted, self._rerouted = self._rerouted, False
        gc.disable()  # a sample makes many objects and no garbage
        try:
            self.ledger.update(self._dump(sock_diag.IPPROTO_MPTCP), self._dump(socket.IPPROTO_TCP),
                               self._paths.values(), rerouted)
        finally:
            gc.enable()
        self.cost.sockets = sum(decoder.sockets for decoder in self._decoders.values())
        malformed = sum(decoder.malformed for decoder in self._decoders.values())
        if malformed and not self.cost.malformed:
            self._log("sock_diag: malformed messages are left out, mptcp.agent.malformed counts them")
        self.cost.malformed = malformed
        if self._blind() and not self._told_blind:
            self._told_blind = True
            self._log("sock_diag: this kernel shows subflows to CAP_NET_ADMIN only; mptcp.subflow.* stays empty")
        return True

    def _dump(self, protocol: int) -> Iterator[sock_diag.Decoded]:
        yield from self._decoders[protocol].decode(sock_diag.dump(protocol))

    def _route(self, flows: List[Subflow]) -> None:
        for flow, index in zip(flows, self._egress(list(map(_route, flows)))):
            path = self._by_index.get(index) if index else None
            flow.routed = path is not None
            flow.path = path or flow.path

    def _egress(self, keys: List[bytes]) -> List[Optional[int]]:
        """The index of the interface that packets of each key leave by."""
        cache = self._route_cache
        missing = {key for key in keys if key not in cache}
        if missing:
            if len(cache) > _MAX_ROUTES:
                cache.clear()
                missing = set(keys)
            self._routes = Source(self._routes.name, lambda: routes.egress(missing), self._log)
            self._routes.refresh(0)
            cache.update(self._routes.value or {})
        return [cache.get(key) for key in keys]

    def _use_of_endpoints(self) -> None:
        """Live subflows of each endpoint, and whether its packets leave by the link that owns its address.

        A subflow uses an endpoint when it has its address (and port, if the
        endpoint has one); address ids do not tell, the initial subflow's is 0.
        """
        flows, ledger = self.ledger.subflows, self.ledger
        by_source: Dict[bytes, List[bytes]] = {}
        for route in ledger.routes:
            by_source.setdefault(routes.source_of(route), []).append(route)
        ported = [row.endpoint for row in self.endpoints if row.endpoint.port]
        used = Counter(flow.endpoints[:2] for flow in flows if flow.live) if ported else Counter()
        servers = {flow.route for flow in flows if flow.initial and flow.connection.server_side is False} \
            if any(row.endpoint.flags & path_manager.FLAGS["subflow"] for row in self.endpoints) else set()
        for row in self.endpoints:
            address, port = row.endpoint.address, row.endpoint.port
            own = [route for source in routes.sources(address) for route in by_source.get(source, ())]
            row.subflows = used[address, port] if port else sum(
                ledger.routes[route] - ledger.dead_routes[route] for route in own) - sum(
                used[one.address, one.port] for one in ported if one.address == address)
            row.misrouted = self._misrouted(row.endpoint, own, servers)

    def _misrouted(self, endpoint: Endpoint, own: List[bytes], servers: Set[bytes]) -> Optional[bool]:
        """Asked with the routes of its subflows; a `subflow` endpoint would also join to our servers."""
        owner = self._owners.get(endpoint.address)
        if owner is None:
            return None
        asked = sorted(own)[:_MAX_PEERS]
        if endpoint.flags & path_manager.FLAGS["subflow"]:
            joins = {routes.rerooted(server, endpoint.address, endpoint.ifindex) for server in servers}
            asked += sorted(filter(None, joins))[:_MAX_PEERS]
        found = self._egress(asked or [routes.key(endpoint.address, _ANYWHERE[":" in endpoint.address])])
        known = [index for index in found if index is not None]
        return any(index != owner for index in known) if known else None
