# SPDX-License-Identifier: GPL-2.0-or-later
"""Links that lose their traffic to others, and get it back.

MPTCP hides a dead link from the application, and partly from the host: a path
that dies silently keeps its subflows, the receiving side sees traffic stop and
nothing else.  So a link is lost when it carried a part of the traffic and
carries none, while the others go on: at once where the interface is down or
its subflows are gone, otherwise after a few intervals.  Traffic that stops on
all links is a transfer that ended.  Idle links are never lost.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

from .changes import Happening, Step
from .text import percent, plural, rate, span

IN, OUT = "mptcp.interface.in.bytes", "mptcp.interface.out.bytes"
UP, SUBFLOWS, STALLED = "mptcp.interface.up", "mptcp.subflows", "mptcp.interface.stalled_subflows"
BACKUP, CONNECTIONS = "mptcp.interface.backup_subflows", "mptcp.connections"
STALE, REPEATED = "mptcp.mib.subflowstale", "mptcp.mib.duplicatedata"
CLOSED = "mptcp.event.sub_closed"
METRICS = [IN, OUT, UP, SUBFLOWS, STALLED, BACKUP, CONNECTIONS, STALE, REPEATED, CLOSED]

SHARE = 0.05  # of the traffic: what a link must carry to be able to lose it
FLOOR = 12_500.0  # bytes a second: less is idle, for a link and for all
SILENT = 0.01  # of what it carried: less is nothing
GOES_ON = 0.5  # of what the others carried: so much, and they go on
SURE, UNSURE = 2, 3  # silent intervals until a link is lost, with a sign of it and without
SETTLED = 0.1  # two intervals that differ less are the new rate
PATIENCE = 5  # intervals to wait for that
REMEMBER = 30.0  # seconds of the past, or as many intervals as PATIENCE, that tell what a link carried
CAUSES = {
    "down": "the link is down",
    "closed": "its subflows were closed",
    "dead": "no answer comes by it",
    "repeated": "its data stopped and came again by others",
    "silent": "it is up, but nothing comes by it",
}


class Interval(NamedTuple):
    """What the links carried between two records, and the signs of a dead path in it."""

    begin: float
    end: float
    bytes: Dict[str, int]
    signs: Counter  # closed, dead, repeated: of the host; (link): stalled subflows

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
    def carried(self) -> bool:
        """Was it enough to be missed?"""
        return self.link >= FLOOR and self.share >= SHARE


@dataclass
class Loss:
    """A link that lost its traffic, or is suspected to."""

    time: float
    usual: Usual
    cause: str = ""  # empty: only suspected
    facts: Dict[str, Any] = field(default_factory=dict)
    after: List[Interval] = field(default_factory=list)  # whole intervals since
    signs: Counter = field(default_factory=Counter)
    told: bool = False
    down: Optional[float] = None  # since then
    up: Optional[float] = None  # again since then
    during: float = 0.0  # the rate of all while it is away
    back: Optional[float] = None  # when traffic came back
    since_back: List[Interval] = field(default_factory=list)


class Losses:
    """Follows the links from step to step."""

    def __init__(self) -> None:
        self._history: List[Interval] = []
        self._changed = 0.0  # what was carried before then is no measure for what comes
        self._open: Dict[str, Loss] = {}
        self._up: Dict[str, int] = {}
        self._down: Dict[str, float] = {}
        self._subflows: Dict[str, int] = {}
        self._connections: Optional[int] = None

    def pending(self) -> Optional[float]:
        """Of a time from which on there may be more to tell than is told."""
        times = [loss.time for loss in self._open.values() if not loss.told]
        times += [loss.back for loss in self._open.values() if loss.back is not None]
        return min(times, default=None)

    def away(self, link: str) -> bool:
        """Is it lost, or suspected to be?"""
        return link in self._open

    def take(self, step: Step) -> Iterator[Happening]:
        """What the step tells about links."""
        if step.get(IN) is None and (IN in step.sample or step.get(UP) is None):
            return
        sample = step.sample
        interval = _interval(step)
        up = {link: value for link, value in sample.all(UP).items() if link}
        for link in sorted({*up, *self._open, *(interval.bytes if interval else ())}):
            if link in self._open:
                yield from self._follow(link, interval, step)
            else:
                yield from self._watch(link, interval, step)
        if interval:
            self._history.append(interval)
            while len(self._history) > PATIENCE and self._history[0].begin < interval.end - REMEMBER:
                del self._history[0]
        self._up, self._subflows = up, {link: n for link, n in sample.all(SUBFLOWS).items() if link}
        self._connections = sample.value(CONNECTIONS)

    def interrupt(self, time: float) -> Iterator[Happening]:
        """Nothing can be compared from here on: a gap, or counters that began anew."""
        for link, loss in list(self._open.items()):
            if not loss.cause:
                del self._open[link]
            elif not loss.told:
                yield self._tell(link, loss)
            elif loss.back is not None:
                yield self._tell_back(link, loss)
        self._history.clear()

    def end(self, time: float) -> Iterator[Happening]:
        """Close what is open."""
        yield from self.interrupt(time)
        for link, loss in self._open.items():
            away = time - loss.time
            text = f"{link} was still without traffic at the end, {span(away)} after it was lost"
            if loss.up is not None:
                text += f", and up again for {span(time - loss.up)}"
            yield Happening(time, "link_away", link, text, {"away": away})
        self._open.clear()

    # Links that are not lost

    def _watch(self, link: str, interval: Optional[Interval], step: Step) -> Iterator[Happening]:
        was, now = self._up.get(link), step.sample.value(UP, link)
        subflows, had = step.sample.value(SUBFLOWS, link) or 0, self._subflows.get(link, 0)
        usual = self._usual(link)
        if was and now == 0 or usual.carried and had and not subflows and self._went_on(step):
            time = step.time
            if interval and usual.link:
                time = min(interval.end, interval.begin + interval.bytes.get(link, 0) / usual.link)
            if usual.carried:
                self._lose(link, Loss(time, usual, "closed" if now else "down"), interval)
            else:
                self._down[link] = step.time
                text = f"{link} is down; " + (f"{plural(had, 'subflow')} used it, without traffic" if had
                                              else "no subflow used it")
                yield Happening(time, "link_down", link, text, {"subflows": had})
        elif was == 0 and now:
            yield self._tell_up(link, step, self._down.pop(link, None))
        elif interval and subflows and not self._all_backup(link, step) and usual.carried:
            if interval.rate(link) < SILENT * usual.link and _goes_on(interval, link, usual):
                self._lose(link, self._suspect(link, interval), interval)

    def _went_on(self, step: Step) -> bool:
        """Did connections go on without subflows that are gone?"""
        now = step.sample.value(CONNECTIONS)
        return bool(step.rise(CLOSED)) or step.get(CLOSED) is None and bool(now) and now >= (self._connections or 0)

    @staticmethod
    def _all_backup(link: str, step: Step) -> bool:
        return (step.sample.value(BACKUP, link) or 0) >= (step.sample.value(SUBFLOWS, link) or 0)

    def _usual(self, link: str, until: float = float("inf")) -> Usual:
        """What it carried while there was traffic, up to a time; not the interval in which it faded."""
        past = [interval for interval in self._history if interval.end <= until]
        past = [interval for interval in past if interval.begin >= self._changed] or past
        top = max((interval.total() for interval in past), default=0.0)
        past = [interval for interval in past if interval.total() >= top / 2][-PATIENCE:]
        if len(past) > 1 and past[-1].rate(link) < 0.9 * _mean([one.rate(link) for one in past[:-1]]):
            del past[-1]
        rates = [one.rate(link) for one in past]
        link_rate = _mean(rates)
        return Usual(link_rate, _mean([one.total() for one in past]),
                     len(past) >= UNSURE and min(rates) > SHARE * link_rate)

    def _suspect(self, link: str, interval: Interval) -> Loss:
        """It may have faded earlier, when the others stood still, too."""
        usual, time = self._usual(link), interval.begin
        signs = Counter(interval.signs)
        for one in reversed(self._history):
            if one.rate(link) < SILENT * usual.link and one.total() >= SHARE * usual.total:
                time = one.begin
                signs += one.signs
                continue
            if one.rate(link) < 0.9 * usual.link:
                time = min(one.end, one.begin + one.bytes.get(link, 0) / usual.link)
                signs += one.signs
            break
        return Loss(time, self._usual(link, time) if self._usual(link, time).carried else usual, signs=signs)

    def _lose(self, link: str, loss: Loss, interval: Optional[Interval]) -> None:
        loss.facts = {"subflows": self._subflows.get(link), "connections": self._connections}
        if loss.cause:
            loss.down = loss.time if loss.cause == "down" else None
            self._changed = interval.end if interval else loss.time
        elif interval:
            loss.after.append(interval)
        self._open[link] = loss

    # Links that are lost

    def _follow(self, link: str, interval: Optional[Interval], step: Step) -> Iterator[Happening]:
        loss = self._open[link]
        was, now = self._up.get(link), step.sample.value(UP, link)
        carries = bool(interval and interval.rate(link) >= max(FLOOR, SHARE * interval.total()) and now != 0)
        if was and now == 0:
            loss.down, loss.up = step.time, None
            if loss.told:
                yield Happening(step.time, "link_down", link, f"{link} is down now", {"subflows": 0})
            else:
                loss.cause, loss.down = "down", loss.time
        elif was == 0 and now:
            loss.up = step.time
            if not carries:
                yield self._tell_up(link, step, loss.down)
        if interval is None:
            return
        if not loss.cause:
            self._judge(link, loss, interval)
        elif not loss.told:
            loss.after.append(interval)
        if loss.cause and not loss.told and (carries or _settled(loss.after, link)):
            yield self._tell(link, loss)
        if loss.told:
            yield from self._returning(link, loss, interval, carries, step)

    def _judge(self, link: str, loss: Loss, interval: Interval) -> None:
        """Is a silent link lost?"""
        if interval.rate(link) >= SILENT * loss.usual.link:
            del self._open[link]
            return
        loss.after.append(interval)
        loss.signs += interval.signs
        going = [one for one in loss.after if _goes_on(one, link, loss.usual)]
        sign = next((sign for sign in ("closed", "dead", "repeated") if loss.signs[sign]), None)
        if loss.signs["stalled " + link]:
            sign = "dead"
        others = _mean([one.total(link) for one in going])
        if sign and len(going) >= SURE:
            loss.cause = sign
        elif len(going) >= UNSURE and loss.usual.steady and others >= 0.9 * (loss.usual.total - loss.usual.link):
            loss.cause = "silent"
        elif len(loss.after) - len(going) > UNSURE:
            del self._open[link]  # all is quiet
        if loss.cause:
            self._changed = loss.after[0].begin

    def _returning(self, link: str, loss: Loss, interval: Interval, carries: bool, step: Step) -> Iterator[Happening]:
        if loss.back is None:
            if carries:
                loss.back = interval.begin
                loss.since_back = [interval]
                self._changed = interval.end
            elif loss.up is not None and interval.total() < FLOOR and step.sample.value(SUBFLOWS, link):
                del self._open[link]  # it could carry, there is nothing to
            return
        loss.since_back.append(interval)
        if not carries or _settled(loss.since_back[1:], ""):
            yield self._tell_back(link, loss)

    # What is told

    @staticmethod
    def _tell_up(link: str, step: Step, since: Optional[float]) -> Happening:
        away, subflows = None if since is None else step.time - since, step.sample.value(SUBFLOWS, link)
        text = f"{link} is up again" + (f" after {span(away)}" if away is not None else "")
        text += f", with {plural(subflows, 'subflow')}" if subflows else ", without subflows"
        return Happening(step.time, "link_up", link, text, {"away": away, "subflows": subflows})

    def _tell(self, link: str, loss: Loss) -> Happening:
        loss.told = True
        usual, facts = loss.usual, loss.facts
        others = [one.total(link) for one in loss.after] or [0.0]
        loss.during = _mean([one.total(link) for one in _level(loss.after)])
        taken = next((one.begin for one, rate_ in zip(loss.after, others) if rate_ >= (1 - SETTLED) * loss.during),
                     loss.time) - loss.time
        taken = max(0.0, taken)
        moved = loss.during >= SILENT * usual.total
        text = f"{link} lost: {CAUSES[loss.cause]}; it carried {rate(usual.link)} ({percent(usual.share)})"
        if facts["connections"]:
            text += f" of {plural(facts['connections'], 'connection')}"
        text += f"; total {rate(usual.total)} -> {rate(loss.during)}"
        text += f", the others took over within {span(taken)}" if moved else ": nothing took over"
        return Happening(loss.time, "link_lost", link, text, {
            "cause": loss.cause, "rate_before": usual.link, "share": usual.share, "total_before": usual.total,
            "total_during": loss.during, "took_over": taken if moved else None, **facts})

    def _tell_back(self, link: str, loss: Loss) -> Happening:
        """The first interval of the return is a part of one: its bytes tell which."""
        del self._open[link]
        first, *rest = loss.since_back
        settled = _level(rest) or [first]
        after, total = _mean([one.rate(link) for one in settled]), _mean([one.total() for one in settled])
        begin = max(first.begin, first.end - first.bytes.get(link, 0) / after) if after else first.begin
        away = begin - loss.time
        text = f"{link} is back after {span(away)}: it carries {rate(after)} ({percent(after / total if total else 0)})"
        text += f"; total {rate(loss.during)} -> {rate(total)}"
        details: Dict[str, Any] = {"away": away, "rate_after": after, "total_during": loss.during, "total_after": total}
        if loss.up is not None and loss.down is not None:
            details["down"] = loss.up - loss.down
        return Happening(begin, "link_back", link, text, details)


def _interval(step: Step) -> Optional[Interval]:
    received, sent = step.both(IN), step.both(OUT)
    change = received or sent
    if change is None or change.time <= change.since:
        return None
    signs = Counter({"closed": step.rise(CLOSED), "dead": step.rise(STALE), "repeated": step.rise(REPEATED)})
    signs += Counter({f"stalled {link}": count for link, count in step.sample.all(STALLED).items() if count})
    counts = step.rose(IN) + step.rose(OUT)
    return Interval(change.since, change.time, {link: counts[link] for link in change.now if link}, signs)


def _goes_on(interval: Interval, link: str, usual: Usual) -> bool:
    others = usual.total - usual.link
    return interval.total(link) >= max(FLOOR, GOES_ON * others)


def _settled(after: List[Interval], link: str) -> bool:
    if len(after) < 2:
        return False
    before, now = after[-2].total(link), after[-1].total(link)
    return len(after) >= PATIENCE or abs(now - before) <= SETTLED * max(now, before)


def _level(after: List[Interval]) -> List[Interval]:
    """The last two of them that have traffic: the transfer may have ended meanwhile."""
    top = max((one.total() for one in after), default=0.0)
    return [one for one in after if one.total() >= top / 2][-2:]


def _mean(values: List[float]) -> float:
    return sum(values) / len(values) if values else 0.0
