# SPDX-License-Identifier: GPL-2.0-or-later
"""Containers by their names, as PCP's pmdaroot knows them: Docker's, Podman's and LXC's.

Asked by the process that is to be a container's worker, before it gives up
what it may: pmdaroot's socket is root's, and who has it can start programs as
root.  So it is opened for one question and closed.

pmdaroot takes the first letters of a container's identifier for it, even if a
name goes on differently: "database" finds the container d2f1...  What it
answers is therefore checked, and so is that the process is the first of a pid
namespace: the number of a container that has ended may be anybody's by now.
"""

import ctypes
import os
import re
import select
import signal
from contextlib import contextmanager
from typing import Callable, Iterator

import cpmapi

from . import privileges

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")
_IDENTIFIER = re.compile(r"[0-9a-f]{12,64}")  # as docker(1) and podman(1) print it, or more of it
_PATIENCE = 5  # seconds; then the process that asks ends
_LONGEST = 4096  # characters of a control group's name


class Unknown(Exception):
    """There is no such container, or it does not run."""


class Root:
    """A connection to pmdaroot (libpcp_pmda, pmda.h).  Raises OSError."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libpcp_pmda.so.3")
        with _silence():  # it would write a line into the log each time
            self._descriptor = self._library.pmdaRootConnect(None)
        if self._descriptor < 0:
            raise OSError("pmdaroot cannot be reached")

    def close(self) -> None:
        """End it."""
        os.close(self._descriptor)

    def pid(self, name: str) -> int:
        """The process of what pmdaroot takes for this container, 0 if there is none or it does not run."""
        text = name.encode("ascii")
        found = int(self._library.pmdaRootContainerProcessID(self._descriptor, text, len(text)))
        if found < 0 and found != cpmapi.PM_ERR_NOCONTAINER:
            raise OSError(f"pmdaroot does not answer: {found}")
        return max(found, 0)

    def control_group(self, name: str) -> str:
        """Its control group, in whose name the container's identifier is."""
        text, found = name.encode("ascii"), ctypes.create_string_buffer(_LONGEST)
        size = self._library.pmdaRootContainerCGroupName(self._descriptor, text, len(text), found, _LONGEST)
        return found.value.decode(errors="replace") if size > 0 else ""


def enter(name: str) -> int:
    """Enter a container's network namespace; returns what gets readable when the container ends (pidfd_open(2)).

    Raises Unknown and OSError.
    """
    signal.alarm(_PATIENCE)  # the library waits as long as pmdaroot does
    pid = find(name, Root())
    signal.alarm(0)
    try:
        ended = os.pidfd_open(pid)
    except ProcessLookupError:
        raise Unknown("it has ended") from None
    if not _is_first(pid):
        raise Unknown("its process is not the first of a pid namespace")
    privileges.enter_network(f"/proc/{pid}/ns/net")
    if select.select([ended], [], [], 0)[0]:
        raise Unknown("it has ended")  # and the number may be another's
    return ended


def find(name: str, root: Root, parent: Callable[[int], bytes] = lambda pid: _parent(pid)) -> int:
    """The process of the container of this name or identifier, asked of `root`.  Raises Unknown and OSError."""
    try:
        pid = root.pid(name)
        if not pid:
            raise Unknown("no such container runs")
        if (root.pid(f"{name}~") == pid  # else it was found by the whole of its name
                and root.pid(f"/{name}") != pid  # as Docker writes names
                and not (_IDENTIFIER.fullmatch(name) and name in root.control_group(name))
                and b"\0-n\0" + name.encode("ascii") + b"\0" not in parent(pid)):  # Podman's conmon(8)
            raise Unknown("no such container runs, but one with an identifier that begins alike")
        return pid
    finally:
        root.close()


def _parent(pid: int) -> bytes:
    """The command line of a process's parent."""
    try:
        with open(f"/proc/{_status(pid)['PPid'].strip()}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


def _is_first(pid: int) -> bool:
    try:
        numbers = _status(pid)["NSpid"].split()
    except OSError:
        return False
    return len(numbers) > 1 and numbers[-1] == "1"


def _status(pid: int) -> "dict[str, str]":
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as lines:
        return {name: value for name, _, value in (line.partition(":") for line in lines)}


@contextmanager
def _silence() -> Iterator[None]:
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
