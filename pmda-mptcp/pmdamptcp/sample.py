# SPDX-License-Identifier: GPL-2.0-or-later
"""The connections and subflows of now, who belongs to whom, and what they add up to."""

from collections import Counter
from itertools import islice
from typing import Callable, Dict, Iterable, Iterator, List, Optional, Tuple, TypeVar

from .flows import MANY, Connection, Flow, Path, Subflow
from .kernel import inet_diag
from .kernel.inet_diag import ESTABLISHED, LISTEN
from .kernel.layouts import Decoded
from .ledger import Ledger

#: Retransmissions in a row from which a subflow counts as stalled: some two
#: seconds without an answer at a usual round-trip time.  Not the backoff,
#: which probes of a closed window raise as well: those are answered.
STALLED_RETRANSMITS = 3
_LAST_ID = 2**31 - 1


def _ids() -> Iterator[int]:
    """Instance ids: positive 31 bits, handed out once (they wrap after two thousand million)."""
    while True:
        yield from range(1, _LAST_ID)


Values = Tuple[int, ...]  # of a subflow, as inet_diag.Decoder yields them
#: By what new ones are sorted: connection, is it not the initial one, address id, cookie; then the subflow itself.
New = Tuple[int, bool, int, int, Subflow, Values]
_AT_ONCE = 5000  # new ones are taken in by so many, lest all of a large host be in memory twice
Known = TypeVar("Known", Connection, Subflow)


class Sample:
    """What the last look at all sockets showed.

    Subflows are known by their cookies, connections by their tokens: once a
    listener was dumped, all that it accepts share its cookie.
    """

    def __init__(self, ledger: Ledger, most: int):
        self._ledger, self._most = ledger, most
        self._connections: Dict[int, Connection] = {}
        self._subflows: Dict[int, Subflow] = {}
        self._number = self._last = 0
        self._connection_ids, self._subflow_ids = _ids(), _ids()
        self.connections: List[Connection] = []  # those of this sample, the oldest first
        self.subflows: List[Subflow] = []
        self.listeners: List[Flow] = []  # MPTCP sockets that listen
        self.shown_connections: Dict[int, Connection] = {}  # `most` of each at the most, by their ids: the instances
        self.shown_subflows: Dict[int, Subflow] = {}
        self._shown: Optional[List[Subflow]] = None  # the list that these were made of, if none had to wait
        self.established = self.fallen_back = 0  # connections that speak MPTCP, and that are TCP after all
        self.redundancy: Counter[int] = Counter()  # live subflows -> how many of these connections have so many
        self.routes: Counter[bytes] = Counter()  # how many subflows take each, and how many of them are not live
        self.dead_routes: Counter[bytes] = Counter()
        self.degraded = 0  # connections that have fewer live subflows than a sample before saw them have

    def update(self, connections: Iterable[Decoded], read_subflows: Callable[[], Iterable[Decoded]],
               paths: Iterable[Path], rerouted: bool) -> None:
        """Take a sample: the decoded sockets of both protocols.

        Subflows are only read when there may be any, after the connections;
        `paths` are the interfaces whose gauges are filled,
        `rerouted` tells that routes may have changed since the last sample.
        """
        ledger = self._ledger
        self._last, self._number = self._number, ledger.begin(rerouted)
        self.dead_routes.clear()
        for path in paths:
            path.clear()
        by_token = self._see_connections(connections)
        seen = self._see_subflows(read_subflows() if by_token or len(ledger) or not ledger.started else (), by_token)
        self.subflows = self._of_sample(self._subflows, self.subflows, seen)
        ledger.end(len(self.subflows))
        self._count()
        self._retire()
        self._show()

    def _see_connections(self, decoded: Iterable[Decoded]) -> Dict[int, Connection]:
        number, known, ledger = self._number, self._connections, self._ledger
        by_token: Dict[int, Connection] = {}
        seen = 0
        self.listeners = []
        for (state, cookie, flags, token), data, offset, layout in decoded:
            if state == LISTEN:
                listener = Flow()
                listener.data, listener.offset, listener.layout = data, offset, layout
                self.listeners.append(listener)
                continue
            connection = known.get(token)
            fallback = bool(flags & inet_diag.MPTCP_INFO_FLAG_FALLBACK)
            if connection is None or connection.cookie != cookie:
                if connection:
                    self._drop_connection(connection)  # the token is in use again
                connection = known[token] = ledger.connection(token, cookie)
                connection.id, connection.cookie = connection.id or next(self._connection_ids), cookie
            elif connection.seen != number:
                seen += 1
            connection.data, connection.offset, connection.layout = data, offset, layout
            connection.seen = number
            connection.established = state == ESTABLISHED
            if fallback and not connection.fallback:
                ledger.fall_back(connection)
            connection.fallback = fallback
            connection.subflows = connection.dead = 0
            connection.path = None
            if not fallback:
                connection.open = number
                by_token[token] = connection
        last, self.connections = self.connections, self._of_sample(known, self.connections, seen)
        if last is not self.connections:
            self.shown_connections = {one.id: one for one in self.connections[:self._most]}
        return by_token

    def _see_subflows(self, decoded: Iterable[Decoded],
                      by_token: Dict[int, Connection]) -> int:
        """Returns how many known ones were seen, 0 when there were new ones.

        The flow of a fallen-back connection is plain TCP, so not one of them,
        nor is one whose peer has not answered yet, or whose connection is gone.
        """
        number, known, gauge, account = self._number, self._subflows, self._gauge, self._ledger.account
        new: Dict[int, New] = {}
        seen, taken = 0, False
        room = self._most - len(self.shown_subflows)
        for one in decoded:
            values, data, offset, layout = one
            _, cookie, _, _, received, sent, retrans, token, _ = values
            flow = known.get(cookie)
            if flow is None or flow.token != token or flow.connection.open != number:
                if token not in by_token or not values[8] & inet_diag.SPEAKS_MPTCP:
                    self._ledger.see(one)
                    continue
                if len(new) == _AT_ONCE:
                    self._take_in(new)
                    new, taken = {}, True
                flow = self._ledger.meet(one)
                if flow.seen == number:
                    continue
                if flow.connection.open != number:  # one that took the token since, which this sample does not show
                    self._ledger.see(one)
                    continue
                if room > 0 and flow.connection.id in self.shown_connections and not flow.shown:
                    flow.shown, room = True, room - 1
                local_id = data[offset + layout.ids[0]] if layout.ids else 0
                new[cookie] = flow.connection.id, not flow.initial, local_id, cookie, flow, values
            elif flow.seen == number:
                continue  # as above: a dump of a changing table can show a socket twice
            elif received != flow.received or sent != flow.sent:
                account(flow, received, sent, retrans)
            flow.seen = number
            if flow.shown:  # a copy, so that no large buffer is held for it
                flow.data, flow.offset, flow.layout = data[offset:offset + layout.length], 0, layout
            if flow.id:
                seen += 1
                gauge(flow, values)
        self._take_in(new)
        return 0 if new or taken else seen

    def _take_in(self, new: "Dict[int, New]") -> None:
        """The first sample of these; listed by connection and the initial one first."""
        found = [(flow, values) for _, _, _, _, flow, values in sorted(new.values())]
        for flow, _ in found:
            self._drop(flow.cookie)  # a socket that was connected anew is another subflow
            self._subflows[flow.cookie] = flow
            self.routes[flow.route] += 1
        self._ledger.settle()
        for flow, values in found:
            connection = flow.connection
            self._ledger.account(flow, *values[4:7])
            connection.opened += 1
            flow.id = next(self._subflow_ids)
            if flow.initial and connection.server_side is None:
                flow.number, connection.server_side = 1, not values[8] & inet_diag.MCAP_LOC
            else:
                connection.joined += 1
                flow.number = 1 + connection.joined
            self._gauge(flow, values)

    def _gauge(self, flow: Subflow, values: Values) -> None:
        """Count a subflow for its path and its connection.

        Live is an established subflow that can do its work: its packets have
        an interface to leave by, that is up, and the peer answers.
        """
        state, _, retransmits, rtt, _, _, _, _, flags = values
        connection, path = flow.connection, flow.path
        flow.live = False
        flow.backup = backup = flags & inet_diag.BACKUP  # of what it carries from now on
        if state == ESTABLISHED:
            connection.subflows += 1
            if path is not None:
                if retransmits >= STALLED_RETRANSMITS:
                    path.stalled += 1
                if flow.routed:
                    path.subflows += 1
                    path.rtt_sum += rtt
                    if backup:
                        path.backup += 1
                    if retransmits < STALLED_RETRANSMITS and path.up:
                        flow.live = True
                        if connection.path is not path:
                            connection.path = MANY if connection.path else path
                        return
            connection.dead += 1
        self.dead_routes[flow.route] += 1

    def _show(self) -> None:
        """Choose what is shown one by one.  A subflow that had to wait for its place has a row with the next sample."""
        if self._shown is not self.subflows:
            shown = [flow for flow in self.subflows if flow.shown]
            for flow in shown[self._most:]:  # one whose place it got was only missed for once
                flow.shown, flow.data = False, b""
            self.shown_subflows = {flow.id: flow for flow in shown[:self._most]}
        free = min(self._most, len(self.subflows)) - len(self.shown_subflows)
        for flow in islice((flow for flow in self.subflows if not flow.shown), free):
            flow.shown = True
        self._shown = None if free else self.subflows

    def _count(self) -> None:
        """Count connections, and those that all hang on one interface."""
        self.fallen_back = self.degraded = 0
        redundancy = self.redundancy
        redundancy.clear()
        for connection in self.connections:
            if connection.path is not None:
                connection.path.sole += 1
            if connection.established:
                if connection.fallback:
                    self.fallen_back += 1
                else:
                    live = connection.subflows - connection.dead
                    redundancy[live] += 1
                    if live < connection.most:
                        self.degraded += 1
                    else:
                        connection.most = live
        self.established = sum(redundancy.values())

    def _of_sample(self, known: Dict[int, Known], last: List[Known], seen: int) -> List[Known]:
        """Those that this sample saw: the very list of the last one where `seen` old ones are all that are known."""
        if seen == len(known) == len(last):
            return last
        return [one for one in known.values() if one.seen == self._number]

    def _retire(self) -> None:
        """Forget what two samples in a row did not show: one alone can miss a socket."""
        if len(self._subflows) != len(self.subflows):
            for flow in [flow for flow in self._subflows.values() if flow.seen != self._number]:
                if flow.ended or flow.seen < self._last:
                    self._drop(flow.cookie)
                else:
                    self.dead_routes[flow.route] += 1
        if len(self._connections) != len(self.connections):
            for connection in [one for one in self._connections.values() if one.seen < self._last]:
                self._drop_connection(connection)

    def _drop(self, cookie: int) -> None:
        flow = self._subflows.pop(cookie, None)
        if flow:
            self.routes[flow.route] -= 1
            if not self.routes[flow.route]:
                del self.routes[flow.route]

    def _drop_connection(self, connection: Connection) -> None:
        del self._connections[connection.token]
        self._ledger.release(connection)
