# SPDX-License-Identifier: GPL-2.0-or-later
"""mptcp.interface.in.bytes and out.bytes against a capture of the packets.

Hundreds of connections of some 0.2 s each are opened and closed between two
looks at the counters.  The budgets are ratios to what was on the wire.
"""

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from . import Lab, LabError, missing, wait_for
from .capture import Capture
from .common import PYTHON
from .test_agreement import numbers, ss

pytestmark = pytest.mark.alone

CLOSINGS = Path(__file__).with_name("closings.py")
PARALLEL = 8
GRACEFUL = ("client-close", "server-close", "shutdown")
# Three of eight are aborts, all by the same host.
ABORTS = {
    "client": GRACEFUL + ("client-abort", "client-unread") + GRACEFUL[:2] + ("client-abort",),
    "server": GRACEFUL + ("server-abort", "server-unread") + GRACEFUL[:2] + ("server-abort",),
}


@pytest.fixture(scope="module")
def lab():
    """Three links with a round-trip time of 10 ms, and PCP on both hosts."""
    problems = missing()
    if problems:
        pytest.skip("; ".join(problems))
    with Lab(rate="100mbit", delay_ms=5, links=3) as built:
        built.client.start_pcp()
        built.server.start_pcp()
        yield built


def announce(lab, family):
    """The tutorial's endpoints in a family, instead of those that are there, once all is quiet."""
    wait_for(lambda: not lab.client.sockets() and not lab.server.sockets(), timeout=30,
             message="connections of the last test are still there")
    lab.server.ip("mptcp endpoint flush")
    lab.tutorial(family)


class Row(NamedTuple):
    """Bytes of one interface in one direction."""

    host: str
    interface: str
    direction: str
    wire: int  # payload on the wire: for "in" each byte once
    accepted: int  # of it, what TCP took ("in"), or all ("out")
    fins: int  # each counts as one byte received
    counted: int  # by the agent

    @property
    def percent(self):
        """Counted, of what can be counted."""
        return 100 * self.counted / (self.accepted + self.fins) if self.accepted else 100.0


def counters(lab):
    """{(host, direction, interface): bytes}, as the agents have them now."""
    return {(host.name, direction, interface): value for host in (lab.client, lab.server)
            for direction in ("in", "out")
            for interface, value in host.pminfo(f"mptcp.interface.{direction}.bytes").items()}


class Closings:
    """A run of closings.py between two looks at the counters."""

    def __init__(self, lab, family, count, ways=GRACEFUL):
        self._lab = lab
        announce(lab, family)
        port = lab.next_port()
        self._captures = [Capture(lab.client), Capture(lab.server)]
        self._before = counters(lab)
        self._server = self._start(lab.server, "server", "::" if family == 6 else "0.0.0.0", port)
        if self._server.stdout.readline() != "listening\n":
            raise LabError(self._server.stderr.read())
        self._client = self._start(lab.client, "client", lab.server.address_of(1, family), port, count,
                                   "--ways", ",".join(ways), "--parallel", PARALLEL)
        self._begin = time.monotonic()

    @staticmethod
    def _start(host, *words):
        return host.popen(PYTHON, CLOSINGS, *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)

    def finish(self):
        """Wait for the end of all connections; return a Row for each host, interface and direction."""
        for process in (self._client, self._server):
            out, error = process.communicate(timeout=70)
            if process.returncode:
                raise LabError(error)
            if process is self._client:
                seconds, made = time.monotonic() - self._begin, json.loads(out)
                print(f"{seconds:.1f} s, {PARALLEL * seconds / sum(made.values()):.2f} s each: {made}")
                time.sleep(2.5)  # what is closed has to be acknowledged yet
        after = counters(self._lab)
        truth = {host: capture.stop()["interfaces"] for host, capture in zip(("client", "server"), self._captures)}
        rows = []
        for (host, direction, interface), counted in sorted(after.items()):
            seen = truth[host][interface]
            received = direction == "in"
            rows.append(Row(host, interface, direction, seen[direction], seen["accepted" if received else "out"],
                            seen["fins"] * received, counted - self._before[host, direction, interface]))
        return rows


def show(rows):
    """Print a table."""
    print(f"{'host':7} {'':3} {'interface':9} {'on the wire':>12} {'accepted':>12} {'fins':>5} {'counted':>12}")
    for row in rows:
        if row.wire or row.counted:
            print(f"{row.host:7} {row.direction:3} {row.interface:9} {row.wire:12} {row.accepted:12} {row.fins:5} "
                  f"{row.counted:12} {row.percent:9.4f} %")


def share(rows, host, direction):
    """Counted, of what can be counted, on all interfaces of a host: in percent."""
    chosen = [row for row in rows if row.host == host and row.direction == direction]
    percent = 100 * sum(row.counted for row in chosen) / sum(row.accepted + row.fins for row in chosen)
    print(f"{host} {direction}: {percent:.4f} %")
    return percent


def test_the_capture_tells_the_truth(lab):
    """An upload is stopped in the middle: the capture has what the kernel counts, to the byte, for each subflow."""
    announce(lab, 4)
    captures = [(host, Capture(host)) for host in (lab.client, lab.server)]
    traffic = lab.iperf3(seconds=60, parallel=2)
    time.sleep(2)
    traffic.client.send_signal(signal.SIGSTOP)

    def look(host):
        return {flow: numbers(line) for flow, line in ss(host, "-ti").items() if "tcp-ulp-mptcp" in line}

    def at_rest():
        seen = look(lab.client)
        return seen and all(not found.get("unacked") and not found.get("notsent") for found in seen.values())

    wait_for(at_rest, message="what was sent is not acknowledged")
    time.sleep(0.5)
    counted = {host.name: look(host) for host in (lab.client, lab.server)}
    for host, capture in captures:
        flows = capture.stop()["flows"]
        assert len(counted[host.name]) == 9 and set(counted[host.name]) == set(flows)
        for flow, found in counted[host.name].items():
            received = found.get("bytes_received", 0)
            kernel = {"out": found.get("bytes_sent", 0), "in": received, "accepted": received}
            print(f"{host.name}: {flow} {flows[flow]}, retransmitted {found.get('bytes_retrans', 0):.0f}")
            assert flows[flow] == kernel
    traffic.client.send_signal(signal.SIGCONT)
    traffic.stop()


@pytest.mark.parametrize("family", [4, 6])
def test_the_capture_leaves_out_plain_tcp(lab, family):
    """What fell back and what never asked for MPTCP is on the wire, but not in the sums; what is MPTCP is."""
    announce(lab, family)
    for how in ({"server_mptcp": False}, {"client_mptcp": False}, {}):
        capture = Capture(lab.client)
        with lab.hold(2, payload=b"x" * 1000, family=family, **how):
            time.sleep(0.1)
        seen = capture.stop()
        carried = {direction: sum(found[direction] for found in seen["interfaces"].values())
                   for direction in ("out", "in", "accepted")}
        print(f"{how or 'MPTCP'}: {seen['packets']} packets, {carried}")
        assert seen["packets"] > 10
        assert carried == dict.fromkeys(("out", "in", "accepted"), 0 if how else 2000)


@pytest.mark.parametrize("family", [4, 6])
def test_graceful_closes(lab, family):
    """100.00 % in both directions, on both hosts and each interface."""
    rows = Closings(lab, family, 300).finish()
    show(rows)
    for row in rows:
        assert 0.9999 * row.accepted <= row.counted <= 1.0001 * row.wire + row.fins, row


@pytest.mark.parametrize("family, aborting, other", [(4, "client", "server"), (6, "server", "client")])
def test_three_of_eight_aborted(lab, family, aborting, other):
    """All that the aborting host sent, and at least 97 % of what the other one did; never more than there was.

    The kernel forgets what an initial subflow carried when the peer aborts;
    what it sent in the last few hundredths of a second is not known, and
    weighs more the shorter the connections are.
    """
    rows = Closings(lab, family, 300, ABORTS[aborting]).finish()
    show(rows)
    sent = {host: share(rows, host, "out") for host in (aborting, other)}
    for host in (aborting, other):
        share(rows, host, "in")
    for row in rows:
        assert row.counted <= 1.0001 * row.wire + row.fins, row
    assert sent[aborting] >= 99.9
    assert sent[other] >= 97


def test_a_link_lost_and_subflows_killed(lab):
    """A link is down for a second; then the administrator kills the subflows of another one, three times."""
    run = Closings(lab, 4, 300)
    time.sleep(1)
    lab.client.link_down(2)
    time.sleep(1)
    lab.client.link_up(2)
    killed = 0
    for _ in range(3):
        time.sleep(0.3)
        killed += len(lab.client.sockets("-K", "state", "established", "src", lab.client.address(3)))
    rows = run.finish()
    print(f"{killed} subflows killed")
    show(rows)
    sent = {host: share(rows, host, "out") for host in ("client", "server")}
    for host in sent:
        share(rows, host, "in")
    assert killed
    # What is dropped below TCP, where a link is down, counts as sent.
    assert all(97 <= percent <= 101 for percent in sent.values())
