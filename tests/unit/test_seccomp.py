# SPDX-License-Identifier: GPL-2.0-or-later
"""System calls that are given up, tried one by one; in a forked child, for there is no way back."""

import ctypes
import errno
import os
import re
import socket
import subprocess
import threading
from pathlib import Path

import pytest
from pmdamptcp import privileges, seccomp

MACHINE = os.uname().machine
HEADERS = {"x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
           "aarch64": Path("/usr/include/asm-generic/unistd.h")}
here = pytest.mark.skipif(MACHINE not in seccomp.ARCHITECTURES, reason=f"{MACHINE} has no list")
_libc = ctypes.CDLL(None, use_errno=True)


def call(number):
    """The error of a system call without arguments that make sense: none of them does anything."""
    ctypes.set_errno(0)
    arguments = [ctypes.c_long(-1)] * 6
    return errno.errorcode.get(ctypes.get_errno()) if _libc.syscall(ctypes.c_long(number), *arguments) == -1 else None


def restricted(function):
    """What to run in the child: the function, behind the filter."""

    def run():
        said = []
        privileges._libc.prctl(38, 1, 0, 0, 0)
        assert seccomp.restrict(said.append), said
        return function()

    return run


@here
def test_each_call_of_the_list_is_refused(in_child):
    """EPERM for every one of them, and not by chance: others fail otherwise."""
    column = seccomp.ARCHITECTURES[MACHINE][1]
    numbers = {name: numbers[column] for name, numbers in seccomp.CALLS.items() if numbers[column] is not None}
    assert len(numbers) > 50
    close, read = {"x86_64": (3, 0), "aarch64": (57, 63)}[MACHINE]
    found = in_child(restricted(lambda: [{name: call(number) for name, number in numbers.items()},
                                         call(close), call(read)]))
    assert found == [dict.fromkeys(numbers, "EPERM"), "EBADF", "EBADF"]


@here
def test_no_program_can_be_started(in_child):
    """By Python's own means."""

    def try_it():
        try:
            subprocess.run(["/bin/true"], check=True)
        except PermissionError:
            return "refused"
        return "started"

    assert in_child(try_it) == "started"
    assert in_child(restricted(try_it)) == "refused"


@here
def test_calls_of_another_abi_are_refused(in_child):
    """x32's have numbers of their own, and a list that forgets them is none."""
    if MACHINE == "x86_64":
        assert in_child(restricted(lambda: call(0x40000000 + 39))) == "EPERM"


@here
def test_nothing_is_written_and_nobody_is_called(in_child, tmp_path):
    """Files can be read, and netlink's sockets opened: that is all."""
    tmp_path.joinpath("there").write_text("before", encoding="ascii")

    def try_it():
        allowed = []
        for name, mode in (("there", "r"), ("there", "w"), ("there", "r+"), ("there", "a"), ("new", "w")):
            try:
                with open(tmp_path / name, mode, encoding="ascii"):
                    allowed.append(mode)
            except PermissionError:
                pass
        for family in (socket.AF_NETLINK, socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_PACKET):
            try:
                socket.socket(family, socket.SOCK_RAW if family == socket.AF_NETLINK else socket.SOCK_DGRAM).close()
                allowed.append(family.name)
            except PermissionError:
                pass
        one, other = socket.socketpair()
        one.sendall(b"x")
        return allowed + [other.recv(1).decode()]

    assert in_child(restricted(try_it)) == ["r", "AF_NETLINK", "x"]
    assert tmp_path.joinpath("there").read_text(encoding="ascii") == "before"
    assert not tmp_path.joinpath("new").exists()


@here
def test_threads_take_it_over_and_work(in_child):
    """Those that are started later; and sockets, files and times are as before."""

    def try_it():
        found = []

        def work():
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4), open("/proc/self/comm", "rb"):
                found.append(call(seccomp.CALLS["execve"][seccomp.ARCHITECTURES[MACHINE][1]]))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        with open("/proc/self/status", encoding="ascii") as file:
            found.append(re.search(r"^Seccomp:\s+(\d)", file.read(), re.MULTILINE)[1])
        return found

    assert in_child(restricted(try_it)) == ["EPERM", "2"]


@pytest.mark.parametrize("machine", list(HEADERS))
def test_numbers_are_the_kernel_s(machine):
    """As the headers of libc have them."""
    if not HEADERS[machine].exists():
        pytest.skip(f"no {HEADERS[machine]}")
    numbers = {name: int(number) for name, number in re.findall(
        r"^#define __NR_(\w+)\s+(\d+)$", HEADERS[machine].read_text(encoding="ascii"), re.MULTILINE)}
    column = seccomp.ARCHITECTURES[machine][1]
    calls = {**seccomp.CALLS, "socket": seccomp.SOCKET, "openat": seccomp.OPENAT}
    assert {name: numbers.get(name) for name in calls} == {name: call[column] for name, call in calls.items()}


def test_an_unknown_machine_is_told(monkeypatch, log):
    """And nothing is done."""
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "host", "6.18", "", "riscv64")))
    assert not seccomp.restrict(log)
    assert log == ["seccomp: no list of system calls for riscv64, none is given up"]


@here
def test_a_kernel_that_refuses_is_told(in_child):
    """Without PR_SET_NO_NEW_PRIVS an ordinary user may not."""

    def try_it():
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)
        said = []
        return [seccomp.restrict(said.append), said]

    if privileges._libc.prctl(39, 0, 0, 0, 0) == 1:
        pytest.skip("these tests run with PR_SET_NO_NEW_PRIVS")
    assert in_child(try_it) == [False, ["seccomp: Permission denied, no system call is given up"]]
