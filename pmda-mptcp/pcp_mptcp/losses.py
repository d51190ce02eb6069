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
from typing import Any, Dict, Iterator, List, Optional, Set

from .changes import Happening, Step
from .text import percent, plural, rate, span
from .traffic import (BACKUP, CLOSED, CONNECTIONS, FADED, FLOOR, HOPELESS, IN, SETTLED, SHARE, SILENT, SUBFLOWS, SURE,
                      UNSURE, UP, History, Interval, Usual, goes_on, interval_of, level, mean, resembles,
                      settled, signs_of)

CAUSES = {
    "down": "the link is down",
    "closed": "its subflows were closed",
    "dead": "no answer comes by it",
    "repeated": "nothing comes by it, and the peer sends its data again by others",
    "silent": "nothing comes by it, though it is up and has subflows",
}


@dataclass
class Loss:
    """A link that lost its traffic, or is suspected to."""

    time: float
    usual: Usual
    cause: str = ""  # empty: only suspected
    facts: Dict[str, Any] = field(default_factory=dict)
    after: List[Interval] = field(default_factory=list)  # whole intervals since
    signs: Counter[str] = field(default_factory=Counter)
    told: bool = False
    down: Optional[float] = None  # since then
    up: Optional[float] = None  # again since then
    during: float = 0.0  # the rate of all while it is away, first
    before: float = 0.0  # and last, before it came back
    back: Optional[float] = None  # when traffic came back
    since_back: List[Interval] = field(default_factory=list)
    quiet: int = 0  # intervals in a row without any traffic, while it is up again


class Losses:
    """Follows the links from step to step."""

    def __init__(self) -> None:
        self._history = History()
        self._signs: Counter[str] = Counter()  # since the last interval
        self._fading: Optional[float] = None  # a link carries less since: the next interval tells why
        self._open: Dict[str, Loss] = {}
        self._explained: Set[str] = set()  # silent links, until they carry again
        self._up: Dict[str, int] = {}
        self._down: Dict[str, float] = {}
        self._subflows: Dict[str, int] = {}
        self._connections: Optional[int] = None

    def pending(self) -> Optional[float]:
        """Of a time from which on there may be more to tell than is told."""
        times = [loss.time for loss in self._open.values() if not loss.told]
        times += [loss.back for loss in self._open.values() if loss.back is not None]
        times += [self._fading] if self._fading is not None else []
        return min(times, default=None)

    def take(self, step: Step) -> Iterator[Happening]:
        """What the step tells about links."""
        self._signs += signs_of(step)
        if step.get(IN) is None and (IN in step.sample or step.get(UP) is None):
            return
        sample, self._fading = step.sample, None
        interval, self._signs = interval_of(step, self._signs), Counter()
        up = {link: value for link, value in sample.all(UP).items() if link}
        links = {*up, *self._open, *(interval.bytes if interval else ())}
        for link in sorted(links, key=lambda link: (link not in self._open, link)):  # who comes back lets others rest
            if link in self._open:
                yield from self._follow(link, interval, step)
            else:
                yield from self._watch(link, interval, step)
        if interval:
            self._history.add(interval)
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
        self._history.intervals.clear()
        self._fading = None

    def end(self, time: float) -> Iterator[Happening]:
        """Close what is open."""
        yield from self.interrupt(time)
        for link, loss in self._open.items():
            if loss.quiet:
                continue
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
        usual = self._history.usual(link)
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
            self._doubt(link, interval, usual)

    def _doubt(self, link: str, interval: Interval, usual: Usual) -> None:
        """A link that carried has subflows and is up: does it carry?"""
        if interval.rate(link) >= SILENT * usual.link:
            self._explained.discard(link)
        elif link not in self._explained and goes_on(interval, link, usual) and self._history.calm():
            self._lose(link, self._suspect(link, interval), interval)
            return
        if link not in self._explained and interval.total() >= FLOOR and interval.rate(link) < FADED * usual.link:
            self._fading = interval.begin

    def _went_on(self, step: Step) -> bool:
        """Did connections go on without subflows that are gone?  The event may be in the record before."""
        now = step.sample.value(CONNECTIONS)
        told = step.rise(CLOSED) or any(one.signs["closed"] for one in self._history.intervals[-1:])
        return bool(told) or step.get(CLOSED) is None and bool(now) and now >= (self._connections or 0)

    @staticmethod
    def _all_backup(link: str, step: Step) -> bool:
        return (step.sample.value(BACKUP, link) or 0) >= (step.sample.value(SUBFLOWS, link) or 0)

    def _suspect(self, link: str, interval: Interval) -> Loss:
        """It may have faded earlier, when the others stood still, too."""
        usual, time = self._history.usual(link), interval.begin
        signs = Counter(interval.signs)
        for one in reversed(self._history.intervals):
            if one.rate(link) < SILENT * usual.link and one.total() >= SHARE * usual.total:
                time = one.begin
                signs += one.signs
                continue
            if one.rate(link) < FADED * usual.link:
                time = min(one.end, one.begin + one.bytes.get(link, 0) / usual.link)
                signs += one.signs
            break
        before = self._history.usual(link, time)
        return Loss(time, before if before.carried else usual, signs=signs)

    def _lose(self, link: str, loss: Loss, interval: Optional[Interval]) -> None:
        loss.facts = {"subflows": self._subflows.get(link), "connections": self._connections}
        if loss.cause:
            loss.down = loss.time if loss.cause == "down" else None
            self._history.changed = interval.end if interval else loss.time
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
            self._judge(link, loss, interval, step)
        elif not loss.told:
            loss.after.append(interval)
        if loss.cause and not loss.told and (carries or settled(loss.after, link)):
            yield self._tell(link, loss)
        if loss.told:
            yield from self._returning(link, loss, interval, carries, step)

    def _judge(self, link: str, loss: Loss, interval: Interval, step: Step) -> None:
        """Is a silent link lost?"""
        if interval.rate(link) >= SILENT * loss.usual.link:
            del self._open[link]
            return
        loss.after.append(interval)
        loss.signs += interval.signs
        going = [one for one in loss.after if goes_on(one, link, loss.usual)]
        sign = next((sign for sign in ("closed", "dead", "repeated") if loss.signs[sign]), None)
        if loss.signs["stalled " + link]:
            sign = "dead"
        others = mean([one.total(link) for one in going])
        ended = any((step.sample.value(metric, name) or 0) < FADED * (loss.facts[key] or 0) for metric, name, key in (
            (CONNECTIONS, None, "connections"), (SUBFLOWS, link, "subflows")))
        if sign and len(going) >= SURE:
            loss.cause = sign
        elif len(going) >= UNSURE and loss.usual.steady and not ended and others >= FADED * loss.usual.others:
            loss.cause = "silent"
        elif len(going) >= UNSURE and ended or len(going) > HOPELESS:
            del self._open[link]  # those that used it ended, or want less
            self._explained.add(link)
        elif len(loss.after) - len(going) > UNSURE:
            del self._open[link]  # all is quiet
        if loss.cause:
            self._history.changed = loss.after[0].begin

    def _returning(self, link: str, loss: Loss, interval: Interval, carries: bool, step: Step) -> Iterator[Happening]:
        if loss.back is None:
            if carries:
                loss.back = interval.begin
                loss.since_back = [interval]
                loss.before = self._history.total(loss.time) or loss.during
                self._history.changed = self._history.returned = interval.end
                return
            idle = loss.up is not None and interval.total() < FLOOR and step.sample.value(SUBFLOWS, link)
            loss.quiet = loss.quiet + 1 if idle else 0
            if loss.quiet > HOPELESS:  # fewer may be a sender that waits for its timers
                del self._open[link]  # it could carry, there is nothing to
            return
        loss.since_back.append(interval)
        if not carries or resembles(interval, link, loss.usual) or settled(loss.since_back[1:], ""):
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
        loss.during = mean([one.total(link) for one in level(loss.after)])
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
        """The first interval of the return is a part of one: its bytes tell which.  The next may fill a hole."""
        del self._open[link]
        first, *rest = loss.since_back
        last = level(rest) or [first]
        last = [one for one in last if resembles(one, link, loss.usual)] or last
        after, total = mean([one.rate(link) for one in last]), mean([one.total() for one in last])
        begin = max(first.begin, first.end - first.bytes.get(link, 0) / after) if after else first.begin
        away = begin - loss.time
        text = f"{link} is back after {span(away)}: it carries {rate(after)} ({percent(after / total if total else 0)})"
        text += f"; total {rate(loss.before)} -> {rate(total)}"
        details: Dict[str, Any] = {"away": away, "rate_after": after, "total_during": loss.before, "total_after": total}
        if loss.up is not None and loss.down is not None:
            details["down"] = loss.up - loss.down
        return Happening(begin, "link_back", link, text, details)
