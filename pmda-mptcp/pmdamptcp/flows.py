# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections, their subflows, and the interfaces that these leave by."""

from typing import ClassVar, List, Optional, Tuple

from .kernel.inet_diag import MPTCP_INFO, NO_COOKIE, Row, endpoints, info_field
from .masks import Remote, socket_text

_joined, _total = info_field(MPTCP_INFO, "subflows"), info_field(MPTCP_INFO, "subflows_total")


class Path:
    """An interface as MPTCP uses it: totals since the agent started, gauges of the last sample."""

    __slots__ = ("id", "name", "up", "received", "sent", "retrans", "opened", "closed", "backup_received",
                 "backup_sent", "subflows", "backup", "stalled", "sole", "rtt_sum")

    def __init__(self, number: int, name: str):
        self.id, self.name = number, name
        self.up: Optional[bool] = None  # None: not known now
        self.received = self.sent = self.retrans = self.opened = self.closed = 0
        self.backup_received = self.backup_sent = 0  # the part that subflows carried while they were marked backup
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


class Flow(Row):
    """A socket with its two ends as text."""

    __slots__ = ()

    peers: ClassVar[Remote] = Remote.FULL  # what is shown of their addresses: one setting for the agent

    @property
    def local(self) -> str:
        """Local address and port."""
        return socket_text(*self.endpoints[:2])

    @property
    def remote(self) -> str:
        """Remote address and port, as far as they are shown."""
        return self.peers.text(*self.endpoints[2:])


class Connection(Flow):
    """An MPTCP connection; `received` and `sent` sum up its subflows, ended ones included."""

    __slots__ = ("id", "token", "cookie", "flows", "begun", "whole", "seen", "open", "fallback", "established",
                 "subflows", "dead", "most", "path", "server_side", "opened", "joined", "received", "sent", "_name")

    def __init__(self, token: int):
        self.token = token
        self.begun = self.whole = False  # was its initial subflow known, and are all, also those that ended?
        self.flows: List["Subflow"] = []  # that have not ended
        self.id = self.cookie = 0  # given by the first sample that shows it
        self.opened = self.joined = 0  # subflows that samples showed, and those of them that are not the initial one
        self.seen = 0  # the last sample that showed it
        self.open = 0  # the last sample in which it could have subflows
        self.established = self.fallback = False
        self.subflows = self.dead = 0  # established ones, and those of them that cannot do their work
        self.most = 0  # live ones that a sample saw at once, while it was established
        self.path: Optional[Path] = None  # of its live subflows, or MANY
        self.server_side: Optional[bool] = None
        self.received = self.sent = 0
        self._name = ""

    @property
    def live(self) -> int:
        """Established subflows that can do their work."""
        return self.subflows - self.dead

    @property
    def expected(self) -> int:
        """Subflows that it has by the kernel's count, those that are being opened included."""
        total = _total(self)
        return (_joined(self) or 0) + 1 if total is None else total

    @property
    def name(self) -> str:
        """`c17 10.0.1.1:33752->10.0.1.2:5201`, for good."""
        if not self._name:
            self._name = f"c{self.id} {self.local}->{self.remote}"
        return self._name


class Subflow(Flow):
    """A TCP subflow of a connection.  Only those that are instances have a row."""

    __slots__ = ("id", "cookie", "token", "connection", "number", "family", "identity", "initial", "told", "born",
                 "due", "missing", "ended", "seen", "noticed", "shown", "received", "sent", "retrans", "route",
                 "path", "carrier", "routed", "live", "backup", "_name")

    def __init__(self, connection: Connection, family: int, identity: bytes, initial: bool):
        self.connection, self.token = connection, connection.token
        self.family, self.identity = family, identity
        self.initial = initial  # did it open the connection, rather than join it?  Address id 0 does not tell
        self.told = False  # has an event told of it?  The next one with its ends is another's
        self.cookie = 0  # not met yet: only an event has told of it
        self.born = self.due = 0.0  # when the listener heard of it, and when it looks at it next
        self.missing = False  # did a lookup find no such socket?
        self.ended = False  # nothing more is booked
        self.seen = self.noticed = 0  # the last sample that showed it, and the last time that it was met besides
        self.shown = False  # as an instance: its row is kept
        self.live = False
        self.backup = 0  # BACKUP bits of its flags: as they were last seen, or told when it joined
        self.id = self.number = 0  # given when all new ones of a sample are known, the initial one first
        self.received = self.sent = self.retrans = 0  # as far as they are booked
        self.route = identity[4:] + bytes([family])  # what routing is asked with
        self.path: Optional[Path] = None  # the last known
        self.carrier: Optional[Path] = None  # its bytes are booked on: the path up to the last sample
        self.routed = False  # is that where packets leave now?
        self._name = ""

    @property
    def name(self) -> str:
        """`c17::2 enp1s0 10.0.2.1:33493->10.0.2.2:5201`, for good."""
        if not self._name:
            interface = self.path.name if self.path else "-"
            self._name = f"c{self.connection.id}::{self.number} {interface} {self.local}->{self.remote}"
        return self._name

    @property
    def endpoints(self) -> Tuple[str, int, str, int]:
        """Local address and port, remote address and port."""
        return endpoints(self.identity, self.family)

    @property
    def request(self) -> Tuple[int, bytes]:
        """What a lookup asks for: its family and inet_diag_sockid."""
        return self.family, self.identity + (self.cookie.to_bytes(8, "little") if self.cookie else NO_COOKIE)

    @property
    def flags(self) -> int:
        """MPTCP_SUBFLOW_FLAG_*."""
        return self.values[8]
