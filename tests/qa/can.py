# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes tests/qa/mptcp/ of the recorded samples: what a test of PCP's may hold, addresses for documentation.

    python3 tests/qa/can.py

The kernel's own bytes, except that the networks of the lab are those of RFC 5737
and RFC 3849; their lengths are the same, so nothing else moves.
"""

import socket
from pathlib import Path

HERE = Path(__file__).resolve().parent
SAMPLES, CANNED = HERE.parent / "data", HERE / "mptcp"
RECORDED = {
    "tcp4.bin": "tcp_dump_host-a_af2.bin",
    "tcp6.bin": "tcp_dump_host-a_af10.bin",
    "mptcp4.bin": "mptcp_dump_host-a_af2.bin",
    "mptcp6.bin": "mptcp_dump_host-a_af10.bin",
    "endpoints.bin": "pm_endpoints_host-a.bin",
    "limits.bin": "pm_limits_host-a.bin",
    "links.bin": "rt_links_host-a.bin",
    "addresses.bin": "rt_addrs_host-a.bin",
    "netstat": "proc_net_netstat_host-a.txt",
    "sysctl": "sysctl_host-a.txt",
}
NETWORKS = {"10.0.1": "192.0.2", "10.0.2": "198.51.100", "10.0.3": "203.0.113"}
HOSTS = (1, 2, 255)  # not 0: that would be the head of an attribute, too


def documented(data: bytes) -> bytes:
    """The same with other addresses, which netlink keeps at multiples of four bytes."""
    renamed = {socket.inet_aton(f"{old}.{host}"): socket.inet_aton(f"{new}.{host}")
               for old, new in NETWORKS.items() for host in HOSTS}
    words = (data[at:at + 4] for at in range(0, len(data), 4))
    data = b"".join(renamed.get(word, word) for word in words)
    for network in (1, 2, 3):
        for host in (1, 2):
            data = data.replace(socket.inet_pton(socket.AF_INET6, f"fd00:{network}::{host}"),
                                socket.inet_pton(socket.AF_INET6, f"2001:db8:{network}::{host}"))
    return data


def can(directory: Path = CANNED) -> None:
    """Write all of them."""
    for name, sample in RECORDED.items():
        data = (SAMPLES / sample).read_bytes()
        (directory / name).write_bytes(documented(data) if name.endswith(".bin") else data)


if __name__ == "__main__":
    can()
