# SPDX-License-Identifier: GPL-2.0-or-later
"""MPTCP Connections: who talks to whom, over how many paths, how fast?"""

from . import look, vector
from .look import BAD, GOOD, WARN, Section, column, coloured, worded
from .vector import Query, bits, table_of

#: Columns of a connection, without what needs a rate.
STATE = (
    ("program", "mptcp.connection.command"), ("state", "mptcp.connection.state"),
    ("protocol", "mptcp.connection.fallback"), ("live paths", "mptcp.connection.live_subflows"),
    ("lost paths", "mptcp.connection.live_subflows_most - mptcp.connection.live_subflows"))

STATE_COLUMNS = (
    column("program", width=115), column("state", width=75),
    column("protocol", *worded({"0": ("MPTCP", GOOD), "1": ("TCP", WARN)}), width=80),
    column("live paths", *coloured([(None, BAD), (1, WARN), (2, "transparent")]), width=85),
    column("lost paths", *coloured([(None, "transparent"), (1, WARN)]), width=85))

#: pmproxy asks for whoever asks it, so that the agent tells it of no processes.
PROGRAMS = " Programs are shown only where the agent's setting processes is all."

TIMES = (column("unacked", unit="bytes", width=85), column("idle in", unit="ms", width=90),
         column("idle out", unit="ms", width=85))

_TABLE = look.table(
    "Connections",
    "All MPTCP connections of the host; the name leads to the connection and its subflows. Good: two or more live "
    "paths, none lost, protocol MPTCP. Without a path (red) it hangs, with one (orange) it hangs when its link goes. "
    "TCP: it fell back. Idle tells since when no data came. At most 10,000 are listed, those left out are counted on "
    "the dashboard Agent." + PROGRAMS,
    table_of(*STATE, ("in", bits("mptcp.connection.in.bytes")), ("out", bits("mptcp.connection.out.bytes")),
             ("unacked", "mptcp.connection.out.unacked_bytes"),
             ("idle in", "mptcp.connection.since.data_received"),
             ("idle out", "mptcp.connection.since.data_sent"), ("pid", "mptcp.connection.pid")),
    [column("instance", vector.leads_to("connection", "connection"), ("displayName", "connection")),
     *STATE_COLUMNS, column("in", unit="bps", width=95), column("out", unit="bps", width=95), *TIMES,
     column("pid", unit="none", width=80)],
    height=13, sort="-in")

_RATES = [
    vector.series(
        f"Traffic {way} by connection", f"MPTCP payload that each connection {did}, once, however often it was sent. "
        "Good: what the program wants; the dashboard Connection tells what limits it.", "bps",
        [Query(bits(f"mptcp.connection.{way}.bytes"))], stack="normal", height=9)
    for way, did in (("in", "received"), ("out", "sent"))]

_PATHS = vector.series(
    "Live paths by connection", "Live subflows of each connection, one on top of the other. Good: steady. "
    "A step down is a lost path, and the number left is what stands between the connection and a hang.", "short",
    [Query("mptcp.connection.live_subflows")], style="steps", stack="normal", height=9)

_SERVICES = look.table(
    "Which service is reached by MPTCP?",
    "Listening ports that accept MPTCP: connections that speak it, and those that are plain TCP. All plain although "
    "the clients use MPTCP: something on the way strips it, see Troubleshooting. Empty: nothing listens with MPTCP."
    + PROGRAMS,
    table_of(("program", "mptcp.service.command"), ("with MPTCP", "mptcp.service.mptcp_connections"),
             ("plain TCP", "mptcp.service.tcp_connections"), ("addresses", "mptcp.service.addresses")),
    [column("instance", ("displayName", "service"))], width=12, height=9)

DASHBOARD = look.board(
    "mptcp-connections", "MPTCP Connections", "Who talks to whom over MPTCP, over how many paths, how fast?",
    vector.TAGS, vector.source_variables(),
    [Section("", [_TABLE]), Section("Over time", [*_RATES, _PATHS, _SERVICES])])
