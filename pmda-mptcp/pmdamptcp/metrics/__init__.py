# SPDX-License-Identifier: GPL-2.0-or-later
"""What a metric is: one record with everything PCP needs to know about it.

Each module here holds the table of one group.  A metric is written once, in
its table; the name space, the fetch, the help texts, the golden listing in
tests/ and the documentation are all made from it.

The item number of a metric (the low ten bits of its PMID, which archives
keep) is its place in its table: new metrics go at the end of a table.  For
the same reason the numbers of clusters and domains stay as they are.
"""

from dataclasses import dataclass
from typing import Any, Callable, Dict, Generic, Mapping, NamedTuple, Optional, Tuple, TypeVar, Union

from ..snapshot import Snapshot

# Types, semantics and units by PCP's own numbers, so that the tables need no
# PCP import and can be read and tested anywhere (pmda.h, pmapi.h).
I32, U32, I64, U64, FLOAT, DOUBLE, STRING = range(7)
COUNTER, INSTANT, DISCRETE = 1, 3, 4


class Units(NamedTuple):
    """Dimensions and scales in the order of pmUnits: space, time, count."""

    dim_space: int = 0
    dim_time: int = 0
    dim_count: int = 0
    scale_space: int = 0
    scale_time: int = 0
    scale_count: int = 0


NONE = Units()
COUNT = Units(dim_count=1)
BYTE = Units(dim_space=1)
USEC = Units(dim_time=1, scale_time=1)
MSEC = Units(dim_time=1, scale_time=2)
BYTE_PER_SEC = Units(dim_space=1, dim_time=-1, scale_time=3)


Row = TypeVar("Row")
Value = Union[int, float, str, None]


@dataclass(frozen=True)
class Metric(Generic[Row]):
    """One metric.

    `get` takes the row of an instance (for a metric without instances: the
    row of its group) and returns the value, or None for "the kernel did not
    tell", which clients see as "no value", never as 0.
    """

    name: str
    type: int
    semantics: int
    units: Units
    get: Callable[[Row], Value]
    oneline: str
    help: str


@dataclass(frozen=True)
class Domain(Generic[Row]):
    """An instance domain.

    `instances` takes the snapshot and returns the rows by instance id, `name`
    and `labels` take a row.  `refresh` brings the instances up to date.
    """

    serial: int
    refresh: Callable[[Snapshot], None]
    instances: Callable[[Snapshot], Dict[int, Row]]
    name: Callable[[Row], str]
    labels: Callable[[Row], Dict[str, Union[int, str]]]
    oneline: str
    help: str


@dataclass(frozen=True)
class Group(Generic[Row]):
    """A table: the metrics of one cluster, which are refreshed together.

    `rows` makes the rows from the snapshot: by instance id for a group with
    a domain (by default the domain's own), else the one row of all.  A row
    that is None, or missing, has no values now.
    """

    cluster: int
    domain: Optional[Domain[Any]]
    refresh: Callable[[Snapshot], None]
    metrics: Tuple[Metric[Row], ...]
    rows: Optional[Callable[[Snapshot], Union[Mapping[int, Row], Row, None]]] = None

    def rows_of(self, snapshot: Snapshot, instances: Optional[Dict[int, Any]]) -> Dict[int, Any]:
        """Rows by instance id, given those of the domain; PM_IN_NULL for the one row of a group without."""
        found: Any = self.rows(snapshot) if self.rows else snapshot if instances is None else instances
        rows: Dict[int, Any] = {PM_IN_NULL: found} if instances is None else found
        return rows


PM_IN_NULL = 0xFFFFFFFF  # pmapi.h
