# SPDX-License-Identifier: GPL-2.0-or-later
"""A dump by local ports: the filter against the kernel's rules (net/ipv4/inet_diag.c), and on this kernel."""

import socket
from struct import Struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pmdamptcp.kernel import inet_diag, netlink, sock_diag

from . import messages as m

NOP, JMP, S_EQ, D_EQ = 0, 1, 11, 12  # INET_DIAG_BC_*
_OPERATION = Struct("=BBH")


def accepts(code, sport, dport=0):
    """inet_diag_bc_run: accepted is what ends exactly behind the code."""
    place = 0
    while place < len(code):
        operation, yes, no = _OPERATION.unpack_from(code, place)
        holds = operation != JMP
        if operation in (S_EQ, D_EQ):
            holds = (sport if operation == S_EQ else dport) == _OPERATION.unpack_from(code, place + 4)[2]
        else:
            assert operation in (NOP, JMP)
        place += yes if holds else no
    return place == len(code)


def audit(code):
    """inet_diag_bc_audit: may the kernel run this at all?"""

    def reachable(rest):
        """valid_cc: is what is `rest` bytes before the end the start of an operation?"""
        place = 0
        while place <= len(code):
            if rest > len(code) - place:
                return False
            if rest == len(code) - place:
                return True
            step = code[place + 1]
            if step < 4 or step & 3:
                return False
            place += step
        return False

    place = 0
    assert len(code) >= 4
    while place < len(code):
        operation, yes, no = _OPERATION.unpack_from(code, place)
        rest = len(code) - place
        least = 8 if operation in (S_EQ, D_EQ) else 4
        assert operation in (NOP, JMP, S_EQ, D_EQ) and rest >= least
        if operation != NOP:
            assert least <= no <= rest + 4 and not no & 3
            assert no >= rest or reachable(rest - no)
        assert least <= yes <= rest + 4 and not yes & 3
        place += yes
    assert place == len(code)


@pytest.fixture
def asked(monkeypatch):
    """The requests that a dump makes; there are no sockets."""
    payloads = []
    monkeypatch.setattr(netlink, "dump", lambda sock, kind, payload: payloads.append(payload) or [])
    monkeypatch.setattr(netlink, "open_socket", lambda protocol: socket.socket())
    return payloads


def filter_of(asked, ports, protocol=socket.IPPROTO_TCP):
    """The filter that a dump of these ports asks with."""
    asked.clear()
    assert not list(sock_diag.dump(protocol, 1 << m.ESTABLISHED, ports))
    four, six = asked
    assert (four[0], six[0]) == (socket.AF_INET, socket.AF_INET6)
    assert four[1:] == six[1:]
    return m.attributes(four[56:])


def test_no_ports_no_filter(asked):
    """And the states are those asked for."""
    assert filter_of(asked, []) == []
    assert int.from_bytes(asked[0][4:8], "little") == 1 << m.ESTABLISHED


def test_the_filter_comes_behind_the_protocol(asked):
    """Of MPTCP, too; both are attributes."""
    kinds = [kind for kind, _ in filter_of(asked, [80, 443], m.MPTCP)]
    assert kinds == [3, 1]


@pytest.mark.parametrize("ports", [[0], [80], [65535], [80, 443], [443, 80], [1, 2, 3], list(range(1, 1001))])
def test_exactly_these_ports(asked, ports):
    """Every other of all ports is left out, whatever the remote one is."""
    [(kind, code)] = filter_of(asked, ports)
    assert kind == 1  # INET_DIAG_REQ_BYTECODE
    audit(code)
    others = range(65536) if len(ports) < 10 else [0, *range(990, 1100), 65535]
    assert [port for port in others if accepts(code, port, dport=ports[0])] == sorted(
        port for port in ports if port in others)
    assert all(accepts(code, port) for port in ports)


@given(st.lists(st.integers(0, 65535), min_size=1, max_size=40), st.lists(st.integers(0, 65535), max_size=40))
def test_any_ports(ports, others):
    """In any order, also twice the same; the kernel's audit lets all of them pass."""
    code = sock_diag._local_ports(ports)
    audit(code)
    for port in ports + others + [port ^ 1 for port in ports]:
        assert accepts(code, port) is (port in ports)


# This kernel.


@pytest.fixture
def servers():
    """Three servers (one of them IPv6) with two connections each: {port: [client port]}."""
    made, found = [], {}
    try:
        for number in range(3):
            address, family = ("::1", socket.AF_INET6) if number == 2 else ("127.0.0.1", socket.AF_INET)
            server = socket.create_server((address, 0), family=family)
            made.append(server)
            port = server.getsockname()[1]
            found[port] = []
            for _ in range(2):
                client = socket.create_connection((address, port))
                made += [client, server.accept()[0]]
                found[port].append(client.getsockname()[1])
        yield found
    except OSError as error:
        pytest.skip(f"no loopback: {error}")
    finally:
        for one in made:
            one.close()


def shown(states, ports):
    """[(local port, remote port)] of what this kernel shows."""
    return sorted(tuple(int.from_bytes(data[offset + place:offset + place + 2], "big") for place in (20, 22))
                  for _, data, offset, _ in inet_diag.Decoder(inet_diag.PLAIN).decode(
                      sock_diag.dump(socket.IPPROTO_TCP, states, ports)))


def test_this_kernel_shows_the_ports_asked_for_and_no_others(servers):
    """Established ones of one server, of two, of a client's port."""
    first, second, third = servers
    pairs = {port: sorted((port, client) for client in clients) for port, clients in servers.items()}
    client = servers[first][0]
    assert shown(1 << m.ESTABLISHED, [first]) == pairs[first]
    assert shown(1 << m.ESTABLISHED, [third, first]) == sorted(pairs[first] + pairs[third])
    assert shown(1 << m.ESTABLISHED, [second, client]) == sorted(pairs[second] + [(client, first)])
    assert not shown(1 << m.ESTABLISHED, [1])


def test_this_kernel_shows_listeners_by_port(servers):
    """The state is another condition."""
    first, second, third = servers
    assert shown(1 << m.LISTEN, [first, third]) == sorted([(first, 0), (third, 0)])
    assert len(shown(1 << m.LISTEN | 1 << m.ESTABLISHED, [first, second, third])) == 9


def test_this_kernel_takes_as_many_ports_as_services_may_ask_for(servers):
    """The longest filter of all."""
    ports = sorted(servers)
    spare = [port for port in range(1, 1100) if port not in ports][:1000 - len(ports)]
    assert len(shown(1 << m.ESTABLISHED, spare + ports)) == 6
