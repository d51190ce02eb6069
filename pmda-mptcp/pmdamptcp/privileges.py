# SPDX-License-Identifier: GPL-2.0-or-later
"""From root to the pcp user with a capability or two and nothing else (capabilities(7)).

The agent keeps CAP_NET_ADMIN: the kernel asks for it before it tells the path
manager's events and, up to Linux 6.12, which sockets are subflows.  Without
events it gives that up as well.  Capabilities belong to a thread, so this must
run before a second one starts.
"""

import ctypes
import os
import pwd
from contextlib import contextmanager
from enum import IntEnum
from struct import Struct
from typing import Callable, Collection, Iterator

_PR_SET_KEEPCAPS, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 8, 24, 38
_CLONE_NEWNET = 0x40000000
_CAPABILITY_VERSION_3 = 0x20080522
_HEADER, _DATA = Struct("=Ii"), Struct("=IIIIII")  # version, pid; twice effective, permitted, inheritable

_OLD = "a kernel older than 6.18 will not tell subflows from other TCP sockets"

_libc = ctypes.CDLL(None, use_errno=True)


class Capability(IntEnum):
    """Those that this agent has a use for; the numbers are linux/capability.h's."""

    CAP_DAC_OVERRIDE = 1
    CAP_DAC_READ_SEARCH = 2
    CAP_NET_ADMIN = 12
    CAP_SYS_PTRACE = 19
    CAP_SYS_ADMIN = 21


def drop(user: str, log: Callable[[str], None]) -> None:
    """Become `user`, keep CAP_NET_ADMIN and log what came of it.  Errors are become's."""
    become(user, [Capability.CAP_NET_ADMIN], log)
    able = net_admin()
    log(f"running as {_user()} with {'CAP_NET_ADMIN' if able else f'no capability: {_OLD}'}")


def become(user: str, capabilities: Collection[Capability], log: Callable[[str], None]) -> None:
    """Become `user` and keep `capabilities`, all of them or none.

    Logs what could not be had and goes on with what there is: a process that
    was not started by root keeps its user.  Never stays root: raises OSError
    or KeyError (no such user) when it would.
    """
    if os.geteuid() == 0:
        entry = pwd.getpwnam(user)
        for number in range(64):
            _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)  # fails past the last one, which is no harm
        _libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
        os.initgroups(entry.pw_name, entry.pw_gid)
        os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
        os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
        mask = sum(1 << capability for capability in capabilities)
        header = _HEADER.pack(_CAPABILITY_VERSION_3, 0)
        if _libc.capset(header, _DATA.pack(mask, mask, 0, 0, 0, 0)):
            names = ", ".join(capability.name for capability in capabilities)
            log(f"{names} could not be kept: {os.strerror(ctypes.get_errno())}")
            _libc.capset(header, _DATA.pack(0, 0, 0, 0, 0, 0))
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


@contextmanager
def borrowing(user: str, directory: str = "") -> Iterator[None]:
    """Root is `user` for a moment, for what `user` may read, or write into a directory that is not root's.

    Who may write there, too, can put a link in the place of a file, and root would follow it.
    """
    if os.geteuid() != 0 or directory and os.stat(directory).st_uid == 0:
        yield
        return
    entry = pwd.getpwnam(user)
    os.setegid(entry.pw_gid)
    os.seteuid(entry.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def give_up(log: Callable[[str], None]) -> None:
    """Give up CAP_NET_ADMIN, too: nothing is wanted that it is for."""
    if net_admin():
        _libc.capset(_HEADER.pack(_CAPABILITY_VERSION_3, 0), _DATA.pack(0, 0, 0, 0, 0, 0))
        log(f"events and nftables are off, CAP_NET_ADMIN is given up: {_OLD}")


def enter_network(path: str) -> None:
    """Enter a network namespace: for this thread.  Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(descriptor, _CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(descriptor)


def keep(capabilities: Collection[Capability]) -> None:
    """Keep these of the capabilities that are there.  Raises OSError."""
    mask = sum(1 << capability for capability in capabilities)
    if _libc.capset(_HEADER.pack(_CAPABILITY_VERSION_3, 0), _DATA.pack(mask, mask, 0, 0, 0, 0)):
        raise OSError(ctypes.get_errno(), "capset")


def net_admin() -> bool:
    """Has this thread CAP_NET_ADMIN in effect?"""
    data = ctypes.create_string_buffer(_DATA.size)
    if _libc.capget(_HEADER.pack(_CAPABILITY_VERSION_3, 0), data):
        return False
    return bool(int(_DATA.unpack(data.raw)[0]) & 1 << Capability.CAP_NET_ADMIN)


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid {os.geteuid()}"
