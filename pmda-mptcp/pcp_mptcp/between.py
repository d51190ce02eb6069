# SPDX-License-Identifier: GPL-2.0-or-later
"""What counters did between two samples.  None is what is not known."""

from typing import Optional

from .sample import Sample


class Between:
    """What counters did between two samples."""

    def __init__(self, before: Optional[Sample], now: Sample):
        self.before, self.now = before, now

    def growth(self, metric: str, instance: Optional[str] = None, born: bool = False) -> Optional[int]:
        """None without two values, or when the counter began anew; `born`: an instance may be new, and began at 0."""
        now = self.now.value(metric, instance)
        if now is None or self.before is None:
            return None
        before = self.before.value(metric, instance)
        if before is None and born and metric in self.before:
            before = 0
        return None if before is None or now < before else now - before

    def seconds(self, metric: str) -> Optional[float]:
        """The time between its two samples."""
        then = self.before.when(metric) if self.before else None
        now = self.now.when(metric)
        return now - then if now and then and now > then else None

    def rate(self, metric: str, instance: Optional[str] = None, born: bool = False) -> Optional[float]:
        """Growth per second."""
        growth, seconds = self.growth(metric, instance, born), self.seconds(metric)
        return None if growth is None or seconds is None else growth / seconds


def part(one: Optional[float], whole: Optional[float]) -> Optional[float]:
    """One as a part of the whole; None where either is not known, or there is nothing."""
    return None if one is None or not whole else one / whole


def total(*numbers: Optional[float]) -> Optional[float]:
    """The sum of those that are known."""
    known = [one for one in numbers if one is not None]
    return sum(known) if known else None
