# SPDX-License-Identifier: GPL-2.0-or-later
"""Clients that ask an agent every second for as long as a block runs, and what came of it."""

import contextlib
import json
import statistics
import subprocess
import threading
import time
from dataclasses import dataclass, field

import cpmapi
from pcp import pmapi

from tests.lab.services import ServiceError
from .common import say, worker

PERIOD = 1.0  # seconds
GROUPS_OF_MANY = "mptcp.connection.", "mptcp.subflow."  # too many values for Python to look at each
GAP = 2.5  # seconds between two records that lack one in between


@dataclass
class Report:
    """What a client saw: seconds of each answer, and what was wrong, by kind."""

    name: str
    times: list = field(default_factory=list)
    wrong: dict = field(default_factory=dict)

    def count(self, what, number=1):
        """Something was wrong."""
        self.wrong[what] = self.wrong.get(what, 0) + number

    def judge(self, verdict, tail):
        """Print it; nothing may be wrong, and 99 % of the answers come in time."""
        text = f"{self.name}: {len(self.times)} answers"
        if any(self.times):
            cuts = statistics.quantiles(self.times, n=1000)
            text += ", ms: " + ", ".join(f"{label} {value * 1e3:.1f}" for label, value in (
                ("median", cuts[499]), ("95 %", cuts[949]), ("99 %", cuts[989]), ("longest", max(self.times))))
            verdict.most(f"seconds of 99 % of the answers to {self.name}", cuts[989], tail)
        say(text)
        verdict.exactly(f"what was wrong for {self.name}", self.wrong, {})
        verdict.exactly(f"any answers to {self.name}", len(self.times) > 1, True)


@contextlib.contextmanager
def poller(host):
    """A program of PMAPI that fetches all of mptcp."""
    report = Report("pmFetch of everything")
    with worker(host, "poll", host.pcp_socket) as process:
        yield report
        told = json.loads(process.communicate(timeout=60)[0])
    report.times, report.wrong = told["times"], told["wrong"]


def poll(spec, asked_to_stop):
    """The program itself: prints a report in JSON when told to stop."""
    context = pmapi.pmContext(cpmapi.PM_CONTEXT_HOST, f"unix:{spec}")
    names = []
    context.pmTraversePMNS("mptcp", names.append)
    pmids = context.pmLookupName(names)
    descs = [context.pmLookupDesc(pmid).contents for pmid in pmids]
    watched = [index for index, name in enumerate(names) if not name.startswith(GROUPS_OF_MANY)]
    counters = [index for index in watched if descs[index].sem == cpmapi.PM_SEM_COUNTER]
    report, last, known = Report("poll"), {}, None
    print("ready", flush=True)
    due = time.monotonic()
    while not asked_to_stop(max(0.0, due - time.monotonic())):
        due += PERIOD
        start = time.monotonic()
        result = context.pmFetch(pmids)
        report.times.append(time.monotonic() - start)
        try:
            found = result.contents
            usable = {index for index in watched if found.get_numval(index) >= 0}
            known = usable if known is None else known  # the others are not in this kernel
            for index in known - usable:
                report.count(f"{names[index]} had no value")
            for index in counters:
                for inst, value in _values(context, found, index, descs[index].type):
                    if value < last.get((index, inst), 0):
                        report.count(f"{names[index]} went backwards")
                    last[index, inst] = value
        finally:
            context.pmFreeResult(result)
    print(json.dumps({"times": report.times, "wrong": report.wrong}), flush=True)


def _values(context, found, index, kind):
    for number in range(max(0, found.get_numval(index))):
        atom = context.pmExtractValue(found.get_valfmt(index), found.get_vlist(index, number), kind, kind)
        yield found.get_inst(index, number), atom.dref(kind)


@contextlib.contextmanager
def dashboard(proxy, host):
    """What a live dashboard asks pmproxy for."""
    report, stop = Report("pmproxy"), threading.Event()
    names = "mptcp.subflows,mptcp.interface.in.bytes,mptcp.connections,mptcp.subflow.rtt,mptcp.redundancy.connections"
    wanted = len(names.split(","))
    context = proxy.json("/pmapi/context", hostspec=f"unix:{host.pcp_socket}", polltimeout=120)["context"]

    def ask():
        while not stop.wait(PERIOD):
            start = time.monotonic()
            try:
                values = proxy.json("/pmapi/fetch", context=context, names=names)["values"]
            except ServiceError as error:
                report.count(str(error)[:100])
                continue
            report.times.append(time.monotonic() - start)
            if len(values) != wanted:
                report.count("not all metrics")

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield report
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def pmrep(host):
    """pmrep, as people run it; each line must have each value."""
    report = Report("pmrep")
    path = host.work / "pmrep.out"
    with open(path, "w", encoding="utf-8") as out:
        process = host.popen("pmrep", "-h", "unix:", "-t1", "-o", "csv", "-H", "-F", path.with_suffix(".csv"),
                             "mptcp.subflows", "mptcp.interface.out.bytes", "mptcp.connections", "-i", "enp.*",
                             stdout=out, stderr=subprocess.STDOUT)
    try:
        yield report
    finally:
        host.stop(process)
    lines = path.with_suffix(".csv").read_text(encoding="utf-8").splitlines()[1:]  # the first has no rates
    report.times = [0.0] * len(lines)
    for number, line in enumerate(lines, 1):
        if "" in line.split(","):
            report.count(f"line {number} of {len(lines)}: {line}")
    if path.read_text(encoding="utf-8").strip():
        report.count("it complained")


def archived(archive):
    """What pmlogger recorded every second: no record may be missing."""
    report = Report("pmlogger's archive")
    context = pmapi.pmContext(cpmapi.PM_CONTEXT_ARCHIVE, str(archive))
    pmids = context.pmLookupName(["mptcp.agent.samples"])
    previous = None
    while True:
        try:
            result = context.pmFetch(pmids)
        except pmapi.pmErr as error:
            if error.args[0] == cpmapi.PM_ERR_EOL:
                return report
            raise
        stamp, count = float(result.contents.timestamp), result.contents.get_numval(0)
        context.pmFreeResult(result)
        if not count:
            continue  # of what is recorded less often
        report.times.append(0.0)
        if previous is not None and stamp - previous > GAP:
            report.count(f"no record for {stamp - previous:.1f} s")
        previous = stamp
