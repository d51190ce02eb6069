# SPDX-License-Identifier: GPL-2.0-or-later
"""MPTCP connections and their subflows over sock_diag(7).

A dump of 30,000 sockets is 15 MB, so a socket costs one struct call: the
kernel lays out the attributes of alike sockets alike, and a layout learned
from one message serves the next as long as the attribute headers found at
its places prove that it still fits.  Everything that is not needed for each
socket in each sample stays in the receive buffer until somebody asks.

Structures: linux/inet_diag.h, linux/tcp.h, linux/mptcp.h.  The length of an
info structure tells how much of it this kernel fills (it only ever grows).
"""

import errno
import socket
from struct import Struct, error as StructError
from typing import Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from . import netlink

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
IPPROTO_MPTCP = 262
INET_DIAG_INFO, INET_DIAG_ULP_INFO, INET_DIAG_REQ_PROTOCOL = 2, 19, 3
ULP_INFO_MPTCP, SUBFLOW_TOKEN_LOC, SUBFLOW_FLAGS, SUBFLOW_ID_REM, SUBFLOW_ID_LOC = 3, 2, 8, 9, 10

# TCP states by number (net/tcp_states.h), with the names that ss(8) prints.
STATES = ("UNKNOWN", "ESTAB", "SYN-SENT", "SYN-RECV", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT", "UNCONN",
          "CLOSE-WAIT", "LAST-ACK", "LISTEN", "CLOSING", "NEW-SYN-RECV")
ESTABLISHED = 1
# No listeners, no closed ones, and none without counters (TIME-WAIT, SYN-RECV).
WANTED_STATES = sum(1 << state for state in (1, 2, 4, 5, 8, 9, 11))

MPTCP_INFO_FLAG_FALLBACK = 0x1
# MPTCP_SUBFLOW_FLAG_*: bit -> the letter that ss(8) prints.
SUBFLOW_FLAG_LETTERS = "MmJjBbecv"
MCAP_LOC, JOIN_REM, JOIN_LOC, BACKUP = 0x2, 0x4, 0x8, 0x30

_REQUEST = Struct("=BBBxI48x")  # inet_diag_req_v2
_PROTOCOL = Struct("=HHI")
_MESSAGE_END = netlink.HEADER.size + 72  # nlmsghdr + inet_diag_msg

# Offsets in a message, the nlmsghdr included.
_FAMILY, _STATE, _PORTS, _SOURCE, _DESTINATION, _BOUND, _COOKIE, _UID, _INODE = 16, 17, 20, 24, 40, 56, 60, 80, 84

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
_SINCE = {"retransmits": 80, "last_data_sent": 96}


class Layout(NamedTuple):
    """Where one shape of message keeps its fields, and how to read them at once."""

    length: int  # of the whole message
    proof: Callable[[bytes, int], Tuple[int, ...]]  # reads length, type and every attribute header
    headers: Tuple[int, ...]  # what they must be
    values: Optional[Callable[[bytes, int], Tuple[int, ...]]]  # None: not a socket of interest
    info: int  # offset of tcp_info or mptcp_info in the message
    info_length: int
    ids: Optional[Tuple[int, int]]  # offsets of the local and the remote address id


#: Fits no message.
_NOTHING = Layout(0, lambda data, offset: (), (0,), None, 0, 0, None)


class Row:
    """A socket as the last sample saw it: its message, decoded when asked."""

    __slots__ = ("data", "offset", "layout")
    data: bytes
    offset: int
    layout: Layout

    @property
    def values(self) -> Tuple[int, ...]:
        """What Decoder.decode yielded of it."""
        return self.layout.values(self.data, self.offset) if self.layout.values else ()

    def byte(self, place: int) -> int:
        """One byte of the message."""
        return self.data[self.offset + place]

    @property
    def state(self) -> str:
        """The TCP state as ss(8) names it."""
        number = self.byte(_STATE)
        return STATES[number] if number < len(STATES) else STATES[0]

    @property
    def route_key(self) -> bytes:
        """Source and destination address (16 bytes each), bound interface, family: what routing asks for."""
        start = self.offset
        return self.data[start + _SOURCE:start + _COOKIE] + self.data[start + _FAMILY:start + _FAMILY + 1]

    @property
    def endpoints(self) -> Tuple[str, int, str, int]:
        """Local address and port, remote address and port; v4-mapped addresses as IPv4."""
        start, data = self.offset, self.data
        local = address_text(data[start + _SOURCE:start + _DESTINATION], data[start + _FAMILY])
        remote = address_text(data[start + _DESTINATION:start + _BOUND], data[start + _FAMILY])
        local_port, remote_port = _NETWORK_PORTS.unpack_from(data, start + _PORTS)
        return local, local_port, remote, remote_port

    @property
    def bound(self) -> int:
        """Index of the device that the socket is bound to; 0: none."""
        return int.from_bytes(self.data[self.offset + _BOUND:self.offset + _COOKIE], "little")

    @property
    def uid(self) -> int:
        """The user that owns the socket."""
        return int.from_bytes(self.data[self.offset + _UID:self.offset + _INODE], "little")

    @property
    def ids(self) -> Tuple[Optional[int], Optional[int]]:
        """Local and remote address id (RFC 8684 section 3.2)."""
        places = self.layout.ids
        return (self.byte(places[0]), self.byte(places[1])) if places else (None, None)


_NETWORK_PORTS = Struct("!HH")
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
        return unpack(row.data, row.offset + layout.info + place)[0]

    return get


def dump(protocol: int) -> Iterator[bytes]:
    """All sockets of a protocol (IPPROTO_TCP or IPPROTO_MPTCP) with INFO, as receive buffers.

    Raises OSError: ENOENT means that the kernel has no (m)ptcp_diag or no
    such protocol.  That it has no IPv6 is no error.
    """
    for family in (socket.AF_INET, socket.AF_INET6):
        payload = _REQUEST.pack(family, protocol & 0xFF, 1 << (INET_DIAG_INFO - 1), WANTED_STATES)
        if protocol > 0xFF:  # does not fit the byte of the request, so the kernel takes it as an attribute
            payload += _PROTOCOL.pack(_PROTOCOL.size, INET_DIAG_REQ_PROTOCOL, protocol)
        try:
            with netlink.open_socket(NETLINK_SOCK_DIAG) as sock:
                yield from netlink.dump(sock, SOCK_DIAG_BY_FAMILY, payload)
        except OSError as error:
            if family == socket.AF_INET or error.errno != errno.ENOENT:
                raise


Decoded = Tuple[Tuple[int, ...], bytes, int, Layout]
_LENGTH_TYPE = Struct("=IH")


class Decoder:
    """Decodes the dumps of one protocol; remembers only layouts and what it could not read.

    `protocol` IPPROTO_MPTCP yields (state, cookie, flags, token) of each
    connection.  IPPROTO_TCP yields (state, cookie, backoff, rtt,
    bytes_received, bytes_sent, bytes_retrans, token, flags) of each subflow
    and leaves out whatever is not one: plain TCP, TIME-WAIT.
    """

    def __init__(self, protocol: int):
        self._locate = _locate_mptcp if protocol == IPPROTO_MPTCP else _locate_subflow
        self._layouts: Dict[int, Layout] = {}
        self.sockets = 0  # all that the kernel sent
        self.malformed = 0

    def decode(self, buffers: Iterable[bytes]) -> Iterator[Decoded]:
        """Yields (values, buffer, offset, layout) for each socket of interest.

        The rest of a buffer after a malformed message is skipped and counted
        as one in `malformed`.
        """
        layout = _NOTHING
        length, proof, headers, values = layout[:4]
        for data in buffers:
            offset, size = 0, len(data)
            try:
                while offset < size:
                    if offset + length > size or proof(data, offset) != headers:
                        layout = self._layout_of(data, offset, size)
                        length, proof, headers, values = layout[:4]
                    if values:
                        yield values(data, offset), data, offset, layout
                    self.sockets += 1
                    offset += (length + 3) & ~3
            except (netlink.Malformed, StructError):
                self.malformed += 1

    def _layout_of(self, data: bytes, offset: int, size: int) -> Layout:
        """The layout of the message at data[offset:], known or new; raises Malformed."""
        length, kind = _LENGTH_TYPE.unpack_from(data, offset)
        if length < netlink.HEADER.size or offset + length > size:
            raise netlink.Malformed(f"message of {length} bytes in a rest of {size - offset}")
        if kind != SOCK_DIAG_BY_FAMILY:  # the end of the dump
            self.sockets -= 1
            return _NOTHING._replace(length=length)
        layout = self._layouts.get(length)
        if layout is None or layout.proof(data, offset) != layout.headers:
            layout = self._layouts[length] = self._learn(data[offset:offset + length])
        return layout

    def _learn(self, message: bytes) -> Layout:
        """The layout of a message; raises Malformed."""
        length = len(message)
        if length < _MESSAGE_END:
            raise netlink.Malformed(f"socket message of {length} bytes")
        found = netlink.attributes(message, _MESSAGE_END, length)
        info, info_length = found.get(INET_DIAG_INFO, (0, 0))
        ulp: Dict[int, Tuple[int, int]] = {}
        nest: Dict[int, Tuple[int, int]] = {}
        if INET_DIAG_ULP_INFO in found:
            start, size = found[INET_DIAG_ULP_INFO]
            ulp = netlink.attributes(message, start, start + size)
            start, size = ulp.get(ULP_INFO_MPTCP, (0, 0))
            nest = netlink.attributes(message, start, start + size)
        headers = [*found.values(), *ulp.values(), *nest.values()]
        places = sorted(start - netlink.ATTRIBUTE.size for start, _ in headers)
        proof = _struct([(0, "I"), (4, "H"), *((place, "I") for place in places)]).unpack_from
        fields, ids = self._locate(info, info_length, nest)
        values = _struct([(_STATE, "B"), (_COOKIE, "Q"), *fields]).unpack_from if fields else None
        return Layout(length, proof, proof(message), values, info, info_length, ids)


_Fields = List[Tuple[int, str]]


def _struct(fields: _Fields) -> Struct:
    """A Struct that reads (offset, code) fields, given in ascending order, and skips what is between."""
    text, end = "=", 0
    for place, code in fields:
        text += f"{place - end}x{code}"
        end = place + Struct("=" + code).size
    return Struct(text)


def _locate_mptcp(info: int, length: int, _nest: Dict[int, Tuple[int, int]]) -> Tuple[_Fields, None]:
    """mptcp_info up to the token is all that a connection needs (it had that from the start)."""
    if length < MPTCP_INFO["token"][0] + 4:
        return [], None
    return [(info + place, code) for place, code in (MPTCP_INFO["flags"], MPTCP_INFO["token"])], None


_SAMPLED = [TCP_INFO[name] for name in ("backoff", "rtt", "bytes_received", "bytes_sent", "bytes_retrans")]


def _locate_subflow(info: int, length: int, nest: Dict[int, Tuple[int, int]],
                    ) -> Tuple[_Fields, Optional[Tuple[int, int]]]:
    """tcp_info up to bytes_retrans (Linux 4.19) and the token and flags of the ULP make a subflow."""
    token, flags = nest.get(SUBFLOW_TOKEN_LOC, (0, 0)), nest.get(SUBFLOW_FLAGS, (0, 0))
    if length < TCP_INFO["bytes_retrans"][0] + 8 or token[1] != 4 or flags[1] != 4 or not info < token[0] < flags[0]:
        return [], None
    local, remote = nest.get(SUBFLOW_ID_LOC, (0, 0)), nest.get(SUBFLOW_ID_REM, (0, 0))
    fields = [(info + place, code) for place, code in _SAMPLED]
    return fields + [(token[0], "I"), (flags[0], "I")], (local[0], remote[0]) if local[1] and remote[1] else None
