# SPDX-License-Identifier: GPL-2.0-or-later
"""Device counters that go on where the kernel begins anew.

A device that is made under the name of one that is gone counts from 0; so
does one that gets such a name.  For whoever reads the counters of an
interface it is the same interface, and counters only grow.
"""

from typing import Callable, Dict, Tuple

from .kernel.interfaces import Traffic

_SPARE = 1000  # names of vanished devices that are kept, for they often come back


class Devices:
    """Reads the counters by name."""

    def __init__(self, read: Callable[[], Dict[str, Traffic]]):
        self._read = read
        self._known: Dict[str, Tuple[Traffic, Traffic]] = {}  # name -> the device's own counters, and what is told

    def read(self) -> Dict[str, Traffic]:
        """Name -> counters of the devices that exist.  Raises OSError."""
        now = {name: (own, self._told(name, own)) for name, own in self._read().items()}
        self._known.update(now)
        if len(self._known) > len(now) + _SPARE:
            self._known = now
        return {name: told for name, (_, told) in now.items()}

    def _told(self, name: str, own: Traffic) -> Traffic:
        if name not in self._known:
            return own
        last, told = self._known[name]
        anew = any(new < old for new, old in zip(own, last))
        return Traffic(*(before + new - (0 if anew else old) for before, new, old in zip(told, own, last)))
