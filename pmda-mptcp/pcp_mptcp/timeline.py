# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of a host: what happened between its samples, in words.

    timeline = Timeline()
    for sample in source.records():
        for happening in timeline.take(sample):
            ...
    timeline.end()

What a lost link did to the traffic is known only some intervals later, so a
loss and all that followed are held back until then: the story is in order.
"""

from collections import Counter
from typing import Dict, Iterable, Iterator, List, Optional, Set

from . import changes, comings, losses, traffic
from .changes import Happening, Step, Steps
from .sample import Sample
from .text import span

__all__ = ["Happening", "KINDS", "METRICS", "Timeline", "summary"]

SAMPLES = "mptcp.agent.samples"
#: Counters that start again with the agent, and those that do not.
OWN = [SAMPLES, traffic.IN, traffic.OUT, *changes.EVENTS, *comings.OWN]
KERNELS = [*changes.KERNELS, *comings.KERNELS, traffic.REPEATED]
#: What the timeline needs; what a source lacks is left out of the story.
METRICS = sorted({*OWN, *KERNELS, *traffic.METRICS, *comings.GAUGES, *changes.SETTINGS})

KINDS = {
    "link_lost": "a link carried traffic and carries none, while others go on or the link is down",
    "link_back": "such a link carries traffic again",
    "link_away": "such a link was still without traffic at the end",
    "link_down": "an interface without traffic went down",
    "link_up": "an interface is up again",
    "connection_opened": "connections began",
    "connection_closed": "connections ended, with all their subflows",
    "subflow_opened": "subflows joined connections",
    "subflow_closed": "subflows ended while their connections went on",
    "stalled": "the peer does not answer on subflows",
    "recovered": "it does again",
    "degraded": "connections have fewer live subflows than they once had, or no longer",
    "backup_begins": "backup subflows carry data",
    "backup_ends": "they rest again",
    "fallback": "connections that asked for MPTCP are TCP",
    "blackhole": "SYNs with MPTCP are dropped on the way",
    "join_failed": "subflows could not be opened",
    "damaged": "data or its mapping was damaged on the way",
    "address_announced": "peers announced addresses",
    "address_removed": "peers withdrew addresses",
    "priority": "peers changed the backup flag of subflows",
    "endpoint_added": "an endpoint of the path manager is new",
    "endpoint_removed": "an endpoint is gone",
    "endpoint_changed": "an endpoint has other flags",
    "limits_changed": "a limit of the path manager is another",
    "setting_changed": "a setting under net.mptcp is another",
    "agent_restarted": "the agent's counters began anew",
    "gap": "nothing was recorded",
}


class Timeline:
    """Takes samples, one after the other, and tells what happened between them."""

    def __init__(self) -> None:
        self._steps = Steps(METRICS, OWN, KERNELS)
        self._losses = losses.Losses()
        self._conditions = comings.Conditions()
        self._brake = comings.Brake()
        self._held: List[Happening] = []
        self._time = 0.0  # of the last step
        self._away: Set[str] = set()  # links whose loss was told, and not their return
        self._lost = 0.0  # when a link was lost last
        self._stalled: Set[str] = set()  # subjects of stalls that were told
        self._gap = False

    def take(self, sample: Optional[Sample]) -> List[Happening]:
        """What happened since the sample before; None is a gap in the record."""
        if sample is None:
            self._gap = bool(self._time)
            return []
        if self._gap:
            self._interrupt()
        step = self._steps.take(sample)
        if step is None:
            return []
        if self._gap:
            text = f"nothing was recorded for {span(step.time - self._time)}"
            self._held.append(Happening(step.time, "gap", "", text, {"since": self._time}))
            self._gap = False
        self._held += self._step(step)
        self._time = max(step.time, self._time)
        return self._ready(self._losses.pending())

    def end(self) -> List[Happening]:
        """What is still open."""
        self._held += self._brake.due(self._time, end=True)
        self._held += self._losses.end(self._time)
        return self._ready(None)

    def _interrupt(self) -> None:
        self._held += self._losses.interrupt(self._time)
        self._steps.forget()
        self._conditions.forget()

    def _step(self, step: Step) -> Iterator[Happening]:
        if self._steps.restarted:
            yield from self._losses.interrupt(step.time)
            self._conditions.forget()
            who = "the host" if "kernel" in self._steps.restarted else "the agent"
            yield Happening(step.time, "agent_restarted", "", f"{who} was restarted, its counters began anew", {})
        yield from self._losses.take(step)
        yield from changes.settings(step)
        for kind, counts in comings.flows(step):
            yield from self._brake.take(step.time, kind, counts, comings.tell_flows)
        yield from self._conditions.take(step)
        for kind, counts in changes.counted(step):
            yield from self._brake.take(step.time, kind, counts, changes.tell_counted)
        yield from self._brake.due(step.time)

    def _ready(self, until: Optional[float]) -> List[Happening]:
        """What may be told: nothing that comes after something that is not decided."""
        self._held.sort(key=lambda happening: happening.time)
        count = len(self._held) if until is None else sum(one.time < until for one in self._held)
        ready, self._held = self._held[:count], self._held[count:]
        return [happening for happening in ready if self._news(happening)]

    def _news(self, happening: Happening) -> bool:
        """Stalled subflows are no news while the link that they use is lost."""
        kind, subject = happening.kind, happening.subject
        if kind == "link_lost":
            self._away.add(subject)
            self._lost = happening.time
        elif kind == "link_back":
            self._away.discard(subject)
        elif kind == "stalled":
            if subject in self._away or not subject and (self._away or happening.details["since"] <= self._lost):
                return False
            self._stalled.add(subject)
        elif kind == "recovered":
            if subject not in self._stalled:
                return False
            self._stalled.discard(subject)
        return True


#: What the summary counts, line by line.
_SUMS = (
    ("connections", {"connection_opened": "opened", "connection_closed": "closed", "fallback": "fell back to TCP"}),
    ("subflows", {"subflow_opened": "joined later", "subflow_closed": "closed before their connection",
                  "join_failed": "could not join", "stalled": "stalled"}),
)


def summary(happenings: Iterable[Happening]) -> List[str]:
    """The story in a few lines: the links that were lost, the longest failover, what was counted."""
    lost: Dict[str, List[Happening]] = {}
    away: Dict[str, List[float]] = {}
    counts: Counter[str] = Counter()
    gone = set()
    ups: Dict[str, float] = {}  # how long links were down that are up again, until they carry
    for happening in happenings:
        kind, link = happening.kind, happening.subject
        counts[kind] += happening.details.get("count", 1)
        if kind == "link_lost":
            lost.setdefault(link, []).append(happening)
        elif kind == "link_up" and link in lost and happening.details["away"] is not None:
            ups[link] = happening.details["away"]
        elif kind in ("link_back", "link_away") and link in lost:
            away.setdefault(link, []).append(happening.details["away"])
            ups.pop(link, None)
            if kind == "link_away":
                gone.add(link)
    for link, seconds in ups.items():
        away.setdefault(link, []).append(seconds)
    lines = [_of_link(link, len(times), away.get(link, []), link in gone) for link, times in lost.items()]
    taken = [(one.details["took_over"], link) for link, times in lost.items() for one in times
             if one.details["took_over"] is not None]
    if taken:
        seconds, link = max(taken)
        lines.append(f"longest failover: {span(seconds)}, from {link}")
    for noun, kinds in _SUMS:
        words = [f"{counts[kind]} {word}" for kind, word in kinds.items() if counts[kind]]
        lines += [f"{noun}: {', '.join(words)}"] if words else []
    return lines


def _of_link(link: str, times: int, away: List[float], gone: bool) -> str:
    text = f"{link}: lost {'once' if times == 1 else f'{times} times'}"
    if away:
        text += f", without traffic for {span(sum(away))}"
    if len(away) > 1:
        text += f", the longest time {span(max(away))}"
    return text + (", not back at the end" if gone else "")
