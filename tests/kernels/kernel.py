# SPDX-License-Identifier: GPL-2.0-or-later
"""What the running kernel has, asked of the kernel itself and not of its version."""

import re
import struct
import subprocess
from contextlib import contextmanager
from pathlib import Path

from tests.lab.pmcd import AGENT

IPPROTO_MPTCP = 262
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, INET_DIAG_INFO, INET_DIAG_REQ_PROTOCOL = 4, 20, 2, 3

# Fields that came with a larger mptcp_info: its size in bytes -> metrics.
BY_SIZE = {
    80: ("retransmits", "out.retrans_bytes", "out.acked_bytes"),
    96: ("since.data_sent", "since.data_received", "since.ack_received"),
}


def diag(host, protocol):
    """The netlink messages of a dump of a host's established sockets."""
    program = f"""
import socket, struct, sys
payload = struct.pack("=BBBxI48s", 2, {protocol} & 255, 1 << {INET_DIAG_INFO - 1}, 1 << 1, bytes(48))
payload += struct.pack("=HHI", 8, {INET_DIAG_REQ_PROTOCOL}, {protocol})
with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, {NETLINK_SOCK_DIAG}) as sock:
    sock.send(struct.pack("=IHHII", 16 + len(payload), {SOCK_DIAG_BY_FAMILY}, 0x301, 1, 0) + payload)
    data, done = b"", False
    while not done:
        part = sock.recv(1 << 16)
        data += part
        done = struct.unpack_from("=H", part, 4)[0] in (2, 3) or b"\\x14\\0\\0\\0\\x03\\0" == part[-20:-14]
    sys.stdout.write(data.hex())
"""
    return bytes.fromhex(host.run("/usr/bin/python3", "-c", program).stdout)


def attribute(message, wanted):
    """The payload of an attribute of a socket's message, or None."""
    offset = 16 + 72  # behind nlmsghdr and inet_diag_msg
    while offset + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, offset)
        if kind == wanted:
            return message[offset + 4:offset + length]
        offset += length + 3 & ~3
    return None


def messages(data):
    """Single messages of a dump, without its end."""
    while data:
        length, kind = struct.unpack_from("=IH", data)
        if kind == SOCK_DIAG_BY_FAMILY:
            yield data[:length]
        data = data[length + 3 & ~3:]


def info_size(host, protocol=IPPROTO_MPTCP):
    """The size of mptcp_info, or of tcp_info, in bytes."""
    sizes = {len(attribute(one, INET_DIAG_INFO)) for one in messages(diag(host, protocol))}
    assert len(sizes) == 1, sizes
    return sizes.pop()


def counters(host):
    """MPTcpExt of a host: name -> value."""
    lines = [line.split()[1:] for line in host.run("cat", "/proc/net/netstat").stdout.splitlines()
             if line.startswith("MPTcpExt:")]
    return {name: int(value) for name, value in zip(*lines)}


def settings(host):
    """net.mptcp of a host: name -> text."""
    text = host.run("sysctl", "-a", "-r", r"^net\.mptcp\.").stdout
    return {name: " ".join(value.split()) for name, value in re.findall(r"^net\.mptcp\.(\w+) = (.*)$", text, re.M)}


def autoload(program=None):
    """What loads the kernel's modules on demand; with a program, that from now on."""
    path = Path("/proc/sys/kernel/modprobe")
    if program is not None:
        path.write_text(program + "\n", encoding="ascii")
    return path.read_text(encoding="ascii").strip()


RECORDER = """
import select, sys
from pmdamptcp.kernel import pm_events
events, _ = pm_events.listen(1 << 20)
print("listening", flush=True)
with open(sys.argv[1], "wb") as file:
    while select.select([events, sys.stdin], [], [])[0] != [sys.stdin]:
        for message in events.drain(1000):
            file.write(message)
"""


@contextmanager
def recorded_events(host, path):
    """The path manager's events as they come, in a file at the end."""
    process = host.popen("/usr/bin/python3", "-c", RECORDER, path, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         cwd=AGENT.parent)
    assert process.stdout.readline() == "listening\n"
    yield
    process.communicate(timeout=60)
