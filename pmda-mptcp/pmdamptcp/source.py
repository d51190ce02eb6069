# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel reader that may fail: logged once, and the rest goes on."""

from struct import error as StructError
from time import monotonic
from typing import Callable, Generic, Optional, TypeVar

from pyroute2.netlink.exceptions import NetlinkDecodeError, NetlinkError

#: What a reader raises when the kernel refuses, lacks something or says nonsense.
FAULTS = (OSError, ValueError, NetlinkError, NetlinkDecodeError, StructError)

Value = TypeVar("Value")


class Source(Generic[Value]):
    """A reader with its last result; `value` is None while it fails."""

    def __init__(self, name: str, read: Callable[[], Value], log: Callable[[str], None]):
        self.name, self._read, self._log = name, read, log
        self.value: Optional[Value] = None
        self._at = float("-inf")
        self._cost = 0.0
        self._complaint = ""

    def expire(self) -> None:
        """Let the next refresh read again, however young the value is."""
        self._at = float("-inf")

    def refresh(self, age: float) -> bool:
        """Read again, unless the value is younger than `age` or than five times what reading takes.

        Returns whether it was read.
        """
        start = monotonic()
        if start - self._at < max(age, 5 * self._cost):
            return False
        self.value, complaint = None, ""
        try:
            self.value = self._read()
        except FAULTS as fault:
            complaint = f"{type(fault).__name__}: {fault}"
        self._at = monotonic()
        self._cost = self._at - start
        if complaint != self._complaint:
            self._complaint = complaint
            self._log(f"{self.name}: {complaint}; its metrics have no value" if complaint
                      else f"{self.name}: works again")
        return True
