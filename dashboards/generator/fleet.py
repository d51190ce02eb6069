# SPDX-License-Identifier: GPL-2.0-or-later
"""MPTCP Fleet: many hosts side by side, from what pmlogger recorded of each."""

from typing import Any

from . import look, valkey
from .look import BAD, GOOD, IDLE, WARN, Section
from .valkey import MANY, Query

#: A host that has not been heard of for longer than this, and two minutes, has no value among those of now.
NOW = "3m"
HISTORY = "/d/mptcp-history?var-host=${__field.labels.hostname}&${__url_time_range}&${history:queryparam}"


def query(metric: str, legend: str = "$hostname") -> Query:
    return Query(metric, legend, MANY)


def _led(panel: Any) -> Any:
    """A click on a host leads to its history."""
    return panel.override_by_regexp("/.*/", look.properties([look.linked("History of this host", HISTORY)]))


def now(title: str, description: str, metric: str, limits: look.Steps, calc: str = "last", **more: Any) -> Any:
    """A number for each host that is recorded now."""
    return _led(look.stat(title, description, "short", [query(metric)], limits, calc=calc, width=8, height=5,
                          names=True, absent="Not recorded", **more).time_from(NOW))


def over_time(title: str, description: str, unit: str, metric: str, legend: str = "$hostname", **more: Any) -> Any:
    return _led(look.series(title, description, unit, [query(metric, legend)], silence=valkey.SILENCE, **more))


_NOW = Section("", [
    now("Who uses MPTCP?",
        "MPTCP connections of each host. 0: its programs use plain TCP. A host that is missing is not recorded now: "
        "see that its pmcd, pmlogger and agent run.",
        "mptcp.connections", [(None, IDLE), (1, GOOD)]),
    now("Who lost a path?",
        "Connections of each host that have fewer live subflows than they once had. Good is 0; click on a host to see "
        "since when, and which link.",
        "mptcp.redundancy.degraded_connections", [(None, GOOD), (1, WARN)]),
    now("Who fell back to TCP?",
        "Connections of each host that asked for MPTCP and run as plain TCP. Good is 0 between hosts that both speak "
        "MPTCP; all hosts of one site at once is that site's firewall.",
        "mptcp.fallback.connections", [(None, GOOD), (1, WARN)]),
])

_LOST = Section("Which host has a problem, and since when?", [
    over_time("Connections that lost a path",
              "By host. Good is 0. One host alone has a link that failed; many at once share one, or its far end.",
              "short", "mptcp.redundancy.degraded_connections", style="steps"),
    over_time("Which link was down?",
              "By host and link, 1: up and with carrier, 0: down. Hide the links that are never used by a click on "
              "the legend.", "bool_on_off", "mptcp.interface.up", "$hostname $instance", style="steps", maximum=1),
    over_time("What would break?",
              "By host and link: connections whose only working path is this link. Good is 0; the largest is the link "
              "to repair or to double first.", "short",
              "mptcp.interface.sole_path_connections", "$hostname $instance", style="steps"),
    over_time("Who gets no answer?",
              "By host and link: subflows that retransmitted three times or more without an answer. Good is 0. On many "
              "hosts at once: what they share is dead, not their links.", "short",
              "mptcp.interface.stalled_subflows", "$hostname $instance", style="steps"),
    over_time("Connections that fell back to TCP",
              "By host. Good is 0 between hosts that both speak MPTCP.", "short",
              "mptcp.fallback.connections", style="steps"),
    over_time("Joins refused",
              "By host, per second: joins for which the limits of its path manager left no room. Good is 0; more: "
              "raise the limits there (ip mptcp limits).", "ops", "mptcp.mib.mpjoinrejected"),
])

_USE = Section("How is it used?", [
    over_time("Connections", "By host. It has no good or bad: compare hosts of one kind with each other.", "short",
              "mptcp.connections", style="steps"),
    over_time("Subflows", "By host and link. Good: as many on each link of a host as it has connections.", "short",
              "mptcp.subflows", "$hostname $instance", style="steps"),
    over_time("Traffic in", "By host and link: MPTCP payload received. A link at 0 beside busy ones of its host is "
              "down, without subflows, or a backup.", "Bps", "mptcp.interface.in.bytes", "$hostname $instance"),
    over_time("Traffic out", "By host and link: MPTCP payload sent. A link at 0 beside busy ones of its host is down, "
              "without subflows, or a backup.", "Bps", "mptcp.interface.out.bytes", "$hostname $instance"),
    over_time("Round-trip time", "By host and link, of its subflows. Good is flat; a rise on many hosts at once is in "
              "what they share.", "µs", "mptcp.interface.rtt", "$hostname $instance"),
    over_time("Does an agent lose messages?",
              "By host, per second: more messages of the kernel than the agent's buffer held. Good is 0. More: raise "
              "receive_buffer in mptcp.conf there.", "ops", "mptcp.agent.overruns",
              limits=[(None, GOOD), (0.000001, BAD)]),
])

DASHBOARD = look.board(
    "mptcp-fleet", "MPTCP Fleet", "Many hosts side by side, from what pmlogger recorded of each",
    valkey.TAGS, [valkey.source_variable(), valkey.hosts_variable()],
    [_NOW, _LOST, _USE], refresh=valkey.REFRESH, since="now-6h", refreshes=valkey.REFRESHES)
