# SPDX-License-Identifier: GPL-2.0-or-later
"""Services on the record of host-b, whose server listens on 5040 and whose endpoint listens on a port of its own."""

import errno
import socket

import pytest
from pmdamptcp.flows import Connection
from pmdamptcp.kernel import inet_diag, sock_diag
from pmdamptcp.services import Services

from . import kernels
from . import messages as m
from .kernels import Kernel, values

FAMILIES = "af2", "af10"
FAMILY_NUMBERS = socket.AF_INET, socket.AF_INET6
PORTS = "mptcp.service.port"
SAMPLED = inet_diag.WANTED_STATES | 1 << m.LISTEN  # states of MPTCP sockets that a sample asks for


class HostB(Kernel):
    """Recorded sockets, and made-up ones beside them; dumps are by state and port, as the kernel does it."""

    def __init__(self):
        super().__init__()
        self.recorded = {protocol: [message for family in FAMILIES
                                    for message in m.sockets(f"{name}_dump_host-b_{family}.bin")]
                         for protocol, name in ((m.TCP, "tcp"), (m.MPTCP, "mptcp"))}
        self.egress = {f"10.0.{number}.2": number + 1 for number in (1, 2, 3)}
        self.egress.update({f"fd00:{number}::2": number + 1 for number in (1, 2, 3)})
        self.requests, self.refused = [], {}

    def add(self, protocol, *sockets):
        """More sockets."""
        self.recorded[protocol] += sockets

    def _dump(self, protocol, states=inet_diag.WANTED_STATES, ports=(), families=FAMILY_NUMBERS):
        self.requests.append((protocol, states, list(ports)))
        if (protocol, states) in self.refused:
            raise self.refused[protocol, states]
        for message in self.recorded[protocol]:
            if states >> message[17] & 1 and message[16] in families:
                if not ports or int.from_bytes(message[20:22], "big") in ports:
                    yield message
        yield m.done()


@pytest.fixture
def host_b(monkeypatch):
    """In the place of this host's kernel."""
    return HostB().install(monkeypatch)


def fetched(snapshot):
    """{port: (addresses, all, MPTCP, TCP)} as metrics tell it."""
    ports = values(snapshot, PORTS)
    names = ("addresses", "connections", "mptcp_connections", "tcp_connections")
    columns = [values(snapshot, f"mptcp.service.{name}") for name in names]
    return {port: tuple(column[inst] for column in columns) for inst, port in ports.items()}


def sampled(host):
    """The MPTCP sockets of the record, as a sample has them: listeners and connections."""
    found, listeners = [], []
    for (state, _, flags, token), data, offset, layout in inet_diag.Decoder(m.MPTCP).decode(
            sock_diag.dump(m.MPTCP, SAMPLED)):
        one = Connection(token)
        one.data, one.offset, one.layout = data, offset, layout
        one.established, one.fallback = state == m.ESTABLISHED, bool(flags & 1)
        (listeners if state == m.LISTEN else found).append(one)
    host.requests.clear()
    return listeners, found


def test_the_recorded_service(host_b, log):
    """Two MPTCP connections; the endpoint's listener without a port is no service, nor is plain TCP on 5041."""
    assert fetched(host_b.snapshot(log)) == {5040: ("::", 2, 2, 0)}
    assert log == []


def test_plain_tcp_is_asked_for_by_port_and_state(host_b):
    """So that other services cost little."""
    found = Services().read(*sampled(host_b))
    assert list(found) == [5040]
    assert host_b.requests == [(m.TCP, 1 << m.ESTABLISHED, [5040])]
    [listener] = found[5040].listeners
    assert (listener.inode, listener.state) == (1111712, "LISTEN")


def test_who_speaks_what(host_b, log):
    """Plain TCP and what fell back count as TCP, established ones only; subflows are none, on whatever port."""
    ends = {"local": ("::ffff:10.0.1.2", 5040), "remote": ("::ffff:10.0.1.1", 7)}
    host_b.add(m.TCP, m.plain_tcp(1, **ends), m.plain_tcp(2, **ends),
               m.plain_tcp(3, **ends, state=8), m.plain_tcp(4, local=("10.0.1.2", 5042)),
               m.plain_tcp(5, local=("fd00:1::2", 5040), remote=("fd00:1::1", 9)),
               m.subflow(6, 77, **ends, flags=2), m.subflow(7, 78, **ends))
    host_b.add(m.MPTCP, m.connection(10, 77, flags=1, **ends), m.connection(11, 78, **ends),
               m.connection(12, 79, **ends, state=8), m.connection(13, 80, **ends, flags=1, state=8),
               m.connection(14, 81, local=("10.0.1.2", 999)))
    assert fetched(host_b.snapshot(log)) == {5040: ("::", 3 + 4, 3, 4)}


def test_several_listeners(host_b, log):
    """By port, in order; addresses once each."""
    nobody = ("0.0.0.0", 0)
    host_b.add(m.MPTCP,
               m.connection(1, 0, state=m.LISTEN, local=("10.0.1.2", 80), remote=nobody),
               m.connection(2, 0, state=m.LISTEN, local=("0.0.0.0", 5040), remote=nobody),
               m.connection(3, 0, state=m.LISTEN, local=("10.0.1.2", 80), remote=nobody),
               m.connection(4, 0, state=m.LISTEN, local=("10.0.2.2", 80), remote=nobody))
    host_b.add(m.TCP, m.plain_tcp(9, local=("10.0.1.2", 80)))
    snapshot = host_b.snapshot(log)
    assert list(fetched(snapshot).items()) == [
        (80, ("10.0.1.2, 10.0.2.2", 1, 0, 1)), (5040, ("0.0.0.0, ::", 2, 2, 0))]
    assert [len(service.listeners) for service in snapshot.services.values()] == [3, 2]
    assert host_b.requests[-1] == (m.TCP, 1 << m.ESTABLISHED, [80, 5040])


def test_no_listener_no_question(host_b):
    """A client's host: its plain TCP sockets are not dumped."""
    host_b.recorded[m.MPTCP] = [one for one in host_b.recorded[m.MPTCP] if one[17] != m.LISTEN]
    assert Services().read(*sampled(host_b)) == {}
    assert host_b.requests == []


def test_no_more_ports_than_the_kernel_should_walk_through(host_b):
    """The rest of the services shows its MPTCP connections only."""
    host_b.add(m.MPTCP, *(m.connection(number, 0, state=m.LISTEN, local=("10.0.1.2", 10000 + number),
                                       remote=("0.0.0.0", 0)) for number in range(1, 1100)))
    found = Services().read(*sampled(host_b))
    assert len(found) == 1100
    assert host_b.requests[-1][2] == [5040, *range(10001, 11000)]


def test_a_blind_kernel_tells_nothing_of_services(host_b, log):
    """It does not tell plain TCP sockets from subflows: no value rather than a wrong one, and no question."""
    host_b.recorded[m.TCP] = [m.without(message, m.ULP) for message in host_b.recorded[m.TCP]]
    snapshot = host_b.snapshot(log, privileged=False)
    assert fetched(snapshot) == {}
    assert not any(ports for _, _, ports in host_b.requests)
    assert values(host_b.snapshot(log, privileged=True), PORTS) == {5040: 5040}


def test_a_kernel_that_refuses(host_b, log):
    """No values, one line in the log, and all of it when it works again; other metrics are served."""
    host_b.refused[m.TCP, 1 << m.ESTABLISHED] = OSError(errno.ENOENT, "no such thing")
    snapshot = host_b.snapshot(log)
    for _ in range(2):
        assert fetched(snapshot) == {}
        host_b.clock.now += 1
    assert len([line for line in log if line.startswith("services: ")]) == 1
    assert kernels.named(snapshot, "mptcp.connection.subflows")
    host_b.refused.clear()
    host_b.clock.now += 1
    assert fetched(snapshot) == {5040: ("::", 2, 2, 0)}


def test_without_samples_there_are_no_services(host_b, log):
    """They need the connections."""
    host_b.refused[m.MPTCP, SAMPLED] = OSError(errno.ENOENT, "no such thing")
    assert fetched(host_b.snapshot(log)) == {}


def test_instances_are_ports(host_b, log):
    """Their names and labels."""
    snapshot = host_b.snapshot(log)
    domain = kernels.METRICS[PORTS][0].domain
    values(snapshot, PORTS)
    assert {inst: (domain.name(row), domain.labels(row)) for inst, row in domain.instances(snapshot).items()} == {
        5040: ("5040", {"port": 5040})}


def test_the_record_has_what_these_tests_need():
    """A v6 listener, and a v4 one without a port."""
    listeners = [message for family in FAMILIES for message in m.sockets(f"mptcp_dump_host-b_{family}.bin")
                 if message[17] == m.LISTEN]
    assert sorted((message[16], int.from_bytes(message[20:22], "big")) for message in listeners) == [
        (socket.AF_INET, 0), (socket.AF_INET6, 5040)]
