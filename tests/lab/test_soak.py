# SPDX-License-Identifier: GPL-2.0-or-later
"""A minute of what `tests/bench/run.py soak` does for half an hour."""

from types import SimpleNamespace

from tests.bench import soak


def test_a_minute_of_churn_and_flapping_links_with_four_clients():
    """Nothing is lost, nobody waits long, counters only grow; the output has the figures."""
    # How long an answer takes is for a machine that has nothing else to do.
    missed = soak.main(SimpleNamespace(host="server", rate=100, life=100, minutes=1), tail=10.0)
    assert not missed, "a budget was missed, see what was printed"
