# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's links, addresses and routes, as far as subflows need them."""

from operator import attrgetter
from typing import Callable, Dict, Iterable, List, Optional

from pyroute2.netlink.exceptions import NetlinkDumpInterrupted

from .flows import Path, Subflow
from .kernel import interfaces, routes
from .records import Link
from .source import Source
from .stable_ids import Ids

_MAX_CACHED = 200_000  # route lookups
_route = attrgetter("route")


class Topology:
    """Read again when the kernel tells of a change; knows an interface by its name for good."""

    def __init__(self, log: Callable[[str], None]):
        self.paths: Dict[str, Path] = {}  # interfaces that exist or that carried MPTCP
        self.owners: Dict[str, int] = {}  # address -> index of its interface
        self.rerouted = False  # must the next sample of the sockets ask for all routes?
        self._unasked = False  # did a lookup fail since the sample began?
        self._links = Source("links", self._read, log)
        self._lookup = Source("route lookup", self._ask, log)
        self._changes: Optional[interfaces.Changes] = None
        self._changed = True
        self._known: List[Link] = []
        self._cut_short = False  # did a link or an address change while they were read?
        self._by_index: Dict[int, Path] = {}
        self._ids: Ids[str] = Ids()
        self._egress: Dict[bytes, Optional[int]] = {}  # cached lookups
        self._wanted: Iterable[bytes] = ()

    def refresh(self) -> None:
        """Links and addresses, if something about them or about routes changed."""
        changed = True
        try:
            if self._changes is None:
                self._changes = interfaces.Changes()
            changed = self._changes.any()
        except OSError:
            self._changes = None  # no word of changes: look each time
        self._changed |= changed or self._links.value is None
        if self._changed and self._links.refresh(0):
            if self._links.value is None:
                for path in self.paths.values():
                    path.up = None
            self._changed = self._cut_short
            self._egress.clear()
            self.rerouted = True

    def begin_sample(self) -> bool:
        """Tells whether routes may have changed since the last sample that came to its end."""
        self._unasked = False
        rerouted, self.rerouted = self.rerouted, False
        return rerouted

    @property
    def unknown(self) -> bool:
        """Is it not known where packets leave, since the kernel did not answer?"""
        return self._unasked or self._links.value is None

    def name_of(self, index: int) -> str:
        """The name of the interface with this index, empty when there is none."""
        path = self._by_index.get(index)
        return path.name if path else ""

    def route(self, flows: List[Subflow]) -> None:
        """Give each subflow the path that its packets take now; without one it keeps its last."""
        for flow, index in zip(flows, self.egress(list(map(_route, flows)))):
            path = self._by_index.get(index) if index else None
            flow.routed = path is not None
            flow.path = path or flow.path

    def egress(self, keys: List[bytes]) -> List[Optional[int]]:
        """The index of the interface that packets of each route key leave by; None: no route."""
        cache = self._egress
        self._wanted = {key for key in keys if key not in cache}
        if self._wanted:
            if len(cache) > _MAX_CACHED:
                cache.clear()
                self._wanted = set(keys)
            self._lookup.expire()
            self._lookup.refresh(0)
            if self._lookup.value is None:
                self._unasked = self.rerouted = True  # make up for it with the next sample
            cache.update(self._lookup.value or {})
        return [cache.get(key) for key in keys]

    def _ask(self) -> Dict[bytes, Optional[int]]:
        return routes.egress(self._wanted)

    def _read(self) -> bool:
        self._cut_short = False
        try:
            self._known = interfaces.links()
            self.owners = interfaces.addresses()
        except NetlinkDumpInterrupted:
            if not self._known:
                raise
            self._cut_short = True  # what is known of them is used until they can be read
        ids = self._ids.of([*(link.name for link in self._known),
                            *(name for name, path in self.paths.items() if path.carried)])
        self.paths = {name: self.paths.get(name) or Path(number, name) for name, number in ids.items()}
        self._by_index = {link.ifindex: self.paths[link.name] for link in self._known}
        state = {link.name: link.up for link in self._known}
        for path in self.paths.values():
            path.up = state.get(path.name, False)
        return True
