# SPDX-License-Identifier: GPL-2.0-or-later
"""A host with made-up subflows for the listener: they carry, end, and are told of as a test says."""

import errno

from pmdamptcp import listener, watch
from pmdamptcp.kernel import inet_diag, sock_diag, sockstat

from . import messages as m
from .kernels import Kernel

LINKS = {"l1": "10.0.1.1", "l2": "10.0.2.1", "l3": "10.0.3.1"}  # interface -> address, as in kernels
INDEX = {"l1": 2, "l2": 3, "l3": 4}
REMOTE = ("10.0.1.2", 5040)
TOKEN = 100


class Host:
    """Links l1 to l3, no sockets at first, and time that stands still."""

    def __init__(self, patch, log, **answers):
        self.kernel = Kernel()
        self.kernel.dumps, self.kernel.listeners = self, []
        for name, answer in answers.items():
            setattr(self.kernel, name, answer)
        self.kernel.install(patch)
        self.clock = self.kernel.clock
        for module in (listener, watch):
            patch.setattr(module, "monotonic", self.clock)
        patch.setattr(sock_diag, "look_up", self._look_up)
        patch.setattr(sock_diag, "look_up_connections", self._look_up_connections)
        patch.setattr(sockstat, "tcp_sockets", lambda: self.tcp_sockets)
        self.sockets, self.connections = {}, {}  # cookie -> what m.subflow makes one of; token -> m.connection
        self.tcp_sockets = 10**6
        self.fault = None  # what dumps and lookups raise
        self.looked_up, self.dumped = [], []  # local ports, by lookup; protocols
        self.listening = False  # does a listener answer for sockets that are gone?
        self.snapshot = self.kernel.snapshot(log, sample_age=0)
        self.sampler = self.snapshot.sampler
        self.ledger, self.listener = self.sampler.ledger, self.sampler.listener

    def start(self):
        """Listen, and take the first sample."""
        self.listener.open(0)
        self.sample()
        return self

    # What happens.

    def open(self, cookie, link="l1", *, token=TOKEN, joined=False, told=True, port=None, **more):
        """A subflow, by the path manager's event or (not `told`) without."""
        self.sockets[cookie] = {
            "token": token, "local": (LINKS[link], port or 1000 + cookie), "remote": REMOTE,
            "flags": m.JOINED_BY_US if joined else m.OPENED_BY_US, **more}
        self.connections.setdefault(token, {"cookie": 10**6 + token, "info": {"subflows": 0, "subflows_total": 0}})
        info = self.connections[token]["info"]
        info["subflows"] += joined
        info["subflows_total"] += 1
        if told:
            self.tell(m.SUB_ESTABLISHED if joined else m.CREATED, cookie)
        return self

    def tell(self, kind, cookie, **more):
        """An event of a subflow."""
        one = self.sockets[cookie]
        self._send(self.kernel.events, m.event(kind, one["token"], one["local"], one["remote"], **more))

    @staticmethod
    def _send(broadcasts, message):
        if not isinstance(broadcasts, Exception):  # else nobody listens
            broadcasts.waiting.append(message)

    def carry(self, cookie, **counters):
        """Its counters are these from now on; those of its connection grow as they do."""
        one = self.sockets[cookie]
        info = self.connections[one["token"]]["info"]
        grown = counters.get("received", one.get("received", 0)) - one.get("received", 0)
        info["bytes_received"] = info.get("bytes_received", 0) + grown
        one.update(counters)
        return self

    def end(self, cookie, told=True, zeroed=False):
        """It is gone; the broadcast may have nothing to say, or not come (yet): then it is returned."""
        one = self.sockets.pop(cookie)
        info = self.connections.get(one["token"], {"info": {"subflows": 1, "subflows_total": 1}})["info"]
        info["subflows"] -= bool(one["flags"] == m.JOINED_BY_US)
        info["subflows_total"] -= 1
        ends = {name: one[name] for name in ("local", "remote", "bound") if name in one}
        counters = {name: one[name] for name in ("received", "sent", "retrans") if name in one}
        message = m.zeroed(cookie, **ends) if zeroed else m.destroyed(cookie, **ends, **counters)
        if told:
            self._send(self.kernel.ends, message)
        return message

    def reroute(self, address, link):
        """Packets from an address leave by another interface now."""
        self.kernel.egress[address] = INDEX[link] if link else None
        self.kernel.changed = True

    # What the agent does.

    def tick(self, seconds=0.02, times=1):
        """Turns of the listener, the first after some time."""
        for _ in range(times):
            self.clock.now += seconds
            self.listener.tick()
        return self

    def sample(self):
        """A sample."""
        self.clock.now += 0.001
        self.snapshot.refresh_sockets()
        return self

    # What it says.

    def path(self, link="l1"):
        """An interface."""
        return self.sampler.topology.paths[link]

    def bytes(self, link="l1"):
        """(received, sent) of an interface."""
        return self.path(link).received, self.path(link).sent

    def counts(self, link="l1"):
        """(opened, closed) of an interface."""
        return self.path(link).opened, self.path(link).closed

    def known(self):
        """Local ports of the subflows that are followed."""
        return sorted(int.from_bytes(flow.identity[:2], "big") for flow in self.ledger.flows)

    # The answers of its kernel.

    def __getitem__(self, protocol):
        self.dumped.append(protocol)
        if self.fault:
            raise self.fault
        sockets = self.sockets if protocol == m.TCP else self.connections
        return [b"".join([self._message(protocol, key) for key in sockets]) + m.done()]

    def _message(self, protocol, key):
        if protocol == m.TCP:
            one = dict(self.sockets[key])
            return m.plain_tcp(key, local=one["local"], remote=one["remote"]) if one.pop("plain", False) else (
                m.subflow(key, **one))
        one = dict(self.connections[key])
        return m.connection(one.pop("cookie"), key, **one)

    def _look_up(self, requests):
        requests = list(requests)
        self.looked_up.append(sorted(int.from_bytes(identity[:2], "big") for _, identity in requests))
        if self.fault:
            raise self.fault
        return [self._found(family, identity) for family, identity in requests]

    def _found(self, family, identity):
        """As __inet_lookup finds it: a bound socket only by its device; then the cookie must fit."""
        for cookie in self.sockets:
            message = self._message(m.TCP, cookie)
            bound = message[56:60]
            if (message[16], message[20:56]) == (family, identity[:36]) and bound in (bytes(4), identity[36:40]):
                if identity[40:] in (inet_diag.NO_COOKIE, message[60:68]):
                    return message
        if self.listening:
            pairs = [(m.INFO, bytes(280)), (m.ULP, m.pack([(m.ULP_NAME, b"mptcp\0")]))]
            return m.socket_message(9, pairs, state=m.LISTEN, remote=("0.0.0.0", 0), local=(
                "0.0.0.0", int.from_bytes(identity[:2], "big")))
        return m.done(-errno.ENOENT, m.NLMSG_ERROR)

    def _look_up_connections(self, tokens):
        if self.fault:
            raise self.fault
        return [self._message(m.MPTCP, token) if token in self.connections else m.done(-errno.ENOENT, m.NLMSG_ERROR)
                for token in tokens]
