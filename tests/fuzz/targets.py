# SPDX-License-Identifier: GPL-2.0-or-later
"""Every decoder: what it is fed with, and what must hold.

A target is made anew for each run.  It takes one input and returns
(accepted, refused, signature): did it give values, did it complain as it may,
and what it made of the input, in short.  It raises Broken where something is
wrong; any other exception that the agent would not stand is a finding, too.
"""

import errno
import json
import socket
from io import BytesIO, TextIOWrapper
from itertools import cycle
from types import SimpleNamespace
from typing import Any, Callable, NamedTuple

from pmdamptcp import config, owners
from pmdamptcp.kernel import (
    inet_diag, interfaces, layouts, netlink, netstat, nftables, path_manager, pm_events, processes, routes, sock_diag,
    sockstat, sysctl)
from pmdamptcp.metrics import mib
from pmdamptcp.metrics import sysctl as settings
from pmdamptcp.source import FAULTS

from tests.unit import messages as m

from . import oracle
from .mutate import NETLINK, TEXT

U32, U64 = (1 << 32) - 1, (1 << 64) - 1


class Broken(AssertionError):
    """Something that must hold does not."""


def need(holds, *what):
    """Say what is wrong unless it holds."""
    if not holds:
        raise Broken(" ".join(map(repr, what)))


class Target(NamedTuple):
    """`share`: of all inputs, in proportion: the slow ones get few, but a hundredth part at least."""

    name: str
    corpus: Callable[[], "list[bytes]"]
    make: Callable[[Any], Callable[[bytes], Any]]  # given what can patch modules for as long as the run takes
    share: int
    ways: tuple = NETLINK
    body: int = 20


def text(value):
    """Text that PCP takes: UTF-8, and no end in the middle."""
    need(isinstance(value, str) and "\0" not in value, value)
    value.encode()


# Sockets, events: against the oracle, message by message, with a decoder that has learned from all before.

def _against(decoder, kind, read, check=None):
    def feed(data):
        malformed, messages = decoder.malformed, decoder.messages
        found = list(decoder.decode([data]))
        expected, count, broken = oracle.decoded(data, kind, read)
        need([(offset, values) for values, _, offset, _ in found] == expected, found, expected)
        need(decoder.malformed - malformed == broken, "malformed", decoder.malformed - malformed, broken)
        need(decoder.messages - messages == count, "messages", decoder.messages - messages, count)
        if check:
            for one in found[:1]:
                check(one)
        return bool(found), broken, (len(found), count, broken, len(found[0][3].headers) if found else 0)
    return feed


def _sockets(kind, read, table):
    getters = cycle([(name, inet_diag.info_field(table, name)) for name in table])

    def check(one):
        values, data, offset, layout = one
        row = inet_diag.Row()
        row.data, row.offset, row.layout = data, offset, layout
        message = data[offset:offset + layout.length]
        name, get = next(getters)  # one field of each message, in turn
        expected = oracle.info_field(message, table, name)
        need(get(row) == expected, name, get(row), expected)
        need(row.ids == oracle.ids(message), "ids", row.ids)
        need(row.values == values and row.inode == int.from_bytes(message[84:88], "little"), "row", row.values)
        local, port, remote, _ = row.endpoints
        need(port == int.from_bytes(message[20:22], "big") and local and remote and row.state, "endpoints")
    return lambda _patch: _against(inet_diag.Decoder(kind), 20, read, check)


def _events(_patch):
    return _against(layouts.Decoder(m.EVENTS_FAMILY, pm_events.learn), m.EVENTS_FAMILY, oracle.event)


def _dumps(protocol):
    def corpus():
        names = [f"{protocol}_dump_{host}_{family}.bin" for host in ("host-a", "host-b") for family in ("af2", "af10")]
        found = [one for name in names for one in m.sockets(name)]
        made = [m.cut_info(one, length) for one in found[:6] for length in (0, 40, 48, 80, 88, 216, 232, 248)]
        return [*found, *made, *(one + other for one, other in zip(found, found[1:]))]
    return corpus


def _answers():
    return [one[:8] + bytes(4) + one[12:] for one in m.sockets("tcp_dump_host-a_af2.bin")]  # to the first question


def _broadcasts(name):
    return lambda: [one for host in ("host-a", "host-b") for one in m.split(m.recorded(f"{name}_{host}.bin"))]


# Framing: what the sockets' reads are made of.

class Wire:
    """A socket of these buffers, after which nothing comes."""

    def __init__(self, *buffers):
        self.buffers, self.sent = list(buffers), []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def send(self, data):
        """A question."""
        self.sent.append(data)

    def recv(self, _size):
        """The next buffer."""
        if not self.buffers:
            raise socket.timeout("timed out")
        return self.buffers.pop(0)


def _framing(_patch):
    def feed(data):
        refused = 0
        try:
            for _, start, end in netlink.messages(data):
                need(16 <= start <= end <= len(data), start, end)
                for place, length in netlink.attributes(data, min(start + 4, end), end).values():
                    need(start + 8 <= place and place + length <= end, "beyond", place, length)
        except netlink.Malformed:
            refused += 1
        buffers = []
        try:
            buffers = list(netlink.dump(Wire(data, m.done()), 20, b""))
        except OSError:
            refused += 1
        need(len(buffers) <= 2, buffers)
        for read in (netlink.sequence_of, lambda one: netlink.error_of(one, 16)):
            try:
                need(abs(read(data)) <= U32)
            except netlink.Malformed:
                refused += 1
        return not refused, refused > 0, (refused, len(buffers))
    return feed


def _family(_patch):
    def feed(data):
        try:
            family, group = pm_events.ids(data)
        except FAULTS as fault:
            return False, True, type(fault)
        need(0 <= family < 1 << 16 and 0 < group < 1 << 31, family, group)  # what a socket can be told
        return True, False, (family, group)
    return feed


_KEYS = [routes.key(f"10.0.{number}.1", "10.0.9.9") for number in range(4)]


def _answer(number, *pairs, kind=routes.RTM_NEWROUTE, body=bytes(12)):
    body += m.pack(pairs)
    return m.HEADER.pack(16 + len(body), kind, 0, number, 0) + body


def _routes_corpus():
    word = (3).to_bytes(4, "little")
    good = [_answer(number, (1, bytes(4)), (4, word), (7, word), (15, word)) for number in range(4)]
    refusal = m.HEADER.pack(36, 2, 0, 1, 0) + (-errno.ENETUNREACH).to_bytes(4, "little", signed=True) + bytes(16)
    return [b"".join(good), good[0] + refusal + good[2] + good[3], b"".join(reversed(good))]


def _routes(patch):
    wire = []
    patch.setattr(netlink, "open_socket", lambda _protocol: wire[-1])

    def feed(data):
        wire[:] = [Wire(data)]
        try:
            expected = oracle.routes([data], len(_KEYS))
        except oracle.Bad:
            expected = None
        try:
            found = routes.egress(_KEYS)
        except FAULTS as fault:
            need(expected is None, "refused", fault, expected)
            return False, True, type(fault)
        need(found == dict(zip(_KEYS, map((expected or {}).get, range(len(_KEYS))))), found, expected)
        return True, False, tuple(found.values())
    return feed


def _look_up(patch):
    wire, decoder = [], inet_diag.Decoder(socket.IPPROTO_TCP)
    patch.setattr(netlink, "open_socket", lambda _protocol: wire[-1])

    def feed(data):
        wire[:] = [Wire(data)]
        try:
            found = list(decoder.decode(sock_diag.look_up([(2, bytes(48))])))
        except FAULTS as fault:
            return False, True, type(fault)
        expected = oracle.decoded(data, 20, oracle.subflow)[0]
        need([(offset, values) for values, _, offset, _ in found] == expected, found, expected)
        return bool(found), not found, len(found)
    return feed


# Through pyroute2: what it makes of the bytes, by its own way from the socket on.

def _pyroute2(marshal, data):
    for message in marshal.parse(data):
        fault = message["header"].get("error")
        if fault is not None:
            raise fault
        if message["header"]["type"] != m.NLMSG_DONE:
            yield message


class Session:
    """In the place of MPTCP or IPRoute."""

    def __init__(self, marshal):
        self._marshal, self.data = marshal, b""

    def __call__(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def answer(self, *_):
        """Messages."""
        return _pyroute2(self._marshal, self.data)

    limits = endpoint = get_links = get_addr = answer


def _path_manager(patch):
    from pyroute2.netlink.generic import mptcp
    marshal = mptcp.MarshalGenericNetlink() if hasattr(mptcp, "MarshalGenericNetlink") else _marshal()
    marshal.msg_map = {m.EVENTS_FAMILY: mptcp.mptcp_msg}
    session = Session(marshal)
    patch.setattr(path_manager, "MPTCP", session)

    def feed(data):
        session.data = data
        try:
            found = path_manager.read()
        except FAULTS as fault:
            return False, True, type(fault)
        for value in found.limits:
            need(value is None or 0 <= value <= U32, found)
        for one in found.endpoints:
            text(one.address)
            routes.sources(one.address)
            routes.key(one.address, one.address, one.ifindex)
            need(0 <= one.id < 256 and 0 <= one.port < 1 << 16 and 0 <= one.flags <= U32, one)
        return bool(found.endpoints) or found.limits.subflows is not None, False, (len(found.endpoints), found.limits)
    return feed


def _marshal():
    from pyroute2.netlink.nlsocket import Marshal
    return Marshal()


def _links(kind, check):
    def make(patch):
        from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
        from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
        marshal = _marshal()
        marshal.msg_map = {16: ifinfmsg, 20: ifaddrmsg}
        session = Session(marshal)
        patch.setattr(interfaces, "IPRoute", lambda: session)

        def feed(data):
            session.data = data
            try:
                found = kind()
            except FAULTS as fault:
                return False, True, type(fault)
            for one in found:
                check(found, one)
            return bool(found), False, len(found)
        return feed
    return make


def _link(_links_, one):
    text(one.name)
    need(-1 << 31 <= one.ifindex <= U32 and isinstance(one.up, bool), one)


def _address(owners_, one):
    socket.inet_pton(socket.AF_INET6 if ":" in one else socket.AF_INET, one)
    need(0 <= owners_[one] <= U32, one)


def _traffic(patch):
    from psutil import _pslinux
    content = [b""]
    patch.setattr(_pslinux, "open_text", lambda _path: TextIOWrapper(BytesIO(content[0]), "utf-8", "surrogateescape"))

    def feed(data):
        content[0] = data
        try:
            found = interfaces.traffic()
        except FAULTS as fault:
            return False, True, type(fault)
        for name, counters in found.items():
            text(name)
            need(all(0 <= value <= U64 for value in counters), counters)
        return bool(found), False, len(found)
    return feed


# Text.

def _file(patch, module):
    """Reads of a module get this content, decoded as it asks for."""
    content = [b""]

    def opened(_path, mode="r", encoding="ascii", errors="strict"):
        return BytesIO(content[0]) if "b" in mode else TextIOWrapper(BytesIO(content[0]), encoding, errors)
    patch.setattr(module, "open", opened, raising=False)
    return content


def _netstat(patch):
    content = _file(patch, netstat)

    def feed(data):
        content[0] = data
        try:
            found = netstat.read()
        except FAULTS as fault:
            return False, True, type(fault)
        words = set(data.split())
        for name, value in found.items():
            text(name)
            need(0 <= value <= U64 and (b"%d" % value in words or b"0%d" % value in data), value)
        for metric in mib.METRICS:
            value = metric.get(found)
            need(value is None or value >= 0, metric.name, value)
        return bool(found), False, len(found)
    return feed


def _sockstat(patch):
    content = _file(patch, sockstat)

    def feed(data):
        content[0] = data
        try:
            found = sockstat.tcp_sockets()
        except FAULTS as fault:
            return False, True, type(fault)
        need(0 <= found, found)
        return True, False, found > 0
    return feed


def _sysctl(patch):
    content = _file(patch, sysctl)
    names = [f"net/{number}" for number in range(2)] + sorted(settings.KNOWN)
    patch.setattr(sysctl, "os", SimpleNamespace(listdir=lambda _path: names, path=sysctl.os.path))

    def feed(data):
        content[0] = data
        try:
            found = sysctl.read()
        except FAULTS as fault:
            return False, True, type(fault)
        for value in found.values():
            text(value)
        for metric in settings.METRICS:
            value = metric.get(found)
            need(value is None or isinstance(value, str) or 0 <= value <= U32, metric.name, value)
        return bool(found), False, next(iter(found.values()), "").isdigit()
    return feed


def _nftables(_patch):
    def feed(data):
        try:
            found = nftables.decode(data.decode("utf-8", "surrogateescape"), "received")
        except FAULTS as fault:
            return False, True, type(fault)
        for counter in found.values():
            need(all(type(value) is int and 0 <= value <= U64 for value in counter), counter)
        return bool(found), False, len(found)
    return feed


def _nft_corpus():
    counter = {"packets": 62684, "bytes": 1971749723}
    elements = [{"elem": {"val": name, "counter": counter}} for name in ("lo", "l1", "l2")]
    head = {"metainfo": {"version": "1.0.6", "release_name": "x", "json_schema_version": 1}}
    whole = {"family": "inet", "name": "received", "table": "pcp_mptcp", "type": "ifname", "handle": 3, "size": 1024}
    return [json.dumps({"nftables": [head, {"set": one}]}).encode() for one in (whole, {**whole, "elem": elements})]


def _names(_patch):
    def feed(data):
        found = processes.text(data)
        text(found)
        need(found.isprintable(), found)
        return True, False, (len(found) > 0, "?" in found)
    return feed


def _owners(_patch):
    asked = {7, 8, 9}

    def feed(data):
        side = owners.Owners(lambda line: None)
        try:
            side._note(asked, owners._receive(BytesIO(data), owners._OWNER, len(asked)))
        except (EOFError, *FAULTS) as fault:  # Owners._exchange ends with these
            return False, True, type(fault)
        found = [side.of(inode) for inode in asked]
        for one in found:
            if one:
                text(one.command)
                need(0 < one.pid <= U32 and 0 <= one.uid <= U32 and len(one.command) <= 48, one)
        return any(found), False, sum(map(bool, found))
    return feed


def _owners_corpus():
    rows = [(inode, 100 + inode, 1000, f"name-{inode}".encode()) for inode in (7, 8, 9)]
    packed = [owners._OWNER.pack(*row) for row in rows]
    return [owners._COUNT.pack(count) + b"".join(packed[:count]) for count in range(4)]


def _config(patch):
    content, log = [b""], []
    patch.setattr(config, "_content", lambda _path: content[0].decode("utf-8"))

    def feed(data):
        content[0] = data
        del log[:]
        found = config.read("mptcp.conf", log.append)
        for line in log:
            text(line)  # else PCP's log raises
            need("\n" not in line, "two lines", line)
        need(0 <= found.sample_age <= 60 and 0 <= found.instances < 1 << 31, found)
        need(0 <= found.receive_buffer <= 1 << 30, found)
        need(all(type(one) is type(default) for one, default in zip(found, config.Config())), found)
        return found != config.Config(), bool(log), (found == config.Config(), len(log))
    return feed


def _chain(patch):
    from .chain import Chain
    return Chain(patch).feed


def _chain_corpus():
    from .chain import corpus
    return corpus()


def _texts(*names):
    return lambda: [m.recorded(name) for name in names]


def _lines(name):
    return lambda: [line.rpartition(b"= ")[2] for line in m.recorded(name).splitlines()]


_CONFIG = (b"# comment\n[mptcp]\nsample_age = 0.5\ninstances = 100\nlistener = yes\nreceive_buffer = 65536\n"
           b"processes = all\nremote_addresses = network\nseccomp = no\nnftables = on\n[other]\nkey = value\n  more\n")
_DEV = (
    b"Inter-|   Receive                                                |  Transmit\n"
    b" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier\n"
    b"    lo: 454293042  227798    0    0    0     0          0         0 454293042  227798    0    0    0   0  0 0\n"
    b"  eth0: 509425053   16944    0    0    0     0          0         0   1293904   13228    0    0    0   0  0 0\n")
_SOCKSTAT = b"sockets: used 222\nTCP: inuse 5 orphan 0 tw 2 alloc 9 mem 1\nUDP: inuse 3 mem 0\nTCP6: inuse 4\n"

TARGETS = (
    Target("events", _broadcasts("pm_events"), _events, 20),
    Target("ends", _broadcasts("tcp_destroy"),
           _sockets(inet_diag.CLOSED, oracle.closed, inet_diag.TCP_INFO), 9, body=88),
    Target("subflows", _dumps("tcp"),
           _sockets(socket.IPPROTO_TCP, oracle.subflow, inet_diag.TCP_INFO), 6, body=88),
    Target("connections", _dumps("mptcp"), _sockets(m.MPTCP, oracle.connection, inet_diag.MPTCP_INFO), 5, body=88),
    Target("plain sockets", _dumps("tcp"), _sockets(inet_diag.PLAIN, oracle.plain, inet_diag.TCP_INFO), 2, body=88),
    Target("lookups", _answers, _look_up, 4, body=88),
    Target("framing", lambda: _broadcasts("pm_events")() + [m.done(), m.done(-2)], _framing, 28),
    Target("family", _texts("genl_getfamily_host-a.bin"), _family, 8),
    Target("routes", _routes_corpus, _routes, 12, body=28),
    Target("path manager", _texts(*(f"pm_{what}_{host}.bin" for what in ("endpoints", "limits")
                                    for host in ("host-a", "host-b"))), _path_manager, 1),
    Target("links", lambda: m.split(m.recorded("rt_links_host-a.bin")), _links(interfaces.links, _link), 1, body=32),
    Target("addresses", lambda: m.split(m.recorded("rt_addrs_host-a.bin")), _links(interfaces.addresses, _address), 1,
           body=24),
    Target("device counters", lambda: [_DEV], _traffic, 1, TEXT),
    Target("netstat", _texts("proc_net_netstat_host-a.txt", "proc_net_netstat_host-b.txt"), _netstat, 1, TEXT),
    Target("sockstat", lambda: [_SOCKSTAT], _sockstat, 4, TEXT),
    Target("sysctl", _lines("sysctl_host-a.txt"), _sysctl, 1, TEXT),
    Target("nftables", _nft_corpus, _nftables, 14, TEXT),
    Target("process names", lambda: [b"python3\n", b"nginx: worker\n", "caf\u00e9\n".encode()], _names, 12, TEXT),
    Target("owners", _owners_corpus, _owners, 14, TEXT),
    Target("configuration", lambda: [_CONFIG], _config, 1, TEXT),
    Target("chain", _chain_corpus, _chain, 1, body=88),
)
