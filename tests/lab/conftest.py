# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures for the tests that need real MPTCP."""

import pytest

from . import Lab, missing


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
