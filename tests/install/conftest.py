# SPDX-License-Identifier: GPL-2.0-or-later
"""What all tests of Install begin and end with."""

from pathlib import Path

import pytest

from . import host as this_host


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """One after the other, also where others run beside them: there is one pmcd on a host."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.xdist_group("install"))


@pytest.fixture(scope="module", autouse=True)
def host():
    """This host with pmcd running; after the last test it is as it was."""
    was_running = bool(this_host.running_agents())
    this_host.start_pmcd()
    yield
    this_host.remove("--purge")
    if not was_running:
        this_host.stop_pmcd()
