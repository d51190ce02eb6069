# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is who, and bytes by interface, over the samples; fed with made-up dumps through the real decoder."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pmdamptcp.flows import Path
from pmdamptcp.kernel.inet_diag import Decoder, address_text
from pmdamptcp.ledger import Ledger
from pmdamptcp.sample import STALLED_RETRANSMITS, Sample

from . import messages as m

LINK1, LINK2 = ("10.0.1.1", 1000), ("10.0.2.1", 1000)
FALLEN_BACK = 1


def decoded(protocol, messages):
    """What a dump of these messages is decoded to."""
    return Decoder(protocol).decode([b"".join(messages), m.done()])


class World:
    """A ledger with two interfaces, and routes by source address that a test can change."""

    def __init__(self):
        self.paths = [Path(1, "eth0"), Path(2, "wlan0")]
        for path in self.paths:
            path.up = True
        self.routes = {LINK1[0]: 0, LINK2[0]: 1}
        self.asked = []
        self.ledger = Ledger(self._route)
        self.shown = Sample(self.ledger, 20000)
        self._first = True

    def _route(self, flows):
        self.asked.append([flow.cookie for flow in flows])
        for flow in flows:
            number = self.routes.get(address_text(flow.route[:16], flow.family))
            flow.routed = number is not None
            flow.path = self.paths[number] if flow.routed else flow.path

    def sample(self, connections, subflows, rerouted=False):
        """Take a sample; the first one always comes with routes that are new."""
        self.update(decoded(m.MPTCP, connections), decoded(m.TCP, subflows), rerouted or self._first)
        self._first = False
        return self

    def update(self, connections, subflows, rerouted=False):
        """Take a sample of these decoded sockets."""
        self.shown.update(connections, lambda: subflows, self.paths, rerouted)

    def reroute(self, address, number):
        """From now on, packets from an address leave by another interface, or (None) by none."""
        self.routes[address] = number
        return self

    def totals(self):
        """(received, sent, retransmitted) of each interface."""
        return [(path.received, path.sent, path.retrans) for path in self.paths]

    def counts(self):
        """(opened, closed) of each interface."""
        return [(path.opened, path.closed) for path in self.paths]

    def flow(self, cookie):
        """A subflow of the last sample."""
        return next(flow for flow in self.shown.subflows if flow.cookie == cookie)

    def connection(self, cookie=1):
        """A connection of the last sample."""
        return next(one for one in self.shown.connections if one.cookie == cookie)


@pytest.fixture
def world():
    """A world without sockets, already looked at: what comes is new."""
    return World().sample([], [])


CONNECTION = m.connection(1, 100)


def initial(cookie=11, token=100, **more):
    """The subflow that opened the connection, on the first link."""
    return m.subflow(cookie, token, **{"local": LINK1, "flags": m.OPENED_BY_US, **more})


def joined(cookie=12, token=100, **more):
    """A subflow that joined it, on the second link."""
    return m.subflow(cookie, token, **{"local": LINK2, "flags": m.JOINED_BY_US, "ids": (2, 1), **more})


# Who belongs to whom.


def test_subflows_belong_to_the_connection_with_their_token(world):
    """And those with a token that no connection has belong to nobody."""
    world.sample(
        [CONNECTION, m.connection(2, 200)],
        [initial(), joined(), initial(13, 200), initial(14, 300), m.plain_tcp(15)],
    )
    assert {flow.cookie: flow.connection.cookie for flow in world.shown.subflows} == {11: 1, 12: 1, 13: 2}
    assert [one.subflows for one in world.shown.connections] == [2, 1]


def test_accepted_connections_share_the_cookie_of_their_listener(world):
    """The kernel copies it, once a dump of the listener made it give one: each is a connection all the same."""
    for _ in range(3):
        world.sample([m.connection(1, 0, state=10), CONNECTION, m.connection(1, 200)], [initial(), initial(13, 200)])
        assert [(one.id, one.token) for one in world.shown.connections] == [(1, 100), (2, 200)]
        assert world.shown.established == 2
    world.sample([CONNECTION], [initial()]).sample([CONNECTION], [initial()])
    assert [one.id for one in world.shown.connections] == [1]


@pytest.mark.parametrize(
    "flags, server_side, is_initial",
    [
        (m.OPENED_BY_US, False, True),
        (m.OPENED_BY_PEER, True, True),
        (m.JOINED_BY_US, None, False),
        (m.JOINED_BY_PEER, None, False),
    ],
)
def test_role(world, flags, server_side, is_initial):
    """Told by the flags of the initial subflow: address ids do not tell, all of them are 0 here."""
    world.sample([CONNECTION], [initial(flags=flags, ids=(0, 0))])
    assert world.flow(11).initial is is_initial
    assert world.connection().server_side is server_side


def test_role_outlives_the_initial_subflow(world):
    """A connection goes on without it."""
    world.sample([CONNECTION], [initial(), joined()])
    for _ in range(3):
        world.sample([CONNECTION], [joined()])
    assert world.connection().server_side is False


def test_names_stay(world):
    """Also when the subflow moves to another interface."""
    world.sample(
        [m.connection(1, 100, local=LINK1, remote=("10.0.1.2", 5040))], [initial(remote=("10.0.1.2", 5040))]
    )
    name, flow = world.connection().name, world.flow(11).name
    assert name == "c1 10.0.1.1:1000->10.0.1.2:5040"
    assert flow == "c1::1 eth0 10.0.1.1:1000->10.0.1.2:5040"
    world.reroute(LINK1[0], 1).sample([CONNECTION], [initial()], rerouted=True)
    assert (world.connection().name, world.flow(11).name) == (name, flow)


def test_names_of_ipv6_and_without_a_route(world):
    """Brackets, and a dash for the interface."""
    six = {"local": ("fd00::1", 1), "remote": ("fd00::2", 2)}
    world.sample([m.connection(1, 100, **six)], [initial(**six)])
    assert world.connection().name == "c1 [fd00::1]:1->[fd00::2]:2"
    assert world.flow(11).name == "c1::1 - [fd00::1]:1->[fd00::2]:2"


def test_numbers_are_positive_and_never_given_again(world):
    """Of connections, of subflows, and of subflows within their connection."""
    seen = set()
    for turn in range(5):
        cookie = 10 * turn
        world.sample(
            [m.connection(cookie + 1, cookie + 1)],
            [joined(cookie + 3, cookie + 1), initial(cookie + 2, cookie + 1)],
        )
        numbers = {("connection", one.id) for one in world.shown.connections} | {
            ("subflow", one.id) for one in world.shown.subflows
        }
        assert len(numbers) == 3 and not numbers & seen
        assert all(number > 0 for _, number in numbers)
        seen |= numbers


def test_the_initial_subflow_is_number_one(world):
    """In whatever order the dump has them; those that come later go on counting."""
    world.sample([CONNECTION], [joined(13, ids=(3, 1)), joined(12), initial()])
    assert {flow.cookie: flow.number for flow in world.shown.subflows} == {11: 1, 12: 2, 13: 3}
    world.sample([CONNECTION], [initial()])
    world.sample([CONNECTION], [initial()])
    world.sample([CONNECTION], [initial(), joined(14)])
    assert world.flow(14).number == 4


def test_subflows_with_and_without_address_ids(world):
    """Numbering must not depend on them."""
    world.sample([CONNECTION], [joined(12), joined(13, ids=None), initial(ids=None)])
    assert sorted(flow.number for flow in world.shown.subflows) == [1, 2, 3]
    assert world.flow(11).number == 1


# Fallback.


def test_a_fallen_back_connection_has_no_subflows(world):
    """Its flow is plain TCP, though it looks like a subflow."""
    world.sample([m.connection(1, 100, flags=FALLEN_BACK)], [initial(sent=1000, flags=130)])
    assert world.connection().fallback
    assert world.connection().subflows == 0
    assert world.shown.subflows == []
    assert world.totals() == [(0, 0, 0)] * 2


def test_fallback_in_mid_connection(world):
    """What was carried as MPTCP stays, what follows does not count, and the subflow ends."""
    world.sample([CONNECTION], [initial(sent=1000)])
    fallen = m.connection(1, 100, flags=3)
    for sent in (2000, 3000, 4000):
        world.sample([fallen], [initial(sent=sent)])
        assert world.connection().fallback and world.connection().subflows == 0
    assert world.totals()[0] == (0, 1000, 0)
    assert world.counts()[0] == (1, 1)
    assert world.paths[0].subflows == 0


# Bytes.


def test_what_was_carried_before_the_agent_came_does_not_count():
    """For interfaces the first sample is where counting begins; a connection's bytes are those of its life."""
    world = World().sample([CONNECTION], [initial(received=50, sent=1000, retrans=10)])
    assert world.totals() == [(0, 0, 0)] * 2
    assert world.counts() == [(0, 0)] * 2
    world.sample([CONNECTION], [initial(received=51, sent=1500, retrans=30)])
    assert world.totals()[0] == (1, 500, 20)
    assert (world.connection().received, world.connection().sent) == (51, 1500)


def test_later_subflows_count_from_their_start():
    """Of a connection that was there before, and of a new one."""
    world = World().sample([CONNECTION], [initial(sent=1000)])
    world.sample(
        [CONNECTION, m.connection(2, 200)],
        [initial(sent=1000), joined(sent=70, received=7, retrans=1), joined(13, 200, sent=5)],
    )
    assert world.totals() == [(0, 0, 0), (7, 75, 1)]
    assert world.counts() == [(0, 0), (2, 0)]


def test_a_first_sample_that_fails_is_not_the_first_look():
    """The dump breaks off with an error; counting begins with the one that works."""
    world = World()

    def broken():
        raise OSError("no diag module yet")
        yield  # a generator, as the real dump is

    with pytest.raises(OSError):
        world.update(broken(), broken(), True)
    world.sample([CONNECTION], [initial(sent=10**9)])
    assert world.totals()[0] == (0, 0, 0)
    world.sample([CONNECTION], [initial(sent=10**9 + 5)])
    assert world.totals()[0] == (0, 5, 0)


def test_a_sample_that_breaks_off_halfway(world):
    """Subflows that it did show are not counted again by the next one, nor those that it did not."""
    flows = [initial(sent=10), joined(sent=20)]
    world.sample([CONNECTION], flows)

    def broken():
        yield from decoded(m.TCP, [initial(sent=15)])
        raise OSError("cut")

    for _ in range(3):
        with pytest.raises(OSError):
            world.update(decoded(m.MPTCP, [CONNECTION]), broken())
    world.sample([CONNECTION], [initial(sent=15), joined(sent=21)])
    assert world.totals() == [(0, 15, 0), (0, 21, 0)]
    assert world.counts() == [(1, 0), (1, 0)]
    assert world.connection().subflows == 2


def test_what_a_subflow_carried_stays_when_it_ends(world):
    """And it is counted as closed once, after two dumps without it."""
    world.sample([CONNECTION], [initial(sent=10)])
    for closed in (0, 1, 1, 1):
        world.sample([CONNECTION], [])
        assert world.counts()[0] == (1, closed)
    assert world.totals()[0] == (0, 10, 0)


@pytest.mark.parametrize("shown_connection, shown_flow", [(True, False), (False, True), (False, False)])
def test_one_dump_that_misses_a_socket(world, shown_connection, shown_flow):
    """The same socket afterwards: nothing counted twice, the same numbers."""
    world.sample([CONNECTION], [initial(sent=10)])
    numbers = world.connection().id, world.flow(11).id, world.flow(11).number
    world.sample([CONNECTION] * shown_connection, [initial(sent=20)] * shown_flow)
    world.sample([CONNECTION], [initial(sent=30)])
    assert world.totals()[0] == (0, 30, 0)
    assert world.counts()[0] == (1, 0)
    assert (world.connection().id, world.flow(11).id, world.flow(11).number) == numbers


def test_one_dump_that_shows_a_socket_twice(world):
    """A dump of a changing table can; also of a socket that is new."""
    for sent in (10, 20):
        world.sample([CONNECTION, CONNECTION], [initial(sent=sent), joined(), initial(sent=sent)])
        assert world.connection().subflows == 2
        assert [flow.cookie for flow in world.shown.subflows].count(11) == 1
        assert world.paths[0].subflows == 1
    assert len(world.shown.connections) == 1
    assert world.totals()[0] == (0, 20, 0)
    assert world.counts()[0] == (1, 0)


@pytest.mark.parametrize("again", [{}, {"sent": 1}, {"received": 500}, {"sent": 500, "received": 4}])
def test_counters_that_the_kernel_takes_back(world, again):
    """A disconnected initial subflow shows 0: totals stand still, then go on from there."""
    world.sample([CONNECTION], [initial(sent=100, received=5, retrans=2)])
    world.sample([CONNECTION], [initial(**again)])
    assert world.totals()[0] == (5, 100, 2)
    grown = {"sent": again.get("sent", 0) + 1, "received": again.get("received", 0) + 3}
    world.sample([CONNECTION], [initial(**grown)])
    assert world.totals()[0] == (8, 101, 2)


def test_retransmitted_bytes_alone_that_are_taken_back(world):
    """They stand still; the others go on."""
    world.sample([CONNECTION], [initial(sent=100, retrans=20)])
    world.sample([CONNECTION], [initial(sent=110, retrans=5)])
    assert world.totals()[0] == (0, 110, 20)


def test_a_path_that_changes_keeps_what_it_carried(world):
    """Bytes up to the change belong to the old path, those after it to the new one."""
    world.sample([CONNECTION], [initial(sent=10)])
    world.reroute(LINK1[0], 1).sample([CONNECTION], [initial(sent=30)], rerouted=True)
    assert world.totals() == [(0, 30, 0), (0, 0, 0)]
    assert [path.subflows for path in world.paths] == [0, 1]
    world.sample([CONNECTION], [initial(sent=35)])
    assert world.totals() == [(0, 30, 0), (0, 5, 0)]


def test_a_path_that_changes_while_the_subflow_is_idle(world):
    """Nothing is left for the old path."""
    world.sample([CONNECTION], [initial(sent=10)])
    world.reroute(LINK1[0], 1).sample([CONNECTION], [initial(sent=10)], rerouted=True)
    world.sample([CONNECTION], [initial(sent=15)])
    assert world.totals() == [(0, 10, 0), (0, 5, 0)]


def test_a_path_that_goes_keeps_the_subflow_and_its_bytes(world):
    """Without a route it is on no path; what it still sent (queued before) goes to the last known one."""
    world.sample([CONNECTION], [initial(sent=10)])
    world.reroute(LINK1[0], None).sample([CONNECTION], [initial(sent=12)], rerouted=True)
    assert world.totals()[0] == (0, 12, 0)
    assert world.paths[0].subflows == 0
    assert not world.flow(11).routed and not world.flow(11).live
    assert (world.connection().subflows, world.connection().live) == (1, 0)


def test_bytes_of_a_subflow_without_a_path_wait_for_one(world):
    """They are not lost."""
    world.reroute(LINK1[0], None).sample([CONNECTION], [initial(sent=10)])
    assert world.totals() == [(0, 0, 0)] * 2
    world.reroute(LINK1[0], 0).sample([CONNECTION], [initial(sent=15)], rerouted=True)
    assert world.totals()[0] == (0, 15, 0)


def test_a_subflow_that_gets_its_path_late_is_opened_then(world):
    """Opened minus closed must not go below zero."""
    world.reroute(LINK1[0], None).sample([CONNECTION], [initial()])
    world.reroute(LINK1[0], 0).sample([CONNECTION], [initial()], rerouted=True)
    assert world.counts()[0] == (1, 0)
    for _ in range(2):
        world.sample([CONNECTION], [])
    assert world.counts()[0] == (1, 1)


def test_routes_are_asked_for_new_subflows_and_after_a_change(world):
    """A look-up costs; an unchanged world needs none."""
    world.asked.clear()
    world.sample([CONNECTION], [initial()])
    world.sample([CONNECTION], [initial(), joined()])
    world.sample([CONNECTION], [initial(), joined()])
    assert world.asked == [[11], [12]]
    world.sample([CONNECTION], [initial(), joined()], rerouted=True)
    assert set(sum(world.asked[2:], [])) == {11, 12}


# Gauges.


def gauges(path):
    """The gauges of an interface."""
    return {"subflows": path.subflows, "backup": path.backup, "stalled": path.stalled, "sole": path.sole}


def test_a_connection_on_two_interfaces_would_survive_either(world):
    """So it is nobody's sole path."""
    world.sample([CONNECTION], [initial(rtt=10), joined(rtt=30, flags=m.JOINED_BY_US | m.BACKUP)])
    assert gauges(world.paths[0]) == {"subflows": 1, "backup": 0, "stalled": 0, "sole": 0}
    assert gauges(world.paths[1]) == {"subflows": 1, "backup": 1, "stalled": 0, "sole": 0}
    assert world.connection().live == 2


def test_two_subflows_on_one_interface_are_one_path(world):
    """Two live subflows, and still one link failure ends it."""
    world.sample([CONNECTION], [initial(rtt=10), joined(local=LINK1, rtt=31)])
    assert gauges(world.paths[0]) == {"subflows": 2, "backup": 0, "stalled": 0, "sole": 1}
    assert world.connection().live == 2
    assert world.paths[0].rtt == 20
    assert world.paths[1].rtt is None


def test_three_subflows_on_two_interfaces(world):
    """The order in which they are seen does not matter."""
    flows = [initial(), joined(), joined(13, local=LINK1)]
    for turn in range(3):
        world.sample([CONNECTION], flows[turn:] + flows[:turn])
        assert [path.sole for path in world.paths] == [0, 0]


@pytest.mark.parametrize(
    "retransmits, stalled", [(0, 0), (STALLED_RETRANSMITS - 1, 0), (STALLED_RETRANSMITS, 1), (255, 1)]
)
def test_a_peer_that_does_not_answer(world, retransmits, stalled):
    """The subflow still counts as one, but what is left is a sole path."""
    world.sample([CONNECTION], [initial(retransmits=retransmits), joined()])
    assert gauges(world.paths[0]) == {"subflows": 1, "backup": 0, "stalled": stalled, "sole": 0}
    assert world.paths[1].sole == stalled
    assert world.flow(11).live is not bool(stalled)
    assert (world.connection().subflows, world.connection().live) == (2, 2 - stalled)


def test_an_interface_that_is_down(world):
    """Its subflows stay established, and carry nothing."""
    world.paths[0].up = False
    world.sample([CONNECTION], [initial(), joined()])
    assert (world.connection().subflows, world.connection().live) == (2, 1)
    assert world.paths[1].sole == 1


def test_a_subflow_that_is_not_established(world):
    """A join that nobody answers is no path; bytes count in any state."""
    world.sample([CONNECTION], [initial(), joined(state=m.SYN_SENT, sent=3)])
    assert (world.connection().subflows, world.connection().live) == (1, 1)
    assert [path.sole for path in world.paths] == [1, 0]
    assert world.paths[1].subflows == 0
    assert world.totals()[1] == (0, 3, 0)


def test_a_half_closed_connection_still_has_a_sole_path(world):
    """Data may flow one way for as long as the peer likes."""
    world.sample([m.connection(1, 100, state=8)], [initial()])
    assert world.paths[0].sole == 1


def test_gauges_of_an_empty_sample_are_zero(world):
    """Nothing of the last one is left."""
    world.sample([CONNECTION], [initial(flags=m.JOINED_BY_US | m.BACKUP, retransmits=9)])
    world.sample([], [])
    assert [gauges(path) for path in world.paths] == [dict(subflows=0, backup=0, stalled=0, sole=0)] * 2
    assert (world.shown.connections, world.shown.subflows) == ([], [])


def test_the_dump_of_all_tcp_sockets_is_spared_without_a_connection(world):
    """It is the expensive one."""

    def never():
        raise AssertionError("asked for")
        yield

    world.update(decoded(m.MPTCP, []), never())
    world.update(decoded(m.MPTCP, [m.connection(1, 100, flags=FALLEN_BACK)]), never())
    assert len(world.shown.connections) == 1


# All of it at once.

FLOWS = 4  # two of each of two connections
STEP = st.tuples(
    st.lists(st.sampled_from(["grow", "idle", "reset", "miss", "close"]), min_size=FLOWS, max_size=FLOWS),
    st.lists(
        st.tuples(st.integers(0, 2**40), st.integers(100, 2**40) | st.just(0), st.integers(0, 100)),
        min_size=FLOWS,
        max_size=FLOWS,
    ),
    st.sampled_from([None, (0, 0), (0, 1), (1, 0), (1, 1)]),
)


class Model:
    """What the totals must be: a few lines of bookkeeping for each subflow, without the ledger's ideas."""

    def __init__(self):
        self.totals = [[0, 0, 0], [0, 0, 0]]
        self.flows = [self.fresh(number) for number in range(FLOWS)]
        self.cookies = 100

    @staticmethod
    def fresh(number, cookie=None):
        """A subflow as it begins."""
        return {
            "cookie": cookie or 10 + number,
            "now": (0, 0, 0),
            "counted": (0, 0, 0),
            "path": None,
            "missed": False,
        }

    def see(self, number, path, first):
        """A dump shows the flow: its growth belongs to the path that it had so far."""
        flow = self.flows[number]
        now, counted = flow["now"], flow["counted"]
        if not first and now[0] >= counted[0] and now[1] >= counted[1]:
            total = self.totals[path if flow["path"] is None else flow["path"]]
            total[0] += now[0] - counted[0]
            total[1] += now[1] - counted[1]
            total[2] += max(0, now[2] - counted[2])
        flow["counted"], flow["path"] = now, path


@settings(max_examples=150)
@given(st.lists(STEP, min_size=1, max_size=12))
def test_totals_are_those_of_the_model_and_never_fall(steps):
    """Growth, idleness, counters taken back, missed sockets, closed and new ones, changing routes."""
    world, model = World(), Model()
    routes, before, ids = (0, 1), [(0, 0, 0)] * 2, {}
    older = (0, 0)  # what subflows had carried at the first sample
    for step, (actions, growths, new_routes) in enumerate(steps):
        rerouted = new_routes is not None and new_routes != routes
        if rerouted:
            routes = new_routes
            for address, number in zip((LINK1[0], LINK2[0]), routes):
                world.reroute(address, number)
        messages = []
        for number, (action, growth) in enumerate(zip(actions, growths)):
            flow = model.flows[number]
            if action == "close":
                model.cookies += 1
                flow = model.flows[number] = model.fresh(number, model.cookies)
            if action in ("grow", "close", "miss"):
                received, sent, retrans = growth
                growth = received, sent, min(sent, retrans)  # what is sent again is sent
                flow["now"] = tuple(old + more for old, more in zip(flow["now"], growth))
            elif action == "reset":
                flow["now"] = (0, 0, 0)
            if action == "miss" and not flow["missed"]:  # two in a row would be a socket that ended
                flow["missed"] = True
                if rerouted and flow["path"] is not None:
                    flow["path"] = routes[number % 2]
                continue
            flow["missed"] = False
            model.see(number, routes[number % 2], first=step == 0)
            received, sent, retrans = flow["now"]
            if step == 0:
                older = (older[0] + received, older[1] + sent)
            messages.append(
                m.subflow(
                    flow["cookie"],
                    100 + number // 2,
                    local=(LINK1, LINK2)[number % 2],
                    received=received,
                    sent=sent,
                    retrans=retrans,
                )
            )
        world.sample([m.connection(1, 100), m.connection(2, 101)], messages, rerouted)
        totals = world.totals()
        assert totals == [tuple(total) for total in model.totals]
        assert all(new >= old for now, then in zip(totals, before) for new, old in zip(now, then))
        before = totals
        for column, name in enumerate(("received", "sent")):
            assert sum(getattr(one, name) for one in world.shown.connections) == older[column] + sum(
                row[column] for row in totals
            )
        for flow in world.shown.subflows:
            assert ids.setdefault(flow.id, flow.cookie) == flow.cookie
            assert ids.setdefault((flow.connection.id, flow.number), flow.cookie) == flow.cookie


def test_a_subflow_that_ends_leaves_its_route_once(world):
    """Two connections by the same addresses, one ends: one is live, when it is missed and when it is forgotten."""
    both = [CONNECTION, m.connection(2, 101)]
    world.sample(both, [initial(), m.subflow(21, 101, local=LINK1)])
    for _ in range(3):
        world.sample([CONNECTION], [initial()])
        shown = world.shown
        assert sum(shown.routes[route] - shown.dead_routes[route] for route in shown.routes) == 1
