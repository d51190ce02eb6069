# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole agent but PCP, fed with hostile bytes among good ones: listener, ledger, samples, and all metrics."""

import json
from random import Random

from pmdamptcp.metrics.registry import GROUPS
from pmdamptcp.source import FAULTS

from tests.unit import messages as m
from tests.unit.hosts import REMOTE, TOKEN, Host

from .targets import U32, need, text

_STRING, _U32 = 6, 1
_PORT = 1001


def corpus():
    """What the agent hears of the subflows that Chain makes, and of recorded ones."""
    ends = {"local": ("10.0.1.1", _PORT), "remote": REMOTE}
    made = [
        m.event(m.CREATED, TOKEN, *ends.values()), m.event(m.SUB_ESTABLISHED, TOKEN, *ends.values(), backup=1),
        m.event(m.SUB_CLOSED, TOKEN, *ends.values(), error=110, reason=2), m.event(m.CLOSED, TOKEN),
        m.event(m.SUB_PRIORITY, TOKEN, *ends.values(), backup=0), m.event(m.ANNOUNCED, TOKEN),
        m.subflow(1, TOKEN, received=10, sent=20, **ends),
        m.subflow(2, TOKEN, flags=m.JOINED_BY_US, sent=1 << 40, **ends),
        m.connection(10**6 + TOKEN, TOKEN, info={"subflows": 2, "bytes_received": 99}, **ends),
        m.connection(5, TOKEN + 1, flags=1, info_length=40, **ends), m.connection(6, 7, state=m.LISTEN, **ends),
        m.destroyed(1, received=1000, sent=2000, retrans=3, **ends), m.zeroed(1, **ends), m.plain_tcp(77, **ends)]
    return [*made, *m.sockets("tcp_dump_host-a_af2.bin"), *m.sockets("mptcp_dump_host-b_af10.bin"),
            *m.split(m.recorded("pm_events_host-a.bin"))[:12], *m.split(m.recorded("tcp_destroy_host-b.bin"))]


class Chain(Host):
    """A host whose kernel goes wrong now and then.  Each input comes by one of the ways that bytes come in."""

    def __init__(self, patch):
        super().__init__(patch, lambda line: None)
        self.hostile = {m.TCP: [], m.MPTCP: [], "lookups": []}
        self._random, self._turn, self._cookie = Random(0), 0, 0
        self._most = {}  # counter -> the largest value that it had
        self.start()

    def __getitem__(self, protocol):
        good = super().__getitem__(protocol)
        return self.hostile[protocol] + good

    def _look_up(self, requests):
        return super()._look_up(requests) + self.hostile["lookups"]

    def feed(self, data):
        """One input, a turn of the listener, and every eighth time a sample and all metrics."""
        self._turn += 1
        self._live()
        for waiting in self.hostile.values():
            waiting.clear()
        if self._turn % 3 and len(data) >= 68:  # of a socket that is known, else it is only ever another's
            cookies = list(self.sockets)
            data = data[:60] + cookies[self._turn % len(cookies)].to_bytes(8, "little") + data[68:]
        way = self._turn % 5
        if way < 2:
            (self.kernel.events, self.kernel.ends)[way].waiting.append(data)
        else:
            list(self.hostile.values())[way - 2].append(data)
        self.fault = OSError(110, "timed out") if self._turn % 50 == 0 else None
        refused = self.sampler.malformed
        try:
            self.tick(1.0)
        except FAULTS:
            refused -= 1
        if way in (2, 3) or self._turn % 8 == 0:
            self.sample()
            self._balance()
        if self._turn % 8 == 0:
            self._metrics()
        return True, self.sampler.malformed > refused, (len(self.ledger), self.sampler.malformed > refused)

    def _live(self):
        """What goes on besides: a subflow comes, carries, goes."""
        cookies = list(self.sockets)
        if len(cookies) < 8:
            self._cookie += 1
            self.open(self._cookie, f"l{1 + self._cookie % 3}", token=TOKEN + self._cookie % 3,
                      joined=self._cookie % 3 > 0, told=self._cookie % 4 > 0, port=_PORT + self._cookie % 500)
        elif self._turn % 7 == 0:
            self.end(self._random.choice(cookies), zeroed=self._turn % 2 == 0)
        for cookie in cookies[:3]:
            if cookie in self.sockets:
                self.carry(cookie, received=self.sockets[cookie].get("received", 0) + 1000)
        if self._turn % 40 == 0:
            self.reroute("10.0.1.1", self._random.choice(["l1", "l2", None]))

    def _balance(self):
        """The books are in order: nothing is counted twice, nothing is followed that is not in them."""
        ledger, sample = self.ledger, self.sampler.sample
        flows = ledger.flows
        need(len(ledger) == len(flows) == len(set(flows)), "flows", len(ledger), len(flows), len(set(flows)))
        need(all(flow in flow.connection.flows for flow in flows), "a flow that its connection does not know")
        paths = self.sampler.topology.paths.values()
        going = sum(1 for one in flows if one.carrier and not one.ended)
        left = sum(path.opened - path.closed for path in paths)
        need(left == going, "opened less closed", left, going)
        need(sum(sample.routes.values()) == len(sample._subflows) and all(n > 0 for n in sample.routes.values()),
             "routes", sample.routes)
        for path in paths:
            self._grows(path.name, path.received, path.sent, path.retrans, path.opened, path.closed,
                        path.backup_received, path.backup_sent)
            need(path.backup_received <= path.received and path.backup_sent <= path.sent, "backup", path.name)
        self._grows("host", ledger.truncated, ledger.unrouted, self.sampler.malformed, self.listener.events_told)

    def _grows(self, name, *counters):
        before = self._most.get(name, counters)
        need(all(now >= then for now, then in zip(counters, before)), "goes backwards", name, before, counters)
        self._most[name] = counters

    def _metrics(self):
        """Every value, name and label that a client could ask for, as PCP takes them."""
        for group in GROUPS:
            group.refresh(self.snapshot)
            instances = None
            if group.domain:
                instances = group.domain.instances(self.snapshot)
                names = [group.domain.name(row) for row in instances.values()]
                need(len(set(names)) == len(names), "a name twice", names)
                for name in names:
                    text(name)
                for number, row in instances.items():
                    need(0 <= number < 1 << 31, "instance", number)
                    text(json.dumps(group.domain.labels(row)))
            for row in group.rows_of(self.snapshot, instances).values():
                for metric in group.metrics if row is not None else ():
                    _value(metric, metric.get(row))


def _value(metric, value):
    if value is None:
        return
    if metric.type == _STRING:
        text(value)
    else:
        need(type(value) is int and 0 <= value and (metric.type != _U32 or value <= U32), metric.name, value)
