# SPDX-License-Identifier: GPL-2.0-or-later
"""The script in the style of PCP's qa/ runs here as it would there, and says what it says there."""

import difflib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.qa import can
from .test_agent import METRICS

QA = Path(can.__file__).parent

#: What PCP's own common.python brings, as far as the script uses it.
COMMON = """
. /etc/pcp.env
PCP_PLATFORM=linux
python={python}
here=`pwd`
tmp=$here/work
sudo=
_notrun() {{ echo "$* (not run)"; exit 0; }}
"""


@pytest.fixture(name="qa")
def fixture_qa(tmp_path):
    """Run the script with this common.python; what it said and on which errors."""
    shutil.copy(QA / "mptcp.sh", tmp_path)
    shutil.copytree(QA / "mptcp", tmp_path / "mptcp", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "common.python").write_text(COMMON.format(python=sys.executable))

    def run(**environment):
        return subprocess.run(["sh", "./mptcp.sh"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=60, check=False,
                              env={**os.environ, "MPTCP_PMDA": str(QA.parents[1] / "pmda-mptcp"), **environment})

    return run


@pytest.mark.skipif(not shutil.which("dbpmda"), reason="dbpmda is not installed")
def test_output_is_as_expected(qa):
    """Line by line."""
    done = qa()
    expected = (QA / "mptcp.out").read_text()
    different = "\n".join(difflib.unified_diff(expected.splitlines(), done.stdout.splitlines(), "mptcp.out", "here",
                                               lineterm=""))
    assert (done.returncode, different) == (0, "")


def test_expected_output_says_something():
    """Every metric of the groups that it has, values in most of them, no address but those for documentation."""
    expected = (QA / "mptcp.out").read_text()
    asked = re.findall(r"^dbpmda> fetch (\S+)", expected, re.MULTILINE)
    left_out = ("mptcp.agent.", "mptcp.event.", "mptcp.service.", "mptcp.connection.pid", "mptcp.connection.command")
    assert sorted(asked) == sorted(name for name in METRICS if not name.startswith(left_out))
    assert len(re.findall(r"^ .*value ", expected, re.MULTILINE)) > 2 * len(asked)
    assert not re.findall(r"\b10\.\d+\.\d+\.\d+|\bfd00:|\b192\.168\.", expected)
    assert {"192.0.2.1", "198.51.100.1", "203.0.113.1"} <= set(re.findall(r"\d+\.\d+\.\d+\.\d+", expected))


def test_is_not_run_without_the_agent(qa):
    """It says why."""
    done = qa(MPTCP_PMDA="/nonexistent")
    assert done.returncode == 0 and "MPTCP PMDA is not installed (not run)" in done.stdout


def test_canned_data_is_what_was_recorded(tmp_path):
    """As the generator makes it; only addresses differ from the samples, and none of the lab's is left."""
    can.can(tmp_path)
    for name, sample in can.RECORDED.items():
        made = (tmp_path / name).read_bytes()
        assert made == (QA / "mptcp" / name).read_bytes(), name
        assert len(made) == (can.SAMPLES / sample).stat().st_size, name
    assert b"\x0a\x00\x01\x01" not in (tmp_path / "tcp4.bin").read_bytes()
