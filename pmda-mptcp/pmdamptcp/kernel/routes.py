# SPDX-License-Identifier: GPL-2.0-or-later
"""By which interface do packets leave? The kernel's own answer (RTM_GETROUTE).

The owner of the source address is no answer: without source routing, a
packet may well leave by another link.  Asked in bulk, since a server has a
pair of addresses for every client: 64 questions a system call, some 10 us
each, where one by one through pyroute2 takes 25 times as long.

The lookup knows addresses and a bound device.  Rules by port, mark or user and
layer-4 multipath hashes are not seen.
"""

import socket
from struct import Struct
from typing import Dict, Iterable, List, Optional

from . import netlink
from .interfaces import NETLINK_ROUTE
from .inet_diag import V4_MAPPED

RTM_NEWROUTE, RTM_GETROUTE = 24, 26
RTA_DST, RTA_SRC, RTA_OIF = 1, 2, 4

_RTMSG = Struct("=BBBBBBBBI")
_INDEX = Struct("=I")
_SEQUENCE = Struct("=8xI")
_BATCH = 64  # answers of one batch must fit the socket's default receive buffer


def key(source: str, destination: str, bound: int = 0) -> bytes:
    """The key of a lookup, in the form of flows.Subflow.route."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    return b"".join(socket.inet_pton(family, address).ljust(16, b"\0") for address in (source, destination)) \
        + bound.to_bytes(4, "little") + bytes([family])


def source_of(route: bytes) -> bytes:
    """The source address and family in a key, to compare with `sources`."""
    return route[:16] + route[36:]


def sources(address: str) -> List[bytes]:
    """What `source_of` may give for an address: IPv4 is also seen as v4-mapped IPv6."""
    found = [source_of(key(address, address))]
    if ":" not in address:
        found.append(V4_MAPPED + socket.inet_aton(address) + bytes([socket.AF_INET6]))
    return found


def rerooted(route: bytes, source: str, bound: int) -> Optional[bytes]:
    """The key with another source and bound device; None when the families do not fit."""
    destination, family = route[16:32], route[36]
    if destination.startswith(V4_MAPPED):
        destination, family = destination[12:].ljust(16, b"\0"), socket.AF_INET
    rooted = key(source, source, bound)
    return rooted[:16] + destination + rooted[32:] if rooted[36] == family else None


def egress(keys: Iterable[bytes]) -> Dict[bytes, Optional[int]]:
    """Index of the interface that packets of each key leave by; None: no route.

    Raises OSError and Malformed.
    """
    answers: Dict[bytes, Optional[int]] = {}
    pending = list(keys)
    if pending:
        with netlink.open_socket(NETLINK_ROUTE) as sock:
            for start in range(0, len(pending), _BATCH):
                _ask(sock, pending[start:start + _BATCH], answers)
    return answers


def _ask(sock: socket.socket, batch: List[bytes], answers: Dict[bytes, Optional[int]]) -> None:
    sock.send(b"".join(_question(one, number) for number, one in enumerate(batch)))
    waiting = set(range(len(batch)))
    while waiting:
        data = sock.recv(netlink.RECEIVE_SIZE)
        for kind, start, end in netlink.messages(data):
            number = _SEQUENCE.unpack_from(data, start - netlink.HEADER.size)[0]
            if number >= len(batch):
                raise netlink.Malformed(f"an answer to question {number} of {len(batch)}")
            index = None
            if kind == RTM_NEWROUTE:
                found = netlink.attributes(data, start + _RTMSG.size, end).get(RTA_OIF)
                if found and found[1] != _INDEX.size:
                    raise netlink.Malformed(f"an interface index of {found[1]} bytes")
                index = _INDEX.unpack_from(data, found[0])[0] if found else None
            answers[batch[number]] = index
            waiting.discard(number)


def _question(one: bytes, number: int) -> bytes:
    source, destination, bound, family = one[:16], one[16:32], one[32:36], one[36]
    if source.startswith(V4_MAPPED):
        source, destination, family = source[12:], destination[12:], socket.AF_INET
    elif family == socket.AF_INET:
        source, destination = source[:4], destination[:4]
    bits = len(source) * 8
    body = _RTMSG.pack(family, bits, bits, 0, 0, 0, 0, 0, 0)
    for kind, value in ((RTA_DST, destination), (RTA_SRC, source), (RTA_OIF, bound if any(bound) else b"")):
        if value:
            body += netlink.ATTRIBUTE.pack(netlink.ATTRIBUTE.size + len(value), kind) + value
    return netlink.request(RTM_GETROUTE, 0, body, number)
