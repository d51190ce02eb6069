# SPDX-License-Identifier: GPL-2.0-or-later
"""The live data source, PCP Vector: its queries, variables, and remedies for its ways.

- rate() of PCP itself is right where the data source's own conversion shows
  spikes, so counters are asked for as rates, and conversion is off.
- A metric without instances repeats its last value when its agent is gone.
  `live` ties it to an instance, so that it goes with the agent.
- A series that vanishes and comes back is drawn through the gap.  `series`
  breaks the line.
- A function takes the name of a metric and nothing else, and matchinst within
  a function spoils every later expression of the server: neither is written.
- Text within an expression ends pmproxy 6.0.3 after a few fetches: metrics of
  text are asked for by their bare names.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Tuple

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.dashboard import VariableOption, VariableRefresh, VariableSort

from . import look
from .query import Query as Base

TYPE = "performancecopilot-vector-datasource"
SOURCE = DataSourceRef(type_val=TYPE, uid="${datasource}")
TAGS = ("pcp-vector",)

_NAME = re.compile(r"[a-zA-Z]\w*(?:\.[a-zA-Z]\w+)*$")


@dataclass
class Query(Base):
    """One expression; `legend` may hold $instance."""

    expr: str
    legend: str = "$instance"
    format: str = "time_series"

    source = SOURCE

    def own(self) -> Dict[str, Any]:
        return {"expr": self.expr, "format": self.format, "legendFormat": self.legend, "hostspec": "$hostspec",
                "options": {"rateConversion": False, "timeUtilizationConversion": False}}

    @property
    def frame(self) -> str:
        """What the data source calls the metric: its name, or the hash of an expression."""
        # the hash is a name here, made by the data source; nothing is kept secret by it
        return self.expr if _NAME.match(self.expr) else "derived_" + hashlib.md5(self.expr.encode()).hexdigest()


def live(expr: str) -> str:
    """A value of the host that ends with the agent instead of standing still."""
    whole = expr if re.match(r"[\w.]+$|\w+\([\w.]+\)$", expr) else f"({expr})"
    return f"{whole} * (pmcd.agent.status[mptcp] == 0)"


def events(metric: str) -> str:
    """How often something happened since the last look."""
    return live(f"delta({metric})")


def bits(metric: str) -> str:
    """Bits per second of a counter of bytes."""
    return f"8 * rate({metric})"


def only(expr: str, pattern: str, metric: str) -> str:
    """Of an expression only the instances of a metric of the same domain whose first word matches."""
    return f"{expr} * (matchinst(/{pattern}/, {metric}) >= 0)"


def table_of(*queries: Sequence[str]) -> List[Query]:
    """The columns of a table: (head, expression)."""
    return [Query(expr, head, "metrics_table") for head, expr in queries]


def unbroken(queries: Sequence[Query]) -> List[Any]:
    """Transformations that end a series where its values end.

    The data source marks absence in a way that Grafana draws a line through.  As frames of their own, the series
    have no such marks; insertNulls then breaks the line.  That loses the legends, which are made again from the
    names of the fields: METRIC[INSTANCE].
    """
    made = [look.transformation("prepareTimeSeries", format="many")]
    for query in queries:
        if "$" in query.expr:  # its hash is not known here
            continue
        legend = query.legend.replace("$instance", "$1")
        made.append(look.transformation(
            "renameByRegex", regex=f"^{re.escape(query.frame)}(?:\\[(.+?)\\])?(?: .*)?$", renamePattern=legend))
    last = next((query.legend for query in queries if "$" in query.expr), "$instance").replace("$instance", "$1")
    made.append(look.transformation("renameByRegex", regex="^[^\\[]*\\[(.+?)\\].*$", renamePattern=last))
    return made


def series(title: str, description: str, unit: str, queries: Sequence[Query], *, interfaces: str = "",
           absent: str = "No values from this host", rename: Sequence[Sequence[str]] = (), **more: Any) -> Any:
    """Lines that end where values end.  `interfaces`: the variable with those that are shown;
    `rename`: (regexp, text) for what instances are called in the legend."""
    panel = look.series(title, description, unit, queries, absent=absent, **more)
    if interfaces:
        panel.with_transformation(look.transformation("filterFieldsByName", include={
            "pattern": f"/^(Time|(${{{interfaces}:pipe}})( .*)?)$/"}))
    for one in unbroken(queries):
        panel.with_transformation(one)
    for regexp, text in rename:
        panel.with_transformation(look.transformation("renameByRegex", regex=regexp, renamePattern=text))
    return panel


def leads_to(board: str, variable: str) -> Tuple[str, Any]:
    """A cell that leads to the dashboard about what it names."""
    url = (f"/d/mptcp-{board}?${{datasource:queryparam}}&${{hostspec:queryparam}}"
           f"&var-{variable}=${{__value.raw:percentencode}}&${{__url_time_range}}")
    return look.linked(f"All about this {variable}", url)


def source_variables() -> List[Any]:
    """Which server, and which host behind it."""
    return [
        dashboard.DatasourceVariable("datasource").label("Data source").type(TYPE)
        .current(VariableOption(text="PCP Vector", value="PCP Vector")),
        dashboard.TextBoxVariable("hostspec").label("Host").default_value("")
        .description("Another host than the data source's, as PCP names it: pcp://HOST"),
    ]


def names_variable(name: str, label: str, metric: str, regex: str = "", description: str = "") -> Any:
    """One of the values of a metric."""
    made = (dashboard.QueryVariable(name).label(label).query(metric).datasource(SOURCE).description(description)
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.NATURAL_ASC))
    return made.regex(regex) if regex else made


def interfaces_variable() -> Any:
    """Those that are shown: all but lo, or some."""
    return (names_variable("interfaces", "Interfaces", "mptcp.interface.name",
                           description="All are all but lo, and those that come later too")
            .multi(True).include_all(True).all_value("(?!lo( |$)).+")
            .current(VariableOption(text=["All"], value=["$__all"])))
