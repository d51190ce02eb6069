# SPDX-License-Identifier: GPL-2.0-or-later
"""MPTCP Overview: is it used, over which links, what is lost, is anything wrong?"""

from typing import Any

from . import findings, look, vector
from .look import BAD, DEVICE, GOOD, IDLE, NOTE, WARN, Section, column, coloured, worded
from .vector import Query, bits, events, live, table_of

_ALONE = [(None, "transparent"), (1, WARN)]

_USE = Section("", [
    look.stat(
        "Is MPTCP used?",
        "MPTCP connections established now. 0 though applications run: they use plain TCP, see what they open and "
        "start them with mptcpize run, or enable MPTCP in their settings. No agent: the host's pmcd has none that "
        "answers.", "short", table_of(("connections", "mptcp.redundancy.connections")),
        [(None, IDLE), (1, GOOD)], calc="sum", absent="No agent"),
    look.stat(
        "Who fell back?",
        "Connections that asked for MPTCP and run as plain TCP, with one path. Good is 0 between hosts that both speak "
        "MPTCP. More: the dashboard Troubleshooting tells at which step, pcp mptcp why tells it for a port.",
        "short", table_of(("fallback", live("mptcp.fallback.connections"))), [(None, GOOD), (1, WARN)],
        absent="No agent"),
    look.stat(
        "Who lost a path?",
        "Connections that have fewer live subflows than they once had. Good is 0: everything is as redundant as it "
        "was. More: a link below is down or without subflows, and events tell why they closed.",
        "short", table_of(("degraded", live("mptcp.redundancy.degraded_connections"))), [(None, GOOD), (1, WARN)],
        absent="No agent"),
    look.stat(
        "Who has no path?",
        "Connections without any live subflow: their programs hang. Good is 0. More: all links that they use are dead "
        "at once; bring one of them back before the programs give up.",
        "short", table_of(("none", "mptcp.redundancy.connections[0]")), [(None, GOOD), (1, BAD)], absent="No agent"),
    look.stat(
        "How much is it?",
        "MPTCP payload that all links carry together now, in and out. It has no good or bad: compare it with what you "
        "expect of the links.", "bps",
        table_of(("in", bits("mptcp.interface.in.bytes")), ("out", bits("mptcp.interface.out.bytes"))),
        [(None, NOTE)], calc="sum", absent="No agent", names=True),
    look.stat(
        "Agent answers?",
        "Whether pmcd has an MPTCP agent that answers. When it does not, everything else here is empty, not 0: see "
        "the log /var/log/pcp/pmcd/mptcp.log, and restart pmcd.",
        "short", table_of(("status", "pmcd.agent.status[mptcp]")), [(None, BAD)],
        mapping={"0": ("Yes", GOOD)}, absent="No agent", missing=BAD),
    findings.now(),
    findings.lately(),
])


def _carried(way: str, done: str) -> Any:
    return vector.series(
        f"Traffic {way} by link",
        f"MPTCP payload {done} by each link. The dashed line is all that the device carries: what lies between is not "
        "MPTCP, or is headers. Good: every link that you pay for carries its part. A link at 0 has no subflows, is "
        "down, or is a backup.", "bps",
        [Query(bits(f"mptcp.interface.{way}.bytes")),
         Query(bits(f"mptcp.interface.total.{way}.bytes"), "$instance" + DEVICE)],
        interfaces="interfaces", height=9)


_TRAFFIC = Section("Which link carries the traffic?", [
    _carried("in", "received"),
    _carried("out", "sent"),
    vector.series(
        "Share of each link",
        "How the MPTCP payload, in and out together, is spread over the links. Good: as their capacities are. One "
        "colour fills all: the others are lost, slower by far, or backups.", "percent",
        [Query("rate(mptcp.interface.in.bytes) + rate(mptcp.interface.out.bytes)")], interfaces="interfaces",
        width=8, stack="percent", legend="list"),
    vector.series(
        "Subflows of each link",
        "Established subflows by the link that their packets leave by now. Good: steady, and equal on links that all "
        "connections shall use. A step down is a lost path; a link that is up and at 0 has no endpoint, or its joins "
        "fail. A pulled cable takes no subflow away: the panel to the right tells which of them live.", "short",
        [Query("mptcp.subflows")], interfaces="interfaces", width=8, style="steps", stack="normal", legend="list"),
    vector.series(
        "Connections by number of live paths",
        "How many connections have 0, 1, 2 or more live subflows. Good: as many paths as there are links. 0 (red) "
        "hangs, 1 (orange) hangs when its link goes.", "short", [Query("mptcp.redundancy.connections")],
        width=8, style="steps", stack="normal", legend="list",
        fixed={"0": "red", "1": "orange", "2": "light-green", "3": "green", "4": "semi-dark-green", "5": "dark-green",
               "6": "dark-green", "7": "dark-green", "8+": "dark-green"}),
])

LINK_COLUMNS = table_of(
    ("state", "mptcp.interface.up"), ("subflows", "mptcp.subflows"),
    ("in", bits("mptcp.interface.in.bytes")), ("out", bits("mptcp.interface.out.bytes")),
    ("of link in", "rate(mptcp.interface.in.bytes) / rate(mptcp.interface.total.in.bytes)"),
    ("of link out", "rate(mptcp.interface.out.bytes) / rate(mptcp.interface.total.out.bytes)"),
    ("rtt", "mptcp.interface.rtt"),
    ("resent", "rate(mptcp.interface.out.retrans_bytes) / rate(mptcp.interface.out.bytes)"),
    ("sole path", "mptcp.interface.sole_path_connections"),
    ("stalled", "mptcp.interface.stalled_subflows"), ("backup", "mptcp.interface.backup_subflows"))

_HANG = vector.series(
    "Connections that hang if this link goes",
    "Connections whose only live path is this link. Good is 0 on every link. More: these have no redundancy; see "
    "which they are on the dashboard Connections.", "short", [Query("mptcp.interface.sole_path_connections")],
    interfaces="interfaces", width=8, style="steps", legend="list", height=7)

_ENDPOINTS = look.table(
    "Endpoints", "What ip mptcp endpoint shows, with the live subflows of each. Good: every endpoint that is "
    "announced or joined from has some. 0: its link is down, no interface has its address (owner is empty), its "
    "joins fail, or its packets leave by the wrong link (misrouted: add source routing).",
    table_of(("live subflows", "mptcp.pm.endpoint.subflows"), ("packets leave", "mptcp.pm.endpoint.misrouted"),
             ("owner", "mptcp.pm.endpoint.owner"), ("meant for", "mptcp.pm.endpoint.interface"),
             ("flags", "mptcp.pm.endpoint.flags")), [
        column("instance", ("displayName", "endpoint")),
        column("live subflows", *coloured([(None, BAD), (1, "transparent")]), width=110),
        column("packets leave", *worded({"0": ("as they should", GOOD), "1": ("by another link", BAD)}), width=130),
        column("owner", width=90), column("meant for", width=130), column("flags", width=130)],
    width=16, height=7)

_LINKS = Section("What breaks if a link goes now?", [
    look.table(
        "Links", "One line for each link. 'Sole path' counts the connections that would hang if this link went now: "
        "good is 0. Stalled subflows get no answer: the path beyond the link is dead. The name leads to all about the "
        "link.", LINK_COLUMNS, [
            column("instance", vector.leads_to("interface", "interface"), ("displayName", "link")),
            column("state", *worded({"1": ("up", GOOD), "0": ("down", BAD)}), width=70),
            column("in", unit="bps", width=110), column("out", unit="bps", width=110),
            column("rtt", unit="µs", width=90), column("of link in", unit="percentunit", width=95),
            column("of link out", unit="percentunit", width=100),
            column("resent", *coloured([(None, "transparent"), (0.02, WARN), (0.1, BAD)]), unit="percentunit",
                   width=110),
            column("sole path", *coloured(_ALONE), width=115), column("stalled", *coloured(_ALONE), width=110),
            column("subflows", width=110), column("backup", width=80)],
        height=7),
    _HANG, _ENDPOINTS,
])

_EVENTS = Section("What happened?", [
    vector.series(
        "Connections and subflows that came and went",
        "Events of the path manager since the last look, one bar a look; the legend has their sum in the time shown. "
        "Good: subflows close when their connections do. Many that close while connections stay: a link is gone, or "
        "the other side takes addresses back.", "short",
        [Query(events("mptcp.event.established"), "connection established"),
         Query(events("mptcp.event.closed"), "connection closed"),
         Query(events("mptcp.event.sub_established"), "subflow established"),
         Query(events("mptcp.event.sub_closed"), "subflow closed"),
         Query(events("mptcp.event.sub_priority"), "priority changed"),
         Query(events("mptcp.event.announced"), "address announced"),
         Query(events("mptcp.event.removed"), "address removed")], width=10, height=9, style="bars",
        fixed={"subflow closed": "red", "connection closed": "orange", "connection established": "green",
               "subflow established": "light-green"}),
    vector.series(
        "Closed by what error?",
        "Subflows that closed with an error, by its name. Good is nothing. ETIMEDOUT, EHOSTUNREACH, ENETUNREACH: the "
        "path is dead; ECONNRESET: the other side, or a middlebox, ended it.", "short",
        [Query("delta(mptcp.event.subflow_closed_by.error)")], width=5, height=9, style="bars", absent="No error yet"),
    vector.series(
        "Closed for what reason?",
        "Subflows that were reset with a reason of the protocol. Good is nothing. prohibited and no_resources: limits "
        "of the other side; middlebox: something on the way changes packets; bad_performance: the other side's choice.",
        "short", [Query("delta(mptcp.event.subflow_closed_by.reason)")], width=9, height=9, style="bars"),
])

DASHBOARD = look.board(
    "mptcp-overview", "MPTCP Overview", "Is MPTCP used, over which links, what is lost, is anything wrong?",
    vector.TAGS, [*vector.source_variables(), vector.interfaces_variable()],
    [_USE, _TRAFFIC, _LINKS, _EVENTS])
