# SPDX-License-Identifier: GPL-2.0-or-later
"""What a metric is: one record with everything PCP needs to know about it.

Each module here holds the table of one group.  A metric is written once, in
its table; the name space, the fetch, the help texts, the golden listing in
tests/ and the documentation are all made from it.

The item number of a metric (the low ten bits of its PMID, which archives
keep) is its place in its table: new metrics go at the end of a table.  For
the same reason the numbers of clusters and domains stay as they are.
"""

from typing import Any, Callable, NamedTuple

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


class Metric(NamedTuple):
    """One metric.

    `get` takes the row of an instance (for a metric without instances: the
    row of its group) and returns the value, or None for "the kernel did not
    tell", which clients see as "no value", never as 0.
    """

    name: str
    type: int
    semantics: int
    units: Units
    get: Callable[[Any], Any]
    oneline: str
    help: str


class Domain(NamedTuple):
    """An instance domain.

    `instances` takes the snapshot and returns the rows by instance id, `name`
    and `labels` take a row.  `refresh` brings the instances up to date.
    """

    serial: int
    refresh: Callable[[Any], Any]
    instances: Callable[[Any], "dict[int, Any]"]
    name: Callable[[Any], str]
    labels: "Callable[[Any], dict[str, Any]]"
    oneline: str
    help: str


class Group(NamedTuple):
    """A table: the metrics of one cluster, which are refreshed together.

    `rows` makes the rows from the snapshot: by instance id for a group with
    a domain (by default the domain's own), else the one row of all.  A row
    that is None, or missing, has no values now.
    """

    cluster: int
    domain: "Domain | None"
    refresh: Callable[[Any], Any]
    metrics: "tuple[Metric, ...]"
    rows: "Callable[[Any], Any] | None" = None

    def rows_of(self, snapshot: Any, instances: "dict[int, Any] | None") -> "dict[int, Any]":
        """Rows by instance id, given those of the domain; PM_IN_NULL for the one row of a group without."""
        if instances is None:
            return {PM_IN_NULL: self.rows(snapshot) if self.rows else snapshot}
        return self.rows(snapshot) if self.rows else instances


PM_IN_NULL = 0xFFFFFFFF  # pmapi.h
