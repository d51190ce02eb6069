# SPDX-License-Identifier: GPL-2.0-or-later
"""One host of the lab: a network namespace with a name, links and processes."""

import os
import shlex
import subprocess

from . import network
from .common import run, search_path, stop_processes
from .pmcd import PrivatePcp

SYSCTLS = {
    "net.mptcp.enabled": 1,
    # For benchmarks with many thousands of connections from one address.
    "net.ipv4.ip_local_port_range": "10000 65535",
    "net.ipv4.tcp_max_syn_backlog": 65535,
    "net.core.somaxconn": 65535,
}


class Host(PrivatePcp):
    """The client or the server; links are counted from 1."""

    def __init__(self, name, netns, number, links, work):
        self.name = name
        self.netns = netns
        self.number = number  # 1 or 2, the last part of the addresses
        self.links = list(links)  # names
        self.work = work / name
        self.work.mkdir(mode=0o755)
        self.peer = None  # set by the lab
        self.middle = None  # the bridge's namespace, if there is a bridge
        self.processes = []
        self._uts = None
        self.env = dict(os.environ, PATH=search_path(), LC_ALL="C.UTF-8")
        PrivatePcp.__init__(self)

    # Building

    def build(self, rates):
        """Set the host name, addresses, routes and the rates of the links."""
        self._make_uts()
        settings = dict(SYSCTLS)
        # Each link as well: it took the values of the machine's defaults.
        for name in ["all", "default"] + self.links:
            settings[f"net.ipv4.conf.{name}.rp_filter"] = 0
            settings[f"net.ipv6.conf.{name}.accept_dad"] = 0
        self.sysctl_all(settings)
        commands = ["link set lo up"]
        for n in self._numbers():
            commands.append(f"link set {self.link(n)} up")
            commands += self._routes(n)
            commands += network.rules(n, self.address(n), self.address6(n))
        network.ip_batch(self.netns, commands)
        for name, rate in zip(self.links, rates):
            if rate:
                network.shape(self.netns, name, rate)

    def _make_uts(self):
        """Make a UTS namespace; the open file keeps it, and ends it with us."""
        with subprocess.Popen(
                ["unshare", "--uts", "sh", "-c", 'hostname "$0" && echo && read wait', self.name],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            process.stdout.readline()
            self._uts = os.open(f"/proc/{process.pid}/ns/uts", os.O_RDONLY | os.O_CLOEXEC)
            process.communicate()

    def close(self):
        """End all processes of the host."""
        stop_processes(self.processes)
        self.processes.clear()
        if self._uts is not None:
            os.close(self._uts)
            self._uts = None

    def _numbers(self):
        return range(1, len(self.links) + 1)

    def _routes(self, n):
        return network.routes(n, self.link(n), self.address(n), self.peer.address(n),
                              self.address6(n), self.peer.address6(n))

    # Running things

    def command(self, *argv):
        """The command line that runs argv on this host."""
        uts = f"/proc/{os.getpid()}/fd/{self._uts}" if self._uts is not None else None
        return network.enter(self.netns, *argv, uts=uts)

    def run(self, *argv, check=True, timeout=60, input=None, env=None):
        """Run a program on this host; return the CompletedProcess (text)."""
        return run(*self.command(*argv), check=check, timeout=timeout, input=input,
                   env=env or self.env)

    def popen(self, *argv, **kw):
        """Start a program on this host; it ends with the lab."""
        kw.setdefault("text", True)
        kw.setdefault("env", self.env)
        kw.setdefault("stdin", subprocess.DEVNULL)
        kw["start_new_session"] = True
        process = subprocess.Popen(self.command(*argv), **kw)
        self.processes.append(process)
        return process

    def stop(self, *processes, grace=3):
        """End processes that popen() started."""
        stop_processes(processes, grace)
        self.processes = [p for p in self.processes if p not in processes]

    def ip(self, command):
        """Run an ip command, given as one types it after "ip"."""
        return self.run("ip", *shlex.split(command)).stdout

    def sysctl(self, name, value=None):
        """The value of a sysctl; with value: set it."""
        if value is not None:
            self.sysctl_all({name: value})
        return self.run("sysctl", "-n", name).stdout.strip()

    def sysctl_all(self, values):
        """Set several sysctls."""
        self.run("sysctl", "-qw", *(f"{name}={value}" for name, value in values.items()))

    # Links

    def link(self, n):
        """The name of the interface of link n."""
        return self.links[n - 1]

    def address(self, n):
        """The IPv4 address of link n."""
        return f"10.0.{n}.{self.number}"

    def address6(self, n):
        """The IPv6 address of link n."""
        return f"fd00:{n}::{self.number}"

    def link_down(self, n):
        """Take link n down, as "ip link set ... down" does."""
        self.ip(f"link set {self.link(n)} down")

    def link_up(self, n):
        """Bring link n up, with all the addresses and routes it had."""
        network.ip_batch(self.netns, [f"link set {self.link(n)} up"])
        self._restore(n)

    def carrier(self, n, up):
        """Pull the cable of link n at this host (up=False) or plug it in."""
        if self.middle:
            end = f"{self.name[0]}{n}"
            network.ip_batch(self.middle, [f"link set {end} {'up' if up else 'down'}"])
        elif up:
            self.peer.link_up(n)
        else:
            self.peer.link_down(n)
        if up:
            self._restore(n)

    def _restore(self, n):
        network.ip_batch(self.netns, self._routes(n))
        # What failed to resolve meanwhile would be tried again only after a
        # second, at either end.
        for host in (self, self.peer):
            host.ip(f"neighbour flush dev {host.link(n)}")

    # MPTCP

    def mptcp(self, subflows=2, add_addr_accepted=2):
        """Set the limits of the in-kernel path manager."""
        self.ip(f"mptcp limits set subflows {subflows} add_addr_accepted {add_addr_accepted}")

    def endpoint(self, n, *flags, family=4):
        """Make link n's address an MPTCP endpoint: endpoint(2, "signal")."""
        self.ip(f"mptcp endpoint add {self.address_of(n, family)} "
                f"dev {self.link(n)} {' '.join(flags)}")

    def address_of(self, n, family):
        """The address of link n in a family, 4 or 6."""
        return self.address6(n) if family == 6 else self.address(n)

    def sockets(self, *filters):
        """The TCP connections and subflows, one line each, from ss; or those filtered."""
        return self.run("ss", "-tniHO", *filters).stdout.splitlines()
