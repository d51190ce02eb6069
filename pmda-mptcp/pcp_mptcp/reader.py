# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the values of metrics from a host or an archive, with PCP's client API (PMAPI(3)).

A moment of an archive is what the latest records up to it say, metric by
metric, as pmlogger may record groups of metrics at different intervals.
Nothing is interpolated, for a connection that has ended must not live on
until the end of the archive.
"""

from ctypes import POINTER, c_uint, cast
from typing import Any, Container, Dict, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple

import cpmapi
from pcp import pmapi

from .sample import Sample, Values

#: How far from a moment of an archive its records may lie, in seconds.
REACH = 600.0

_VALUES = POINTER(pmapi.pmValue)


class Silent(Exception):
    """There is an agent, and it does not answer."""


class Metric(NamedTuple):
    """A metric as the source describes it."""

    name: str
    kind: int  # PM_TYPE_*
    instances: bool
    domain: int  # of instances
    discrete: bool
    counter: bool
    desc: Any


class Reader:
    """Values of the chosen metrics from a context of PMAPI."""

    def __init__(self, context: pmapi.pmContext):
        self._context = context
        self._metrics: Dict[int, Metric] = {}
        self._names: Dict[int, Dict[int, str]] = {}  # of instances, by domain
        self._chosen: Set[str] = set()  # names, also of those that the source lacks

    def __bool__(self) -> bool:
        return bool(self._metrics)

    def choose(self, names: Iterable[str]) -> None:
        """Have these in all samples from now on; those that the source lacks have no values."""
        for name in names:
            if name in self._chosen:
                continue
            try:
                (pmid,) = self._context.pmLookupName([name])
                desc = self._context.pmLookupDesc(pmid)
            except pmapi.pmErr as error:
                if error.args[0] in (cpmapi.PM_ERR_NOAGENT, cpmapi.PM_ERR_AGAIN):
                    raise Silent from None
                self._chosen.add(name)
                continue
            self._chosen.add(name)
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

    def fetch(self, counters: bool = False) -> Sample:
        """Values of now from a live host, or of counters alone; Silent without any, pmErr when pmcd is gone."""
        pmids = [pmid for pmid, metric in self._metrics.items() if metric.counter or not counters]
        try:
            result = self._fetch(pmids)
        except pmapi.pmErr:  # pmcd was restarted
            self._context.pmReconnectContext()
            result = self._fetch(pmids)
        sample = Sample(0.0)
        self._take(result, sample)
        if not sample:
            raise Silent
        return sample

    def at(self, moment: float) -> Sample:
        """Values of a moment of the archive, as the last records up to it say."""
        sample = self._collect(cpmapi.PM_MODE_BACK, moment, moment - REACH)
        if sample:
            self._settings(sample, moment)
        return sample

    def since(self, moment: float, until: float) -> Optional[Sample]:
        """Values that the first records from a moment of the archive on say, none of them later than another one."""
        return self._collect(cpmapi.PM_MODE_FORW, moment, min(until, moment + REACH)) or None

    def before(self, now: Sample) -> Optional[Sample]:
        """Of each metric in a sample the values of the record before, so that rates are those of its last interval."""
        return self._collect(cpmapi.PM_MODE_BACK, now.time, now.time - 2 * REACH, now) or None

    def records(self, start: float, finish: float) -> Iterator[Optional[Sample]]:
        """All that was recorded in a time window, record by record: what is known then, None for a gap.

        It is the same Sample each time, with the new values put in.
        """
        sample = self.at(start) or Sample(0.0)
        for result, when in self._walk(cpmapi.PM_MODE_FORW, start):
            if when > finish:
                self._context.pmFreeResult(result)
                return
            if not result.contents.numpmid:
                self._context.pmFreeResult(result)
                sample = Sample(0.0)
                yield None
            elif self._take(result, sample):
                yield sample

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

    def _collect(self, mode: int, moment: float, until: float, than: Optional[Sample] = None) -> Sample:
        """For each metric the values of the first record on this way that has it, no farther than a gap.

        `than`: of a record that is older than that of this sample.
        """
        sample = Sample(0.0)
        missing = {pmid for pmid, metric in self._metrics.items() if not metric.discrete}
        for result, when in self._walk(mode, moment):
            gap = not result.contents.numpmid  # pmlogger's mark: what lies behind it belongs to another run
            beyond = when < until if mode == cpmapi.PM_MODE_BACK else when > until
            if gap and (sample or than) or beyond:
                self._context.pmFreeResult(result)
                break
            missing -= self._take(result, sample, {name for name in self._chosen if name in sample or (
                than is not None and when >= (than.when(name) or 0.0))})
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

    def _take(self, result: Any, sample: Sample, skip: Container[str] = (), when: Optional[float] = None) -> Set[int]:
        """Put values into a sample, except those of metrics to `skip`; returns which others are in the result."""
        contents = result.contents
        when = float(contents.timestamp) if when is None else when
        taken = set()
        self._names.clear()  # an agent that was restarted gives its ids to others
        try:
            for i in range(contents.numpmid):
                pmid = contents.get_pmid(i)
                metric = self._metrics.get(pmid)
                if metric is None or metric.name in skip:
                    continue
                taken.add(pmid)
                if contents.get_numval(i) >= 0:
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
