# SPDX-License-Identifier: GPL-2.0-or-later
"""Plain TCP over MPTCP: two gateways join two networks whose hosts know nothing of MPTCP.

    with Lab() as lab:
        lab.tutorial()
        with Gateways(lab) as gateways:
            gateways.send(b"...", b"...")   # one plain client each, at the same time

    branch --TCP-- client ==MPTCP, all links== server --TCP-- office

The lab's client and server are the gateways: socat under mptcpize on both.
mptcpize makes all sockets of socat MPTCP ones, the listener of the first
gateway, which gets only TCP, and the second one's connection to the office,
which falls back, included.
"""

import hashlib
import subprocess

from .. import network
from ..common import LabError, run, wait_for
from ..hosts import Host
from ..traffic import listening

PORT = 7000
# An end of file goes through; the other direction gets this time to finish.
SOCAT = ("socat", "-t60")


class Neighbour(Host):
    """A host on the local network lan0 of a gateway; plain TCP only."""

    def __init__(self, lab, name, gateway):
        super().__init__(name, lab.add_netns(name), 1, ["eth0"], lab.work)
        lab.hosts.append(self)
        net = f"192.168.{gateway.number}"
        self.local, self.gateway = f"{net}.2", f"{net}.1"
        run("ip", "link", "add", "lan0", "netns", gateway.netns,
            "type", "veth", "peer", "eth0", "netns", self.netns)
        network.ip_batch(gateway.netns, [f"address add {self.gateway}/24 dev lan0", "link set lan0 up"])
        network.ip_batch(self.netns, [f"address add {self.local}/24 dev eth0", "link set eth0 up", "link set lo up"])
        self.sysctl("net.mptcp.enabled", 0)


class Gateways:
    """Both gateways and the two hosts behind them, ready for plain TCP."""

    def __init__(self, lab):
        self.near, self.far = lab.client, lab.server
        self.branch = Neighbour(lab, "branch", self.near)
        self.office = Neighbour(lab, "office", self.far)
        self._started = []

    def start(self):
        """Start the office's server and the gateways; return when all listen."""
        # The server answers with the checksum of what it got.
        self._listen(self.office, "EXEC:sha256sum")
        self._listen(self.far, f"TCP:{self.office.local}:{PORT}", "mptcpize", "run")
        self._listen(self.near, f"TCP:{self.far.address(1)}:{PORT}", "mptcpize", "run")
        return self

    def _listen(self, host, target, *prefix):
        log = open(host.work / "socat.log", "w", encoding="utf-8")
        with log:
            process = host.popen(*prefix, *SOCAT, f"TCP-LISTEN:{PORT},fork,reuseaddr", target,
                                 stdout=log, stderr=log)
        self._started.append((host, process))
        wait_for(lambda: listening(host, PORT), interval=0.03, message=f"socat on {host.name} does not listen")

    def connect(self):
        """A plain TCP client in the branch, a process; it is connected to the office already."""
        before = len(self._arrived())
        process = self.branch.popen(*SOCAT, "-", f"TCP:{self.branch.gateway}:{PORT}", text=False,
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wait_for(lambda: len(self._arrived()) > before, interval=0.03,
                 message="no connection arrives in the office")
        return process

    def _arrived(self):
        return self.office.sockets("state", "established", f"( sport = :{PORT} )")

    def finish(self, process, data, timeout=60):
        """Check the answer of the office to a client that sent data, and end the client."""
        answer, errors = process.communicate(timeout=timeout)
        digest = hashlib.sha256(data).hexdigest()
        if not answer.startswith(digest.encode()):
            raise LabError(f"sent {digest}, the office got {answer!r}; {errors.decode(errors='replace')}")

    def send(self, *messages):
        """Send each message by its own client, all at a time; every byte must arrive."""
        clients = [self.connect() for _ in messages]
        for process, data in zip(clients, messages):
            process.stdin.write(data)
            process.stdin.close()
            process.stdin = None
        for process, data in zip(clients, messages):
            self.finish(process, data)

    def stop(self):
        """End what start() started."""
        for host, process in self._started:
            host.stop(process)
        self._started.clear()

    def __enter__(self):
        return self.start()

    def __exit__(self, *unused):
        self.stop()
