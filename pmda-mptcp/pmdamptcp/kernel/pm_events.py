# SPDX-License-Identifier: GPL-2.0-or-later
"""What the path manager tells of connections and subflows as it happens (linux/mptcp_pm.h, Linux 5.12).

Read raw: pyroute2 does not know these events.  Joining the group takes
CAP_NET_ADMIN.
"""

import errno
import socket
from struct import Struct
from typing import Dict, Iterator, NamedTuple, Optional, Tuple

from . import layouts, netlink
from .layouts import Layout, Places

NETLINK_GENERIC = 16
GENL_ID_CTRL, CTRL_CMD_GETFAMILY = 16, 3
CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME, CTRL_ATTR_MCAST_GROUPS = 1, 2, 7
CTRL_ATTR_MCAST_GRP_NAME, CTRL_ATTR_MCAST_GRP_ID = 1, 2
FAMILY, GROUP = b"mptcp_pm\0", b"mptcp_pm_events\0"

#: Events by number: the names of enum mptcp_event_type in lower case.
NAMES = {1: "created", 2: "established", 3: "closed", 6: "announced", 7: "removed", 10: "sub_established",
         11: "sub_closed", 13: "sub_priority", 15: "listener_created", 16: "listener_closed"}
CREATED, ESTABLISHED, CLOSED, SUB_ESTABLISHED, SUB_CLOSED, SUB_PRIORITY = 1, 2, 3, 10, 11, 13

# enum mptcp_event_attr
_TOKEN, _FAMILY, _SADDR4, _SADDR6, _DADDR4, _DADDR6, _SPORT, _DPORT, _BACKUP, _ERROR, _IF_IDX, _RESET_REASON = (
    1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 15, 16)
_LEAST = {_TOKEN: 4, _FAMILY: 2, _SADDR4: 4, _SADDR6: 16, _DADDR4: 4, _DADDR6: 16, _SPORT: 2, _DPORT: 2, _BACKUP: 1,
          _ERROR: 1, _IF_IDX: 4, _RESET_REASON: 4}
_GENERIC_HEADER = Struct("=BBH")  # genlmsghdr: command, version
_ATTRIBUTES = netlink.HEADER.size + _GENERIC_HEADER.size


class Event(NamedTuple):
    """An event.  Only those of a subflow have more than `kind` and `token`.

    `identity`: ports, addresses and bound device as inet_diag.Row has them,
    seen from this host; `error`: an errno; `reason`: of the MP_TCPRST that
    closed it (RFC 8684 section 3.6); both None when the kernel says nothing;
    `backup`: did the peer ask to use it as backup only?  (That this host did
    is not told by Linux 6.18.)
    """

    kind: int
    token: int = 0
    family: int = 0
    identity: bytes = b""
    error: Optional[int] = None
    reason: Optional[int] = None
    backup: bool = False


def _found(data: bytes, family: Optional[int] = None) -> Iterator[Places]:
    for kind, start, end in netlink.messages(data):
        if kind == netlink.NLMSG_ERROR:
            code = netlink.error_of(data, start)
            raise OSError(code, "the kernel has no MPTCP" if code == errno.ENOENT else "refused")
        if family in (None, kind):
            yield netlink.attributes(data, start + _GENERIC_HEADER.size, end)


def ids(data: bytes) -> Tuple[int, int]:
    """Numbers of the family and of its group of events, from the answer to CTRL_CMD_GETFAMILY.

    Raises OSError and Malformed.
    """
    for found in _found(data, GENL_ID_CTRL):
        start, length = found.get(CTRL_ATTR_MCAST_GROUPS, (0, 0))
        for place, size in netlink.attributes(data, start, start + length).values():
            group = netlink.attributes(data, place, place + size)
            if _payload(data, group, CTRL_ATTR_MCAST_GRP_NAME) == GROUP:
                return (_number(data, found, CTRL_ATTR_FAMILY_ID, 2), _number(data, group, CTRL_ATTR_MCAST_GRP_ID, 4))
    raise OSError(errno.EOPNOTSUPP, "this kernel's path manager has no events")


def _payload(data: bytes, found: Places, kind: int) -> bytes:
    start, length = found.get(kind, (0, 0))
    return data[start:start + length]


def _number(data: bytes, found: Places, kind: int, size: int) -> int:
    """A number of so many bytes, as setsockopt(2) takes it.  Raises Malformed."""
    payload = _payload(data, found, kind)
    number = int.from_bytes(payload, "little")
    if len(payload) != size or not 0 < number < 1 << 31:
        raise netlink.Malformed(f"attribute {kind} is {payload.hex()}")
    return number


def listen(size: int) -> "Tuple[netlink.Subscription, layouts.Decoder]":
    """The events, in a receive buffer of `size` bytes, and what decodes them.

    Raises OSError: ENOENT for a kernel without MPTCP, EOPNOTSUPP for one
    without events, EPERM without CAP_NET_ADMIN.
    """
    name = netlink.ATTRIBUTE.pack(netlink.ATTRIBUTE.size + len(FAMILY), CTRL_ATTR_FAMILY_NAME) + FAMILY
    with netlink.open_socket(NETLINK_GENERIC) as sock:
        sock.send(netlink.request(GENL_ID_CTRL, 0, _GENERIC_HEADER.pack(CTRL_CMD_GETFAMILY, 1, 0) + name))
        family, group = ids(sock.recv(netlink.RECEIVE_SIZE))
    subscription = netlink.Subscription(NETLINK_GENERIC, size)
    try:
        subscription.join(group)
    except OSError:
        subscription.close()
        raise
    return subscription, layouts.Decoder(family, learn)


def learn(message: bytes) -> Layout:
    """The layout of an event: its values are an Event.  Raises Malformed and struct.error."""
    kind = _GENERIC_HEADER.unpack_from(message, netlink.HEADER.size)[0]
    found = netlink.attributes(message, _ATTRIBUTES, len(message))
    for attribute, least in _LEAST.items():
        if attribute in found and found[attribute][1] < least:
            raise netlink.Malformed(f"attribute {attribute} of {found[attribute][1]} bytes in event {kind}")
    return layouts.learned(message, found.values(), _reader(kind, {one: place for one, (place, _) in found.items()}))


def _reader(kind: int, places: Dict[int, int]) -> layouts.Reader:
    """What makes an Event of a message with attributes at these places."""
    if _TOKEN not in places:
        return lambda data, start: Event(kind)
    word, token = Struct("=I").unpack_from, places[_TOKEN]
    size, family, names = 4, socket.AF_INET, (_SADDR4, _DADDR4)
    if _SADDR4 not in places:
        size, family, names = 16, socket.AF_INET6, (_SADDR6, _DADDR6)
    if not {*names, _SPORT, _DPORT} <= places.keys():
        return lambda data, start: Event(kind, word(data, start + token)[0])
    source, target, sport, dport = (places[name] for name in (*names, _SPORT, _DPORT))
    bound, error, reason = places.get(_IF_IDX), places.get(_ERROR), places.get(_RESET_REASON)
    backup = places.get(_BACKUP)
    fill = bytes(16 - size)

    def read(data: bytes, start: int) -> Event:
        ends = (data[start + sport:start + sport + 2], data[start + dport:start + dport + 2],
                data[start + source:start + source + size], fill, data[start + target:start + target + size], fill,
                bytes(4) if bound is None else data[start + bound:start + bound + 4])
        return Event(kind, word(data, start + token)[0], family, b"".join(ends),
                     None if error is None else data[start + error],
                     None if reason is None else word(data, start + reason)[0],
                     backup is not None and data[start + backup] > 0)
    return read
