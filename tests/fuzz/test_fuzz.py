# SPDX-License-Identifier: GPL-2.0-or-later
"""A short run of every target, with a seed that stays and one that does not, and what went wrong before."""

from random import SystemRandom

import pytest

from .found import FOUND
from .run import replay, run
from .targets import TARGETS

_NAMED = {target.name: target for target in TARGETS}
_SECONDS = 0.25  # for each run: the inputs that fit are fed


@pytest.mark.parametrize("seed", [1, None])
@pytest.mark.parametrize("name", _NAMED)
def test_hostile_input(name, seed):
    """Nothing escapes, nothing is invented, nothing takes long, nothing grows."""
    seed = SystemRandom().randrange(1 << 31) if seed is None else seed
    report = run(_NAMED[name], 10_000, seed, _SECONDS)
    for what, index, data in report.findings:
        print(f"seed {seed}, input {index}: {what}\n    python3 -m tests.fuzz --target '{name}' --replay {data.hex()}")
    assert not report.wrong, report._replace(findings=[one.what for one in report.findings])
    assert report.accepted and report.signatures > 1, report


@pytest.mark.parametrize("name, data", FOUND)
def test_what_was_found_stays_mended(name, data):
    """Each input with the target as it is when it has seen only good ones."""
    assert replay(_NAMED[name], data) is None


def test_the_same_seed_gives_the_same_inputs():
    """Else nothing that is found could be seen again."""
    one, other = (run(_NAMED["events"], 3000, 7) for _ in range(2))
    assert (one.accepted, one.refused, one.signatures) == (other.accepted, other.refused, other.signatures)
