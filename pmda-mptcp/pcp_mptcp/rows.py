# SPDX-License-Identifier: GPL-2.0-or-later
"""Links, endpoints, subflows and connections, as an operator speaks of them.

A field names its metric once, and how it is read: as a value, or as the
growth of a counter per second.  Rates are bytes per second between the two
samples.  None is what is not known: the kernel or the archive lacks it, or
there is no earlier sample.
"""

from dataclasses import dataclass, field, fields
from typing import Any, Callable, Dict, List, Optional, Type, TypeVar

from .between import Between, part, total

#: Backoff that a subflow has when the agent calls it stalled.
STALLED = 3


def word(instance: Optional[str]) -> str:
    """The first word of an instance's name, which is unique."""
    return (instance or "").split(" ", 1)[0]


def _yes(value: Optional[int]) -> Optional[bool]:
    return None if value is None else bool(value)


# How a field is read: called with what is between two samples, the name of a metric's group, and the instance.

_Reader = Callable[[Between, str, Any], Any]


def _field(reader: _Reader, *metrics: str) -> Any:
    return field(metadata={"reader": reader, "metrics": metrics})


def _value(metric: str, turn: Callable[[Any], Any] = lambda value: value) -> Any:
    """As it is, or turned into something else."""
    return _field(lambda between, group, one: turn(between.now.value(group + metric, one)), metric)


def _text(metric: str) -> Any:
    return _value(metric, lambda value: value or "")


def _flag(metric: str) -> Any:
    return _value(metric, _yes)


def _rate(*metrics: str, scale: float = 1.0, born: bool = True) -> Any:
    """Growth per second, of several together."""
    def read(between: Between, group: str, one: Any) -> Optional[float]:
        found = total(*(between.rate(group + metric, one, born) for metric in metrics))
        return None if found is None else found * scale
    return _field(read, *metrics)


def _share(metrics: str, of: str, born: bool = True) -> Any:
    """The growth of some as a part of the growth of others."""
    def read(between: Between, group: str, one: Any) -> Optional[float]:
        grown = [total(*(between.rate(group + metric, one, born) for metric in names.split()))
                 for names in (metrics, of)]
        found = part(*grown)
        return None if found is None else min(found, 1.0)  # not all counters are read in the same moment
    return _field(read, *metrics.split(), *of.split())


@dataclass
class Link:
    """A network interface as MPTCP uses it."""

    name: str
    up: Optional[bool] = _flag("up")
    stalled: Optional[int] = _value("stalled_subflows")
    backup: Optional[int] = _value("backup_subflows")
    sole: Optional[int] = _value("sole_path_connections")  # connections whose only path it is
    rtt: Optional[int] = _value("rtt")  # microseconds
    in_bytes: Optional[int] = _value("in.bytes")
    out_bytes: Optional[int] = _value("out.bytes")
    in_rate: Optional[float] = _rate("in.bytes", born=False)
    out_rate: Optional[float] = _rate("out.bytes", born=False)
    retrans: Optional[float] = _share("out.retrans_bytes", of="out.bytes", born=False)  # part of what was sent
    backup_rate: Optional[float] = _rate("in.backup_bytes", "out.backup_bytes", born=False)
    #: MPTCP's part of all bytes of the link
    of_link: Optional[float] = _share("in.bytes out.bytes", of="total.in.bytes total.out.bytes", born=False)
    subflows: Optional[int] = None
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
    id: Optional[int] = _value("id")
    address: str = _text("address")
    port: Optional[int] = _value("port")
    interface: str = _text("interface")
    flags: str = _text("flags")
    signal: Optional[bool] = _flag("signal")
    subflow: Optional[bool] = _flag("subflow")
    implicit: Optional[bool] = _flag("implicit")
    owner: Optional[str] = _value("owner")  # the interface that has the address, "" if none has
    subflows: Optional[int] = _value("subflows")
    misrouted: Optional[bool] = _flag("misrouted")

    @property
    def used(self) -> bool:
        """Is it meant to carry: announced, or joined from?"""
        return bool(self.signal or self.subflow) and not self.implicit


@dataclass
class Subflow:
    """A TCP subflow of a connection."""

    name: str
    connection: str = _value("connection", word)
    interface: str = _text("interface")
    local: str = _text("local")
    remote: str = _text("remote")
    state: str = _text("state")
    flags: str = _text("flags")
    initial: Optional[bool] = _flag("initial")
    backup: Optional[bool] = _flag("backup")
    live: Optional[bool] = _flag("live")
    in_bytes: Optional[int] = _value("in.bytes")
    out_bytes: Optional[int] = _value("out.bytes")
    in_rate: Optional[float] = _rate("in.bytes")
    out_rate: Optional[float] = _rate("out.bytes")
    retrans: Optional[float] = _share("out.retrans_bytes", of="out.bytes")
    rtt: Optional[int] = _value("rtt")
    rttvar: Optional[int] = _value("rttvar")
    min_rtt: Optional[int] = _value("min_rtt")
    cwnd: Optional[int] = _value("cwnd")
    snd_mss: Optional[int] = _value("snd_mss")
    delivery_rate: Optional[int] = _value("delivery_rate")
    pacing_rate: Optional[int] = _value("pacing_rate")
    unacked: Optional[int] = _value("unacked")
    notsent: Optional[int] = _value("notsent_bytes")
    lost: Optional[int] = _value("lost")
    backoff: Optional[int] = _value("backoff")
    ca_state: str = _text("ca_state")
    busy: Optional[float] = _rate("busy", scale=1e-6)  # part of the time
    rwnd_limited: Optional[float] = _rate("rwnd_limited", scale=1e-6)
    sndbuf_limited: Optional[float] = _rate("sndbuf_limited", scale=1e-6)

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
        parts = [(self.rwnd_limited or 0.0, "peer's window"), (self.sndbuf_limited or 0.0, "send buffer")]
        most, what = max(parts)
        return f"{what} {100 * most:.0f} %" if most >= 0.05 else ""


@dataclass
class Connection:
    """An MPTCP connection."""

    name: str
    local: str = _text("local")
    remote: str = _text("remote")
    state: str = _text("state")
    server_side: Optional[bool] = _flag("server_side")
    fallback: Optional[bool] = _flag("fallback")
    subflows: Optional[int] = _value("subflows")
    live: Optional[int] = _value("live_subflows")
    most: Optional[int] = _value("live_subflows_most")  # live subflows that it ever had
    subflows_max: Optional[int] = _value("subflows_max")
    in_bytes: Optional[int] = _value("in.bytes")
    out_bytes: Optional[int] = _value("out.bytes")
    in_rate: Optional[float] = _rate("in.bytes")
    out_rate: Optional[float] = _rate("out.bytes")
    retrans: Optional[float] = _share("out.retrans_bytes", of="out.bytes")
    unacked: Optional[int] = _value("out.unacked_bytes")
    sent_ago: Optional[int] = _value("since.data_sent")  # milliseconds
    received_ago: Optional[int] = _value("since.data_received")
    signalled: Optional[int] = _value("addresses.signalled")
    signalled_max: Optional[int] = _value("addresses.signalled_max")
    accepted: Optional[int] = _value("addresses.accepted")
    accepted_max: Optional[int] = _value("addresses.accepted_max")
    pid: Optional[int] = _value("pid")
    command: Optional[str] = _value("command")
    flows: List[Subflow] = field(default_factory=list)

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
    def idle(self) -> Optional[float]:
        """Seconds since data came or went."""
        known = [ago for ago in (self.sent_ago, self.received_ago) if ago is not None]
        return min(known) / 1000 if known else None

    @property
    def process(self) -> str:
        """Its program and process id."""
        return f"{self.command or '?'}/{self.pid}" if self.pid else ""


#: Where the metrics of each are.
_GROUPS: Dict[type, str] = {Link: "mptcp.interface.", Endpoint: "mptcp.pm.endpoint.", Subflow: "mptcp.subflow.",
                            Connection: "mptcp.connection."}
Row = TypeVar("Row", Link, Endpoint, Subflow, Connection)


def metrics(kind: type) -> List[str]:
    """The metrics that its fields are read from."""
    return sorted({_GROUPS[kind] + metric for one in fields(kind) for metric in one.metadata.get("metrics", ())})


def rows(kind: Type[Row], between: Between, listing: str) -> Dict[str, Row]:
    """One for each instance of a metric that has only those of now, by the instances' names."""
    readers = {one.name: one.metadata["reader"] for one in fields(kind) if "reader" in one.metadata}
    found = {}
    for name in between.now.all(listing):
        values: Dict[str, Any] = {key: reader(between, _GROUPS[kind], name) for key, reader in readers.items()}
        found[str(name)] = kind(name=word(name), **values)
    return found


def plain(row: Any) -> Dict[str, Any]:
    """All that is known of a row, for programs: fields, properties, and the rows in it."""
    kind = type(row)
    names = [one.name for one in fields(kind)] + [name for name, one in vars(kind).items() if isinstance(one, property)]
    values = {name: getattr(row, name) for name in names}
    return {name: [plain(one) for one in value] if isinstance(value, list) else value for name, value in values.items()}
