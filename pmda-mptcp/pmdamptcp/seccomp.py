# SPDX-License-Identifier: GPL-2.0-or-later
"""System calls that the agent never makes are given up (seccomp(2)): they fail with EPERM from here on.

A short list of what takes over a host, not a long one of what Python, ctypes
and PCP need: that one differs from one C library to the next, and an agent
that a library's update kills is worse.  Whoever gets code into the agent or
its child starts no program, traces no process, opens no file by its handle or
for writing, mounts nothing, does not reach the parts of the kernel where holes
are found most, and has no sockets but netlink's: neither the network's nor
that of pmdaroot, which starts programs as root for the user pcp.  Threads take
it over, so it comes before the first.
"""

import ctypes
import errno
import os
import socket
import sys
from struct import Struct
from typing import Callable

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
#: BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_JMP|JGE|K, BPF_JMP|JSET|K, BPF_RET|K
_LOAD, _EQUAL, _AT_LEAST, _ANY_OF, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO
_NUMBER, _ARCHITECTURE, _FIRST, _THIRD = 0, 4, 16, 32  # offsets in struct seccomp_data, also of arguments
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_FILTER = Struct("=HBBI")  # struct sock_filter: code, steps if true, if not, operand

#: AUDIT_ARCH_* and the column of CALLS; the number from which on calls are those of another ABI (x32).
ARCHITECTURES = {"x86_64": (0xC000003E, 0, 0x40000000), "aarch64": (0xC00000B7, 1, 0xFFFFFFFF)}

#: Name: number on x86_64 and on aarch64, None where it does not exist.
CALLS = {
    "execve": (59, 221), "execveat": (322, 281),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_getfd": (438, 438),
    "kcmp": (312, 272), "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "mknod": (133, None),
    "mknodat": (259, 33),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "move_mount": (429, 429),
    "open_tree": (428, 428), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "unshare": (272, 97),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225),
    "bpf": (321, 280), "perf_event_open": (298, 241), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "acct": (163, 89), "quotactl": (179, 60), "personality": (135, 92),
    "syslog": (103, 116), "sethostname": (170, 161), "setdomainname": (171, 162), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171), "iopl": (172, None),
    "ioperm": (173, None), "modify_ldt": (154, None),
    "open": (2, None), "creat": (85, None), "openat2": (437, 437),  # libc's open is openat
}
#: Those that depend on an argument.
SOCKET, OPENAT = (41, 198), (257, 56)


class _Program(ctypes.Structure):  # struct sock_fprog
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def restrict(log: Callable[[str], None]) -> bool:
    """Give them up, for this thread and those that it starts; logs why when that cannot be."""
    machine = os.uname().machine
    if machine not in ARCHITECTURES or sys.maxsize < 1 << 32:
        log(f"seccomp: no list of system calls for {machine}, none is given up")
        return False
    filters = program(machine)
    wanted = _Program(len(filters) // _FILTER.size, filters)
    libc = ctypes.CDLL(None, use_errno=True)
    # As an unprivileged process may, after PR_SET_NO_NEW_PRIVS (privileges.become).
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(wanted), 0, 0):
        log(f"seccomp: {os.strerror(ctypes.get_errno())}, no system call is given up")
        return False
    return True


def program(machine: str) -> bytes:
    """The filter: refuse calls of other ABIs of the machine and those of the list, allow the rest."""
    architecture, column, foreign = ARCHITECTURES[machine]
    numbers = sorted(number for number in (call[column] for call in CALLS.values()) if number is not None)
    refuse = 4 + len(numbers) + 6 + 1  # where that step is
    steps = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 0, refuse - 2, architecture),
             (_LOAD, 0, 0, _NUMBER), (_AT_LEAST, refuse - 4, 0, foreign)]
    steps += [(_EQUAL, refuse - step - 1, 0, number) for step, number in enumerate(numbers, len(steps))]
    steps += [(_EQUAL, 3, 0, SOCKET[column]),
              (_EQUAL, 0, 4, OPENAT[column]),  # else: allow
              (_LOAD, 0, 0, _THIRD), (_ANY_OF, 3, 2, _WRITING),
              (_LOAD, 0, 0, _FIRST), (_EQUAL, 0, 1, socket.AF_NETLINK),
              (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)]
    return b"".join(_FILTER.pack(*step) for step in steps)
