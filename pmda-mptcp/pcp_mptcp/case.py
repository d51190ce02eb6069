# SPDX-License-Identifier: GPL-2.0-or-later
"""What a diagnosis is about: connections, an address or a port of a host, and the kernel's counters for it."""

import ipaddress
import re
from functools import cached_property
from typing import Dict, List, Optional, Set, Tuple

from .rows import Connection, Endpoint, word
from .sample import Trouble
from .tables import same_address, split
from .view import CONNECTIONS, ENDPOINTS, HOST, LINKS, SUBFLOWS, View

_MIB = ("mpcapablesyntx mpcapablesynackrx mpcapablefallbacksynack mpcapablesyntxdrop mpcapablesyntxdisabled blackhole "
        "mpcapablesynrx mpcapableackrx mpcapablefallbackack mpcapabledatafallback md5sigfallback dssfallback "
        "simultconnectfallback dsscorruptionfallback infinitemaprx infinitemaptx mpfallbacktokeninit fallbackfailed "
        "addaddr addaddrtx addaddrtxdrop echoadd echoaddtx addaddrdrop "
        "mpjoinsyntx mpjoinsyntxcreatskerr mpjoinsyntxbinderr mpjoinsyntxconnecterr mpjoinsynackrx "
        "mpjoinsynackhmacfailure mpjoinsynrx mpjoinackrx mpjoinackhmacfailure mpjoinnotokenfound mpjoinrejected "
        "mprstrx mprsttx subflowstale subflowrecover").split()
_SERVICE = "port addresses connections mptcp_connections tcp_connections command".split()
_CLOSED_BY = ("mptcp.event.subflow_closed_by.reason", "mptcp.event.subflow_closed_by.error")
METRICS = [*HOST, *LINKS, *ENDPOINTS, *CONNECTIONS, *SUBFLOWS, *(f"mptcp.mib.{name}" for name in _MIB),
           *(f"mptcp.service.{name}" for name in _SERVICE), *_CLOSED_BY, "mptcp.event.announced",
           "mptcp.sysctl.blackhole_timeout", "network.interface.inet_addr"]

_OPENING = ("mpcapablesyntx", "mpcapablesynrx", "mpcapablesyntxdisabled", "mpjoinsyntx", "mpjoinsynrx")
_NAME = re.compile(r"c\d+(::\d+)?$")


class Numbers:
    """Counters of the kernel by name, as far as it has them."""

    def __init__(self, values: Dict[str, Optional[int]], recent: bool):
        self._values, self._recent = values, recent

    def __getitem__(self, name: str) -> int:
        return self._values.get(name) or 0

    def known(self, name: str) -> bool:
        """Does the kernel count it?"""
        return self._values.get(name) is not None

    def say(self, *pairs: Tuple[str, str]) -> str:
        """`sent 4, answered 1 (since start)`; of (name, what to call it), those that the kernel has."""
        known = [(self[name], label) for name, label in pairs if self.known(name)]
        if not known:
            return "this kernel does not count them"
        if not any(count for count, _ in known):
            return "none"
        return ", ".join(f"{label} {count}" for count, label in known) + ("" if self._recent else " (since start)")


class Case:
    """A host at a moment, and what is asked about."""

    def __init__(self, view: View, wanted: str):
        self.view, self.wanted = view, wanted
        self.connections: List[Connection] = []
        self.endpoints: List[Endpoint] = [one for one in view.endpoints if one.used]
        self.service = ""  # the instance of mptcp.service.*
        self._find(wanted)

    def _find(self, wanted: str) -> None:
        view = self.view
        if not wanted:
            self.connections = [one for one in view.connections if one.state == "ESTAB"]
        elif _NAME.match(wanted):
            self.connections = [one for one in view.connections if one.name == wanted.split("::")[0]]
            if not self.connections:
                raise Trouble(f"no connection {wanted} at that time, there are {len(view.connections)}: "
                              "pcp mptcp connections")
        elif wanted.isdigit() and 0 < int(wanted) < 65536:
            self._find_port(int(wanted))
        else:
            self._find_address(wanted)

    def _find_port(self, port: int) -> None:
        self.connections = [one for one in self.view.connections
                            if port in (split(one.local)[1], split(one.remote)[1])]
        ports = self.view.now.all("mptcp.service.port")
        self.service = next((str(name) for name, value in ports.items() if value == port), "")
        if not self.connections and not self.service:
            listening = ", ".join(str(value) for value in sorted(set(ports.values()))) or "none"
            raise Trouble(f"no MPTCP connection has port {port}, and no service listens there with MPTCP (services "
                          f"that do: {listening}): the program asks for plain TCP, see mptcpize(8)")

    def _find_address(self, wanted: str) -> None:
        try:
            ipaddress.ip_address(wanted)
        except ValueError:
            raise Trouble(f"{wanted} is no connection such as c17, no port and no address") from None
        self.connections = [one for one in self.view.connections if any(
            same_address(split(end)[0], wanted) for end in self._ends(one))]
        own = [one for one in self.endpoints if same_address(one.address, wanted)]
        if not self.connections and not own and wanted not in self.addresses.values():
            raise Trouble(f"no MPTCP connection and no endpoint has the address {wanted}: pcp mptcp connections")
        if own or wanted in self.addresses.values():  # one of ours: what keeps connections from using it?
            self.endpoints = own
            self.connections = self.connections or [one for one in self.view.connections if one.state == "ESTAB"]

    @staticmethod
    def _ends(connection: Connection) -> List[str]:
        return [connection.local, connection.remote,
                *(end for flow in connection.flows for end in (flow.local, flow.remote))]

    # The host

    def of_service(self, name: str) -> Optional[int]:
        """A value of the service that is asked about."""
        value: Optional[int] = self.view.now.value("mptcp.service." + name, self.service)
        return value

    @cached_property
    def addresses(self) -> Dict[str, str]:
        """The IPv4 address of each interface that is up, but lo."""
        up = {link.name for link in self.view.links if link.up}
        return {word(name): value for name, value in self.view.now.all("network.interface.inet_addr").items()
                if value and name != "lo" and name in up}

    @property
    def down(self) -> Set[str]:
        """Links that are down or gone."""
        return {link.name for link in self.view.links if link.up is False}

    # The connections

    @property
    def spoken(self) -> List[Connection]:
        """Those that speak MPTCP."""
        return [one for one in self.connections if not one.fallback]

    @property
    def roles(self) -> Set[bool]:
        """Is this host the server of some, the client of some?"""
        return {one.server_side for one in self.connections if one.server_side is not None}

    @property
    def paths(self) -> Optional[int]:
        """Live subflows of the connection that has the fewest."""
        found = [one.live for one in self.spoken if one.live is not None]
        return min(found) if found else None

    @property
    def links(self) -> Set[str]:
        """Links that live subflows of the connections use."""
        return {flow.interface for one in self.connections for flow in one.flows if flow.live}

    @property
    def lost(self) -> int:
        """Connections of the host that have fewer live paths than they had, or none."""
        return max(self.view.host("redundancy.degraded_connections") or 0,
                   self.view.now.value("mptcp.redundancy.connections", "0") or 0)

    @property
    def missing(self) -> str:
        """The paths that are not there, as well as they can be named."""
        asking = [f"{flow.interface} to {flow.remote}" for one in self.spoken for flow in one.flows
                  if flow.state == "SYN-SENT"]
        free = [name for name in self.addresses if name not in self.links]
        return ", ".join(asking or [one.name for one in self.idle_endpoints] or free) or "the further paths"

    @property
    def idle_endpoints(self) -> List[Endpoint]:
        """Endpoints that no live subflow uses."""
        return [one for one in self.endpoints if one.subflows == 0]

    @property
    def healthy(self) -> bool:
        """Do all speak MPTCP, over two links or more, and is none lost?"""
        return (bool(self.connections) and not any(one.fallback for one in self.connections)
                and all((one.live or 0) >= max(2, one.most or 0) for one in self.connections)
                and len(self.links) >= 2 and not self.idle_endpoints
                and not any(one.misrouted for one in self.endpoints))

    @cached_property
    def recent(self) -> bool:
        """Were connections or subflows opened between the two samples?  Then only this time counts."""
        return any(self.view.growth("mptcp.mib." + name) for name in _OPENING)

    def numbers(self, *names: str) -> Numbers:
        """Counters of the kernel, of the time between the samples or since the start."""
        return Numbers({name: self._count("mptcp.mib." + name) for name in names}, self.recent)

    def _count(self, metric: str, instance: Optional[str] = None) -> Optional[int]:
        return self.view.growth(metric, instance, born=True) if self.recent else self.view.now.value(metric, instance)

    @property
    def announced(self) -> int:
        """Addresses that peers announced, as far as it is counted."""
        return self._count("mptcp.event.announced") or self._count("mptcp.mib.addaddr") or 0

    def closed_by(self, reason: str = "") -> Dict[str, int]:
        """Why subflows closed: how often, by reason of the peer (RFC 8684) or by error; `reason`: only this."""
        found = {str(name): self._count(metric, name) or 0
                 for metric in _CLOSED_BY for name in self.view.now.all(metric)}
        return {name: count for name, count in found.items() if count and name != "unspecified"
                and reason in ("", name)}
