# SPDX-License-Identifier: GPL-2.0-or-later
"""The socket decoder for ends of sockets and for plain TCP, and what names a socket."""

import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pmdamptcp.kernel import inet_diag
from pmdamptcp.kernel.inet_diag import CLOSED, PLAIN, Decoder, Row

from . import messages as m

HOSTS, FAMILIES = ("host-a", "host-b"), ("af2", "af10")
DUMPS = [f"{host}_{family}" for host in HOSTS for family in FAMILIES]
MAPPED = bytes(10) + b"\xff\xff"


def rows(kind, data):
    """[(values, Row)] of what the decoder finds in a buffer."""
    found = []
    for values, buffer, offset, layout in Decoder(kind).decode([data]):
        row = Row()
        row.data, row.offset, row.layout = buffer, offset, layout
        found.append((values, row))
    return found


def packed(address, family):
    """The 16 bytes of an address."""
    if family == socket.AF_INET6 and "." in address:
        return MAPPED + socket.inet_pton(socket.AF_INET, address)
    return socket.inet_pton(family, address).ljust(16, b"\0")


# Ends of sockets.


@pytest.mark.parametrize("host", HOSTS)
def test_each_recorded_end_is_what_the_record_says(host):
    """Cookie and counters, also of those that the kernel took back to 0."""
    said = m.told(f"tcp_destroy_{host}.txt")
    found = rows(CLOSED, m.recorded(f"tcp_destroy_{host}.bin"))
    assert [values for values, _ in found] == [
        (one["state"], one["cookie"], one["info"]["rcvd"], one["info"]["sent"], one["info"]["retr"]) for one in said]
    assert [row.endpoints for _, row in found] == [
        tuple(one[key] for key in ("src", "sport", "dst", "dport")) for one in said]
    assert any(one["info"]["retr"] for one in said) or host == "host-a"
    assert any(one["dport"] == 0 for one in said)


@pytest.mark.parametrize("host", HOSTS)
def test_what_names_a_socket(host):
    """Ports, addresses, device and family from their places, from any offset in a buffer."""
    for one, (_, row) in zip(m.told(f"tcp_destroy_{host}.txt"), rows(CLOSED, m.recorded(f"tcp_destroy_{host}.bin"))):
        ends = b"".join((one["sport"].to_bytes(2, "big"), one["dport"].to_bytes(2, "big"),
                         packed(one["src"], one["fam"]), packed(one["dst"], one["fam"])))
        place = row.data, row.offset
        assert inet_diag.ends(*place) == ends + bytes(4)
        assert inet_diag.identity(*place) == (ends + one["iface"].to_bytes(4, "little"), one["fam"])
        assert inet_diag.local_port(*place) == one["sport"]


@pytest.mark.parametrize("dump", DUMPS)
def test_inodes_of_recorded_sockets(dump):
    """Those of connections; subflows have that of their connection."""
    for protocol, name in ((m.MPTCP, "mptcp"), (m.TCP, "tcp")):
        inodes = {one["cookie"]: one["ino"] for one in m.truth(f"{name}_dump_{dump}.txt")}
        for values, row in rows(protocol, m.recorded(f"{name}_dump_{dump}.bin")):
            assert row.inode == inodes[values[1]]


def test_a_high_inode_and_port():
    """All bytes count, and no neighbour's."""
    message = bytearray(m.plain_tcp(1, local=("10.0.0.1", 0xFEDC), uid=2**32 - 1))
    message[84:88] = (0x89ABCDEF).to_bytes(4, "little")
    [(_, row)] = rows(PLAIN, bytes(message))
    assert (row.inode, row.uid) == (0x89ABCDEF, 2**32 - 1)
    assert inet_diag.local_port(row.data, row.offset) == 0xFEDC


@pytest.mark.parametrize("length, known", [(0, False), (104, False), (215, False), (216, True), (232, True),
                                           (280, True)])
def test_ends_on_older_kernels(length, known):
    """Without bytes_retrans (before Linux 4.19) an end tells nothing."""
    message = m.destroyed(5, received=1, sent=2**40, retrans=3)
    assert [values for values, _ in rows(CLOSED, m.cut_info(message, length))] == [(7, 5, 1, 2**40, 3)] * known


def test_an_end_without_info():
    """No message of interest, and no malformed one."""
    decoder = Decoder(CLOSED)
    assert not list(decoder.decode([m.without(m.destroyed(5), m.INFO)]))
    assert (decoder.messages, decoder.malformed) == (1, 0)


# Plain TCP.


@pytest.mark.parametrize("dump", DUMPS)
def test_plain_tcp_is_what_has_no_token(dump):
    """Listeners of MPTCP are among them: their ULP info has a name only."""
    expected = {one["cookie"]: one["state"] for one in m.truth(f"tcp_dump_{dump}.txt") if "token_loc" not in one["ulp"]}
    found = rows(PLAIN, m.recorded(f"tcp_dump_{dump}.bin"))
    assert {values[1]: values[0] for values, _ in found} == expected


@pytest.mark.parametrize("info", [b"", bytes(8), bytes(280)])
def test_plain_tcp_needs_no_counters(info):
    """TIME-WAIT has none, nor has a dump without INFO."""
    assert [values for values, _ in rows(PLAIN, m.socket_message(5, [(m.INFO, info)] if info else []))] == [(1, 5)]


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 0), (1, 0, 1)])
def test_subflows_and_plain_tcp_in_one_buffer(order):
    """One does not hide the other."""
    sockets = m.subflow(1, 100), m.plain_tcp(2)
    data = b"".join(sockets[number] for number in order)
    assert [values[1] for values, _ in rows(PLAIN, data)] == [2] * order.count(1)
    assert [values[1] for values, _ in rows(m.TCP, data)] == [1] * order.count(0)


# Bytes that no kernel should send.

ENDS = m.split(m.recorded("tcp_destroy_host-b.bin"))[:2]


def reference(kind, message):
    """What a message says, parsed attribute by attribute; raises for a broken one."""
    found = {one & 0x3FFF: payload for one, payload in m.attributes(message[m.BODY:])}
    head = message[17], int.from_bytes(message[60:68], "little")
    if kind == PLAIN:
        ulp = {one & 0x3FFF: payload for one, payload in m.attributes(found.get(m.ULP, b""))}
        assert not m.attributes(ulp.get(m.ULP_MPTCP, b""))
        return head
    info = found[m.INFO]
    return head + tuple(int.from_bytes(info[place:place + 8], "little") for place in (128, 200, 208))


def check(kind, data):
    """Decode: nothing escapes, nothing is made up."""
    decoder, found = Decoder(kind), []
    for values, buffer, offset, layout in decoder.decode([data]):
        assert values == reference(kind, buffer[offset:offset + layout.length])
        assert len(inet_diag.ends(buffer, offset)) == 40 and len(inet_diag.identity(buffer, offset)[0]) == 40
        assert 0 <= inet_diag.local_port(buffer, offset) < 65536
        found.append(values)
    assert decoder.malformed in (0, 1)
    return found


@pytest.mark.parametrize("kind", [CLOSED, PLAIN])
def test_ends_cut_at_any_byte(kind):
    """Whole messages before the cut are served."""
    data = b"".join(ENDS)
    everything = check(kind, data)
    assert len(everything) == 2
    for cut in range(len(data) + 1):
        assert check(kind, data[:cut]) == everything[:cut // len(ENDS[0])]


@pytest.mark.parametrize("kind", [CLOSED, PLAIN])
@pytest.mark.parametrize("good", [ENDS, [m.subflow(1, 100), m.plain_tcp(2)]], ids=["ends", "dump"])
def test_mutated_ends(kind, good):
    """Whatever bytes change."""
    data = b"".join(good)
    heads = [start + place for start in (0, len(good[0])) for place in (0, 1, 4, 16, *range(88, 96), 376, 377, 378)]

    @settings(max_examples=150)
    @given(st.lists(st.tuples(st.sampled_from([one for one in heads if one < len(data)])
                              | st.integers(0, len(data) - 1), st.integers(0, 255)), min_size=1, max_size=5))
    def mutate(changes):
        mutated = bytearray(data)
        for place, value in changes:
            mutated[place] = value
        check(kind, bytes(mutated))
        check(kind, data + bytes(mutated))

    mutate()


@given(st.binary(max_size=400), st.sampled_from([CLOSED, PLAIN]))
def test_garbage_instead_of_ends(data, kind):
    """Random bytes, alone and behind a good message."""
    check(kind, data)
    assert check(kind, ENDS[0] + data)[0] == check(kind, ENDS[0])[0]
