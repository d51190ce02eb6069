# SPDX-License-Identifier: GPL-2.0-or-later
"""MPTCP Agent: what the agent costs, what it may have lost, and whether it is alive."""

from typing import Any

from . import look, vector
from .look import BAD, GOOD, IDLE, NOTE, WARN, Section
from .vector import Query, events, live, table_of

_A = "mptcp.agent."


def _now(title: str, description: str, expr: str, limits: look.Steps, unit: str = "short", **more: Any) -> Any:
    return look.stat(title, description, unit, table_of((title, expr)), limits, absent="No agent", **more)


_ALIVE = Section("", [
    _now("Does it answer?", "Whether pmcd has an MPTCP agent that answers. If not: /var/log/pcp/pmcd/mptcp.log, "
         "and restart pmcd.", "pmcd.agent.status[mptcp]", [(None, BAD)], mapping={"0": ("Yes", GOOD)}, missing=BAD),
    look.stat("How it counts", "events: it hears of each subflow and counts to the byte. ends: samples tell which "
              "sockets are subflows. samples: short connections are missed; it needs CAP_NET_ADMIN. This is text and "
              "stays when the agent goes: look at the tile to the left.", "none",
              table_of(("mode", _A + "mode")), [(None, NOTE)], fields="/^mode$/", absent="No agent",
              mapping={"events": ("events", GOOD), "ends": ("ends", NOTE), "samples": ("samples", WARN)}),
    _now("Samples a second", "How often somebody asks, all clients together. At 0 nothing is fresh.",
         live(f"rate({_A}samples)"), [(None, BAD), (0.001, GOOD)], "cps", width=4),
    _now("Memory", "Resident memory. Good: about 40 MiB, more with many thousand connections, and flat.",
         live(_A + "memory"), [(None, GOOD), (200 * 2 ** 20, WARN), (2 ** 30, BAD)], "bytes"),
    _now("Subflows known", "Subflows that are followed now. Good: about as many as all links have together; those that "
         "just ended, or were never answered, are among them.",
         live(_A + "subflows"), [(None, IDLE)]),
    _now("Left out", "Connections and subflows that are not listed one by one, because there are more than the limit "
         "'instances' of the configuration. Sums have them all the same. Good is 0.",
         live(f"{_A}omitted.connections + {_A}omitted.subflows"), [(None, GOOD), (1, WARN)]),
])

_LOSSES = Section("Did it lose anything?", [
    vector.series(
        "Losses and faults", "overruns: messages of the kernel were lost, raise receive_buffer in mptcp.conf. faults: "
        "turns of the listener that failed, see the log. malformed: messages that it does not understand, please "
        "report them. truncated: initial subflows whose last bytes the kernel dropped, when a peer aborts. Good is "
        "nothing; the legend has the sum in the time shown.", "short",
        [Query(events(_A + name), name) for name in ("overruns", "faults", "malformed", "truncated")], style="bars"),
    vector.series(
        "Bytes of no link", "Payload of subflows that ended without a known interface; no link has it on its account. "
        "Good is 0. More: routes went away before the subflows did.", "bps",
        [Query(live(f"8 * rate({_A}unrouted)"), "unrouted")]),
])

_COST = Section("What does it cost?", [
    vector.series(
        "Processor time", "Part of one core: samples when somebody asks, listening all the time. Good: a few percent. "
        "Samples cost with the number of connections and of askers, listening with those that open and close.",
        "percentunit", [Query(live(f"rate({_A}sample_time)"), "samples"),
                        Query(live(f"rate({_A}listener_time)"), "listener")], stack="normal", width=8),
    vector.series(
        "Time of a sample", "Processor time of one sample. Good: far below 1 s; pmcd gives up an agent after 5 s. From "
        "0.1 s on samples are taken more seldom.", "s",
        [Query(live(f"rate({_A}sample_time) / rate({_A}samples)"), "one sample")], width=8,
        limits=[(None, "transparent"), (1, WARN), (4, BAD)]),
    vector.series(
        "Memory over time", "Resident memory. Good: flat. A steady climb with a steady number of connections is a "
        "fault: report it.", "bytes", [Query(live(_A + "memory"), "memory")], width=8),
    vector.series(
        "Sockets read", "Sockets per second that samples read. As many as connections and subflows, times the samples.",
        "cps", [Query(live(f"rate({_A}sockets)"), "sockets")], width=8),
    vector.series(
        "Messages of the kernel", "Events of the path manager, ends of sockets, and looks at single sockets, per "
        "second. They rise with connections that open and close.", "cps",
        [Query(live(f"rate({_A}{name})"), name) for name in ("events", "ends", "lookups")], width=8, legend="list"),
    vector.series(
        "Rounds of the listener", "Times that the listener looked at all sockets: every few minutes, when routes "
        "change, and after an overrun. Samples by lookup asked for single sockets, where subflows are few among many. "
        "Good: few rounds.", "cps",
        [Query(live(f"rate({_A}rounds)"), "rounds"), Query(live(f"rate({_A}lookup_samples)"), "samples by lookup")],
        width=8),
])

_PMCD = Section("The agents of this pmcd", [
    vector.series(
        "State of each agent", "0: it answers. Anything else: pmcd has given it up, and its values are gone; an agent "
        "that was too slow (5 s) is in there too.", "none", [Query("pmcd.agent.status")], width=24, height=6,
        style="steps", legend="list", minimum=None),
])

DASHBOARD = look.board(
    "mptcp-agent", "MPTCP Agent", "What the agent costs, what it may have lost, and whether it is alive",
    vector.TAGS, vector.source_variables(), [_ALIVE, _LOSSES, _COST, _PMCD])
