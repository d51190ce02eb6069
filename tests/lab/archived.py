# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads archives of the lab afterwards: single values, and what `pcp mptcp` tells from an archive and nothing else."""

import json
import time

import cpmapi
from pcp import pmapi

from .client import SCRIPT
from .common import PYTHON, run


def recorded_at(archive, metric, when):
    """The values of a metric in an archive at a time, by instance; counters between two samples are interpolated."""
    context = pmapi.pmContext(cpmapi.PM_CONTEXT_ARCHIVE, str(archive))
    pmids = context.pmLookupName([metric])
    desc = context.pmLookupDesc(pmids[0])
    set_mode = getattr(context, "pmSetModeHighRes", context.pmSetMode)  # PCP 6, PCP 7
    set_mode(cpmapi.PM_MODE_INTERP, pmapi.timespec(int(when), int(when % 1 * 1e9)), pmapi.timespec(1, 0))
    result = context.pmFetch(pmids)
    try:
        found, kind = result.contents, desc.contents.type
        return {context.pmNameInDom(desc, found.get_inst(0, i)): context.pmExtractValue(
            found.get_valfmt(0), found.get_vlist(0, i), kind, kind).dref(kind) for i in range(found.get_numval(0))}
    finally:
        context.pmFreeResult(result)


def check_archive(story, host):
    """The agent's bytes of each phase, as recorded, are what the devices counted; and links were as they were."""
    archive = story.archives[host]
    for name, phase in story.phases.items():
        # Half a second off the ends, where the samples of 1 s mix with what was before and after.
        start, end = phase.start + 0.5, phase.end - 0.5
        before, after = (recorded_at(archive, "mptcp.interface.in.bytes", when) for when in (start, end))
        for link, rate in phase.rates.items():
            told = (after[link] - before[link]) * 8e-6 / (end - start)
            print(f"{host}, {name}: {link} {rate:.1f} Mbit/s by the device, {told:.1f} of MPTCP in the archive")
            # The device counts headers, too, and polling is not at the same time.
            assert rate * 0.85 - 1 <= told <= rate * 1.1 + 1


def read(archive, *argv):
    """`pcp mptcp` with an archive and nothing else: (exit status, output, errors)."""
    found = run(PYTHON, SCRIPT, "-a", archive, *argv, check=False)
    assert "Traceback" not in found.stderr, found.stderr
    return found.returncode, found.stdout, found.stderr


def read_json(archive, *argv):
    """The same for programs, a list of what it said."""
    status, out, err = read(archive, "--json", *argv)
    assert out, f"status {status}: {err}"
    return json.loads(out)


def events(archive, *kinds):
    """What happened, of some kinds."""
    _, out, _ = read(archive, "events")
    print(out)
    told = map(json.loads, read(archive, "events", "--json")[1].splitlines())
    return [one for one in told if one["kind"] in kinds]


def at(when):
    """A time as an option wants it."""
    return "@" + time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))


def overview(archive, when):
    """The overview of a moment, and its links by name."""
    found = read_json(archive, "-O", at(when))["overview"]
    return found, {link["name"]: link for link in found["links"]}


def mbit(octets):
    """Bytes per second as Mbit/s."""
    return octets * 8e-6
