# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel in the place of all readers: recorded answers that a test may change."""

import errno
import socket

from pmdamptcp import source
from pmdamptcp.config import Config
from pmdamptcp.kernel import (
    inet_diag, interfaces, layouts, netstat, path_manager, pm_events, routes, sock_diag, sysctl)
from pmdamptcp.kernel.interfaces import Traffic
from pmdamptcp.metrics.registry import GROUPS
from pmdamptcp.records import Endpoint, Limits, Link, PathManager
from pmdamptcp.snapshot import Snapshot

from . import messages as m

DUMPS = {
    (protocol, family): m.recorded(f"{name}_dump_host-a_{suffix}.bin")
    for protocol, name in ((m.TCP, "tcp"), (m.MPTCP, "mptcp"))
    for family, suffix in ((socket.AF_INET, "af2"), (socket.AF_INET6, "af10"))
}
EVENTS_FAMILY = m.EVENTS_FAMILY
METRICS = {metric.name: (group, metric) for group in GROUPS for metric in group.metrics}


class Clock:
    """Time stands still until a test says otherwise."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Broadcasts:
    """In the place of netlink.Subscription: what a test puts into `waiting` comes with the next drain."""

    def __init__(self):
        self.waiting, self.messages, self.overruns = [], 0, 0
        self.overrun = False  # must the next drain tell of lost messages?

    def drain(self, _most):
        """As the real one."""
        self.overruns += self.overrun
        self.overrun = False
        while self.waiting:
            self.messages += 1
            yield self.waiting.pop(0)


class Kernel:
    """host-a of the samples.  An answer that is an exception is raised; `asked` counts the questions."""

    def __init__(self):
        self.links = [Link(1, "lo", True), Link(2, "l1", True), Link(3, "l2", True), Link(4, "l3", True)]
        self.addresses = {f"10.0.{number}.1": number + 1 for number in (1, 2, 3)}
        self.addresses.update({f"fd00:{number}::1": number + 1 for number in (1, 2, 3)})
        self.egress = dict(self.addresses)  # by source address
        self.traffic = {link.name: Traffic(1000, 2000) for link in self.links}
        self.counters = {"MPCurrEstab": 3, "AddAddr": 10}
        self.settings = {"enabled": "1", "path_manager": "kernel"}
        self.path_manager = PathManager(Limits(8, 8), [
            Endpoint(1, "fd00:3::1", 0, 4, 14),
            Endpoint(77, "10.0.3.1", 0, 4, 2),
        ])
        self.dumps = {
            protocol: [DUMPS[protocol, socket.AF_INET], DUMPS[protocol, socket.AF_INET6]]
            for protocol in (m.TCP, m.MPTCP)
        }
        self.listeners = [one for one in m.sockets("mptcp_dump_host-b_af10.bin") if one[17] == m.LISTEN]
        self.events, self.ends = Broadcasts(), Broadcasts()  # or exceptions
        self.changed = True  # is there word of a change?
        self.asked = dict.fromkeys(
            "links addresses egress traffic counters settings path_manager dumps".split(), 0
        )
        self.clock = Clock()

    def install(self, patch):
        """Take the place of the readers."""
        readers = {
            (interfaces, "links"): "links",
            (interfaces, "addresses"): "addresses",
            (interfaces, "traffic"): "traffic",
            (netstat, "read"): "counters",
            (sysctl, "read"): "settings",
            (path_manager, "read"): "path_manager",
        }
        for place, name in readers.items():
            patch.setattr(*place, lambda name=name: self._answer(name))
        patch.setattr(interfaces, "Changes", lambda: self)
        patch.setattr(sock_diag, "dump", self._dump)
        patch.setattr(sock_diag, "listen", lambda size: self._answer("ends"))
        patch.setattr(pm_events, "listen", lambda size: (
            self._answer("events"), layouts.Decoder(EVENTS_FAMILY, pm_events.learn)))
        patch.setattr(routes, "egress", self._egress)
        patch.setattr(source, "monotonic", self.clock)
        return self

    def _answer(self, name):
        self.asked[name] = self.asked.get(name, 0) + 1
        answer = getattr(self, name)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def any(self):
        """As interfaces.Changes: news since the last time."""
        if isinstance(self.changed, Exception):
            raise self.changed
        changed, self.changed = self.changed, False
        return changed

    def _dump(self, protocol, states=inet_diag.WANTED_STATES, ports=(), families=()):
        answer = [] if ports else self._answer("dumps")[protocol]  # no plain TCP
        if isinstance(answer, Exception):
            raise answer
        yield from answer
        if states >> m.LISTEN & 1:
            yield from self.listeners

    def _egress(self, keys):
        indexes = self._answer("egress")
        found = {}
        for key in keys:
            source = key[:16]
            family = key[36]
            if source.startswith(bytes(10) + b"\xff\xff"):
                source, family = source[12:], socket.AF_INET
            size = 4 if family == socket.AF_INET else 16
            found[key] = indexes.get(socket.inet_ntop(family, source[:size]))
        return found

    def reshape(self, change, protocols=(m.TCP, m.MPTCP)):
        """Send the sockets as another kernel would: `change` makes a message of protocol and message."""
        for protocol in protocols:
            self.dumps[protocol] = [
                b"".join(
                    (
                        change(protocol, message)
                        if m.HEADER.unpack_from(message)[1] == m.SOCK_DIAG_BY_FAMILY
                        else message
                    )
                    for message in m.split(buffer)
                )
                for buffer in self.dumps[protocol]
            ]

    def snapshot(self, log, privileged=True, **settings):
        """A snapshot of this kernel."""
        return Snapshot(Config(**settings), log, privileged)


def as_5_10(protocol, message):
    """Linux 5.10: the shortest structures, attributes in the old order."""
    return _older(protocol, message, tcp_info=232, mptcp_info=40)


def as_6_1(protocol, message):
    """Linux 6.1 (and Debian 12's)."""
    return _older(protocol, message, tcp_info=232, mptcp_info=48)


def as_6_12(protocol, message):
    """Linux 6.12."""
    return _older(protocol, message, tcp_info=248, mptcp_info=96)


def as_6_18(_protocol, message):
    """As recorded."""
    return message


def _older(protocol, message, tcp_info, mptcp_info):
    if protocol == m.MPTCP:
        return m.cut_info(message, mptcp_info)
    if m.subflow_attributes(message):
        message = m.reordered(message, m.ORDER_BEFORE_6_18)
    return m.cut_info(message, tcp_info)


def blind(protocol, message):
    """What a kernel before 6.18 shows without CAP_NET_ADMIN: no ULP info, so no subflows."""
    return m.without(message, m.ULP) if protocol == m.TCP else message


def values(snapshot, name):
    """What a fetch of a metric gives: {instance id: value}, or the one value; None and {} for none."""
    group, metric = METRICS[name]
    group.refresh(snapshot)
    instances = group.domain.instances(snapshot) if group.domain else None
    rows = group.rows_of(snapshot, instances)
    found = {inst: metric.get(row) for inst, row in rows.items() if row is not None}
    if group.domain:
        return {inst: value for inst, value in found.items() if value is not None and inst in instances}
    return found.popitem()[1] if found else None


def named(snapshot, name):
    """The same by instance name, up to its first space."""
    domain = METRICS[name][0].domain
    found = values(snapshot, name)
    return {
        domain.name(row).split()[0]: found[inst]
        for inst, row in domain.instances(snapshot).items()
        if inst in found
    }


ENOENT = OSError(errno.ENOENT, "No such file or directory")
