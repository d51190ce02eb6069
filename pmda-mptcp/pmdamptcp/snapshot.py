# SPDX-License-Identifier: GPL-2.0-or-later
"""One consistent picture of the host's MPTCP for each fetch.

What a reader that fails would tell has no value, and the rest is served.
"""

import os
from collections import Counter
from itertools import zip_longest
from time import thread_time
from typing import Any, Callable, Dict, List, Optional, Set, Tuple, TypeVar

from .config import Config
from .flows import Connection, Path, Subflow, socket_text
from .kernel import interfaces, netstat, nftables, path_manager, routes, sysctl
from .kernel.inet_diag import Row
from .kernel.processes import Process
from .owners import Owners
from .records import Endpoint
from .sample import Sample
from .sampler import Sampler
from .services import Service, Services
from .source import Source
from .stable_ids import Ids
from .topology import Topology

Shown = TypeVar("Shown", Connection, Subflow)

#: Is it IPv6? -> an address nobody has (RFC 5737, RFC 3849): routed as the internet at large is.
_ANYWHERE = {False: "192.0.2.1", True: "2001:db8::1"}
_MAX_PEERS = 64  # peers that an endpoint's routing is checked against


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
        address = socket_text(endpoint.address, endpoint.port) if endpoint.port else endpoint.address
        return f"{endpoint.id} {address}" + (f"%{self.interface}" if self.interface else "")


class Snapshot:
    """The readers, the ledger, and what the metric tables ask of them."""

    def __init__(self, config: Config, log: Callable[[str], None], privileged: bool = True,
                 owners: Optional[Owners] = None):
        self._config, self._log, self._privileged, self._owners = config, log, privileged, owners
        self._wanted: List[Any] = []  # connections and services whose owners were asked for last
        self.samples = 0
        self.sample_cpu = 0.0  # seconds
        self.counters = Source(netstat.PATH, netstat.read, log)
        self.settings = Source(sysctl.PATH, sysctl.read, log)
        self.path_manager = Source("path manager", path_manager.read, log)
        self.traffic = Source("device counters", interfaces.traffic, log)
        self.topology = Topology(log)
        self.sampler = Sampler(self.topology, log)
        self._sockets = Source("sock_diag", self.sampler.take, log)
        self._listen = Source("listener", self.sampler.listener.drain, log)
        self._services = Source("services", self._read_services, log)
        self._service_reader = Services()
        self.wires = Source("nftables", nftables.read, log)
        self._endpoint_ids: Ids[Tuple[Endpoint, str]] = Ids()
        self._by_id: Dict[str, Tuple[List[Any], Dict[int, Any]]] = {}
        self.totals_known = False  # has there been a sample that could tell subflows?
        self._told = False  # of malformed messages
        self._told_blind = False
        self.endpoints: List[EndpointRow] = []

    def start(self) -> None:
        """Begin to listen, and take the first sample: from here on, bytes count."""
        if self._config.listener:
            self.sampler.listener.open(self._config.receive_buffer)
        self.refresh_sockets()
        if self.sampler.listener.has_ends or self.sampler.listener.has_events:
            self.sampler.listener.start()

    def expire(self) -> None:
        """Let the next refreshes look at the kernel anew."""
        for source in (self.counters, self.settings, self.path_manager, self.traffic, self._sockets, self._listen,
                       self._services, self.wires):
            source.expire()

    # What the tables refresh: each brings one source up to date, and what it needs.

    def refresh_counters(self) -> None:
        """MPTcpExt."""
        self.counters.refresh(self._config.sample_age)

    def refresh_settings(self) -> None:
        """net.mptcp."""
        self.settings.refresh(self._config.sample_age)

    def refresh_links(self) -> None:
        """Links, addresses and routes."""
        with self.sampler.lock:
            self.topology.refresh()

    def refresh_traffic(self) -> None:
        """Device counters and link state."""
        self.refresh_links()
        self.traffic.refresh(self._config.sample_age)

    def refresh_path_manager(self) -> None:
        """Limits and endpoints."""
        self.refresh_links()
        if self.path_manager.refresh(self._config.sample_age):
            endpoints = self.path_manager.value.endpoints if self.path_manager.value else ()
            found = [(endpoint, self.topology.name_of(endpoint.ifindex)) for endpoint in endpoints]
            self.endpoints = [EndpointRow(number, *key) for key, number in self._endpoint_ids.of(found).items()]

    def refresh_sockets(self) -> None:
        """Connections, subflows, and the gauges of the interfaces."""
        start = thread_time()
        if self._sockets.refresh(self._config.sample_age):
            self.samples += 1
            self.sample_cpu += thread_time() - start
            self._judge()

    def refresh_events(self) -> None:
        """What the listener was told."""
        with self.sampler.lock:
            self._listen.refresh(self._config.sample_age)

    def refresh_mode(self) -> None:
        """The listener, and whether nftables can be read."""
        self.refresh_events()
        self.refresh_wires()

    def refresh_services(self) -> None:
        """Listeners, and who speaks what with them."""
        self.refresh_sockets()
        self._services.refresh(self._config.sample_age)

    def refresh_wires(self) -> None:
        """The counters of nftables, if they are wanted."""
        if self._config.nftables:
            self.wires.refresh(self._config.sample_age)

    def refresh_owners(self) -> None:
        """Have the owners of connections and services looked up; the answers come by themselves."""
        self.refresh_services()
        wanted = [self.sample.connections, self._services.value]
        if self._owners and not all(one is other for one, other in zip_longest(wanted, self._wanted)):
            self._wanted = wanted
            self._owners.want({row.inode for row in self.sample.connections}
                              | {row.inode for service in self.services.values() for row in service.listeners})

    def refresh_endpoints(self) -> None:
        """Endpoints against subflows and routes."""
        self.refresh_path_manager()
        self.refresh_sockets()
        if self.subflows_known:
            with self.sampler.lock:
                self._use_of_endpoints()

    # What the tables show.

    @property
    def sample(self) -> Sample:
        """Connections and subflows of now."""
        return self.sampler.sample

    @property
    def mode(self) -> str:
        """What the bytes of the interfaces come from."""
        return self.sampler.listener.mode + ("+nftables" if self.wires.value is not None else "")

    @property
    def services(self) -> Dict[int, Service]:
        """By port; empty while the kernel does not tell plain TCP sockets from subflows."""
        return self._services.value or {}

    def owner(self, row: Row) -> Optional[Process]:
        """The process that has a socket open, if that is known."""
        return self._owners.of(row.inode) if self._owners else None

    def _read_services(self) -> Optional[Dict[int, Service]]:
        return self._service_reader.read(self.sample.connections) if self.subflows_known else None

    @property
    def sampled(self) -> bool:
        """Did the last dump of the sockets work?"""
        return self._sockets.value is not None

    @property
    def subflows_known(self) -> bool:
        """Does the kernel tell which sockets are subflows, and by where they leave?

        Before Linux 6.18 it does not tell everybody.
        """
        return self.sampled and not self._blind() and not self.topology.unknown

    def _blind(self) -> bool:
        return not self._privileged and not self.sample.subflows and self.sample.established > 0

    @property
    def connections(self) -> Dict[int, Connection]:
        """Connections to show one by one, the oldest first, by their ids."""
        return self._shown("connections", self.sample.connections)

    @property
    def subflows(self) -> Dict[int, Subflow]:
        """Subflows to show one by one, the oldest first, by their ids."""
        return self._shown("subflows", self.sample.subflows)

    def _shown(self, kind: str, rows: List[Shown]) -> Dict[int, Shown]:
        """Made once for all groups that show the same sample."""
        known = self._by_id.get(kind)
        if known is None or known[0] is not rows:
            known = self._by_id[kind] = rows, {row.id: row for row in rows[:self._config.instances]}
        return known[1] if self.sampled else {}

    def omitted(self, rows: List[Shown]) -> int:
        """How many of these are beyond what is shown one by one."""
        return max(0, len(rows) - self._config.instances)

    @property
    def memory(self) -> Optional[int]:
        """Resident set of the agent in bytes (proc(5))."""
        try:
            with open("/proc/self/statm", encoding="ascii") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError, ValueError):
            return None

    @property
    def paths(self) -> List[Path]:
        """Interfaces that exist or that carried MPTCP."""
        return list(self.topology.paths.values())

    # How it is found out.

    def _judge(self) -> None:
        """What a sample says of the kernel."""
        self.totals_known |= self.sampled and (self._privileged or bool(self.sample.subflows))
        if self.sampler.malformed and not self._told:
            self._told = True
            self._log("sock_diag: malformed messages are left out, mptcp.agent.malformed counts them")
        if self._blind() and not self._told_blind:
            self._told_blind = True
            self._log("sock_diag: this kernel shows subflows to CAP_NET_ADMIN only; mptcp.subflow.* stays empty")

    def _use_of_endpoints(self) -> None:
        """Live subflows of each endpoint, and whether its packets leave by the link that owns its address.

        A subflow uses an endpoint when it has its address (and port, if the
        endpoint has one); address ids do not tell, the initial subflow's is 0.
        """
        flows, sample = self.sample.subflows, self.sample
        by_source: Dict[bytes, List[bytes]] = {}
        for route in sample.routes:
            by_source.setdefault(routes.source_of(route), []).append(route)
        ported = [row.endpoint for row in self.endpoints if row.endpoint.port]
        used = Counter(flow.endpoints[:2] for flow in flows if flow.live) if ported else Counter()
        servers = {flow.route for flow in flows if flow.initial and flow.connection.server_side is False} \
            if any(row.endpoint.flags & path_manager.FLAGS["subflow"] for row in self.endpoints) else set()
        for row in self.endpoints:
            address, port = row.endpoint.address, row.endpoint.port
            own = [route for source in routes.sources(address) for route in by_source.get(source, ())]
            row.subflows = used[address, port] if port else sum(
                sample.routes[route] - sample.dead_routes[route] for route in own) - sum(
                used[one.address, one.port] for one in ported if one.address == address)
            row.misrouted = self._misrouted(row.endpoint, own, servers)

    def _misrouted(self, endpoint: Endpoint, own: List[bytes], servers: Set[bytes]) -> Optional[bool]:
        """Asked with the routes of its subflows; a `subflow` endpoint would also join to our servers."""
        owner = self.topology.owners.get(endpoint.address)
        if owner is None:
            return None
        asked = sorted(own)[:_MAX_PEERS]
        if endpoint.flags & path_manager.FLAGS["subflow"]:
            joins = {routes.rerooted(server, endpoint.address, endpoint.ifindex) for server in servers}
            asked += sorted(filter(None, joins))[:_MAX_PEERS]
        found = self.topology.egress(asked or [routes.key(endpoint.address, _ANYWHERE[":" in endpoint.address])])
        known = [index for index in found if index is not None]
        return any(index != owner for index in known) if known else None
