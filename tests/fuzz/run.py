# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs targets: how long each input takes, what is found, how much memory it costs."""

import gc
import os
import signal
import traceback
from time import perf_counter, thread_time
from typing import Dict, List, NamedTuple, Optional, Tuple

import pytest

from .mutate import Mutator

LIMIT = 1.0  # seconds of CPU for one input
GROWTH = 8 << 20  # bytes that a run may cost, from its tenth part on
SHORT = 0.001  # seconds by the clock that need no second look
_SIGNATURES, _LEAST = 4096, 50


class Finding(NamedTuple):
    """Something wrong, and how to see it again."""

    what: str
    index: int
    data: bytes


class Report(NamedTuple):
    """A run of one target."""

    name: str
    seed: int
    inputs: int
    seconds: float
    accepted: int
    refused: int
    signatures: int
    longest: float  # seconds of CPU for one input
    memory: Tuple[int, int]  # resident, after a tenth of the inputs and at the end
    findings: List[Finding]

    @property
    def wrong(self) -> bool:
        """Is there anything to be mended?"""
        return bool(self.findings) or self.longest > LIMIT or self.memory[1] - self.memory[0] > GROWTH

    def __add__(self, other: "Report") -> "Report":
        """Two runs of one target; of what cannot be summed up, the worst."""
        return Report(self.name, self.seed, *(one + two for one, two in zip(self[2:6], other[2:6])),
                      max(self.signatures, other.signatures), max(self.longest, other.longest),
                      max(self.memory, other.memory, key=lambda pair: pair[1] - pair[0]),
                      self.findings + other.findings)


class Hang(BaseException):
    """One input takes too long; not an Exception, lest somebody catch it."""


def memory() -> int:
    """Resident bytes of this process, without garbage."""
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Watchdog:
    """Raises Hang where one input takes more than LIMIT."""

    def __init__(self):
        self.index = self._seen = -1

    def __enter__(self):
        self._before = signal.signal(signal.SIGVTALRM, self._ring)
        signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT, LIMIT)
        return self

    def __exit__(self, *_):
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, self._before)

    def _ring(self, *_):
        if self.index == self._seen:
            raise Hang(f"more than {LIMIT} s")
        self._seen = self.index


def run(target, count: int, seed: int, seconds: float = float("inf")) -> Report:
    """Feed a target with `count` inputs, or for so long; all of its corpus first, as it is, and some after it."""
    mutator = Mutator(target.corpus(), f"{target.name} {seed}", target.ways, target.body)
    signatures, findings, kinds = set(), [], set()
    accepted = refused = index = 0
    least = len(mutator.corpus) + _LEAST
    longest, begun, start = 0.0, 0, perf_counter()
    with pytest.MonkeyPatch.context() as patch, Watchdog() as dog:
        feed = target.make(patch)
        for index in range(count):
            data = mutator.corpus[index] if index < len(mutator.corpus) else mutator.next()
            dog.index = index
            before = perf_counter()
            try:
                good, bad, signature = feed(data)
                took = perf_counter() - before
                if took > longest:
                    longest = max(longest, took if took < SHORT else _cpu(feed, data))
            except (Exception, Hang) as fault:  # whatever it is, it is a finding
                what = _what(fault)
                if what.splitlines()[-1] not in kinds and len(findings) < 20:
                    kinds.add(what.splitlines()[-1])
                    findings.append(Finding(what, index, data))
                continue
            accepted += bool(good)
            refused += bool(bad)
            if signature not in signatures and len(signatures) < _SIGNATURES:
                signatures.add(signature)
                mutator.keep(data)
            if index == count // 10:
                begun = memory()
            if index > least and perf_counter() - start > seconds:
                break
    end = memory()
    return Report(target.name, seed, index + 1, perf_counter() - start, accepted, refused, len(signatures), longest,
                  (begun or end, end), findings)


def _cpu(feed, data: bytes) -> float:
    """Seconds of CPU, when a busy machine may be why an input took long: fed once more."""
    before = thread_time()
    feed(data)
    return thread_time() - before


def _what(fault: BaseException) -> str:
    """Where it was raised, in short."""
    frames = traceback.extract_tb(fault.__traceback__)[-4:]
    path = " > ".join(f"{os.path.basename(one.filename)}:{one.lineno}" for one in frames)
    return f"{type(fault).__name__}: {str(fault)[:400]}\n    {path}"


def replay(target, data: bytes) -> Optional[str]:
    """Feed one input to a target that has seen its corpus; returns what is wrong."""
    with pytest.MonkeyPatch.context() as patch, Watchdog() as dog:
        feed = target.make(patch)
        for dog.index, one in enumerate([*target.corpus(), data]):
            try:
                feed(one)
            except (Exception, Hang) as fault:
                return _what(fault)
    return None


def shares(targets, messages: int) -> Dict[str, int]:
    """How many inputs each target gets; the slow ones at least a hundredth part."""
    whole = sum(target.share for target in targets)
    return {target.name: max(messages // 100, messages * target.share // whole) for target in targets}


def table(reports) -> str:
    """The reports as text."""
    lines = [f"{'target':<16}{'inputs':>10}{'per s':>8}{'accepted':>10}{'refused':>10}{'shapes':>8}"
             f"{'longest':>10}{'memory begin/end':>18}"]
    for one in reports:
        begin, end = (f"{size / 2**20:.1f}" for size in one.memory)
        lines.append(f"{one.name:<16}{one.inputs:>10}{one.inputs / one.seconds:>8.0f}{one.accepted:>10}"
                     f"{one.refused:>10}{one.signatures:>8}{one.longest * 1e3:>7.1f} ms{begin:>10} / {end} MB")
    whole = sum(one.inputs for one in reports)
    lines.append(f"{'all':<16}{whole:>10}  {sum(one.seconds for one in reports):.0f} s, "
                 f"{sum(len(one.findings) for one in reports)} findings")
    return "\n".join(lines)
