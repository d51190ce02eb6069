# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks at initial subflows while they live.

When the peer aborts a connection, the kernel sets the counters of its initial
subflow to 0 before it tells of the end (mptcp_close_ssk in
net/mptcp/protocol.c): what is not booked by then is lost.  So each is looked
at as soon as it is known, and then at ages that grow by a twentieth.
"""

import heapq
import socket
from collections import deque
from math import inf
from time import monotonic
from typing import Deque, Iterable, List, Set, Tuple

from .flows import Subflow
from .kernel import sock_diag
from .kernel.inet_diag import IPPROTO_MPTCP, MPTCP_INFO, Decoder, Row, info_field
from .ledger import Ledger
from .topology import Topology

SOON, GROWTH = 0.004, 0.05  # seconds to the first look, and the least between two; wait for the next, by the age
STEADY, STEADY_RATE = 1.0, 2000  # longest wait in seconds, unless there are so many that this many a second are passed
LOOKS, FIRST_LOOKS = 32, 512  # most at once; of those that were never met more, or their zeroed ends match nothing
GRACE = 2.0  # seconds after which a socket that is no longer there is given up

_received = info_field(MPTCP_INFO, "bytes_received")


class Watch:
    """Initial subflows, and when to look at them.  An entry counts as long as its time is the subflow's `due`."""

    def __init__(self, ledger: Ledger, topology: Topology):
        self._ledger, self._topology = ledger, topology
        self._subflow_decoder, self._connection_decoder = Decoder(socket.IPPROTO_TCP), Decoder(IPPROTO_MPTCP)
        self._new: Deque[Tuple[float, Subflow]] = deque()  # first looks: they come due in this order
        self._queue: List[Tuple[float, int, Subflow]] = []  # a heap of all others; the number breaks ties
        self._number = 0
        self._marked: Set[Subflow] = set()  # to be looked at with the next turn, once
        self.looks = 0

    @property
    def malformed(self) -> int:
        """Messages that could not be read."""
        return self._subflow_decoder.malformed + self._connection_decoder.malformed

    @property
    def due(self) -> float:
        """When to look next."""
        return min(self._new[0][0] if self._new else inf, self._queue[0][0] if self._queue else inf)

    def add(self, flows: Iterable[Subflow]) -> None:
        """Look at the initial ones of these from now on."""
        now = monotonic()
        for flow in flows:
            if not flow.initial or flow.ended:
                continue
            if flow.cookie:  # met in a dump: of any age, and many, so spread them
                flow.born = now - STEADY / GROWTH
                self._push(now + self._longest() * (self._number * 0.618 % 1), flow)
            else:
                flow.born, flow.due = now, now + SOON
                self._new.append((flow.due, flow))

    def hurry(self, flow: Subflow) -> None:
        """Look at it with the next turn."""
        if flow.initial and not flow.missing:
            self._push(0.0, flow)

    def mark(self, flow: Subflow) -> None:
        """It is, or is no longer, marked backup: what it carried so far, it carried as before."""
        self._marked.add(flow)

    def _push(self, when: float, flow: Subflow) -> None:
        self._number += 1
        flow.due = when
        heapq.heappush(self._queue, (when, self._number, flow))

    def _longest(self) -> float:
        return max(STEADY, len(self._queue) / STEADY_RATE)

    def look(self, now: float) -> None:
        """Look at those that are due.  Raises OSError and Malformed, after which they are still due (but for marks)."""
        marked, self._marked = {flow for flow in self._marked if not flow.ended}, set()
        if marked:
            self._look_up(marked)
        flows = self._due(now)
        if not flows:
            return
        for flow in flows:
            wait = min(self._longest(), max(SOON, GROWTH * (now - flow.born)))
            self._push((now + wait) // (wait / 8) * (wait / 8), flow)  # so that many are looked at together
        for flow in flows - self._look_up(flows):
            self._miss(flow, now)

    def _due(self, now: float) -> Set[Subflow]:
        flows: Set[Subflow] = set()
        while self._new and self._new[0][0] <= now and len(flows) < FIRST_LOOKS:
            when, flow = self._new.popleft()
            if when == flow.due and not flow.ended:
                flows.add(flow)
        most = len(flows) + LOOKS
        while self._queue and self._queue[0][0] <= now and len(flows) < most:
            when, _, flow = heapq.heappop(self._queue)
            if when != flow.due or flow.ended:
                continue
            if flow.missing:
                self._ledger.give_up(flow)
            else:
                flows.add(flow)
        return flows

    def _look_up(self, flows: Set[Subflow]) -> Set[Subflow]:
        """Book what these carried so far; returns those that are there."""
        self.looks += len(flows)
        found = set()
        for decoded in self._subflow_decoder.decode(sock_diag.look_up(flow.request for flow in flows)):
            flow = self._ledger.recognise(decoded)
            if flow:
                found.add(flow)
                self._ledger.book(flow, decoded[0])
        return found

    def _miss(self, flow: Subflow, now: float) -> None:
        """It is not there, or (one that only events told of) bound to its device."""
        device = self._topology.egress([flow.route])[0] if not flow.cookie else None
        bound = flow.identity[:-4] + (device or 0).to_bytes(4, "little")
        if device and flow.identity != bound:
            flow.identity = bound
            self._push(now, flow)
            return
        flow.missing = True
        self._push(now + GRACE, flow)  # its end may be told any moment
        if flow.cookie:
            self._mend(flow)

    def _mend(self, flow: Subflow) -> None:
        """Book what an initial subflow received after the last look at it, when its connection goes on.

        That is at least what the connection received less what its other
        subflows did; asked for in this order, it is never too much.
        """
        connection = flow.connection
        others = {one for one in connection.flows if one is not flow}
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
