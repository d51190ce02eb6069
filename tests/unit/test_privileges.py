# SPDX-License-Identifier: GPL-2.0-or-later
"""From root to an ordinary user with one capability; in a forked child, for there is no way back."""

import os
import pwd

import pytest
from pmdamptcp import privileges

NOBODY = pwd.getpwnam("nobody")
NET_ADMIN = 1 << 12
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to give up")


def status():
    """Users, groups and capabilities of this process, as the kernel tells them."""
    with open("/proc/self/status", encoding="ascii") as file:
        fields = {name: text for name, _, text in (line.partition(":") for line in file)}
    return {
        name: fields[name].split()
        for name in ("Uid", "Gid", "Groups", "CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb", "NoNewPrivs")
    }


def drop():
    """Drop to nobody; returns what is left, whether the module knows it, and the log."""
    said = []
    privileges.drop("nobody", said.append)
    return [status(), privileges.net_admin(), said]


@needs_root
def test_root_becomes_the_user(in_child):
    """All of the user and group ids, and no group of root's."""
    left, _, said = in_child(drop)
    assert left["Uid"] == [str(NOBODY.pw_uid)] * 4
    assert left["Gid"] == [str(NOBODY.pw_gid)] * 4
    assert "0" not in left["Groups"]
    assert said == [said[0]] and "running as nobody" in said[0]


@needs_root
def test_one_capability_is_left_if_there_was_one(in_child):
    """In a container root may lack it, and then the log says so."""
    had = int(status()["CapPrm"][0], 16) & NET_ADMIN
    left, able, said = in_child(drop)
    assert int(left["CapEff"][0], 16) == int(left["CapPrm"][0], 16) == had
    assert int(left["CapInh"][0], 16) == int(left["CapAmb"][0], 16) == 0
    assert able is bool(had)
    assert ("CAP_NET_ADMIN" in said[-1] and "no capability" not in said[-1]) is bool(had)


@needs_root
def test_which_capabilities_are_left_is_the_caller_s_choice(in_child):
    """All that were asked for, or none; and a word only if there are none."""
    wanted = [privileges.Capability.CAP_DAC_READ_SEARCH, privileges.Capability.CAP_SYS_PTRACE]
    mask = sum(1 << number for number in wanted)
    had = int(status()["CapPrm"][0], 16) & mask == mask

    def try_it():
        said = []
        privileges.become("nobody", wanted, said.append)
        return [status(), said]

    left, said = in_child(try_it)
    assert left["Uid"] == [str(NOBODY.pw_uid)] * 4
    assert int(left["CapEff"][0], 16) == int(left["CapPrm"][0], 16) == (mask if had else 0)
    assert int(left["CapInh"][0], 16) == int(left["CapAmb"][0], 16) == int(left["CapBnd"][0], 16) == 0
    assert left["NoNewPrivs"] == ["1"]
    assert [line.split(" could")[0] for line in said] == ([] if had else ["CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE"])


@needs_root
def test_a_capability_that_root_lacks(in_child):
    """As in a container: none is left, and the log says which were wanted."""

    def try_it():
        every = (1 << 32) - 1
        low = int(status()["CapPrm"][0], 16) & every & ~(1 << privileges.Capability.CAP_SYS_PTRACE)
        header = privileges._HEADER.pack(privileges._CAPABILITY_VERSION_3, 0)
        privileges._libc.capset(header, privileges._DATA.pack(low, low, 0, 0, 0, 0))
        said = []
        wanted = [privileges.Capability.CAP_DAC_READ_SEARCH, privileges.Capability.CAP_SYS_PTRACE]
        privileges.become("nobody", wanted, said.append)
        return [status(), said]

    left, said = in_child(try_it)
    assert left["Uid"] == [str(NOBODY.pw_uid)] * 4
    assert int(left["CapEff"][0], 16) == int(left["CapPrm"][0], 16) == 0
    assert said == ["CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE could not be kept: Operation not permitted"]


@needs_root
def test_nothing_more_can_be_gained(in_child):
    """No set-user-id program gives it back, and the bounding set is empty."""
    left, _, _ = in_child(drop)
    assert left["NoNewPrivs"] == ["1"]
    assert int(left["CapBnd"][0], 16) == 0


@needs_root
def test_root_cannot_be_had_back(in_child):
    """The saved user id is gone, too."""

    def try_it():
        drop()
        tried = []
        for call, arguments in (
            (os.setuid, (0,)),
            (os.setresuid, (0, 0, 0)),
            (os.setgid, (0,)),
            (os.setgroups, ([0],)),
        ):
            try:
                call(*arguments)
                tried.append(call.__name__)
            except PermissionError:
                pass
        return tried

    assert in_child(try_it) == []


@needs_root
def test_without_the_user_it_does_not_go_on_as_root(in_child):
    """Rather no agent than one that runs as root."""

    def try_it():
        try:
            privileges.drop("no-such-user-here", lambda line: None)
        except KeyError:
            return "refused"
        return os.geteuid()

    assert in_child(try_it) == "refused"


def test_another_user_stays(in_child):
    """An agent that somebody starts by hand: nothing to drop, one line, and no capability to gain."""

    def as_somebody():
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(*[NOBODY.pw_gid] * 3)
            os.setresuid(*[NOBODY.pw_uid] * 3)
        user, said = os.geteuid(), []
        privileges.drop("root", said.append)
        return [os.geteuid() == user, privileges.net_admin(), status()["NoNewPrivs"], said]

    stayed, able, sealed, said = in_child(as_somebody)
    assert stayed and not able and sealed == ["1"]
    assert len(said) == 1
    assert "no capability" in said[0]


def test_a_user_without_a_name(in_child):
    """As in containers that run with any number."""

    def as_number():
        if os.geteuid() == 0:
            os.setresuid(*[3987654321] * 3)
        return privileges._user()

    expected = "uid 3987654321" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    assert in_child(as_number) == expected


def test_the_kernel_agrees_about_the_capability():
    """net_admin against /proc."""
    assert privileges.net_admin() is bool(int(status()["CapEff"][0], 16) & NET_ADMIN)


@needs_root
def test_a_log_is_not_written_through_a_link_of_the_user_s(tmp_path, in_child):
    """The directory is the user's: with a link in it, root would write into any file of the host."""
    victim, directory = tmp_path / "victim", tmp_path / "log"
    victim.write_text("root's")
    directory.mkdir()
    os.chown(directory, NOBODY.pw_uid, NOBODY.pw_gid)
    (directory / "mptcp.log").symlink_to(victim)
    tmp_path.chmod(0o755)

    def try_it():
        os.chdir(directory)
        tried = []
        with privileges.borrowing("nobody", "."):
            for name in ("mptcp.log", "other.log"):
                try:
                    with open(name, "w", encoding="ascii"):
                        tried.append(name)
                except PermissionError:
                    pass
        return [tried, os.geteuid(), os.getegid(), privileges.net_admin()]

    able = privileges.net_admin()
    assert in_child(try_it) == [["other.log"], 0, 0, able]
    assert victim.read_text() == "root's"
    assert (directory / "other.log").stat().st_uid == NOBODY.pw_uid


@needs_root
def test_in_a_directory_of_root_s_it_stays_root(tmp_path, in_child):
    """Where it is to write: nobody else can put anything there, and the user could not write. Not so to read."""

    def try_it():
        os.chdir(tmp_path)
        with privileges.borrowing("nobody", "."):
            writer = os.geteuid()
        with privileges.borrowing("nobody"):
            return [writer, os.geteuid()]

    assert in_child(try_it) == [0, NOBODY.pw_uid]


@needs_root
def test_the_last_capability_is_given_up(in_child):
    """Where neither events nor nftables are wanted; and once is enough."""

    def try_it():
        said = []
        privileges.become("nobody", [privileges.Capability.CAP_NET_ADMIN], lambda line: None)
        able = privileges.net_admin()
        privileges.give_up(said.append)
        privileges.give_up(said.append)
        return [able, status()["CapEff"], status()["CapPrm"], said]

    able, effective, permitted, said = in_child(try_it)
    assert int(effective[0], 16) == int(permitted[0], 16) == 0
    assert len(said) == able
