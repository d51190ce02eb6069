# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections that have lost live subflows, and what was carried while a subflow was marked backup."""

import pytest
from pmdamptcp.sample import STALLED_RETRANSMITS

from . import messages as m
from .hosts import Host
from .kernels import named, values
from .test_sample import CONNECTION, FALLEN_BACK, World, initial, joined

BY_US, BY_PEER = 0x20, 0x10  # MPTCP_SUBFLOW_FLAG_BKUP_LOC and _REM


@pytest.fixture(name="world")
def looked_at_world():
    """A world without sockets, already looked at: what comes is new."""
    return World().sample([], [])


@pytest.fixture
def host(monkeypatch, log):
    """A host that is listened to, with nothing on it."""
    return Host(monkeypatch, log).start()


# Lost redundancy.


def lost(world, *flows, connection=CONNECTION):
    """(degraded connections, most live subflows of the one) after a sample of these subflows."""
    world.sample([connection], flows)
    return world.shown.degraded, world.connection().most


def test_a_connection_that_never_had_more_is_not_degraded(world):
    """Nor one that gets more."""
    assert lost(world, initial()) == (0, 1)
    assert lost(world, initial(), joined()) == (0, 2)
    assert lost(world, initial(), joined(), joined(13)) == (0, 3)


@pytest.mark.parametrize("left", [
    [initial()], [initial(), joined(retransmits=STALLED_RETRANSMITS)], [initial(), joined(state=m.SYN_SENT)], []])
def test_a_subflow_that_is_gone_or_not_live(world, left):
    """For as long as it lasts; what it once had stays."""
    lost(world, initial(), joined())
    for _ in range(4):
        assert lost(world, *left) == (1, 2)
    assert lost(world, initial(), joined(14)) == (0, 2)


def test_a_link_that_goes_down_and_up(world):
    """No subflow ends, and still they cannot do their work meanwhile."""
    lost(world, initial(), joined())
    world.paths[1].up = False
    assert lost(world, initial(), joined()) == (1, 2)
    world.paths[1].up = True
    assert lost(world, initial(), joined()) == (0, 2)


def test_only_connections_that_are_established_and_speak_mptcp_count(world):
    """One that is being closed loses its subflows rightly; one that fell back has none to lose."""
    lost(world, initial(), joined())
    assert lost(world, initial(), connection=m.connection(1, 100, state=4)) == (0, 2)
    assert lost(world, initial()) == (1, 2)
    assert lost(world, initial(), connection=m.connection(1, 100, flags=FALLEN_BACK)) == (0, 0)


def test_each_connection_is_compared_with_itself(world):
    """One has three, one had: the sum tells nothing."""
    second = m.connection(2, 200)
    world.sample([CONNECTION, second], [initial(), joined(), initial(21, 200)])
    world.sample([CONNECTION, second], [initial(), initial(21, 200), joined(22, 200)])
    assert world.shown.degraded == 1
    assert {one.cookie: (one.live, one.most) for one in world.shown.connections} == {1: (1, 2), 2: (2, 2)}
    world.sample([second], [initial(21, 200), joined(22, 200)])
    assert world.shown.degraded == 0


def test_they_are_served(kernel, log):
    """By the host's count, and by connection."""
    kernel.dumps = {m.MPTCP: [m.connection(1, 100)], m.TCP: [initial() + joined()]}
    snapshot = kernel.snapshot(log)
    assert values(snapshot, "mptcp.redundancy.degraded_connections") == 0
    kernel.dumps[m.TCP] = [initial()]
    kernel.clock.now += 1
    assert values(snapshot, "mptcp.redundancy.degraded_connections") == 1
    assert named(snapshot, "mptcp.connection.live_subflows") == {"c1": 1}
    assert named(snapshot, "mptcp.connection.live_subflows_most") == {"c1": 2}


# Backup.


def carried(world):
    """(received, sent) by backup subflows on the second link, and all of it."""
    path = world.paths[1]
    return (path.backup_received, path.backup_sent), (path.received, path.sent)


@pytest.mark.parametrize("mark", [BY_US, BY_PEER, BY_US | BY_PEER])
def test_what_a_backup_subflow_carries(world, mark):
    """Whoever marked it; on the interface that it leaves by, and not what others carry there."""
    flags = m.JOINED_BY_US | mark
    world.sample([CONNECTION], [initial(sent=50), joined(flags=flags, received=3, sent=4)])
    world.sample([CONNECTION], [initial(sent=60), joined(flags=flags, received=30, sent=50), joined(13, sent=1000)])
    assert carried(world) == ((30, 50), (30, 1050))
    assert world.paths[0].backup_sent == 0 and world.paths[0].sent == 60


def test_growth_belongs_to_the_mark_that_it_began_with(world):
    """A sample shows the mark of now; what was carried up to now, was carried under the last one."""
    marked = m.JOINED_BY_US | m.BACKUP
    world.sample([CONNECTION], [initial(), joined(sent=10)])
    world.sample([CONNECTION], [initial(), joined(sent=30, flags=marked)])
    assert carried(world) == ((0, 0), (0, 30))
    world.sample([CONNECTION], [initial(), joined(sent=70, flags=marked)])
    world.sample([CONNECTION], [initial(), joined(sent=150)])
    assert carried(world) == ((0, 120), (0, 150))
    world.sample([CONNECTION], [initial(), joined(sent=310)])
    assert carried(world) == ((0, 120), (0, 310))


def test_a_mark_that_comes_while_nothing_is_carried(world):
    """It is seen all the same."""
    world.sample([CONNECTION], [initial(), joined(sent=10)])
    world.sample([CONNECTION], [initial(), joined(sent=10, flags=m.JOINED_BY_US | BY_US)])
    world.sample([CONNECTION], [initial(), joined(sent=15, flags=m.JOINED_BY_US | BY_US)])
    assert carried(world) == ((0, 5), (0, 15))


def test_counters_that_are_taken_back_are_no_growth(world):
    """Neither of the whole nor of the part."""
    marked = m.JOINED_BY_US | m.BACKUP
    for sent in (10, 0, 7):
        world.sample([CONNECTION], [initial(), joined(sent=sent, flags=marked)])
    assert carried(world) == ((0, 17), (0, 17))


def backup(host, link="l2"):
    """(received, sent) of an interface's backup subflows."""
    return host.path(link).backup_received, host.path(link).backup_sent


@pytest.mark.parametrize("mark", [False, True])
def test_the_last_bytes_of_one_that_no_sample_saw(host, mark):
    """The event of its opening says what the peer asked for."""
    host.open(11).open(12, "l2", joined=True, told=False).tell(m.SUB_ESTABLISHED, 12, backup=mark)
    host.tick()
    host.carry(12, received=100, sent=7).end(12)
    host.tick()
    assert backup(host) == ((100, 7) if mark else (0, 0))
    assert host.bytes("l2") == (100, 7)


def test_the_last_bytes_of_one_that_a_sample_saw(host):
    """The mark is this host's own, of which no event tells."""
    host.open(11).open(12, "l2", joined=True, sent=5).tick()
    host.sockets[12]["flags"] = m.JOINED_BY_US | BY_US
    host.sample()
    host.carry(12, sent=9).end(12)
    host.tick()
    assert (backup(host), host.bytes("l2")) == ((0, 9), (0, 9))


@pytest.mark.parametrize("joined_later", [True, False])
def test_a_mark_that_the_peer_changes_is_looked_at_at_once(host, joined_later):
    """What was carried up to there went without it; nothing else is looked at for it."""
    host.open(12, "l2", joined=joined_later, sent=100).sample()
    host.looked_up.clear()
    host.carry(12, sent=130)
    host.sockets[12]["flags"] |= BY_PEER
    host.tell(m.SUB_PRIORITY, 12, backup=True)
    host.tick(0)
    assert host.looked_up == [[1012]] and host.bytes("l2") == (0, 130)
    host.carry(12, sent=170)
    host.sockets[12]["flags"] &= ~BY_PEER
    host.tell(m.SUB_PRIORITY, 12, backup=False)
    host.tick(0)
    host.carry(12, sent=300).end(12)
    host.tick(0)
    assert (backup(host), host.bytes("l2")) == ((0, 40), (0, 300))
    assert len(host.looked_up) == 2


def test_a_round_sees_marks_too(host):
    """As a sample does."""
    host.open(11).open(12, "l2", joined=True).tick()
    for sent, flags in ((10, BY_US), (30, BY_US), (70, 0), (150, 0)):
        host.carry(12, sent=sent)
        host.sockets[12]["flags"] = m.JOINED_BY_US | flags
        host.sampler.reconcile(True)
    assert (backup(host), host.bytes("l2")) == ((0, 70), (0, 150))


def test_a_mark_of_one_that_ended_meanwhile(host):
    """Its end has been booked; there is nothing to look at, and nobody stays in mind."""
    host.open(12, "l2", joined=True, sent=1).tick()
    host.tell(m.SUB_PRIORITY, 12, backup=True)
    host.end(12)
    host.tick()
    assert not host.listener.watch._marked and not host.looked_up
    assert host.listener.faults == 0 and host.bytes("l2") == (0, 1)
