# SPDX-License-Identifier: GPL-2.0-or-later
"""Other network namespaces, by their names: a worker in each, and a helper that can start them (helper.py).

The agent's side.  Without such names in the configuration there is no helper.
"""

import os
import socket
from select import select
from time import monotonic
from typing import Callable, Dict, NamedTuple, Optional, Sequence, Tuple

from . import helper
from .config import Config, printable
from .containers import NAME, Unknown
from .worker import Client

_AGAIN = 10.0  # seconds until a worker that failed is started anew
_AGAIN_GONE = 1.0  # until a container is looked for anew
_PATIENCE = 1.0  # seconds for the helper to fork, and for pmdaroot to find a container
_MOST_CONTAINERS = 16  # that are watched at once
_MOST_NAMES = 100  # that are remembered and logged, of those that clients make up


class _Try(NamedTuple):
    """The last time that a worker was to be started."""

    when: float
    gone: bool  # no such container


_NEVER = _Try(float("-inf"), False)


class Namespaces:
    """The agent's side: `start`, the drop of privileges, then `worker`."""

    def __init__(self, log: Callable[[str], None], names: Sequence[str] = (), containers: bool = False):
        self._log, self._names, self._containers = log, tuple(names), containers
        self._channel: Optional[socket.socket] = None
        self._workers: Dict[str, Tuple[Client, Optional[Tuple[int, int]]]] = {}  # and which namespace it is in
        self._tried: Dict[str, _Try] = {}
        self._told: Dict[str, str] = {}

    @property
    def names(self) -> Tuple[str, ...]:
        """Those that are configured."""
        return self._names

    def start(self, user: str, settings: Config) -> None:
        """Fork the helper, which becomes `user`: as root, and before there are threads."""
        if not self._names and not self._containers:
            return
        self._channel, channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with channel:
            if not os.fork():
                helper.run(channel, user, settings, self._log)
        self._channel.settimeout(_PATIENCE)

    def begin(self) -> None:
        """Start the workers that are not there, now and then; end those whose namespace is gone."""
        if self._channel and select([self._channel], [], [], 0)[0]:
            self._hang_up()
        for name in [name for name, (client, _) in self._workers.items() if not client.alive]:
            if self._is_container(name):
                del self._workers[name]
                self._tried[name] = self._tried.get(name, _NEVER)._replace(gone=True)
        for name in self._names:
            self.worker(name)

    def exists(self, name: str) -> bool:
        """May this namespace have a worker in a while?"""
        if name in self._names:
            return identity(name) is not None
        return self._is_container(name) and (name not in self._tried or not self._tried[name].gone)

    def worker(self, name: str) -> Optional[Client]:
        """The worker of a configured namespace or a container, None while there is none."""
        container = self._is_container(name)
        if name not in self._names and not container:
            self._tell(name, "is not configured")
            return None
        now = None if container else identity(name)
        if name in self._workers:
            client, then = self._workers[name]
            if now == then and client.alive:
                return client
            client.close()
            del self._workers[name]
            if now != then:
                self._tried.pop(name, None)
        if now is None and not container:
            self._tell(name, "is not there")
            return None
        last = self._tried.get(name, _NEVER)
        if monotonic() - last.when >= (_AGAIN_GONE if last.gone else _AGAIN):
            return self._begin(name, now)
        return None

    def _begin(self, name: str, now: Optional[Tuple[int, int]]) -> Optional[Client]:
        gone = False
        while name not in self._names and len(self._tried) >= _MOST_NAMES:
            del self._tried[next(iter(self._tried))]
        try:
            client = self._container(name) if now is None else self._named(name)
            self._workers[name] = client, now
            self._tell(name, "is watched")
            return client
        except Unknown as error:
            gone = True
            self._tell(name, str(error))
        except (OSError, EOFError, ValueError) as error:
            self._tell(name, f"{type(error).__name__}: {error}")
        finally:
            self._tried[name] = _Try(monotonic(), gone)
        return None

    def _named(self, name: str) -> Client:
        return Client(self._ask(bytes([self._names.index(name)])))

    def _container(self, name: str) -> Client:
        if sum(one not in self._names for one in self._workers) >= _MOST_CONTAINERS:
            raise OSError(f"{_MOST_CONTAINERS} containers are watched, and that is the most")
        client = Client(self._ask(bytes([helper.CONTAINER]) + name.encode("ascii")))
        try:
            greeting = client.greet(_PATIENCE)
            if greeting["unknown"]:
                raise Unknown(greeting["error"])
            if greeting["error"]:
                raise OSError(greeting["error"])
        except BaseException:
            client.close()
            raise
        return client

    def _is_container(self, name: str) -> bool:
        return self._containers and name not in self._names and NAME.fullmatch(name) is not None

    def _ask(self, question: bytes) -> socket.socket:
        if self._channel is None:
            raise EOFError("the process that enters namespaces has ended")
        try:
            self._channel.send(question, socket.MSG_NOSIGNAL)
            data, descriptors, _, _ = socket.recv_fds(self._channel, 1, 1)
        except OSError:
            self._hang_up()  # an answer that comes late would be taken for that of the next question
            raise
        if not data or not descriptors:
            raise EOFError("no worker could be started")
        return socket.socket(fileno=descriptors[0])

    def _hang_up(self) -> None:
        if self._channel:
            self._channel.close()
            self._channel = None
            self._log("namespaces: the process that enters them has ended; those that are watched stay, no other comes "
                      "before pmcd is restarted")

    def _tell(self, name: str, what: str) -> None:
        """Once, and of names that clients make up not more than a bounded number."""
        if self._told.get(name) == what or (name not in self._told and name not in self._names
                                            and len(self._told) >= _MOST_NAMES + len(self._names)):
            return
        self._told[name] = what
        kind = "namespace" if name in self._names else "container"
        self._log(f"{kind} {printable(name)}: {what}")
        if len(self._told) == _MOST_NAMES + len(self._names):
            self._log("namespaces: so many names were asked for that others are no longer logged")


def identity(name: str) -> Optional[Tuple[int, int]]:
    """What tells a namespace from another of the same name, None when it is not there."""
    try:
        status = os.stat(f"{helper.DIRECTORY}/{name}")
    except OSError:
        return None
    return status.st_dev, status.st_ino
