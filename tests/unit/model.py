# SPDX-License-Identifier: GPL-2.0-or-later
"""A small kernel: TCP sockets and MPTCP connections that live and die as Linux' do, and what is told of them.

It speaks in the bytes of netlink, keeps the truth that the agent never sees
in one piece, and does more than one thing at a time: what is in `meanwhile`
happens between two answers that the agent asks for.
"""

import errno
import socket

from pmdamptcp import listener, sample, source, watch
from pmdamptcp.kernel import inet_diag, interfaces, layouts, pm_events, routes, sock_diag, sockstat
from pmdamptcp.records import Link

from . import messages as m
from .kernels import Broadcasts, Clock

LINKS = (1, 2, 3)
ADDRESSES = {1: "10.0.1.1", 2: "10.0.2.1", 3: "fd00:3::1"}
PEERS = {1: "10.0.1.2", 2: "10.0.1.2", 3: "fd00:3::2"}
SYN_SENT, CLOSING, CLOSED = 2, 4, 7
ASKED, FELL_BACK = 2, 130  # flags of a subflow that is being opened, and of one that was TCP from the start
RECEIVED, SENT = 0, 1


class Socket:
    """A TCP socket; without a connection it is nothing but that."""

    def __init__(self, cookie, connection, link, ports, flags, state=m.ESTABLISHED, bound=0):
        self.cookie, self.connection, self.flags, self.state, self.bound = cookie, connection, flags, state, bound
        self.connect(link, ports)

    def connect(self, link, ports):
        """To these ends; nothing was carried so far."""
        self.link = link
        self.local, self.remote = (ADDRESSES[link], ports[0]), (PEERS[link], ports[1])
        self.counters = [0, 0, 0]
        self.told = self.counted = self.baseline = False  # by an event; in the truth; old at the agent's first look
        self.hashed, self.missed = True, False  # in dumps and lookups; but not in the last dump

    @property
    def initial(self):
        """Did it open its connection?"""
        return not self.flags & (inet_diag.JOIN_LOC | inet_diag.JOIN_REM)

    @property
    def family(self):
        """AF_INET or AF_INET6."""
        return socket.AF_INET6 if ":" in self.local[0] else socket.AF_INET

    @property
    def ends(self):
        """Ports and addresses as inet_diag_sockid has them."""
        (local, local_port), (remote, remote_port) = self.local, self.remote
        addresses = [socket.inet_pton(self.family, address).ljust(16, b"\0") for address in (local, remote)]
        return b"".join([local_port.to_bytes(2, "big"), remote_port.to_bytes(2, "big"), *addresses])

    def message(self):
        """What a dump says of it, or the broadcast of its end."""
        received, sent, retrans = self.counters
        head = {"received": received, "sent": sent, "retrans": retrans, "state": self.state,
                "local": self.local, "remote": self.remote, "bound": self.bound}
        if self.state == CLOSED or not self.connection:
            return m.destroyed(self.cookie, **head)
        return m.subflow(self.cookie, self.connection.token, flags=self.flags, **head)


class Connection:
    """An MPTCP socket."""

    def __init__(self, cookie, token):
        self.cookie, self.token = cookie, token
        self.sockets = []
        self.total = [0, 0]  # what its subflows carried in all its life
        self.received = 0  # what of it came in order
        self.state = SYN_SENT
        self.listed = True  # in dumps, and its token is in use
        self.fallback = self.known = False  # is it TCP after all; has a sample shown that?
        self.missed = False

    @property
    def living(self):
        """Its subflows that are not closed."""
        return [one for one in self.sockets if one.hashed and (one.state != CLOSING or self.state == CLOSING)]

    def message(self):
        """What a dump says of it."""
        return m.connection(self.cookie, self.token, state=self.state, flags=2 | self.fallback, info={
            "subflows": sum(not one.initial for one in self.living), "subflows_total": len(self.living),
            "bytes_received": self.received})


class Kernel:
    """What it does by itself are the methods in DOINGS: each takes three numbers and does nothing if it cannot."""

    def __init__(self):
        self.clock = Clock()
        self.sockets, self.connections = [], []  # the sockets whose end was not told
        self.events, self.ends = Queue(self), Queue(self)
        self.routes = dict(zip(ADDRESSES.values(), LINKS))
        self.changed = True
        self.listening = False  # does a listener answer lookups of sockets that are gone?
        self.many = False  # are there many other TCP sockets?
        self.attended = self.looked = False  # does the agent listen; did it look for the first time?
        self.meanwhile = []
        self.omit = self.repeat = None  # the number of a socket that the next dump misses, or shows twice
        self.last = 100  # cookie
        self.truth = {link: [0, 0] for link in LINKS}
        self.whole = True  # was nothing lost, that no agent could know?
        self.rerouted = self.unrouted = False
        self.certain = self.possible = 0  # subflows that were opened since: surely, and those of which nobody told
        self.baseline = 0  # those that were there before
        self.blocked = []  # (ends, broadcast, turns): not to be used again before the one was read, the others passed
        self.settled = 0.0  # when the agent had its last turn
        self.patient = False  # is a token only used again when its connection is long forgotten?
        self.gone = []  # (connection, samples so far, ends) of sockets that are gone, and of connections without ends
        self.samples = 0

    # Answers.

    def install(self, patch):
        """Take the place of the readers."""
        links = [Link(link, f"eth{link}", True) for link in LINKS]
        for place, name, answer in (
            (interfaces, "links", lambda: links),
            (interfaces, "addresses", lambda: {address: link for link, address in ADDRESSES.items()}),
            (interfaces, "Changes", lambda: self),
            (routes, "egress", self._egress),
            (sock_diag, "dump", self._dump),
            (sock_diag, "look_up", self._look_up),
            (sock_diag, "look_up_connections", self._look_up_connections),
            (sock_diag, "listen", lambda size: self.ends),
            (pm_events, "listen", lambda size: (self.events, layouts.Decoder(m.EVENTS_FAMILY, pm_events.learn))),
            (sockstat, "tcp_sockets", lambda: 10**6 if self.many else 0),
            (source, "monotonic", self.clock),
            (listener, "monotonic", self.clock),
            (watch, "monotonic", self.clock),
            (sample, "_AT_ONCE", 2),
        ):
            patch.setattr(place, name, answer)

    def any(self):
        """As interfaces.Changes: news since the last time."""
        changed, self.changed = self.changed, False
        return changed

    def gap(self):
        """Time passes between two answers.

        But nothing ends just after a dump has missed it: of these rare things
        one may come at a time.
        """
        if not any(one.missed for one in self.sockets):
            now, self.meanwhile = self.meanwhile[:2], self.meanwhile[2:]
            for doing in now:
                self.do(*doing)

    def _egress(self, keys):
        return {key: int.from_bytes(key[32:36], "little")
                or self.routes[inet_diag.address_text(key[:16], key[36])] for key in keys}

    def _dump(self, protocol, *_, **__):
        self.gap()
        shown = self.connections if protocol == m.MPTCP else self.sockets
        for number, one in enumerate(list(shown)):
            if number == len(shown) // 2:
                self.gap()
            if not (one.listed if protocol == m.MPTCP else one.hashed):
                continue
            if number == self.omit and self.looked and self._misses(one):
                continue
            yield one.message()
            self._was_shown(one)
            if number == self.repeat:
                yield one.message()
        yield m.done()

    @staticmethod
    def _misses(one):
        """Dumps can miss a socket, but not the same twice in a row; here its connection counts as the same.

        Nor one that a lookup did not find, for want of its device.
        """
        those = [one, *getattr(one, "sockets", ())]
        if any(that.missed or getattr(that, "bound", 0) for that in those):
            return False
        for that in those:
            that.missed = True
        return True

    def _was_shown(self, one):
        if isinstance(one, Connection):
            one.known, one.missed = one.fallback, False
        else:
            one.missed = bool(one.connection and one.connection.missed)

    def first_look(self):
        """The agent has looked for the first time: the subflows that are there began before it did."""
        self.looked = True
        for one in self.sockets:
            if one.hashed and one.connection and not one.told and one.flags not in (ASKED, FELL_BACK):
                one.baseline = one.counted = True
                self.baseline += 1

    def _look_up(self, requests):
        requests = list(requests)
        self.gap()
        for family, request in requests:
            yield self._found(family, request)

    def _found(self, family, request):
        bound, cookie = int.from_bytes(request[36:40], "little"), request[40:]
        for one in self.sockets:
            if one.hashed and one.family == family and one.ends == request[:36] and one.bound in (0, bound):
                if cookie in (inet_diag.NO_COOKIE, one.cookie.to_bytes(8, "little")):
                    return one.message()
                return m.done(-errno.ESTALE, m.NLMSG_ERROR)
        if self.listening and cookie == inet_diag.NO_COOKIE:
            return m.plain_tcp(1, state=m.LISTEN)
        return m.done(-errno.ENOENT, m.NLMSG_ERROR)

    def _look_up_connections(self, tokens):
        for token in tokens:
            self.gap()
            found = [one for one in self.connections if one.listed and one.token == token]
            yield found[0].message() if found else m.done(-errno.ENOENT, m.NLMSG_ERROR)

    # Broadcasts.

    def _tell(self, kind, one, connection=None):
        """An event of a socket, or of a connection alone."""
        token = (connection or one.connection).token
        ends = (one.local, one.remote) if one else ()
        bound = one.bound if one and kind in (m.SUB_ESTABLISHED, m.SUB_CLOSED) else 0
        self.events.send(m.event(kind, token, *ends, bound=bound))

    def _end(self, one):
        """The last of a socket: it is gone, and its end is told."""
        certain, one.hashed, one.state = one.told and one.hashed, False, CLOSED
        self.sockets.remove(one)
        message = one.message()
        if one.connection:
            self.gone.append((one.connection, self.samples, one.ends))
        if not certain:
            self.blocked.append((one.ends, message, 0))
        self.ends.send(message)

    def settle(self):
        """The agent has taken its turn: what was told is told."""
        for doing in self.meanwhile:
            self.do(*doing)
        self.meanwhile, self.omit, self.repeat = [], None, None
        waiting = {id(message) for message in self.ends.waiting}
        passed = self.clock.now > self.settled + watch.GRACE
        self.settled = self.clock.now
        self.blocked = [(ends, message, turns - passed) for ends, message, turns in self.blocked
                        if id(message) in waiting or turns > 0]

    # Doings.

    def do(self, name, *numbers):
        """One of DOINGS."""
        getattr(self, name)(*numbers)

    def _cookie(self):
        self.last += 1
        return self.last

    def _place(self, number):
        """A link and ports that are free; None when all are taken.

        A broadcast does not tell whether it is of a subflow or of what else
        has its ends: so these are not used again while the end of what was
        no subflow is on its way, or while that of a zeroed one is waited for.
        """
        link, ports = LINKS[number % 3], (1000 + number // 3 % 2, 5000)
        ends = Socket(0, None, link, ports, 0).ends
        taken = {one.ends for one in self.sockets} | {one[0] for one in self.blocked}
        return None if ends in taken else (link, ports)

    def _same(self, connection, place):
        """Did a socket of another connection have both this token and these ends?  That is beyond all odds."""
        ends = Socket(0, None, *place, 0).ends
        return any(one is not connection and one.token == connection.token and its_ends == ends
                   for one, _, its_ends in self.gone)

    def _pick(self, number, want):
        found = [one for one in self.sockets if want(one)]
        return found[number % len(found)] if found else None

    def _pick_connection(self, number, want=lambda one: True):
        found = [one for one in self.connections if one.state == m.ESTABLISHED and one.listed and want(one)]
        return found[number % len(found)] if found else None

    def _connection(self, token, place):
        used = {one.token for one in self.connections}
        used |= {one.connection.token for one in self.sockets if one.connection}
        used |= {one.token for one, samples, _ in self.gone if self.patient and self.samples < samples + 3}
        token = 100 + token % 4
        if token in used:
            token = 1000 + self._cookie()
        connection = Connection(self._cookie(), token)
        if self._same(connection, place):
            connection.token = 1000 + self._cookie()
        self.connections.append(connection)
        return connection

    def _forget(self, connection):
        connection.listed = False
        self.connections.remove(connection)
        self.gone.append((connection, self.samples, None))

    def _socket(self, connection, place, flags, state=m.ESTABLISHED, bound=False):
        one = Socket(self._cookie(), connection, *place, flags, state, place[0] if bound else 0)
        self.sockets.append(one)
        if connection:
            connection.sockets.append(one)
        return one

    def _established(self, one):
        connection = one.connection
        one.state = m.ESTABLISHED
        if self.attended:
            one.told = one.counted = True
            self.certain += not one.baseline
        if one.initial:
            connection.state = m.ESTABLISHED
            self._tell(m.CREATED, one)
            self._tell(m.ESTABLISHED_EVENT, one)
        else:
            self._tell(m.SUB_ESTABLISHED, one)

    def connect(self, place, token, bound):
        """This host begins to open a connection."""
        place = self._place(place)
        if place:
            # Of the device that it is bound to events do not tell: it is the one that the routes give.
            self._socket(self._connection(token, place), place, ASKED, SYN_SENT, bound % 4 == 0 and not self.rerouted)

    def accept(self, place, token, _):
        """A peer has opened one."""
        place = self._place(place)
        if place:
            self._established(self._socket(self._connection(token, place), place, m.OPENED_BY_PEER))

    def join(self, number, place, bound):
        """This host begins to join a connection, or a peer has joined it."""
        connection = self._pick_connection(number, lambda one: one.living and not one.fallback)
        place = self._place(place)
        if not connection or not place or self._same(connection, place):
            return
        if bound % 2:
            self._established(self._socket(connection, place, m.JOINED_BY_PEER))
        else:
            self._socket(connection, place, m.JOINED_BY_US, SYN_SENT, bound % 4 == 0)

    def answer(self, number, *_):
        """A peer answers what this host began."""
        one = self._pick(number, lambda one: one.state == SYN_SENT)
        if one and (one.initial or one.connection.state == m.ESTABLISHED):
            one.flags = m.OPENED_BY_US if one.initial else one.flags
            self._established(one)

    def refuse(self, number, *_):
        """Or refuses it."""
        one = self._pick(number, lambda one: one.state == SYN_SENT)
        if one:
            self.possible += 1
            if one.initial:
                self._forget(one.connection)
            self._end(one)

    def speak_tcp(self, number, *_):
        """Or does not know of MPTCP."""
        one = self._pick(number, lambda one: one.state == SYN_SENT and one.initial)
        if one:
            self.whole = False
            one.flags = FELL_BACK
            one.state = one.connection.state = m.ESTABLISHED
            one.connection.fallback = True

    def fall_back(self, number, *_):
        """A connection with but one subflow goes on as TCP."""
        connection = self._pick_connection(number, lambda one: len(one.living) == 1)
        if connection and not any(one.state == SYN_SENT for one in connection.sockets):
            self.whole, connection.fallback = False, True

    def carry(self, number, received, sent):
        """Bytes come and go; some of those that come wait for others."""
        one = self._pick(number, lambda one: one.hashed and one.state != SYN_SENT)
        if not one:
            return
        growth = received * 16, sent * 16
        for way in (RECEIVED, SENT):
            one.counters[way] += growth[way]
        one.counters[2] += sent
        connection = one.connection
        if connection and one.flags != FELL_BACK and not (connection.fallback and connection.known):
            link = one.bound or self.routes[one.local[0]]
            for way in (RECEIVED, SENT):
                connection.total[way] += growth[way]
                if one.counted:
                    self.truth[link or 1][way] += growth[way]
        if connection:
            connection.received += growth[RECEIVED] - received

    def take_back(self, number, *_):
        """A disconnect sets the counters of an initial subflow to 0, which is still there."""
        one = self._pick(number, lambda one: one.hashed and one.initial and any(one.counters))
        if one and one.connection:
            self.whole, one.counters = False, [0, 0, 0]

    def shut(self, number, *_):
        """A joined subflow is closed in order: its socket stays for a while."""
        one = self._pick(number, lambda one: one.connection and one.hashed and not one.initial
                         and one.state == m.ESTABLISHED)
        if one:
            self._closed(one)
            one.state = CLOSING

    def leave(self, number, *_):
        """A socket that is closing, or one that is no subflow, is gone."""
        one = self._pick(number, lambda one: one.state == CLOSING or not one.connection)
        if one:
            self._end(one)

    def reset(self, number, *_):
        """A joined subflow ends at once."""
        one = self._pick(number, lambda one: one.connection and one.hashed and not one.initial
                         and one.state == m.ESTABLISHED)
        if one:
            self._closed(one)
            self._end(one)

    def _closed(self, one):
        if one.connection.listed and one.connection.state == m.ESTABLISHED:
            self._tell(m.SUB_CLOSED, one)

    def zero(self, number, *_):
        """An initial subflow is reset while its connection lives: its counters are lost, its end is told later."""
        one = self._pick(number, lambda one: one.connection and one.hashed and one.initial
                         and one.state == m.ESTABLISHED and one.connection.listed)
        if one:
            self._closed(one)
            self._zero(one)

    def _zero(self, one):
        self.whole = False
        self.blocked.append((one.ends, None, 3))
        one.hashed, one.counters, one.state = False, [0, 0, 0], CLOSED
        one.local, one.remote = ("::" if one.family == socket.AF_INET6 else "0.0.0.0", one.local[1]), (one.remote[0], 0)

    def unhash(self, number, *_):
        """An initial subflow has closed in order, but its connection holds it: its end is told later, and in full."""
        one = self._pick(number, lambda one: one.hashed and one.connection and one.initial and one.state == CLOSING)
        if one:
            self.whole, one.hashed = False, False

    def tell_late(self, number, *_):
        """The end of a socket that is not there any more is told."""
        one = self._pick(number, lambda one: not one.hashed)
        if one:
            self._end(one)

    def connect_anew(self, number, place, token):
        """The socket of a connection that was disconnected is used for another."""
        one = self._pick(number, lambda one: not one.hashed and one.connection.listed and not one.connection.living)
        place = self._place(place)
        if one and place:
            self._forget(one.connection)
            one.connection.sockets.remove(one)
            one.flags, one.state, one.connection = ASKED, SYN_SENT, self._connection(token, place)
            one.connection.sockets.append(one)
            one.connect(*place)

    def abort(self, number, *_):
        """The peer aborts a connection: no event, its token is gone, the initial subflow's counters too."""
        connection = self._pick_connection(number)
        if connection:
            self._forget(connection)
            for one in connection.sockets:
                if one.hashed and one.initial:
                    self._zero(one)
                elif one.hashed:
                    self.possible += one.state == SYN_SENT
                    self._end(one)

    def close(self, number, *_):
        """The application closes a connection; its subflows stay for a while, and it does."""
        connection = self._pick_connection(number)
        if connection:
            self._tell(m.CLOSED, None, connection)
            connection.state = CLOSING
            for one in connection.sockets:
                if one.hashed and one.state == SYN_SENT:
                    self.possible += 1
                    self._end(one)
                elif one.hashed:
                    one.state = CLOSING

    def finish(self, number, *_):
        """A closed connection is gone, before its last sockets or after them."""
        found = [one for one in self.connections if one.state == CLOSING]
        if found:
            connection = found[number % len(found)]
            self._forget(connection)

    def open_tcp(self, place, *_):
        """A plain TCP socket."""
        place = self._place(place)
        if place:
            self._socket(None, place, 0)

    def reroute(self, number, link, _):
        """Packets leave by another interface, or by none."""
        link = link % 4 or None
        address = ADDRESSES[LINKS[number % 3]]
        if self.routes[address] != link and not any(one.bound and one.initial for one in self.sockets):
            self.routes[address], self.changed, self.rerouted = link, True, True
            self.unrouted |= link is None

    def overrun(self, which, *_):
        """Receive buffers are full until the agent has read them."""
        self.whole = False
        for number, queue in enumerate((self.events, self.ends), 1):
            queue.full |= bool((which % 3 + 1) & number)

    def listen(self, number, *_):
        """A server listens, or does not."""
        self.listening = bool(number % 2)


class Queue(Broadcasts):
    """Broadcasts as a netlink socket keeps them: what comes while its buffer is full is lost, until it was read."""

    def __init__(self, kernel):
        super().__init__()
        self._kernel = kernel
        self.full = False

    def send(self, message):
        """To the agent, if it listens."""
        if self._kernel.attended and not self.full:
            self.waiting.append(message)

    def drain(self, most):
        """As the real one."""
        self._kernel.gap()
        self.overrun = self.full
        yield from super().drain(most)
        self.full = False


#: By how often they are wanted.
DOINGS = (
    "carry carry carry carry connect connect accept accept join join join answer answer answer refuse shut leave leave "
    "reset close finish open_tcp listen"
).split()
LOSSES = "zero zero unhash tell_late abort connect_anew take_back speak_tcp fall_back overrun".split()
