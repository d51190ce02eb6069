# SPDX-License-Identifier: GPL-2.0-or-later
"""The picture of another namespace: a worker that has it, and its client in the agent.

A message is its length and JSON.  Asked: serials of domains, and a cluster or
null.  Answered: for each domain [id, name, labels] of its instances, and for
the cluster [id, values or null] of its rows.
"""

import json
import socket
from select import select
from struct import Struct
from time import monotonic
from typing import Any, Callable, Dict, Iterable, List, NoReturn, Optional

from . import privileges
from .config import Config
from .flows import Flow
from .metrics import Domain, Group
from .metrics.registry import GROUPS
from .snapshot import Snapshot

_LENGTH = Struct("=I")
_MOST = 1 << 28
_IDLE = 300.0  # seconds
_PATIENCE = 3.0  # seconds for all that one request of pmcd asks; that waits 5

CLUSTERS: Dict[int, Group[Any]] = {group.cluster: group for group in GROUPS}
DOMAINS: Dict[int, Domain[Any]] = {group.domain.serial: group.domain for group in GROUPS if group.domain}


def serve(channel: socket.socket, settings: Config, log: Callable[[str], None],
          ended: Optional[int] = None) -> NoReturn:
    """Answer until the agent has no more questions; then raises EOFError.

    A container's also until `ended` gets readable or nobody has asked for a while.
    """
    Flow.peers = settings.remote_addresses
    snapshot = Snapshot(settings, log, privileges.net_admin())
    snapshot.start()
    while True:
        if ended is not None and select([channel, ended], [], [], _IDLE)[0] != [channel]:
            raise EOFError("the container has ended, or nobody asks")
        question = receive(channel)
        send(channel, answer(snapshot, question["domains"], question["cluster"]))


def answer(snapshot: Snapshot, serials: Iterable[int], cluster: Optional[int]) -> Dict[str, Any]:
    """What is asked for, as JSON can have it."""
    listed, rows = {}, []
    for serial in serials:
        DOMAINS[serial].refresh(snapshot)
    group = CLUSTERS[cluster] if cluster is not None else None
    if group:
        group.refresh(snapshot)
    for domain in {**{serial: DOMAINS[serial] for serial in serials},
                   **({group.domain.serial: group.domain} if group and group.domain else {})}.values():
        instances = domain.instances(snapshot)
        listed[domain.serial] = [[number, domain.name(row), domain.labels(row)] for number, row in instances.items()]
    if group:
        found = group.rows_of(snapshot, group.domain.instances(snapshot) if group.domain else None)
        rows = [[number, None if row is None else [metric.get(row) for metric in group.metrics]]
                for number, row in found.items()]
    return {"domains": list(listed.items()), "rows": rows}


class Client:
    """A worker as the agent sees it.  Once it does not answer in time, it is done with."""

    def __init__(self, channel: socket.socket):
        self._channel = channel
        self._open = True
        self._until = 0.0

    @property
    def alive(self) -> bool:
        """Can it be asked?  That it says something, or its end, without a question is its end."""
        if self._open and select([self._channel], [], [], 0)[0]:
            self.close()
        return self._open

    def greet(self, seconds: float) -> Dict[str, Any]:
        """What it says first, that of a container.  Raises OSError, EOFError and ValueError."""
        greeting: Dict[str, Any] = receive(self._channel, monotonic() + seconds)
        return greeting

    def begin(self) -> None:
        """A request of pmcd begins."""
        self._until = monotonic() + _PATIENCE

    def ask(self, domains: List[int], cluster: Optional[int] = None) -> Optional[Dict[str, Any]]:
        """The answer, None if there is none."""
        if not self.alive:
            return None
        try:
            send(self._channel, {"domains": domains, "cluster": cluster}, self._until)
            answer: Dict[str, Any] = receive(self._channel, self._until)
            return answer
        except (OSError, EOFError, ValueError):
            self.close()
            return None

    def close(self) -> None:
        """End it."""
        self._open = False
        self._channel.close()


def send(channel: socket.socket, message: Dict[str, Any], until: Optional[float] = None) -> None:
    """Send a message.  Raises OSError."""
    text = json.dumps(message, separators=(",", ":")).encode()
    _limit(channel, until)
    channel.sendall(_LENGTH.pack(len(text)) + text, socket.MSG_NOSIGNAL)


def receive(channel: socket.socket, until: Optional[float] = None) -> Any:
    """Receive a message.  Raises OSError, EOFError and ValueError."""
    size, = _LENGTH.unpack(_read(channel, _LENGTH.size, until))
    if size > _MOST:
        raise ValueError(f"a message of {size} bytes")
    return json.loads(_read(channel, size, until))


def _read(channel: socket.socket, size: int, until: Optional[float]) -> bytes:
    data = bytearray()
    while len(data) < size:
        _limit(channel, until)
        piece = channel.recv(size - len(data))
        if not piece:
            raise EOFError("the other side has ended")
        data += piece
    return bytes(data)


def _limit(channel: socket.socket, until: Optional[float]) -> None:
    if until is not None:
        channel.settimeout(max(0.001, until - monotonic()))
