# SPDX-License-Identifier: GPL-2.0-or-later
"""The one thread: hears of subflows as they come and go, between samples and when nobody asks for any.

Three things make the ledger right to the byte:

- Events of the path manager tell which sockets are subflows.
- The broadcast of a socket's end has all that it carried.
- Initial subflows, whose end may come without, are looked at (see watch.py).

Without events, samples tell which sockets are subflows, and with the
broadcasts alone each of them is still booked to its end.
"""

import select
import threading
import traceback
from collections import Counter
from time import monotonic, sleep, thread_time
from typing import Callable, Optional

from .kernel import inet_diag, netlink, pm_events, sock_diag
from .kernel.inet_diag import Decoder
from .kernel.layouts import Decoder as EventDecoder
from .ledger import Ledger
from .source import FAULTS
from .topology import Topology
from .watch import Watch

# Seconds from one turn to the next: when there is something to do at least so
# many, and 20 times what the last turn took, but at most so many; and without
# any event so many.
LEAST, REST, MOST, IDLE = 0.004, 20, 0.02, 0.1
RECONCILE, AFTER_OVERRUN, SPARE = 300.0, 5.0, 1.0  # seconds: usual, second round after a loss, least between two
MOST_REASON = 0xFF  # RFC 8684 has one byte for it
MOST_ENDS, MOST_EVENTS = 10_000, 1_000_000  # taken at once; fewer events could leave out those of the ends


class Listener(threading.Thread):
    """Feeds the ledger.  All that it shares with samples is touched under `lock` only."""

    def __init__(self, ledger: Ledger, topology: Topology, lock: "threading.RLock", reconcile: Callable[[bool], None],
                 log: Callable[[str], None]):
        super().__init__(name="listener", daemon=True)
        self._ledger, self._topology, self._lock = ledger, topology, lock
        self._reconcile, self._log = reconcile, log
        self._events: Optional[netlink.Subscription] = None
        self._ends: Optional[netlink.Subscription] = None
        self._event_decoder: Optional[EventDecoder] = None
        self._end_decoder = Decoder(inet_diag.CLOSED)
        self.watch = Watch(ledger, topology)
        self._seen_overruns = 0
        self._reconciled = monotonic()
        self._due = self._reconciled + RECONCILE
        self._stopped = False
        self._complaint = ""
        self.counts: Counter[int] = Counter()  # events by their kind
        self.reasons: Counter[int] = Counter()  # of subflows that were closed
        self.errors: Counter[int] = Counter()
        self.cpu = 0.0  # seconds
        self.rounds = self.faults = 0

    # What it can do here.

    def open(self, size: int) -> None:
        """Subscribe; without some of it, say so and go on with what there is."""
        try:
            self._ends = sock_diag.listen(size)
        except OSError as error:
            self._log(f"ends of sockets: {error}; bytes after the last sample of a subflow are not seen")
        try:
            self._events, self._event_decoder = pm_events.listen(size)
        except FAULTS as error:
            self._log(f"path-manager events: {error}; subflows are only found by samples")
        self._ledger.watch = self.watch.add

    @property
    def has_events(self) -> bool:
        """Does the path manager tell of its doings?"""
        return self._events is not None

    @property
    def has_ends(self) -> bool:
        """Does the kernel tell of the end of sockets?"""
        return self._ends is not None

    @property
    def mode(self) -> str:
        """What bytes come from: `events`, `ends` or `samples`."""
        return "samples" if not self.has_ends else "events" if self.has_events else "ends"

    @property
    def complete(self) -> bool:
        """Are all subflows known without a dump?"""
        return self.has_events and self.has_ends and self.overruns == self._seen_overruns

    @property
    def overruns(self) -> int:
        """How often a receive buffer ran over."""
        return sum(one.overruns for one in (self._events, self._ends) if one)

    @property
    def events_told(self) -> Optional[int]:
        """Events that came; None when none can."""
        return self._events.messages if self._events else None

    @property
    def ends_told(self) -> Optional[int]:
        """Ends of sockets that came; None when none can."""
        return self._ends.messages if self._ends else None

    @property
    def malformed(self) -> int:
        """Messages that could not be read."""
        readers = (self._event_decoder, self._end_decoder, self.watch)
        return sum(reader.malformed for reader in readers if reader)

    @property
    def lookups(self) -> int:
        """Single sockets that were looked at."""
        return self.watch.looks

    # The thread.

    def stop(self) -> None:
        """End the thread with its next tick."""
        self._stopped = True

    def run(self) -> None:
        """Tick until stopped.  No fault ends this: it is logged and counted, and the next tick comes."""
        while not self._stopped:
            start = self.cpu
            try:
                self._wait()
                with self._lock:
                    self.tick()
            except FAULTS as fault:
                self._complain(f"{type(fault).__name__}: {fault}")
            except Exception:  # pylint: disable=broad-except
                # The thread must not die unheard: say what happened, and look anew at everything.
                self._due = monotonic() + SPARE
                self._complain(traceback.format_exc())
            self.cpu = thread_time()
            sleep(min(MOST, max(LEAST, REST * (self.cpu - start))))

    def _complain(self, text: str) -> None:
        self.faults += 1
        if text != self._complaint:
            self._complaint = text
            self._log(f"listener: {text}")

    def _wait(self) -> None:
        wait = min(IDLE, max(0.0, self.watch.due - monotonic()))
        if self._events:
            select.select([self._events], [], [], wait)
        else:
            sleep(wait)

    def tick(self) -> None:
        """One turn, under the lock."""
        self.drain()
        now = monotonic()
        self.watch.look(now)
        self._topology.refresh()
        if now >= self._due:
            self._due = now + RECONCILE
            self._round(whole=True)
        elif self._topology.rerouted and len(self._ledger) and now >= self._reconciled + SPARE:
            self._round(whole=False)  # what was carried so far went the old way

    def _round(self, whole: bool) -> None:
        self.rounds += 1
        self._reconciled = monotonic()  # also where it fails: not again at once
        self._reconcile(whole)

    def reconciled(self) -> None:
        """A round of all sockets was just made."""
        self._reconciled = monotonic()
        self._due = max(self._due, self._reconciled + RECONCILE)

    def drain(self) -> None:
        """Book what was told so far, under the lock.

        Events are sent before the end of a socket is: so the ends that have
        come are taken first, and booked when all events are known.
        """
        ends = list(self._ends.drain(MOST_ENDS)) if self._ends else []
        if self._events and self._event_decoder:
            for event, _, _, _ in self._event_decoder.decode(self._events.drain(MOST_EVENTS)):
                self._hear(event)
            self._ledger.settle()
        for decoded in self._end_decoder.decode(ends):
            self._ledger.close(decoded)
        if self.overruns != self._seen_overruns:
            if not self._seen_overruns:
                self._log("listener: a receive buffer ran over, messages are lost; mptcp.agent.overruns counts it")
            # At once for what was opened, and once more: what is gone is known by two rounds without it.
            overruns = self.overruns
            self._ledger.doubt()
            self._round(whole=True)
            self._seen_overruns = overruns
            self._due = monotonic() + AFTER_OVERRUN

    def _hear(self, event: pm_events.Event) -> None:
        self.counts[event.kind] += 1
        if event.kind in (pm_events.CREATED, pm_events.SUB_ESTABLISHED) and event.identity:
            self._ledger.open(event)
        elif event.kind == pm_events.SUB_CLOSED:
            if event.reason is not None and event.reason <= MOST_REASON:
                self.reasons[event.reason] += 1
            if event.error is not None:
                self.errors[event.error] += 1
            flow = self._ledger.of_event(event)
            if flow:
                self.watch.hurry(flow)
        elif event.kind == pm_events.SUB_PRIORITY:
            flow = self._ledger.of_event(event)
            if flow:
                self.watch.mark(flow)
