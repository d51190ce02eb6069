# SPDX-License-Identifier: GPL-2.0-or-later
"""The files for pmrep, dstat, pmchart and bash: well formed, and about metrics that exist."""

import configparser
import re
import subprocess
from pathlib import Path

import pytest

AGENT = Path(__file__).resolve().parents[2] / "pmda-mptcp"
PMREP = AGENT / "etc/pmrep/mptcp.conf"
DSTAT = AGENT / "etc/dstat/mptcp"
CHART = AGENT / "MPTCP.pmchart"
BASH = AGENT / "pcp-mptcp.bash"
GROUPS = AGENT / "etc/pmlogconf/mptcp"

METRICS = {line.split()[0]: line.split() for line in
           Path(__file__).with_name("metrics.golden").read_text(encoding="ascii").splitlines()}
#: Added after the agent's first release: an archive may lack them, so no formula needs them.
LATER = {"mptcp.redundancy.degraded_connections",
         "mptcp.interface.in.backup_bytes", "mptcp.interface.out.backup_bytes"}
OPTIONS = {"header", "unitinfo", "instinfo", "globals", "timestamp", "delimiter", "repeat_header", "ignore_unknown",
           "ignore_incompat", "width", "precision", "colxrow", "fixed_header", "live_filter", "instances",
           "limit_filter"}
SPECIFIERS = ("label", "instances", "unit", "type", "width", "precision", "limit")


def parsed(path):
    """The sections of a configuration file, read as pmrep and pcp-dstat read it."""
    config = configparser.RawConfigParser(delimiters="=" if path == PMREP else ("=", ":"))
    config.optionxform = str
    config.read_string(path.read_text(encoding="ascii"))
    return {name: dict(config[name]) for name in config.sections()}


def named(text):
    """All metrics that a text without comments names, but those that pmrep derives."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    return {name for name in re.findall(r"\bmptcp(?:\.\w+)+", lines) if not name.startswith("mptcp.view.")}


def columns(section):
    """Label, unit, width and metrics of each column of a metricset."""
    found = {}
    for key, value in section.items():
        if key in OPTIONS:
            continue
        identifier, _, specifier = key.rpartition(".")
        if "." in key and specifier not in SPECIFIERS + ("formula",):  # metric = label,instances,unit,...
            found[key] = dict(zip(SPECIFIERS, value.split(",")), metrics={key})
        elif "." not in key:
            found[key] = {"metrics": named(value), "name": value}
        else:
            found[identifier][specifier] = value
            found[identifier]["metrics"] |= named(value) if specifier == "formula" else set()
    return list(found.values())


SETS = parsed(PMREP)


def test_the_five_sets():
    """The names that the documentation promises."""
    assert list(SETS) == ["mptcp", "mptcp-interfaces", "mptcp-connections", "mptcp-subflows", "mptcp-events"]


@pytest.mark.parametrize("path", [PMREP, DSTAT, CHART], ids=lambda path: path.name)
def test_each_metric_exists(path):
    """Every name in the file is a metric of the agent."""
    used = named(path.read_text(encoding="ascii"))
    assert len(used) >= 5
    assert used <= set(METRICS), f"no metrics: {sorted(used - set(METRICS))}"


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_whole(name):
    """What keeps a set readable is on, a column has a short label, and a row fits 120 columns of a terminal."""
    section = SETS[name]
    assert (section["ignore_unknown"], section["ignore_incompat"], section["timestamp"]) == ("yes", "yes", "yes")
    by_instance = "colxrow" in section
    assert by_instance == (name != "mptcp")
    if by_instance:  # instances that come and go
        assert section["fixed_header"] == "yes"
    total = len("23:59:59 ") + (len(section["colxrow"]) - 2 + 1 if by_instance else 0)
    labels = []
    for column in columns(section):
        assert column["metrics"], column
        wide = int(column.get("width") or section["width"])
        label = column["label"].replace("%%", "%")
        assert 1 < len(label) <= wide, f"{name}: the label {label} is wider than {wide}"
        assert len(column.get("unit") or "") <= wide
        labels.append(label)
        total += wide + 1
    assert len(set(labels)) == len(labels)
    assert total - 1 <= 120, f"{name}: {total - 1} columns"


@pytest.mark.parametrize("name", SETS)
def test_units_fit_the_metrics(name):
    """Bytes are shown as bytes, counters of bytes as a rate, times as times."""
    scales = {"byte": {"MB", "KB"}, "microsec": {"ms"}, "millisec": {"s"}}
    for column in columns(SETS[name]):
        metric = METRICS[sorted(column["metrics"] - {"mptcp.connections"} or column["metrics"])[0]]
        semantics, units = metric[4], " ".join(metric[5:])
        unit = column.get("unit")
        if units in scales and "formula" not in column or unit:
            assert unit and unit.replace("/s", "") in scales[units], column
            assert unit.endswith("/s") == (semantics == "counter"), column


def test_formulas_need_no_later_metric():
    """pmrep gives up where an operand of a formula is unknown; ignore_unknown does not help."""
    derived = [column for section in SETS.values() for column in columns(section) if "formula" in column]
    assert len(derived) > 10
    for column in derived:
        assert column["name"].startswith("mptcp.view.")
        assert not column["metrics"] & LATER, column["name"]


@pytest.mark.skipif(not GROUPS.is_dir(), reason="nothing is recorded by default yet")
@pytest.mark.parametrize("name", ["mptcp", "mptcp-interfaces", "mptcp-events"])
def test_what_is_recorded_by_default_is_enough(name):
    """The sets without single connections work on an archive of the host's pmlogger."""
    recorded = set()
    for group in GROUPS.iterdir():
        lines = group.read_text(encoding="ascii").splitlines()
        if any(line.startswith("probe") and "? include" in line for line in lines):
            recorded |= {line.strip() for line in lines if line.startswith("\t")}
    for metric in set().union(*(column["metrics"] for column in columns(SETS[name]))):
        parts = metric.split(".")
        assert any(".".join(parts[:n]) in recorded for n in range(1, len(parts) + 1)), f"{metric} is not recorded"


def test_dstat():
    """Two plugins; no specifier that pcp-dstat assigns to the wrong one when it stands by a column."""
    plugins = parsed(DSTAT)
    assert list(plugins) == ["mptcp", "mptcp-links"]
    for section in plugins.values():
        dotted = [key for key in section if "." in key]
        assert dotted and all(key.endswith(".label") for key in dotted)
        assert all(key.split(".")[0] in section for key in dotted)
        assert all(len(section[key]) <= int(section["width"]) for key in dotted)


def test_chart():
    """The head that pmchart looks for, and as many plots as lines that name a metric."""
    lines = CHART.read_text(encoding="ascii").splitlines()
    assert lines[:2] == ["#kmchart", "version 1"]
    charts = [line for line in lines if line.startswith("chart title ")]
    assert len(charts) == 6 and all(re.search(r'\[%h\]" style (stacking|plot)$', line) for line in charts)
    plots = [line for line in lines if re.match(r"\t(optional-)?plot legend ", line)]
    assert len(plots) == sum("mptcp." in line for line in lines) >= 10


def test_the_same_interfaces_are_left_out_everywhere():
    """pmrep, dstat and pmchart agree on what only joins containers and virtual machines."""
    left_out = {re.search(r"(lo\$\|[\w|-]+)\)", line)[1] for path in (PMREP, DSTAT, CHART)
                for line in path.read_text(encoding="ascii").splitlines() if "lo$" in line}
    assert len(left_out) == 1, left_out


def test_completion_is_well_formed():
    """bash reads the file without a complaint, and it registers both names."""
    done = subprocess.run(["bash", "--norc", "-c", f"set -u; . {BASH}; complete -p pcp pcp-mptcp"],
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "complete -o default -F _pcp_mptcp pcp\ncomplete -o default -F _pcp_mptcp pcp-mptcp\n"
