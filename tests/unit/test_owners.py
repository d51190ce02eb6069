# SPDX-License-Identifier: GPL-2.0-or-later
"""The child that looks up who owns a socket, for real, and what its parent makes of the answers."""

import os
import pwd
import select
import signal
import socket
import struct
import time
from contextlib import contextmanager
from math import inf

import pytest
from pmdamptcp import owners, privileges
from pmdamptcp.kernel.processes import Process

ROOT = os.geteuid() == 0
USER = "nobody" if ROOT else pwd.getpwuid(os.geteuid()).pw_name
CAPABILITIES = 1 << 2 | 1 << 19  # CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE
ENDED = "owners of sockets: EOFError: the process that looks them up has ended; their metrics have no value"


def has_pcp():
    """Is there the user that an installed agent runs as?"""
    try:
        return bool(pwd.getpwnam("pcp"))
    except KeyError:
        return False


def until(condition):
    """Wait for something that another process or thread does."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def ended(pid):
    """Is it gone, and reaped?"""
    return not os.path.exists(f"/proc/{pid}")


def status(pid, name):
    """A line of /proc/PID/status."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(line.split()[1:] for line in file if line.startswith(name + ":"))


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """Rest for less than a second."""
    monkeypatch.setattr(owners, "_PERIOD", 0.01)
    monkeypatch.setattr(owners, "_REST", 0)
    monkeypatch.setattr(owners, "_AGAIN", (0.01, inf))


@pytest.fixture
def make(log):
    """Owners that are closed after the test."""
    made = []

    def new(user=USER, run=True):
        one = owners.Owners(log)
        made.append(one)
        one.start(user)
        if run:
            one.run()
        return one

    yield new
    for one in made:
        one.close()


@pytest.fixture
def one(make):
    """Started and running."""
    return make()


@pytest.fixture
def inode():
    """Of a TCP socket of this process."""
    with socket.socket() as sock:
        yield os.fstat(sock.fileno()).st_ino


def find(one, inode):
    """Ask until there is an answer, as an agent does with each sample."""

    def found():
        one.want([inode])
        return one.of(inode)

    until(found)
    return one.of(inode)


needs_root = pytest.mark.skipif(not ROOT, reason="only root has other users' processes to look into")


@contextmanager
def process_of(user):
    """Another process, of that user, with a socket: yields its pid and the inode."""
    reader, writer = os.pipe()
    hold, release = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(release)
            os.setgroups([])
            os.setresgid(*[pwd.getpwnam(user).pw_gid] * 3)
            os.setresuid(*[pwd.getpwnam(user).pw_uid] * 3)
            with socket.socket() as sock:
                os.write(writer, struct.pack("Q", os.fstat(sock.fileno()).st_ino))
                os.read(hold, 1)
        finally:
            os._exit(0)
    try:
        yield pid, struct.unpack("Q", os.read(reader, 8))[0]
    finally:
        for fd in (reader, writer, hold, release):
            os.close(fd)
        os.waitpid(pid, 0)


# The child.


@pytest.mark.skipif(ROOT, reason="as root, see test_other_users_processes")
def test_own_processes(one, inode, log):
    """Without privileges it tells what the user may see."""
    assert find(one, inode).pid == os.getpid()
    assert not log


@needs_root
@pytest.mark.parametrize("owner", ["root", "nobody"])
def test_other_users_processes(make, owner, log):
    """With no more than two capabilities."""
    with process_of(owner) as (pid, inode):
        one = make(USER)
        assert find(one, inode).pid == pid
        assert find(one, inode).command == status(pid, "Name")[0]
    assert not log


@needs_root
@pytest.mark.skipif(not has_pcp(), reason="PCP is not installed")
def test_the_child_is_pcp_with_two_capabilities(make, inode):
    """Nothing else, and no way to more."""
    one = make("pcp")
    find(one, inode)
    child = one._child
    assert status(child, "Uid") == [str(pwd.getpwnam("pcp").pw_uid)] * 4
    assert status(child, "Gid") == [str(pwd.getpwnam("pcp").pw_gid)] * 4
    for name, mask in (("CapEff", CAPABILITIES), ("CapPrm", CAPABILITIES), ("CapInh", 0), ("CapBnd", 0), ("CapAmb", 0)):
        assert int(status(child, name)[0], 16) == mask
    assert status(child, "NoNewPrivs") == ["1"]


def test_the_agent_may_drop_all(in_child):
    """What the child keeps is the child's."""

    def agent():
        said = []
        one = owners.Owners(said.append)
        one.start(USER)
        if ROOT:
            privileges.drop("nobody", lambda line: None)
        one.run()
        with socket.socket() as sock:
            return [find(one, os.fstat(sock.fileno()).st_ino).pid == os.getpid(), said]

    assert in_child(agent) == [True, []]


def test_the_child_has_no_file_of_the_agent(make, inode):
    """Else pmcd would wait for the end of a pipe that the agent has closed."""
    reader, writer = os.pipe()
    one = make()
    find(one, inode)
    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)
    child = one._child
    links = {int(fd): os.readlink(f"/proc/{child}/fd/{fd}") for fd in os.listdir(f"/proc/{child}/fd")}
    assert links.pop(2) == os.readlink("/proc/self/fd/2")
    assert [link[:7] for link in links.values()] == ["socket:"]


def test_the_child_has_a_name(one, inode):
    """For those who wonder."""
    find(one, inode)
    assert status(one._child, "Name") == ["pmdamptcp-proc"]


def test_what_is_meant_for_the_agent_does_not_end_the_child(one, inode, log):
    """Control-C goes to both."""
    find(one, inode)
    for number in (signal.SIGINT, signal.SIGHUP):
        os.kill(one._child, number)
    with socket.socket() as other:
        assert find(one, os.fstat(other.fileno()).st_ino).pid == os.getpid()
    assert not log


def test_the_child_ends_with_the_agent():
    """Even with one that is killed."""
    reader, writer = os.pipe()

    def agent():
        one = owners.Owners(print)
        one.start(USER)
        one.run()
        with socket.socket() as sock:
            find(one, os.fstat(sock.fileno()).st_ino)
        os.write(writer, struct.pack("i", one._child))
        time.sleep(60)

    pid = os.fork()
    if not pid:
        try:
            agent()
        finally:
            os._exit(0)
    child = os.pidfd_open(struct.unpack("i", os.read(reader, 4))[0])
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert select.select([child], [], [], 10)[0]
    for fd in (child, reader, writer):
        os.close(fd)


# The agent's side.


def test_close_ends_the_child(make, inode, log):
    """And leaves no zombie; twice is no harm."""
    one = make()
    find(one, inode)
    child = one._child
    one.close()
    assert ended(child)
    assert one.of(inode) is None
    one.close()
    assert not log


def test_close_ends_a_child_that_hangs(make, inode):
    """It does not wait for an answer."""
    one = make()
    find(one, inode)
    child = one._child
    os.kill(child, signal.SIGSTOP)
    one.want([inode, 1])
    one.close()
    assert ended(child)


def test_the_agent_outlives_the_child(one, inode, log):
    """One line, no values, no zombie."""
    find(one, inode)
    child = one._child
    os.kill(child, signal.SIGKILL)
    until(lambda: log)
    until(lambda: ended(child))
    for _ in range(3):
        one.want([inode])
        assert one.of(inode) is None
    assert log == [ENDED]


def test_before_it_runs(make, inode, log):
    """Nothing is known, and all may be called."""
    one = owners.Owners(log)
    one.want([inode])
    one.run()
    one.close()
    assert one.of(inode) is None
    one = make(run=False)
    one.want([inode])
    child = one._child
    one.close()
    assert ended(child)
    assert not log


def test_when_it_cannot_fork(make, monkeypatch, inode, log):
    """The agent goes on without."""

    def fail():
        raise BlockingIOError(11, "no more processes")

    monkeypatch.setattr(os, "fork", fail)
    one = make()
    one.want([inode])
    assert one.of(inode) is None
    assert len(log) == 1
    assert "no more processes" in log[0]


@needs_root
def test_without_the_user(make, log):
    """Rather no child than one that is root."""
    one = make("no-such-user-here")
    until(lambda: log)
    one.close()
    assert log == [ENDED]  # the child's own line is in its copy of the log


def test_a_socket_that_nobody_has(one, inode, log):
    """Asked for twice (the pauses of this test), and then no more."""
    asked = []
    due = one._due

    def record(now):
        asked.append(due(now))
        return asked[-1]

    one._due = record
    end = time.monotonic() + 10
    while sum(1 in some for some in asked) < 2 and time.monotonic() < end:
        one.want([inode, 0, 1])
        time.sleep(0.005)
    for _ in range(10):
        one.want([inode, 0, 1])
        time.sleep(0.005)
    assert sum(1 in some for some in asked) == 2
    assert not any(0 in some for some in asked)
    assert one.of(inode)
    assert one.of(1) is one.of(0) is None
    assert not log


@pytest.mark.parametrize(
    "answer",
    [
        struct.pack("=I", 2) + 2 * struct.pack("=III48s", 5, 1, 0, b"more than asked"),
        struct.pack("=I", 0xFFFFFFFF),
        struct.pack("=IIII48s", 1, 6, 1, 0, b"not asked"),
        struct.pack("=IIII48s", 1, 5, 0, 0, b"no pid"),
        struct.pack("=II", 1, 5),
        b"\1\0",
        b"",
    ],
)
def test_nonsense_from_the_child(make, monkeypatch, answer, log):
    """It is not believed, and not listened to any more."""

    def live(channel, *_):
        channel.recv(100)
        channel.sendall(answer)
        os._exit(0)

    monkeypatch.setattr(owners, "_live", live)
    one = make()
    one.want([5])
    until(lambda: log)
    one.want([5])
    one.close()
    assert one.of(5) is None
    assert len(log) == 1


def test_a_child_that_speaks_unasked(make, monkeypatch, log):
    """The same."""

    def live(channel, *_):
        channel.sendall(b"hello")
        channel.recv(100)
        os._exit(0)

    monkeypatch.setattr(owners, "_live", live)
    child = make()._child
    until(lambda: log)
    until(lambda: ended(child))
    assert len(log) == 1


def test_a_name_that_would_harm(make, monkeypatch):
    """A process calls itself what it likes."""

    def live(channel, *_):
        channel.recv(100)
        channel.sendall(struct.pack("=IIII48s", 1, 5, 7, 1000, b"\xff\x1b[2J"))
        channel.recv(100)
        os._exit(0)

    monkeypatch.setattr(owners, "_live", live)
    assert find(make(), 5) == Process(7, "\ufffd?[2J", 1000)


# When to ask: no child is needed for that.


class Clock:
    """The time that Owners sees."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """With the real pauses."""
    monkeypatch.undo()
    fake = Clock()
    monkeypatch.setattr(owners, "monotonic", fake)
    return fake


def asked_at(one, clock, seconds, answer):
    """Times out of so many seconds at which it asks."""
    times = []
    for second in range(seconds):
        clock.now = 1000.0 + second
        due = one._due(clock.now)
        if due:
            times.append(second)
            one._note(due, answer(due))
    return times


def test_orphans_are_asked_with_growing_pauses(clock, log):
    """And then never again."""
    one = owners.Owners(log)
    one._wanted = {1, 2}
    assert asked_at(one, clock, 1000, lambda due: []) == [0, 2, 12, 72]


def test_owners_are_asked_once_a_minute_all_together(clock, log):
    """However late the second came."""
    one = owners.Owners(log)
    one._wanted = {1}
    times = asked_at(one, clock, 30, lambda due: [(inode, 7, 0, b"a") for inode in due])
    assert times == [0, 20]  # the clock's minute ends at 1020
    one._wanted = {1, 2}
    clock.now = 1035.0
    assert one._due(clock.now) == {2}
    one._note({2}, [(2, 8, 0, b"b")])
    assert one._due(1079.0) == set()
    assert one._due(1080.0) == {1, 2}


def test_an_owner_that_changes_or_goes(clock, log):
    """The last answer counts."""
    one = owners.Owners(log)
    one._wanted = {1}
    one._note({1}, [(1, 7, 0, b"systemd")])
    one._note({1}, [(1, 7, 0, b"sshd")])
    assert one.of(1) == Process(7, "sshd")
    one._note({1}, [])
    assert one.of(1) is None
    assert one._due(clock.now + 2) == {1}


def test_what_is_not_wanted_is_forgotten(clock, log):
    """So there is never more than was wanted last."""
    one = owners.Owners(log)
    for first in range(0, 1000, 10):
        one._wanted = set(range(first, first + 20))
        due = one._due(clock.now)
        one._note(due, [(inode, 7, 0, b"a") for inode in due if inode % 2])
        assert one._known.keys() == one._wanted


@pytest.mark.parametrize("took, rest", [(0.0, 1.0), (0.04, 1.0), (0.5, 10.0)])
def test_it_rests_twenty_times_as_long_as_it_works(clock, make, monkeypatch, log, took, rest):
    """And a second at least."""
    rests = []

    def live(channel, *_):
        channel.recv(100)
        channel.sendall(struct.pack("=I", 0))
        channel.recv(100)
        os._exit(0)

    def receive(*arguments):
        clock.now += took
        return real(*arguments)

    def wait(*arguments, timeout=None):
        if timeout is not None:
            rests.append(timeout)
            raise EOFError("enough")
        waiting(*arguments)

    real, waiting = owners._receive, owners._wait
    monkeypatch.setattr(owners, "_live", live)
    monkeypatch.setattr(owners, "_receive", receive)
    monkeypatch.setattr(owners, "_wait", wait)
    make().want([5])
    until(lambda: log)
    assert rests == [pytest.approx(rest)]
