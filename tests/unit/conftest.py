# SPDX-License-Identifier: GPL-2.0-or-later
"""What all unit tests need: the agent on the path, repeatable property tests, a log to look at."""

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "pmda-mptcp"))

# The same examples in each run: a failure in CI must be one at the desk, too.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None,
                          suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
settings.load_profile("repeatable")


@pytest.fixture
def log():
    """A list that can be called: what the agent logged, line by line."""
    class Log(list):
        __call__ = list.append
    return Log()
