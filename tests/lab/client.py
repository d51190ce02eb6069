# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs `pcp mptcp` as its user does, against a host of the lab or an archive."""

import json
import signal
import subprocess

from .common import PYTHON
from .pmcd import REPOSITORY

SCRIPT = REPOSITORY / "pmda-mptcp" / "pcp-mptcp"


def start(host, *argv):
    """Start it on a host, against the host's pmcd unless it is given an archive; `-t 4` lets it look for 4 s."""
    source = () if "-a" in argv else ("-h", "unix:")
    return host.popen(PYTHON, SCRIPT, *source, *argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                      env=dict(host.env, PYTHONWARNINGS="error"),
                      # Where the tests run in the background, Ctrl-C is ignored, and so it would be there.
                      preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


def finish(process, timeout=60):
    """(exit status, output, errors) when it has ended."""
    out, err = process.communicate(timeout=timeout)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def pcp_mptcp(host, *argv):
    """Run it to its end: (exit status, output, errors)."""
    return finish(start(host, *argv))


def pcp_mptcp_json(host, *argv):
    """What it says to programs."""
    status, out, err = pcp_mptcp(host, "--json", *argv)
    assert out, f"status {status}: {err}"
    return json.loads(out)
