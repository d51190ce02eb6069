# SPDX-License-Identifier: GPL-2.0-or-later
"""Listeners that accept MPTCP, and how many of their connections speak it."""

import socket
from collections import Counter
from typing import Dict, Iterable, List

from .flows import Connection, Flow
from .kernel import inet_diag, sock_diag
from .kernel.inet_diag import ESTABLISHED, PLAIN, Decoder

_MOST_PORTS = 1000  # the kernel walks through them for each socket


class Service:
    """A local port with MPTCP listeners; `mptcp` and `tcp`: established connections, by what they speak."""

    def __init__(self, port: int):
        self.port = port
        self.listeners: List[Flow] = []
        self.mptcp = self.tcp = 0

    @property
    def addresses(self) -> str:
        """Where it listens: `0.0.0.0, ::`."""
        return ", ".join(sorted({listener.endpoints[0] for listener in self.listeners}))


class Services:
    """Counts their connections; keeps what decodes."""

    def __init__(self) -> None:
        self._plain = Decoder(PLAIN)

    def read(self, listeners: Iterable[Flow], connections: Iterable[Connection]) -> Dict[int, Service]:
        """Services by port, given the MPTCP sockets of a sample.  Raises OSError and Malformed.

        Plain TCP sockets are asked for by port, so that those of other
        services cost little.
        """
        found: Dict[int, Service] = {}
        for listener in listeners:
            port = inet_diag.local_port(listener.data, listener.offset)
            if port:  # 0: the path manager's own, of an endpoint with a port
                found.setdefault(port, Service(port)).listeners.append(listener)
        if not found:
            return found
        spoken = Counter(inet_diag.local_port(one.data, one.offset) for one in connections
                         if one.established and not one.fallback)
        plain = Counter(inet_diag.local_port(one.data, one.offset) for one in connections
                        if one.established and one.fallback)
        # What an IPv6 socket accepts is IPv6, v4-mapped or not.
        families = {inet_diag.identity(one.data, one.offset)[1] for service in found.values()
                    for one in service.listeners}
        for _, data, offset, _ in self._plain.decode(sock_diag.dump(
                socket.IPPROTO_TCP, 1 << ESTABLISHED, sorted(found)[:_MOST_PORTS], families)):
            plain[inet_diag.local_port(data, offset)] += 1
        for port, service in found.items():
            service.mptcp, service.tcp = spoken[port], plain[port]
        return dict(sorted(found.items()))
