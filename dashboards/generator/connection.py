# SPDX-License-Identifier: GPL-2.0-or-later
"""MPTCP Connection: the subflows of one connection side by side.

Only this connection's subflows are asked for: the server picks them by the
first word of their names.  Text must not be picked that way, it ends pmproxy
6.0.3, so columns of text bring all rows, and those without numbers go.
"""

from typing import Any, Sequence, Tuple

from . import look, vector
from .connections import PROGRAMS, STATE_COLUMNS, TIMES
from .look import BAD, GOOD, WARN, Section, column, coloured, worded
from .vector import Query, only, table_of

_LEGEND = (("^(\\S+) (\\S+) .*$", "$2 $1"),)  # c1::2 wlan0 ADDRESSES: wlan0 c1::2, which has a colour


def _of_subflow(name: str) -> str:
    return f"matchinst(/^$connection::/, mptcp.subflow.{name})"


def _rate(name: str, factor: str = "") -> str:
    return only(f"{factor}rate(mptcp.subflow.{name})", "^$connection::", "mptcp.subflow.live")


def _of_connection(name: str) -> str:
    return f"matchinst(/^$connection$/, mptcp.connection.{name})"


def _numbered(title: str, description: str, columns: Sequence[Tuple[str, str]], key: str, looks: Any,
              **more: Any) -> Any:
    """A table that has only rows with a number in the column `key`."""
    panel = look.table(title, description, table_of(*columns), looks, **more)
    return panel.with_transformation(look.transformation(
        "filterByValue", type="include", match="all",
        filters=[{"fieldName": key, "config": {"id": "isNotNull", "options": {}}}]))


def _series(title: str, description: str, unit: str, expr: str, **more: Any) -> Any:
    return vector.series(title, description, unit, [Query(expr)], rename=_LEGEND, **more)


_WHOLE = _numbered(
    "The connection", "Who talks to whom, and what stands between it and a hang. Good: two or more live paths, none "
    "lost, protocol MPTCP. Addresses accepted at their "
    "maximum, or as many extra paths as allowed: more need ip mptcp limits set." + PROGRAMS,
    (("live paths", _of_connection("live_subflows")),
     ("lost paths", f"{_of_connection('live_subflows_most')} - {_of_connection('live_subflows')}"),
     ("protocol", _of_connection("fallback")), ("program", "mptcp.connection.command"),
     ("state", "mptcp.connection.state"), ("max extra", _of_connection("subflows_max")),
     ("accepted", _of_connection("addresses.accepted")),
     ("max accepted", _of_connection("addresses.accepted_max")),
     ("idle in", _of_connection("since.data_received")),
     ("idle out", _of_connection("since.data_sent"))), "live paths",
    [column("instance", ("displayName", "connection")), *STATE_COLUMNS, column("max extra", width=90),
     column("accepted", width=110), column("max accepted", width=110), *TIMES[1:]], height=4)

_SUBFLOWS = _numbered(
    "Its subflows", "One line for each path. Good: live, not repeating itself (backoff 0), a round-trip time near its "
    "minimum. Backup paths carry only when no other works.",
    (("path", _of_subflow("live")), ("state", "mptcp.subflow.state"), ("role", _of_subflow("backup")),
     ("in", _rate("in.bytes", "8 * ")), ("out", _rate("out.bytes", "8 * ")),
     ("rtt", _of_subflow("rtt")), ("least rtt", _of_subflow("min_rtt")), ("window", _of_subflow("cwnd")),
     ("in flight", _of_subflow("unacked")), ("lost", _of_subflow("lost")), ("backoff", _of_subflow("backoff")),
     ("unsent", _of_subflow("notsent_bytes"))), "path",
    [column("instance", ("displayName", "subflow")),
     column("path", *worded({"1": ("live", GOOD), "0": ("dead", BAD)}), width=60), column("state", width=75),
     column("role", *worded({"0": ("regular", "text"), "1": ("backup", "blue")}), width=75),
     column("in", unit="bps", width=95), column("out", unit="bps", width=95), column("rtt", unit="µs", width=80),
     column("least rtt", unit="µs", width=85), column("window", unit="none", width=75),
     column("in flight", width=105), column("lost", width=65), column("unsent", unit="bytes", width=75),
     column("backoff", *coloured([(None, "transparent"), (1, WARN), (3, BAD)]), width=75)], height=6, sort="subflow")

_TRAFFIC = Section("How is the traffic spread?", [
    _series("Traffic in by path", "Payload received on each path. Good: as the capacities of the links are; a path at "
            "0 is dead, a backup, or much slower than the others.", "bps", _rate("in.bytes", "8 * "), stack="normal"),
    _series("Traffic out by path", "Payload sent on each path, what was sent again included. The scheduler prefers the "
            "path that answers fastest.", "bps", _rate("out.bytes", "8 * "), stack="normal"),
])

_QUALITY = Section("How good are the paths?", [
    _series("Round-trip time", "Smoothed round-trip time of each path. Good: alike and flat. Very unlike paths make "
            "the receiver wait and reorder.", "µs", _of_subflow("rtt"), width=8),
    _series("Congestion window", "Segments that may be under way. Good: grows until the path is full. A saw to the "
            "ground: losses.", "none", _of_subflow("cwnd"), width=8),
    _series("Delivery rate", "What the kernel measured last as the rate of the path, when it sent. Compare with the "
            "capacity of the link.", "bps", "8 * " + _of_subflow("delivery_rate"), width=8),
    _series("Sent again", "Retransmitted payload per second. Good: next to nothing. A path that always resends loses "
            "packets.", "bps", _rate("out.retrans_bytes", "8 * "), width=8),
    _series("Backoff", "Retransmission timeouts in a row without an answer; each doubles the wait. Good is 0. From 3 "
            "on the path counts as stalled.", "none", _of_subflow("backoff"), width=8, style="steps",
            limits=[(None, "transparent"), (3, BAD)]),
    _series("In flight and unanswered", "Segments sent and not yet acknowledged. Good: follows the window. High and "
            "flat while nothing arrives: the path is dead.", "none", _of_subflow("unacked"), width=8),
])

_LIMITS = Section("What limits it?", [
    _series("Busy", "Part of the time that there was something to send. Near 100 %: the path limits. Far below: the "
            "program sends less.", "percentunit", _rate("busy"), width=8, maximum=1),
    _series("The receiver limits", "Part of the time that the receiver's window held the sender back. Good is 0. More: "
            "the program there reads slowly, or its buffer (net.ipv4.tcp_rmem) is small.", "percentunit",
            _rate("rwnd_limited"), width=8, maximum=1),
    _series("The send buffer limits", "Part of the time that the sender's buffer held it back. Good is 0. More: raise "
            "net.ipv4.tcp_wmem here, or the program's SO_SNDBUF.", "percentunit", _rate("sndbuf_limited"), width=8,
            maximum=1),
])

_PICK = vector.names_variable("connection", "Connection", "mptcp.connection.name",
                              "/(?<text>(?<value>\\S+) .*)/", "New ones come with a change of the time range")

DASHBOARD = look.board(
    "mptcp-connection", "MPTCP Connection", "The subflows of one connection side by side: rate, quality, limits",
    vector.TAGS, [*vector.source_variables(), _PICK],
    [Section("", [_WHOLE, _SUBFLOWS]), _TRAFFIC, _QUALITY, _LIMITS])
