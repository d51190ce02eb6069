# SPDX-License-Identifier: GPL-2.0-or-later
"""Netlink messages at one struct call each.

The kernel lays out the attributes of alike messages alike, and a layout
learned from one message serves the next as long as the attribute headers
found at its places prove that it still fits.  Everything that is not needed
of each message stays in the receive buffer until somebody asks.
"""

from struct import Struct, error as StructError
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from . import netlink

Reader = Callable[[bytes, int], Any]  # of a message: (buffer, offset of the message)
Fields = List[Tuple[int, str]]  # (offset, struct code), in ascending order
Places = Dict[int, Tuple[int, int]]  # attribute -> (offset, length) of its payload


class Layout(NamedTuple):
    """Where one shape of message keeps its fields, and how to read them at once."""

    length: int  # of the whole message
    proof: Reader  # reads length, type, the byte of _SHAPE and every attribute header
    headers: Tuple[int, ...]  # what they must be
    values: Optional[Reader]  # None: not a message of interest
    info: int = 0  # offset of tcp_info or mptcp_info in the message
    info_length: int = 0
    ids: Optional[Tuple[int, int]] = None  # offsets of the local and the remote address id


#: Fits no message.
_NOTHING = Layout(0, lambda data, offset: (), (0,), None)
_LENGTH_TYPE = Struct("=IH")
_MOST_LAYOUTS = 1000  # a kernel has some ten
_SHAPE = netlink.HEADER.size  # the byte after the header: the family of a socket, the command of a generic message

Decoded = Tuple[Any, bytes, int, Layout]


def reader(fields: Fields) -> Callable[[bytes, int], Tuple[Any, ...]]:
    """What reads these fields and skips what is between."""
    text, end = "=", 0
    for place, code in fields:
        text += f"{place - end}x{code}"
        end = place + Struct("=" + code).size
    return Struct(text).unpack_from


def learned(message: bytes, attributes: Iterable[Tuple[int, int]], values: Optional[Reader],
            **more: Any) -> Layout:
    """The layout of messages whose attributes are where this one has them."""
    places = sorted(start - netlink.ATTRIBUTE.size for start, _ in attributes)
    proof = reader([(0, "I"), (4, "H"), (_SHAPE, "B"), *((place, "I") for place in places)])
    return Layout(len(message), proof, proof(message, 0), values, **more)


class Decoder:
    """Decodes messages of one type; remembers only layouts and what it could not read.

    `learn` makes the layout of a message; it raises Malformed or struct.error
    for one that it cannot read.
    """

    def __init__(self, kind: int, learn: Callable[[bytes], Layout]):
        self._kind, self._learn = kind, learn
        self._layouts: Dict[Tuple[int, int], Layout] = {}
        self.messages = 0  # all of this type
        self.malformed = 0

    def decode(self, buffers: Iterable[bytes]) -> Iterator[Decoded]:
        """Yields (values, buffer, offset, layout) for each message of interest.

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
                    self.messages += 1
                    offset += (length + 3) & ~3
            except (netlink.Malformed, StructError):
                self.malformed += 1

    def _layout_of(self, data: bytes, offset: int, size: int) -> Layout:
        """The layout of the message at data[offset:], known or new; raises Malformed."""
        length, kind = _LENGTH_TYPE.unpack_from(data, offset)
        if length < netlink.HEADER.size or offset + length > size:
            raise netlink.Malformed(f"message of {length} bytes in a rest of {size - offset}")
        if kind != self._kind:  # the end of a dump, or a refusal
            self.messages -= 1
            return _NOTHING._replace(length=length)
        if length == _SHAPE:
            raise netlink.Malformed("message without a body")
        shape = length, data[offset + _SHAPE]
        layout = self._layouts.get(shape)
        if layout is None or layout.proof(data, offset) != layout.headers:
            layout = self._learn(data[offset:offset + length])
            if len(self._layouts) >= _MOST_LAYOUTS:
                self._layouts.clear()
            self._layouts[shape] = layout
        return layout
