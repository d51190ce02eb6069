# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables of connections and of subflows, and one connection with its subflows side by side."""

import ipaddress
from operator import itemgetter
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from . import text
from .rows import Connection, Subflow, plain
from .sample import Trouble
from .text import Column, Paint, words
from .view import CONNECTIONS, HOST, SUBFLOWS, View

METRICS = HOST[:3] + CONNECTIONS + SUBFLOWS

_HEALTH = {"ok": "green", "backup": "blue", "stalled": "red", "no way out": "red"}


def _paths(connection: Connection) -> str:
    if connection.fallback or connection.live == 0:
        return "red"
    return "yellow" if connection.live is not None and connection.live < (connection.most or 0) else ""


CONNECTION_COLUMNS = (
    words("name", "NAME"),
    words("state", "STATE"),
    words("local", "LOCAL"),
    words("remote", "REMOTE"),
    words("paths", "PATHS", _paths),
    words("links", "LINKS"),
    Column("in_rate", "IN", text.rate),
    Column("out_rate", "OUT", text.rate),
    Column("in_bytes", "RECEIVED", text.size),
    Column("out_bytes", "SENT", text.size),
    Column("retrans", "RESENT", text.percent),
    Column("idle", "IDLE", text.span),
    words("process", "PROCESS"),
)

SUBFLOW_COLUMNS = (
    words("name", "NAME"),
    words("interface", "LINK"),
    words("health", "HEALTH", lambda flow: _HEALTH.get(flow.health, "")),
    words("local", "LOCAL"),
    words("remote", "REMOTE"),
    Column("in_rate", "IN", text.rate),
    Column("out_rate", "OUT", text.rate),
    Column("rtt", "RTT", text.milliseconds),
    Column("cwnd", "CWND"),
    Column("retrans", "RESENT", text.percent),
    Column("unacked", "UNACKED"),
    words("limit", "LIMITED BY"),
)

#: Of one subflow, one below the other.
DETAIL = SUBFLOW_COLUMNS[1:] + (
    words("state", "STATE"),
    words("flags", "FLAGS"),
    Column("in_bytes", "RECEIVED", text.size),
    Column("out_bytes", "SENT", text.size),
    Column("min_rtt", "LEAST RTT", text.milliseconds),
    Column("rttvar", "RTT VARIATION", text.milliseconds),
    Column("snd_mss", "SEGMENT", text.size),
    Column("delivery_rate", "DELIVERY", text.rate),
    Column("pacing_rate", "PACING", text.rate),
    Column("notsent", "NOT SENT", text.size),
    Column("lost", "LOST"),
    Column("backoff", "BACKOFF"),
    words("ca_state", "CONGESTION"),
    Column("busy", "BUSY", text.percent),
)


class Filter(NamedTuple):
    """What the options ask for; empty is anything."""

    interface: str = ""
    address: str = ""
    port: int = 0
    process: str = ""
    names: Tuple[str, ...] = ()


def split(end: str) -> Tuple[str, int]:
    """`10.0.1.1:5201` or `[fd00::1]:5201` as address and port."""
    address, _, port = end.rpartition(":")
    return address.strip("[]"), int(port) if port.isdigit() else 0


def same_address(one: str, other: str) -> bool:
    """Are they the same, however they are written?  `one` may be all that the agent shows: a network (192.0.2.0/24)."""
    try:
        return ipaddress.ip_address(other) in ipaddress.ip_network(one)
    except ValueError:
        return one == other


def host(end: str) -> str:
    """The address of an end, to be typed; a word in its place if the agent masks it (remote_addresses)."""
    address = split(end)[0]
    return "PEER" if "/" in address or not address else address


def _at(ends: Sequence[str], wanted: Filter) -> bool:
    found = [split(end) for end in ends]
    return ((not wanted.address or any(same_address(address, wanted.address) for address, _ in found))
            and (not wanted.port or any(port == wanted.port for _, port in found)))


def _fits(connection: Connection, flows: Sequence[Subflow], wanted: Filter, *ends: str) -> bool:
    return (_at([*ends, *(end for flow in flows for end in (flow.local, flow.remote))], wanted)
            and (not wanted.interface or any(flow.interface == wanted.interface for flow in flows))
            and (not wanted.process or wanted.process in (connection.command, str(connection.pid))))


def connections(view: View, wanted: Filter) -> List[Connection]:
    """Those that fit."""
    found = [one for one in view.connections if not wanted.names or one.name in wanted.names]
    _all_named(wanted.names, [one.name for one in found], "connection", len(view.connections))
    return [one for one in found if _fits(one, one.flows, wanted, one.local, one.remote)]


def subflows(view: View, wanted: Filter) -> List[Subflow]:
    """Those that fit; a name may be that of a connection."""
    found = [(one, flow) for one in view.connections for flow in one.flows
             if not wanted.names or one.name in wanted.names or flow.name in wanted.names]
    _all_named(wanted.names, [name for one, flow in found for name in (one.name, flow.name)], "subflow",
               len(view.subflows))
    return [flow for one, flow in found if _fits(one, [flow], wanted)]


def _all_named(names: Sequence[str], found: Sequence[str], noun: str, count: int) -> None:
    for name in names:
        if name not in found:
            raise Trouble(f"no {noun} {name} at that time, there are {count}: pcp mptcp {noun}s")


def known(view: View, what: str) -> None:
    """Does the source have values of single connections?"""
    metric = {"connections": "mptcp.connection.subflows", "subflows": "mptcp.subflow.live"}[what]
    if metric not in view.now:
        raise Trouble(f"no values of single {what} here: an archive has them when pmlogger records the group "
                      "mptcp/subflows, see pmlogconf(1)")


def column(columns: Sequence[Column], key: str) -> Column:
    """The column with this name or head."""
    for one in columns:
        if key.lower() in (one.key, one.head.lower()):
            return one
    raise Trouble(f"no column {key}, there are: {', '.join(one.key for one in columns) or 'none'}")


def ordered(rows: Sequence[Any], columns: Sequence[Column], key: str, backwards: bool) -> List[Any]:
    """By a column: numbers with the largest first, text by the alphabet; what is not known comes last."""
    if not key:
        return list(reversed(rows)) if backwards else list(rows)
    by = column(columns, key)
    values = [(getattr(row, by.key), row) for row in rows]
    have = [(_natural(value), row) for value, row in values if value not in (None, "")]
    have.sort(key=itemgetter(0), reverse=by.right != backwards)
    return [row for _, row in have] + [row for value, row in values if value in (None, "")]


def _natural(value: Any) -> Any:
    """c9 before c10."""
    if not isinstance(value, str):
        return value
    parts: List[Tuple[int, Any]] = []
    for piece in text.DIGITS.split(value):
        parts.append((1, int(piece)) if piece.isdecimal() else (0, piece))
    return parts


def detail(connection: Connection, paint: Paint) -> List[str]:
    """One connection, its subflows side by side."""
    role = {True: "server", False: "client", None: "?"}[connection.server_side]
    facts: List[Tuple[str, str]] = [
        ("Connection", f"{connection.name}  {connection.local} -> {connection.remote}  ({role} side)"),
        ("State", connection.state + (", fell back to TCP" if connection.fallback else "")),
        ("Process", connection.process or text.UNKNOWN),
        ("Paths", f"{text.number(connection.live)} live, {text.number(connection.subflows)} established, at most "
                  f"{text.number(connection.most)} live so far; the limit lets {_limit(connection)} be"),
        ("Addresses", f"announced {_of(connection.signalled, connection.signalled_max)}, "
                      f"accepted {_of(connection.accepted, connection.accepted_max)}"),
        ("In", f"{text.rate(connection.in_rate)}, {text.size(connection.in_bytes)} in all"),
        ("Out", f"{text.rate(connection.out_rate)}, {text.size(connection.out_bytes)} in all, "
                f"{text.size(connection.unacked)} not confirmed"),
        ("Last data", f"{text.span(connection.idle)} ago" if connection.idle is not None else text.UNKNOWN),
    ]
    out = [f"{paint('grey', head.ljust(12))}{text.printable(value)}" for head, value in facts]
    if connection.flows:
        out += [""] + _side_by_side(connection.flows, paint)
    return out


def _limit(connection: Connection) -> str:
    return text.UNKNOWN if connection.subflows_max is None else text.plural(connection.subflows_max + 1, "subflow")


def _of(now: Optional[int], most: Optional[int]) -> str:
    return f"{text.number(now)} of {text.number(most)}"


def _side_by_side(flows: Sequence[Subflow], paint: Paint) -> List[str]:
    rows = [[column.show(getattr(flow, column.key)) for flow in flows] for column in DETAIL]
    heads = [flow.name for flow in flows]
    wide = [max(map(len, cells)) for cells in zip(heads, *rows)]
    left = max(len(column.head) for column in DETAIL)

    def line(head: str, cells: Sequence[str], tint: Callable[[Subflow], str]) -> str:
        return paint("grey", head.ljust(left)) + "  " + "  ".join(
            paint(tint(flow), cell.rjust(width)) for flow, cell, width in zip(flows, cells, wide))

    return [line("", heads, lambda flow: "bold")] + [
        line(column.head, cells, column.colour) for column, cells in zip(DETAIL, rows)]


def data(rows: Sequence[Any]) -> List[Dict[str, Any]]:
    """For programs: rates are bytes per second, round-trip times microseconds, parts fractions of one."""
    return [plain(row) for row in rows]
