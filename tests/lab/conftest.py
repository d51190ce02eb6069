# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures for the tests that need real MPTCP."""

import pytest

from . import Lab, missing


#: Files whose tests take a minute and more.  They begin first, or the last of them would run on alone.
LONG = {"test_packages", "test_walk", "test_alerts", "test_client", "test_timeline", "test_security", "test_soak",
        "test_walk_live", "test_story", "test_faults_processes", "test_dashboards", "test_listener"}


def pytest_collection_modifyitems(items):
    """Of all files that run beside each other."""
    items.sort(key=lambda item: item.path.stem not in LONG)


@pytest.fixture(scope="module")
def lab():
    """The lab of the tutorial, with PCP on both hosts; one for each test module."""
    problems = missing()
    if problems:
        pytest.skip("; ".join(problems))
    with Lab(rate="50mbit", delay_ms=5, links=3) as built:
        built.tutorial()
        built.client.start_pcp()
        built.server.start_pcp()
        yield built
