# SPDX-License-Identifier: GPL-2.0-or-later
"""The program pcp-mptcp, and archives for it, as fixtures: import what is named _healthy, _make and _folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .archives import write
from .client_host import changed, record

SCRIPT = Path(__file__).resolve().parents[2] / "pmda-mptcp" / "pcp-mptcp"
COMMAND = [sys.executable, str(SCRIPT)]
COMMANDS = ("", "connections", "subflows", "events", "why", "check")


def environment(**more):
    """Without what the desk of a developer has set."""
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "PCP_CONF", "TZ")}
    return {**kept, "LC_ALL": "C.UTF-8", "PYTHONWARNINGS": "error", **more}


def run(*words, **more):
    """The program's status, output and errors."""
    done = subprocess.run([*COMMAND, *words], env=environment(**more), capture_output=True, timeout=60, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory):
    return tmp_path_factory.mktemp("archives")


@pytest.fixture(scope="module", name="healthy")
def _healthy(folder):
    """A minute of a healthy host, a record each ten seconds."""
    return write(folder / "healthy", {second: record(second) for second in range(0, 61, 10)})


@pytest.fixture(scope="module", name="make")
def _make(folder):
    """An archive of two records, the later with a fault."""
    def make(name, changes, host="client"):
        path = folder / name
        if not path.with_name(name + ".0").exists():
            write(path, {0: record(10), 10: changed(record(20), changes)}, host=host)
        return str(path)

    return make
