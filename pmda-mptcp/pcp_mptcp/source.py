# SPDX-License-Identifier: GPL-2.0-or-later
"""A host or an archive, and the samples that the options ask for."""

import re
from time import sleep, strftime, time
from typing import Callable, Iterable, Iterator, Optional, Tuple

import cpmapi
from pcp import pmapi

from .reader import Reader, Silent
from .sample import Sample, Trouble

#: Seconds between two samples of a live host, or of an archive when their number is given.
INTERVAL = 2.0
#: A metric of every kernel and every mode of the agent.
PROBE = "mptcp.sysctl.enabled"


class Source:
    """A host or an archive.  `options` are PCP's, parsed, as arguments.py does it."""

    def __init__(self, context: pmapi.pmContext, options: pmapi.pmOptions):
        self._context = context
        self.live = context.type != cpmapi.PM_CONTEXT_ARCHIVE
        self.host = context.pmGetContextHostName()
        self.container = _container(options) if self.live else ""  # or another network namespace
        self.name = f"{self.host}:{self.container}" if self.container else self.host
        self.interval: Optional[float] = _seconds(options, "Interval")
        self.samples: Optional[int] = options.pmGetOptionSamples()
        self.pause: Callable[[float], None] = sleep
        self.start = self.finish = self.origin = 0.0
        self.archive = ""
        if not self.live:
            self.archive = options.pmGetOptionArchives()[0]
            self.start, self.finish = _seconds(options, "Start") or 0.0, _seconds(options, "Finish") or 0.0
            self.origin = _seconds(options, "Origin") or self.start
            if self.finish < self.start:
                raise Trouble(f"the time window is outside of the archive, which spans: pmdumplog -L {self.archive}")
        self.reader = Reader(context)
        self.choose([PROBE])
        if not self.reader and not self.reader.below("mptcp"):
            raise Trouble(self._no_agent())
        if self.container:
            self.fetch()  # Trouble if there is none

    def _no_agent(self) -> str:
        if self.live:
            return (f"pmcd on {self.host} has no MPTCP agent: run ./Install of the agent there, "
                    "or see: pminfo -f pmcd.agent.status")
        return f"{self.archive} holds no MPTCP metrics: pmlogger must record the group mptcp/summary, see pmlogconf(1)"

    def _silent(self) -> str:
        if self.container:
            return (f"no container or network namespace {self.container} on {self.host}: it must run, and mptcp.conf "
                    "there must have it in namespaces, or containers = yes; see also mptcp.log in pmcd's log directory")
        return (f"the MPTCP agent on {self.host} does not answer: see mptcp.log in pmcd's log directory, "
                "and: pminfo -f pmcd.agent.status")

    def choose(self, names: Iterable[str]) -> None:
        """Have these metrics in all samples from now on; those that the source lacks have no values."""
        try:
            self.reader.choose(names)
        except Silent:
            raise Trouble(self._silent()) from None

    def pairs(self, endless: bool = False) -> Iterator[Tuple[Optional[Sample], Sample]]:
        """Samples to be shown, each with an earlier one, for the rates between them.

        Without an interval or a number in the options it is one: of an
        archive the state at the end of the time window and the change since
        its beginning, or the state at its origin and the last change before.
        """
        if self.live:
            yield from self._live_pairs(endless)
        elif self.interval is None and self.samples is None:
            moment = self.origin if self.origin > self.start else self.finish
            now = self.reader.at(moment)
            if not now:
                raise Trouble(f"{self.archive} has no MPTCP values in the ten minutes up to {self.clock(moment)}, "
                              f"it spans: pmdumplog -L {self.archive}")
            last = moment == self.finish
            yield self.reader.since(self.start, now.time) if last else self.reader.before(now), now
        else:
            yield from self._archive_pairs(self.interval or INTERVAL)

    def _live_pairs(self, endless: bool) -> Iterator[Tuple[Optional[Sample], Sample]]:
        before = self.fetch(counters=True)
        for now in self.watch(endless):
            yield before, now
            before = now

    def watch(self, endless: bool = False) -> Iterator[Sample]:
        """A sample of a live host after each interval, as many as the options say: one without any."""
        interval = self.interval or INTERVAL
        count = self.samples or (None if endless or self.interval else 1)
        due = time()
        while count is None or count > 0:
            due = max(due + interval, time())
            self.pause(max(0.0, due - time()))
            yield self.fetch()
            count = None if count is None else count - 1

    def _archive_pairs(self, step: float) -> Iterator[Tuple[Optional[Sample], Sample]]:
        before, found = self.reader.at(self.origin), False
        most = self.samples or int((self.finish - self.origin) / step + 1e-6)
        for number in range(1, most + 1):
            moment = self.origin + number * step
            if moment > self.finish:
                break
            now = self.reader.at(moment)
            if now:
                found = True
                yield before or self.reader.since(moment - step, now.time), now
            before = now
        if not found:
            raise Trouble(f"{self.archive} has no MPTCP values in this time window at intervals of {step:g} s, "
                          f"it spans: pmdumplog -L {self.archive}")

    def fetch(self, counters: bool = False) -> Sample:
        """Values of now from a live host; `counters`: of these alone, for rates need no more of an earlier sample."""
        try:
            sample = self.reader.fetch(counters)
            if self.container and not counters and PROBE not in sample:
                raise Silent  # no instances are no zeros
            return sample
        except Silent:
            raise Trouble(self._silent()) from None
        except pmapi.pmErr as error:
            raise Trouble(f"lost the connection to pmcd on {self.host}: {error.message()}") from None

    def records(self) -> Iterator[Optional[Sample]]:
        """All that was recorded in the time window: see Reader.records."""
        return self.reader.records(self.start, self.finish)

    def clock(self, when: float, form: str = "%Y-%m-%d %H:%M:%S") -> str:
        """A time of day in the zone of the options."""
        tm = self._context.pmLocaltime(int(when))
        return strftime(form, (tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                               (tm.tm_wday + 6) % 7, tm.tm_yday + 1, tm.tm_isdst))


def _container(options: pmapi.pmOptions) -> str:
    """The name after --container or in the host specification, as PCPIntro(1) has it."""
    hosts = options.pmGetOptionHosts()
    found = re.search(r"[?&]container=([^&]*)", hosts[0]) if hosts else None
    return found[1] if found else options.pmGetOptionContainer() or ""


def _seconds(options: pmapi.pmOptions, name: str) -> Optional[float]:
    """A time of the options: PCP 6 has it as timeval and timespec, PCP 7 as timespec."""
    get = getattr(options, "pmGetOptionHighRes" + name, None) or getattr(options, "pmGetOption" + name)
    value = get()
    return None if value is None else float(value)
