# SPDX-License-Identifier: GPL-2.0-or-later
"""pmlogconf's groups: what they bring into an archive, and that a lost link can be read from it."""
import re
import time
from pathlib import Path

import pytest
from pcp import pmapi
import cpmapi

from . import wait_for
from .pmcd import REPOSITORY

GROUPS = REPOSITORY / "pmda-mptcp" / "etc" / "pmlogconf"
GOLDEN = REPOSITORY / "tests" / "unit" / "metrics.golden"
DEFAULT, DETAIL = {"summary", "counters", "settings"}, {"subflows"}
UNRECORDED = {"mptcp.interface.name"}  # the instances' names are recorded with the values


def metrics_of(group):
    """The names in a group file; some stand for all below them."""
    lines = (GROUPS / "mptcp" / group).read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#pmlogconf-setup 2.0", group
    return {line.strip() for line in lines if line[:1].isspace() and line.strip()}


def covers(name, metric):
    """Does a name in a group stand for a metric?"""
    return metric == name or metric.startswith(name + ".")


def test_groups_name_every_metric_once():
    """Nothing that the agent tells is forgotten, nothing is recorded twice, and no name is of a metric that is gone."""
    known = {line.split("\t")[0] for line in GOLDEN.read_text(encoding="utf-8").splitlines()}
    named = {group: metrics_of(group) for group in DEFAULT | DETAIL}
    assert {path.name for path in (GROUPS / "mptcp").iterdir()} == set(named)
    for metric in known:
        groups = [group for group, names in named.items() for name in names if covers(name, metric)]
        assert len(groups) == (metric not in UNRECORDED), f"{metric} is in {groups or 'no group'}"
    stale = {name for names in named.values() for name in names if not any(covers(name, metric) for metric in known)}
    assert not stale, f"no such metrics: {stale}"


def pmlogconf(host, path):
    """PCP's own program makes a configuration of the groups, or brings one up to date."""
    host.run("pmlogconf", "-c", "-r", "-q", "-h", "unix:", "-d", GROUPS, path)
    text = path.read_text(encoding="utf-8")
    state = dict(re.findall(r"^#\+ mptcp/(\w+):(\w):", text, re.MULTILINE))
    return text, state


@pytest.fixture(name="config")
def fixture_config(lab):
    """The configuration that a host gets, for its client."""
    path = lab.client.work / "pmlogger.conf"
    yield path
    path.unlink(missing_ok=True)


def test_which_groups_are_on(lab, config):
    """All but the detail; the detail once somebody asked for it, and it stays asked for."""
    text, state = pmlogconf(lab.client, config)
    assert state == {**dict.fromkeys(DEFAULT, "y"), **dict.fromkeys(DETAIL, "n")}
    assert "mptcp.subflow\n" not in text
    config.write_text(text.replace("#+ mptcp/subflows:n:", "#+ mptcp/subflows:y:"), encoding="utf-8")
    text, state = pmlogconf(lab.client, config)
    assert state["subflows"] == "y" and "\tmptcp.subflow\n" in text
    assert re.search(r"log advisory on 10 seconds \{\n\tmptcp.connections\n", text), "links are looked at every 10 s"


def archived(archive, metric):
    """Every value of a metric without its time: {instance or None: [values]}."""
    found = {}
    context = pmapi.pmContext(cpmapi.PM_CONTEXT_ARCHIVE, str(archive))
    ids = context.pmLookupName([metric])
    desc = context.pmLookupDesc(ids[0])
    kind = desc.contents.type
    names = {}
    if desc.contents.indom != cpmapi.PM_INDOM_NULL:
        names = dict(zip(*context.pmGetInDomArchive(desc)))
    while True:
        try:
            result = context.pmFetchArchive()
        except pmapi.pmErr as error:
            assert error.args[0] == cpmapi.PM_ERR_EOL
            return found
        for i in range(result.contents.numpmid):
            if result.contents.get_pmid(i) == ids[0]:
                for j in range(max(0, result.contents.get_numval(i))):
                    atom = context.pmExtractValue(result.contents.get_valfmt(i), result.contents.get_vlist(i, j),
                                                  kind, kind)
                    found.setdefault(names.get(result.contents.get_inst(i, j)), []).append(atom.dref(kind))
        context.pmFreeResult(result)


@pytest.mark.parametrize("version", [2, 3])
def test_lost_link_is_in_the_archive(lab, config, version):
    """Recorded with the default groups in fast motion: the link, its subflows and traffic, redundancy, and why."""
    text, _ = pmlogconf(lab.client, config)
    config.write_text(re.sub(r"on (default|\d+ \w+) \{", "on 200 msec {", text), encoding="utf-8")
    archive = lab.client.work / f"lost-link-{version}"
    traffic = lab.iperf3(seconds=60, reverse=True)
    logger = lab.client.popen("pmlogger", "-h", "unix:", "-V", version, "-c", config, "-l", f"{archive}.log", archive)
    try:
        wait_for_subflows(lab.client, archive, [2])
        lab.client.link_down(3)
        wait_for_subflows(lab.client, archive, [2, 0])
        time.sleep(1)  # some records without traffic
    finally:
        lab.client.stop(logger)
        lab.client.link_up(3)
        traffic.stop()
    assert changes(archived(archive, "mptcp.interface.up")["enp3s0"]) == [1, 0]
    assert changes(archived(archive, "mptcp.redundancy.connections")["3"])[-1] == 0
    third, first = (archived(archive, "mptcp.interface.in.bytes")[link] for link in ("enp3s0", "enp1s0"))
    assert third[0] < third[-1] == third[-3] and first[-3] < first[-1], "traffic moved away"
    for metric in ("mptcp.connections", "mptcp.mib.mpjoinsynackrx", "mptcp.event.sub_closed", "mptcp.agent.overruns",
                   "mptcp.pm.limits.subflows", "mptcp.sysctl.enabled", "mptcp.interface.total.in.bytes"):
        assert archived(archive, metric), f"{metric} has no value in the archive"
    label = lab.client.run("pmloglabel", "-l", archive).stdout
    assert f"Version {version}" in label, label


def wait_for_subflows(host, archive, wanted):
    """Until the archive's numbers of subflows on the third link end like this."""
    def recorded():
        try:
            return changes(archived(archive, "mptcp.subflows").get("enp3s0", []))
        except pmapi.pmErr:
            return []  # not begun

    try:
        wait_for(lambda: recorded()[-len(wanted):] == wanted, timeout=20)
    except TimeoutError:
        log = Path(f"{archive}.log").read_text(encoding="utf-8")
        pytest.fail(f"subflows on the third link: {host.pminfo('mptcp.subflows')} now, {recorded()} recorded, "
                    f"not {wanted}:\n{log}")


def changes(values):
    """The values without repetitions."""
    return [value for i, value in enumerate(values) if not i or value != values[i - 1]]
