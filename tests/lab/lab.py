# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab: two hosts, the links between them, and their removal."""

import atexit
import glob
import itertools
import os
import re
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path

from . import network, traffic
from .common import PREFIX, LabError, Terminated, missing, run, stop_processes
from .hosts import Host

_numbers = itertools.count(1)


class Lab:
    """Two hosts, client and server, joined by a number of links.

    rate limits each link in each direction (None: no limit); delay_ms is one
    way, 0 leaves the bridge out; loss is in percent, each way.  Both rate and
    delay_ms may be sequences, one value for each link.  names are those of the
    client's interfaces, enp1s0 and so on if there are none.
    """

    def __init__(self, rate="50mbit", delay_ms=5, links=3, loss=0, names=None):
        if not 1 <= links <= 9:
            raise LabError("a lab has 1 to 9 links")
        self.rate = rate
        self.delay_ms = delay_ms
        self.links = links
        self.rates = network.for_each_link(rate, links)
        self.delays = network.for_each_link(delay_ms, links)
        usual = [network.link_name(n) for n in range(1, links + 1)]
        self.names = {"client": list(names or usual), "server": usual}
        if len(self.names["client"]) != links:
            raise LabError(f"{len(names)} names for {links} links")
        self.loss = loss
        self.name = f"{PREFIX}-{os.getpid()}-{next(_numbers)}"
        self.client = self.server = self.work = None
        self.hosts = []  # client, server and those that scenarios add
        self._bridge = None
        self._netns = []
        self._handlers = {}
        self._ports = itertools.count(9001)

    # Start and end

    def __enter__(self):
        return self.start()

    def __exit__(self, *unused):
        self.close()

    def start(self):
        """Build everything; what was built is removed if that fails."""
        problems = missing(pcp=False)
        if problems:
            raise LabError("\n".join(problems))
        self._catch_signals()
        atexit.register(self.close)
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def _build(self):
        # Below /tmp, as a long TMPDIR would not leave room for the name of a
        # Unix socket (108 characters).
        base = tempfile.gettempdir()
        self.work = Path(tempfile.mkdtemp(prefix=self.name + "-",
                                          dir=base if len(base) < 40 else "/tmp"))
        self.work.chmod(0o755)  # the agent is the user pcp
        bridged = any(self.delays) or self.loss > 0
        client, server = self.add_netns("client"), self.add_netns("server")
        middle = self.add_netns("middle") if bridged else None
        network.create_links(client, server, middle, *self.names.values())
        if bridged:
            self._bridge = network.start_bridge(self.work, middle, self.links,
                                                self.delays, self.loss)
        self.client = Host("client", client, 1, self.names["client"], self.work)
        self.server = Host("server", server, 2, self.names["server"], self.work)
        self.hosts += [self.client, self.server]
        self.client.peer, self.server.peer = self.server, self.client
        for host in self.hosts:
            host.middle = middle
            host.build(self.rates)

    def add_netns(self, role):
        """A network namespace that goes with the lab."""
        name = f"{self.name}-{role}"
        self._netns.append(name)
        run("ip", "netns", "add", name)
        return name

    def close(self):
        """Remove everything; more than once is no mistake."""
        # A second Ctrl-C must not leave half a lab behind.  No SIG_IGN: the
        # programs started here would inherit it.
        for signum in self._handlers:
            signal.signal(signum, lambda *unused: None)
        for host in self.hosts:
            host.close()
        self.hosts.clear()
        if self._bridge:
            stop_processes([self._bridge])
            self._bridge = None
        for name in self._netns:
            _delete_netns(name)
        self._netns.clear()
        if self.work:
            shutil.rmtree(self.work, ignore_errors=True)
            self.work = None
        atexit.unregister(self.close)
        for signum, handler in self._handlers.items():
            signal.signal(signum, handler)
        self._handlers.clear()

    def _catch_signals(self):
        """Let SIGTERM and SIGHUP unwind the stack, as Ctrl-C does."""
        if threading.current_thread() is not threading.main_thread():
            return

        def terminate(signum, unused):
            raise Terminated(signum)

        for signum in (signal.SIGTERM, signal.SIGHUP):
            # A caller's own handler knows better; nohup ignores SIGHUP.
            if signal.getsignal(signum) == signal.SIG_DFL:
                self._handlers[signum] = signal.signal(signum, terminate)
        self._handlers[signal.SIGINT] = signal.getsignal(signal.SIGINT) or signal.SIG_DFL

    # What one does with it

    def tutorial(self, family=4):
        """The settings of the tutorial: the server announces its other links."""
        for host in (self.client, self.server):
            host.mptcp(subflows=self.links - 1, add_addr_accepted=self.links - 1)
        for n in range(2, self.links + 1):
            self.server.endpoint(n, "signal", family=family)

    def iperf3(self, seconds=5, **options):
        """Start iperf3 on both hosts; return when it is connected.

        Options: reverse, parallel, family, client_mptcp, server_mptcp, port.
        """
        return traffic.Iperf3(self, seconds, **options)

    def hold(self, n=1, **options):
        """Open n connections and hold them; return when all are open.

        Options: family, port, payload (echoed), server_mptcp, client_mptcp,
        dual_stack (the server listens on :: for IPv4 as well).
        """
        return traffic.Held(self, n, **options)

    def next_port(self):
        """A port that nothing in the lab uses yet."""
        return next(self._ports)


def _pids(netns):
    return [int(pid) for pid in run("ip", "netns", "pids", netns, check=False).stdout.split()]


def _delete_netns(netns):
    """Kill what still runs in a namespace of a lab, and delete it.

    All processes of a lab are in its namespaces, also those that left their
    process group.
    """
    if not os.path.exists(f"/run/netns/{netns}"):
        return
    for _ in range(50):
        pids = _pids(netns)
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if not pids:
            break
        time.sleep(0.02)
    run("ip", "netns", "delete", netns, check=False)


def cleanup():
    """Remove what labs left that were killed; return the names of the labs."""
    if os.geteuid() != 0:
        raise LabError("the cleanup needs root: use sudo")
    names = [os.path.basename(path) for path in glob.glob(f"/run/netns/{PREFIX}-*")]
    directories = []
    for base in {tempfile.gettempdir(), "/tmp"}:
        directories += [path for path in Path(base).glob(f"{PREFIX}-*")
                        if path.is_dir() and path.lstat().st_uid == 0]
    removed = set()
    for item in names + directories:
        match = re.match(rf"{PREFIX}-(\d+)-\d+(?=-)", os.path.basename(item))
        if not match or os.path.exists(f"/proc/{match[1]}"):
            continue
        if isinstance(item, Path):
            shutil.rmtree(item, ignore_errors=True)
        else:
            _delete_netns(item)
        removed.add(match[0])
    return sorted(removed)
