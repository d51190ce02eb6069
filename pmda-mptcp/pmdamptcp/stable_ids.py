# SPDX-License-Identifier: GPL-2.0-or-later
"""Instance ids that archives can rely on."""

from itertools import count
from typing import Dict, Generic, Hashable, Iterable, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Ids(Generic[Key]):
    """Lasting ids for things known by a key (names of interfaces, say): positive, never given to another."""

    _SPARE = 1000  # keys of vanished things that are kept, for they often come back

    def __init__(self) -> None:
        self._next = count(1)
        self._ids: Dict[Key, int] = {}

    def of(self, keys: Iterable[Key]) -> Dict[Key, int]:
        """key -> id for the things that exist now."""
        now = {key: self._ids.get(key) or next(self._next) for key in keys}
        self._ids.update(now)
        if len(self._ids) > len(now) + self._SPARE:
            self._ids = dict(now)
        return now
