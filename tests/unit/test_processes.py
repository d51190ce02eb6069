# SPDX-License-Identifier: GPL-2.0-or-later
"""Who has a socket open: a made-up /proc, and this host's."""

import os
import pwd
import socket

import pytest
from pmdamptcp.kernel import processes
from pmdamptcp.kernel.processes import Process, owners

NOBODY = pwd.getpwnam("nobody")


class Proc:
    """A /proc with as much in it as owners() reads."""

    def __init__(self, path):
        self.path = path
        for name in ("self", "net", "1a"):
            (path / name).mkdir()

    def add(self, pid, command, *links):
        """A process with files open."""
        directory = self.path / str(pid)
        (directory / "fd").mkdir(parents=True)
        (directory / "comm").write_bytes(command.encode() + b"\n")
        for number, link in enumerate(links):
            (directory / "fd" / str(number)).symlink_to(link if isinstance(link, str) else f"socket:[{link}]")

    def owners(self, *inodes):
        """As the agent's child asks."""
        return owners(set(inodes), str(self.path))


@pytest.fixture
def proc(tmp_path):
    """A host with init and a server, and a kernel thread."""
    made = Proc(tmp_path)
    made.add(1, "init", "/dev/null", 11)
    made.add(2, "kthreadd")
    made.add(700, "server", "/dev/null", "pipe:[71]", 70, 71, "anon_inode:[eventpoll]")
    return made


def test_owners(proc):
    """Sockets only, and those asked for only."""
    assert proc.owners(70, 71) == dict.fromkeys((70, 71), Process(700, "server"))
    assert proc.owners(11) == {11: Process(1, "init")}
    assert proc.owners(71, 72, 7) == {71: Process(700, "server")}
    assert not proc.owners()


def test_the_first_of_several_counts(proc):
    """By number, not by name: what a program starts has its sockets, too."""
    proc.add(1000, "helper", 70, 80)
    proc.add(999, "shell", 80)
    assert proc.owners(70, 80) == {70: Process(700, "server"), 80: Process(999, "shell")}


def test_init_comes_last(proc):
    """It opens sockets for others."""
    proc.add(900, "activated", 11)
    assert proc.owners(11) == {11: Process(900, "activated")}


def test_it_looks_no_further_than_it_must(proc, monkeypatch):
    """Low numbers first, and none after the last find."""
    proc.add(10, "other", 10)
    seen = []
    held = processes._held
    monkeypatch.setattr(processes, "_held", lambda path, wanted: seen.append(path) or held(path, wanted))
    proc.owners(10, 70)
    assert [path.split("/")[-3] for path in seen] == ["2", "10", "700"]


def test_a_process_that_ends_meanwhile(proc):
    """Without files, or without a name."""
    proc.add(300, "gone", 70)
    (proc.path / "300" / "comm").unlink()
    (proc.path / "400").mkdir()
    assert proc.owners(70) == {70: Process(700, "server")}


def test_a_file_that_is_closed_meanwhile(proc, monkeypatch):
    """The others count."""
    readlink = os.readlink

    def closed(path):
        if path.endswith("/700/fd/2"):
            raise FileNotFoundError(path)
        return readlink(path)

    monkeypatch.setattr(os, "readlink", closed)
    assert proc.owners(70, 71) == {71: Process(700, "server")}


def test_a_process_that_may_not_be_looked_into(proc, monkeypatch):
    """One refusal is enough."""
    asked = []

    def refused(path):
        asked.append(path)
        raise PermissionError(path)

    monkeypatch.setattr(os, "readlink", refused)
    assert not proc.owners(70)
    assert len(asked) == 2  # one of each process with files


def test_without_proc(tmp_path):
    """For the caller to tell."""
    with pytest.raises(FileNotFoundError):
        owners({1}, str(tmp_path / "none"))


@pytest.mark.parametrize(
    "raw, shown",
    [
        (b"nginx\n", "nginx"),
        (b"two words\n", "two words"),
        ("b\u00fccher\n".encode(), "b\u00fccher"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"\x1b[2J\x07", "?[2J?"),
        (b"a\nb\n", "a?b"),
        (b"padded\0\0\0", "padded"),
        ("\u202etxt".encode(), "?txt"),
        (b"\n", ""),
    ],
)
def test_names(raw, shown):
    """Whatever a process calls itself, PCP and terminals can take it."""
    assert processes.text(raw) == shown


def test_a_socket_of_this_process():
    """The kernel's own /proc."""
    with socket.socket() as one, socket.socket() as other:
        mine, also = os.fstat(one.fileno()).st_ino, os.fstat(other.fileno()).st_ino
        with open("/proc/self/comm", encoding="ascii") as file:
            process = Process(os.getpid(), file.read().rstrip())
        assert owners({mine, also}) == {mine: process, also: process}
    assert owners({mine}) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a process and can be somebody else")
def test_another_user_is_told_nothing(in_child):
    """And it is no error."""
    with socket.socket() as one:
        inode = os.fstat(one.fileno()).st_ino

        def as_nobody():
            one.close()  # the child's
            os.setresuid(*[NOBODY.pw_uid] * 3)
            return len(owners({inode}))

        assert in_child(as_nobody) == 0
        assert len(owners({inode})) == 1
