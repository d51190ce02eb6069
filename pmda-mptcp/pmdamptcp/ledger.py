# SPDX-License-Identifier: GPL-2.0-or-later
"""What outlives a sample: who is who, and how many bytes each interface carried.

Sockets are known by their cookie, which the kernel never gives twice.  An
interface's totals only ever grow: they are fed by the growth of each
subflow's own counters from sample to sample, so a subflow that ends keeps
what was seen of it.  What it carried after its last sample is not seen.
"""

from collections import Counter
from typing import Callable, Dict, Iterable, Iterator, List, Tuple, TypeVar

from .flows import MANY, Connection, Path, Subflow
from .kernel import sock_diag
from .kernel.sock_diag import ESTABLISHED, Decoded

#: Retransmission backoff from which a subflow counts as stalled: some two
#: seconds without an answer at a usual round-trip time.
STALLED_BACKOFF = 3
_LAST_ID = 2**31 - 1


def _ids() -> Iterator[int]:
    """Instance ids: positive 31 bits, handed out once (they wrap after two thousand million)."""
    while True:
        yield from range(1, _LAST_ID)


Known = TypeVar("Known", Connection, Subflow)

#: Gives subflows their path (and `routed`); asked for new ones, and for all after a change of routes.
Router = Callable[[List[Subflow]], None]


class Ledger:
    """Keeps connections, subflows and paths over the samples."""

    def __init__(self, router: Router):
        self._router = router
        self._connections: Dict[int, Connection] = {}
        self._subflows: Dict[int, Subflow] = {}
        self._sample = 0
        self._first = True  # no sample has come to its end
        self._connection_ids, self._subflow_ids = _ids(), _ids()
        self.connections: List[Connection] = []  # those of the last sample, the oldest first
        self.subflows: List[Subflow] = []
        self.established = self.fallen_back = 0  # connections that speak MPTCP, and that are TCP after all
        self.redundancy: Counter[int] = Counter()  # live subflows -> how many of these connections have so many
        self.routes: Counter[bytes] = Counter()  # how many subflows take each, and how many of them are not live
        self.dead_routes: Counter[bytes] = Counter()

    def update(self, connections: Iterable[Decoded], subflows: Iterable[Decoded], paths: Iterable[Path],
               rerouted: bool) -> None:
        """Take in one sample: the decoded dumps of both protocols.

        `subflows` is not touched when there is no connection that has any;
        `paths` are the interfaces whose gauges are filled, `rerouted` tells
        that routes may have changed since the last sample.
        """
        self._sample += 1
        self.dead_routes.clear()
        for path in paths:
            path.clear()
        by_token = self._see_connections(connections)
        if rerouted:
            self._router(list(self._subflows.values()))
        new, seen = self._see_subflows(subflows if by_token else (), by_token)
        for flow in new:
            flow.route = flow.route_key
            self._forget(flow.cookie)  # a socket that was connected anew is another subflow
            self._subflows[flow.cookie] = flow
            self.routes[flow.route] += 1
        self.subflows = self._of_sample(self._subflows, self.subflows, 0 if new else seen)
        if new:
            self._router(new)
        for flow in new:
            self._open(flow)
            self._gauge(flow, flow.values)
        if rerouted:
            for flow in self._subflows.values():
                self._carry(flow)
        self._count()
        self._retire()
        self._first = False

    def _see_connections(self, decoded: Iterable[Decoded]) -> Dict[int, Connection]:
        sample, known, by_token = self._sample, self._connections, {}
        seen = 0
        for (state, cookie, flags, token), data, offset, layout in decoded:
            connection = known.get(cookie)
            if connection is None:
                connection = known[cookie] = Connection(next(self._connection_ids), cookie)
            elif connection.seen != sample:
                seen += 1
            connection.data, connection.offset, connection.layout = data, offset, layout
            connection.seen = sample
            connection.established = state == ESTABLISHED
            connection.fallback = bool(flags & sock_diag.MPTCP_INFO_FLAG_FALLBACK)
            connection.subflows = connection.dead = 0
            connection.path = None
            if not connection.fallback:
                connection.open = sample
                by_token[token] = connection
        self.connections = self._of_sample(known, self.connections, seen)
        return by_token

    def _see_subflows(self, decoded: Iterable[Decoded],
                      by_token: Dict[int, Connection]) -> Tuple[List[Subflow], int]:
        """Returns those that are new, by connection and the initial one first, and how many known ones were seen.

        The flow of a fallen-back connection is plain TCP, so not one of them.
        """
        sample, known, gauge = self._sample, self._subflows, self._gauge
        new: Dict[int, Subflow] = {}
        seen = 0
        for values, data, offset, layout in decoded:
            _, cookie, _, _, received, sent, retrans, token, _ = values
            flow = known.get(cookie)
            if flow is None or flow.token != token or flow.connection.open != sample:
                connection = by_token.get(token)
                if connection is None:
                    continue
                flow = new[cookie] = Subflow(cookie, token, connection)
            elif flow.seen == sample:
                continue  # a dump of a changing table can show a socket twice
            elif received != flow.received or sent != flow.sent:
                self._account(flow, received, sent, retrans)
            flow.data, flow.offset, flow.layout, flow.seen = data, offset, layout, sample
            if flow.id:
                seen += 1
                gauge(flow, values)
        return sorted(new.values(), key=lambda flow: (flow.connection.id, not flow.initial, flow.ids[0] or 0)), seen

    def _open(self, flow: Subflow) -> None:
        """A first look: what it carried so far counts, unless it is older than this agent."""
        flow.connection.opened += 1
        flow.id, flow.number = next(self._subflow_ids), flow.connection.opened
        received, sent, retrans = flow.values[4:7]
        if self._first:
            flow.received, flow.sent, flow.retrans = received, sent, retrans
            flow.connection.received += received  # a connection's bytes are those of its whole life
            flow.connection.sent += sent
            flow.carrier = flow.path
        else:
            self._account(flow, received, sent, retrans)
            self._carry(flow)
        if flow.initial:
            flow.connection.server_side = not flow.flags & sock_diag.MCAP_LOC

    @staticmethod
    def _carry(flow: Subflow) -> None:
        """From now on its bytes are booked on the path that it takes."""
        if flow.carrier is None and flow.path is not None:
            flow.path.opened += 1
        flow.carrier = flow.path

    @staticmethod
    def _account(flow: Subflow, received: int, sent: int, retrans: int) -> None:
        """Add the growth of a subflow's counters; without a known path it waits for the next sample."""
        path, connection = flow.carrier or flow.path, flow.connection
        if path is None:
            return
        if received >= flow.received and sent >= flow.sent:  # smaller: the kernel took the socket back to 0
            path.received += received - flow.received
            path.sent += sent - flow.sent
            connection.received += received - flow.received
            connection.sent += sent - flow.sent
            if retrans >= flow.retrans:
                path.retrans += retrans - flow.retrans
        flow.received, flow.sent, flow.retrans = received, sent, retrans

    def _gauge(self, flow: Subflow, values: Tuple[int, ...]) -> None:
        """Count a subflow for its path and its connection.

        Live is an established subflow that can do its work: its packets have
        an interface to leave by, that is up, and the peer answers.
        """
        state, _, backoff, rtt, _, _, _, _, flags = values
        connection, path = flow.connection, flow.path
        flow.live = False
        if state == ESTABLISHED:
            connection.subflows += 1
            if path is not None:
                if backoff >= STALLED_BACKOFF:
                    path.stalled += 1
                if flow.routed:
                    path.subflows += 1
                    path.rtt_sum += rtt
                    if flags & sock_diag.BACKUP:
                        path.backup += 1
                    if backoff < STALLED_BACKOFF and path.up:
                        flow.live = True
                        if connection.path is not path:
                            connection.path = MANY if connection.path else path
                        return
            connection.dead += 1
        self.dead_routes[flow.route] += 1

    def _count(self) -> None:
        """Count connections, and those that all hang on one interface."""
        self.fallen_back = 0
        redundancy = self.redundancy
        redundancy.clear()
        for connection in self.connections:
            if connection.path is not None:
                connection.path.sole += 1
            if connection.established:
                if connection.fallback:
                    self.fallen_back += 1
                else:
                    redundancy[connection.subflows - connection.dead] += 1
        self.established = sum(redundancy.values())

    def _of_sample(self, known: Dict[int, Known], last: List[Known], seen: int) -> List[Known]:
        """Those that this sample saw: the very list of the last one where `seen` old ones are all that are known."""
        if seen == len(known) == len(last):
            return last
        return [one for one in known.values() if one.seen == self._sample]

    def _retire(self) -> None:
        """Forget what two dumps in a row did not show: one alone can miss a socket."""
        oldest = self._sample - 1
        if len(self._subflows) != len(self.subflows):
            for flow in [flow for flow in self._subflows.values() if flow.seen != self._sample]:
                if flow.seen < oldest:
                    self._forget(flow.cookie)
                else:
                    self.dead_routes[flow.route] += 1
        if len(self._connections) != len(self.connections):
            for connection in [one for one in self._connections.values() if one.seen < oldest]:
                del self._connections[connection.cookie]

    def _forget(self, cookie: int) -> None:
        flow = self._subflows.pop(cookie, None)
        if flow:
            self.routes[flow.route] -= 1
            if not self.routes[flow.route]:
                del self.routes[flow.route]
            if flow.carrier:
                flow.carrier.closed += 1
