# SPDX-License-Identifier: GPL-2.0-or-later
"""MPTCP on Prometheus: one overview of all hosts whose pmproxy a Prometheus server scrapes.

pmproxy leaves out what has no value, so a kernel without a counter, or an agent
that ended, has no series here.  Instances are in the label instname.
"""

from dataclasses import dataclass
from typing import Any, Dict

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.dashboard import VariableOption, VariableRefresh, VariableSort

from . import look
from .look import BAD, DEVICE, GOOD, IDLE, NOTE, WARN, Section
from .query import Query as Base

TYPE = "prometheus"
SOURCE = DataSourceRef(type_val=TYPE, uid="${prometheus}")
HOST = '{hostname=~"$hostname"}'
LINK = "{{hostname}} {{instname}}"


@dataclass
class Query(Base):
    """PromQL; a legend is made of labels; `now` asks for one value instead of a line."""

    expr: str
    legend: str = "{{hostname}}"
    now: bool = False

    source = SOURCE

    def own(self) -> Dict[str, Any]:
        return {"expr": self.expr, "legendFormat": self.legend, "instant": self.now, "range": not self.now}


def value(metric: str) -> str:
    return f"mptcp_{metric}{HOST}"


def rate(metric: str, factor: str = "") -> str:
    return f"{factor}rate({value(metric)}[$__rate_interval])"


def stat(title: str, description: str, expr: str, limits: look.Steps, unit: str = "short", **more: Any) -> Any:
    return look.stat(title, description, unit, [Query(expr, now=True)], limits, absent="Not scraped", **more)


def over_time(title: str, description: str, unit: str, *queries: Query, **more: Any) -> Any:
    # Prometheus itself ends a series that is not scraped any more.
    return look.series(title, description, unit, queries, silence=False, **more)


_USE = Section("", [
    stat("Is MPTCP used?",
         "MPTCP connections established now, on all hosts that are chosen. 0: their programs use plain TCP. Not "
         "scraped: Prometheus does not reach pmproxy, or the host has no agent, see its page of targets.",
         f"sum({value('connections')})", [(None, IDLE), (1, GOOD)]),
    stat("Who fell back to TCP?",
         "Connections that asked for MPTCP and run as plain TCP. Good is 0 between hosts that both speak MPTCP.",
         f"sum({value('fallback_connections')})", [(None, GOOD), (1, WARN)]),
    stat("Who lost a path?",
         "Connections that have fewer live subflows than they once had. Good is 0; below is the host and the link.",
         f"sum({value('redundancy_degraded_connections')})", [(None, GOOD), (1, WARN)]),
    stat("Who has no path at all?",
         "Connections without any live subflow: their programs hang. Good is 0.",
         'sum(mptcp_redundancy_connections{hostname=~"$hostname", instname="0"})', [(None, GOOD), (1, BAD)]),
    stat("How much is it?",
         "MPTCP payload in and out of all links of the chosen hosts together. It has no good or bad.",
         f"sum({rate('interface_in_bytes', '8 * ')}) + sum({rate('interface_out_bytes', '8 * ')})",
         [(None, NOTE)], "bps"),
    stat("How many hosts answer?",
         "Hosts whose agent answered the last scrape. Compare with how many there should be.",
         f"count({value('connections')})", [(None, BAD), (1, NOTE)], missing=BAD),
])


def _carried(title: str, way: str, description: str) -> Any:
    panel = over_time(
        title, description + " The dashed line is all that the device carries. Good: every link that you pay for "
        "carries its part; one at 0 is down, without subflows, or a backup.", "bps",
        Query(rate(f"interface_{way}_bytes", "8 * "), "{{instname}} {{hostname}}"),
        Query(rate(f"interface_total_{way}_bytes", "8 * "), "{{instname}} {{hostname}}" + DEVICE), height=9)
    return panel.override_by_regexp(f"/{DEVICE}$/", look.properties(dict(look.SUFFIXES)[DEVICE]))


_TRAFFIC = Section("Which link carries the traffic?", [
    _carried("Traffic in by link", "in", "MPTCP payload received by each link."),
    _carried("Traffic out by link", "out", "MPTCP payload sent by each link."),
    over_time("Share of the links in",
              "Each link's part of the MPTCP payload that its host receives. Good is what your scheduler and prices "
              "want.", "percentunit",
              Query(f"{rate('interface_in_bytes')} / ignoring(instname, instid, interface) group_left "
                    f"sum without(instname, instid, interface) ({rate('interface_in_bytes')}) > 0",
                    "{{instname}} {{hostname}}"), maximum=1),
    over_time("Share of the links out",
              "Each link's part of the MPTCP payload that its host sends. Good is what your scheduler and prices "
              "want.", "percentunit",
              Query(f"{rate('interface_out_bytes')} / ignoring(instname, instid, interface) group_left "
                    f"sum without(instname, instid, interface) ({rate('interface_out_bytes')}) > 0",
                    "{{instname}} {{hostname}}"), maximum=1),
])

_LOST = Section("What is lost?", [
    over_time("Which link is down?",
              "1: down or without carrier, 0: up, of the links that have carried subflows since the agent started. "
              "Good is 0; a step to 1 is the cause of what the other panels show at that time.", "short",
              Query(f"({value('interface_up')} == bool 0) and {value('interface_subflows_opened')} > 0",
                    LINK), style="steps", maximum=1),
    over_time("Connections that lost a path",
              "Connections with fewer live subflows than they once had. Good is 0; it ends when the link is joined "
              "again, or with the connections.", "short", Query(value("redundancy_degraded_connections")),
              style="steps"),
    over_time("Connections by number of paths",
              "Connections with 1, 2, 3.. live subflows. Good: as many paths as links. Colours that move downwards "
              "are redundancy that is lost.", "short",
              Query('sum by (instname) (mptcp_redundancy_connections{hostname=~"$hostname"})', "{{instname}} paths"),
              stack="normal", style="steps"),
    over_time("What would break?",
              "Connections whose only working path is this link. Good is 0; the largest is the link to repair or to "
              "double first.", "short", Query(value("interface_sole_path_connections"), LINK), style="steps"),
    over_time("Subflows by link",
              "Established subflows that leave by each link. Good: as many on each link as there are connections.",
              "short", Query(value("subflows"), "{{instname}} {{hostname}}"), style="steps"),
    over_time("Who gets no answer?",
              "Subflows that retransmitted three times or more without an answer. Good is 0; more while the link is "
              "up: the path is dead beyond it.", "short",
              Query(value("interface_stalled_subflows"), "{{instname}} {{hostname}}"), style="steps"),
])

_PROTOCOL = Section("Does the protocol get through?", [
    over_time("Connections that became TCP",
              "Part of the connections that asked for MPTCP and became plain TCP, of those that were opened and of "
              "those that were accepted. Good is 0: more is a firewall, or a peer that does not speak MPTCP.",
              "percentunit",
              Query(f"{rate('mib_mpcapablefallbacksynack')} / ({rate('mib_mpcapablesyntx')} > 0)",
                    "{{hostname}} opened"),
              Query(f"{rate('mib_mpcapablefallbackack')} / ({rate('mib_mpcapablesynrx')} > 0)",
                    "{{hostname}} accepted"), maximum=1),
    over_time("Joins that succeed",
              "Part of the joins that were answered, of those that were made, and completed, of those received. Good "
              "is 1: less is a firewall, a wrong route, or limits.", "percentunit",
              Query(f"{rate('mib_mpjoinsynackrx')} / ({rate('mib_mpjoinsyntx')} > 0)", "{{hostname}} made"),
              Query(f"{rate('mib_mpjoinackrx')} / ({rate('mib_mpjoinsynrx')} > 0)", "{{hostname}} received"),
              maximum=1),
    over_time("Subflows that opened and closed",
              "Per second, by link. Closings on one link alone are a problem of that link.", "ops",
              Query(rate("interface_subflows_opened"), LINK + " opened"),
              Query(rate("interface_subflows_closed"), LINK + " closed")),
    over_time("Round-trip time",
              "Mean of the subflows of each link. Good is flat; a rise with traffic is a queue that fills.", "µs",
              Query(value("interface_rtt"), "{{instname}} {{hostname}}")),
    over_time("Is something altered on the way?",
              "Per second: joins with a wrong HMAC, and data with a wrong checksum. Good is 0: more is a middlebox "
              "that alters packets, or an attack.", "ops",
              Query(rate("mib_mpjoinsynackhmacfailure") + " + " + rate("mib_mpjoinackhmacfailure"),
                    "{{hostname}} wrong HMAC"),
              Query(rate("mib_datacsumerr"), "{{hostname}} wrong checksum")),
    over_time("Does an agent lose messages?",
              "More messages of the kernel, per second, than the agent's buffer held. Good is 0. More: raise "
              "receive_buffer in mptcp.conf there.", "ops", Query(rate("agent_overruns"))),
])

_VARIABLES = [
    dashboard.DatasourceVariable("prometheus").label("Data source").type(TYPE)
    .current(VariableOption(text="Prometheus", value="Prometheus")),
    dashboard.QueryVariable("hostname").label("Hosts").query("label_values(mptcp_connections, hostname)")
    .datasource(SOURCE).refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.NATURAL_ASC)
    .multi(True).include_all(True).all_value(".*").current(VariableOption(text=["All"], value=["$__all"])),
]

DASHBOARD = look.board(
    "mptcp-prometheus", "MPTCP on Prometheus", "All hosts whose pmproxy is scraped: use, links, losses, protocol",
    ("prometheus",), _VARIABLES, [_USE, _TRAFFIC, _LOST, _PROTOCOL], refresh="30s", since="now-1h",
    refreshes=("10s", "30s", "1m", "5m"))
