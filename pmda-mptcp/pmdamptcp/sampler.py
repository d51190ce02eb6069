# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks at all sockets: for a sample, or to set the ledger right."""

import gc
import socket
import threading
from typing import Callable, Iterator

from .kernel import sock_diag, sockstat
from .kernel.inet_diag import IPPROTO_MPTCP, LISTEN, WANTED_STATES, Decoder
from .kernel.layouts import Decoded
from .ledger import Ledger
from .listener import Listener
from .sample import Sample
from .topology import Topology

_LOOKUP_COST = 4  # as that of so many sockets in a dump


class Sampler:
    """The ledger, and all that feeds it; `lock` is for whoever touches any of it."""

    def __init__(self, topology: Topology, most: int, log: Callable[[str], None]):
        self.lock = threading.RLock()
        self.topology = topology
        self.ledger = Ledger(topology.route)
        self.sample = Sample(self.ledger, most)
        self.listener = Listener(self.ledger, topology, self.lock, self.reconcile, log)
        self._decoders = {protocol: Decoder(protocol) for protocol in (socket.IPPROTO_TCP, IPPROTO_MPTCP)}
        self.lookup_samples = 0  # those that were spared the dump of all TCP sockets

    @property
    def sockets(self) -> int:
        """How many were read so far."""
        return sum(decoder.messages for decoder in self._decoders.values())

    @property
    def malformed(self) -> int:
        """Messages that could not be read."""
        return sum(decoder.malformed for decoder in self._decoders.values()) + self.listener.malformed

    def take(self) -> bool:
        """Take a sample.  Raises OSError and Malformed."""
        with self.lock:
            self.topology.refresh()
            # What has ended is booked before what goes on is looked at.
            self.listener.drain()
            self._round(lambda rerouted: self.sample.update(
                self._dump(IPPROTO_MPTCP, WANTED_STATES | 1 << LISTEN), self._subflows, self.topology.paths.values(),
                rerouted))
        return True

    def reconcile(self, whole: bool) -> None:
        """Bring the ledger up to date, with nobody asking for a sample; `whole`: also with what it does not know.

        Raises OSError and Malformed.
        """
        look = self._dump_subflows if whole or not self._few() else self._look_up
        self._round(lambda rerouted: self.ledger.reconcile(look(), rerouted))
        self.listener.reconciled()

    def _round(self, look: Callable[[bool], None]) -> None:
        rerouted = self.topology.begin_sample()
        gc.disable()  # a round makes many objects and no garbage
        try:
            look(rerouted)
        except BaseException:
            self.topology.rerouted |= rerouted  # still to be done
            raise
        finally:
            gc.enable()

    def _dump(self, protocol: int, states: int = WANTED_STATES) -> Iterator[Decoded]:
        return self._decoders[protocol].decode(sock_diag.dump(protocol, states))

    def _subflows(self) -> Iterator[Decoded]:
        """All subflows: one by one when they are known and few among other sockets, else by a dump."""
        # The kernel counts what joined a connection, also what is about to.
        if self._few() and all(len(connection.flows) >= connection.expected for connection in self.sample.connections
                               if not connection.fallback):
            self.lookup_samples += 1
            return self._look_up()
        self.listener.reconciled()
        return self._dump_subflows()

    def _few(self) -> bool:
        known = self.ledger.started and self.listener.complete
        return known and len(self.ledger) * _LOOKUP_COST <= sockstat.tcp_sockets()

    def _look_up(self) -> Iterator[Decoded]:
        return self._decoders[socket.IPPROTO_TCP].decode(sock_diag.look_up(
            flow.request for flow in self.ledger.flows))

    def _dump_subflows(self) -> Iterator[Decoded]:
        return self._dump(socket.IPPROTO_TCP)
