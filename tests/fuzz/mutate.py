# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes hostile input out of good: what a broken kernel, a truncated read or an attacker could send.

All is decided by one random generator, so that a seed gives the same inputs
again.  Structure is used where it is known: the lengths of messages and
attributes are what a decoder trusts, so most changes are made to those.
"""

from random import Random
from struct import Struct

_HEADER, _ATTRIBUTE = Struct("=IHHII"), Struct("=HH")
_EDGES = (0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 19, 20, 21, 0x7F, 0x80, 0xFF, 0x100, 0x3FFF, 0x4000, 0x7FFF, 0x8000,
          0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 63, (1 << 64) - 1)
_WORDS = tuple(Struct(code) for code in "=B =H =I =Q !H".split())
_TOKENS = (b"", b"0", b"-1", b"1_0", b"+1", b"\xb2", b"\xd9\xa3", b"4294967296", b"18446744073709551616", b"9" * 5000,
           b"1e9", b"nan", b"inf", b"\0", b"\xff", b"\xed\xa0\x80", b"\x1b[2J", b"%s%n", b"[" * 40, b"[" * 5000, b"{}",
           b"null", b"true", b"\r")
MOST = 1 << 15  # bytes: the kernel's own buffers are no larger


class Mutator:
    """Inputs from a pool: the corpus, and later inputs that were found interesting.

    `body`: where the attributes of a netlink message begin.
    """

    def __init__(self, corpus, seed, ways, body=20):
        self.random = Random(seed)
        self.corpus, self.found = list(corpus), []
        self._ways, self.body = ways, body
        self._most = 2 * max(map(len, self.corpus))  # long ones cost time and show no more

    def keep(self, data):
        """This input led somewhere new: change it further."""
        if len(data) > self._most:
            return
        if len(self.found) < 512:
            self.found.append(data)
        else:
            self.found[self.choose(512)] = data

    def choose(self, count):
        """A number below `count`."""
        return int(self.random.random() * count)

    def pick(self, things):
        """One of these."""
        return things[int(self.random.random() * len(things))]

    def seed(self):
        """A good message, or one that was found interesting."""
        return self.pick(self.found if self.found and self.random.random() < 0.5 else self.corpus)

    def next(self):
        """A hostile input."""
        data = self.seed()
        for _ in range(1 + self.choose(3)):
            data = self.pick(self._ways)(self, data)
        return data[:MOST]


# Ways for whatever bytes.

def flip(mutator, data):
    """One bit."""
    if not data:
        return data
    found = bytearray(data)
    found[mutator.choose(len(data))] ^= 1 << mutator.choose(8)
    return bytes(found)


def edge(mutator, data):
    """A number at any place becomes one at which programs err."""
    word = mutator.pick(_WORDS)
    if len(data) < word.size:
        return data
    found, place = bytearray(data), mutator.choose(len(data) - word.size + 1)
    word.pack_into(found, place & ~(word.size - 1), mutator.pick(_EDGES) & ((1 << 8 * word.size) - 1))
    return bytes(found)


def truncate(mutator, data):
    """Cut off the end."""
    return data[:mutator.choose(len(data) + 1)]


def cut(mutator, data):
    """Leave some bytes out."""
    start = mutator.choose(len(data) + 1)
    return data[:start] + data[start + mutator.choose(16):]


def grow(mutator, data):
    """More bytes at any place."""
    place = mutator.choose(len(data) + 1)
    return data[:place] + mutator.random.randbytes(mutator.choose(40)) + data[place:]


def splice(mutator, data):
    """The beginning of one and the end of another."""
    other = mutator.seed()
    return data[:mutator.choose(len(data) + 1)] + other[mutator.choose(len(other) + 1):]


def join(mutator, data):
    """Two in one buffer."""
    return data + mutator.seed()


# Ways for netlink messages.

def _places(data, body):
    """(offset, Struct) of the lengths and types of messages and of what may be their attributes."""
    offset, size = 0, len(data)
    while offset + 16 <= size:
        length = _HEADER.unpack_from(data, offset)[0]
        yield offset, _HEADER
        end = min(size, offset + length)
        yield from _attribute_places(data, offset + body, end, 3)
        if length < 16:
            return
        offset += (length + 3) & ~3


def _attribute_places(data, start, end, deep):
    while start + 4 <= end:
        length = _ATTRIBUTE.unpack_from(data, start)[0]
        if length < 4 or start + length > end:
            return
        yield start, _ATTRIBUTE
        if deep and length >= 8:
            yield from _attribute_places(data, start + 4, start + length, deep - 1)
        start += (length + 3) & ~3


def header(mutator, data):
    """A length or a type of a message or an attribute becomes another."""
    places = list(_places(data, mutator.body))
    if not places:
        return data
    place, struct = mutator.pick(places)
    found = bytearray(data)
    old = int.from_bytes(data[place:place + 2], "little")
    new = (old + mutator.choose(9) - 4, mutator.pick(_EDGES), mutator.choose(len(data) + 8))[mutator.choose(3)]
    if struct is _ATTRIBUTE:
        if mutator.choose(4):
            found[place:place + 2] = (new & 0xFFFF).to_bytes(2, "little")
        else:
            kind = mutator.choose(24) | mutator.pick((0, 0, 0x8000, 0x4000))
            found[place + 2:place + 4] = kind.to_bytes(2, "little")
    elif mutator.choose(3):
        found[place:place + 4] = (new & 0xFFFFFFFF).to_bytes(4, "little")
    else:
        found[place + 4:place + 6] = mutator.pick((2, 3, 16, 20, 24, 28, 29)).to_bytes(2, "little")
    return bytes(found)


def attribute(mutator, data):
    """Attributes left out, doubled, exchanged, nested, cut, or grown; the lengths around them are made to fit."""
    if len(data) < 16:
        return data
    length = _HEADER.unpack_from(data)[0]
    if not 16 <= length <= len(data):
        return data
    start = min(length, mutator.body)
    pairs = _split(data[start:length])
    _change(mutator, pairs, 2)
    body = data[16:start] + _packed(pairs)
    return _HEADER.pack(16 + len(body), *_HEADER.unpack_from(data)[1:]) + body + data[(length + 3) & ~3:]


def _change(mutator, pairs, deep):
    if not pairs:
        return
    one, other = mutator.choose(len(pairs)), mutator.choose(len(pairs))
    kind, payload = pairs[one]
    inner = _split(payload) if deep and mutator.choose(2) else []
    if inner:
        _change(mutator, inner, deep - 1)
        pairs[one] = kind, _packed(inner)
        return
    way = mutator.choose(7)
    if way == 0:
        del pairs[one]
    elif way == 1:
        pairs.insert(other, pairs[one])
    elif way == 2:
        pairs[one], pairs[other] = pairs[other], pairs[one]
    elif way == 3:
        pairs[one] = kind, _packed([pairs[other]])
    elif way == 4:
        pairs[one] = kind, payload[:mutator.choose(len(payload) + 1)]
    elif way == 5:
        pairs[one] = kind, payload + mutator.random.randbytes(mutator.choose(24))
    else:
        pairs[one] = mutator.choose(24), payload


def _split(data):
    pairs, start = [], 0
    while start + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if length < 4 or start + length > len(data):
            return []
        pairs.append((kind, data[start + 4:start + length]))
        start += (length + 3) & ~3
    return pairs


def _packed(pairs):
    return b"".join(_ATTRIBUTE.pack((4 + len(payload)) & 0xFFFF, kind) + payload + bytes(-len(payload) % 4)
                    for kind, payload in pairs)


# Ways for text.

def token(mutator, data):
    """A word becomes another, or one that programs err at."""
    words = data.split(b" ")
    words[mutator.choose(len(words))] = mutator.pick(_TOKENS if mutator.choose(2) else words)
    return b" ".join(words)


def line(mutator, data):
    """A line doubled, left out or exchanged."""
    lines = data.split(b"\n")
    one, other = mutator.choose(len(lines)), mutator.choose(len(lines))
    way = mutator.choose(3)
    if way == 0:
        del lines[one]
    elif way == 1:
        lines.insert(other, lines[one])
    else:
        lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


_ANY = (flip, edge, truncate, cut, grow, splice, join)
NETLINK = (*_ANY, edge, header, header, header, header, attribute, attribute, attribute, attribute)
TEXT = (*_ANY, token, token, token, line, line)
