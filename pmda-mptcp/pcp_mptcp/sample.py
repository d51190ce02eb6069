# SPDX-License-Identifier: GPL-2.0-or-later
"""The values of metrics at one moment."""

from typing import Any, Dict, Optional

Values = Dict[Optional[str], Any]  # by the instance's name; None: the metric has no instances


class Trouble(Exception):
    """What the user is told in one line; there is no answer."""


class Sample:
    """Values of one moment, and when they were taken: seconds since the epoch, by metric."""

    def __init__(self, when: float):
        self.time = when
        self._values: Dict[str, Values] = {}
        self._times: Dict[str, float] = {}

    def put(self, metric: str, values: Values, when: float) -> None:
        """Set the values of a metric."""
        self._values[metric], self._times[metric] = values, when
        self.time = max(self.time, when)

    def __contains__(self, metric: str) -> bool:
        return metric in self._values

    def has(self, metric: str) -> bool:
        """Is anything known of it?  False for what the kernel, or the archive, lacks."""
        return bool(self._values.get(metric))

    def all(self, metric: str) -> Values:
        """Its values by instance name; empty where nothing is known."""
        return self._values.get(metric, {})

    def value(self, metric: str, instance: Optional[str] = None) -> Any:
        """One value; None where it is not known."""
        return self._values.get(metric, {}).get(instance)

    def when(self, metric: str) -> Optional[float]:
        """When it was taken."""
        return self._times.get(metric)

    def __bool__(self) -> bool:
        return bool(self._values)
