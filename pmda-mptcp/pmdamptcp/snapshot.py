# SPDX-License-Identifier: GPL-2.0-or-later
"""One consistent picture of the host's MPTCP for each fetch.

What a reader that fails would tell has no value, and the rest is served.
"""

import os
from itertools import zip_longest
from time import thread_time
from typing import Any, Callable, Dict, List, Optional, Sized, Tuple

from .config import Config, Processes
from .credentials import Viewer
from .devices import Devices
from .endpoints import EndpointRow, Endpoints
from .flows import Connection, Path, Subflow
from .kernel import interfaces, netstat, nftables, path_manager, sysctl
from .kernel.inet_diag import Row
from .kernel.processes import Process
from .owners import Owners
from .sample import Sample
from .sampler import Sampler
from .services import Service, Services
from .source import Source
from .topology import Topology

#: How to ask for the owner, and of what.
Owned = Tuple[Callable[[Row], Optional[Process]], Row]


class Snapshot:
    """The readers, the ledger, and what the metric tables ask of them."""

    def __init__(self, config: Config, log: Callable[[str], None], privileged: bool = True,
                 owners: Optional[Owners] = None):
        self._config, self._log, self._privileged, self._owners = config, log, privileged, owners
        self._wanted: List[Any] = []  # connections and services whose owners were asked for last
        self._owned: Tuple[Dict[int, Connection], Dict[int, Owned]] = {}, {}
        self.viewer: Callable[[], Viewer] = Viewer  # tells who asks for a value
        self.samples = 0
        self.sample_cpu = 0.0  # seconds
        self.counters = Source(netstat.PATH, netstat.read, log)
        self.settings = Source(sysctl.PATH, sysctl.read, log)
        self.path_manager = Source("path manager", path_manager.read, log)
        self.traffic = Source("device counters", Devices(interfaces.traffic).read, log)
        self.topology = Topology(log)
        self.sampler = Sampler(self.topology, config.instances, log)
        self._sockets = Source("sock_diag", self.sampler.take, log)
        self._listen = Source("listener", self.sampler.listener.drain, log)
        self._services = Source("services", self._read_services, log)
        self._service_reader = Services()
        self.wires = Source("nftables", nftables.read, log)
        self._endpoints = Endpoints(self.topology)
        self.totals_known = False  # has there been a sample that could tell subflows?
        self._told = False  # of malformed messages
        self._told_blind = False

    def start(self) -> None:
        """Begin to listen, and take the first sample: from here on, bytes count."""
        if self._config.listener:
            self.sampler.listener.open(self._config.receive_buffer)
        self.refresh_sockets()
        if self.sampler.listener.has_ends or self.sampler.listener.has_events:
            self.sampler.listener.start()

    def expire(self) -> None:
        """Let the next refreshes look at the kernel anew."""
        sources: Tuple[Source[Any], ...] = (
            self.counters, self.settings, self.path_manager, self.traffic, self._sockets, self._listen, self._services,
            self.wires)
        for source in sources:
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
            self._endpoints.update(self.path_manager.value.endpoints if self.path_manager.value else ())

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
        self.refresh_links()
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
                self._endpoints.use(self.sample)

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
    def endpoints(self) -> List[EndpointRow]:
        """In the order of their ids."""
        return self._endpoints.rows

    @property
    def services(self) -> Dict[int, Service]:
        """By port; empty while the kernel does not tell plain TCP sockets from subflows."""
        return self._services.value or {}

    @property
    def owned_connections(self) -> Dict[int, Owned]:
        """(owner, connection) of those that are shown, by their ids; `owner` is called with the connection."""
        if self._owned[0] is not self.connections:
            self._owned = self.connections, {number: (self.owner, row) for number, row in self.connections.items()}
        return self._owned[1]

    def owner(self, row: Row) -> Optional[Process]:
        """The process that has a socket open, if that is known.  Raises PermissionError if the viewer may not know."""
        if not self._owners:
            return None
        found = self._owners.of(row.inode)
        if self._config.processes is not Processes.ALL and not self.viewer().sees(found.uid if found else None):
            raise PermissionError
        return found

    def _read_services(self) -> Optional[Dict[int, Service]]:
        if not self.subflows_known:
            return None
        return self._service_reader.read(self.sample.listeners, self.sample.connections)

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
        return self.sample.shown_connections if self.sampled else {}

    @property
    def subflows(self) -> Dict[int, Subflow]:
        """Subflows to show one by one, the oldest first, by their ids."""
        return self.sample.shown_subflows if self.sampled else {}

    def omitted(self, rows: Sized) -> int:
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
