# SPDX-License-Identifier: GPL-2.0-or-later
"""Instance domains: PCP's plain lists, rebuilt in one go.

PCP's other kind, the cache, never forgets a name, which a host with short
connections cannot afford.
"""

import ctypes
from struct import Struct
from typing import Any, Callable, Dict, List, Tuple

import cpmda
from pcp.pmda import pmdaIndom, pmdaInstid

_INSTID = Struct("@iP")


class ListIndom(pmdaIndom):  # type: ignore[misc]  # PCP has no types
    """A pmdaIndom whose instances are replaced as a whole.

    Only call `replace` in a refresh callback: anywhere else libpcp_pmda may
    be reading the table.
    """

    def __init__(self, indom: int):
        super().__init__(indom, [])
        self._ids: Tuple[int, ...] = ()
        self._source: object = None  # whose ids these are
        self._memory: List[object] = []

    def replace(self, rows: Dict[int, Any], name: Callable[[Any], str], source: object = None) -> None:
        """Set the instances; does nothing when the ids are those that are there, of the same source."""
        ids = tuple(rows)
        if ids == self._ids and source is self._source:
            return
        encoded = [name(row).encode("utf-8", "replace") for row in rows.values()]
        names = ctypes.create_string_buffer(b"\0".join(encoded))
        address, table = ctypes.addressof(names), bytearray()
        for number, text in zip(ids, encoded):
            table += _INSTID.pack(number, address)
            address += len(text) + 1
        array = (pmdaInstid * len(ids)).from_buffer(table)
        self.it_set = ctypes.cast(array, ctypes.POINTER(pmdaInstid))
        self.it_numinst = len(ids)
        # libpcp_pmda uses the old table until it looks again, after this callback.
        self._memory = self._memory[-1:] + [(names, array)]
        self._ids, self._source = ids, source
        cpmda.set_need_refresh()
