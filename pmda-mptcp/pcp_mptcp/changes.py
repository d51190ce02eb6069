# SPDX-License-Identifier: GPL-2.0-or-later
"""What one record says against the one before it: counters that rose, settings that differ.

Records of an archive hold groups of metrics at their own intervals, so each
metric is compared with its own last values.
"""

from collections import Counter
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from .sample import Sample, Values
from .text import span

Counts = Dict[str, int]


class Happening(NamedTuple):
    """Something that happened.  Rates in its details are bytes a second, times seconds."""

    time: float
    kind: str  # one of timeline.KINDS
    subject: str  # interface, endpoint or setting; empty: the host
    text: str
    details: Dict[str, Any]


class Change(NamedTuple):
    """New values of a metric, and those before; None when there is nothing to compare with."""

    since: float
    before: Optional[Values]
    time: float
    now: Values


class Step:
    """What a record brought."""

    def __init__(self, time: float, sample: Sample, changes: Dict[str, Change]):
        self.time = time
        self.sample = sample
        self._changes = changes

    def get(self, metric: str) -> Optional[Change]:
        """The change of a metric, if the record has it."""
        return self._changes.get(metric)

    def rose(self, metric: str) -> Counter[str]:
        """By how much a counter rose, by instance ("" without); an instance that is new began at 0."""
        change = self._changes.get(metric)
        if change is None or change.before is None:
            return Counter()
        before = change.before
        return Counter({name or "": value - before.get(name, 0) for name, value in change.now.items()
                        if value > before.get(name, 0)})

    def rise(self, metric: str) -> int:
        """By how much a counter rose in all."""
        return sum(self.rose(metric).values())

    def both(self, metric: str) -> Optional[Change]:
        """The change of a metric that has values before and now."""
        change = self._changes.get(metric)
        return change if change and change.before is not None else None


class Steps:
    """Makes steps of samples.  `own` metrics are counters that start again with the agent."""

    def __init__(self, metrics: Iterable[str], own: Iterable[str], kernels: Iterable[str]):
        self._metrics = list(metrics)
        self._own, self._kernels = list(own), list(kernels)
        self._last: Dict[str, Change] = {}
        self.restarted: List[str] = []  # "agent", "kernel": whose counters fell with this step

    def take(self, sample: Sample) -> Optional[Step]:
        """The step to this sample; None if it brings nothing new."""
        changes = {}
        for metric in self._metrics:
            when, last = sample.when(metric), self._last.get(metric)
            if when is None or last is not None and when <= last.time or metric == FLAGS and _unreadable(sample):
                continue
            changes[metric] = Change(last.time if last else when, last.now if last else None, when, sample.all(metric))
        self._last.update(changes)
        self.restarted = [name for name, metrics in (("agent", self._own), ("kernel", self._kernels))
                          if self._fell(metrics, changes)]
        return Step(max(change.time for change in changes.values()), sample, changes) if changes else None

    def _fell(self, metrics: List[str], changes: Dict[str, Change]) -> bool:
        """Counters that fall began anew, all of them; there is nothing to compare with."""
        fell = any(value < (changes[metric].before or {}).get(name, 0)
                   for metric in metrics if metric in changes for name, value in changes[metric].now.items())
        if fell:
            for metric in metrics:
                if metric in changes:
                    changes[metric] = changes[metric]._replace(before=None)
                else:
                    self._last.pop(metric, None)
        return fell

    def forget(self) -> None:
        """After a gap counters tell nothing; settings do."""
        for metric in (*self._own, *self._kernels):
            self._last.pop(metric, None)


# What a rise of a counter of the kernel means: the kind, and why

_MIB = "mptcp.mib."
COUNTED: Dict[str, Dict[str, str]] = {
    "fallback": {
        "mpcapablefallbacksynack": "the server, or something on the way, answered without MPTCP",
        "mpcapablefallbackack": "the client, or something on the way, ended the handshake without MPTCP",
        "mpcapabledatafallback": "the first packets with data came without MPTCP, something on the way strips it",
        "mpfallbacktokeninit": "no token could be allocated",
        "md5sigfallback": "the socket uses TCP MD5 signatures",
        "dssfallback": "a data mapping was bad or missing, something on the way changes the stream",
        "dsscorruptionfallback": "a data mapping was corrupt, something on the way changes the stream",
        "simultconnectfallback": "both sides connected at once",
        "mpcapablesyntxdisabled": "MPTCP is paused after a blackhole",
    },
    "blackhole": {
        "blackhole": "plain SYNs are answered, so new connections are TCP for net.mptcp.blackhole_timeout seconds",
        "mpcapablesyntxdrop": "SYNs had to be sent again without MPTCP",
    },
    "join_failed": {
        "mpjoinrejected": "refused here, mostly by the limit of subflows",
        "mpjoinnotokenfound": "for a connection that is not here",
        "mpjoinsynackhmacfailure": "the server's authentication (HMAC) was wrong",
        "mpjoinackhmacfailure": "the client's authentication (HMAC) was wrong",
        "mpjoinsyntxcreatskerr": "no socket could be created",
        "mpjoinsyntxbinderr": "the endpoint's address could not be bound",
        "mpjoinsyntxconnecterr": "there is no route from the endpoint's address",
        "mismatchportsynrx": "to a port that was never announced",
        "mismatchportackrx": "to a port that is not announced any more",
    },
    "damaged": {
        "datacsumerr": "a checksum was wrong",
        "dsscorruptionreset": "a data mapping was corrupt, the subflow was reset",
        "fallbackfailed": "fallback was impossible, the subflow was reset",
    },
    "address_announced": {},
    "address_removed": {},
    "priority": {},
}
_EVENTS = {"address_announced": "announced", "address_removed": "removed", "priority": "sub_priority"}
_HEADS = {
    "fallback": ("1 connection fell back to TCP", "{} connections fell back to TCP"),
    "blackhole": ("something on the way drops SYNs with MPTCP",) * 2,
    "join_failed": ("1 join failed", "{} joins failed"),
    "damaged": ("data was damaged on the way",) * 2,
    "address_announced": ("the peer announced an address", "peers announced {} addresses"),
    "address_removed": ("the peer withdrew an address", "peers withdrew {} addresses"),
    "priority": ("the peer changed the backup flag of a subflow", "peers changed the backup flag of {} subflows"),
}
KERNELS = [_MIB + name for names in COUNTED.values() for name in names]
EVENTS = [f"mptcp.event.{name}" for name in _EVENTS.values()]

SYSCTLS = [f"mptcp.sysctl.{name}" for name in (
    "enabled", "pm_type", "path_manager", "scheduler", "allow_join_initial_addr_port", "checksum_enabled",
    "add_addr_timeout", "stale_loss_cnt", "close_timeout", "blackhole_timeout", "syn_retrans_before_tcp_fallback",
    "add_addr_v6_port_drop_ts", "other")]
LIMITS = ["mptcp.pm.limits.subflows", "mptcp.pm.limits.add_addr_accepted"]
FLAGS = "mptcp.pm.endpoint.flags"
SETTINGS = [*SYSCTLS, *LIMITS, FLAGS]


def _unreadable(sample: Sample) -> bool:
    """Can the path manager not be read?  No endpoints look the same, limits do not."""
    return sample.when(LIMITS[0]) is not None and not sample.all(LIMITS[0])


def counted(step: Step) -> Iterator[Tuple[str, Counter[str]]]:
    """The kernel's and the path manager's counters that rose, those of a kind together: see tell_counted()."""
    for kind, reasons in COUNTED.items():
        counts = Counter({name: step.rise(_MIB + name) for name in reasons})
        if kind in _EVENTS:
            counts[""] = step.rise("mptcp.event." + _EVENTS[kind])
        if +counts:
            yield kind, +counts


def tell_counted(time: float, kind: str, counts: Counter[str], seconds: float = 0.0) -> Happening:
    """The sentence about counters of a kind."""
    total = sum(counts.values())
    one, many = _HEADS[kind]
    reasons = "; ".join(f"{COUNTED[kind][name]} ({count})" if len(counts) > 1 else COUNTED[kind][name]
                        for name, count in counts.most_common() if name)
    text = (one if total == 1 else many.format(total)) + (f" in {span(seconds)}" if seconds else "")
    details: Dict[str, Any] = {"count": total, "counters": {name: count for name, count in counts.items() if name}}
    if seconds:
        details["seconds"] = seconds
    return Happening(time, kind, "", text + (f": {reasons}" if reasons else ""), details)


def settings(step: Step) -> Iterator[Happening]:
    """Settings, limits and endpoints that differ."""
    for metric in SYSCTLS:
        change = step.both(metric)
        for name, now in (change.now if change and change.before else {}).items():
            key = f"net.mptcp.{name or metric.rpartition('.')[2]}"
            yield from _differs(step.time, "setting_changed", key, change, name, now)
    for metric in LIMITS:
        change = step.both(metric)
        for name, now in (change.now if change and change.before else {}).items():
            yield from _differs(step.time, "limits_changed", f"limit {metric.rpartition('.')[2]}", change, name, now)
    change = step.both(FLAGS)
    if change:
        yield from _endpoints(step.time, change.before or {}, change.now)


def _differs(time: float, kind: str, key: str, change: Optional[Change], name: Any, now: Any) -> Iterator[Happening]:
    before = change.before.get(name) if change and change.before else None
    if before is not None and before != now:
        yield Happening(time, kind, key, f"{key} changed from {before} to {now}", {"before": before, "now": now})


def _endpoints(time: float, before: Values, now: Values) -> Iterator[Happening]:
    for name in sorted({*before, *now}, key=str):
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        kind = "added" if old is None else "removed" if new is None else "changed"
        flags = " -> ".join(flags or "no flags" for flags in (old, new) if flags is not None)
        yield Happening(time, f"endpoint_{kind}", str(name), f"endpoint {name} {kind}: {flags}",
                        {"before": old, "now": new})
