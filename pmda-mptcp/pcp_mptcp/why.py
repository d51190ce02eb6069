# SPDX-License-Identifier: GPL-2.0-or-later
"""Why has a connection only one subflow, or none?

The verdict is the first bad step, for the later ones follow from it.
"""

from typing import Any, Dict, List, NamedTuple, Sequence

from . import text
from .case import Case
from .steps import BAD, GOOD, NOTE, STEPS, Step
from .text import Paint

_COLOURS = {GOOD: "green", NOTE: "grey", BAD: "red"}


class Diagnosis(NamedTuple):
    """All steps, and what follows from them."""

    steps: List[Step]
    healthy: bool
    verdict: str
    mend: Sequence[str]


def diagnose(case: Case) -> Diagnosis:
    """Look at each step; the first that is bad is the cause."""
    steps = [step(case) for step in STEPS]
    bad = next((one for one in steps if one.level == BAD), None)
    about = case.connections[0].name if len(case.connections) == 1 else "all of them" if case.connections else ""
    if case.healthy:
        return Diagnosis(steps, True, f"{about}: {case.paths} live paths over {', '.join(sorted(case.links))}; "
                         "nothing to mend", ())
    if bad:
        return Diagnosis(steps, False, bad.cause, bad.mend)
    if not case.connections:
        return Diagnosis(steps, True, "nothing is known to be wrong, but there is no single connection to look at", ())
    if case.view.userspace:
        return Diagnosis(steps, False, "the userspace path manager opened no further subflow",
                         ["is mptcpd running, and with which plugins? mptcpd(8)"])
    return Diagnosis(steps, False, f"{text.number(case.paths)} live path, and nothing on this host keeps it from more: "
                     "the cause is at the peer", ["on the peer: pcp mptcp why " + case.wanted])


def lines(found: Diagnosis, paint: Paint) -> List[str]:
    """The steps, the verdict, and what would mend it."""
    out = [f"{paint(_COLOURS[one.level], one.level.ljust(4))}  {one.name.ljust(10)} {text.printable(one.text)}"
           for one in found.steps]
    out += ["", paint("bold" if found.healthy else "red", "Verdict: ") + text.printable(found.verdict)]
    return out + [f"  mend: {text.printable(one)}" for one in found.mend]


def data(found: Diagnosis) -> Dict[str, Any]:
    """For programs."""
    return {"healthy": found.healthy, "verdict": found.verdict, "mend": list(found.mend),
            "steps": [one._asdict() for one in found.steps]}
