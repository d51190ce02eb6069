# SPDX-License-Identifier: GPL-2.0-or-later
"""Asking for sockets: what is asked, and what is made of refusals."""

import errno
import socket

import pytest
from pmdamptcp.kernel import netlink, sock_diag

from . import messages as m


class Kernel:
    """Takes the place of netlink.dump: answers by family, remembers what was asked."""

    def __init__(self, answers):
        self.answers, self.asked = answers, []

    def dump(self, _sock, kind, payload):
        """An answer is a list of buffers or an OSError."""
        assert kind == m.SOCK_DIAG_BY_FAMILY
        self.asked.append(payload)
        answer = self.answers[payload[0]]
        if isinstance(answer, OSError):
            raise answer
        return answer


@pytest.fixture
def kernel(monkeypatch):
    """Answers both families with one buffer each until told otherwise."""
    fake = Kernel({socket.AF_INET: [b"four"], socket.AF_INET6: [b"six"]})
    monkeypatch.setattr(netlink, "dump", fake.dump)
    monkeypatch.setattr(netlink, "open_socket", lambda protocol: socket.socket())
    return fake


def test_dump_asks_for_info_and_for_no_listeners(kernel):
    """inet_diag_req_v2: family, protocol, extensions, pad, states."""
    assert list(sock_diag.dump(m.TCP)) == [b"four", b"six"]
    for family, payload in zip((socket.AF_INET, socket.AF_INET6), kernel.asked):
        assert payload[:4] == bytes([family, socket.IPPROTO_TCP, 1 << 1, 0])
        states = int.from_bytes(payload[4:8], "little")
        assert [state for state in range(32) if states >> state & 1] == [1, 2, 4, 5, 8, 9, 11]
        assert payload[8:] == bytes(48)


def test_dump_of_mptcp_names_the_protocol_in_an_attribute(kernel):
    """262 does not fit the byte of the request."""
    list(sock_diag.dump(m.MPTCP))
    assert len(kernel.asked) == 2
    for payload in kernel.asked:
        assert m.attributes(payload[56:]) == [(3, (262).to_bytes(4, "little"))]


def test_dump_passes_the_kernels_refusal_on(kernel):
    """No mptcp_diag: the errno that snapshot logs."""
    kernel.answers[socket.AF_INET] = OSError(errno.ENOENT, "no such thing")
    with pytest.raises(OSError) as refusal:
        list(sock_diag.dump(m.MPTCP))
    assert refusal.value.errno == errno.ENOENT
    assert "modprobe mptcp_diag" in str(refusal.value)  # what to do


def test_dump_does_without_ipv6(kernel):
    """A kernel booted with ipv6.disable=1."""
    kernel.answers[socket.AF_INET6] = OSError(errno.ENOENT, "no such thing")
    assert list(sock_diag.dump(m.TCP)) == [b"four"]


def test_dump_does_not_pass_half_a_picture_for_a_whole_one(kernel):
    """After two such dumps all IPv6 subflows would be forgotten, and counted anew when they come back."""
    kernel.answers[socket.AF_INET6] = socket.timeout("timed out")
    with pytest.raises(OSError):
        list(sock_diag.dump(m.TCP))
