# SPDX-License-Identifier: GPL-2.0-or-later
"""Who owns a socket: a process of its own looks it up, and no fetch waits for that.

Other users' processes may be looked into with CAP_SYS_PTRACE and
CAP_DAC_READ_SEARCH (capabilities(7)), which the agent is not to have.  So
before it drops root it forks a child that keeps just these, is told nothing
but numbers of inodes, and ends when its socket does.

A message is a count and as many records: asked, inodes; answered, inode, pid,
user and name for each that somebody has open.
"""

import os
import select
import signal
import socket
from contextlib import suppress
from math import inf
from struct import Struct, error as StructError
from sys import byteorder
from threading import Thread
from time import monotonic
from typing import Any, BinaryIO, Callable, Dict, Iterable, List, NamedTuple, NoReturn, Optional, Set, Tuple

from . import child, seccomp
from .kernel import processes
from .privileges import Capability, become

_COUNT = _INODE = Struct("=I")
_OWNER = Struct("=III48s")  # inode, pid, user, name: 15 bytes, each of which may have become U+FFFD
_MOST = 1 << 20  # inodes in a question
_PERIOD, _REST = 1.0, 20  # from look to look at least a second, and 20 times what one takes
_AGAIN = (2.0, 10.0, 60.0, inf)  # seconds until an inode is asked again that nobody had the 1st, 2nd, ... time
_CHECK = 60.0  # and one that somebody had: processes fork, and run other programs


class _Known(NamedTuple):
    owner: Optional[processes.Process] = None
    misses: int = 0  # in a row
    again: float = -inf  # when to ask


class Owners:
    """The agent's side: `start`, the drop of privileges, `run`; then `want` and `of`, which do not block.

    If the child ends, which is logged once, nobody owns anything any more.
    """

    def __init__(self, log: Callable[[str], None]):
        self._log, self._closing = log, False
        self._child = 0
        self._channel: Optional[socket.socket] = None  # to the child
        self._bell: Optional[socket.socket] = None  # to the thread, which alone writes to _known
        self._thread: Optional[Thread] = None
        self._wanted: Set[int] = set()
        self._known: Dict[int, _Known] = {}

    def start(self, user: str) -> None:
        """Fork the child, which becomes `user`: as root, or it sees little, and before there are threads."""
        try:
            self._channel, channel = socket.socketpair()
            with channel:
                self._child = os.fork()
                if not self._child:
                    _live(channel, user, self._log)
        except OSError as error:
            self._end(error)

    def run(self) -> None:
        """Start the thread: after the drop, for privileges are each thread's own."""
        if self._channel and self._child:
            self._bell, ring = socket.socketpair()
            self._bell.setblocking(False)
            self._thread = Thread(target=self._exchange, args=(self._channel, ring), name="owners", daemon=True)
            self._thread.start()

    def want(self, inodes: Iterable[int]) -> None:
        """These (u32 each) are all inodes that `of` is to know.  They are looked up now and then."""
        if self._bell:
            wanted = set(inodes)
            wanted.discard(0)  # has no process, or none yet
            self._wanted = wanted
            with suppress(OSError):  # it was rung enough, or nobody is there
                self._bell.send(b"!", socket.MSG_NOSIGNAL)

    def of(self, inode: int) -> Optional[processes.Process]:
        """The owner, None as long as none is known."""
        known = self._known.get(inode)
        return known.owner if known else None

    def close(self) -> None:
        """End the thread and the child."""
        self._closing = True
        if self._channel:
            with suppress(OSError):
                self._channel.shutdown(socket.SHUT_RDWR)
        if self._thread:
            self._thread.join()
        if self._bell:
            self._bell.close()
        self._end(EOFError("closed"))

    def _exchange(self, channel: socket.socket, ring: socket.socket) -> None:
        try:
            with ring, channel.makefile("rb") as answers:
                while True:
                    _wait(channel, ring)
                    ring.recv(1 << 12)
                    start = monotonic()
                    due = self._due(start)
                    if due:
                        _send(channel, _INODE, [(inode,) for inode in due])
                        self._note(due, _receive(answers, _OWNER, len(due)))
                        _wait(channel, timeout=max(_PERIOD, _REST * (monotonic() - start)))
        except (EOFError, OSError, ValueError, StructError) as fault:
            self._end(fault)

    def _due(self, now: float) -> Set[int]:
        """What to ask; forgets what nobody wants."""
        wanted, new = self._wanted, _Known()
        for inode in self._known.keys() - wanted:
            del self._known[inode]
        return {inode for inode in wanted if self._known.get(inode, new).again <= now}

    def _note(self, asked: Set[int], answer: List[Tuple[Any, ...]]) -> None:
        """Keep an answer.  Raises ValueError when it does not fit the question."""
        now = monotonic()
        found = {inode: processes.Process(pid, processes.text(command), uid)
                 for inode, pid, uid, command in answer if pid}
        if len(found) < len(answer) or not found.keys() <= asked:
            raise ValueError("an answer that nobody asked for")
        check = (now // _CHECK + 1) * _CHECK  # the same for all, so that one look serves them
        for inode in asked:
            misses = 0 if inode in found else self._known.get(inode, _Known()).misses + 1
            again = now + _AGAIN[min(misses, len(_AGAIN)) - 1] if misses else check
            self._known[inode] = _Known(found.get(inode), misses, again)

    def _end(self, why: Exception) -> None:
        if not self._closing:
            self._log(f"owners of sockets: {type(why).__name__}: {why}; their metrics have no value")
        self._known.clear()
        if self._channel:
            self._channel.close()
        if self._child:
            with suppress(PermissionError):  # ended before it could become the user
                os.kill(self._child, signal.SIGKILL)  # in case it hangs; it has nothing to tidy up
            os.waitpid(self._child, 0)
            self._child = 0


def _wait(channel: socket.socket, *others: socket.socket, timeout: Optional[float] = None) -> None:
    """Until one of the others can be read.  Raises EOFError when it is the channel: nothing was asked."""
    if channel in select.select([channel, *others], [], [], timeout)[0]:
        raise EOFError("the process that looks them up has ended")


def _send(channel: socket.socket, record: Struct, rows: List[Tuple[Any, ...]]) -> None:
    channel.sendall(_COUNT.pack(len(rows)) + b"".join(record.pack(*row) for row in rows), socket.MSG_NOSIGNAL)


def _receive(file: BinaryIO, record: Struct, most: int) -> List[Tuple[Any, ...]]:
    """One message.  Raises OSError, EOFError and, for more than `most` records, ValueError."""
    head = file.read(_COUNT.size)
    count = int.from_bytes(head, byteorder)
    if count > most:
        raise ValueError(f"{count} records where {most} may be")
    data = file.read(count * record.size)
    if len(head) < _COUNT.size or len(data) < count * record.size:
        raise EOFError("the process that looks them up has ended")
    return list(record.iter_unpack(data))


def _live(channel: socket.socket, user: str, log: Callable[[str], None]) -> NoReturn:
    """The child, from its birth on."""
    try:
        child.begin("pmdamptcp-proc", channel)
        become(user, [Capability.CAP_DAC_READ_SEARCH, Capability.CAP_SYS_PTRACE],
               lambda line: log(f"owners of sockets: {line}"))
        seccomp.restrict(lambda line: log(f"owners of sockets: {line}"))
        with channel.makefile("rb") as questions:
            while True:
                found = processes.owners({inode for inode, in _receive(questions, _INODE, _MOST)})
                _send(channel, _OWNER, [(inode, pid, uid, command.encode())
                                        for inode, (pid, command, uid) in found.items()])
    except (EOFError, ConnectionError):
        pass  # the agent has ended
    except Exception as fault:
        log(f"owners of sockets: {type(fault).__name__}: {fault}")
    finally:
        os._exit(0)
