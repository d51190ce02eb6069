# SPDX-License-Identifier: GPL-2.0-or-later
"""Traffic between the hosts: an iperf3 run, and connections held open."""

import json
import subprocess
from pathlib import Path

from .common import PATIENCE, PYTHON, LabError, signal_group, wait_for

PEERS = Path(__file__).with_name("peers.py")


def _established(host, port):
    """The number of TCP connections and subflows to a port."""
    return len(host.sockets("state", "established", f"( dport = :{port} )"))


def listening(host, port):
    """Whether a program listens on a port of a host."""
    return bool(host.run("ss", "-tlnH", f"( sport = :{port} )").stdout.strip())


class Iperf3:
    """An iperf3 run; client and server are the processes."""

    def __init__(self, lab, seconds=5, reverse=False, parallel=1, family=4,
                 client_mptcp=True, server_mptcp=True, port=5201):
        self._lab = lab
        self._json = lab.client.work / f"iperf3-{port}.json"
        prefix = ("mptcpize", "run")
        command = ["iperf3", "-s", "-1", "-p", port]
        self._server_log = lab.server.work / f"iperf3-{port}.log"
        with open(self._server_log, "w", encoding="utf-8") as out:
            self.server = lab.server.popen(
                *(prefix if server_mptcp else ()), *command, stdout=out, stderr=out)
        command = ["iperf3", "-c", lab.server.address_of(1, family), "-p", port,
                   "-t", seconds, "-P", parallel, "-J"]
        if reverse:
            command.append("-R")
        try:
            wait_for(lambda: listening(lab.server, port), interval=0.03,
                     message="the iperf3 server does not listen")
            with open(self._json, "w", encoding="utf-8") as out:
                self.client = lab.client.popen(
                    *(prefix if client_mptcp else ()), *command, stdout=out, stderr=out)
            # One connection is iperf3's own, for control.
            wait_for(lambda: self._connected(port, 1 + parallel), timeout=PATIENCE, interval=0.03,
                     message="iperf3 does not connect")
        except BaseException:
            self.stop()
            raise

    def _connected(self, port, count):
        if self.client.poll() is not None:
            text = self._json.read_text(encoding="utf-8")
            if self.client.returncode == 0:
                return True  # a very short run
            raise LabError(f"iperf3: {text}")
        return _established(self._lab.client, port) >= count

    def wait(self, timeout=None):
        """Wait for the end; return the client's exit status."""
        return self.client.wait(timeout)

    def stop(self):
        """End the run now."""
        if getattr(self, "client", None):
            self._lab.client.stop(self.client)
        self._lab.server.stop(self.server)

    def json(self, timeout=None):
        """Wait for the end; return iperf3's report."""
        self.wait(timeout)
        report = json.loads(self._json.read_text(encoding="utf-8"))
        if "error" in report:
            raise LabError(f"iperf3: {report['error']}")
        return report


class Held:
    """Open connections; close() or the end of the block closes them."""

    def __init__(self, lab, n=1, family=4, port=None, payload=b"",
                 server_mptcp=True, client_mptcp=True, dual_stack=False):
        self._lab = lab
        self.port = port or lab.next_port()
        self.client = None
        listen = "::" if family == 6 or dual_stack else "0.0.0.0"
        self.server = self._start(lab.server, "server", listen, n, server_mptcp,
                                  *(["--dual-stack"] if dual_stack else []))
        try:
            self._expect(self.server, "listening")
            self.client = self._start(lab.client, "client", lab.server.address_of(1, family), n,
                                      client_mptcp, "--payload", payload.hex())
            self._expect(self.client, "ready")
            self._expect(self.server, "ready")
        except BaseException:
            self.close()
            raise

    def _start(self, host, role, address, n, mptcp, *options):
        return host.popen(PYTHON, PEERS, role, address, self.port, n,
                          *([] if mptcp else ["--tcp"]), *options, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def _expect(self, process, word):
        """Read a line; peers.py gives up by itself if it cannot go on."""
        if process.stdout.readline().strip() != word:
            signal_group(process, 9)
            raise LabError(f"hold: {process.stderr.read().strip() or 'ended early'}")

    def close(self):
        """Close all connections, the client's end first."""
        for process, host in ((self.client, self._lab.client), (self.server, self._lab.server)):
            if process:
                host.stop(process, grace=30)
        self.client = self.server = None

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()
