# SPDX-License-Identifier: GPL-2.0-or-later
"""The committed dashboards of PCP Vector: as generated, complete, and free of what the data source cannot do.

Other data sources have tests of their own; what holds for all dashboards is
asked of all that are there.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "dashboards"
FILES = sorted(FOLDER.glob("*.json"))
BOARDS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in FILES}
VECTOR_TYPE = "performancecopilot-vector-datasource"
VECTOR = ("mptcp-overview", "mptcp-interface", "mptcp-connections", "mptcp-connection", "mptcp-troubleshooting",
          "mptcp-agent")
FUNCTIONS = {"rate", "delta", "instant", "sum", "avg", "max", "min", "count", "scalar", "defined", "matchinst"}
OTHER_METRICS = re.compile(r"(network|pmcd|kernel)\.[\w.]+$")
BUILT_IN = {"__value", "__url_time_range", "__data", "__from", "__to", "instance", "metric", "metric0", "expr",
            "__field", "__rate_interval", "hostname"}


def golden():
    """Type, domain (- for none) of each metric."""
    lines = (Path(__file__).parent / "metrics.golden").read_text(encoding="ascii").splitlines()
    return {name: (kind, indom) for name, _, kind, indom, *_ in (line.split("\t") for line in lines)}


GOLDEN = golden()


def panels(board):
    """Those that show data, of collapsed rows too."""
    for panel in board["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", ())
        elif panel["type"] != "text":
            yield panel


def queries(names=VECTOR):
    """(dashboard, panel, query) of all queries."""
    return [(name, panel, query) for name in names for panel in panels(BOARDS[name]) for query in panel["targets"]]


def metrics_of(expr):
    """The names of metrics in an expression; instances and patterns are no names."""
    bare = re.sub(r"\[[^]]*\]", " ", re.sub(r"matchinst\(\s*!?/[^/]*/\s*,", "matchinst(", expr))
    return [word for word in re.findall(r"[a-zA-Z]\w*(?:\.[a-zA-Z]\w*)*", bare) if word not in FUNCTIONS]


def variables_in(thing):
    """Names of the variables that are used anywhere in it."""
    text = json.dumps(thing)
    found = {one or other for one, other in re.findall(r"\$(?:\{([A-Za-z_]\w*)|([A-Za-z_]\w*))", text)}
    return {name for name in found if name not in BUILT_IN}


def test_generated_and_committed_are_the_same():
    """Needs the SDK of requirements.txt; without it only a run that must have it fails."""
    found = subprocess.run([sys.executable, "-c", "import grafana_foundation_sdk"], capture_output=True, check=False)
    if found.returncode:
        if os.environ.get("REQUIRE_SDK"):
            pytest.fail("REQUIRE_SDK is set, and grafana_foundation_sdk is not there: dashboards/requirements.txt")
        pytest.skip("grafana_foundation_sdk is not there: dashboards/requirements.txt")
    ran = subprocess.run([sys.executable, "-B", "-m", "dashboards.generator", "--check"], cwd=ROOT,
                         capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_all_are_there():
    assert set(VECTOR) <= set(BOARDS)


def test_uids_titles_and_files_agree():
    for stem, board in BOARDS.items():
        assert board["uid"] == stem
        assert board["title"].startswith("MPTCP ")
    assert len({board["title"] for board in BOARDS.values()}) == len(BOARDS)


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_is_complete(name):
    board = BOARDS[name]
    assert board["editable"] is False
    assert board["description"] and "mptcp" in board["tags"]
    assert board["refresh"] in board["timepicker"]["refresh_intervals"]  # else Grafana 12 does not refresh at all
    link, = board["links"]
    assert link["type"] == "dashboards" and link["tags"] == ["mptcp"] and link["keepTime"] and link["includeVars"]


@pytest.mark.parametrize("name", BOARDS)
def test_a_panel_is_complete(name):
    for panel in panels(BOARDS[name]):
        title = panel["title"]
        assert title and len(panel["description"]) > 40, title
        assert panel["targets"], title
        assert panel["fieldConfig"]["defaults"].get("unit"), title
        if panel["type"] in ("stat", "gauge", "bargauge"):
            none, *_ = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
            assert "value" not in none or none["value"] is None, title
            assert none["color"] != "green", f"{title}: what has no value looks good"
            assert panel["fieldConfig"]["defaults"].get("noValue"), title
        if panel["type"] == "timeseries":
            assert panel["options"]["legend"]["showLegend"] is True, title
            assert panel["options"]["tooltip"]["mode"] == "multi", title


@pytest.mark.parametrize("name", BOARDS)
def test_ids_of_panels_and_queries_are_unique(name):
    board = BOARDS[name]
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    for panel in panels(board):
        letters = [query["refId"] for query in panel["targets"]]
        assert len(letters) == len(set(letters)), panel["title"]


@pytest.mark.parametrize("name", BOARDS)
def test_panels_do_not_overlap_and_fit(name):
    taken = {}
    for panel in BOARDS[name]["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies on {taken[x, y]}"
                taken[x, y] = panel["title"]


@pytest.mark.parametrize("name", BOARDS)
def test_variables_that_are_used_are_defined(name):
    board = BOARDS[name]
    defined = {one["name"] for one in board["templating"]["list"]}
    assert variables_in(board["panels"]) <= defined
    for one in board["templating"]["list"]:
        if one["type"] == "query":
            assert one["refresh"] == 2, one["name"]  # on a change of the time range


@pytest.mark.parametrize("name", BOARDS)
def test_the_data_source_is_a_variable(name):
    board = BOARDS[name]
    # Each kind of data source has its own name for it: links between dashboards keep variables.
    (variable,) = (one["name"] for one in board["templating"]["list"] if one["type"] == "datasource")
    for panel in panels(board):
        for one in (panel, *panel["targets"]):
            assert one["datasource"]["uid"] == f"${{{variable}}}", panel["title"]


@pytest.mark.parametrize("name", BOARDS)
def test_links_lead_to_dashboards_that_are_there(name):
    for uid, query in re.findall(r"/d/([\w-]+)\?([^\"]*)", json.dumps(BOARDS[name])):
        assert uid in BOARDS
        defined = {one["name"] for one in BOARDS[uid]["templating"]["list"]}
        assert set(re.findall(r"var-(\w+)=", query)) <= defined
        assert "${__url_time_range}" in query


def test_the_same_colours_everywhere():
    """A regexp on legends means the same colour in every panel of every dashboard."""
    colours = {}
    for board in BOARDS.values():
        for panel in panels(board):
            for one in panel["fieldConfig"]["overrides"]:
                for found in one["properties"]:
                    if found["id"] == "color" and one["matcher"]["id"] == "byRegexp":
                        colours.setdefault(one["matcher"]["options"], set()).add(found["value"]["fixedColor"])
    assert all(len(found) == 1 for found in colours.values()), colours
    kinds = {"/^wl/": "blue", "/^(en|eth)/": "yellow", "/^(ww|usb)/": "purple", "/^lo( |$)/": "#808080"}
    assert {kind: next(iter(colours[kind])) for kind in kinds} == kinds


def test_every_line_of_an_interface_is_coloured():
    """In panels whose legend is an instance of the interfaces."""
    for _, panel, query in queries():
        if panel["type"] == "timeseries" and any(GOLDEN.get(name, ("", ""))[1] == "4"
                                                 for name in metrics_of(query["expr"])):
            regexps = {one["matcher"]["options"] for one in panel["fieldConfig"]["overrides"]}
            assert {"/^wl/", "/^(en|eth)/", "/^(ww|usb)/", "/^lo( |$)/"} <= regexps, panel["title"]


# PCP Vector

def test_the_formats_of_a_panel_agree():
    for _, panel, query in queries():
        assert query["datasource"]["type"] == VECTOR_TYPE
        assert query["format"] == panel["targets"][0]["format"], panel["title"]
        assert query["format"] == ("time_series" if panel["type"] == "timeseries" or "time shown" in panel["title"]
                                   else "metrics_table"), panel["title"]


def test_every_metric_is_there():
    named = {metric for _, _, query in queries() for metric in metrics_of(query["expr"])}
    named |= {one["query"] for name in VECTOR for one in BOARDS[name]["templating"]["list"] if one["type"] == "query"}
    assert len(named) > 100
    unknown = {metric for metric in named if metric not in GOLDEN and not OTHER_METRICS.match(metric)}
    assert not unknown


def test_every_counter_of_the_kernel_is_on_troubleshooting():
    shown = {metric for _, _, query in queries(["mptcp-troubleshooting"]) for metric in metrics_of(query["expr"])}
    assert {name for name in GOLDEN if name.startswith("mptcp.mib.")} - shown == {"mptcp.mib.mpcurrestab"}


def test_expressions_are_such_that_the_server_survives_them():
    """Nested functions spoil its lexer, and text in an expression ends pmproxy 6.0.3."""
    for _, panel, query in queries():
        expr = query["expr"]
        for name, argument in re.findall(r"\b([a-z]+)\(([^()]*(?:\(|\)))", re.sub(r"/[^/]*/\s*,", "", expr)):
            if name in FUNCTIONS:
                assert re.match(r"\s*[\w.]+\s*\)$", argument), f"{panel['title']}: {expr}"
        if not re.match(r"[\w.]+$", expr):
            text = [metric for metric in metrics_of(expr) if GOLDEN.get(metric, ("",))[0] == "string"]
            assert not text, f"{panel['title']}: {expr}"


def test_nothing_stands_still_when_the_agent_goes():
    """A value without instances is repeated for ever, so it is tied to pmcd's list of agents; text cannot be."""
    for _, panel, query in queries():
        metrics = metrics_of(query["expr"])
        if all(GOLDEN.get(name, ("", "x"))[1] == "-" for name in metrics):
            assert metrics == ["mptcp.agent.mode"], f"{panel['title']}: {query['expr']}"
            assert "stays when the agent goes" in panel["description"]


def test_counters_are_asked_for_as_rates():
    """The data source's own conversion draws spikes, so it is off."""
    for _, panel, query in queries():
        assert query["options"] == {"rateConversion": False, "timeUtilizationConversion": False}, panel["title"]


def test_lines_end_where_their_values_end():
    """With the transformations and the threshold that it takes, longer than any refresh that is offered."""
    for name in VECTOR:
        longest = max(int(one[:-1]) for one in BOARDS[name]["timepicker"]["refresh_intervals"]) * 1000
        for panel in panels(BOARDS[name]):
            if panel["type"] == "timeseries":
                used = [one["id"] for one in panel["transformations"]]
                assert "prepareTimeSeries" in used and "renameByRegex" in used, panel["title"]
                assert panel["fieldConfig"]["defaults"]["custom"]["insertNulls"] > longest, panel["title"]


def test_legends_are_made_again():
    """The names of the data source's fields become the legends of the queries."""
    for _, panel, query in queries():
        if panel["type"] == "timeseries" and "$instance" not in query["legendFormat"]:
            patterns = {one["options"]["renamePattern"] for one in panel["transformations"]
                        if one["id"] == "renameByRegex"}
            assert query["legendFormat"] in patterns, panel["title"]


def test_findings_have_the_names_of_the_rules():
    from pcp_mptcp.checks import RULES
    tiles = {query["legendFormat"] for _, panel, query in queries(["mptcp-overview"]) if "wrong" in panel["title"]}
    assert tiles == {rule.name for rule in RULES}
