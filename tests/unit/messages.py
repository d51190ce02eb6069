# SPDX-License-Identifier: GPL-2.0-or-later
"""Recorded netlink messages, the same reshaped as older kernels send them, and made-up ones.

Parses by itself, slowly and simply: what the agent's decoder says is compared
with it.
"""

import ast
import re
import socket
from pathlib import Path
from struct import Struct

DATA = Path(__file__).resolve().parents[1] / "data"

TCP, MPTCP = socket.IPPROTO_TCP, 262
ESTABLISHED, SYN_SENT, LISTEN = 1, 2, 10
SOCK_DIAG_BY_FAMILY, NLMSG_ERROR, NLMSG_DONE = 20, 2, 3
INFO, ULP, ULP_NAME, ULP_MPTCP = 2, 19, 1, 3
TOKEN_REM, TOKEN_LOC, RELWRITE_SEQ, MAP_SEQ, MAP_SFSEQ, SSN_OFFSET, MAP_DATALEN, FLAGS, ID_REM, ID_LOC = (
    range(1, 11)
)
# The order in which 5.10 to 6.12 put the attributes of a subflow; 6.18 puts what only
# CAP_NET_ADMIN may see (RELWRITE_SEQ to MAP_DATALEN) last.
ORDER_BEFORE_6_18 = (
    TOKEN_REM,
    TOKEN_LOC,
    RELWRITE_SEQ,
    MAP_SEQ,
    MAP_SFSEQ,
    SSN_OFFSET,
    MAP_DATALEN,
    FLAGS,
    ID_REM,
    ID_LOC,
)
ORDER_6_18 = (
    TOKEN_REM,
    TOKEN_LOC,
    FLAGS,
    ID_REM,
    ID_LOC,
    RELWRITE_SEQ,
    MAP_SEQ,
    MAP_SFSEQ,
    SSN_OFFSET,
    MAP_DATALEN,
)
FOR_ADMIN_ONLY = {RELWRITE_SEQ, MAP_SEQ, MAP_SFSEQ, SSN_OFFSET, MAP_DATALEN}

HEADER = Struct("=IHHII")
ATTRIBUTE = Struct("=HH")
# inet_diag_msg: family, state, timer, retrans; ports; addresses;
# interface, cookie; expires, queues, uid, inode
_SOCKET = Struct("=BBBB 2s2s 16s16s IQ IIIII")
BODY = HEADER.size + _SOCKET.size


def recorded(name):
    """The bytes of a recorded file."""
    return (DATA / name).read_bytes()


def lines(name):
    """The lines of a recorded text."""
    return (DATA / name).read_text(encoding="utf-8").splitlines()


def truth(name):
    """What the recorded text says of each socket of a dump: dicts with `info` and `ulp`."""
    found = []
    for line in lines(name):
        if re.match(r"len \d+ flags", line):
            head, attrs = re.fullmatch(r"len \d+ flags \S+ (\{.*\}) attrs (\{.*\})", line).groups()
            found.append({**ast.literal_eval(head), "attrs": ast.literal_eval(attrs), "info": {}, "ulp": {}})
        elif line.startswith("    "):
            name, values = line.strip().split(" ", 1)
            found[-1]["ulp" if name == "ulp" else "info"] = ast.literal_eval(values)
    return found


def split(data):
    """The messages of a receive buffer."""
    found, offset = [], 0
    while offset < len(data):
        length = HEADER.unpack_from(data, offset)[0]
        found.append(data[offset:offset + length])
        offset += length + -length % 4
    return found


def sockets(name):
    """The socket messages of a recorded dump."""
    return [
        message for message in split(recorded(name)) if HEADER.unpack_from(message)[1] == SOCK_DIAG_BY_FAMILY
    ]


def attributes(data):
    """[(type, payload)] of attributes that follow each other."""
    found, offset = [], 0
    while offset + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, offset)
        if length < ATTRIBUTE.size or offset + length > len(data):
            raise ValueError("attribute overrun")
        found.append((kind, data[offset + ATTRIBUTE.size:offset + length]))
        offset += length + -length % 4
    return found


def pack(pairs):
    """The reverse of `attributes`."""
    return b"".join(
        ATTRIBUTE.pack(ATTRIBUTE.size + len(payload), kind) + payload + bytes(-len(payload) % 4)
        for kind, payload in pairs
    )


def with_attributes(message, pairs):
    """The same socket with other attributes."""
    body = message[HEADER.size:BODY] + pack(pairs)
    return HEADER.pack(HEADER.size + len(body), *HEADER.unpack_from(message)[1:]) + body


def cut_info(message, length):
    """As a kernel sends it whose tcp_info or mptcp_info is `length` bytes long."""
    return with_attributes(
        message,
        [
            (kind, payload[:length] if kind == INFO else payload)
            for kind, payload in attributes(message[BODY:])
        ],
    )


def without(message, *kinds):
    """Without some attributes."""
    return with_attributes(message, [pair for pair in attributes(message[BODY:]) if pair[0] not in kinds])


def subflow_attributes(message):
    """{type: payload} of the MPTCP part of the ULP info; empty when there is none."""
    ulp = dict(attributes(dict(attributes(message[BODY:])).get(ULP, b"")))
    return dict(attributes(ulp.get(ULP_MPTCP, b"")))


def with_subflow_attributes(message, pairs):
    """With another MPTCP part of the ULP info, given as [(type, payload)]."""
    ulp = pack([(ULP_NAME, b"mptcp\0"), (ULP_MPTCP, pack(pairs))])
    return with_attributes(
        message, [(kind, ulp if kind == ULP else payload) for kind, payload in attributes(message[BODY:])]
    )


def reordered(message, order, leave_out=()):
    """With the attributes of the subflow in another order, and without some."""
    found = subflow_attributes(message)
    return with_subflow_attributes(message, [(kind, found[kind]) for kind in order if kind not in leave_out])


def done(code=0, kind=NLMSG_DONE):
    """The message that ends a dump."""
    return HEADER.pack(20, kind, 2, 1, 0) + Struct("=i").pack(code)


# Made-up sockets.

#: What the decoder yields of a subflow and of a connection, in its order.
SUBFLOW_VALUES = "state cookie retransmits rtt received sent retrans token flags".split()
CONNECTION_VALUES = "state cookie flags token".split()
TCP_INFO_FIELDS = {
    "ca_state": (1, "B"),
    "retransmits": (2, "B"),
    "rtt": (68, "I"),
    "bytes_received": (128, "Q"),
    "bytes_sent": (200, "Q"),
    "bytes_retrans": (208, "Q"),
}
MPTCP_INFO_FIELDS = {
    "subflows": (0, "B"),
    "flags": (8, "I"),
    "token": (12, "I"),
    "write_seq": (16, "Q"),
    "snd_una": (24, "Q"),
    "bytes_sent": (56, "Q"),
    "bytes_received": (64, "Q"),
    "bytes_acked": (72, "Q"),
    "subflows_total": (80, "B"),
}
OPENED_BY_US, OPENED_BY_PEER, JOINED_BY_US, JOINED_BY_PEER = 451, 193, 460, 196  # seen in the samples
BACKUP = 0x30


def _info(length, fields, values):
    info = bytearray(length)
    for name, value in values.items():
        place, code = fields[name]
        Struct("=" + code).pack_into(info, place, value)
    return bytes(info)


def socket_message(
    cookie, pairs, *, state=ESTABLISHED, local=("10.0.1.1", 1000), remote=("10.0.1.2", 5040), bound=0, uid=0
):
    """A sock_diag message of a socket with these attributes."""
    family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
    ports = [port.to_bytes(2, "big") for _, port in (local, remote)]
    addresses = [socket.inet_pton(family, address) for address, _ in (local, remote)]
    body = _SOCKET.pack(family, state, 0, 0, *ports, *addresses, bound, cookie, 0, 0, 0, uid, 0) + pack(pairs)
    return HEADER.pack(HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, 2, 1, 0) + body


def connection(cookie, token, *, flags=2, info_length=96, info=None, **head):
    """An MPTCP socket."""
    values = {"flags": flags, "token": token, **(info or {})}
    return socket_message(cookie, [(INFO, _info(96, MPTCP_INFO_FIELDS, values)[:info_length])], **head)


def subflow(
    cookie,
    token,
    *,
    flags=OPENED_BY_US,
    ids=(0, 0),
    info_length=280,
    received=0,
    sent=0,
    retrans=0,
    rtt=20000,
    retransmits=0,
    ca_state=0,
    **head,
):
    """A TCP socket that is a subflow; `ids` are the local and the remote one, None leaves them out."""
    values = {
        "bytes_received": received,
        "bytes_sent": sent,
        "bytes_retrans": retrans,
        "rtt": rtt,
        "retransmits": retransmits,
        "ca_state": ca_state,
    }
    word = Struct("=I").pack
    nest = [(TOKEN_REM, word(0)), (TOKEN_LOC, word(token)), (FLAGS, word(flags))]
    if ids:
        nest += [(ID_REM, bytes([ids[1]])), (ID_LOC, bytes([ids[0]]))]
    ulp = pack([(ULP_NAME, b"mptcp\0"), (ULP_MPTCP, pack(nest))])
    return socket_message(cookie, [(INFO, _info(info_length, TCP_INFO_FIELDS, values)), (ULP, ulp)], **head)


def plain_tcp(cookie, **head):
    """A TCP socket that has nothing to do with MPTCP."""
    return socket_message(cookie, [(INFO, bytes(280))], **head)


# What the kernel tells unasked: the path manager's events, and the end of sockets.

EVENTS_FAMILY = 28  # its number in the samples
CREATED, ESTABLISHED_EVENT, CLOSED, ANNOUNCED, SUB_ESTABLISHED, SUB_CLOSED, LISTENER_CREATED = 1, 2, 3, 6, 10, 11, 15
SUB_PRIORITY = 13
# enum mptcp_event_attr
(EV_TOKEN, EV_FAMILY, EV_LOC_ID, EV_REM_ID, EV_SADDR4, EV_SADDR6, EV_DADDR4, EV_DADDR6, EV_SPORT, EV_DPORT, EV_BACKUP,
 EV_ERROR) = range(1, 13)
EV_IF_IDX, EV_RESET_REASON, EV_RESET_FLAGS, EV_SERVER_SIDE = range(15, 19)
_CLOSE = 7  # TCP_CLOSE, the state of a socket that ends


def told(name):
    """What the recorded text says of each broadcast, one of the .txt files with a line for each."""
    found = []
    for line in lines(name):
        said = re.match(r"[0-9.]+ len (\d+) type (\d+) (\{.*?\})(?: \{.*?\} (\{.*\}))?$", line)
        if said:
            found.append({**ast.literal_eval(said.group(3)), "len": int(said.group(1)),
                          "info": ast.literal_eval(said.group(4) or "{}")})
    return found


def generic(kind, pairs, family=EVENTS_FAMILY):
    """An event with these attributes, whatever they are."""
    body = bytes([kind, 1, 0, 0]) + pack(pairs)
    return HEADER.pack(HEADER.size + len(body), family, 0, 0, 0) + body


def event(kind, token, local=None, remote=None, *, bound=0, error=None, reason=None, backup=None, mapped=False):
    """An event as the kernel tells it; `mapped`: of an IPv6 socket that speaks IPv4."""
    word = Struct("=I").pack
    pairs = [(EV_TOKEN, word(token))]
    if local:
        family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
        addresses = [socket.inet_pton(family, address) for address, _ in (local, remote)]
        if mapped:
            family, addresses = socket.AF_INET6, [bytes(10) + b"\xff\xff" + address for address in addresses]
        kinds = (EV_SADDR4, EV_DADDR4) if family == socket.AF_INET else (EV_SADDR6, EV_DADDR6)
        pairs += [(EV_FAMILY, Struct("=H").pack(family)), (EV_LOC_ID, b"\0"), (EV_REM_ID, b"\0"),
                  *zip(kinds, addresses), (EV_SPORT, local[1].to_bytes(2, "big")),
                  (EV_DPORT, remote[1].to_bytes(2, "big"))]
    pairs += [(EV_BACKUP, bytes([backup]))] if backup is not None else []
    pairs += [(EV_ERROR, bytes([error]))] if error is not None else []
    pairs += [(EV_RESET_REASON, word(reason)), (EV_RESET_FLAGS, word(0))] if reason is not None else []
    pairs += [(EV_IF_IDX, word(bound))] if bound else []
    return generic(kind, pairs)


def destroyed(cookie, *, received=0, sent=0, retrans=0, **head):
    """The broadcast of a TCP socket's end, of MPTCP or not."""
    counters = {"bytes_received": received, "bytes_sent": sent, "bytes_retrans": retrans}
    return socket_message(cookie, [(10, bytes([6])), (INFO, _info(280, TCP_INFO_FIELDS, counters))],
                          **{"state": _CLOSE, **head})


def zeroed(cookie, *, local=("10.0.1.1", 1000), remote=("10.0.1.2", 5040), bound=0):
    """The same of an initial subflow that the peer aborted: no source, no remote port, no counters."""
    nowhere = "::" if ":" in local[0] else "0.0.0.0"
    return destroyed(cookie, local=(nowhere, local[1]), remote=(remote[0], 0), bound=bound)
