# SPDX-License-Identifier: GPL-2.0-or-later
"""Links go and come back under one connection: the rates, that it never ends, and that the archive has it all."""

import itertools
import shutil

import pytest

from . import missing
from .scenarios import walk


@pytest.fixture(autouse=True)
def possible():
    """The lab, PCP and ncat."""
    problems = missing() + ([] if shutil.which("ncat") else ["ncat is missing: Debian package ncat"])
    if problems:
        pytest.skip("; ".join(problems))


def recorded_at(archive, metric, when):
    """The values of a metric in an archive at a time, by instance; counters between two samples are interpolated."""
    import cpmapi
    from pcp import pmapi
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
    archive = story.archives[host.name]
    for name, phase in story.phases.items():
        # Half a second off the ends, where the samples of 1 s mix with what was before and after.
        start, end = phase.start + 0.5, phase.end - 0.5
        before, after = (recorded_at(archive, "mptcp.interface.in.bytes", when) for when in (start, end))
        for link, rate in phase.rates.items():
            told = (after[link] - before[link]) * 8e-6 / (end - start)
            print(f"{host.name}, {name}: {link} {rate:.1f} Mbit/s by the device, {told:.1f} of MPTCP in the archive")
            # The device counts headers, too, and polling is not at the same time.
            assert rate * 0.85 - 1 <= told <= rate * 1.1 + 1


def test_ethernet_is_unplugged_and_plugged_in(tmp_path):
    """Both links, Wi-Fi alone, both again: iperf3 is never disconnected and never without data for long."""
    with walk.ethernet_and_wifi() as lab:
        story = walk.unplug_ethernet(lab, tmp_path, both=6, without=8, again=6)
        print(story.table())
        both, alone, again = story.phases.values()
        for phase in (both, again):
            assert 160 < phase.total < 205
            assert min(phase.rates.values()) > 70
        assert alone.rates["eth0"] == 0 and 80 < alone.rates["wlan0"] < 105
        # iperf3 went to its end by itself, without an error.
        assert "error" not in story.report and story.report["end"]["sum_received"]["bytes"] > 0
        rates = [interval["sum"]["bits_per_second"] / 1e6 for interval in story.report["intervals"]]
        print("iperf3, Mbit/s each second:", [round(rate) for rate in rates])
        longest = max((len(list(group)) for still, group in itertools.groupby(rate < 1 for rate in rates) if still),
                      default=0)
        assert longest <= 2, f"no data for {longest} s"
        check_archive(story, lab.client)
        links = {text: recorded_at(story.archives["client"], "mptcp.interface.up", story.when(text) + 2)
                 for text in ("download starts", "Ethernet unplugged", "Ethernet carries again")}
        assert [link["eth0"] for link in links.values()] == [1, 0, 1]
        assert [link["wlan0"] for link in links.values()] == [1, 1, 1]


def test_an_ncat_connection_loses_its_links_one_by_one(tmp_path):
    """The link that the connection began on goes first; one link is enough to live, and all come back."""
    with walk.three_links() as lab:
        story = walk.lose_links(lab, tmp_path, each=5)
        print(story.table())
        assert story.connected, "ncat ended"
        working = {"three links": 3, "two links": 2, "one link": 1, "three links again": 3}
        for name, links in working.items():
            rates = list(story.phases[name].rates.values())
            assert [rate > 30 for rate in rates] == [False] * (3 - links) + [True] * links
            assert sum(rates[:3 - links]) < 1
            assert max(rates) < 55
        check_archive(story, lab.server)
        sole = {name: recorded_at(story.archives["client"], "mptcp.interface.sole_path_connections",
                                  story.phases[name].end - 0.5)["enp3s0"] for name in working}
        print(f"connections whose sole path is enp3s0: {sole}")
        assert list(sole.values()) == [0, 0, 1, 0]
