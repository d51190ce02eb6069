# SPDX-License-Identifier: GPL-2.0-or-later
"""What a socket's message says: MPTCP connections and their TCP subflows.

Structures: linux/inet_diag.h, linux/tcp.h, linux/mptcp.h.  The length of an
info structure tells how much of it this kernel fills (it only ever grows).
"""

import socket
from struct import Struct
from typing import Callable, Dict, Optional, Tuple

from . import layouts, netlink
from .layouts import Fields, Layout, Places

SOCK_DIAG_BY_FAMILY = 20
IPPROTO_MPTCP = 262
NO_COOKIE = b"\xff" * 8  # INET_DIAG_NOCOOKIE, twice
#: What a Decoder can be asked for beside a protocol.
CLOSED, PLAIN = "closed", "plain"
INET_DIAG_INFO, INET_DIAG_ULP_INFO = 2, 19
ULP_INFO_MPTCP, SUBFLOW_TOKEN_LOC, SUBFLOW_FLAGS, SUBFLOW_ID_REM, SUBFLOW_ID_LOC = 3, 2, 8, 9, 10

# TCP states by number (net/tcp_states.h), with the names that ss(8) prints.
STATES = ("UNKNOWN", "ESTAB", "SYN-SENT", "SYN-RECV", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT", "UNCONN",
          "CLOSE-WAIT", "LAST-ACK", "LISTEN", "CLOSING", "NEW-SYN-RECV")
ESTABLISHED, LISTEN = 1, 10
# No listeners, no closed ones, and none without counters (TIME-WAIT, SYN-RECV).
WANTED_STATES = sum(1 << state for state in (1, 2, 4, 5, 8, 9, 11))

MPTCP_INFO_FLAG_FALLBACK = 0x1
# MPTCP_SUBFLOW_FLAG_*: bit -> the letter that ss(8) prints.
SUBFLOW_FLAG_LETTERS = "MmJjBbecv"
MCAP_REM, MCAP_LOC, JOIN_REM, JOIN_LOC, BACKUP_REM, BACKUP = 0x1, 0x2, 0x4, 0x8, 0x10, 0x30
SPEAKS_MPTCP = MCAP_REM | JOIN_REM | JOIN_LOC  # one of these: else it asked for MPTCP, or fell back

MESSAGE_END = netlink.HEADER.size + 72  # nlmsghdr + inet_diag_msg

# Offsets in a message, the nlmsghdr included.
_FAMILY, _STATE, _PORTS, _SOURCE, _DESTINATION, _BOUND, _COOKIE, _UID, _INODE, _END = (
    16, 17, 20, 24, 40, 56, 60, 80, 84, 88)

#: name -> (offset, struct code) in struct tcp_info
TCP_INFO = {
    "ca_state": (1, "B"), "retransmits": (2, "B"), "backoff": (4, "B"), "rto": (8, "I"), "snd_mss": (16, "I"),
    "unacked": (24, "I"), "lost": (32, "I"), "pmtu": (60, "I"), "rtt": (68, "I"), "rttvar": (72, "I"),
    "snd_ssthresh": (76, "I"), "snd_cwnd": (80, "I"), "last_data_sent": (44, "I"), "last_data_recv": (52, "I"),
    "last_ack_recv": (56, "I"), "total_retrans": (100, "I"), "pacing_rate": (104, "Q"), "bytes_acked": (120, "Q"),
    "bytes_received": (128, "Q"), "notsent_bytes": (144, "I"), "min_rtt": (148, "I"), "delivery_rate": (160, "Q"),
    "busy_time": (168, "Q"), "rwnd_limited": (176, "Q"), "sndbuf_limited": (184, "Q"), "bytes_sent": (200, "Q"),
    "bytes_retrans": (208, "Q"),
}
#: name -> (offset, struct code) in struct mptcp_info
MPTCP_INFO = {
    "subflows": (0, "B"), "add_addr_signal": (1, "B"), "add_addr_accepted": (2, "B"), "subflows_max": (3, "B"),
    "add_addr_signal_max": (4, "B"), "add_addr_accepted_max": (5, "B"), "flags": (8, "I"), "token": (12, "I"),
    "write_seq": (16, "Q"), "snd_una": (24, "Q"), "retransmits": (44, "I"), "bytes_retrans": (48, "Q"),
    "bytes_sent": (56, "Q"), "bytes_received": (64, "Q"), "bytes_acked": (72, "Q"), "subflows_total": (80, "B"),
    "last_data_sent": (84, "I"), "last_data_recv": (88, "I"), "last_ack_recv": (92, "I"),
}
# Where padding ended an older struct: field -> least length of one that has it.
_SINCE = {"retransmits": 80, "subflows_total": 88, "last_data_sent": 96}


class Row:
    """A socket as the last sample saw it: its message, decoded when asked."""

    __slots__ = ("data", "offset", "layout")
    data: bytes
    offset: int
    layout: Layout

    @property
    def values(self) -> Tuple[int, ...]:
        """What Decoder.decode yielded of it."""
        values: Tuple[int, ...] = self.layout.values(self.data, self.offset) if self.layout.values else ()
        return values

    def byte(self, place: int) -> int:
        """One byte of the message."""
        return self.data[self.offset + place]

    @property
    def state(self) -> str:
        """The TCP state as ss(8) names it."""
        number = self.byte(_STATE)
        return STATES[number] if number < len(STATES) else STATES[0]

    @property
    def endpoints(self) -> Tuple[str, int, str, int]:
        """As `endpoints` gives them."""
        return endpoints(*identity(self.data, self.offset))

    @property
    def bound(self) -> int:
        """Index of the device that the socket is bound to; 0: none."""
        return int.from_bytes(self.data[self.offset + _BOUND:self.offset + _COOKIE], "little")

    @property
    def uid(self) -> int:
        """The user that owns the socket."""
        return int.from_bytes(self.data[self.offset + _UID:self.offset + _INODE], "little")

    @property
    def inode(self) -> int:
        """The socket's inode, as in the links of /proc/PID/fd; 0 when no process has it."""
        return int.from_bytes(self.data[self.offset + _INODE:self.offset + _END], "little")

    @property
    def ids(self) -> Tuple[Optional[int], Optional[int]]:
        """Local and remote address id (RFC 8684 section 3.2)."""
        places = self.layout.ids
        return (self.byte(places[0]), self.byte(places[1])) if places else (None, None)


def identity(data: bytes, offset: int) -> Tuple[bytes, int]:
    """Ports, addresses (16 bytes each) and bound device of a socket, and its family.

    In the form of inet_diag_sockid, whose rest is the cookie.
    """
    return data[offset + _PORTS:offset + _COOKIE], data[offset + _FAMILY]


def local_port(data: bytes, offset: int) -> int:
    """The local port of a socket."""
    return data[offset + _PORTS] << 8 | data[offset + _PORTS + 1]


def ends(data: bytes, offset: int) -> bytes:
    """The identity without the bound device."""
    return data[offset + _PORTS:offset + _BOUND] + UNBOUND


def endpoints(identity: bytes, family: int) -> Tuple[str, int, str, int]:
    """Local address and port, remote address and port of an identity; v4-mapped addresses as IPv4."""
    local_port, remote_port = _NETWORK_PORTS.unpack_from(identity)
    return address_text(identity[4:20], family), local_port, address_text(identity[20:36], family), remote_port


_NETWORK_PORTS = Struct("!HH")
UNBOUND = bytes(4)
V4_MAPPED = bytes(10) + b"\xff\xff"


def address_text(packed: bytes, family: int) -> str:
    """The text of a 16-byte inet_diag address; v4-mapped ones are IPv4."""
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, packed[:4])
    if packed.startswith(V4_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed)


def info_field(table: Dict[str, Tuple[int, str]], name: str) -> Callable[[Row], Optional[int]]:
    """A getter for a field of the info structure; None where the kernel's is too short to have it."""
    place, code = table[name]
    reader = Struct("=" + code)
    unpack, needed = reader.unpack_from, place + reader.size
    if table is MPTCP_INFO:
        needed = _SINCE.get(name, needed)

    def get(row: Row) -> Optional[int]:
        layout = row.layout
        if layout.info_length < needed:
            return None
        value: int = unpack(row.data, row.offset + layout.info + place)[0]
        return value

    return get


class Decoder(layouts.Decoder):
    """Decodes sockets.  It yields, as `values`, and leaves out whatever is not of its kind:

    IPPROTO_MPTCP: (state, cookie, flags, token) of each connection.
    IPPROTO_TCP: (state, cookie, retransmits, rtt, bytes_received, bytes_sent, bytes_retrans, token, flags)
    of each subflow.
    CLOSED: (state, cookie, bytes_received, bytes_sent, bytes_retrans) of each TCP socket.
    PLAIN: (state, cookie) of each TCP socket that is not a subflow.
    """

    def __init__(self, kind: object):
        super().__init__(SOCK_DIAG_BY_FAMILY, self._learn_socket)
        self._locate = _LOCATE[kind]

    def _learn_socket(self, message: bytes) -> Layout:
        length = len(message)
        if length < MESSAGE_END:
            raise netlink.Malformed(f"socket message of {length} bytes")
        found = netlink.attributes(message, MESSAGE_END, length)
        info, info_length = found.get(INET_DIAG_INFO, (0, 0))
        ulp: Places = {}
        nest: Places = {}
        if INET_DIAG_ULP_INFO in found:
            start, size = found[INET_DIAG_ULP_INFO]
            ulp = netlink.attributes(message, start, start + size)
            start, size = ulp.get(ULP_INFO_MPTCP, (0, 0))
            nest = netlink.attributes(message, start, start + size)
        fields = self._locate(info, info_length, nest)
        values = layouts.reader([(_STATE, "B"), (_COOKIE, "Q"), *fields]) if fields is not None else None
        local, remote = nest.get(SUBFLOW_ID_LOC, (0, 0)), nest.get(SUBFLOW_ID_REM, (0, 0))
        ids = (local[0], remote[0]) if local[1] and remote[1] else None
        return layouts.learned(message, [*found.values(), *ulp.values(), *nest.values()], values,
                               info=info, info_length=info_length, ids=ids)


# Where the fields of a kind of socket are; None: it is not of that kind.

def _locate_mptcp(info: int, length: int, _nest: Places) -> Optional[Fields]:
    """mptcp_info up to the token is all that a connection needs (it had that from the start)."""
    if length < MPTCP_INFO["token"][0] + 4:
        return None
    return [(info + place, code) for place, code in (MPTCP_INFO["flags"], MPTCP_INFO["token"])]


_BYTES = [TCP_INFO[name] for name in ("bytes_received", "bytes_sent", "bytes_retrans")]


def _locate_closed(info: int, length: int, _nest: Places) -> Optional[Fields]:
    """tcp_info up to bytes_retrans (Linux 4.19)."""
    if length < TCP_INFO["bytes_retrans"][0] + 8:
        return None
    return [(info + place, code) for place, code in _BYTES]


def _locate_subflow(info: int, length: int, nest: Places) -> Optional[Fields]:
    """Of a TCP socket, and the token and flags of the ULP: these make it a subflow."""
    counters = _locate_closed(info, length, nest)
    token, flags = nest.get(SUBFLOW_TOKEN_LOC, (0, 0)), nest.get(SUBFLOW_FLAGS, (0, 0))
    if counters is None or token[1] != 4 or flags[1] != 4 or not info < token[0] < flags[0]:
        return None
    state = [(info + place, code) for place, code in (TCP_INFO["retransmits"], TCP_INFO["rtt"])]
    return state + counters + [(token[0], "I"), (flags[0], "I")]


def _locate_plain(_info: int, _length: int, nest: Places) -> Optional[Fields]:
    return None if nest else []


_LOCATE: Dict[object, Callable[[int, int, Places], Optional[Fields]]] = {
    IPPROTO_MPTCP: _locate_mptcp, socket.IPPROTO_TCP: _locate_subflow, CLOSED: _locate_closed, PLAIN: _locate_plain}
