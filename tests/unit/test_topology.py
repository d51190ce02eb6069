# SPDX-License-Identifier: GPL-2.0-or-later
"""Links and addresses that change while they are read."""

import pytest
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted

from pmdamptcp.kernel import interfaces
from pmdamptcp.records import Link
from pmdamptcp.topology import Topology


class Kernel:
    """Links and addresses; `interrupted` names what cannot be read now."""

    def __init__(self, monkeypatch):
        self.interrupted, self.up, self.reads = "", True, 0
        monkeypatch.setattr(interfaces, "links", lambda: self._read("links", [Link(2, "l1", self.up)]))
        monkeypatch.setattr(interfaces, "addresses", lambda: self._read("addresses", {"10.0.1.1": 2}))
        monkeypatch.setattr(interfaces, "Changes", lambda: self)

    def _read(self, name, found):
        self.reads += 1
        if self.interrupted == name:
            raise NetlinkDumpInterrupted
        return found

    def any(self):
        """No word of changes."""
        return False


def refresh(topology):
    """As after a while: reading takes no time here, but not twice at once."""
    topology._links.expire()
    topology.refresh()


@pytest.fixture(name="kernel")
def fixture_kernel(monkeypatch):
    """A kernel with one link."""
    return Kernel(monkeypatch)


@pytest.mark.parametrize("what", ["links", "addresses"])
def test_what_is_known_is_used_until_it_can_be_read_again(kernel, log, what):
    """A dump that a change cut short takes nothing away, and is made again."""
    topology = Topology(log.append)
    refresh(topology)
    kernel.interrupted, kernel.up = what, False
    topology._changed = True
    for _ in range(3):
        refresh(topology)
        assert not topology.unknown and topology.owners == {"10.0.1.1": 2} and topology.name_of(2) == "l1"
    kernel.interrupted, reads = "", kernel.reads
    refresh(topology)
    assert kernel.reads == reads + 2 and topology.paths["l1"].up is False
    refresh(topology)
    assert kernel.reads == reads + 2 and not log


def test_the_first_of_all(kernel, log):
    """Nothing is known yet: said, and made up for."""
    topology = Topology(log.append)
    kernel.interrupted = "links"
    refresh(topology)
    assert topology.unknown and len(log) == 1
    kernel.interrupted = ""
    refresh(topology)
    assert not topology.unknown and topology.paths["l1"].up
