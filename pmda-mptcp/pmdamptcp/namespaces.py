# SPDX-License-Identifier: GPL-2.0-or-later
"""Other network namespaces, by their names: a worker in each, and a helper that can start them.

To enter a namespace takes CAP_SYS_ADMIN, which the agent is not to have.  So,
only if namespaces are configured, it forks a helper before it drops root.
That is told nothing but places in the list of names, and forks a worker which
enters the namespace, keeps CAP_NET_ADMIN alone, and talks to the agent by a
socket of its own (worker.py).  Each ends when its socket does.
"""

import gc
import os
import signal
import socket
from contextlib import suppress
from time import monotonic
from typing import Callable, Dict, List, NoReturn, Optional, Sequence, Tuple

from . import privileges, seccomp, worker
from .config import Config
from .privileges import Capability

DIRECTORY = "/run/netns"
_AGAIN = 10.0  # seconds until a worker that failed is started anew
_PATIENCE = 1.0  # seconds for the helper to fork


class Namespaces:
    """The agent's side: `start`, the drop of privileges, then `worker`."""

    def __init__(self, log: Callable[[str], None], names: Sequence[str] = ()):
        self._log, self._names = log, tuple(names)
        self._channel: Optional[socket.socket] = None
        self._workers: Dict[str, Tuple[worker.Client, Tuple[int, int]]] = {}  # and which namespace it is in
        self._tried: Dict[str, float] = {}
        self._told: Dict[str, str] = {}

    @property
    def names(self) -> Tuple[str, ...]:
        """Those that are configured."""
        return self._names

    def start(self, user: str, settings: Config) -> None:
        """Fork the helper, which becomes `user`: as root, and before there are threads."""
        if not self._names:
            return
        self._channel, channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with channel:
            if not os.fork():
                _help(channel, user, settings, self._log)
        self._channel.settimeout(_PATIENCE)

    def begin(self) -> None:
        """Start the workers that are not there, now and then; end those whose namespace is gone."""
        for name in self._names:
            self.worker(name)

    def exists(self, name: str) -> bool:
        """Is this a configured namespace that is there?"""
        return name in self._names and identity(name) is not None

    def worker(self, name: str) -> Optional["worker.Client"]:
        """The worker of a configured namespace, None while there is none."""
        if name not in self._names:
            return None
        now, client = identity(name), None
        if name in self._workers:
            client, then = self._workers[name]
            if now == then and client.alive:
                return client
            client.close()
            del self._workers[name]
            if now != then:
                self._tried.pop(name, None)
        if now is None:
            self._tell(name, "is not there")
        elif monotonic() - self._tried.get(name, float("-inf")) >= _AGAIN:
            self._tried[name] = monotonic()
            try:
                self._workers[name] = worker.Client(self._ask(self._names.index(name))), now
                self._tell(name, "is watched")
                return self._workers[name][0]
            except (OSError, EOFError) as error:
                self._tell(name, f"{type(error).__name__}: {error}")
        return None

    def _ask(self, number: int) -> socket.socket:
        if self._channel is None:
            raise EOFError("the process that enters namespaces has ended")
        try:
            self._channel.send(bytes([number]), socket.MSG_NOSIGNAL)
            data, descriptors, _, _ = socket.recv_fds(self._channel, 1, 1)
        except OSError:
            self._channel.close()  # an answer that comes late would be taken for that of the next question
            self._channel = None
            raise
        if not data or not descriptors:
            raise EOFError("no worker could be started")
        return socket.socket(fileno=descriptors[0])

    def _tell(self, name: str, what: str) -> None:
        if self._told.get(name) != what:
            self._told[name] = what
            self._log(f"namespace {name}: {what}")


def identity(name: str) -> Optional[Tuple[int, int]]:
    """What tells a namespace from another of the same name, None when it is not there."""
    try:
        status = os.stat(f"{DIRECTORY}/{name}")
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _help(channel: socket.socket, user: str, settings: Config, log: Callable[[str], None]) -> NoReturn:
    """The helper, from its birth on."""
    try:
        _be_child("pmdamptcp-ns", [channel.fileno()])
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for workers
        privileges.become(user, [Capability.CAP_SYS_ADMIN, Capability.CAP_NET_ADMIN],
                          lambda line: log(f"namespaces: {line}"))
        names = settings.namespaces
        while True:
            question = channel.recv(1)
            if not question:
                break
            ours, theirs = socket.socketpair()
            with ours, theirs:
                if not os.fork():
                    _work(theirs, names[question[0]], settings, log)
                socket.send_fds(channel, [b"!"], [ours.fileno()])
    except ConnectionError:
        pass  # the agent has ended
    except Exception as fault:
        log(f"namespaces: {type(fault).__name__}: {fault}")
    finally:
        os._exit(0)


def _work(channel: socket.socket, name: str, settings: Config, log: Callable[[str], None]) -> NoReturn:
    """A worker, from its birth on."""
    def tell(line: str) -> None:
        log(f"namespace {name}: {line}")

    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _be_child("pmdamptcp-ns", [channel.fileno()])
        privileges.enter_network(f"{DIRECTORY}/{name}")
        privileges.keep([Capability.CAP_NET_ADMIN])
        if not settings.listener and not settings.nftables:
            privileges.give_up(tell)
        if settings.seccomp:
            seccomp.restrict(tell)
        worker.serve(channel, settings, tell)
    except (EOFError, ConnectionError):
        pass  # the agent has ended, or wants no more
    except Exception as fault:
        tell(f"{type(fault).__name__}: {fault}")
    finally:
        os._exit(0)


def _be_child(name: str, keep: List[int]) -> None:
    gc.freeze()  # to look at the agent's objects would be to copy them
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the agent, and with that it ends
    with suppress(OSError), open("/proc/self/comm", "wb") as file:
        file.write(name.encode())
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor not in (2, *keep):  # pmcd waits for the agent's to be closed
            with suppress(OSError):
                os.close(descriptor)
