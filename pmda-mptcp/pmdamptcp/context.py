# SPDX-License-Identifier: GPL-2.0-or-later
"""Which client's request is served: before the values are asked for.

pmdaGetContext(3) tells it only from pmdaFetch(3) on; in the callbacks that
refresh, it still tells whose request was the last.  libpcp_pmda keeps the
right one in the pmdaExt (pmda.h), for which Python's module has no function,
so it is looked for in that module's variables.  What is found is checked, and
who cannot be known is nobody: None.
"""

import ctypes
from struct import Struct
from sys import byteorder
from typing import Iterator, Optional, Tuple

import cpmda

_HEAD = Struct("=iBBH")  # pmdaInterface: domain, versions, flags
_EXT = 16  # offset of the pointer to the pmdaExt
_INTERFACES = range(6, 10)  # those that tell of clients; PCP 6 has 8


class _Ext(ctypes.Structure):  # the public head of pmdaExt
    _fields_ = [("flags", ctypes.c_uint), ("ext", ctypes.c_void_p), ("sockname", ctypes.c_void_p),
                ("name", ctypes.c_char_p), ("logfile", ctypes.c_void_p), ("helptext", ctypes.c_void_p),
                *((name, ctypes.c_int) for name in (
                    "status", "infd", "outfd", "port", "singular", "ordinal", "direct", "domain", "nmetrics",
                    "nindoms", "help")),
                ("prof", ctypes.c_void_p), ("io", ctypes.c_int), ("indoms", ctypes.c_void_p),
                ("idp", ctypes.c_void_p), ("metrics", ctypes.c_void_p), ("result_callback", ctypes.c_void_p),
                ("fetch_callback", ctypes.c_void_p), ("check_callback", ctypes.c_void_p),
                ("done_callback", ctypes.c_void_p), ("context", ctypes.c_int)]


class Current:
    """Of the agent with a domain number."""

    def __init__(self, domain: int):
        self._domain = domain
        self._ext: Optional[_Ext] = None
        self._sought = False

    def context(self) -> Optional[int]:
        """The number of the client whose request is served."""
        if not self._sought:
            self._sought, self._ext = True, self._find()
        return self._ext.context if self._ext else None

    def _find(self) -> Optional[_Ext]:
        for start, end in _variables():
            memory = ctypes.string_at(start, end - start)
            for offset in range(0, len(memory) - _EXT - 8, 8):
                domain, interface, _, _ = _HEAD.unpack_from(memory, offset)
                if domain == self._domain and interface in _INTERFACES:
                    address = int.from_bytes(memory[offset + _EXT:offset + _EXT + 8], byteorder)
                    if _readable(address, ctypes.sizeof(_Ext)):
                        found = _Ext.from_address(address)
                        if found.domain == self._domain:
                            return found
        return None


def _maps() -> Iterator[Tuple[int, int, str, str]]:
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            words = line.split()
            start, end = (int(word, 16) for word in words[0].split("-"))
            yield start, end, words[1], words[5] if len(words) > 5 else ""


def _variables() -> Iterator[Tuple[int, int]]:
    """Where the module's variables are: its writable part, and what follows it without a name."""
    last = -1
    for start, end, rights, name in _maps():
        if rights.startswith("rw") and (name == cpmda.__file__ or (not name and start == last)):
            yield start, end
            last = end


def _readable(address: int, size: int) -> bool:
    return any(start <= address and address + size <= end and rights.startswith("rw")
               for start, end, rights, _ in _maps())
