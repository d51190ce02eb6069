# SPDX-License-Identifier: GPL-2.0-or-later
"""What outlives a sample: who is who, and how many bytes each interface carried.

Sockets are known by their cookie, which the kernel never gives twice.  An
interface's totals only ever grow: they are fed by the growth of each
subflow's own counters from sample to sample, so a subflow that ends keeps
what was seen of it.  What it carried after its last sample is not seen.
"""

from collections import Counter
from itertools import count
from typing import Callable, Dict, Iterable, Iterator, List, Optional, Tuple, TypeVar

from .kernel import sock_diag
from .kernel.sock_diag import Decoded, ESTABLISHED, Row

#: Retransmission backoff from which a subflow counts as stalled: some two
#: seconds without an answer at a usual round-trip time.
STALLED_BACKOFF = 3
_LAST_ID = 2**31 - 1


def _ids() -> Iterator[int]:
    """Instance ids: positive 31 bits, handed out once (they wrap after two thousand million)."""
    while True:
        yield from range(1, _LAST_ID)


class Path:
    """An interface as MPTCP uses it: totals since the agent started, gauges of the last sample."""

    __slots__ = ("id", "name", "up", "received", "sent", "retrans", "opened", "closed",
                 "subflows", "backup", "stalled", "sole", "rtt_sum")

    def __init__(self, number: int, name: str):
        self.id, self.name, self.up = number, name, False
        self.received = self.sent = self.retrans = self.opened = self.closed = 0
        self.clear()

    def clear(self) -> None:
        """Start the gauges of a new sample."""
        self.subflows = self.backup = self.stalled = self.sole = self.rtt_sum = 0

    @property
    def rtt(self) -> Optional[int]:
        """Mean smoothed round-trip time of its subflows in microseconds; None without one."""
        return self.rtt_sum // self.subflows if self.subflows else None

    @property
    def carried(self) -> bool:
        """Has it ever carried MPTCP?"""
        return bool(self.opened or self.received or self.sent or self.subflows)


MANY = Path(0, "")  # stands for "more than one interface"


class Connection(Row):
    """An MPTCP connection; `received`, `sent`, `retrans` sum up its subflows, ended ones included."""

    __slots__ = ("id", "cookie", "seen", "open", "fallback", "established", "subflows", "dead", "path", "server_side",
                 "numbers", "received", "sent", "retrans", "_name")

    def __init__(self, number: int, cookie: int):
        self.id, self.cookie = number, cookie
        self.numbers = count(1)
        self.seen = 0  # the last sample that showed it
        self.open = 0  # the last sample in which it could have subflows
        self.established = self.fallback = False
        self.subflows = self.dead = 0  # established ones, and those of them that cannot do their work
        self.path: Optional[Path] = None  # of its live subflows, or MANY
        self.server_side: Optional[bool] = None
        self.received = self.sent = self.retrans = 0
        self._name = ""

    @property
    def live(self) -> int:
        """Established subflows that can do their work."""
        return self.subflows - self.dead

    @property
    def name(self) -> str:
        """`c17 10.0.1.1:33752->10.0.1.2:5201`, for good."""
        if not self._name:
            self._name = f"c{self.id} {flow_text(self)}"
        return self._name


class Subflow(Row):
    """A TCP subflow of a connection."""

    __slots__ = ("id", "cookie", "token", "connection", "number", "seen", "received", "sent", "retrans",
                 "route", "path", "carrier", "routed", "live", "_name")

    def __init__(self, cookie: int, token: int, connection: Connection):
        self.cookie, self.token, self.connection = cookie, token, connection
        self.seen = 0  # the last sample that showed it
        self.live = False
        self.id = self.number = 0  # given when all new ones of a sample are known, the initial one first
        self.received = self.sent = self.retrans = 0
        self.route = b""  # what routing is asked with
        self.path: Optional[Path] = None  # the last known
        self.carrier: Optional[Path] = None  # its bytes are booked on: the path up to the last sample
        self.routed = False  # is that where packets leave now?
        self._name = ""

    @property
    def name(self) -> str:
        """`c17::2 enp1s0 10.0.2.1:33493->10.0.2.2:5201`, for good."""
        if not self._name:
            interface = self.path.name if self.path else "-"
            self._name = f"c{self.connection.id}::{self.number} {interface} {flow_text(self)}"
        return self._name

    @property
    def established(self) -> bool:
        """Is the TCP connection established?"""
        return self.values[0] == ESTABLISHED

    @property
    def flags(self) -> int:
        """MPTCP_SUBFLOW_FLAG_*."""
        return self.values[8]

    @property
    def initial(self) -> bool:
        """Did it open the connection (rather than join it)?  Address id 0 does not tell."""
        return not self.flags & (sock_diag.JOIN_REM | sock_diag.JOIN_LOC)


def socket_text(address: str, port: int) -> str:
    """`10.0.1.1:5201` or `[fd00::1]:5201`."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def flow_text(row: Row) -> str:
    """`local->remote` of a socket."""
    local, local_port, remote, remote_port = row.endpoints
    return f"{socket_text(local, local_port)}->{socket_text(remote, remote_port)}"


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
        self._connection_ids, self._subflow_ids = _ids(), _ids()
        self.connections: List[Connection] = []  # those of the last sample, the oldest first
        self.subflows: List[Subflow] = []
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
        new = self._see_subflows(subflows if by_token else (), by_token)
        for flow in new:
            flow.route = flow.route_key
            self._forget(flow.cookie)  # a socket that was connected anew is another subflow
            self._subflows[flow.cookie] = flow
            self.routes[flow.route] += 1
        self.subflows = self._seen(self._subflows)
        if new:
            self._router(new)
        for flow in new:
            self._open(flow)
            self._gauge(flow, flow.values)
        if rerouted:
            for flow in self._subflows.values():
                flow.carrier = flow.path
        for connection in self.connections:
            if connection.path is not None:
                connection.path.sole += 1
        self._retire()

    def _see_connections(self, decoded: Iterable[Decoded]) -> Dict[int, Connection]:
        sample, known, by_token = self._sample, self._connections, {}
        for (state, cookie, flags, token), data, offset, layout in decoded:
            connection = known.get(cookie)
            if connection is None:
                connection = known[cookie] = Connection(next(self._connection_ids), cookie)
            connection.data, connection.offset, connection.layout = data, offset, layout
            connection.seen = sample
            connection.established = state == ESTABLISHED
            connection.fallback = bool(flags & sock_diag.MPTCP_INFO_FLAG_FALLBACK)
            connection.subflows = connection.dead = 0
            connection.path = None
            if not connection.fallback:
                connection.open = sample
                by_token[token] = connection
        self.connections = self._seen(known)
        return by_token

    def _see_subflows(self, decoded: Iterable[Decoded], by_token: Dict[int, Connection]) -> List[Subflow]:
        """Returns those that are new, by connection and the initial one first.

        The flow of a fallen-back connection is plain TCP, so not one of them.
        """
        sample, known, gauge = self._sample, self._subflows, self._gauge
        new: Dict[int, Subflow] = {}
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
                gauge(flow, values)
        return sorted(new.values(), key=lambda flow: (flow.connection.id, not flow.initial, flow.ids))

    def _open(self, flow: Subflow) -> None:
        """A first look: what it carried so far counts, unless it is older than this agent."""
        flow.id, flow.number = next(self._subflow_ids), next(flow.connection.numbers)
        received, sent, retrans = flow.values[4:7]
        if self._sample == 1:
            flow.received, flow.sent, flow.retrans = received, sent, retrans
        elif flow.path:
            flow.path.opened += 1
            self._account(flow, received, sent, retrans)
        if flow.initial:
            flow.connection.server_side = not flow.flags & sock_diag.MCAP_LOC

    @staticmethod
    def _account(flow: Subflow, received: int, sent: int, retrans: int) -> None:
        """Add the growth of a subflow's counters; without a known path it waits for the next sample."""
        path, connection = flow.carrier or flow.path, flow.connection
        if path is None:
            return
        flow.carrier = flow.path
        if received >= flow.received and sent >= flow.sent:  # smaller: the kernel took the socket back to 0
            path.received += received - flow.received
            path.sent += sent - flow.sent
            connection.received += received - flow.received
            connection.sent += sent - flow.sent
            if retrans >= flow.retrans:
                path.retrans += retrans - flow.retrans
                connection.retrans += retrans - flow.retrans
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

    def _seen(self, known: Dict[int, Known]) -> List[Known]:
        return [one for one in known.values() if one.seen == self._sample]

    def _retire(self) -> None:
        """Forget what two dumps in a row did not show: one alone can miss a socket."""
        oldest = self._sample - 1
        if len(self._subflows) != len(self.subflows):
            for flow in [flow for flow in self._subflows.values() if flow.seen != self._sample]:
                self.dead_routes[flow.route] += 1
                if flow.seen < oldest:
                    self._forget(flow.cookie)
        if len(self._connections) != len(self.connections):
            for connection in [one for one in self._connections.values() if one.seen < oldest]:
                del self._connections[connection.cookie]

    def _forget(self, cookie: int) -> None:
        flow = self._subflows.pop(cookie, None)
        if flow:
            self.routes[flow.route] -= 1
            if not self.routes[flow.route]:
                del self.routes[flow.route]
            if flow.path:
                flow.path.closed += 1
