# SPDX-License-Identifier: GPL-2.0-or-later
"""net.mptcp: what the directory has is served, the rest has no value."""

import os

import pytest
from pmdamptcp.kernel import sysctl
from pmdamptcp.metrics import sysctl as table

from . import messages as m

LINUX_5_10 = {"enabled": "1"}
LINUX_6_1 = {
    **LINUX_5_10,
    "add_addr_timeout": "120",
    "checksum_enabled": "0",
    "allow_join_initial_addr_port": "1",
    "stale_loss_cnt": "4",
    "pm_type": "0",
}
LINUX_6_12 = {
    **LINUX_6_1,
    "scheduler": "default",
    "available_schedulers": "default",
    "close_timeout": "60",
    "blackhole_timeout": "3600",
}
LINUX_6_18 = dict(line.replace("net.mptcp.", "").split(" = ") for line in m.lines("sysctl_host-a.txt"))
FUTURE = {**LINUX_6_18, "add_addr_v6_port_drop_ts": "1", "warp_factor": "9"}


@pytest.fixture
def directory(tmp_path):
    """Make a directory of settings as the kernel writes them, each with a newline."""

    def make(settings):
        for name, text in settings.items():
            (tmp_path / name).write_text(text + "\n")
        return str(tmp_path)

    return make


@pytest.mark.parametrize("settings", [LINUX_5_10, LINUX_6_1, LINUX_6_12, LINUX_6_18, FUTURE])
def test_directory_of_each_kernel(directory, settings):
    """All that is there, and the metrics of all that is known; None for what is not there."""
    row = sysctl.read(directory(settings))
    assert row == settings
    for metric in table.METRICS:
        text = settings.get(metric.name.replace("mptcp.sysctl.", ""))
        assert metric.get(row) == (int(text) if text and text.isdigit() else text)


def test_the_recorded_kernel_has_no_setting_without_a_metric():
    """mptcp.sysctl.other is for newer ones."""
    assert len(LINUX_6_18) == 13
    assert set(LINUX_6_18) <= table.KNOWN
    assert set(FUTURE) - table.KNOWN == {"warp_factor"}


@pytest.mark.parametrize(
    "text, number", [("0", 0), ("4294967295", 4294967295), ("-1", None), ("", None), ("1 2", None)]
)
def test_what_is_no_number_has_no_value(directory, text, number):
    """The metric is an unsigned number."""
    row = sysctl.read(directory({"enabled": text}))
    assert (
        next(metric for metric in table.METRICS if metric.name == "mptcp.sysctl.enabled").get(row) == number
    )


def test_lists_are_one_line(directory):
    """As in available_path_managers; whatever white space stands between."""
    assert sysctl.read(directory({"available_path_managers": "kernel\tuserspace "})) == {
        "available_path_managers": "kernel userspace"
    }


def test_settings_that_cannot_be_read_are_left_out(directory, tmp_path):
    """A directory in the place of a file is what even root cannot read."""
    path = directory(LINUX_5_10)
    (tmp_path / "write_only").mkdir()
    assert sysctl.read(path) == LINUX_5_10


def test_a_setting_that_vanishes(directory, tmp_path):
    """Between listing and reading."""
    path = directory(LINUX_5_10)
    os.symlink("/nonexistent", tmp_path / "gone")
    assert sysctl.read(path) == LINUX_5_10


def test_a_kernel_without_mptcp(tmp_path):
    """No directory: left to the caller."""
    with pytest.raises(OSError):
        sysctl.read(str(tmp_path / "none"))
