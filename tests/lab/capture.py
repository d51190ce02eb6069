# SPDX-License-Identifier: GPL-2.0-or-later
"""What MPTCP really carried: the TCP payload on each interface of a host, counted packet by packet.

    capture = Capture(lab.client)
    ...
    truth = capture.stop()

The counting is a program of its own in the host's network namespace; it ends
with its standard input, and then prints its result as JSON:

    {"packets": 99, "interfaces": {"enp1s0": {"out": 9, "in": 9, "accepted": 9, "fins": 1}},
     "flows": {"10.0.1.1:33752->10.0.1.2:9001": {"out": 9, "in": 9, "accepted": 9}}}

All but the packets are of flows that carried an MPTCP option in another packet
than their first SYN, so neither plain TCP nor what fell back to it.  "out" is
payload bytes that left, retransmitted ones included, and "in" is payload bytes
that came, each once. "accepted" is the part of them that this host acknowledged:
less than "in" where it closed or refused a subflow with data still under way.
TCP itself counts each of the "fins" as one more byte received.
"""

import ctypes
import json
import mmap
import os
import select
import socket
import struct
import subprocess
import sys
from pathlib import Path

from .common import PYTHON, LabError, signal_group

SNAP = 128  # the longest headers of IP and TCP
FRAME, FRAMES, BLOCK = 256, 1 << 18, 1 << 20  # bytes, how many, bytes
PAUSE = 0.02  # seconds between two looks at the ring, which is big enough to wait for us

ETH_P_ALL = 3
SOL_PACKET, PACKET_RX_RING, PACKET_STATISTICS, PACKET_VERSION = 263, 5, 6, 10
SO_ATTACH_FILTER = 26
TPACKET_V2 = 1  # version 3 lost a few packets with much room left
BPF_RET = 6
FRAME_HEAD = struct.Struct("I10xH20xi2xB")  # status, offset of the IP header; interface index, packet type

PROTOCOL_TCP, FIN, SYN, ACK, MPTCP_OPTION = 6, 1, 2, 16, 30
TCP_HEAD = struct.Struct(">HHIIH")


class Ring:
    """All packets of a network namespace, in memory shared with the kernel, cut to SNAP bytes from the IP header on."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        code = ctypes.create_string_buffer(struct.pack("HBBI", BPF_RET, 0, 0, SNAP))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(code)))
        self.socket.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
        size = FRAME * FRAMES
        self.socket.setsockopt(SOL_PACKET, PACKET_RX_RING, struct.pack("4I", BLOCK, size // BLOCK, FRAME, FRAMES))
        self.memory = mmap.mmap(self.socket.fileno(), size)
        self._next = 0

    def packets(self):
        """Yield (interface index, does it leave, offset of the IP header) of what has come so far."""
        while True:
            offset = self._next * FRAME
            status, ip, interface, kind = FRAME_HEAD.unpack_from(self.memory, offset)
            if not status:
                return
            if kind in (socket.PACKET_HOST, socket.PACKET_OUTGOING):
                yield interface, kind == socket.PACKET_OUTGOING, offset + ip
            self.memory[offset:offset + 4] = bytes(4)  # the kernel may have it again
            self._next = (self._next + 1) % FRAMES

    def statistics(self):
        """(packets, packets lost for want of room) since the last call."""
        return struct.unpack("2I", self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))


class Flow:
    """One TCP flow as this end sees it; the counts are by interface index."""

    def __init__(self, syn):
        self.syn = syn  # the sequence number of the SYN that began it (None: not seen)
        self.mptcp = False
        self.out, self.received = {}, {}
        self.fin = None  # the interface on which the first FIN came
        self._base = None
        self._ranges = []  # what came, as disjoint (start, end) from _base on
        self._acknowledged = 0  # up to where we said we have it

    def send(self, interface, payload):
        """Payload left."""
        self.out[interface] = self.out.get(interface, 0) + payload

    def receive(self, interface, sequence, payload):
        """Payload came; what came before does not count again."""
        if self._base is None:
            self._base = sequence
        first = self._from_base(sequence)
        last = first + payload
        start, end, fresh, apart = first, last, payload, []
        for old_start, old_end in self._ranges:
            if old_end < first or last < old_start:
                apart.append((old_start, old_end))
            else:
                fresh -= min(old_end, last) - max(old_start, first)
                start, end = min(start, old_start), max(end, old_end)
        self._ranges = apart + [(start, end)]
        self.received[interface] = self.received.get(interface, 0) + fresh

    def acknowledge(self, sequence):
        """This end said that it has all before that sequence number."""
        if self._base is not None:
            self._acknowledged = max(self._acknowledged, self._from_base(sequence))

    def accepted(self):
        """How many of the bytes that came were acknowledged."""
        return sum(max(0, min(end, self._acknowledged) - start) for start, end in self._ranges)

    def _from_base(self, sequence):
        return ((sequence - self._base + 2**31) & 0xffffffff) - 2**31


class Truth:
    """Counts packets by flow."""

    def __init__(self):
        self.flows = []  # (key, Flow)
        self._open = {}

    def add(self, interface, leaves, data, offset):
        """Take in one packet, whose IP header is at an offset of data."""
        if data[offset] >> 4 == 4:
            length, = struct.unpack_from(">H", data, offset + 2)
            protocol, tcp, addresses = data[offset + 9], offset + 4 * (data[offset] & 15), offset + 12
            length -= tcp - offset
            size = 4
        elif data[offset] >> 4 == 6:
            length, protocol = struct.unpack_from(">HB", data, offset + 4)
            tcp, addresses = offset + 40, offset + 8
            size = 16
        else:
            return
        if protocol != PROTOCOL_TCP:
            return
        if length < 20:
            raise LabError("a TCP packet whose IP header does not tell its length (BIG TCP?)")
        ours, theirs = data[addresses:addresses + size], data[addresses + size:addresses + 2 * size]
        our_port, their_port, sequence, acknowledged, flags = TCP_HEAD.unpack_from(data, tcp)
        if not leaves:
            ours, our_port, theirs, their_port = theirs, their_port, ours, our_port
        begins = flags & SYN and not flags & ACK
        flow = self._flow((ours, our_port, theirs, their_port), sequence if begins else None)
        header = 4 * (flags >> 12)
        if not flow.mptcp and not begins:
            flow.mptcp = MPTCP_OPTION in options(data, tcp + 20, tcp + header)
        payload = length - header
        if leaves:
            if payload:
                flow.send(interface, payload)
            if flags & ACK:
                flow.acknowledge(acknowledged)
        else:
            if payload:
                flow.receive(interface, sequence, payload)
            if flags & FIN and flow.fin is None:
                flow.fin = interface

    def _flow(self, key, syn):
        """The flow of these ends; a SYN with another number than the last one's begins a new one."""
        flow = self._open.get(key)
        if flow is None or syn not in (None, flow.syn):
            flow = self._open[key] = Flow(syn)
            self.flows.append((key, flow))
        return flow

    def result(self):
        """The sums, as the head of this file shows them."""
        names = dict(socket.if_nameindex())
        interfaces = {name: dict.fromkeys(("out", "in", "accepted", "fins"), 0) for name in names.values()}
        flows = {}
        for (ours, our_port, theirs, their_port), flow in self.flows:
            if not flow.mptcp:
                continue
            for word, counts in (("out", flow.out), ("in", flow.received)):
                for index, count in counts.items():
                    interfaces[names[index]][word] += count
            if flow.received:  # all by one interface, but for a flow whose route has changed
                interfaces[names[max(flow.received, key=flow.received.get)]]["accepted"] += flow.accepted()
            if flow.fin is not None:
                interfaces[names[flow.fin]]["fins"] += 1
            flows[f"{text(ours, our_port)}->{text(theirs, their_port)}"] = {
                "out": sum(flow.out.values()), "in": sum(flow.received.values()), "accepted": flow.accepted()}
        return {"interfaces": interfaces, "flows": flows}


def options(data, offset, end):
    """The kinds of the TCP options between two offsets."""
    kinds = set()
    while offset < end and data[offset]:
        kinds.add(data[offset])
        offset += 1 if data[offset] == 1 else max(2, data[offset + 1])
    return kinds


def text(address, port):
    """An address and a port as ss shows them."""
    if len(address) == 4:
        return f"{socket.inet_ntop(socket.AF_INET, address)}:{port}"
    return f"[{socket.inet_ntop(socket.AF_INET6, address)}]:{port}"


class Capture:
    """Counts on a host of the lab from now on until stop()."""

    def __init__(self, host):
        self._host = host
        self._process = host.popen(PYTHON, "-m", f"{__package__}.capture", cwd=Path(__file__).parents[1],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if self._process.stdout.readline() != "counting\n":
            raise LabError(f"capture: {self._process.stderr.read().strip()}")

    def stop(self):
        """The result, as the head of this file shows it; LabError if a packet was lost."""
        try:
            out, error = self._process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            signal_group(self._process, 9)
            raise LabError("capture: does not end") from None
        finally:
            self._host.stop(self._process)
        if self._process.returncode:
            raise LabError(f"capture: {error.strip()}")
        return json.loads(out)


def main():
    """Count until the end of standard input."""
    ring, truth = Ring(), Truth()
    os.nice(10)  # the ring has room; those who are watched shall not wait for us
    print("counting", flush=True)
    lost = packets = 0
    ended = False
    while not ended:
        ended = bool(select.select([sys.stdin], [], [], PAUSE)[0])
        for interface, leaves, offset in ring.packets():
            truth.add(interface, leaves, ring.memory, offset)
        counted, dropped = ring.statistics()
        packets, lost = packets + counted, lost + dropped
    if lost:
        sys.exit(f"{lost} of {packets} packets were lost")
    json.dump({"packets": packets, **truth.result()}, sys.stdout)


if __name__ == "__main__":
    main()
