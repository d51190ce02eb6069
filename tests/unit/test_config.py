# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration file: what is wrong in it costs a line in the log, and nothing else."""

import os
import re
from pathlib import Path

import pytest
from pmdamptcp import config
from pmdamptcp.config import Processes
from pmdamptcp.masks import Remote

DEFAULTS = config.Config()
STRICT = DEFAULTS._replace(processes=Processes.NO, remote_addresses=Remote.NONE)


@pytest.fixture
def read(tmp_path, log):
    """Read a configuration of this content; bytes or text."""

    def configuration(content):
        path = tmp_path / "mptcp.conf"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return config.read(str(path), log)

    return configuration


def test_no_file(tmp_path, log):
    """The usual case: defaults, without a word."""
    assert config.read(str(tmp_path / "none"), log) == DEFAULTS
    assert log == []


@pytest.mark.parametrize(
    "content, expected",
    [
        ("", DEFAULTS),
        ("[mptcp]\n", DEFAULTS),
        ("# sample_age = 7\n[mptcp]\n", DEFAULTS),
        ("[mptcp]\nsample_age = 2.5\n", DEFAULTS._replace(sample_age=2.5)),
        ("[mptcp]\nsample_age: 0\ninstances: 0\n", config.Config(0.0, 0)),
        ("[mptcp]\nSAMPLE_AGE = 1\nInstances=12\n", config.Config(1.0, 12)),
        ("[mptcp]\nlistener = No\nnftables=on\n", DEFAULTS._replace(listener=False, nftables=True)),
        ("[mptcp]\nprocesses = ALL\nremote_addresses=Network\nseccomp=off\n",
         DEFAULTS._replace(processes=Processes.ALL, remote_addresses=Remote.NETWORK, seccomp=False)),
        ("[mptcp]\nprocesses = on\nremote_addresses: none\n", DEFAULTS._replace(remote_addresses=Remote.NONE)),
        ("[mptcp]\nprocesses = 0\nreceive_buffer = 65536",
         DEFAULTS._replace(processes=Processes.NO, receive_buffer=65536)),
    ],
)
def test_settings(read, log, content, expected):
    """In any spelling that INI files allow."""
    found = read(content)
    assert found == expected
    assert [type(value) for value in found] == [float, int, bool, int, Processes, Remote, bool, tuple, bool, bool]
    assert log == []


@pytest.mark.parametrize("text", ["-1", "-0.001", "nan", "inf", "1e300", "", "soon", "1,5", "%(instances)s"])
def test_a_sample_age_that_makes_no_sense(read, log, text):
    """Named in the log, and the other setting holds."""
    assert read(f"[mptcp]\nsample_age = {text}\ninstances = 5\n") == DEFAULTS._replace(instances=5)
    assert len(log) == 1
    assert "sample_age" in log[0] and text in log[0]


@pytest.mark.parametrize("text", ["-1", "1.5", "2147483648", "many", "0x10"])
def test_a_number_of_instances_that_makes_no_sense(read, log, text):
    """Instance counts are whole numbers."""
    assert read(f"[mptcp]\ninstances = {text}\nsample_age = 1\n") == DEFAULTS._replace(sample_age=1.0)
    assert len(log) == 1


@pytest.mark.parametrize("text", ["2", "maybe", "", "-1", "yes please"])
def test_a_switch_that_is_neither_on_nor_off(read, log, text):
    """It stays as it is."""
    assert read(f"[mptcp]\nnftables = {text}\nsample_age = 1\n") == DEFAULTS._replace(sample_age=1.0)
    assert len(log) == 1 and "nftables" in log[0]


@pytest.mark.parametrize(
    "content, word",
    [
        ("[mptcp]\ncolour = red\n", "colour"),
        ("[mpctp]\nsample_age = 3\n", "mpctp"),
        ("[mptcp]\n_fields = 3\n", "_fields"),
        ("[mptcp]\ncount = 3\n", "count"),
    ],
)
def test_unknown_settings_and_sections(read, log, content, word):
    """Also names that only happen to be attributes of the record."""
    assert read(content) == DEFAULTS
    assert len(log) == 1
    assert word in log[0]


@pytest.mark.parametrize(
    "content",
    [
        "sample_age = 3\n",
        "[mptcp\nsample_age = 3\n",
        "[mptcp]\nsample_age\n",
        "[mptcp]\nsample_age=1\nsample_age=2\n",
        "[mptcp]\n[mptcp]\n",
        b"[mptcp]\nsample_age = \xff\n",
        bytes(range(256)),
    ],
)
def test_files_that_are_no_configuration(read, log, content):
    """One line, though configparser's own messages have several; what it may have wanted hidden is hidden."""
    assert read(content) == STRICT
    assert len(log) == 1
    assert log[0].isprintable() and len(log[0]) < 400


def test_a_directory_in_its_place(tmp_path, log):
    """Not readable even for root."""
    assert config.read(str(tmp_path), log) == STRICT
    assert len(log) == 1


def test_a_pipe_in_its_place(tmp_path, log):
    """Nobody writes to it, and to wait for that would be to hang."""
    os.mkfifo(tmp_path / "mptcp.conf")
    assert config.read(str(tmp_path / "mptcp.conf"), log) == STRICT
    assert len(log) == 1 and "is no file" in log[0]


def test_a_device_in_its_place(log):
    """It never ends."""
    assert config.read("/dev/zero", log) == STRICT
    assert len(log) == 1 and "is no file" in log[0]


def test_links(tmp_path, log):
    """One that leads to a file is followed; one that leads to itself, or nowhere, is none."""
    (tmp_path / "file").write_text("[mptcp]\nsample_age = 3\n")
    for name, target in (("one", "file"), ("loop", "loop"), ("nowhere", "none")):
        (tmp_path / name).symlink_to(target)
    assert config.read(str(tmp_path / "one"), log) == DEFAULTS._replace(sample_age=3.0)
    assert config.read(str(tmp_path / "nowhere"), log) == DEFAULTS
    assert not log
    assert config.read(str(tmp_path / "loop"), log) == STRICT
    assert len(log) == 1


def test_a_file_that_is_too_large(tmp_path, log):
    """It is not read to its end, which may be far."""
    path = tmp_path / "mptcp.conf"
    with open(path, "wb") as file:
        file.truncate(1 << 40)
    assert config.read(str(path), log) == STRICT
    assert len(log) == 1 and "larger" in log[0]


@pytest.mark.parametrize("key, text", [("processes", "some"), ("processes", ""), ("remote_addresses", "networks"),
                                       ("remote_addresses", "yes"), ("remote_addresses", "")])
def test_a_slip_of_the_pen_shows_nothing(read, log, key, text):
    """What was meant is not known, but that something was to be hidden."""
    found = read(f"[mptcp]\n{key} = {text}\nsample_age = 1\n")
    assert found == DEFAULTS._replace(sample_age=1.0, **{key: getattr(STRICT, key)})
    assert len(log) == 1 and f"{getattr(STRICT, key).value} is used" in log[0]


def test_terminals_are_not_told_what_to_do(read, log):
    """A log is read with one."""
    read("[mptcp]\nsample_age = \x1b[2J\nn\x1b[2J = 1\n[s\x1b[2J]\n")
    assert len(log) == 3
    assert all(line.isprintable() for line in log)


def test_a_file_that_may_not_be_read(tmp_path, in_child):
    """The agent is not root when it reads."""
    path = tmp_path / "mptcp.conf"
    path.write_text("[mptcp]\nsample_age = 3\n")
    path.chmod(0)

    def read_as_nobody():
        if os.geteuid() == 0:
            os.setuid(65534)
        said = []
        return [config.read(str(path), said.append) == STRICT, said]

    strict, said = in_child(read_as_nobody)
    assert strict
    assert len(said) == 1
    assert "Permission denied" in said[0]


def test_the_file_that_is_installed_says_the_defaults(read, log):
    """Its values are comments; uncommented they change nothing."""
    text = (Path(config.__file__).resolve().parents[1] / "mptcp.conf").read_text(encoding="utf-8")
    assert read(text) == DEFAULTS
    settings = re.findall(r"^#(\w+ = .*)$", text, flags=re.MULTILINE)
    assert [setting.split()[0] for setting in settings] == list(DEFAULTS._fields)
    assert read("[mptcp]\n" + "\n".join(settings)) == DEFAULTS
    assert log == []
