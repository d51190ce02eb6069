# SPDX-License-Identifier: GPL-2.0-or-later
"""The one thread: hears of subflows as they come and go, between samples and when nobody asks for any.

Three things make the ledger right to the byte:

- Events of the path manager tell which sockets are subflows.
- The broadcast of a socket's end has all that it carried.
- Except for an initial subflow that the peer aborts: the kernel sets its
  counters to 0 before it says so (mptcp_close_ssk in net/mptcp/protocol.c).
  So these are looked at while they live, at ages that grow by a twentieth.

Without events, samples tell which sockets are subflows, and with the
broadcasts alone each of them is still booked to its end.
"""

import heapq
import select
import threading
import traceback
from collections import Counter
from time import monotonic, sleep, thread_time
from typing import Callable, List, Optional, Set, Tuple

from .flows import Subflow
from .kernel import inet_diag, netlink, pm_events, sock_diag
from .kernel.inet_diag import IPPROTO_MPTCP, MPTCP_INFO, Decoder, Row, info_field
from .ledger import Ledger
from .source import FAULTS
from .topology import Topology

TICK, BRISK = 0.02, 0.004  # seconds from one turn to the next while there is something to do: most, and least
REST = 20  # times what the last turn took, between these two
IDLE = 0.1  # and without any event, this often
FIRST_LOOK, GROWTH = BRISK, 0.05  # at an initial subflow: its age then, and the wait for the next by its age
STEADY, STEADY_RATE = 1.0, 2000  # longest wait in seconds, unless there are so many that this many a second are passed
LOOKUPS = 64  # most in one tick: some 0.3 ms
GRACE = 2.0  # seconds after which a socket that is no longer there is given up
RECONCILE, AFTER_OVERRUN, SPARE = 300.0, 5.0, 1.0  # seconds: usual, second round after a loss, least between two
MOST_ENDS, MOST_EVENTS = 10_000, 1_000_000  # taken at once; fewer events could leave out those of the ends

_received = info_field(MPTCP_INFO, "bytes_received")


class Listener(threading.Thread):
    """Feeds the ledger.  All that it shares with samples is touched under `lock` only."""

    def __init__(self, ledger: Ledger, topology: Topology, lock: "threading.RLock", reconcile: Callable[[bool], None],
                 log: Callable[[str], None]):
        super().__init__(name="listener", daemon=True)
        self._ledger, self._topology, self._lock = ledger, topology, lock
        self._reconcile, self._log = reconcile, log
        self._events: Optional[netlink.Subscription] = None
        self._ends: Optional[netlink.Subscription] = None
        self._event_decoder: Optional[pm_events.layouts.Decoder] = None
        self._end_decoder = Decoder(inet_diag.CLOSED)
        self._subflow_decoder, self._connection_decoder = Decoder(sock_diag.socket.IPPROTO_TCP), Decoder(IPPROTO_MPTCP)
        self._watched: List[Tuple[float, int, Subflow]] = []  # a heap: when to look, a number, at what
        self._number = 0
        self._seen_overruns = 0
        self._reconciled = monotonic()
        self._due = self._reconciled + RECONCILE
        self._stopped = False
        self._complaint = ""
        self.counts: Counter[int] = Counter()  # events by their kind
        self.reasons: Counter[int] = Counter()  # of subflows that were closed
        self.errors: Counter[int] = Counter()
        self.cpu = 0.0  # seconds
        self.lookups = self.rounds = self.faults = 0

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
        self._ledger.watch = self.watch

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
        decoders = (self._event_decoder, self._end_decoder, self._subflow_decoder, self._connection_decoder)
        return sum(decoder.malformed for decoder in decoders if decoder)

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
            sleep(min(TICK, max(BRISK, REST * (self.cpu - start))))

    def _complain(self, text: str) -> None:
        self.faults += 1
        if text != self._complaint:
            self._complaint = text
            self._log(f"listener: {text}")

    def _wait(self) -> None:
        wait = min(IDLE, max(0.0, self._watched[0][0] - monotonic())) if self._watched else IDLE
        if self._events:
            select.select([self._events], [], [], wait)
        else:
            sleep(wait)

    def tick(self) -> None:
        """One turn, under the lock."""
        self.drain()
        now = monotonic()
        self._look(now)
        self._topology.refresh()
        if now >= self._due:
            self._due = now + RECONCILE
            self._round(whole=True)
        elif self._topology.rerouted and len(self._ledger) and now >= self._reconciled + SPARE:
            self._round(whole=False)  # what was carried so far went the old way

    def _round(self, whole: bool) -> None:
        self.rounds += 1
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
            for event in pm_events.decode(self._event_decoder, self._events.drain(MOST_EVENTS)):
                self._hear(event)
            self._ledger.settle()
        for decoded in self._end_decoder.decode(ends):
            self._ledger.close(decoded)
        if self.overruns != self._seen_overruns:
            if not self._seen_overruns:
                self._log("listener: a receive buffer ran over, messages are lost; mptcp.agent.overruns counts it")
            now = monotonic()
            # At once for what was opened, and once more: what is gone is known by two rounds without it.
            self._due = now + AFTER_OVERRUN
            self._seen_overruns = self.overruns
            self._round(whole=True)

    def _hear(self, event: pm_events.Event) -> None:
        self.counts[event.kind] += 1
        if event.kind in (pm_events.CREATED, pm_events.SUB_ESTABLISHED) and event.identity:
            self._ledger.open(event)
        elif event.kind == pm_events.SUB_CLOSED:
            if event.reason is not None:
                self.reasons[event.reason] += 1
            if event.error is not None:
                self.errors[event.error] += 1
            flow = self._ledger.of_event(event)
            if flow and flow.initial:
                self._push(0.0, flow)

    # Looking at initial subflows.

    def watch(self, flows: List[Subflow]) -> None:
        """Look at the initial ones of these from now on."""
        now = monotonic()
        for flow in flows:
            if flow.initial and not flow.ended:
                flow.born = now
                # Those that a dump has found are of any age, and many: spread them.
                spread = self._longest() * (self._number * 0.618 % 1) if flow.cookie else FIRST_LOOK
                self._push(now + spread, flow)

    def _longest(self) -> float:
        return max(STEADY, len(self._watched) / STEADY_RATE)

    def _push(self, when: float, flow: Subflow) -> None:
        self._number += 1
        flow.due = when
        heapq.heappush(self._watched, (when, self._number, flow))

    def _look(self, now: float) -> None:
        flows: Set[Subflow] = set()
        while self._watched and self._watched[0][0] <= now and len(flows) < LOOKUPS:
            when, _, flow = heapq.heappop(self._watched)
            if when != flow.due:
                continue  # it was put in anew
            if flow.missing:
                self._ledger.give_up(flow)
            elif not flow.ended:
                flows.add(flow)
        if not flows:
            return
        gone = flows - self._look_up(flows)
        longest = self._longest()
        for flow in flows - gone:
            wait = min(longest, max(BRISK, GROWTH * (now - flow.born)))
            self._push((now + wait) // (wait / 8) * (wait / 8), flow)  # so that many are looked at together
        for flow in gone:
            self._miss(flow, now)

    def _look_up(self, flows: Set[Subflow]) -> Set[Subflow]:
        """Book what these carried so far; returns those that are there."""
        self.lookups += len(flows)
        found = set()
        for decoded in self._subflow_decoder.decode(sock_diag.look_up(flow.request for flow in flows)):
            flow = self._ledger.recognise(decoded)
            if flow:
                found.add(flow)
                self._ledger.account(flow, *decoded[0][4:7])
        return found

    def _miss(self, flow: Subflow, now: float) -> None:
        """It is not there, or (one that events told of) bound to its device."""
        device = self._topology.egress([flow.route])[0] if not flow.cookie else None
        bound = flow.identity[:-4] + (device or 0).to_bytes(4, "little")
        if device and flow.identity != bound:
            flow.identity = bound
            self._push(now, flow)
            return
        flow.missing = True
        if flow.cookie:
            self._mend(flow)
        self._push(now + GRACE, flow)  # its end may be told any moment

    def _mend(self, flow: Subflow) -> None:
        """Book what an initial subflow received after the last look at it, when its connection goes on.

        That is at least what the connection received less what its other
        subflows did; asked for in this order, it is never too much.
        """
        connection = flow.connection
        others = {one for one in connection.flows if one is not flow and one.cookie}
        if not connection.whole or not others or any(one.carrier is None for one in connection.flows):
            return
        row, total = Row(), None
        for decoded in self._connection_decoder.decode(sock_diag.look_up_connections([connection.token])):
            _, row.data, row.offset, row.layout = decoded
            total = _received(row)
        if total is None or len(self._look_up(others)) < len(others):
            return
        missing = total - connection.received
        if missing > 0:
            self._ledger.account(flow, flow.received + missing, flow.sent, flow.retrans)
