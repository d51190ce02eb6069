# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults that a host can have: each is provoked at the begin of a block and undone at its end."""

import contextlib
import os
import resource
import signal
import subprocess
import threading
import time
from typing import Callable, FrozenSet, NamedTuple

from pcp import pmapi

from . import network
from .common import run, wait_for

LINK = 3  # the one that has to suffer


def link_is(host, state):
    """Wait until the agent says that the link is up (1) or not (0)."""
    name = host.link(LINK)
    wait_for(lambda: host.pminfo("mptcp.interface.up").get(name) == state, interval=0.05,
             message=lambda: f"{name} is not {state}: {host.pminfo('mptcp.interface.up')}")


# Links.  A veth pair has no bridge between the hosts here, so that it can be made anew.

def _restore(lab, host):
    """The link has lost its addresses, its routes and maybe its rate."""
    for one in (host, host.peer):
        one.link_up(LINK)
        network.shape(one.netns, one.link(LINK), lab.rates[LINK - 1])
    link_is(host, 1)


@contextlib.contextmanager
def renamed(lab, host):
    """An interface gets another name, and its own back."""
    name = host.link(LINK)
    network.ip_batch(host.netns, [f"link set {name} down", f"link set {name} name other", "link set other up"])
    wait_for(lambda: host.pminfo("mptcp.interface.up").get("other") == 1, message="the new name is not seen")
    link_is(host, 0)
    yield
    network.ip_batch(host.netns, ["link set other down", f"link set other name {name}"])
    _restore(lab, host)


@contextlib.contextmanager
def recreated(lab, host):
    """An interface is deleted, and another one made that is called the same: it has another index."""
    name = host.link(LINK)
    before = host.ip(f"-o link show {name}").split(":")[0]
    host.ip(f"link del {name}")
    link_is(host, 0)
    yield
    network.create_links(host.netns, host.peer.netns, None, [name], [host.peer.link(LINK)])
    assert host.ip(f"-o link show {name}").split(":")[0] != before
    _restore(lab, host)


@contextlib.contextmanager
def moved(lab, host):
    """An interface goes to another network namespace, as to a container, and comes back."""
    name, other = host.link(LINK), lab.add_netns("other")
    host.ip(f"link set {name} netns {other}")
    link_is(host, 0)
    yield
    run("ip", "-n", other, "link", "set", name, "netns", host.netns)
    _restore(lab, host)


@contextlib.contextmanager
def churned(lab, host):
    """Addresses, routes and rules come and go, some thousand times a second."""
    batch = []
    for number in range(150):
        batch += [f"address add 10.9.{number}.1/24 dev {host.link(1)}",
                  f"route add 10.8.{number}.0/24 dev {host.link(2)}",
                  f"rule add from 10.9.{number}.1 table 2 priority {2000 + number}"]
    undo = [line.replace(" add ", " del ") for line in batch]
    stop = threading.Event()
    rounds = []

    def work():
        while not stop.is_set():
            network.ip_batch(host.netns, batch + undo)
            rounds.append(1)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
        wait_for(lambda: len(rounds) >= 5, message="addresses and routes could not be changed")
    finally:
        stop.set()
        thread.join()


# The kernel, as the agent sees it.

@contextlib.contextmanager
def switched_off(lab, host):
    """net.mptcp.enabled is taken back and set again: connections that are there go on."""
    host.sysctl("net.mptcp.enabled", 0)
    wait_for(lambda: host.pminfo("mptcp.sysctl.enabled") == {None: 0}, message="setting not seen")
    yield
    for _ in range(10):
        host.sysctl_all({"net.mptcp.enabled": 1})
        host.sysctl_all({"net.mptcp.enabled": 0})
    host.sysctl("net.mptcp.enabled", 1)


@contextlib.contextmanager
def netstat_unreadable(lab, host):
    """/proc/net/netstat cannot be read, or what it says is nonsense, or it is empty, or a directory.

    All other files there are the agent's own as before.
    """
    del lab
    view, place = host.work / "proc-net", f"/proc/{host.agent_pid()}/net"
    view.mkdir()
    for name in os.listdir(place):
        if name != "netstat":
            (view / name).symlink_to(f"/proc/thread-self/net/{name}")
    file = view / "netstat"
    file.write_text("")
    file.chmod(0)
    run("mount", "--bind", view, place)
    try:
        none_of(host, "mptcp.mib.mpcapablesyntx")
        yield
        for text in ("MPTcpExt: A B\nMPTcpExt: 1\n", "MPTcpExt: MPCapableSYNTX\nMPTcpExt: nonsense\n", "\0\xff", ""):
            file.write_text(text, encoding="latin-1")
            file.chmod(0o644)
            time.sleep(0.3)
            none_of(host, "mptcp.mib.mpcapablesyntx")
        file.unlink()
        file.mkdir()
        time.sleep(0.3)
        none_of(host, "mptcp.mib.mpcapablesyntx")
    finally:
        run("umount", place)


def none_of(host, metric):
    """Wait until a metric has no value."""
    def gone():
        try:
            return host.pminfo(metric) == {}
        except pmapi.pmErr:
            return True
    wait_for(gone, interval=0.05, message=f"{metric} still has a value")


# The process.

def limit(pid, kind, value):
    """Set the soft limit of a running process; as its user, which asks for no capability."""
    subprocess.run(["prlimit", f"--pid={pid}", f"--{kind}={value}:"], check=True,
                   user="pcp", group="pcp", extra_groups=[])


@contextlib.contextmanager
def no_descriptors(lab, host):
    """The agent can open nothing more."""
    del lab
    pid = host.agent_pid()
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    limit(pid, "nofile", 3)
    try:
        none_of(host, "mptcp.connections")
        none_of(host, "mptcp.mib.mpcapablesyntx")
        yield
    finally:
        limit(pid, "nofile", usual)


@contextlib.contextmanager
def log_full(lab, host):
    """Nothing can be written to a file: what the agent has to say is lost."""
    pid, text = host.agent_pid(), host.agent_log()
    limit(pid, "fsize", 0)
    try:
        with no_descriptors(lab, host):  # something to complain of
            yield
        assert host.agent_log() == text, "it could write"
    finally:
        limit(pid, "fsize", "unlimited")


@contextlib.contextmanager
def stopped(pid):
    """A process stands still."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def slow_pmcd(lab, host):
    """pmcd stands still for some seconds, the agent does not."""
    del lab
    with stopped(host.pmcd.pid):
        time.sleep(2)
    yield


@contextlib.contextmanager
def helper_killed(lab, host):
    """The process that looks up the owners of sockets is killed."""
    del lab
    wait_for(lambda: host.pminfo("mptcp.connection.pid"), message="owners are not known")
    os.kill(host.agent_pid("pmdamptcp-proc"), signal.SIGKILL)
    wait_for(lambda: host.pminfo("mptcp.connection.pid") == {}, message="owners are still told")
    yield


class Fault(NamedTuple):
    """`provoke(lab, host)` is a context manager; meanwhile `silent` metrics have no value, and the link may be down."""

    provoke: Callable
    silent: FrozenSet[str] = frozenset()
    link_down: bool = False

    def __str__(self):
        return self.provoke.__name__


#: What is looked at one by one: from each source something.
GAUGES = frozenset({"mptcp.connections", "mptcp.subflows"})
COUNTERS = frozenset({"mptcp.interface.in.bytes", "mptcp.interface.subflows_opened"})
HEARD = frozenset({"mptcp.event.created"})
READ = frozenset({"mptcp.mib.mpcapablesyntx", "mptcp.sysctl.enabled", "mptcp.pm.endpoints"})

FAULTS = (
    Fault(renamed, link_down=True),
    Fault(recreated, link_down=True),
    Fault(moved, link_down=True),
    Fault(churned),
    Fault(switched_off),
    Fault(netstat_unreadable, frozenset({"mptcp.mib.mpcapablesyntx"})),
    Fault(no_descriptors, GAUGES | COUNTERS | READ),
    Fault(log_full, GAUGES | COUNTERS | READ),
    Fault(slow_pmcd),
)
