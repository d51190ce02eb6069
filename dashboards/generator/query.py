# SPDX-License-Identifier: GPL-2.0-or-later
"""What the queries of all data sources have in common."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Dict

from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import DataSourceRef


@dataclass
class Query(Dataquery):
    """A subclass has fields of its own, a `legend` among them, and tells in `own` what they are in JSON."""

    source: ClassVar[DataSourceRef]

    letter: str = field(default="A", kw_only=True)

    @property
    def datasource(self) -> DataSourceRef:
        """A panel takes its own from here."""
        return self.source

    def named(self, letter: str) -> Any:
        """The same with another letter, for those of a panel differ."""
        return replace(self, letter=letter)

    def build(self) -> Any:
        """A query is its own builder."""
        return self

    def own(self) -> Dict[str, Any]:
        """What only this data source knows."""
        raise NotImplementedError

    def to_json(self) -> Dict[str, Any]:
        """As Grafana stores it."""
        return {"refId": self.letter, "datasource": self.source, "format": "time_series", "hide": False, **self.own()}
