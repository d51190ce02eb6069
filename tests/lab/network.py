# SPDX-License-Identifier: GPL-2.0-or-later
"""The wires of the lab: namespaces, links, and the bridge between them."""

import os
import re
import subprocess
import zlib
from pathlib import Path

from .common import LabError, run

SOURCE = Path(__file__).with_name("delay.c")
UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}


def link_name(n):
    """The name of link n, as in a virtual machine."""
    return f"enp{n}s0"


def enter(netns, *argv, uts=None):
    """The command line that runs argv in a namespace.

    Not "ip netns exec", which mounts a new /sys: that hides the cgroups and
    makes ss slow.
    """
    words = ["nsenter", f"--net=/run/netns/{netns}"]
    if uts:
        words.append(f"--uts={uts}")
    return words + ["--"] + [str(word) for word in argv]


def ip_batch(netns, commands):
    """Run ip commands in a namespace, all of a family in one process.

    Commands that start with -6 come last: a batch has no options per line.
    """
    for family in ("-4", "-6"):
        chosen = [command[3:] if command.startswith("-6 ") else command for command in commands
                  if command.startswith("-6 ") == (family == "-6")]
        if chosen:
            run(*enter(netns, "ip", family, "-batch", "-"), input="\n".join(chosen) + "\n")


def bits(rate):
    """The number of bits per second of a rate such as 50mbit."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg]?)bit", rate)
    if not match:
        raise LabError(f"rate {rate!r}: expected for example 50mbit")
    return float(match[1]) * UNITS[match[2]]


def for_each_link(value, links):
    """One value for each link, of one for all or of a sequence of them."""
    values = list(value) if isinstance(value, (list, tuple)) else [value] * links
    if len(values) != links:
        raise LabError(f"{values}: expected one value, or {links}")
    return values


def shape(netns, device, rate):
    """Limit what leaves by a device.

    4 ms of burst keep tbf exact; 30 ms of queue are a few round trips of the
    default delay, so that the congestion control sees losses, not bufferbloat.
    """
    burst = max(16384, int(bits(rate) / 8 * 0.004))
    run(*enter(netns, "tc", "qdisc", "replace", "dev", device, "root", "tbf",
               "rate", rate, "burst", burst, "latency", "30ms"))


def create_links(client, server, middle, client_names, server_names):
    """Veth pairs client - middle - server, or client - server without middle."""
    for n, (name, other) in enumerate(zip(client_names, server_names), 1):
        if middle:
            run("ip", "link", "add", name, "netns", client,
                "type", "veth", "peer", f"c{n}", "netns", middle)
            run("ip", "link", "add", other, "netns", server,
                "type", "veth", "peer", f"s{n}", "netns", middle)
        else:
            run("ip", "link", "add", name, "netns", client,
                "type", "veth", "peer", other, "netns", server)
    if middle:
        # The bridge's own ends must not talk themselves.
        run(*enter(middle, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1",
                   "net.ipv6.conf.default.disable_ipv6=1"))
        ip_batch(middle, [f"link set {side}{n} up"
                          for n in range(1, len(client_names) + 1) for side in "cs"])


def routes(n, device, local4, peer4, local6, peer6):
    """The commands that restore all of link n's addresses and routes.

    "replace" everywhere, as it runs again whenever the link comes back: the
    kernel removes the routes and the IPv6 addresses when a link goes down.
    """
    return [
        f"address replace {local4}/24 dev {device}",
        f"-6 address replace {local6}/64 dev {device} nodad",
        # Also sets the source, or packets without one would take any.
        f"route replace default via {peer4} dev {device} src {local4} table {n}",
        f"-6 route replace default via {peer6} dev {device} src {local6} table {n}",
    ]


def rules(n, local4, local6):
    """The commands for the source routing of link n (they outlive link downs)."""
    return [f"rule add from {local4} table {n} priority {1000 + n}",
            f"-6 rule add from {local6} table {n} priority {1000 + n}"]


def build_delay(work):
    """Compile delay.c; return the program.

    It is kept between labs in $XDG_RUNTIME_DIR, if that is root's own: root
    must not start a program from where others can write.
    """
    cache = Path(os.environ.get("XDG_RUNTIME_DIR") or work)
    try:
        if cache.stat().st_uid != os.geteuid() or not os.access(cache, os.W_OK):
            cache = work
    except OSError:
        cache = work
    # Named after its source: other checkouts may have others.
    program = cache / f"mptcplab-delay-{zlib.crc32(SOURCE.read_bytes()):08x}"
    if not program.exists():
        # Rename, as another lab may be starting it right now.
        fresh = cache / f"mptcplab-delay.{os.getpid()}"
        run("cc", "-O2", "-o", fresh, SOURCE)
        os.replace(fresh, program)
    return program


def start_bridge(work, middle, links, delays, loss):
    """Start the bridge in the middle namespace; return its process."""
    pairs = [f"{side}{n}" for n in range(1, links + 1) for side in "cs"]
    with open(work / "delay.log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(
            enter(middle, build_delay(work), ",".join(map(str, delays)), loss, *pairs),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
            text=True, start_new_session=True)
    if process.stdout.readline() != "ready\n":
        process.wait()
        raise LabError("the delay bridge: " + (work / "delay.log").read_text(encoding="utf-8"))
    return process
