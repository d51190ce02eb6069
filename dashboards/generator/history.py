# SPDX-License-Identifier: GPL-2.0-or-later
"""MPTCP History: the questions of the overview, about days, from what pmlogger recorded of one host."""

from typing import Any, Sequence

from . import look, valkey
from .look import BAD, DEVICE, GOOD, IDLE, WARN, Section
from .valkey import Query


def over_time(title: str, description: str, unit: str, *queries: Query, **more: Any) -> Any:
    return look.series(title, description, unit, queries, silence=valkey.SILENCE, **more)


def most(title: str, description: str, metric: str, limits: look.Steps) -> Any:
    """The largest value in the time that is shown."""
    return look.stat(title, description, "short", [Query(metric, "most")], limits, calc="max", width=6,
                     absent="Not recorded")


def counts(prefix: str, *names: str) -> Sequence[Query]:
    """Counters below a name, each with its own."""
    return [Query(f"{prefix}.{name}", name) for name in names]


_MOST = Section("", [
    most("Was MPTCP used?",
         "The most MPTCP connections at a time. 0: whatever ran used plain TCP. Not recorded: pmlogger or pmproxy did "
         "not run, or the agent was not installed; see docs/recording.md.",
         "mptcp.connections", [(None, IDLE), (1, GOOD)]),
    most("Who fell back to TCP?",
         "The most connections at a time that had asked for MPTCP and ran as plain TCP. Good is 0 between hosts that "
         "both speak MPTCP; look below for when, and at which step.",
         "mptcp.fallback.connections", [(None, GOOD), (1, WARN)]),
    most("Who lost a path?",
         "The most connections at a time that had fewer live subflows than they once had. Good is 0. More: below is "
         "when, and which link.",
         "mptcp.redundancy.degraded_connections", [(None, GOOD), (1, WARN)]),
    most("Did the agent miss anything?",
         "Messages of the kernel per second that were more than the agent's buffer held. Good is 0. More: the bytes of "
         "connections that ended then may be missing; raise receive_buffer in mptcp.conf.",
         "mptcp.agent.overruns", [(None, GOOD), (0.000001, BAD)]),
])


def _carried(title: str, way: str, description: str) -> Any:
    return over_time(
        title, description + " The dashed line is all that the device carried. Good: every link that you pay for "
        "carried its part. Where a line falls to 0, look below at the same time: link, subflows, events.", "Bps",
        Query(f"mptcp.interface.{way}.bytes"), Query(f"mptcp.interface.total.{way}.bytes", "$instance" + DEVICE),
        height=9)


def _share(title: str, way: str) -> Any:
    return over_time(
        title, "Each link's part of the MPTCP payload. Good is what your scheduler and prices want: a backup link "
        "shows only when the others failed.", "Bps", Query(f"mptcp.interface.{way}.bytes"), stack="percent")


_TRAFFIC = Section("Which link carried the traffic?", [
    _carried("Traffic in by link", "in", "MPTCP payload received by each link."),
    _carried("Traffic out by link", "out", "MPTCP payload sent by each link."),
    _share("Share of the links in", "in"),
    _share("Share of the links out", "out"),
])

_LOST = Section("What was lost, and when?", [
    over_time("Which link was down?",
              "1: up and with carrier, 0: down. A link that is gone has no line. A step to 0 is the cause of what the "
              "other panels show at that time.", "bool_on_off", Query("mptcp.interface.up"), style="steps", maximum=1),
    over_time("Subflows by link",
              "Established subflows that left by each link. Good: as many on each link as there are connections. Less "
              "on one: it failed, or joins over it did.", "short", Query("mptcp.subflows"), style="steps"),
    over_time("Connections by number of paths",
              "How many connections had 1, 2, 3.. live subflows; 0 paths: the program hung. Good: as many paths as "
              "links. Colours that move downwards are redundancy that was lost.", "short",
              Query("mptcp.redundancy.connections", "$instance paths"), stack="normal", style="steps"),
    over_time("Connections that lost a path",
              "Connections with fewer live subflows than they once had. Good is 0; it goes back to 0 when the link is "
              "back and was joined again, or when the connections end.", "short",
              Query("mptcp.redundancy.degraded_connections", "lost a path"),
              Query("mptcp.fallback.connections", "fell back"), style="steps",
              fixed={"lost a path": WARN, "fell back": BAD}),
    over_time("What would have broken?",
              "Connections whose only working path was this link: had it failed, they would have hung. Good is 0 on "
              "each link; more is the time in which to worry about that link.", "short",
              Query("mptcp.interface.sole_path_connections"), style="steps"),
    over_time("Who got no answer?",
              "Subflows that retransmitted three times or more without an answer. Good is 0. More while the link is "
              "up: the path is dead beyond it.", "short", Query("mptcp.interface.stalled_subflows"), style="steps"),
    over_time("Traffic of backup subflows",
              "What subflows carried while they were marked backup, in and out. Good is 0 as long as the main link "
              "works; a backup that is metered costs money here.", "Bps",
              Query("mptcp.interface.in.backup_bytes", "$instance in"),
              Query("mptcp.interface.out.backup_bytes", "$instance out")),
    over_time("Endpoints in use",
              "Live subflows that use each endpoint of the path manager. Good is more than 0 on each while there are "
              "connections; 0 is an address that is announced or opened in vain.", "short",
              Query("mptcp.pm.endpoint.subflows"), style="steps"),
])

_EVENTS = Section("What happened?", [
    over_time("Connections and subflows that came and went",
              "What the path manager told, per second. Joins follow connections closely; sub_closed without closed is "
              "a path that was lost.", "ops",
              *counts("mptcp.event", "established", "closed", "sub_established", "sub_closed", "announced", "removed")),
    over_time("Subflows that closed by link",
              "Subflows per second that ended on each link. One link alone has a problem; all of them together are "
              "connections that ended.", "ops", Query("mptcp.interface.subflows_closed")),
    over_time("Why subflows closed",
              "The reason that was given in a reset. unspecified is usual; prohibited and middlebox name a "
              "firewall.", "ops", Query("mptcp.event.subflow_closed_by.reason")),
    over_time("Round-trip time by link",
              "Mean smoothed round-trip time of the subflows of each link. Good is flat; a rise together with traffic "
              "is a queue that fills, a rise alone is a detour.", "µs", Query("mptcp.interface.rtt")),
    over_time("Retransmissions by link",
              "Payload that was sent again by each link. Good is near 0; more on one link is loss there, and the "
              "scheduler will avoid it.", "Bps", Query("mptcp.interface.out.retrans_bytes")),
    over_time("What the protocol refused",
              "Per second: connections that became TCP (of those opened and accepted), joins that were refused, and "
              "those with a wrong HMAC. Good is 0. The dashboard Troubleshooting and pcp mptcp why tell what to do.",
              "ops", *counts("mptcp.mib", "mpcapablefallbacksynack", "mpcapablefallbackack", "mpjoinrejected",
                             "mpjoinackhmacfailure", "mpjoinsynackhmacfailure")),
    over_time("Joins asked and answered",
              "Per second: joins that this host asked for and that were answered, that it received and that were "
              "completed. Good: each pair is the same. Asked without answer is a firewall or a wrong route.", "ops",
              *counts("mptcp.mib", "mpjoinsyntx", "mpjoinsynackrx", "mpjoinsynrx", "mpjoinackrx")),
])

DASHBOARD = look.board(
    "mptcp-history", "MPTCP History", "The overview of one host over days, from what pmlogger recorded",
    valkey.TAGS, [valkey.source_variable(), valkey.host_variable("host", "Host")],
    [_MOST, _TRAFFIC, _LOST, _EVENTS], refresh=valkey.REFRESH, since="now-24h", refreshes=valkey.REFRESHES)
