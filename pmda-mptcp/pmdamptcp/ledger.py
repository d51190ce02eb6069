# SPDX-License-Identifier: GPL-2.0-or-later
"""What outlives a socket: how many bytes each interface carried, and how many subflows.

A subflow is booked from whatever tells of it: events say which sockets are
subflows (their two ends and the connection's token), dumps and lookups what
they carried so far, the broadcast of a socket's end what it carried in all.
Each time its growth since the last time is added, so nothing is counted
twice, in whatever order and however often it is told, and totals only grow.

Subflows are known by the two ends of their socket, and once it has been seen
by its cookie, which the kernel never gives twice.
"""

from itertools import chain
from typing import Callable, Dict, Iterable, List, Optional, Tuple

from .flows import Connection, Subflow
from .kernel import inet_diag
from .kernel.layouts import Decoded
from .kernel.pm_events import CREATED, Event

#: Gives subflows their path (and `routed`); asked for new ones, and for all after a change of routes.
Router = Callable[[List[Subflow]], None]

_ENDS = 36  # bytes of an identity: ports and addresses
_SPARE_ROUTES = 1000


def _ends(identity: bytes) -> bytes:
    """The identity without the bound device: the same object where there is none, for there are many."""
    return identity if identity.endswith(inet_diag.UNBOUND) else identity[:_ENDS] + inet_diag.UNBOUND


class Ledger:
    """Books subflows on the interfaces that they leave by."""

    def __init__(self, router: Router):
        self._router = router
        self._connections: Dict[int, Connection] = {}  # by token
        self._count = 0  # subflows that have not ended
        self._by_cookie: Dict[int, Subflow] = {}
        self._by_ends: Dict[bytes, Subflow] = {}  # the newest of these ends
        self._older: Dict[bytes, List[Subflow]] = {}  # not met, and their ends are in use again; the oldest first
        self._routes: Dict[bytes, bytes] = {}  # the same object for the same route
        self._new: List[Subflow] = []  # to be routed
        self.watch: Callable[[List[Subflow]], None] = lambda flows: None  # is told of all that are new
        self._last = 0  # the last round that came to its end
        self._rerouted = False
        self.round = 0  # of looking at all sockets
        self.started = False  # has there been a whole one?
        self.truncated = 0  # initial subflows whose end was not seen
        self.unrouted = 0  # bytes of subflows that ended without a known interface

    @property
    def flows(self) -> List[Subflow]:
        """Those that have not ended, as far as is known."""
        not_met = (flow for flow in self._by_ends.values() if not flow.cookie)
        return list(chain(self._by_cookie.values(), not_met, *self._older.values()))

    def __len__(self) -> int:
        return self._count

    def connection(self, token: int, cookie: int = 0) -> Connection:
        """The connection with this token, made where it is new: another socket with it is another connection."""
        connection = self._connections.get(token)
        if connection is None or cookie and connection.cookie not in (0, cookie):
            connection = self._connections[token] = Connection(token)
        return connection

    def release(self, connection: Connection) -> None:
        """No sample shows it any more, and it is forgotten with its last subflow."""
        connection.id = 0
        self._tidy(connection)

    def doubt(self) -> None:
        """Messages were lost: of no connection are all subflows known for sure."""
        for connection in self._connections.values():
            connection.whole = False

    # What is told of single subflows.

    def open(self, event: Event) -> Optional[Subflow]:
        """An event of a connection or of a subflow; returns the subflow unless it is known.  To be settled."""
        known = self.of_event(event)
        if known and not known.told:
            known.told = True  # a dump came first
            return None
        initial = event.kind == CREATED
        connection = self.connection(event.token)
        if initial and connection.begun:  # the token is in use again
            connection = self._connections[event.token] = Connection(event.token)
        connection.whole |= initial and not connection.flows
        flow = self._add(connection, event.family, event.identity, initial)
        flow.told, flow.backup = True, event.backup and inet_diag.BACKUP_REM
        return flow

    def meet(self, decoded: Decoded) -> Subflow:
        """A subflow as a dump or a lookup shows it; to be settled and then accounted.

        What it carried before the agent's first look does not count.
        """
        values, data, offset, _ = decoded
        _, cookie, _, _, received, sent, retrans, token, flags = values
        flow = self._by_cookie.get(cookie)
        if flow is not None:
            if flow.token == token:
                return flow
            self.retire(flow)  # a socket that was connected anew is another subflow
        identity, family = inet_diag.identity(data, offset)
        flow = self._by_ends.get(_ends(identity))
        if flow is None or flow.cookie or flow.token != token:
            joined = flags & (inet_diag.JOIN_REM | inet_diag.JOIN_LOC)
            flow = self._add(self.connection(token), family, identity, not joined)
            if not self.started:
                flow.received, flow.sent, flow.retrans = received, sent, retrans
                flow.connection.received += received  # a connection's bytes are those of its whole life
                flow.connection.sent += sent
        elif flow.identity != identity:  # bound to a device: events do not tell of the first subflow's
            flow.identity, flow.route = identity, identity[4:] + bytes([family])
            self._router([flow])
            self._carry(flow)
        flow.cookie, flow.missing, flow.backup = cookie, False, flags & inet_diag.BACKUP
        if cookie:  # no kernel gives 0
            self._by_cookie[cookie] = flow
        return flow

    def recognise(self, decoded: Decoded) -> Optional[Subflow]:
        """The known subflow that a lookup shows; None for any other socket."""
        values, data, offset, _ = decoded
        flow = self._by_cookie.get(values[1]) or self._by_ends.get(inet_diag.ends(data, offset))
        if flow is None or flow.token != values[7]:
            return None
        return flow if flow.cookie == values[1] else None if flow.cookie else self.meet(decoded)

    def see(self, decoded: Decoded) -> None:
        """A socket that no sample shows: if it is a subflow that is still closing, book what it carried.

        One that is older than the agent must be known, lest it be taken for new later.
        """
        flow = self.recognise(decoded)
        if flow is None and not self.started and decoded[0][8] & inet_diag.SPEAKS_MPTCP:
            flow = self.meet(decoded)
        if flow:
            flow.noticed = self.round
            self.book(flow, decoded[0])

    def of_event(self, event: Event) -> Optional[Subflow]:
        """The known subflow that an event is about."""
        flow = self._by_ends.get(_ends(event.identity))
        return flow if flow is not None and flow.token == event.token else None

    def settle(self) -> None:
        """Give the new subflows their interface."""
        new, self._new = self._new, []
        if not new:
            return
        self._router(new)
        for flow in new:
            if flow.cookie and not self.started:
                flow.carrier = flow.path
            else:
                self._carry(flow)
        self.watch(new)

    @staticmethod
    def _carry(flow: Subflow) -> None:
        """From now on its bytes are booked on the path that it takes."""
        if flow.carrier is None and flow.path is not None and not flow.ended:
            flow.path.opened += 1
        flow.carrier = flow.path

    def book(self, flow: Subflow, values: Tuple[int, ...]) -> None:
        """What a dump or a lookup shows of it: up to here it was marked as before."""
        self.account(flow, *values[4:7])
        flow.backup = values[8] & inet_diag.BACKUP

    @staticmethod
    def account(flow: Subflow, received: int, sent: int, retrans: int) -> None:
        """Add the growth of a subflow's counters; without a known path it waits for the next time."""
        path, connection = flow.carrier or flow.path, flow.connection
        if path is None or flow.ended:
            return
        if received >= flow.received and sent >= flow.sent:  # smaller: the kernel took the socket back to 0
            path.received += received - flow.received
            path.sent += sent - flow.sent
            connection.received += received - flow.received
            connection.sent += sent - flow.sent
            if retrans >= flow.retrans:
                path.retrans += retrans - flow.retrans
            if flow.backup:
                path.backup_received += received - flow.received
                path.backup_sent += sent - flow.sent
        flow.received, flow.sent, flow.retrans = received, sent, retrans

    def close(self, decoded: Decoded) -> Optional[Subflow]:
        """The broadcast of a socket's end; returns the subflow, if it was one.

        A socket that was not met is told by its two ends: its broadcast is
        the first that nobody else claims.  Initial subflows may come with all
        set to 0 (see the kernel's mptcp_close_ssk): only the cookie tells
        them then, and what was booked is all that will be.
        """
        (_, cookie, received, sent, retrans), data, offset, _ = decoded
        flow = self._by_cookie.get(cookie)
        ends = inet_diag.ends(data, offset)
        zeroed = ends[2:4] == b"\0\0"  # no remote port
        newest = self._by_ends.get(ends)
        if flow and newest and newest is not flow and not newest.cookie and ends != _ends(flow.identity):
            self.retire(flow)  # a socket that was connected anew is another subflow
            flow = None
        if flow is None:
            if ends in self._older:
                flow = self._older[ends][0]
            else:
                flow = newest
                if flow is None or flow.cookie:
                    return None
        if zeroed:
            self.truncated += flow.initial and not flow.ended
        else:
            self._last_words(flow, received, sent, retrans)
        self.retire(flow)
        return flow

    def _last_words(self, flow: Subflow, received: int, sent: int, retrans: int) -> None:
        given_up = flow.missing and flow.ended and not flow.connection.fallback
        flow.ended &= not given_up  # it was there after all
        if flow.carrier is None and flow.path is None and not flow.ended:
            self._router([flow])
            self._carry(flow)
            if flow.path is None:
                self.unrouted += max(0, received - flow.received) + max(0, sent - flow.sent)
        self.account(flow, received, sent, retrans)
        flow.ended |= given_up

    def give_up(self, flow: Subflow) -> None:
        """A subflow that is no longer there, and whose end nobody told."""
        if not flow.ended:
            self.truncated += flow.initial
            self._end(flow)
        if not flow.cookie:
            self.retire(flow)  # else it stays known until its connection ends, lest it be booked again

    def retire(self, flow: Subflow) -> None:
        """It has ended."""
        if flow not in flow.connection.flows:
            return  # that is known
        flow.connection.flows.remove(flow)
        self._count -= 1
        self._end(flow)
        if self._by_cookie.get(flow.cookie) is flow:
            del self._by_cookie[flow.cookie]
        ends = _ends(flow.identity)
        if self._by_ends.get(ends) is flow:
            del self._by_ends[ends]
        older = self._older.get(ends)
        if older and flow in older:
            older.remove(flow)
            if not older:
                del self._older[ends]
        self._tidy(flow.connection)

    def fall_back(self, connection: Connection) -> None:
        """It is plain TCP from now on, and what its socket carries is not MPTCP's."""
        connection.most = 0
        for flow in connection.flows:
            self._end(flow)

    @staticmethod
    def _end(flow: Subflow) -> None:
        if flow.carrier and not flow.ended:
            flow.carrier.closed += 1
        flow.ended = True

    def _add(self, connection: Connection, family: int, identity: bytes, initial: bool) -> Subflow:
        flow = Subflow(connection, family, identity, initial)
        if len(self._routes) > self._count + _SPARE_ROUTES:
            self._routes.clear()
        flow.route = self._routes.setdefault(flow.route, flow.route)
        flow.noticed = self.round
        flow.ended = connection.fallback
        connection.flows.append(flow)
        connection.begun |= initial
        self._count += 1
        ends = _ends(identity)
        older = self._by_ends.get(ends)
        if older is not None and not older.cookie:
            self._older.setdefault(ends, []).append(older)
        self._by_ends[ends] = flow
        self._new.append(flow)
        return flow

    def _tidy(self, connection: Connection) -> None:
        if not connection.flows and not connection.id and self._connections.get(connection.token) is connection:
            del self._connections[connection.token]

    # Rounds: looking at all sockets.

    def begin(self, rerouted: bool) -> int:
        """A round begins; `rerouted`: routes may have changed since the last.  Returns its number."""
        self.round += 1
        self._rerouted = rerouted
        if rerouted:
            self._router(self.flows)
        return self.round

    def end(self, seen: int) -> None:
        """A round ends that showed `seen` subflows: forget what two rounds in a row did not show.

        One alone can miss a socket.  What was carried up to here is booked:
        from now on the new routes count.
        """
        if self._rerouted:
            for flow in self.flows:
                self._carry(flow)
        if seen != self._count:
            for flow in [flow for flow in self.flows if max(flow.seen, flow.noticed) < self._last]:
                self.give_up(flow)
                self.retire(flow)
        self._last = self.round
        self.started = True

    def reconcile(self, subflows: Iterable[Decoded], rerouted: bool) -> None:
        """A round of its own: book what a dump of all subflows shows."""
        this, seen = self.begin(rerouted), 0
        new: List[Tuple[Subflow, Tuple[int, ...]]] = []
        for decoded in subflows:
            values = decoded[0]
            flow = self._by_cookie.get(values[1])
            if flow is not None and flow.token == values[7]:
                self.book(flow, values)
            elif values[8] & inet_diag.SPEAKS_MPTCP:  # else it fell back to TCP from the start, or may do so yet
                flow = self.meet(decoded)
                new.append((flow, values[4:7]))
            else:
                continue
            flow.noticed = this
            seen += 1
        self.settle()
        for flow, counters in new:
            self.account(flow, *counters)
        self.end(seen)
