# SPDX-License-Identifier: GPL-2.0-or-later
"""What netlink messages say, read slowly and by the book: what the agent's decoders say is compared with it.

A field is only ever taken out of the payload of its own attribute, so that a
value from beyond an end cannot come out of here.
"""

import socket
from struct import Struct

from pmdamptcp.kernel import inet_diag
from pmdamptcp.kernel.pm_events import Event

_HEAD, _ATTRIBUTE, _U32, _U64 = Struct("=IH"), Struct("=HH"), Struct("=I"), Struct("=Q")
_LEAST = {1: 4, 2: 2, 5: 4, 6: 16, 7: 4, 8: 16, 9: 2, 10: 2, 11: 1, 12: 1, 15: 4, 16: 4}
_SINCE = {"retransmits": 80, "subflows_total": 88, "last_data_sent": 96}  # of mptcp_info, where padding was before


class Bad(Exception):
    """Lengths that contradict each other."""


def walk(data):
    """Attributes that follow each other: type -> (place, payload), the last of a type counts."""
    found, start, end = {}, 0, len(data)
    while start + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if length < 4 or start + length > end:
            raise Bad
        found[kind & 0x3FFF] = start, data[start + 4:start + length]
        start += length + 3 & ~3
    return found


def decoded(data, kind, read):
    """([(offset, value)], messages, were there malformed ones) of a buffer; `read` makes the value of a message."""
    found, count, offset, size = [], 0, 0, len(data)
    while offset < size:
        if size - offset < 6:
            return found, count, True
        length, one = _HEAD.unpack_from(data, offset)
        if length < 16 or length > size - offset:
            return found, count, True
        if one == kind:
            try:
                value = read(data[offset:offset + length])
            except Bad:
                return found, count, True
            count += 1
            if value is not None:
                found.append((offset, value))
        offset += length + 3 & ~3
    return found, count, False


def _parts(message):
    """Attributes of a socket, and those of its MPTCP part."""
    if len(message) < 88:
        raise Bad
    found = walk(message[88:])
    place, ulp = found.get(19, (0, b""))
    inner, nest = walk(ulp).get(3, (0, b""))
    return found, {kind: (place + inner + start, payload) for kind, (start, payload) in walk(nest).items()}


def _word(payload, place, struct):
    return struct.unpack_from(payload, place)[0]


def connection(message):
    """(state, cookie, flags, token) of an MPTCP socket."""
    found, _ = _parts(message)
    info = found.get(2, (0, b""))[1]
    return (*_head(message), _word(info, 8, _U32), _word(info, 12, _U32)) if len(info) >= 16 else None


def closed(message):
    """(state, cookie, received, sent, retrans) of a TCP socket."""
    found, _ = _parts(message)
    info = found.get(2, (0, b""))[1]
    return (*_head(message), *_bytes(info)) if len(info) >= 216 else None


def plain(message):
    """(state, cookie) of a TCP socket that is no subflow."""
    return None if _parts(message)[1] else _head(message)


def subflow(message):
    """What the agent keeps of a subflow; the order of its attributes is the kernel's."""
    found, nest = _parts(message)
    start, info = found.get(2, (0, b""))
    (first, token), (second, flags) = nest.get(2, (0, b"")), nest.get(8, (0, b""))
    if len(info) < 216 or len(token) != 4 or len(flags) != 4 or first >= second or found[19][0] < start:
        return None
    state = info[2], _word(info, 68, _U32)
    return (*_head(message), *state, *_bytes(info), _word(token, 0, _U32), _word(flags, 0, _U32))


def _head(message):
    return message[17], _word(message, 60, _U64)


def _bytes(info):
    return tuple(_word(info, place, _U64) for place in (128, 200, 208))


def info_field(message, table, name):
    """A field of the info structure, None where that is too short."""
    info = walk(message[88:]).get(2, (0, b""))[1]
    place, code = table[name]
    struct = Struct("=" + code)
    least = place + struct.size if table is inet_diag.TCP_INFO else _SINCE.get(name, place + struct.size)
    return _word(info, place, struct) if len(info) >= least else None


def ids(message):
    """(local, remote) address id; None where not both are told."""
    nest = _parts(message)[1]
    local, remote = nest.get(10, (0, b""))[1], nest.get(9, (0, b""))[1]
    return (local[0], remote[0]) if local and remote else (None, None)


def event(message):
    """An Event."""
    if len(message) < 20:
        raise Bad
    kind, found = message[16], {one: payload for one, (_, payload) in walk(message[20:]).items()}
    if any(len(payload) < _LEAST.get(one, 0) for one, payload in found.items()):
        raise Bad
    if 1 not in found:
        return Event(kind)
    token, four = _word(found[1], 0, _U32), 5 in found
    ends = (5, 7, 9, 10) if four else (6, 8, 9, 10)
    if not set(ends) <= found.keys():
        return Event(kind, token)
    size = 4 if four else 16
    source, target, sport, dport = (found[one] for one in ends)
    identity = (sport[:2] + dport[:2] + source[:size].ljust(16, b"\0") + target[:size].ljust(16, b"\0")
                + found.get(15, bytes(4))[:4])
    reason = _word(found[16], 0, _U32) if 16 in found else None
    return Event(kind, token, socket.AF_INET if four else socket.AF_INET6, identity,
                 found[12][0] if 12 in found else None, reason,
                 11 in found and found[11][0] > 0)


def routes(buffers, count):
    """Index by question of the answers to `count` route lookups.  Raises Bad."""
    answers = {}
    for data in buffers:
        offset = 0
        while offset < len(data):
            if len(data) - offset < 16:
                raise Bad
            length, kind, _, number, _ = Struct("=IHHII").unpack_from(data, offset)
            if length < 16 or length > len(data) - offset or number >= count:
                raise Bad
            index = None
            if kind == 24:
                payload = walk(data[offset + 28:offset + length]).get(4, (0, None))[1]
                if payload is not None:
                    if len(payload) != 4:
                        raise Bad
                    index = _word(payload, 0, _U32)
            answers[number] = index
            offset += length + 3 & ~3
        if len(answers) == count:
            return answers
    raise Bad
