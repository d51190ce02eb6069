# SPDX-License-Identifier: GPL-2.0-or-later
"""The data source with history, PCP Valkey (PCP Redis in old versions): its queries and variables.

- A query is the name of a metric and qualifiers in braces, and nothing else:
  what pmseries makes of functions and arithmetic is not what one expects
  (rate() returns the counter, sum_inst() nothing).
- Rates are made by the data source, from times that are right here; where
  nothing was recorded there is no value, and no line after SILENCE.
- The qualifier of an instance does not leave out the other instances.
"""

from dataclasses import dataclass
from typing import Any, Dict

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.dashboard import VariableOption, VariableRefresh, VariableSort

from .query import Query as Base

TYPE = "performancecopilot-valkey-datasource"
# Not named like that of the live dashboards: links between them keep variables.
SOURCE = DataSourceRef(type_val=TYPE, uid="${history}")
TAGS = ("pcp-valkey",)

#: Values are looked up at least this far apart when two weeks are shown; longer silence (ms) is no line.
SILENCE = 1800_000
REFRESH, REFRESHES = "1m", ("10s", "1m", "5m", "15m")

ONE, MANY = '{hostname == "$host"}', '{hostname =~ "^(${hosts:pipe})$"}'


@dataclass
class Query(Base):
    """One metric of a host or of many; `legend` may hold $instance and labels; counters become rates."""

    metric: str
    legend: str = "$instance"
    hosts: str = ONE

    source = SOURCE

    def own(self) -> Dict[str, Any]:
        return {"expr": self.metric + self.hosts, "legendFormat": self.legend,
                "options": {"rateConversion": True, "timeUtilizationConversion": False}}


def source_variable() -> Any:
    """Which store."""
    return (dashboard.DatasourceVariable("history").label("Data source").type(TYPE)
            .current(VariableOption(text="PCP Valkey", value="PCP Valkey")))


def host_variable(name: str, label: str) -> Any:
    """One of the hosts that were recorded."""
    return (dashboard.QueryVariable(name).label(label).query("label_values(hostname)").datasource(SOURCE)
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.NATURAL_ASC))


def hosts_variable() -> Any:
    """Some of the hosts that were recorded, or all."""
    return (host_variable("hosts", "Hosts").multi(True).include_all(True).all_value(".*")
            .current(VariableOption(text=["All"], value=["$__all"])))
