# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent as PCP sees it: under dbpmda(1), which plays pmcd, on this host's kernel."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import fill

import pytest
from pmdamptcp.metrics.registry import GROUPS

ENTRY = Path(__file__).resolve().parents[2] / "pmda-mptcp" / "pmdamptcp.python"
METRICS = {
    metric.name: (f"262.{group.cluster}.{item}", group, metric)
    for group in GROUPS
    for item, metric in enumerate(group.metrics)
}
DOMAINS = {group.domain.serial: group.domain for group in GROUPS if group.domain}
NO_VALUE_HERE = (
    "Metric not supported by this version of monitored application",
    "Try again. Information not " "currently available",
    "No values returned!",
)
pytestmark = pytest.mark.skipif(not shutil.which("dbpmda"), reason="dbpmda is not installed")


@pytest.fixture(scope="module")
def dbpmda(tmp_path_factory):
    """Run commands under dbpmda in a directory where the agent may log; returns {command: answer}."""
    directory = tmp_path_factory.mktemp("dbpmda")
    (directory / "root").write_text("root {\n\tmptcp\t262:*:*\n}\n")

    def run(*commands):
        opening = [f"open pipe {sys.executable} {ENTRY}", "getdesc on"]
        done = subprocess.run(
            ["dbpmda", "-n", "root", "-ie"],
            cwd=directory,
            input="\n".join([*opening, *commands]) + "\n",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "PMDAMPTCP_CONFIG": str(directory / "none"), "PYTHONDONTWRITEBYTECODE": "1",
                 "PYTHONWARNINGS": "error"},
        )
        assert done.returncode == 0
        answers = re.split(r"^dbpmda> (.*)\n", done.stdout, flags=re.MULTILINE)
        found = dict(zip(answers[1::2], answers[2::2]))
        assert [command for command in commands if command not in found] == []
        return found, done.stderr, (directory / "mptcp.log").read_text()

    return run


def test_names_descriptors_and_texts(dbpmda):
    """All metrics answer, as their tables say, through the name space that the agent itself serves."""
    commands = [f"{what} {name}" for name in METRICS for what in ("pmid", "desc", "text")]
    found, errors, _ = dbpmda(*commands)
    assert errors == ""
    for name, (pmid, group, metric) in METRICS.items():
        assert found[f"pmid {name}"] == f"Metric: {name}\n   {pmid}\n"
        description = found[f"desc {name}"]
        domain = f"262.{group.domain.serial} " if group.domain else "PM_INDOM_NULL"
        assert f"InDom: {domain}" in description
        assert {1: "32-bit unsigned int", 3: "64-bit unsigned int", 6: "string"}[metric.type] in description
        assert {1: "counter", 3: "instant", 4: "discrete"}[metric.semantics] in description
        assert found[f"text {name}"] == f"PMID: {pmid}\n[{metric.oneline}]\n{fill(metric.help, 78)}\n"


def test_the_name_space(dbpmda):
    """All groups, all metrics, and first the one that people look for."""
    found, errors, _ = dbpmda("children mptcp", "traverse mptcp")
    assert errors == ""
    groups = re.findall(r"leaf (\S+)", found["children mptcp"])
    assert groups[0] == "subflows"
    assert sorted(groups) == sorted({name.split(".")[1] for name in METRICS})
    assert set(re.findall(r"mptcp\.[\w.]+", found["traverse mptcp"])) == set(METRICS)


def test_instances_texts_and_labels_of_domains(dbpmda):
    """Also of those that are empty here; a host has at least its loopback."""
    commands = [
        command
        for serial in DOMAINS
        for command in (f"text indom 262.{serial}", f"instance 262.{serial}", f"label instances 262.{serial}")
    ]
    found, errors, _ = dbpmda(*commands)
    assert errors == ""
    for serial, domain in DOMAINS.items():
        assert (
            found[f"text indom 262.{serial}"] == f"pmInDom: 262.{serial}\n[{domain.oneline}]\n{fill(domain.help, 78)}\n"
        )
    assert re.search(r'name: "lo"', found["instance 262.4"])
    assert re.findall(r'name: "(.*)"', found["instance 262.3"]) == [
        "0",
        "1",
        "2",
        "3",
        "4",
        "5",
        "6",
        "7",
        "8+",
    ]
    assert 'interface="lo"' in found["label instances 262.4"]


def test_every_metric_can_be_fetched(dbpmda):
    """A value, or one of the words for none; nothing in the log but who the agent is."""
    found, errors, log = dbpmda(*(f"fetch {name}" for name in METRICS))
    assert errors == ""
    for name, (pmid, _, _) in METRICS.items():
        answer = found[f"fetch {name}"]
        assert f"PMID(s): {pmid}\n" in answer
        assert "value " in answer or any(word in answer for word in NO_VALUE_HERE), answer
    assert "Traceback" not in log
    assert len(re.findall(r"Info: running as (?!root)", log)) == 1 or os.geteuid() != 0


def test_all_metrics_in_one_fetch(dbpmda):
    """As pmlogger asks."""
    found, errors, _ = dbpmda("fetch " + " ".join(METRICS))
    assert errors == ""
    [answer] = [text for command, text in found.items() if command.startswith("fetch")]
    assert f"numpmid: {len(METRICS)}\n" in answer


@pytest.mark.skipif(not os.path.isdir("/proc/sys/net/mptcp"), reason="this kernel has no MPTCP")
def test_values_are_this_hosts(dbpmda):
    """One of a plain group, one with instances."""
    found, _, _ = dbpmda("fetch mptcp.sysctl.enabled", "fetch mptcp.interface.name")
    with open("/proc/sys/net/mptcp/enabled", encoding="ascii") as file:
        assert f"value {file.read().strip()}\n" in found["fetch mptcp.sysctl.enabled"]
    assert 'value "lo"' in found["fetch mptcp.interface.name"]
