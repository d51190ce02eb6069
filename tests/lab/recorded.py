# SPDX-License-Identifier: GPL-2.0-or-later
"""What a host recorded while something happened to it: a witness that looks at every counter, five times a second."""

import contextlib

import cpmapi
from pcp import pmapi

from . import wait_for

EVERY = 0.2  # seconds
CONFIG = f"log mandatory on {EVERY * 1000:.0f} msec {{ pmcd.agent.status mptcp network.interface.in.bytes }}"
STATUS = "pmcd.agent.status"


class Witness:
    """Records a host until `end`; then `samples` are (time, {metric: {instance: value}}), the oldest first."""

    def __init__(self, host, archive, config=CONFIG):
        self.host, self.archive, self.samples, self.counters = host, archive, [], set()
        self._stack = contextlib.ExitStack()
        self.process = self._stack.enter_context(host.pmlogger(config, archive, interval=f"{EVERY}sec"))

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self._stack.close()

    def records(self):
        """How many bytes there are so far, and that pmlogger lives."""
        assert self.process.poll() is None, f"pmlogger has ended: {self.log}"
        return sum(path.stat().st_size for path in self.archive.parent.glob(self.archive.name + ".[0-9]*"))

    @property
    def log(self):
        """What pmlogger says."""
        return (self.host.work / f"pmlogger-{self.archive.name}.log").read_text(encoding="utf-8", errors="replace")

    def wait(self, times=3, timeout=20):
        """Until so many more records are in the archive: so long what is now the case is recorded."""
        for _ in range(times):
            size = self.records()
            wait_for(lambda size=size: self.records() > size, timeout, interval=0.05,
                     message=lambda: f"pmlogger records nothing: {self.log}")

    def end(self):
        """No more is recorded; read what was."""
        self.wait(1)
        self._stack.close()
        context = pmapi.pmContext(cpmapi.PM_CONTEXT_ARCHIVE, str(self.archive))
        names = []
        for root in ("mptcp", STATUS, "network.interface"):
            context.pmTraversePMNS(root, names.append)
        pmids = context.pmLookupName(names)
        descs = {pmid: (name, context.pmLookupDesc(pmid)) for name, pmid in zip(names, pmids)}
        self.counters = {name for name, desc in descs.values()
                         if desc.contents.sem == cpmapi.PM_SEM_COUNTER and name.startswith("mptcp.")}
        with contextlib.suppress(pmapi.pmErr):  # PM_ERR_EOL
            while True:
                self._take(context, context.pmFetchArchive(), descs)

    def _take(self, context, result, descs):
        found, values = result.contents, {}
        for place in range(found.numpmid):
            if found.get_pmid(place) not in descs:
                continue
            name, desc = descs[found.get_pmid(place)]
            kind = desc.contents.type
            single = desc.contents.indom == cpmapi.PM_INDOM_NULL
            values[name] = {
                None if single else context.pmNameInDom(desc, found.get_inst(place, i)):
                context.pmExtractValue(found.get_valfmt(place), found.get_vlist(place, i), kind, kind).dref(kind)
                for i in range(max(0, found.get_numval(place)))}
        self.samples.append((float(found.timestamp), values))
        context.pmFreeResult(result)

    # What it says.

    def series(self, metric, instance=None):
        """[(time, value)] of those records that have one."""
        return [(when, values[metric][instance]) for when, values in self.samples
                if instance in values.get(metric, {})]

    def missing(self, metric, instance=None):
        """How many records between the first and the last that have a value of it lack it."""
        told = [instance in values[metric] for _, values in self.samples if metric in values]
        return told[told.index(True):len(told) - told[::-1].index(True)].count(False)

    def growth(self, metric, instance=None):
        """From the first to the last."""
        told = self.series(metric, instance)
        return told[-1][1] - told[0][1]

    def pause(self):
        """The longest time between two records."""
        times = [when for when, values in self.samples if values]
        return max(new - old for old, new in zip(times, times[1:]))

    def lives(self):
        """The records by the lives of the agent: pmlogger puts a mark, a record of nothing, between them.

        No client then takes the one for the continuation of the other.
        """
        found = [[]]
        for _, values in self.samples:
            if not values:
                found.append([])
            else:
                found[-1].append(values)
        return [life for life in found if life]

    def check(self, lives=1, faultless=True):
        """It lived as often as expected, no counter ever fell in a life, and pmcd found no fault with it."""
        assert len(self.samples) > 5 and len(self.counters) > 80, (len(self.samples), len(self.counters))
        for life in self.lives():
            last = {}
            for values in life:
                now = {(metric, instance): value for metric in self.counters & values.keys()
                       for instance, value in values[metric].items()}
                fallen = {key: (last[key], now[key]) for key in last.keys() & now.keys() if now[key] < last[key]}
                assert not fallen, f"fell from, to: {fallen}"
                last.update(now)
        states = {value for _, value in self.series(STATUS, "mptcp")}
        print(f"{len(self.samples)} records, {len(self.counters)} counters never fell, {len(self.lives())} lives, "
              f"status {states}, at most {self.pause():.1f} s between two records")
        assert len(self.lives()) == lives and (states == {0}) == faultless
