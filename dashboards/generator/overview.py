# SPDX-License-Identifier: GPL-2.0-or-later
"""MPTCP Overview: is it used, over which links, what is lost, is anything wrong?"""

from . import look, vector
from .look import BAD, DEVICE, GOOD, IDLE, NOTE, WARN, Section
from .vector import Query, bits, live, table_of

_USE = Section("", [
    look.stat(
        "Is MPTCP used?",
        "MPTCP connections established now. 0 though applications run: they use plain TCP, see what they open and "
        "start them with mptcpize run, or enable MPTCP in their settings. No agent: the host's pmcd has none that "
        "answers.", "short", table_of(("connections", "mptcp.redundancy.connections")),
        [(None, IDLE), (1, GOOD)], calc="sum", absent="No agent"),
    look.stat(
        "Who fell back to TCP?",
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
        "Who has no path at all?",
        "Connections without any live subflow: their programs hang. Good is 0. More: all links that they use are dead "
        "at once; bring one of them back before the programs give up.",
        "short", table_of(("none", "mptcp.redundancy.connections[0]")), [(None, GOOD), (1, BAD)], absent="No agent"),
    look.stat(
        "How much is it?",
        "MPTCP payload that all links carry together now, in and out. It has no good or bad: compare it with what you "
        "expect of the links.", "bps", table_of(("in", bits("mptcp.interface.in.bytes")),
                                               ("out", bits("mptcp.interface.out.bytes"))),
        [(None, NOTE)], calc="sum", absent="No agent", names=True),
    look.stat(
        "Does the agent answer?",
        "Whether pmcd has an MPTCP agent that answers. When it does not, everything else here is empty, not 0: see "
        "the log /var/log/pcp/pmcd/mptcp.log, and restart pmcd.",
        "short", table_of(("status", "pmcd.agent.status[mptcp]")), [(None, BAD)],
        mapping={"0": ("Yes", GOOD)}, absent="No agent"),
])


def _carried(title: str, way: str, description: str):
    return vector.series(
        title, description + " The dashed line is all that the device carries; what lies between is not MPTCP, or is "
        "headers. Good: every link that you pay for carries its part. A link at 0 has no subflows (below), is down, "
        "or is a backup.", "bps",
        [Query(bits(f"mptcp.interface.{way}.bytes")),
         Query(bits(f"mptcp.interface.total.{way}.bytes"), "$instance" + DEVICE)],
        interfaces="interfaces", height=9)


_TRAFFIC = Section("Which link carries the traffic?", [
    _carried("Traffic in by link", "in", "MPTCP payload received by each link."),
    _carried("Traffic out by link", "out", "MPTCP payload sent by each link."),
])
_SECTIONS = [_USE, _TRAFFIC]

DASHBOARD = look.board(
    "mptcp-overview", "MPTCP Overview", "Is MPTCP used, over which links, what is lost, is anything wrong?",
    vector.TAGS, [*vector.source_variables(), vector.interfaces_variable()], _SECTIONS)
