# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever happens in whatever order, and whatever of it is told: no byte is booked twice, none is taken back.

And when nothing was lost, none is missing.  A model of the kernel does as it
likes, the agent looks when it likes, and what it booked is compared with
what the model knows.
"""

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from pmdamptcp.sampler import Sampler
from pmdamptcp.topology import Topology
from pmdamptcp.watch import GRACE

from .model import DOINGS, LOSSES, RECEIVED, SENT, SYN_SENT, Kernel

NUMBER = st.integers(0, 11)
INSTANCES = 3  # at most, of each kind
STEPS = (0.004, 0.02, 0.3, 1.0, GRACE + 1, 6.0, 301.0)  # seconds


def doings(names):
    """Things that the kernel does."""
    return st.tuples(st.sampled_from(names), NUMBER, NUMBER, NUMBER)


class Machine(RuleBasedStateMachine):
    """Nothing is lost: what is booked is right to the byte."""

    def __init__(self):
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.kernel = Kernel()
        self.kernel.install(self.patch)
        self.said = []
        self.topology = Topology(self.said.append)
        self.sampler = Sampler(self.topology, INSTANCES, self.said.append)
        self.ledger, self.listener = self.sampler.ledger, self.sampler.listener
        self.before = {}
        self.looked = False  # at all sockets, in the last turn?
        self.sound = False  # is there something to be checked at the end?

    # The kernel.

    @initialize(before=st.lists(doings(DOINGS), max_size=12), since=st.lists(doings(DOINGS), max_size=4),
                patient=st.booleans(), steady=st.booleans())
    def start(self, before, since, patient=True, steady=False):
        """The agent meets a host at work."""
        self.kernel.patient |= patient
        self.steady = steady
        for doing in before:
            self.kernel.do(*doing)
        self.kernel.attended = True
        self.listener.open(1)
        for doing in since:
            self.kernel.do(*doing)
        self.sampler.take()
        self.kernel.first_look()
        self.sound = True

    @rule(doing=doings(DOINGS))
    def do(self, doing):
        """Something happens."""
        self.kernel.do(*doing)

    @rule(number=NUMBER, link=st.sampled_from([1, 2, 3, 4]))
    def reroute(self, number, link):
        """Routes change, but in half of the runs they never do."""
        if not self.steady:
            self.kernel.do("reroute", number, link, 0)

    # The agent.

    def _turn(self, look, doing=(), omit=None, repeat=None):
        self.sound, kernel = False, self.kernel
        kernel.meanwhile, kernel.omit, kernel.repeat = list(doing), omit, repeat
        look()
        kernel.settle()
        self.sound = True

    @rule(step=st.sampled_from(STEPS), meanwhile=st.lists(doings(DOINGS), max_size=4),
          omit=st.none() | NUMBER, repeat=st.none() | NUMBER)
    def tick(self, step, meanwhile=(), omit=None, repeat=None):
        """The listener's turn, some time after the last."""
        self.kernel.clock.now += step
        self.looked = omit is not None
        self._turn(self.listener.tick, meanwhile, omit, repeat)

    @rule(many=st.booleans(), meanwhile=st.lists(doings(DOINGS), max_size=4),
          omit=st.none() | NUMBER, repeat=st.none() | NUMBER)
    def sample(self, many, meanwhile=(), omit=None, repeat=None):
        """Somebody asks for a sample."""
        self.kernel.many = many
        if self.looked:  # between two looks at all sockets the listener has its turns
            self.tick(0.02)
            self.tick(0.02)
        self.looked = True
        self.kernel.samples += 1
        self._turn(self.sampler.take, meanwhile, omit, repeat)
        if not meanwhile and omit is None and all(one.connection is None or one.connection.listed and not (
                many and one.bound) for one in self.kernel.sockets):
            self._is_exact()

    # What must hold.

    def _booked(self, way):
        return {path.id: (path.received, path.sent)[way] for path in self.topology.paths.values()}

    def _is_exact(self):
        if self.kernel.whole and not self.kernel.unrouted:
            for way in (RECEIVED, SENT):
                assert sum(self._booked(way).values()) == sum(truth[way] for truth in self.kernel.truth.values())

    @invariant()
    def totals_only_grow(self):
        """Of interfaces and of connections."""
        now = {(path.name, name): getattr(path, name) for path in self.topology.paths.values()
               for name in ("received", "sent", "retrans", "opened", "closed")}
        for one in self.sampler.sample.connections:
            now.update({(one, one.id, "received"): one.received, (one, one.id, "sent"): one.sent})
        assert all(now.get(key, value) >= value for key, value in self.before.items())
        self.before = now

    @invariant()
    def nothing_is_booked_twice(self):
        """At most what was carried; on the right interface where there was no other."""
        truth = self.kernel.truth
        for way in (RECEIVED, SENT):
            booked = self._booked(way)
            assert sum(booked.values()) <= sum(one[way] for one in truth.values())
            if not self.kernel.rerouted:
                assert all(booked.get(self.topology.paths[f"eth{link}"].id, 0) <= truth[link][way] for link in booked
                           if f"eth{link}" in self.topology.paths)
        total = {one.cookie: one.total for one in self.kernel.connections}
        for one in self.sampler.sample.connections:
            if one.cookie in total and self.kernel.patient:
                assert one.received <= total[one.cookie][RECEIVED] and one.sent <= total[one.cookie][SENT]
        opened, closed = (sum(getattr(path, name) for path in self.topology.paths.values())
                          for name in ("opened", "closed"))
        assert closed <= opened + self.kernel.baseline

    @invariant()
    def a_sample_is_of_one_piece(self):
        """Subflows belong to connections that it shows as MPTCP; those that no route lists as dead are live."""
        sample = self.sampler.sample
        assert len(sample.shown_subflows) <= INSTANCES
        if self.kernel.patient:
            shown = {one for one in sample.connections if not one.fallback}
            assert all(flow.connection in shown for flow in sample.subflows)
            assert +(sample.routes - sample.dead_routes) == Counter(
                flow.route for flow in sample.subflows if flow.live)

    def teardown(self):
        """At last all is quiet."""
        try:
            if self.sound:
                self._what_is_there_is_known()
                self._what_ended_is_forgotten()
        finally:
            self.patch.undo()

    def _quiet(self):
        for step in (0.02, 1.0, GRACE + 1, 301.0, 6.0, 301.0):
            self.tick(step)
            self.totals_only_grow()
            self.nothing_is_booked_twice()

    def _what_is_there_is_known(self):
        """After two rounds: all living subflows and none else, and what they carry from now on is booked."""
        kernel = self.kernel
        for number in range(3):
            kernel.reroute(number, number + 1, 0)
        self._quiet()
        for _ in range(3):
            self.sample(many=False)
        living = [one for one in kernel.sockets if one.hashed and one.connection]
        known = {flow.cookie for flow in self.ledger.flows if not flow.ended}
        assert known <= {one.cookie for one in living if not one.connection.known}
        assert known >= {one.cookie for one in living if not one.connection.fallback and one.state != SYN_SENT}
        self._grow_and(lambda: None)
        self._grow_and(lambda: [kernel.reroute(number, number % 3 + 2, 0) for number in range(2)])
        self._grow_and(lambda: None)

    def _grow_and(self, then):
        """What was carried is booked where it was carried, whatever happened then."""
        kernel = self.kernel
        carried = {link: list(ways) for link, ways in kernel.truth.items()}
        booked = [self._booked(way) for way in (RECEIVED, SENT)]
        for number in range(len(kernel.sockets)):
            kernel.carry(number, number + 1, 2 * number)
        then()
        self._turn(lambda: (self.topology.refresh(), self.sampler.reconcile(whole=True)))
        for way in (RECEIVED, SENT):
            now = self._booked(way)
            for link, ways in kernel.truth.items():
                path = self.topology.paths[f"eth{link}"].id
                assert now[path] - booked[way][path] == ways[way] - carried[link][way]

    def _what_ended_is_forgotten(self):
        """Once it is told, and all of it was booked if nothing was lost."""
        kernel = self.kernel
        for name in ("refuse", "close", "leave", "tell_late", "finish"):
            for _ in range(len(kernel.sockets) + len(kernel.connections)):
                kernel.do(name, 0, 0, 0)
        assert not kernel.sockets and not kernel.connections
        self.tick(0.02)
        self._is_exact()
        self._quiet()
        opened, closed = (sum(getattr(path, name) for path in self.topology.paths.values())
                          for name in ("opened", "closed"))
        if kernel.whole and not kernel.unrouted:
            assert kernel.certain <= opened <= kernel.certain + kernel.possible
            assert closed == opened + kernel.baseline
            assert self.ledger.truncated == 0
        for _ in range(3):
            self.sample(many=False)
        ledger, sample = self.ledger, self.sampler.sample
        assert len(ledger) == 0
        for kept in (ledger._connections, ledger._by_cookie, ledger._by_ends, ledger._older, ledger._new,
                     sample._connections, sample._subflows, sample.routes, self.listener.watch._new,
                     self.listener.watch._queue):
            assert not kept
        assert self.listener.faults == 0 and self.sampler.malformed == 0


class LossyMachine(Machine):
    """Much is lost: what is booked is never too much."""

    def __init__(self):
        super().__init__()
        self.kernel.patient = True

    def _what_is_there_is_known(self):
        """Also what an overrun hid, and that at once."""
        kernel = self.kernel
        self.tick(0.02)
        for place in (3, 4, 5):
            kernel.overrun(2)
            old = list(kernel.sockets)
            kernel.accept(place, 0, 0)
            self.tick(0.02)
            known = {flow.cookie for flow in self.ledger.flows}
            assert all(one in old or one.cookie in known for one in kernel.sockets)
        super()._what_is_there_is_known()

    @rule(doing=doings(LOSSES))
    def lose(self, doing):
        """Something happens that hides what was carried."""
        self.kernel.do(*doing)


TestExact = Machine.TestCase
TestExact.settings = settings(max_examples=250, stateful_step_count=40, derandomize=True, deadline=None)
TestLossy = LossyMachine.TestCase
TestLossy.settings = settings(max_examples=250, stateful_step_count=40, derandomize=True, deadline=None)


# What such runs once came to, in its shortest form.
FOUND = {
    "a subflow outlives its connection": (
        [], ["accept 0 0 0"], ["sample", "close 0 0 0", "finish 0 0 0", "sample", "sample"]),
    "and it is older than the agent": (
        ["accept 3 9 6", "close 0 0 0", "carry 0 1 4", "finish 0 0 0"], [], []),
    "a token is used again at once": (
        ["connect 0 0 3"], [], ["refuse 0 0 0", "accept 1 0 0", "sample"]),
    "TCP after all, once a sample has seen it begin": (
        ["connect 2 1 1"], [], ["speak_tcp 0 0 0", "carry 0 5 5", "tick"]),
    "the initial subflow is lost while another was only told of": (
        [], ["accept 2 7 7"], ["sample", "join 0 3 1", "sample", "join 0 4 1", "tick", "zero 0 0 0", "carry 1 8 0",
                               "tick"]),
    "a subflow ends and joins again with the same ends": (
        [], ["accept 0 0 0", "join 0 1 1"], ["sample", "reset 0 0 0", "join 0 1 1", "carry 1 1 1", "tick",
                                             "reset 0 0 0", "tick"]),
    "an overrun hides the end of a subflow, and then the initial one is lost": (
        [], ["accept 4 0 0", "join 0 5 1"], ["carry 1 7 0", "overrun 2 0 0", "reset 0 0 0", "join 0 0 1", "sample",
                                             "sample", "sample", "zero 0 0 0", "tick", "tick"]),
    "an overrun hides a whole subflow, and then the initial one is lost": (
        [], ["accept 4 0 0", "join 0 5 1"], ["sample", "overrun 2 0 0", "join 0 0 1", "carry 2 7 0", "reset 1 0 0",
                                             "sample", "zero 0 0 0", "tick", "tick"]),
    "a socket is connected anew, and nobody looks": (
        ["accept 11 4 0"], [], ["zero 0 0 0", "connect_anew 0 0 0", "answer 0 0 0", "carry 0 0 7", "close 0 0 0",
                                "leave 0 0 0"]),
}


@pytest.mark.parametrize("before, since, steps", FOUND.values(), ids=FOUND)
def test_what_was_found(before, since, steps):
    """All that must hold does so after each step, and at the end."""
    def doing(step):
        name, *numbers = step.split()
        return (name, *map(int, numbers))

    machine = Machine()
    try:
        machine.start([doing(step) for step in before], [doing(step) for step in since], patient=False)
        for step in steps:
            if step == "sample":
                machine.sample(many=False)
            elif step == "tick":
                machine.tick(0.02)
            else:
                machine.do(doing(step))
            machine.totals_only_grow()
            machine.nothing_is_booked_twice()
            machine.a_sample_is_of_one_piece()
    finally:
        machine.teardown()
