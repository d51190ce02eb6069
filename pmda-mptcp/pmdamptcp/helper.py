# SPDX-License-Identifier: GPL-2.0-or-later
"""The process that starts workers in other network namespaces.

To enter a namespace takes CAP_SYS_ADMIN, which the agent is not to have.  So,
only if they are configured, it forks a helper before it drops root.  That is
told nothing but places in the list of names, and forks a worker which enters
the namespace, keeps CAP_NET_ADMIN alone, and talks to the agent by a socket of
its own (worker.py).  Each ends when its socket does.  With `containers`, it
may be told a container's name, too (containers.py).
"""

import os
import signal
import socket
from typing import Callable, NoReturn

from . import child, containers, privileges, seccomp, worker
from .config import Config
from .containers import NAME, Unknown
from .privileges import Capability

DIRECTORY = "/run/netns"
CONTAINER = 255  # in the place of a place in the list of names: a container's name follows

CAPABILITIES = [Capability.CAP_SYS_ADMIN, Capability.CAP_NET_ADMIN]
FOR_CONTAINERS = [Capability.CAP_SYS_PTRACE,  # to open namespaces of processes that may more than we
                  Capability.CAP_DAC_OVERRIDE]  # to reach pmdaroot's socket, which is root's


def run(channel: socket.socket, user: str, settings: Config, log: Callable[[str], None]) -> NoReturn:
    """The helper, from its birth on."""
    try:
        child.begin("pmdamptcp-ns", channel)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for workers
        privileges.become(user, CAPABILITIES + (FOR_CONTAINERS if settings.containers else []),
                          lambda line: log(f"namespaces: {line}"))
        while True:
            question = channel.recv(256)
            if not question:
                break
            ours, theirs = socket.socketpair()
            with ours, theirs:
                if not os.fork():
                    _work(theirs, question, settings, log)
                socket.send_fds(channel, [b"!"], [ours.fileno()])
    except ConnectionError:
        pass  # the agent has ended
    except Exception as fault:
        log(f"namespaces: {type(fault).__name__}: {fault}")
    finally:
        os._exit(0)


def _work(channel: socket.socket, question: bytes, settings: Config, log: Callable[[str], None]) -> NoReturn:
    """A worker, from its birth on."""
    container = question[0] == CONTAINER
    name = question[1:].decode("ascii") if container else settings.namespaces[question[0]]

    def tell(line: str) -> None:
        log(f"{'container' if container else 'namespace'} {name}: {line}")

    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        child.begin("pmdamptcp-ns", channel)
        ended = None
        if container:
            ended = _enter_container(channel, name, settings)
        else:
            privileges.enter_network(f"{DIRECTORY}/{name}")
        privileges.keep([Capability.CAP_NET_ADMIN])
        if not settings.listener and not settings.nftables:
            privileges.give_up(tell)
        if settings.seccomp:
            seccomp.restrict(tell)
        worker.serve(channel, settings, tell, ended)
    except (EOFError, ConnectionError, Unknown):
        pass  # the agent has ended, or wants no more, or knows
    except Exception as fault:
        tell(f"{type(fault).__name__}: {fault}")
    finally:
        os._exit(0)


def _enter_container(channel: socket.socket, name: str, settings: Config) -> int:
    """Enter it, and tell the agent what came of that."""
    greeting = {"error": "", "unknown": False}
    try:
        if not settings.containers or not NAME.fullmatch(name):
            raise Unknown("no name of a container")
        return containers.enter(name)
    except (Unknown, OSError) as error:
        greeting = {"error": str(error), "unknown": isinstance(error, Unknown)}
        raise EOFError from error
    finally:
        worker.send(channel, greeting)
