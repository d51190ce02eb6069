# SPDX-License-Identifier: GPL-2.0-or-later
"""Asking for sockets, and being told of their end, over sock_diag(7)."""

import errno
import socket
from struct import Struct
from typing import Collection, Iterable, Iterator, List, Sequence

from . import netlink
from .inet_diag import INET_DIAG_INFO, IPPROTO_MPTCP, SOCK_DIAG_BY_FAMILY, WANTED_STATES

NETLINK_SOCK_DIAG = 4
INET_DIAG_REQ_BYTECODE, INET_DIAG_REQ_PROTOCOL = 1, 3
_DESTROY_GROUPS = 1 << 0 | 1 << 2  # SKNLGRP_INET_TCP_DESTROY, SKNLGRP_INET6_TCP_DESTROY
_BATCH = 64  # answers of one batch must fit the socket's default receive buffer

_NO_MODULE = [f"the kernel has no {name}: modprobe {name}" for name in ("tcp_diag", "mptcp_diag")]

_REQUEST = Struct("=BBBxI48s")  # inet_diag_req_v2
_WORD = Struct("=HHI")  # an attribute of four bytes
_OPERATION = Struct("=BBH")  # inet_diag_bc_op: code, and where to go on if it holds (yes) or not (no)
_S_EQ, _JMP = 11, 1
_ANY = bytes(48)


def _request(family: int, protocol: int, states: int = WANTED_STATES, identity: bytes = _ANY) -> bytes:
    payload = _REQUEST.pack(family, protocol & 0xFF, 1 << (INET_DIAG_INFO - 1), states, identity)
    if protocol > 0xFF:  # does not fit the byte of the request, so the kernel takes it as an attribute
        payload += _WORD.pack(_WORD.size, INET_DIAG_REQ_PROTOCOL, protocol)
    return payload


def dump(protocol: int, states: int = WANTED_STATES, ports: Sequence[int] = (),
         families: Collection[int] = (socket.AF_INET, socket.AF_INET6)) -> Iterator[bytes]:
    """All sockets of a protocol (IPPROTO_TCP or IPPROTO_MPTCP) with INFO, as receive buffers.

    `states` is a bit mask, `ports` leaves out those with other local ports
    (each family takes a walk through all sockets all the same).
    INFO is asked for also by who does not need it: without it, the kernel
    does not tell which sockets are subflows.  Raises OSError: ENOENT means
    that the kernel has no (m)ptcp_diag or no such protocol.  That it has no
    IPv6 is no error.
    """
    wanted = b""
    if ports:
        code = _local_ports(ports)
        wanted = netlink.ATTRIBUTE.pack(netlink.ATTRIBUTE.size + len(code), INET_DIAG_REQ_BYTECODE) + code
    for family in sorted(families):
        payload = _request(family, protocol, states) + wanted
        try:
            with netlink.open_socket(NETLINK_SOCK_DIAG) as sock:
                yield from netlink.dump(sock, SOCK_DIAG_BY_FAMILY, payload)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            if family == socket.AF_INET:
                raise OSError(error.errno, _NO_MODULE[protocol == IPPROTO_MPTCP]) from None


def _local_ports(ports: Sequence[int]) -> bytes:
    """The filter of the kernel's own little machine: is the local port one of these?"""
    code = b""
    for port in reversed(ports):
        # On a match go on behind this and the port; else at the next test, or, from the last one, beyond the end.
        accept = _OPERATION.pack(_JMP, _OPERATION.size, len(code) + 4) if code else b""
        code = _OPERATION.pack(_S_EQ, 8, 8 + len(accept) + (0 if code else 4)) \
            + _OPERATION.pack(0, 0, port) + accept + code
    return code


def look_up(identities: Iterable["tuple[int, bytes]"]) -> Iterator[bytes]:
    """Single TCP sockets, with INFO: asked for by family and inet_diag_sockid, one answer each in the same order.

    An answer is the socket's message or the kernel's refusal (ENOENT: there
    is none).  Once a connection's socket is gone, the kernel answers with
    the listener of the port.  Raises OSError and Malformed.
    """
    yield from _ask([_request(family, socket.IPPROTO_TCP, identity=identity)
                     for family, identity in identities])


def look_up_connections(tokens: Iterable[int]) -> Iterator[bytes]:
    """MPTCP connections by their tokens, as `look_up`."""
    yield from _ask([_request(socket.AF_INET, IPPROTO_MPTCP, identity=bytes(40) + token.to_bytes(8, "little"))
                     for token in tokens])


def _ask(payloads: List[bytes]) -> Iterator[bytes]:
    if not payloads:
        return
    with netlink.open_socket(NETLINK_SOCK_DIAG) as sock:
        for start in range(0, len(payloads), _BATCH):
            batch = payloads[start:start + _BATCH]
            sock.send(b"".join(netlink.request(SOCK_DIAG_BY_FAMILY, 0, payload, number)
                               for number, payload in enumerate(batch)))
            for number in range(len(batch)):
                data = sock.recv(netlink.RECEIVE_SIZE)
                answered = netlink.sequence_of(data)
                if answered != number:
                    raise netlink.Malformed(f"an answer to lookup {answered} instead of {number}")
                yield data


def listen(size: int) -> netlink.Subscription:
    """The end of each TCP socket, with its last INFO; of MPTCP or not, the kernel does not say.

    Raises OSError.
    """
    return netlink.Subscription(NETLINK_SOCK_DIAG, size, _DESTROY_GROUPS)
