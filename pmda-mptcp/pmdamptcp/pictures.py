# SPDX-License-Identifier: GPL-2.0-or-later
"""What a client sees: pmcd's own namespace, another one that it named, or none."""

from time import monotonic
from typing import Any, Dict, Optional

from .snapshot import Snapshot
from .worker import CLUSTERS, DOMAINS, Client


class Picture:
    """Nothing to see, for the reason of PCP's error `error`; also what pictures have in common."""

    def __init__(self, error: int):
        self.error = error  # of metrics without instances that have no row
        self.instances: Dict[int, Dict[int, Any]] = {serial: {} for serial in DOMAINS}
        self.after_fetch = False
        self.listed = float("-inf")  # when instances were last brought up to date for want of a better moment

    def begin(self) -> None:
        """A request of pmcd begins."""

    def list(self) -> None:
        """Bring the instances of all domains up to date."""

    def rows(self, cluster: int) -> Dict[int, Any]:
        """Bring a cluster and its instances up to date."""
        return {}

    def get(self, cluster: int, item: int, row: Any) -> Any:
        """The value of a row.  Raises PermissionError."""

    def name(self, serial: int, row: Any) -> str:
        """The name of an instance."""
        return ""

    def labels(self, serial: int, row: Any) -> Dict[str, Any]:
        """The labels of an instance."""
        return {}


class Allowance:
    """So many at once, and then one in so many seconds."""

    def __init__(self, most: int, seconds: float):
        self._left, self._most, self._seconds = float(most), most, seconds
        self._when = monotonic()

    def take(self) -> bool:
        """Is there one left?"""
        now = monotonic()
        self._left = min(self._most, self._left + (now - self._when) / self._seconds)
        self._when = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Local(Picture):
    """The namespace that pmcd runs in."""

    def __init__(self, snapshot: Snapshot, error: int):
        super().__init__(error)
        self.snapshot = snapshot
        self._getters = {(cluster, item): metric.get for cluster, group in CLUSTERS.items()
                         for item, metric in enumerate(group.metrics)}

    def list(self) -> None:
        for serial, domain in DOMAINS.items():
            domain.refresh(self.snapshot)
            self.instances[serial] = domain.instances(self.snapshot)

    def rows(self, cluster: int) -> Dict[int, Any]:
        group, instances = CLUSTERS[cluster], None
        group.refresh(self.snapshot)
        if group.domain:
            instances = self.instances[group.domain.serial] = group.domain.instances(self.snapshot)
        return group.rows_of(self.snapshot, instances)

    def get(self, cluster: int, item: int, row: Any) -> Any:
        return self._getters[cluster, item](row)

    def name(self, serial: int, row: Any) -> str:
        return DOMAINS[serial].name(row)

    def labels(self, serial: int, row: Any) -> Dict[str, Any]:
        return DOMAINS[serial].labels(row)


class Remote(Picture):
    """Another namespace; an instance is its name and its labels, a row its values."""

    def __init__(self, client: Client, error: int):
        super().__init__(error)
        self.client = client

    def begin(self) -> None:
        self.client.begin()

    def list(self) -> None:
        self._ask(None)

    def rows(self, cluster: int) -> Dict[int, Any]:
        return {number: values for number, values in (self._ask(cluster) or {"rows": []})["rows"]}

    def _ask(self, cluster: Optional[int]) -> Optional[Dict[str, Any]]:
        answer = self.client.ask(list(DOMAINS) if cluster is None else [], cluster)
        for serial, rows in answer["domains"] if answer else [(serial, []) for serial in DOMAINS]:
            self.instances[serial] = {number: (name, labels) for number, name, labels in rows}
        return answer

    def get(self, cluster: int, item: int, row: Any) -> Any:
        return row[item]

    def name(self, serial: int, row: Any) -> str:
        return str(row[0])

    def labels(self, serial: int, row: Any) -> Dict[str, Any]:
        return dict(row[1])
