# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration file: what is wrong in it costs a line in the log, and nothing else."""

import os
import re
from pathlib import Path

import pytest
from pmdamptcp import config

DEFAULTS = config.Config()


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
        ("[mptcp]\nprocesses = 0\nreceive_buffer = 65536", DEFAULTS._replace(processes=False, receive_buffer=65536)),
    ],
)
def test_settings(read, log, content, expected):
    """In any spelling that INI files allow."""
    found = read(content)
    assert found == expected
    assert [type(value) for value in found] == [float, int, bool, int, bool, bool]
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
    """One line, though configparser's own messages have several."""
    assert read(content) == DEFAULTS
    assert len(log) == 1
    assert "\n" not in log[0]


def test_a_directory_in_its_place(tmp_path, log):
    """Not readable even for root."""
    assert config.read(str(tmp_path), log) == DEFAULTS
    assert len(log) == 1


def test_a_file_that_may_not_be_read(tmp_path, in_child):
    """The agent is not root when it reads."""
    path = tmp_path / "mptcp.conf"
    path.write_text("[mptcp]\nsample_age = 3\n")
    path.chmod(0)

    def read_as_nobody():
        if os.geteuid() == 0:
            os.setuid(65534)
        said = []
        return [config.read(str(path), said.append), said]

    settings, said = in_child(read_as_nobody)
    assert settings == list(DEFAULTS)
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
