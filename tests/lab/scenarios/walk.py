# SPDX-License-Identifier: GPL-2.0-or-later
"""Links that go and come back under a connection that never ends, recorded by pmlogger.

    with ethernet_and_wifi() as lab:
        story = unplug_ethernet(lab, directory)     # a download by iperf3
    with three_links() as lab:
        story = lose_links(lab, directory)          # one ncat connection
    story.phases, story.events, story.archives

A story says what was done when, and what each link carried meanwhile as the
device's own counters have it: what the archive should tell is compared with.
"""

import contextlib
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from ..common import wait_for
from ..lab import Lab
from ..traffic import listening

RECORDED = """\
log mandatory on 1 sec {
    mptcp
    network.interface.in.bytes
    network.interface.out.bytes
    network.interface.up
}
"""
NCAT_PORT = 4321
# With less, a transfer can stall on Linux 6.18: data out of order fills the
# receiver's buffer, and what would order it finds no room.
BUFFERS = {"net.ipv4.tcp_rmem": "4096 131072 67108864", "net.ipv4.tcp_wmem": "4096 131072 67108864"}


@dataclass
class Phase:
    """A time in which nothing was changed, and what each link of the receiver got, in Mbit/s."""

    start: float
    end: float
    rates: Dict[str, float]

    @property
    def total(self) -> float:
        """Of all links."""
        return sum(self.rates.values())


@dataclass
class Story:
    """What was done, when (seconds since 1970), and what it led to; archives by the host's name."""

    events: List[Tuple[float, str]] = field(default_factory=list)
    phases: Dict[str, Phase] = field(default_factory=dict)
    archives: Dict[str, Path] = field(default_factory=dict)
    report: Optional[dict] = None  # of iperf3
    connected: Optional[bool] = None  # was ncat, at the end?

    def happened(self, text):
        """Note an event, with the time of now."""
        self.events.append((time.time(), text))

    def when(self, text):
        """The time of an event."""
        return next(when for when, what in self.events if what == text)

    def measure(self, name, host, seconds):
        """A phase of so many seconds, from now."""
        start, before = time.time(), received(host)
        time.sleep(seconds)
        end, after = time.time(), received(host)
        self.phases[name] = Phase(start, end, {
            link: (after[link] - before[link]) * 8e-6 / (end - start) for link in host.links})
        return self.phases[name]

    def table(self):
        """The phases for people."""
        return "\n".join(
            f"{name:>24} {phase.total:6.1f} Mbit/s: "
            + ", ".join(f"{link} {rate:.1f}" for link, rate in phase.rates.items())
            for name, phase in self.phases.items())


def received(host):
    """The bytes that each interface of a host received, by the kernel."""
    lines = host.run("cat", "/proc/net/dev").stdout.splitlines()[2:]
    return {name.strip(): int(values.split()[0]) for name, _, values in (line.partition(":") for line in lines)}


def carries(host, link, mbit=1.0):
    """Does a link of a host receive at least so much just now?"""
    before, start = received(host)[link], time.monotonic()
    time.sleep(0.5)
    return (received(host)[link] - before) * 8e-6 / (time.monotonic() - start) >= mbit


@contextlib.contextmanager
def recorded(lab, story, directory):
    """Record both hosts, at 1 s, while the block runs."""
    with contextlib.ExitStack() as stack:
        for host in (lab.client, lab.server):
            archive = Path(directory) / host.name
            stack.enter_context(host.pmlogger(RECORDED, archive))
            story.archives[host.name] = archive
        time.sleep(2)  # what comes has two samples before it
        yield
        time.sleep(2)


def _prepared(lab):
    """Tutorial settings, large buffers, PCP on both hosts."""
    try:
        lab.start()
        lab.tutorial()
        for host in (lab.client, lab.server):
            host.sysctl_all(BUFFERS)
            host.start_pcp()
    except BaseException:
        lab.close()
        raise
    return lab


def ethernet_and_wifi():
    """A laptop with two links of 100 Mbit/s: eth0 with a round trip of 2 ms, wlan0 with one of 20 ms."""
    return _Ready(Lab(links=2, names=("eth0", "wlan0"), rate="100mbit", delay_ms=(1, 10)))


def three_links():
    """Two hosts with three links of 50 Mbit/s."""
    return _Ready(Lab(links=3))


class _Ready:
    """A lab whose start includes what _prepared does."""

    def __init__(self, lab):
        self.lab = lab

    def __enter__(self):
        return _prepared(self.lab)

    def __exit__(self, *unused):
        self.lab.close()


def unplug_ethernet(lab, directory, both=10, without=10, again=10):
    """A download, the cable of eth0 pulled, and plugged in again; iperf3 must end well by itself."""
    story, client = Story(), lab.client
    # The longer a link was away, the longer until the sender tries it again.
    seconds = both + 2 * without + again + 15
    with recorded(lab, story, directory):
        download = lab.iperf3(seconds=seconds, reverse=True)
        story.happened("download starts")
        try:
            wait_for(lambda: all(carries(client, link) for link in client.links), message="not all links carry it")
            story.measure("Ethernet and Wi-Fi", client, both)
            client.carrier(1, False)
            story.happened("Ethernet unplugged")
            wait_for(lambda: carries(client, client.link(2), 50), message="Wi-Fi does not carry it")
            story.measure("Wi-Fi alone", client, without)
            client.carrier(1, True)
            story.happened("Ethernet plugged in")
            wait_for(lambda: carries(client, client.link(1), 50), timeout=2 * without + 10,
                     message="Ethernet does not carry it again")
            story.happened("Ethernet carries again")
            story.measure("both again", client, again)
            story.report = download.json(timeout=seconds)
            story.happened("download ends")
        finally:
            download.stop()
    return story


def lose_links(lab, directory, each=6):
    """One ncat connection; links go, the one it began on first, until one is left, and come back together."""
    story, client, server = Story(), lab.client, lab.server
    with recorded(lab, story, directory):
        receiver, sender = _start_ncat(lab)
        story.happened("transfer starts")
        try:
            _settled(server, [1, 2, 3])
            story.measure("three links", server, each)
            for gone, name in ((1, "two links"), (2, "one link")):
                client.link_down(gone)
                story.happened(f"link {gone} down")
                _settled(server, range(gone + 1, 4))
                story.measure(name, server, each)
            for back in (1, 2):
                client.link_up(back)
                story.happened(f"link {back} up")
            _settled(server, [1, 2, 3], timeout=6 * each + 10)
            story.happened("all links carry again")
            story.measure("three links again", server, each)
            story.connected = sender.poll() is None and receiver.poll() is None
        finally:
            client.stop(sender)
            server.stop(receiver)
        story.happened("transfer ends")
    return story


def _start_ncat(lab):
    """The two programs of the tutorial: ncat to ncat, from /dev/zero, in one direction."""
    # A terminal on its standard input: at an end of file, it would close its
    # direction, and a connection that is half closed gets no more subflows.
    receiver = lab.server.popen("mptcpize", "run", "ncat", "-k", "-l", NCAT_PORT, stdin=subprocess.PIPE,
                                stdout=subprocess.DEVNULL)
    wait_for(lambda: listening(lab.server, NCAT_PORT), interval=0.03, message="ncat does not listen")
    with open("/dev/zero", "rb") as zero:
        sender = lab.client.popen("mptcpize", "run", "ncat", lab.server.address(1), NCAT_PORT, stdin=zero,
                                  stdout=subprocess.DEVNULL)
    return receiver, sender


def _settled(host, links, timeout=20):
    wait_for(lambda: all(carries(host, host.link(n), 10) for n in links), timeout=timeout,
             message=f"not all of the links {list(links)} carry the transfer")
