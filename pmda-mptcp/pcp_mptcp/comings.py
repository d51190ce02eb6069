# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections, subflows and stalls that come and go, counted; and a brake for what never stops coming."""

from collections import Counter
from dataclasses import dataclass
from typing import Callable, Dict, Iterator, List, Optional, Tuple

from .changes import Change, Happening, Step
from .text import plural, span

CREATED, JOINED, CLOSED = "mptcp.event.created", "mptcp.event.sub_established", "mptcp.event.sub_closed"
REASON, ERROR = "mptcp.event.subflow_closed_by.reason", "mptcp.event.subflow_closed_by.error"
OPENED_BY, CLOSED_BY = "mptcp.interface.subflows_opened", "mptcp.interface.subflows_closed"
ACCEPTED, ANSWERED = "mptcp.mib.mpcapableackrx", "mptcp.mib.mpcapablesynackrx"
CONNECTIONS, OWNER = "mptcp.connections", "mptcp.subflow.connection"
STALLED, STALE, RECOVERED = "mptcp.interface.stalled_subflows", "mptcp.mib.subflowstale", "mptcp.mib.subflowrecover"
JOINS, JOINS_ANSWERED = "mptcp.mib.mpjoinsyntx", "mptcp.mib.mpjoinsynackrx"
DEGRADED, PATHS = "mptcp.redundancy.degraded_connections", "mptcp.redundancy.connections"
IN_BACKUP, OUT_BACKUP = "mptcp.interface.in.backup_bytes", "mptcp.interface.out.backup_bytes"
OWN = [CREATED, JOINED, CLOSED, REASON, ERROR, OPENED_BY, CLOSED_BY, IN_BACKUP, OUT_BACKUP]
KERNELS = [ACCEPTED, ANSWERED, STALE, RECOVERED, JOINS, JOINS_ANSWERED]
GAUGES = [CONNECTIONS, OWNER, STALLED, DEGRADED, PATHS]

NAMED = 3  # subflows that are named one by one in a line
ANSWER = 3.0  # seconds that the answer to a join may take
BACKUP_RATE = 12_500.0  # bytes a second from which on a backup is in use
REASONS = {
    "mptcp_error": "reset: MPTCP error",
    "no_resources": "the peer refuses more, it has no resources",
    "prohibited": "the peer prohibits it",
    "outstanding_data": "reset: too much data outstanding",
    "bad_performance": "reset: bad performance",
    "middlebox": "something on the way interferes",
    "ETIMEDOUT": "timed out, the path is dead",
    "ECONNREFUSED": "refused with a reset",
    "ECONNRESET": "reset by the peer",
    "ECONNABORTED": "ended by this host",
    "EHOSTUNREACH": "the peer cannot be reached",
    "ENETUNREACH": "there is no route",
}


def flows(step: Step) -> Iterator[Tuple[str, Counter[str]]]:
    """Connections and subflows that came and went, as kinds with counts: see tell_flows()."""
    opened, closed = step.rose(OPENED_BY), step.rose(CLOSED_BY)
    change = step.both(CONNECTIONS)
    grown = change.now.get(None, 0) - (change.before or {}).get(None, 0) if change else 0
    if CREATED in step.sample:
        created = step.rise(CREATED)
    else:  # the kernel's counters may be in a record of their own
        created = max(grown, step.rise(ACCEPTED) + step.rise(ANSWERED)) if change else 0
    ended = max(0, created - grown) if change else 0
    if created:
        yield "connection_opened", Counter({"": created}) + opened
    elif step.rise(JOINED) or opened and CLOSED not in step.sample:
        yield "subflow_opened", (Counter({"": step.rise(JOINED)}) if not opened else opened) + _names(step, "+")
    parted = step.rise(CLOSED)
    if parted or closed and not ended and CLOSED not in step.sample:
        alone = sum(closed.values()) == parted or not ended or len(closed) == 1
        by_link = closed if alone and closed else Counter({"": parted})
        reasons = Counter({f"!{name}": count for name, count in step.rose(REASON).items() if name != "unspecified"})
        reasons = reasons or Counter({f"!{name}": count for name, count in step.rose(ERROR).items()})
        yield "subflow_closed", by_link + reasons + _names(step, "-")
    if ended:
        yield "connection_closed", Counter({"": ended}) + (closed if not parted else Counter())


def _names(step: Step, sign: str) -> Counter[str]:
    """Subflows that are new, or gone, of connections that were and are there, where they are recorded."""
    change = step.both(OWNER)
    if change is None or change.time != step.time:
        return Counter()
    before, now = change.before or {}, change.now
    old, new = (before, now) if sign == "+" else (now, before)
    lasting = set(before.values()) & set(now.values())
    return Counter({f"={name}": 1 for name, owner in new.items() if name not in old and owner in lasting})


def tell_flows(time: float, kind: str, counts: Counter[str], seconds: float = 0.0) -> Happening:
    """The sentence: counts are by link, "" of the host, "!reason" and "=name of subflow"."""
    links = {name: count for name, count in counts.items() if name and name[0] not in "!="}
    reasons = {name[1:]: count for name, count in counts.items() if name.startswith("!")}
    names = [name[1:] for name in counts if name.startswith("=")]
    verb = kind.rpartition("_")[2]
    within = f" in {span(seconds)}" if seconds else ""
    if kind.startswith("connection"):
        text = f"{plural(counts[''], 'connection')} {verb}{within}"
        text += f", with subflows on {_by_link(links)}" if links else ""
        subject, total = "", counts[""]
    else:
        total = sum(links.values()) + counts[""]
        subject = next(iter(links)) if len(links) == 1 and not counts[""] else ""
        text = f"{plural(total, 'subflow')} {verb}{within}"
        text += f" on {subject}" if subject else f": {_by_link(links)}" if links else ""
        if kind == "subflow_closed":
            text += " while its connection goes on" if total == 1 else " while their connections go on"
    if reasons:
        text += ": " + ", ".join(REASONS.get(name, name) + (f" ({count})" if len(reasons) > 1 else "")
                                 for name, count in reasons.items())
    if 0 < len(names) <= NAMED:
        text += "; " + ", ".join(names)
    details = {"count": total, "links": links, "reasons": reasons, "names": names, "seconds": seconds}
    return Happening(time, kind, subject, text, {key: value for key, value in details.items() if value})


def _by_link(links: Dict[str, int]) -> str:
    return ", ".join(f"{link} ({count})" for link, count in sorted(links.items()))


Tell = Callable[[float, str, Counter[str], float], Happening]


@dataclass
class Window:
    """Of a kind that keeps happening: how often it was told, and what waits since it was told last."""

    since: float
    length: float
    told: int
    last: float
    waits: Counter[str]
    tell: Tell


class Brake:
    """Tells the first few of a kind at once, and what follows in sums, over longer times while it goes on."""

    MOST, FIRST, FACTOR, LONGEST = 5, 30.0, 4.0, 600.0

    def __init__(self) -> None:
        self._windows: Dict[str, Window] = {}

    def take(self, time: float, kind: str, counts: Counter[str], tell: Tell) -> Iterator[Happening]:
        """Tell it or keep it."""
        window = self._windows.setdefault(kind, Window(time, self.FIRST, 0, time, Counter(), tell))
        if window.told < self.MOST:
            window.told, window.last = window.told + 1, time
            yield tell(time, kind, counts, 0.0)
        else:
            window.waits.update(counts)

    def due(self, time: float, end: bool = False) -> Iterator[Happening]:
        """What was kept long enough."""
        for kind, window in list(self._windows.items()):
            if time < window.since + window.length and not end:
                continue
            del self._windows[kind]
            if window.waits:
                longer = min(self.LONGEST, window.length * self.FACTOR)
                self._windows[kind] = Window(time, longer, self.MOST, time, Counter(), window.tell)
                yield window.tell(time, kind, window.waits, time - window.last)


def _left(change: Optional[Change]) -> Optional[Tuple[int, str, int]]:
    """Of the least number of live paths that more connections have now, new ones apart: how many, words, and it."""
    if change is None:
        return None
    before, now = ({int(str(name).rstrip("+")): count for name, count in values.items()}
                   for values in (change.before or {}, change.now))
    new = max(0, sum(now.values()) - sum(before.values()))
    worse = 0  # connections with so many paths or fewer
    for paths in sorted({*before, *now}):
        worse += now.get(paths, 0) - before.get(paths, 0)
        if worse > new and now.get(paths):
            depends = "depends" if now[paths] == 1 else "depend"
            words = f"{depends} on one path now" if paths == 1 else f"with {paths or 'no'} live paths now"
            return now[paths], words, paths
    return None


class Conditions:
    """What begins and ends: stalls, backups in use, connections with less than they had; joins without an answer."""

    def __init__(self) -> None:
        self._stale = 0
        self._asked: List[Tuple[float, int]] = []  # joins that wait for an answer
        self._backup: Dict[str, float] = {}

    def forget(self) -> None:
        """What was open is unknown."""
        self._stale = 0
        self._asked.clear()

    def take(self, step: Step) -> Iterator[Happening]:
        """What began or ended with a step."""
        yield from self._stalls(step)
        yield from self._joins(step)
        yield from self._degraded(step)
        yield from self._backups(step)

    def _stalls(self, step: Step) -> Iterator[Happening]:
        change = step.both(STALLED)
        for link, now in (change.now if change else {}).items():
            before = (change.before or {}).get(link, 0) if change else 0
            if now and not before:
                yield Happening(step.time, "stalled", str(link), f"{plural(now, 'subflow')} on {link} stalled: "
                                "the peer does not answer", {"count": now})
            elif before and not now:
                yield Happening(step.time, "recovered", str(link), f"no subflow on {link} is stalled any more", {})
        stale, recovered, stales = step.rise(STALE), step.rise(RECOVERED), step.get(STALE)
        over = min(stale, recovered)  # and no news any more: these counters may be recorded late
        stale, recovered = stale - over, recovered - over
        if stale:
            self._stale += stale
            yield Happening(step.time, "stalled", "", f"{plural(stale, 'subflow')} stale: the peer does not answer, "
                            "others take the data", {"count": stale, "since": stales.since if stales else step.time})
        if recovered and self._stale:
            self._stale = max(0, self._stale - recovered)
            yield Happening(step.time, "recovered", "", f"{plural(recovered, 'subflow')} recovered",
                            {"count": recovered})

    def _joins(self, step: Step) -> Iterator[Happening]:
        asked, answered = step.rise(JOINS), step.rise(JOINS_ANSWERED)
        if asked:
            self._asked.append((step.time, asked))
        while answered and self._asked:
            time, count = self._asked.pop(0)
            if count > answered:
                self._asked.insert(0, (time, count - answered))
            answered = max(0, answered - count)
        late = sum(count for time, count in self._asked if time + ANSWER < step.time)
        if late and step.get(JOINS):
            self._asked = [one for one in self._asked if one[0] + ANSWER >= step.time]
            yield Happening(step.time, "join_failed", "", f"{plural(late, 'join')} failed without an answer: the path "
                            "is dead, or something on the way drops or refuses joins", {"count": late})

    @staticmethod
    def _degraded(step: Step) -> Iterator[Happening]:
        change = step.both(DEGRADED)
        before, now = ((change.before or {}).get(None, 0), change.now.get(None, 0)) if change else (0, 0)
        left = _left(step.both(PATHS)) if step.sample.value(DEGRADED) else None
        if now > before or left:
            text = f"{plural(now, 'connection')} with fewer live paths than once" if now > before else ""
            details = {"count": step.sample.value(DEGRADED)}
            if left:
                count, words, details["paths"] = left
                text += f", {count} {words}" if text else f"{plural(count, 'connection')} {words}"
            yield Happening(step.time, "degraded", "", text, details)
        elif before and not now:
            yield Happening(step.time, "degraded", "", "each connection has as many live paths as it ever had",
                            {"count": 0})

    def _backups(self, step: Step) -> Iterator[Happening]:
        change = step.both(IN_BACKUP)
        if change is None:
            return
        moved = step.rose(IN_BACKUP) + step.rose(OUT_BACKUP)
        for link in sorted({*moved, *self._backup}):
            used = moved[link] >= BACKUP_RATE * (change.time - change.since)
            if used and link not in self._backup:
                self._backup[link] = step.time
                yield Happening(step.time, "backup_begins", link, f"backup subflows on {link} carry data", {})
            elif not used and link in self._backup:
                began = self._backup.pop(link)
                yield Happening(step.time, "backup_ends", link, f"backup subflows on {link} rest again after "
                                f"{span(step.time - began)}", {"seconds": step.time - began})
