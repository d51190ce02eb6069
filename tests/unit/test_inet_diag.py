# SPDX-License-Identifier: GPL-2.0-or-later
"""The socket decoder against recorded dumps, older kernels, and bytes that no kernel should send."""

import ctypes
import errno
import re
import socket
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pmdamptcp.kernel import inet_diag
from pmdamptcp.kernel.inet_diag import MPTCP_INFO, TCP_INFO, Decoder, Row, info_field
from pmdamptcp.metrics import subflow

from . import messages as m

HOSTS, FAMILIES = ("host-a", "host-b"), ("af2", "af10")
DUMPS = [f"{host}_{family}" for host in HOSTS for family in FAMILIES]


def members(kind, names):
    """Members of a C structure, all of one type."""
    return [(name, kind) for name in names.split()]


class TcpInfo(ctypes.Structure):
    """struct tcp_info in the words of linux/tcp.h: the compiler's rules, not the agent's offsets."""

    _fields_ = [
        *members(ctypes.c_uint8, "state ca_state retransmits probes backoff options wscales bits"),
        *members(
            ctypes.c_uint32, "rto ato snd_mss rcv_mss unacked sacked lost retrans fackets last_data_sent"
        ),
        *members(ctypes.c_uint32, "last_ack_sent last_data_recv last_ack_recv pmtu rcv_ssthresh rtt rttvar"),
        *members(ctypes.c_uint32, "snd_ssthresh snd_cwnd advmss reordering rcv_rtt rcv_space total_retrans"),
        *members(ctypes.c_uint64, "pacing_rate max_pacing_rate bytes_acked bytes_received"),
        *members(ctypes.c_uint32, "segs_out segs_in notsent_bytes min_rtt data_segs_in data_segs_out"),
        *members(ctypes.c_uint64, "delivery_rate busy_time rwnd_limited sndbuf_limited"),
        *members(ctypes.c_uint32, "delivered delivered_ce"),
        *members(ctypes.c_uint64, "bytes_sent bytes_retrans"),
        *members(ctypes.c_uint32, "dsack_dups reord_seen rcv_ooopack snd_wnd"),
    ]


def rows(protocol, data):
    """{cookie: (values, Row)} of what the decoder finds in a buffer."""
    found = {}
    for values, buffer, offset, layout in Decoder(protocol).decode([data]):
        row = Row()
        row.data, row.offset, row.layout = buffer, offset, layout
        found[values[1]] = values, row
    return found


def named(values):
    """What the decoder yields, by name."""
    names = m.SUBFLOW_VALUES if len(values) == len(m.SUBFLOW_VALUES) else m.CONNECTION_VALUES
    assert len(names) == len(values)
    return dict(zip(names, values))


def one(protocol, message):
    """Values and row of the only socket in a buffer."""
    found = rows(protocol, message)
    assert len(found) == 1
    return next(iter(found.values()))


def field(table, name, row):
    """One field of a row."""
    return info_field(table, name)(row)


def tcp_truth(dump, subflows=True):
    """The recorded TCP sockets that are (not) subflows, by cookie."""
    return {
        socket_["cookie"]: socket_
        for socket_ in m.truth(f"tcp_dump_{dump}.txt")
        if ("token_loc" in socket_["ulp"]) == subflows
    }


def ss_sockets(name):
    """{(local, local port, remote, remote port, device): text} of what ss printed."""
    found = {}
    for line in m.lines(name)[1:]:
        local, remote = line.split()[3:5]
        (address, port), (peer, peer_port) = (text.rsplit(":", 1) for text in (local, remote))
        address, _, device = address.strip("[]").partition("%")
        found[
            address.strip("[]").replace("::ffff:", ""),
            int(port),
            peer.strip("[]").replace("::ffff:", ""),
            int(peer_port),
        ] = (device, line)
    return found


def letters(flags):
    """What mptcp.subflow.flags says."""
    [metric] = [metric for metric in subflow.GROUP.metrics if metric.name == "mptcp.subflow.flags"]
    return metric.get(SimpleNamespace(flags=flags))


def ss_number(line, key):
    """A number that ss prints after `key:`, as text; None if it does not."""
    found = re.search(rf"\b{key}[: ]([0-9.]+)", line)
    return found and found.group(1)


# Recorded dumps of Linux 6.18.


@pytest.mark.parametrize("dump", DUMPS)
def test_subflows_are_those_of_the_record(dump):
    """Who is there, who is not (plain TCP, listeners), and what a sample takes of each."""
    found = rows(m.TCP, m.recorded(f"tcp_dump_{dump}.bin"))
    assert set(found) == set(tcp_truth(dump))
    for cookie, said in tcp_truth(dump).items():
        info, ulp = said["info"], said["ulp"]
        assert named(found[cookie][0]) == {
            "state": said["state"],
            "cookie": cookie,
            "retransmits": 0,
            "rtt": info["rtt"],
            "received": info["rcvd"],
            "sent": info["sent"],
            "retrans": info["retr"],
            "token": ulp["token_loc"],
            "flags": ulp["flags"],
        }


@pytest.mark.parametrize("dump", DUMPS)
def test_plain_tcp_and_listeners_are_counted_but_left_out(dump):
    """The record has some of them, or this test would show nothing."""
    decoder = Decoder(m.TCP)
    found = list(decoder.decode([m.recorded(f"tcp_dump_{dump}.bin")]))
    others = tcp_truth(dump, subflows=False)
    assert decoder.messages == len(found) + len(others)
    assert decoder.malformed == 0
    assert others or dump == "host-a_af10"


@pytest.mark.parametrize("dump", DUMPS)
def test_addresses_ports_and_ids_of_subflows(dump):
    """Addresses v4-mapped in the message are IPv4 in the record, too."""
    found = rows(m.TCP, m.recorded(f"tcp_dump_{dump}.bin"))
    for cookie, said in tcp_truth(dump).items():
        row = found[cookie][1]
        assert row.endpoints == (said["src"], said["sport"], said["dst"], said["dport"])
        assert row.ids == (said["ulp"]["id_loc"], said["ulp"]["id_rem"])
        assert (row.bound, row.uid) == (said["iface"], said["uid"])
        assert row.state == {1: "ESTAB"}[said["state"]]


def test_v4_mapped_sockets_were_recorded():
    """Folding is only shown by sockets that need it."""
    mapped = [
        row
        for _, row in rows(m.TCP, m.recorded("tcp_dump_host-b_af10.bin")).values()
        if row.byte(16) == socket.AF_INET6 and "." in row.endpoints[0]
    ]
    assert len(mapped) == 6


@pytest.mark.parametrize("dump", DUMPS)
def test_each_tcp_field_is_read_from_its_place(dump):
    """Every field of the table, against the structure as C lays it out."""
    by_cookie = {
        m._SOCKET.unpack_from(message, 16)[9]: dict(m.attributes(message[m.BODY:]))[m.INFO]
        for message in m.sockets(f"tcp_dump_{dump}.bin")
    }
    for cookie, (_, row) in rows(m.TCP, m.recorded(f"tcp_dump_{dump}.bin")).items():
        expected = TcpInfo.from_buffer_copy(by_cookie[cookie])
        for name in TCP_INFO:
            assert field(TCP_INFO, name, row) == getattr(expected, name), name


@pytest.mark.parametrize("name", sorted(TCP_INFO))
def test_each_tcp_field_has_the_place_and_the_size_of_the_structure(name):
    """Also where the recorded values happen to be 0."""
    described = getattr(TcpInfo, name)
    assert TCP_INFO[name] == (described.offset, {1: "B", 4: "I", 8: "Q"}[described.size])


def test_each_socket_reads_as_ss_printed_it():
    """Values that did not change in the moment between the dump and ss; host-a only receives."""
    compared = 0
    for host in HOSTS:
        printed = ss_sockets(f"ss_-tinOe_{host}.txt")
        for family in FAMILIES:
            for values, row in rows(m.TCP, m.recorded(f"tcp_dump_{host}_{family}.bin")).values():
                device, line = printed.pop(row.endpoints)
                assert line.split()[0] == row.state
                assert bool(device) == bool(row.bound)
                flags, token, loc, rem = re.search(
                    r"flags:(\S+) token:\w+\(id:(\d+)\)/(\w+)\(id:(\d+)\)", line
                ).group(1, 3, 4, 2)
                assert int(token, 16) == named(values)["token"]
                assert row.ids == (int(loc), int(rem))
                said = letters(named(values)["flags"])
                # A mapping (v) comes and goes with the data.
                assert said.replace("v", "") == flags.replace("v", "")
                assert field(TCP_INFO, "snd_mss", row) == int(ss_number(line, "mss"))
                assert field(TCP_INFO, "pmtu", row) == int(ss_number(line, "pmtu"))
                if host == "host-a":
                    rtt, rttvar = re.search(r"rtt:([0-9.]+)/([0-9.]+)", line).groups()
                    assert field(TCP_INFO, "rto", row) == int(ss_number(line, "rto")) * 1000
                    assert field(TCP_INFO, "rtt", row) == round(float(rtt) * 1000)
                    assert field(TCP_INFO, "rttvar", row) == round(float(rttvar) * 1000)
                    assert field(TCP_INFO, "min_rtt", row) == round(float(ss_number(line, "minrtt")) * 1000)
                    assert field(TCP_INFO, "snd_cwnd", row) == int(ss_number(line, "cwnd"))
                    assert field(TCP_INFO, "pacing_rate", row) * 8 == int(ss_number(line, "pacing_rate"))
                    assert field(TCP_INFO, "delivery_rate", row) * 8 == int(
                        ss_number(line, "delivery_rate") or 0
                    )
                    assert field(TCP_INFO, "busy_time", row) // 1000 == int(ss_number(line, "busy") or 0)
                    assert field(TCP_INFO, "bytes_acked", row) == int(ss_number(line, "bytes_acked"))
                else:
                    assert field(TCP_INFO, "bytes_sent", row) <= int(ss_number(line, "bytes_sent") or 0)
                compared += 1
        assert not [line for _, line in printed.values() if re.search(r"flags:M?m?[Jj]", line)]
    assert compared == 21


@pytest.mark.parametrize("dump", DUMPS)
def test_connections_and_all_their_fields(dump):
    """mptcp_info by the names of the record."""
    said = {one["cookie"]: one for one in m.truth(f"mptcp_dump_{dump}.txt")}
    found = rows(m.MPTCP, m.recorded(f"mptcp_dump_{dump}.bin"))
    assert set(found) == set(said)
    for cookie, (values, row) in found.items():
        info = said[cookie]["info"]
        assert named(values) == {
            "state": said[cookie]["state"],
            "cookie": cookie,
            "flags": info["flags"],
            "token": info["token"],
        }
        assert row.endpoints == tuple(said[cookie][key] for key in ("src", "sport", "dst", "dport"))
        assert {name: field(MPTCP_INFO, name, row) for name in MPTCP_INFO} == {
            name: info[name] for name in MPTCP_INFO
        }


@pytest.mark.parametrize("host", HOSTS)
def test_connections_read_as_ss_printed_them(host):
    """State, token, counts and limits; bytes moved on in between."""
    printed = ss_sockets(f"ss_-MinOe_{host}.txt")
    for family in FAMILIES:
        for values, row in rows(m.MPTCP, m.recorded(f"mptcp_dump_{host}_{family}.bin")).values():
            if values[0] == m.LISTEN:
                continue
            _, line = printed.pop(row.endpoints)
            assert line.split()[0] == row.state
            assert int(re.search(r"token:(\w+)", line).group(1), 16) == values[3]
            assert bool(values[2] & 1) == (" fallback " in line)
            for name in (
                "subflows",
                "add_addr_signal",
                "add_addr_accepted",
                "subflows_max",
                "add_addr_signal_max",
                "add_addr_accepted_max",
            ):
                assert field(MPTCP_INFO, name, row) == int(ss_number(line, name) or 0), name
    assert not printed


@pytest.mark.parametrize("host", HOSTS)
def test_tokens_group_subflows_as_the_connection_counts_them(host):
    """mptcp_info.subflows counts the joined ones: 4 for each connection that did not fall back."""

    def all_of(protocol, kind):
        return [
            values
            for family in FAMILIES
            for values, _ in rows(protocol, m.recorded(f"{kind}_dump_{host}_{family}.bin")).values()
        ]

    tokens = [named(values)["token"] for values in all_of(m.TCP, "tcp")]
    for state, _, flags, token in all_of(m.MPTCP, "mptcp"):
        if state != m.LISTEN:
            assert tokens.count(token) == (1 if flags & 1 else 5)


def test_flow_of_a_fallen_back_connection_is_told_by_its_connection():
    """It still looks like a subflow: only the flag of the connection with its token tells."""
    [(_, _, flags, token)] = [
        values
        for values, _ in rows(m.MPTCP, m.recorded("mptcp_dump_host-a_af2.bin")).values()
        if values[2] & inet_diag.MPTCP_INFO_FLAG_FALLBACK
    ]
    [looks] = [
        named(values)["flags"]
        for values, _ in rows(m.TCP, m.recorded("tcp_dump_host-a_af2.bin")).values()
        if named(values)["token"] == token
    ]
    assert flags == 1
    assert letters(looks) == "mc"


def test_a_bound_socket_of_another_user_in_a_state_beyond_the_table():
    """A made-up one, for what was not recorded."""
    _, row = one(
        m.MPTCP,
        m.connection(7, 1, state=99, local=("fe80::1", 65535), remote=("fe80::2", 1), bound=3, uid=70000),
    )
    assert row.state == "UNKNOWN"
    assert row.endpoints == ("fe80::1", 65535, "fe80::2", 1)
    assert (row.bound, row.uid) == (3, 70000)


@pytest.mark.parametrize(
    "state, name",
    [(1, "ESTAB"), (2, "SYN-SENT"), (4, "FIN-WAIT-1"), (8, "CLOSE-WAIT"), (9, "LAST-ACK"), (11, "CLOSING")],
)
def test_states_have_the_names_of_ss(state, name):
    """And the dump asks for each of them."""
    assert one(m.MPTCP, m.connection(1, 1, state=state))[1].state == name
    assert inet_diag.WANTED_STATES >> state & 1


# Older kernels: the same sockets in the shapes that those send.

SUBFLOW_MESSAGES = [
    message
    for dump in DUMPS
    for message in m.sockets(f"tcp_dump_{dump}.bin")
    if m.subflow_attributes(message)
]
CONNECTION_MESSAGES = [message for dump in DUMPS for message in m.sockets(f"mptcp_dump_{dump}.bin")]


@pytest.mark.parametrize("order", [m.ORDER_BEFORE_6_18, m.ORDER_6_18])
@pytest.mark.parametrize("admin", [True, False])
@pytest.mark.parametrize("info_length", [216, 224, 232, 248, 280, 300])
def test_subflows_of_other_kernels(order, admin, info_length):
    """Another order of attributes, a shorter or longer tcp_info: the same values."""
    for message in SUBFLOW_MESSAGES:
        expected, row = one(m.TCP, message)
        other = m.reordered(message, order, leave_out=() if admin else m.FOR_ADMIN_ONLY)
        if info_length > 280:
            other = m.with_attributes(
                other,
                [
                    (kind, payload.ljust(info_length, b"\xff") if kind == m.INFO else payload)
                    for kind, payload in m.attributes(other[m.BODY:])
                ],
            )
        values, reshaped = one(m.TCP, m.cut_info(other, info_length))
        assert values == expected
        assert (reshaped.ids, reshaped.endpoints) == (row.ids, row.endpoints)
        for name in TCP_INFO:
            assert field(TCP_INFO, name, reshaped) == field(TCP_INFO, name, row)


@pytest.mark.parametrize("length", [0, 104, 192, 215])
def test_no_subflow_without_its_byte_counters(length):
    """Kernels before 4.19, or a cut: left out, not counted from 0."""
    for message in SUBFLOW_MESSAGES:
        assert not rows(m.TCP, m.cut_info(message, length))


def test_no_subflow_without_ulp_info():
    """What a kernel before 6.18 shows to users without CAP_NET_ADMIN looks like plain TCP."""
    decoder = Decoder(m.TCP)
    assert not list(decoder.decode([m.without(message, m.ULP) for message in SUBFLOW_MESSAGES]))
    assert (decoder.messages, decoder.malformed) == (len(SUBFLOW_MESSAGES), 0)


@pytest.mark.parametrize("missing", [m.TOKEN_LOC, m.FLAGS])
def test_no_subflow_without_token_or_flags(missing):
    """Half an identity is none."""
    for message in SUBFLOW_MESSAGES:
        assert not rows(m.TCP, m.reordered(message, m.ORDER_6_18, leave_out={missing}))


@pytest.mark.parametrize("missing", [m.ID_LOC, m.ID_REM])
def test_ids_are_absent_together(missing):
    """The subflow itself is served all the same."""
    for message in SUBFLOW_MESSAGES:
        _, row = one(m.TCP, m.reordered(message, m.ORDER_6_18, leave_out={missing}))
        assert row.ids == (None, None)


#: Size of mptcp_info -> fields that it has. That of 5.12 to 6.4 is 43 bytes long and padded to 48, that of
#: 6.8 and 6.9 is 81 and padded to 88: where later kernels keep `retransmits` and `last_data_sent`.
_BASE = {
    "subflows",
    "add_addr_signal",
    "add_addr_accepted",
    "subflows_max",
    "add_addr_signal_max",
    "add_addr_accepted_max",
    "flags",
    "token",
    "write_seq",
    "snd_una",
}
_BYTES = _BASE | {"retransmits", "bytes_retrans", "bytes_sent", "bytes_received", "bytes_acked"}
GENERATIONS = {40: _BASE, 48: _BASE, 80: _BYTES, 88: _BYTES | {"subflows_total"}, 96: set(MPTCP_INFO)}


@pytest.mark.parametrize("name", MPTCP_INFO)
@pytest.mark.parametrize("length", GENERATIONS)
def test_connection_fields_of_older_kernels(length, name):
    """Each generation of mptcp_info: right where it is there, None where it is not."""
    for message in CONNECTION_MESSAGES:
        expected, row = one(m.MPTCP, message)
        values, cut = one(m.MPTCP, m.cut_info(message, length))
        assert values == expected
        assert field(MPTCP_INFO, name, cut) == (
            field(MPTCP_INFO, name, row) if name in GENERATIONS[length] else None
        )


def test_a_mix_of_shapes_in_one_buffer():
    """Layouts are remembered by length: shapes of one length must not be taken for each other."""
    shapes = []
    for message in SUBFLOW_MESSAGES:
        shapes += [
            message,
            m.reordered(message, m.ORDER_BEFORE_6_18),
            m.without(message, m.ULP),
            m.cut_info(message, 232),
            m.cut_info(m.reordered(message, m.ORDER_BEFORE_6_18), 248),
        ]
    decoder = Decoder(m.TCP)
    found = list(decoder.decode([b"".join(shapes)]))
    expected = [one(m.TCP, message)[0] for message in SUBFLOW_MESSAGES for _ in range(4)]
    assert [values for values, *_ in found] == expected
    assert decoder.malformed == 0


# Bytes that no kernel should send.


def reference(protocol, data, offset):
    """What a socket message says, parsed attribute by attribute; raises ValueError for a broken one."""
    length, kind = m.HEADER.unpack_from(data, offset)[:2]
    if kind != m.SOCK_DIAG_BY_FAMILY or length < m.BODY or offset + length > len(data):
        raise ValueError("not a socket")
    message = data[offset:offset + length]
    found = {kind & 0x3FFF: payload for kind, payload in m.attributes(message[m.BODY:])}
    info, state, cookie = found[m.INFO], message[17], int.from_bytes(message[60:68], "little")
    if protocol == m.MPTCP:
        return state, cookie, int.from_bytes(info[8:12], "little"), int.from_bytes(info[12:16], "little")
    ulp = {kind & 0x3FFF: payload for kind, payload in m.attributes(found[m.ULP])}
    nest = {kind & 0x3FFF: payload for kind, payload in m.attributes(ulp[m.ULP_MPTCP])}
    read = TcpInfo.from_buffer_copy(info.ljust(ctypes.sizeof(TcpInfo), b"\0"))
    return (
        state,
        cookie,
        read.retransmits,
        read.rtt,
        read.bytes_received,
        read.bytes_sent,
        read.bytes_retrans,
        int.from_bytes(nest[m.TOKEN_LOC], "little"),
        int.from_bytes(nest[m.FLAGS], "little"),
    )


def check(protocol, data, most=64):
    """Decode: nothing escapes, nothing is made up, and the cost is bounded."""
    decoder, found = Decoder(protocol), []
    for values, buffer, offset, layout in decoder.decode([data]):
        assert values == reference(protocol, buffer, offset)
        row = Row()
        row.data, row.offset, row.layout = buffer, offset, layout
        assert len(row.endpoints) == 4 and row.state and len(inet_diag.identity(buffer, offset)[0]) == 40
        for name in (MPTCP_INFO if protocol == m.MPTCP else TCP_INFO):
            field(MPTCP_INFO if protocol == m.MPTCP else TCP_INFO, name, row)
        found.append(values)
        assert len(found) <= most
    assert decoder.malformed in (0, 1)  # one buffer
    return found, decoder


SHORT_DUMPS = {
    m.TCP: b"".join(SUBFLOW_MESSAGES[:2]) + m.done(),
    m.MPTCP: b"".join(CONNECTION_MESSAGES[:3]) + m.done(),
}


@pytest.mark.parametrize("protocol", [m.TCP, m.MPTCP])
def test_a_buffer_cut_at_any_byte(protocol):
    """Whole messages before the cut are served, and the cut is counted."""
    data = SHORT_DUMPS[protocol]
    ends, end = [0], 0
    for message in m.split(data):
        end += len(message)
        ends.append(end)
    everything, _ = check(protocol, data)
    for cut in range(len(data) + 1):
        found, decoder = check(protocol, data[:cut])
        assert found == everything[:sum(end <= cut for end in ends) - 1]
        assert decoder.malformed == (cut not in ends)


@pytest.mark.parametrize("protocol", [m.TCP, m.MPTCP])
@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 87, 88, 89, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_wrong_message_length(protocol, length):
    """Too short to be a message, too short to be a socket, longer than the buffer: no loop, no guess."""
    data = SHORT_DUMPS[protocol]
    found, decoder = check(protocol, length.to_bytes(4, "little") + data[4:])
    assert found == []
    assert decoder.malformed == 1


@pytest.mark.parametrize("protocol", [m.TCP, m.MPTCP])
def test_other_buffers_are_decoded_after_a_broken_one(protocol):
    """One bad buffer costs itself only."""
    data, decoder = SHORT_DUMPS[protocol], Decoder(protocol)
    good = list(decoder.decode([data]))
    again = list(decoder.decode([data[:-21], data]))
    assert [values for values, *_ in again[-len(good):]] == [values for values, *_ in good]
    assert decoder.malformed == 1


@pytest.mark.parametrize(
    "message, malformed",
    [
        (m.done(), 0),
        (m.done(-errno.ENOENT), 0),
        (m.done(-errno.EPERM, m.NLMSG_ERROR), 0),
        (b"\0" * 3, 1),
        (m.HEADER.pack(16, m.SOCK_DIAG_BY_FAMILY, 0, 0, 0), 1),
        (m.HEADER.pack(16, 77, 0, 0, 0), 0),
        (b"", 0),
    ],
)
def test_messages_without_a_socket(message, malformed):
    """Ends, errors, unknown types and stray bytes."""
    for protocol in (m.TCP, m.MPTCP):
        found, decoder = check(protocol, message)
        assert found == []
        assert decoder.malformed == malformed


def attribute_places(message):
    """Offsets of all attribute headers of a message, nested ones too."""

    def walk(start, end, path=()):
        while start + 4 <= end:
            length, kind = m.ATTRIBUTE.unpack_from(message, start)
            yield start
            if path + (kind,) in ((m.ULP,), (m.ULP, m.ULP_MPTCP)):
                yield from walk(start + 4, start + length, path + (kind,))
            start += length + -length % 4

    return list(walk(m.BODY, len(message)))


@pytest.mark.parametrize("length", [0, 1, 3, 4, 5, 1000, 0xFFFF])
@pytest.mark.parametrize("protocol", [m.TCP, m.MPTCP])
def test_a_wrong_length_of_any_attribute(protocol, length):
    """Overruns, shorter than the header, empty; with and without a layout learned before."""
    good = SUBFLOW_MESSAGES[0] if protocol == m.TCP else CONNECTION_MESSAGES[0]
    for place in attribute_places(good):
        bad = good[:place] + length.to_bytes(2, "little") + good[place + 2:]
        check(protocol, bad)
        found, _ = check(protocol, good + bad + good)
        assert found[0] == one(protocol, good)[0]


@pytest.mark.parametrize("empty", [m.ID_LOC, m.ID_REM])
def test_empty_ids_are_absent(empty):
    """Their byte would be another attribute's, or beyond the buffer."""
    message = SUBFLOW_MESSAGES[1]
    nest = m.subflow_attributes(message)
    pairs = [
        (kind, b"" if kind == empty else nest[kind]) for kind in (m.TOKEN_LOC, m.FLAGS, m.ID_REM, m.ID_LOC)
    ]
    assert one(m.TCP, m.with_subflow_attributes(message, pairs))[1].ids == (None, None)


@pytest.mark.parametrize("protocol", [m.TCP, m.MPTCP])
def test_mutated_dumps(protocol):
    """Whatever bytes change: no exception, no endless loop, no value that the bytes do not say."""
    data = SHORT_DUMPS[protocol]
    # Headers decide most, so every second change goes there.
    headers = [
        place + shift
        for message, start in zip(m.split(data), (0, len(m.split(data)[0])))
        for place in (start, start + 4, *(start + inner for inner in attribute_places(message)))
        for shift in range(4)
    ]
    change = st.tuples(
        st.one_of(st.sampled_from(headers), st.integers(0, len(data) - 1)), st.integers(0, 255)
    )

    @settings(max_examples=300)
    @given(st.lists(change, min_size=1, max_size=6))
    def mutate(changes):
        mutated = bytearray(data)
        for place, value in changes:
            mutated[place] = value
        check(protocol, bytes(mutated))
        check(protocol, data + bytes(mutated))  # with layouts that were learned from good ones

    mutate()


@settings(max_examples=200)
@given(st.binary(max_size=600), st.sampled_from([m.TCP, m.MPTCP]))
def test_garbage(data, protocol):
    """Random bytes, alone and behind a good message."""
    check(protocol, data)
    good = SUBFLOW_MESSAGES[0] if protocol == m.TCP else CONNECTION_MESSAGES[0]
    assert check(protocol, good + data)[0][0] == one(protocol, good)[0]
