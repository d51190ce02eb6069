# SPDX-License-Identifier: GPL-2.0-or-later
"""Which process has a socket open, from /proc (proc(5)).

The link /proc/PID/fd/N of a socket reads `socket:[INODE]`, with the inode
that sock_diag(7) tells as idiag_inode.  To read the links of another user's
process takes CAP_DAC_READ_SEARCH for the directory and CAP_SYS_PTRACE for the
links; a process that may not be looked into has no sockets here.
"""

import os
from typing import Collection, Dict, List, NamedTuple, Set

PATH = "/proc"
_INIT = 1


class Process(NamedTuple):
    """A process as ss -p shows it."""

    pid: int
    command: str  # what the kernel calls it, at most 15 bytes
    uid: int = 0  # who may look into it: its user, or root alone, as for one that changed its user


def owners(inodes: Collection[int], path: str = PATH) -> Dict[int, Process]:
    """Inode -> the process that has it open; inodes that nobody has open are absent.

    Where several have it, the one with the lowest pid counts: a program keeps
    its connections, and those it starts later inherit them, wanted or not.
    Init comes last, as it opens sockets for others to serve
    (systemd.socket(5)).  That order allows to stop at the last inode found.
    Raises OSError when there is no /proc.
    """
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found = {}
    for pid in _pids(path):
        if not wanted:
            break
        held = _held(f"{path}/{pid}/fd/", wanted)
        if held:
            try:
                with open(f"{path}/{pid}/comm", "rb") as file:
                    process = Process(pid, text(file.read()), os.stat(f"{path}/{pid}/fd").st_uid)
            except OSError:
                continue  # ended just now: another may have them
            for link in held:
                found[wanted.pop(link)] = process
    return found


def text(command: bytes) -> str:
    """A name as PCP can show it: a process may give itself any bytes, PCP takes only UTF-8.

    What is not printable, such as a terminal's control characters, becomes a question mark.
    """
    decoded = command.rstrip(b"\n\0").decode("utf-8", "replace")
    return decoded if decoded.isprintable() else "".join(one if one.isprintable() else "?" for one in decoded)


def _pids(path: str) -> List[int]:
    return sorted((int(name) for name in os.listdir(path) if name.isdecimal()), key=lambda pid: (pid == _INIT, pid))


def _held(directory: str, wanted: Dict[str, int]) -> Set[str]:
    """Those links of a process that are wanted.

    A host may have a million: each costs one system call and one look-up.
    stat(2) would do as well, but waits for a file server that is gone.
    """
    held: Set[str] = set()
    readlink = os.readlink
    try:
        for descriptor in os.listdir(directory):
            try:
                link = readlink(directory + descriptor)
            except FileNotFoundError:
                continue  # closed since
            if link in wanted:
                held.add(link)
    except OSError:
        pass  # the process ended, or is none that may be looked into
    return held
