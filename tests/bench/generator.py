# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections that come and go between the hosts of the lab: churn.c."""

import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.lab.common import LabError, run

SOURCE = Path(__file__).with_name("churn.c")
LIFE = 100  # milliseconds that a connection is open
MOST = 1000  # connections open at a time


class Done(NamedTuple):
    """What a client has closed so far, and the seconds that this took."""

    connections: int = 0
    subflows: int = 0
    seconds: float = 0.0


class Generator:
    """A server that stays for the block, and clients of it."""

    def __init__(self, lab, tcp=False):
        self._lab = lab
        self._words = ["tcp"] if tcp else []
        self._program = lab.work / "churn"
        self._server = None
        self._port = lab.next_port()

    def __enter__(self):
        if not self._program.exists():
            run("cc", "-O2", "-o", self._program, SOURCE)
        for host in (self._lab.client, self._lab.server):
            host.sysctl("net.ipv4.tcp_max_tw_buckets", 1000)  # or the client would run out of ports
        self._server = self._lab.server.popen(self._program, "server", self._port, *self._words,
                                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self._server.stdout.readline() != "listening\n":
            raise LabError("churn: the server does not listen")
        return self

    def __exit__(self, *unused):
        self._lab.server.stop(self._server)

    def client(self, rate, seconds, life=LIFE, most=MOST):
        """Start a client; its output, a line a second, is what `done` reads."""
        return self._lab.client.popen(
            self._program, "client", self._lab.server.address(1), self._port, rate, life, most, seconds, *self._words,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def churn(self, rate, seconds, **options):
        """Run a client to its end; returns what it did."""
        process = self.client(rate, seconds, **options)
        try:
            for done in map(read, process.stdout):
                pass
            if process.wait():
                raise LabError("churn: the client failed")
            return done
        finally:
            self._lab.client.stop(process)


def read(line):
    """A line of a client."""
    connections, subflows, nanoseconds = map(int, line.split())
    return Done(connections, subflows, nanoseconds / 1e9)
