# SPDX-License-Identifier: GPL-2.0-or-later
"""The little netlink that the raw readers share (netlink(7)).

Only what pyroute2 cannot do at the speed or for the protocols needed here:
bulk socket dumps and bulk route look-ups.
"""

import errno
import os
import socket
from contextlib import contextmanager
from struct import Struct, error as StructError
from typing import Dict, Iterator, Tuple

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 0x1
NLM_F_DUMP = 0x300
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP = 270, 1
_SO_RCVBUFFORCE = 33

HEADER = Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
ATTRIBUTE = Struct("=HH")  # nlattr: length, type
_ERROR_CODE = Struct("=i")
_MAX_ERRNO = 4095  # linux/err.h

_BROADCAST_SIZE = 1 << 13  # one message each, of some hundred bytes
RECEIVE_SIZE = 1 << 16  # the kernel fills at most 32 KiB; much more would cost an mmap each time
TIMEOUT = 2.0  # seconds; the kernel answers at once, this only ends a fault


class Malformed(ValueError):
    """A message whose lengths contradict each other."""


@contextmanager
def sensible() -> Iterator[None]:
    """What a library stumbles over, or does not find although it is always there, is Malformed as well."""
    try:
        yield
    except (ArithmeticError, AssertionError, AttributeError, KeyError, TypeError) as error:
        raise Malformed(f"an answer that makes no sense: {error!r}") from None


def align(length: int) -> int:
    """Round up to the four bytes of netlink's alignment."""
    return (length + 3) & ~3


def messages(data: bytes) -> Iterator[Tuple[int, int, int]]:
    """Walk a receive buffer: yields (type, offset of the payload, end).

    Raises Malformed when a length runs out of the buffer.
    """
    offset, size = 0, len(data)
    while offset < size:
        try:
            length, kind, _, _, _ = HEADER.unpack_from(data, offset)
        except StructError:
            raise Malformed(f"{size - offset} stray bytes after the last message") from None
        if length < HEADER.size or offset + length > size:
            raise Malformed(f"message of {length} bytes in a rest of {size - offset}")
        yield kind, offset + HEADER.size, offset + length
        offset += align(length)


def attributes(data: bytes, start: int, end: int) -> Dict[int, Tuple[int, int]]:
    """Find the attributes in data[start:end]: type -> (offset, length) of the payload.

    The nested and byte-order bits are cut off the type.  Of a type that is
    there twice the last counts; the others are kept under negative numbers,
    for they are a part of the layout.  Raises Malformed.
    """
    found: Dict[int, Tuple[int, int]] = {}
    while start + ATTRIBUTE.size <= end:
        length, kind = ATTRIBUTE.unpack_from(data, start)
        if length < ATTRIBUTE.size or start + length > end:
            raise Malformed(f"attribute {kind} of {length} bytes in a rest of {end - start}")
        kind &= 0x3FFF
        if kind in found:
            found[-start] = found[kind]
        found[kind] = (start + ATTRIBUTE.size, length - ATTRIBUTE.size)
        start += align(length)
    return found


def error_of(data: bytes, payload: int) -> int:
    """The errno (0: none) of an NLMSG_ERROR or NLMSG_DONE message; EPROTO for what can be none."""
    try:
        code = -int(_ERROR_CODE.unpack_from(data, payload)[0])
    except StructError:
        return 0
    return code if 0 <= code <= _MAX_ERRNO else errno.EPROTO


def request(kind: int, flags: int, payload: bytes, sequence: int = 1) -> bytes:
    """A request message, padded so that several can be sent in one go."""
    length = HEADER.size + len(payload)
    return HEADER.pack(length, kind, flags | NLM_F_REQUEST, sequence, 0) + payload.ljust(align(len(payload)), b"\0")


def sequence_of(data: bytes) -> int:
    """The sequence number of the first message: that of the request it answers.  Raises Malformed."""
    if len(data) < HEADER.size:
        raise Malformed(f"message of {len(data)} bytes")
    return int(HEADER.unpack_from(data)[3])


def open_socket(protocol: int, groups: int = 0) -> socket.socket:
    """A bound netlink socket; with groups a non-blocking one that only listens.

    Raises OSError.
    """
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    try:
        sock.settimeout(0 if groups else TIMEOUT)
        sock.bind((0, groups))
    except OSError:
        sock.close()
        raise
    return sock


def dump(sock: socket.socket, kind: int, payload: bytes) -> Iterator[bytes]:
    """Send a dump request and yield its receive buffers, as they come.

    A buffer is best decoded before the next is asked for, while it is in the
    CPU's cache.  Raises OSError for the kernel's refusal (its errno) and for
    a dump that was cut short.
    """
    sock.send(request(kind, NLM_F_DUMP, payload))
    done = None
    while done is None:
        data = sock.recv(RECEIVE_SIZE)
        if not data:
            raise OSError(errno.EPIPE, "netlink socket closed")
        done = _end_of_dump(data)
        if done:
            raise OSError(done, os.strerror(done))
        yield data


def _end_of_dump(data: bytes) -> "int | None":
    """None while the dump goes on, else its errno.

    DONE and ERROR come alone or close a buffer, whose other messages need
    not be walked: a first look is at the head, a second at the tail.
    """
    kind = HEADER.unpack_from(data)[1] if len(data) >= HEADER.size else NLMSG_DONE
    if kind in (NLMSG_DONE, NLMSG_ERROR):
        return error_of(data, HEADER.size)
    tail = len(data) - HEADER.size - _ERROR_CODE.size
    if tail > 0:
        length, kind, _, _, _ = HEADER.unpack_from(data, tail)
        if kind == NLMSG_DONE and length == HEADER.size + _ERROR_CODE.size and _starts_message(data, tail):
            return error_of(data, tail + HEADER.size)
    return None


def _starts_message(data: bytes, offset: int) -> bool:
    """Is this the start of a message, and not the inside of one that looks alike?"""
    try:
        return any(start == offset + HEADER.size for _, start, _ in messages(data))
    except Malformed:
        return False


class Subscription:
    """A socket that the kernel's broadcasts come to, with a receive buffer of `size` bytes.

    `groups` is a bit mask; groups beyond 31 are joined with `join`.  Without
    CAP_NET_ADMIN the buffer is no larger than net.core.rmem_max allows.
    """

    def __init__(self, protocol: int, size: int, groups: int = 0):
        self._socket = open_socket(protocol, groups)
        self._socket.setblocking(False)
        self.messages = 0
        self.overruns = 0
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    def join(self, group: int) -> None:
        """Have the broadcasts of one more group.  Raises OSError (EPERM)."""
        self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)

    def fileno(self) -> int:
        """For select(2)."""
        return self._socket.fileno()

    def close(self) -> None:
        """No more broadcasts."""
        self._socket.close()

    def drain(self, most: int) -> Iterator[bytes]:
        """What has come, a message each; no more than `most`: a flood must not keep the caller from all else.

        When the buffer ran over, messages are missing: the kernel says so
        once (ENOBUFS), `overruns` counts it, and what it kept follows.
        """
        receive = self._socket.recv
        for _ in range(most):
            try:
                data = receive(_BROADCAST_SIZE)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.overruns += 1
                continue
            self.messages += 1
            yield data
