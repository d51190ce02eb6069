# SPDX-License-Identifier: GPL-2.0-or-later
"""Two samples as what an operator speaks of: links, connections, subflows, endpoints.

Rates are bytes per second between the two samples.  None is what is not
known: the kernel or the archive lacks it, or there is no earlier sample.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Dict, List, Optional

from .sample import Sample

#: Retransmission backoff from which the agent calls a subflow stalled.
STALLED = 3

_LINK = ("name up total.in.bytes total.out.bytes in.bytes out.bytes out.retrans_bytes backup_subflows "
         "stalled_subflows sole_path_connections rtt in.backup_bytes out.backup_bytes").split()
_ENDPOINT = "id address port interface flags signal subflow implicit owner subflows misrouted".split()
_CONNECTION = ("local remote state server_side fallback subflows live_subflows live_subflows_most subflows_max "
               "in.bytes out.bytes out.retrans_bytes out.unacked_bytes retransmits addresses.signalled "
               "addresses.accepted addresses.signalled_max addresses.accepted_max since.data_sent "
               "since.data_received since.ack_received pid command").split()
_SUBFLOW = ("connection interface local remote state flags initial backup live in.bytes out.bytes out.retrans_bytes "
            "rtt rttvar min_rtt cwnd snd_mss delivery_rate pacing_rate unacked notsent_bytes lost backoff ca_state "
            "busy rwnd_limited sndbuf_limited").split()

#: What the parts of a view are made of.
HOST = ["mptcp.connections", "mptcp.fallback.connections", "mptcp.redundancy.connections",
        "mptcp.redundancy.degraded_connections", "mptcp.sysctl.enabled", "mptcp.pm.limits.subflows",
        "mptcp.pm.limits.add_addr_accepted", "mptcp.sysctl.path_manager", "mptcp.sysctl.pm_type"]
LINKS = ["mptcp.subflows"] + [f"mptcp.interface.{name}" for name in _LINK]
ENDPOINTS = [f"mptcp.pm.endpoint.{name}" for name in _ENDPOINT]
CONNECTIONS = [f"mptcp.connection.{name}" for name in _CONNECTION]
SUBFLOWS = [f"mptcp.subflow.{name}" for name in _SUBFLOW]


@dataclass
class Link:
    """A network interface as MPTCP uses it."""

    name: str
    up: Optional[bool]
    subflows: Optional[int]
    stalled: Optional[int]
    backup: Optional[int]
    sole: Optional[int]  # connections whose only path it is
    rtt: Optional[int]  # microseconds
    in_bytes: Optional[int]
    out_bytes: Optional[int]
    in_rate: Optional[float]
    out_rate: Optional[float]
    retrans: Optional[float]  # part of what was sent
    backup_rate: Optional[float]
    of_link: Optional[float]  # MPTCP's part of all bytes of the link
    of_mptcp: Optional[float] = None  # the link's part of all bytes of MPTCP

    @property
    def carried(self) -> bool:
        """Has it carried MPTCP since the agent started?"""
        return bool(self.in_bytes or self.out_bytes or self.subflows)

    @property
    def state(self) -> str:
        """up, down, or nothing where it is not known."""
        return "" if self.up is None else "up" if self.up else "down"


@dataclass
class Endpoint:
    """An endpoint of the path manager."""

    name: str
    id: Optional[int]
    address: str
    port: Optional[int]
    interface: str
    flags: str
    used: bool  # is it meant to carry: announced, or joined from?
    owner: Optional[str]  # the interface that has the address, "" if none has
    subflows: Optional[int]
    misrouted: Optional[bool]


@dataclass
class Connection:
    """An MPTCP connection."""

    name: str
    local: str
    remote: str
    state: str
    server_side: Optional[bool]
    fallback: Optional[bool]
    subflows: Optional[int]
    live: Optional[int]
    most: Optional[int]  # live subflows that it ever had
    subflows_max: Optional[int]
    in_bytes: Optional[int]
    out_bytes: Optional[int]
    in_rate: Optional[float]
    out_rate: Optional[float]
    retrans: Optional[float]
    unacked: Optional[int]
    idle: Optional[float]  # seconds
    signalled: Optional[int]
    signalled_max: Optional[int]
    accepted: Optional[int]
    accepted_max: Optional[int]
    pid: Optional[int]
    command: Optional[str]
    flows: List["Subflow"] = field(default_factory=list)

    @property
    def links(self) -> str:
        """The links of its subflows."""
        return ",".join(dict.fromkeys(flow.interface for flow in self.flows if flow.interface))

    @property
    def paths(self) -> str:
        """Live subflows, and of how many."""
        if self.fallback:
            return "TCP"
        if self.live is None:
            return ""
        most = max(self.most or 0, self.subflows or 0)
        return f"{self.live}/{most}" if most > self.live else str(self.live)

    @property
    def process(self) -> str:
        """Its program and process id."""
        return f"{self.command or '?'}/{self.pid}" if self.pid else ""


@dataclass
class Subflow:
    """A TCP subflow of a connection."""

    name: str
    connection: str
    interface: str
    local: str
    remote: str
    state: str
    flags: str
    initial: Optional[bool]
    backup: Optional[bool]
    live: Optional[bool]
    in_bytes: Optional[int]
    out_bytes: Optional[int]
    in_rate: Optional[float]
    out_rate: Optional[float]
    retrans: Optional[float]
    rtt: Optional[int]
    rttvar: Optional[int]
    min_rtt: Optional[int]
    cwnd: Optional[int]
    snd_mss: Optional[int]
    delivery_rate: Optional[int]
    pacing_rate: Optional[int]
    unacked: Optional[int]
    notsent: Optional[int]
    lost: Optional[int]
    backoff: Optional[int]
    ca_state: str
    busy: Optional[float]  # part of the time
    rwnd_limited: Optional[float]
    sndbuf_limited: Optional[float]

    @property
    def health(self) -> str:
        """One word for how it fares."""
        if self.state != "ESTAB":
            return self.state.lower()
        if self.live:
            return "backup" if self.backup else "ok"
        return "stalled" if (self.backoff or 0) >= STALLED else "no way out"

    @property
    def limit(self) -> str:
        """What held its sending back."""
        parts = [(self.rwnd_limited, "peer's window"), (self.sndbuf_limited, "send buffer")]
        part, what = max((part or 0.0, what) for part, what in parts)
        return f"{what} {100 * part:.0f} %" if part >= 0.05 else ""


class Change:
    """What counters did between two samples."""

    def __init__(self, before: Optional[Sample], now: Sample):
        self.before, self.now = before, now

    def growth(self, metric: str, instance: Optional[str] = None, born: bool = False) -> Optional[int]:
        """None without two values, or when the counter began anew; `born`: an instance may be new, and began at 0."""
        now = self.now.value(metric, instance)
        if now is None or self.before is None:
            return None
        before = self.before.value(metric, instance)
        if before is None and born and metric in self.before:
            before = 0
        return None if before is None or now < before else now - before

    def seconds(self, metric: str) -> Optional[float]:
        """The time between its two samples."""
        then = self.before.when(metric) if self.before else None
        now = self.now.when(metric)
        return now - then if now and then and now > then else None

    def rate(self, metric: str, instance: Optional[str] = None, born: bool = False) -> Optional[float]:
        """Growth per second."""
        growth, seconds = self.growth(metric, instance, born), self.seconds(metric)
        return None if growth is None or seconds is None else growth / seconds


def part(one: Optional[float], whole: Optional[float]) -> Optional[float]:
    """One as a part of the whole; None where either is not known, or there is nothing."""
    return None if one is None or not whole else one / whole


def total(*numbers: Optional[float]) -> Optional[float]:
    """The sum of those that are known."""
    known = [one for one in numbers if one is not None]
    return sum(known) if known else None


def _yes(value: Optional[int]) -> Optional[bool]:
    return None if value is None else bool(value)


def word(instance: Optional[str]) -> str:
    """The first word of an instance's name, which is unique."""
    return (instance or "").split(" ", 1)[0]


class View(Change):
    """What is known of a host at a moment, and what changed since an earlier one."""

    def host(self, name: str) -> Any:
        """A value of the host: `connections` for mptcp.connections."""
        return self.now.value("mptcp." + name)

    @cached_property
    def links(self) -> List[Link]:
        """All interfaces, in the order of the agent."""
        links = [self._link(name) for name in self.now.all("mptcp.interface.in.bytes")
                 or self.now.all("mptcp.interface.up")]
        whole = total(*(rate for link in links for rate in (link.in_rate, link.out_rate)))
        for link in links:
            link.of_mptcp = part(total(link.in_rate, link.out_rate), whole)
        return links

    def _link(self, name: Any) -> Link:
        def value(metric: str) -> Any:
            return self.now.value("mptcp.interface." + metric, name)

        def rate(metric: str) -> Optional[float]:
            return self.rate("mptcp.interface." + metric, name)

        in_rate, out_rate = rate("in.bytes"), rate("out.bytes")
        return Link(
            name=name, up=_yes(value("up")), subflows=self.now.value("mptcp.subflows", name),
            stalled=value("stalled_subflows"), backup=value("backup_subflows"), sole=value("sole_path_connections"),
            rtt=value("rtt"), in_bytes=value("in.bytes"), out_bytes=value("out.bytes"),
            in_rate=in_rate, out_rate=out_rate, retrans=part(rate("out.retrans_bytes"), out_rate),
            backup_rate=total(rate("in.backup_bytes"), rate("out.backup_bytes")),
            of_link=part(total(in_rate, out_rate), total(rate("total.in.bytes"), rate("total.out.bytes"))))

    @cached_property
    def endpoints(self) -> List[Endpoint]:
        """Endpoints of the path manager, by id."""
        def value(metric: str, name: Any) -> Any:
            return self.now.value("mptcp.pm.endpoint." + metric, name)

        return [Endpoint(
            name=str(name), id=value("id", name), address=value("address", name) or word(name),
            port=value("port", name), interface=value("interface", name) or "", flags=value("flags", name) or "",
            used=bool(value("signal", name) or value("subflow", name)) and not value("implicit", name),
            owner=value("owner", name), subflows=value("subflows", name),
            misrouted=_yes(value("misrouted", name)))
            for name in self.now.all("mptcp.pm.endpoint.subflows") or self.now.all("mptcp.pm.endpoint.id")]

    @cached_property
    def connections(self) -> List[Connection]:
        """Connections with their subflows, the oldest first."""
        flows: Dict[str, List[Subflow]] = {}
        for flow in self.subflows:
            flows.setdefault(flow.connection, []).append(flow)
        return [self._connection(name, flows.get(word(name), []))
                for name in self.now.all("mptcp.connection.subflows")]

    def _connection(self, name: Any, flows: List[Subflow]) -> Connection:
        def value(metric: str) -> Any:
            return self.now.value("mptcp.connection." + metric, name)

        def rate(metric: str) -> Optional[float]:
            return self.rate("mptcp.connection." + metric, name, born=True)

        quiet = [ms / 1000 for ms in (value("since.data_sent"), value("since.data_received")) if ms is not None]
        return Connection(
            name=word(name), local=value("local") or "", remote=value("remote") or "", state=value("state") or "",
            server_side=_yes(value("server_side")), fallback=_yes(value("fallback")), subflows=value("subflows"),
            live=value("live_subflows"), most=value("live_subflows_most"), subflows_max=value("subflows_max"),
            in_bytes=value("in.bytes"), out_bytes=value("out.bytes"), in_rate=rate("in.bytes"),
            out_rate=rate("out.bytes"), retrans=part(rate("out.retrans_bytes"), rate("out.bytes")),
            unacked=value("out.unacked_bytes"), idle=min(quiet) if quiet else None,
            signalled=value("addresses.signalled"), signalled_max=value("addresses.signalled_max"),
            accepted=value("addresses.accepted"), accepted_max=value("addresses.accepted_max"),
            pid=value("pid"), command=value("command"), flows=flows)

    @cached_property
    def subflows(self) -> List[Subflow]:
        """Subflows, connection by connection."""
        return [self._subflow(name) for name in self.now.all("mptcp.subflow.live")]

    def _subflow(self, name: Any) -> Subflow:
        def value(metric: str) -> Any:
            return self.now.value("mptcp.subflow." + metric, name)

        def rate(metric: str, scale: float = 1.0) -> Optional[float]:
            found = self.rate("mptcp.subflow." + metric, name, born=True)
            return None if found is None else found * scale

        return Subflow(
            name=word(name), connection=word(value("connection")), interface=value("interface") or "",
            local=value("local") or "", remote=value("remote") or "", state=value("state") or "",
            flags=value("flags") or "", initial=_yes(value("initial")), backup=_yes(value("backup")),
            live=_yes(value("live")), in_bytes=value("in.bytes"), out_bytes=value("out.bytes"),
            in_rate=rate("in.bytes"), out_rate=rate("out.bytes"),
            retrans=part(rate("out.retrans_bytes"), rate("out.bytes")), rtt=value("rtt"), rttvar=value("rttvar"),
            min_rtt=value("min_rtt"), cwnd=value("cwnd"), snd_mss=value("snd_mss"),
            delivery_rate=value("delivery_rate"), pacing_rate=value("pacing_rate"), unacked=value("unacked"),
            notsent=value("notsent_bytes"), lost=value("lost"), backoff=value("backoff"),
            ca_state=value("ca_state") or "", busy=rate("busy", 1e-6), rwnd_limited=rate("rwnd_limited", 1e-6),
            sndbuf_limited=rate("sndbuf_limited", 1e-6))
