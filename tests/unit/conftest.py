# SPDX-License-Identifier: GPL-2.0-or-later
"""What all unit tests need: the agent on the path, repeatable property tests, a log to look at."""

import json
import os
import sys
import traceback
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "pmda-mptcp"))

# The same examples in each run: a failure in CI must be one at the desk, too.
settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("repeatable")


@pytest.fixture
def log():
    """A list that can be called: what the agent logged, line by line."""

    class Log(list):
        __call__ = list.append

    return Log()


@pytest.fixture
def kernel(monkeypatch):
    """host-a of the samples in the place of this host's kernel."""
    from .kernels import Kernel  # the agent is on the path only now

    return Kernel().install(monkeypatch)


@pytest.fixture
def in_child():
    """Run a function in a forked child, which may give up its privileges; its result comes as JSON."""

    def run(function):
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                os.write(writer, json.dumps(function()).encode())
            except BaseException:  # to pytest it would look like the parent's
                os.write(writer, json.dumps(traceback.format_exc()).encode())
            finally:
                os._exit(0)
        os.close(writer)
        with open(reader, "rb") as pipe:
            result = json.loads(pipe.read())
        os.waitpid(pid, 0)
        return result

    return run
