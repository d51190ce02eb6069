# SPDX-License-Identifier: GPL-2.0-or-later
"""Metrics of a host or of an archive, through PCP's client API (PMAPI(3)).

A Source is one of either, with the time window of the options.  It gives
Samples: the values of a moment.  A moment of an archive is what the latest
records up to it say, metric by metric, as pmlogger may record groups of
metrics at different intervals.  Nothing is interpolated, for a connection
that has ended must not live on until the end of the archive.
"""

from ctypes import POINTER, c_uint, cast
from time import sleep, strftime, time
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple

import cpmapi
from pcp import pmapi

from .sample import Sample, Trouble, Values

#: How far back of a moment of an archive its records may lie, in seconds.
REACH = 600.0
#: Seconds between two samples of a live host, or of an archive when their number is given.
INTERVAL = 2.0
#: A metric of every kernel and every mode of the agent.
PROBE = "mptcp.sysctl.enabled"

_VALUES = POINTER(pmapi.pmValue)


class Metric(NamedTuple):
    """A metric as the source describes it."""

    name: str
    kind: int  # PM_TYPE_*
    instances: bool
    domain: int  # of instances
    discrete: bool
    counter: bool
    desc: Any


class Source:
    """A host or an archive.  `options` are PCP's, parsed and with a context: see cli.py."""

    def __init__(self, context: pmapi.pmContext, options: pmapi.pmOptions):
        self._context = context
        self.live = context.type != cpmapi.PM_CONTEXT_ARCHIVE
        self.host = context.pmGetContextHostName()
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
        self._metrics: Dict[int, Metric] = {}
        self._names: Dict[int, Dict[int, str]] = {}  # of instances, by domain
        self._lacks: Dict[str, bool] = {}
        self.choose([PROBE])
        if not self._metrics and not self.below("mptcp"):
            raise Trouble(self._no_agent())

    def _no_agent(self) -> str:
        if self.live:
            return (f"pmcd on {self.host} has no MPTCP agent: run ./Install of the agent there, "
                    "or see: pminfo -f pmcd.agent.status")
        return f"{self.archive} holds no MPTCP metrics: pmlogger must record the group mptcp/summary, see pmlogconf(1)"

    def _silent(self) -> str:
        return (f"the MPTCP agent on {self.host} does not answer: see mptcp.log in pmcd's log directory, "
                "and: pminfo -f pmcd.agent.status")

    # Which metrics

    def choose(self, names: Iterable[str]) -> None:
        """Have these in all samples from now on; those that the source lacks have no values."""
        for name in names:
            if name in self._lacks:
                continue
            try:
                (pmid,) = self._context.pmLookupName([name])
                desc = self._context.pmLookupDesc(pmid)
            except pmapi.pmErr as error:
                if error.args[0] in (cpmapi.PM_ERR_NOAGENT, cpmapi.PM_ERR_AGAIN):
                    raise Trouble(self._silent()) from None
                self._lacks[name] = True
                continue
            self._lacks[name] = False
            contents = desc.contents
            self._metrics[pmid] = Metric(name, contents.type, contents.indom != cpmapi.PM_INDOM_NULL,
                                         contents.indom, contents.sem == cpmapi.PM_SEM_DISCRETE,
                                         contents.sem == cpmapi.PM_SEM_COUNTER, desc)

    def below(self, prefix: str) -> List[str]:
        """The names of metrics below a name."""
        found: List[str] = []
        try:
            self._context.pmTraversePMNS(prefix, found.append)
        except pmapi.pmErr:
            return []
        return found

    # Samples

    def pairs(self, endless: bool = False) -> Iterator[Tuple[Optional[Sample], Sample]]:
        """Samples to be shown, each with an earlier one, for the rates between them.

        Without an interval or a number in the options it is one: of an
        archive the state at the end of the time window (or at its origin),
        and the change since its beginning.
        """
        if self.live:
            yield from self._live_pairs(endless)
        elif self.interval is None and self.samples is None:
            moment = self.origin if self.origin > self.start else self.finish
            now = self.at(moment)
            if not now:
                raise Trouble(f"{self.archive} has no MPTCP values in the ten minutes up to {self.clock(moment)}, "
                              f"it spans: pmdumplog -L {self.archive}")
            yield self.since(self.start, now.time), now
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
        before, found = self.at(self.origin), False
        most = self.samples or int((self.finish - self.origin) / step + 1e-6)
        for number in range(1, most + 1):
            moment = self.origin + number * step
            if moment > self.finish:
                break
            now = self.at(moment)
            if now:
                found = True
                yield before or self.since(moment - step, now.time), now
            before = now
        if not found:
            raise Trouble(f"{self.archive} has no MPTCP values in this time window at intervals of {step:g} s, "
                          f"it spans: pmdumplog -L {self.archive}")

    def fetch(self, counters: bool = False) -> Sample:
        """Values of now from a live host; `counters`: of these alone, for rates need no more of an earlier sample."""
        pmids = [pmid for pmid, metric in self._metrics.items() if metric.counter or not counters]
        try:
            result = self._fetch(pmids)
        except pmapi.pmErr:
            result = self._fetch_again(pmids)
        sample = Sample(0.0)
        self._take(result, sample)
        if not sample:
            raise Trouble(self._silent())
        return sample

    def _fetch_again(self, pmids: List[int]) -> Any:
        """After pmcd was restarted."""
        try:
            self._context.pmReconnectContext()
            return self._fetch(pmids)
        except pmapi.pmErr as error:
            raise Trouble(f"lost the connection to pmcd on {self.host}: {error.message()}") from None

    def at(self, moment: float) -> Sample:
        """Values of a moment of the archive, as the last records up to it say."""
        sample = self._collect(cpmapi.PM_MODE_BACK, moment, moment - REACH)
        if sample:
            self._settings(sample, moment)
        return sample

    def since(self, moment: float, until: float) -> Optional[Sample]:
        """Values that the first records from a moment of the archive on say, none of them later than another one."""
        return self._collect(cpmapi.PM_MODE_FORW, moment, min(until, moment + REACH)) or None

    def records(self) -> Iterator[Optional[Sample]]:
        """All that was recorded in the time window, record by record: what is known then, None for a gap.

        It is the same Sample each time, with the new values put in.
        """
        sample = self.at(self.start) or Sample(0.0)
        for result, when in self._walk(cpmapi.PM_MODE_FORW, self.start):
            if when > self.finish:
                self._context.pmFreeResult(result)
                return
            if not result.contents.numpmid:
                self._context.pmFreeResult(result)
                sample = Sample(0.0)
                yield None
            elif self._take(result, sample):
                yield sample

    def clock(self, when: float, form: str = "%Y-%m-%d %H:%M:%S") -> str:
        """A time of day in the zone of the options."""
        tm = self._context.pmLocaltime(int(when))
        return strftime(form, (tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                               (tm.tm_wday + 6) % 7, tm.tm_yday + 1, tm.tm_isdst))

    # PMAPI

    def _fetch(self, pmids: Iterable[int]) -> Any:
        wanted = list(pmids)
        return self._context.pmFetch((c_uint * len(wanted))(*wanted))

    def _walk(self, mode: int, moment: float) -> Iterator[Tuple[Any, float]]:
        """Records of the archive from a moment on or back; they are the caller's to free."""
        self._position(mode, moment)
        while True:
            try:
                result = self._context.pmFetchArchive()
            except pmapi.pmErr:
                return  # the end
            yield result, float(result.contents.timestamp)

    def _position(self, mode: int, moment: float) -> None:
        set_mode = getattr(self._context, "pmSetModeHighRes", self._context.pmSetMode)  # PCP 6, PCP 7
        set_mode(mode, pmapi.timespec(int(moment), int(moment % 1 * 1e9)), pmapi.timespec(0, 0))

    def _collect(self, mode: int, moment: float, until: float) -> Sample:
        """For each metric the values of the first record on this way that has it, no farther than a gap."""
        sample = Sample(0.0)
        missing = {pmid for pmid, metric in self._metrics.items() if not metric.discrete}
        for result, when in self._walk(mode, moment):
            gap = not result.contents.numpmid  # pmlogger's mark: what lies behind it belongs to another run
            beyond = when < until if mode == cpmapi.PM_MODE_BACK else when > until
            if gap and sample or beyond:
                self._context.pmFreeResult(result)
                break
            missing -= self._take(result, sample, skip=True)
            if not missing:
                break
        return sample

    def _settings(self, sample: Sample, moment: float) -> None:
        """What hardly changes is recorded rarely: PMAPI knows its last value."""
        pmids = [pmid for pmid, metric in self._metrics.items() if metric.discrete and metric.name not in sample]
        if pmids:
            self._position(cpmapi.PM_MODE_INTERP, moment)
            try:
                self._take(self._fetch(pmids), sample, when=sample.time)
            except pmapi.pmErr:
                pass  # there is none at the very end

    def _take(self, result: Any, sample: Sample, skip: bool = False, when: Optional[float] = None) -> Set[int]:
        """Put values into a sample, except (`skip`) those of metrics that it has; returns which are in the result."""
        contents = result.contents
        when = float(contents.timestamp) if when is None else when
        taken = set()
        self._names.clear()  # an agent that was restarted gives its ids to others
        try:
            for i in range(contents.numpmid):
                pmid = contents.get_pmid(i)
                metric = self._metrics.get(pmid)
                if metric is None:
                    continue
                taken.add(pmid)
                if contents.get_numval(i) >= 0 and not (skip and metric.name in sample):
                    sample.put(metric.name, self._values(contents, i, metric), when)
        finally:
            self._context.pmFreeResult(result)
        return taken

    def _values(self, contents: Any, i: int, metric: Metric) -> Values:
        values: Values = {}
        form, kind, extract = contents.get_valfmt(i), metric.kind, self._context.pmExtractValue
        found = cast(contents.get_vset(i).contents.vlist, _VALUES)  # once, not for each value as get_vlist does
        for j in range(contents.get_numval(i)):
            try:
                one = found[j]
                atom = extract(form, one, kind, kind)
                values[self._name(metric, one.inst) if metric.instances else None] = atom.dref(kind)
            except pmapi.pmErr:
                continue  # it came and went while we asked
        return values

    def _name(self, metric: Metric, number: int) -> str:
        """The name of an instance."""
        names = self._names.setdefault(metric.domain, {})
        if number not in names:
            numbers, found = self._context.pmGetInDom(metric.desc)
            names.update(zip(numbers or (), found or ()))  # None if the last one has gone meanwhile
        return names.get(number) or self._context.pmNameInDom(metric.desc, number)


def _seconds(options: pmapi.pmOptions, name: str) -> Optional[float]:
    """A time of the options: PCP 6 has it as timeval and timespec, PCP 7 as timespec."""
    get = getattr(options, "pmGetOptionHighRes" + name, None) or getattr(options, "pmGetOption" + name)
    value = get()
    return None if value is None else float(value)
