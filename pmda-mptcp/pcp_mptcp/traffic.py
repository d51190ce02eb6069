# SPDX-License-Identifier: GPL-2.0-or-later
"""What the links carried between two records, and what is usual for them.

Traffic comes in bursts: what a link usually carries is what it did in the last
intervals with traffic, those without tell nothing.
"""

from collections import Counter
from dataclasses import dataclass
from statistics import median_high
from typing import Dict, List, NamedTuple, Optional

from .changes import Step

IN, OUT = "mptcp.interface.in.bytes", "mptcp.interface.out.bytes"
UP, SUBFLOWS, STALLED = "mptcp.interface.up", "mptcp.subflows", "mptcp.interface.stalled_subflows"
BACKUP, CONNECTIONS = "mptcp.interface.backup_subflows", "mptcp.connections"
STALE, REPEATED = "mptcp.mib.subflowstale", "mptcp.mib.duplicatedata"
CLOSED = "mptcp.event.sub_closed"
METRICS = [IN, OUT, UP, SUBFLOWS, STALLED, BACKUP, CONNECTIONS, STALE, REPEATED, CLOSED]

SHARE = 0.05  # of the traffic: what a link must carry to be able to lose it
FLOOR = 12_500.0  # bytes a second: less is idle, for a link and for all
SILENT = 0.01  # of what it carried: less is nothing
FADED = 0.9  # of what it carried: less is a change
GOES_ON = 0.5  # of what the others carried: so much, and they go on
SURE, UNSURE = 2, 3  # silent intervals until a link is lost, with a sign of it and without
HOPELESS = 10  # then it is not: signs are recorded less often than traffic
REPEATS = 5  # packets that came twice, in an interval: fewer are usual
SETTLED = 0.1  # two intervals that differ less are the new rate
PATIENCE = 5  # intervals to wait for that
REMEMBER = 30.0  # seconds of the past, or as many intervals as PATIENCE, that tell what a link carried


class Interval(NamedTuple):
    """What the links carried between two records, and the signs of a dead path in it."""

    begin: float
    end: float
    bytes: Dict[str, int]
    signs: Counter[str]  # closed, dead, repeated: of the host; (link): stalled subflows

    def rate(self, link: str) -> float:
        """Bytes a second of a link."""
        return self.bytes.get(link, 0) / (self.end - self.begin)

    def total(self, without: str = "") -> float:
        """Bytes a second of all links but one."""
        return sum(count for link, count in self.bytes.items() if link != without) / (self.end - self.begin)


@dataclass
class Usual:
    """What was carried before something happened, bytes a second."""

    link: float = 0.0
    total: float = 0.0
    steady: bool = False

    @property
    def share(self) -> float:
        """The link's part."""
        return self.link / self.total if self.total else 0.0

    @property
    def others(self) -> float:
        """What the others carried."""
        return self.total - self.link

    @property
    def carried(self) -> bool:
        """Was it enough to be missed?"""
        return self.link >= FLOOR and self.share >= SHARE


class History:
    """The last intervals."""

    def __init__(self) -> None:
        self.intervals: List[Interval] = []
        self.changed = 0.0  # traffic moved: what was carried before is no measure for what comes
        self.returned = 0.0  # it moved to a link that came back, so others may rest

    def add(self, interval: Interval) -> None:
        """Remember one, and forget the oldest."""
        self.intervals.append(interval)
        while len(self.intervals) > PATIENCE and self.intervals[0].begin < interval.end - REMEMBER:
            del self.intervals[0]

    def calm(self) -> bool:
        """Is it a while since a link came back?"""
        return bool(self.intervals) and self.intervals[-1].begin >= self.returned

    def total(self, since: float) -> float:
        """What all links carried lately, while there was traffic, since a time and since it moved last."""
        past = [one for one in self.intervals if one.begin >= since]
        past = [one for one in past if one.begin >= self.changed] or past
        top = max((one.total() for one in past), default=0.0)
        return median_high([one.total() for one in past if one.total() >= top / 2][-PATIENCE:] or [0.0])

    def usual(self, link: str, until: float = float("inf")) -> Usual:
        """What a link carried while there was traffic, up to a time; not while it began or faded."""
        past = [one for one in self.intervals if one.end <= until]
        past = ([one for one in past if one.begin >= self.changed]
                or [one for one in past if one.begin >= self.returned] or past)
        top = max((one.total() for one in past), default=0.0)
        past = [one for one in past if one.total() >= top / 2][-PATIENCE:]
        if len(past) > 1 and past[-1].rate(link) < FADED * mean([one.rate(link) for one in past[:-1]]):
            del past[-1]
        rates = [one.rate(link) for one in past]
        steady = len(past) >= UNSURE and min(rates) > SHARE * mean(rates)
        if len(past) > 1 and past[0].total() < FADED * mean([one.total() for one in past[1:]]):
            del past[0]
        return Usual(mean([one.rate(link) for one in past]), mean([one.total() for one in past]), steady)


def signs_of(step: Step) -> Counter[str]:
    """Signs of a dead path; the kernel's counters may be in records of their own."""
    signs = Counter({"closed": step.rise(CLOSED), "dead": step.rise(STALE), "repeated": step.rise(REPEATED) // REPEATS})
    change = step.get(STALLED)
    for link, count in (change.now if change else {}).items():
        signs[f"stalled {link}"] = count
    return +signs


def interval_of(step: Step, signs: Counter[str]) -> Optional[Interval]:
    """What the links carried up to a step; None where there is nothing to compare with."""
    received, sent = step.both(IN), step.both(OUT)
    change = received or sent
    if change is None or change.time <= change.since:
        return None
    counts = step.rose(IN) + step.rose(OUT)
    return Interval(change.since, change.time, {link: counts[link] for link in change.now if link}, signs)


def goes_on(interval: Interval, link: str, usual: Usual) -> bool:
    """Do the other links carry what they did, at least half of it?"""
    return interval.total(link) >= max(FLOOR, GOES_ON * usual.others)


def resembles(interval: Interval, link: str, usual: Usual) -> bool:
    """Does a link carry what it did, and neither it nor the others more?  What a hole held up comes in a burst."""
    most = 1 / FADED
    return (FADED <= interval.rate(link) / usual.link <= most and interval.total() <= most * usual.total
            if usual.link else True)


def settled(after: List[Interval], link: str) -> bool:
    """Have the links but one found their new rate?"""
    if len(after) < 2:
        return False
    before, now = after[-2].total(link), after[-1].total(link)
    return len(after) >= PATIENCE or abs(now - before) <= SETTLED * max(now, before)


def level(after: List[Interval]) -> List[Interval]:
    """The last two of them that have traffic: the transfer may have ended meanwhile."""
    top = max((one.total() for one in after), default=0.0)
    return [one for one in after if one.total() >= top / 2][-2:]


def mean(values: List[float]) -> float:
    """0 of none."""
    return sum(values) / len(values) if values else 0.0
