# SPDX-License-Identifier: GPL-2.0-or-later
"""Real PCP archives out of tables, for tests of what reads them.

    write(path, {0: {"mptcp.connections": 1, "mptcp.subflows": {"eth0": 2}}, 10: GAP, 20: {...}})

Each time (seconds after BEGIN) is one record, as pmlogger writes it: all its
metrics at once, an instance domain without instances included, and errors
such as Error(PM_ERR_APPVERSION) for what a kernel lacks.  GAP is the mark
that a restart of pmlogger leaves.  Types, semantics and units are those of
metrics.golden.

Records are made here and handed to pmiPutResult, as pmiPutValue cannot say
"no instances" and "error".  Its library, libpcp_import, has its own ways:

- an archive is complete only when its pmiLogImport is deleted;
- pmiPutMark stamps the mark 1 ms after the last record and cannot be told a
  time; before the first record it does nothing;
- in one archive, the id of an instance has one name for ever, and a name one
  id, by the first word; what a restarted agent does (ids from 1 again) takes
  two archives and join();
- an archive's instance domain only grows, and is written with the next record
  that has it, the same in versions 2 and 3;
- the time zone is this process's TZ unless set: a zone is needed for tests.
"""

import shutil
import subprocess
from ctypes import POINTER, Structure, c_char, c_int, c_uint, c_uint32, c_uint64, cast, create_string_buffer, pointer
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import cpmapi
from pcp import pmapi, pmi

#: The time 0 of tables: 2026-01-02 03:04:05 UTC.
BEGIN = 1767323045
GAP = None

#: Metrics of other agents that the client asks for, as in metrics.golden.
OTHERS = (
    "network.interface.inet_addr\t60.33.0\tstring\t17\tdiscrete\tnone",
    "kernel.all.uptime\t60.26.0\tu32\t-\tinstant\tnone",
    "pmcd.pid\t2.0.23\tu64\t-\tdiscrete\tnone",
    "pmcd.seqnum\t2.0.24\tu32\t-\tdiscrete\tnone",
)
_TYPES = {"u32": cpmapi.PM_TYPE_U32, "u64": cpmapi.PM_TYPE_U64, "string": cpmapi.PM_TYPE_STRING}
_SEMANTICS = {"counter": cpmapi.PM_SEM_COUNTER, "instant": cpmapi.PM_SEM_INSTANT, "discrete": cpmapi.PM_SEM_DISCRETE}
_UNITS = {
    "none": (0, 0, 0, 0, 0, 0), "count": (0, 0, 1, 0, 0, cpmapi.PM_COUNT_ONE),
    "byte": (1, 0, 0, cpmapi.PM_SPACE_BYTE, 0, 0),
    "byte / sec": (1, -1, 0, cpmapi.PM_SPACE_BYTE, cpmapi.PM_TIME_SEC, 0),
    "microsec": (0, 1, 0, 0, cpmapi.PM_TIME_USEC, 0), "millisec": (0, 1, 0, 0, cpmapi.PM_TIME_MSEC, 0),
}

Table = Dict[float, Optional[Dict[str, Any]]]


class Error(NamedTuple):
    """In the place of a metric's values."""

    code: int


class Metric(NamedTuple):
    """A line of metrics.golden."""

    name: str
    pmid: int
    kind: int
    indom: int
    semantics: int
    units: Tuple[int, ...]


def _metrics() -> Iterator[Metric]:
    golden = Path(__file__).with_name("metrics.golden").read_text(encoding="utf-8").splitlines()
    for line in [*golden, *OTHERS]:
        name, pmid, kind, indom, semantics, units = line.split("\t")
        domain, cluster, item = map(int, pmid.split("."))
        serial = cpmapi.PM_INDOM_NULL if indom == "-" else pmi.pmiLogImport.pmiInDom(domain, int(indom))
        yield Metric(name, pmi.pmiLogImport.pmiID(domain, cluster, item), _TYPES[kind], serial,
                     _SEMANTICS[semantics], _UNITS[units])


METRICS = {metric.name: metric for metric in _metrics()}


def write(path: Any, table: Table, host: str = "client", zone: str = "UTC", version: int = 2) -> str:
    """Make an archive; returns its name for `-a`."""
    log = pmi.pmiLogImport(str(path))
    log.pmiSetVersion(version)
    log.pmiSetHostname(host)
    log.pmiSetTimezone(zone)
    _Writer(log).write(table)
    del log  # completes it
    return str(path)


def join(path: Any, *archives: str) -> str:
    """Archives one after the other as the directory of one, which `-a` takes, too; with a gap between them."""
    folder = Path(path)
    folder.mkdir()
    for number, archive in enumerate(archives):
        for file in Path(archive).parent.glob(Path(archive).name + ".*"):
            shutil.copy(file, folder / f"{number:04}{file.suffix}")
    return str(folder)


def extract(path: Any, *archives: str) -> str:
    """Archives as one, by pmlogextract; without a gap if it takes a record of each for pmlogger's prologue.

    That is one of five metrics, with the same pmcd.pid and pmcd.seqnum.
    """
    subprocess.run(["pmlogextract", *archives, str(path)], check=True, timeout=60)
    return str(path)


class _Writer:
    def __init__(self, log: pmi.pmiLogImport):
        self._log = log
        self._known: Dict[str, Metric] = {}
        self._ids: Dict[int, Dict[str, int]] = {}
        self._memory: List[Any] = []

    def write(self, table: Table) -> None:
        for when, record in sorted(table.items(), key=lambda item: item[0]):
            if record is GAP:
                self._log.pmiPutMark()
            else:
                self._log.put_result(self._result(BEGIN + when, record))
                self._memory.clear()

    def _result(self, when: float, record: Dict[str, Any]) -> Any:
        stamp = type(pmapi.pmResult().timestamp)  # microseconds in PCP 6, nanoseconds in PCP 7
        scale = 1e6 if stamp is pmapi.timeval else 1e9
        sets = [self._set(self._metric(name), values) for name, values in record.items()]

        class Result(Structure):
            _fields_ = [("timestamp", stamp), ("numpmid", c_int), ("vset", POINTER(pmapi.pmValueSet) * len(sets))]

        result = Result(stamp(int(when), round(when % 1 * scale)), len(sets))
        for i, values in enumerate(sets):
            result.vset[i] = cast(pointer(values), POINTER(pmapi.pmValueSet))
        self._memory += [sets, result]
        return pointer(result)

    def _metric(self, name: str) -> Metric:
        metric = METRICS[name]
        if name not in self._known:
            self._known[name] = metric
            self._log.pmiAddMetric(name, metric.pmid, metric.kind, metric.indom, metric.semantics,
                                   self._log.pmiUnits(*metric.units))
        return metric

    def _set(self, metric: Metric, values: Any) -> Structure:
        if metric.indom == cpmapi.PM_INDOM_NULL and not isinstance(values, Error):
            values = {None: values}
        items = [] if isinstance(values, Error) else list(values.items())

        class Set(Structure):
            _fields_ = [("pmid", c_uint), ("numval", c_int), ("valfmt", c_int), ("vlist", pmapi.pmValue * len(items))]

        plain = metric.kind == cpmapi.PM_TYPE_U32
        made = Set(metric.pmid, values.code if isinstance(values, Error) else len(items),
                   cpmapi.PM_VAL_INSITU if plain else cpmapi.PM_VAL_DPTR)
        for i, (instance, value) in enumerate(items):
            made.vlist[i].inst = cpmapi.PM_IN_NULL if instance is None else self._id(metric.indom, instance)
            if plain:
                made.vlist[i].value.lval = c_int(value).value
            else:
                made.vlist[i].value.pval = self._block(metric.kind, value)
        return made

    def _id(self, indom: int, instance: str) -> int:
        ids = self._ids.setdefault(indom, {})
        if instance not in ids:
            ids[instance] = len(ids) + 1
            self._log.pmiAddInstance(indom, instance, ids[instance])
        return ids[instance]

    def _block(self, kind: int, value: Any) -> Any:
        """A pmValueBlock: a word of type and length, and the value."""
        if kind == cpmapi.PM_TYPE_U64:
            octets = bytes(c_uint64(value))
        else:
            octets = (value if isinstance(value, bytes) else value.encode()) + b"\0"
        room = create_string_buffer(bytes(c_uint32(kind << 24 | 4 + len(octets))) + octets)
        self._memory.append(room)
        return cast(cast(room, POINTER(c_char)), POINTER(pmapi.pmValueBlock))
