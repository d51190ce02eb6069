# SPDX-License-Identifier: GPL-2.0-or-later
"""Every query of every dashboard, asked of the real services while traffic runs, and while things break."""

import contextlib
import math
import os
import re
import signal
import time

import pytest
import yaml

from . import Lab, LabError, alerting, grafana, missing, services, wait_for
from .common import run
from .dashboards import (
    BOARDS, DASHBOARDS, GOLDEN, HOSTS, LINKS, SPEED, live_answers, metrics_of, opened, refresh, spec, vector_pages)
from .pmcd import REPOSITORY
from .services import ServiceError, bare_pmcd

ALERTS = DASHBOARDS / "provisioning" / "alerting" / "mptcp.yaml"
INTERFACE = {row[0] for row in GOLDEN if row[3] == "4"}
RATE = 10e6  # of a link, bit/s
#: What has no value here, and why.
QUIET = {"mptcp.interface.wire": "needs an nftables table", "mptcp.event.subflow_closed_by.error": "no socket failed",
         "mptcp.mib.rcvpruned": "older kernels", "mptcp.mib.other": "newer kernels"}
#: Metrics without instances that a live dashboard may show: pmproxy repeats their last value when the agent is dead.
STILL = {"mptcp.agent.mode": "text cannot be tied to the agent's status, which is shown beside it"}


@pytest.fixture(scope="module", name="lab")
def fixture_lab():
    """Slow links, which leave more of the machine to all the services."""
    problems = missing() + services.missing()
    if problems:
        pytest.skip("; ".join(problems))
    with Lab(rate=f"{RATE:.0f}bit", delay_ms=5, links=3) as built:
        built.tutorial()
        for host in built.hosts:
            host.configure("processes = all\n")  # else pmproxy is told of none
        yield built


@pytest.fixture(scope="module", name="scene")
def fixture_scene(lab):
    """All services and traffic, for the whole module; its last tests break them."""
    with opened(lab) as found:
        yield found


def has_unit(panel):
    """Whether a panel says in which unit it shows numbers, or words for them."""
    config = panel.get("fieldConfig", {})
    settings = [config.get("defaults", {})] + [
        {setting["id"]: setting["value"] for setting in override["properties"]}
        for override in config.get("overrides", ())]
    return any(setting.get("unit") or setting.get("mappings") for setting in settings)


@pytest.mark.parametrize("name", BOARDS)
def test_every_query_has_data(scene, name):
    """No query fails, and each has values of at least one host; numbers are finite, strings are in tables."""
    found = scene.answers[name]
    assert found, "no queries"
    failed = [str(answer) for answer in found if answer.error]
    assert not failed, "\n".join(failed)
    seen = {}
    for answer in found:
        seen.setdefault((answer.panel["title"], answer.target["refId"]), []).append(answer)
    empty = [str(several[0]) for several in seen.values() if not any(answer.values for answer in several)
             and not any(quiet in several[0].expr for quiet in QUIET)]
    assert not empty, "no host has values of\n" + "\n".join(empty)
    for answer in found:
        assert has_unit(answer.panel), f"no unit: {answer}"
        for value in answer.values.values():
            if isinstance(value, str):
                assert answer.panel["type"] in ("table", "stat"), f"text in {answer}"
            else:
                assert math.isfinite(value), str(answer)


@pytest.mark.parametrize("name", BOARDS)
def test_instances_are_those_that_are_there(scene, name):
    """A query of links has all three and no other, or the one that was chosen; and what they carry is true."""
    for answer in scene.answers[name]:
        if not metrics_of(answer) or metrics_of(answer) - INTERFACE or re.search(r"sum\(|\.wire\.", answer.expr):
            continue
        links = {instance for _, instance in answer.values}
        assert links <= LINKS | {"lo"}, f"what is not a link: {answer}"
        if not set(re.findall(r"\$\{?(\w+)", answer.target["expr"])) - {"host", "hosts", "hostname", "__rate_interval"}:
            assert LINKS <= links or " > 0" in answer.expr, f"links are missing: {answer}"
        per_bit = {"bps": 1, "Bps": 8, "binBps": 8}.get(answer.panel["fieldConfig"]["defaults"].get("unit"))
        for (host, link), value in answer.values.items():
            if metrics_of(answer) == {"mptcp.interface.in.bytes"} and per_bit and link in LINKS and "client" in host:
                assert 0.02 * RATE < value * per_bit < 1.1 * RATE, f"{link} carries {value}: {answer}"


@pytest.mark.parametrize("name", BOARDS)
def test_nothing_that_would_stand_still(scene, name):
    """Live queries of the agent have instances, their own or that of its status, but for those that are allowed."""
    bare = {str(answer) for answer in live_answers(scene.pages, name)
            if metrics_of(answer) - set(STILL) and any(instance is None for _, instance in answer.values)}
    assert not bare, "\n".join(bare)


def test_variables_offer_what_is_there(scene):
    """Both hosts of the history and of Prometheus, and the links, by name."""
    assert set(scene.valkey.ask("label_values(hostname)")) == set(HOSTS)
    assert set(scene.prom.ask("label_values(mptcp_connections, hostname)")) == set(HOSTS)
    page = grafana.Vector(scene.pmproxy, spec(scene.lab.client))
    assert LINKS <= set(page.ask("mptcp.interface.name"))
    with pytest.raises(grafana.QueryError):
        page.ask("mptcp.no.such.metric")
    assert scene.valkey.ask("label_values(hostname) and more") == []


def test_provisioning(tmp_path):
    """Files have what Grafana's provisioning wants, and fit together; Prometheus takes its own."""
    files = {path.parent.name: yaml.safe_load(path.read_text(encoding="utf-8"))
             for path in ALERTS.parents[1].glob("*/*.yaml")}
    assert set(files) == {"plugins", "datasources", "dashboards", "alerting"}
    assert all(file["apiVersion"] == 1 for file in files.values())
    sources = files["datasources"]["datasources"] + yaml.safe_load(
        (DASHBOARDS / "prometheus/datasource.yaml").read_text(encoding="utf-8"))["datasources"]
    assert all({"name", "uid", "type", "access", "url"} <= set(source) for source in sources)
    for name, board in BOARDS.items():
        assert board["uid"] == name and board["title"]
        for variable in board["templating"]["list"]:
            if variable["type"] == "datasource":
                default = variable["query"], variable["current"]["value"]
                assert default in [(source["type"], source["name"]) for source in sources], f"{name}: {default}"
    (provider,) = files["dashboards"]["providers"]
    assert provider["type"] == "file" and provider["options"]["path"]
    documented = set(re.findall(r"^\| `(\w+)`", (REPOSITORY / "docs/alerts.md").read_text(encoding="utf-8"), re.M))
    rules = alerting.rules(ALERTS)
    assert len({rule["uid"] for rule in rules}) == len({rule["title"] for rule in rules}) == len(rules)
    for rule in rules:
        assert re.fullmatch(r"[\w-]{1,40}", rule["uid"]) and re.fullmatch(r"\d+[sm]", rule["for"])
        assert rule["noDataState"] == "OK" and rule["execErrState"] in ("OK", "Error")
        assert rule["labels"]["rule"] in documented and rule["annotations"]["summary"]
        assert {node["datasourceUid"] for node in rule["data"]} == {"__expr__", "pcp-valkey"}
        assert rule["condition"] == rule["data"][-1]["refId"]
    for group in files["alerting"]["groups"]:
        assert group["folder"] and group["name"] and group["interval"]
    (tmp_path / "prometheus.yml").write_text(
        (DASHBOARDS / "prometheus/scrape.yml").read_text(encoding="utf-8")
        + f"rule_files: [{DASHBOARDS}/prometheus/rules.yml]\n", encoding="utf-8")
    run("promtool", "check", "config", tmp_path / "prometheus.yml")
    native = yaml.safe_load((DASHBOARDS / "prometheus/rules.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
    assert {rule["labels"]["rule"] for rule in native} == {rule["labels"]["rule"] for rule in rules}


def test_alerts_are_silent_and_fire(scene):
    """Grafana's rules on the history and Prometheus' own: none on a sound host, each when its fault is caused."""
    client, rules = scene.lab.client, {rule["uid"]: rule for rule in alerting.rules(ALERTS)}

    def grafana_fires():
        return {uid: found for uid, rule in rules.items() if (found := alerting.firing(rule, scene.valkey, SPEED))}

    def prometheus_fires():
        return {(alert["labels"]["alertname"], alert["labels"]["hostname"], alert["labels"].get("instname"))
                for alert in scene.prometheus.json("/api/v1/alerts")["data"]["alerts"] if alert["state"] == "firing"}

    assert not grafana_fires() and not prometheus_fires()
    client.link_down(3)
    try:
        wait_for(lambda: {("MptcpLinkDown", "client", "enp3s0"), ("MptcpRedundancyLost", "client", None),
                          ("MptcpStalledSubflows", "server", "enp3s0")} <= prometheus_fires(), 20,
                 message=prometheus_fires)
        wait_for(lambda: {"mptcp-link-down", "mptcp-redundancy-lost", "mptcp-stalled-subflow"} <= set(grafana_fires()),
                 message=grafana_fires)
        fired = grafana_fires()
        assert [(one["hostname"], one["interface"]) for one in fired["mptcp-link-down"]] == [("client", "enp3s0")]
        assert "client" in {one["hostname"] for one in fired["mptcp-redundancy-lost"]}
        assert [(one["hostname"], one["interface"]) for one in fired["mptcp-stalled-subflow"]] == [("server", "enp3s0")]
    finally:
        client.link_up(3)
    with scene.lab.hold(8, server_mptcp=False):
        wait_for(lambda: "mptcp-fallback-opened" in grafana_fires(), message=grafana_fires)
        wait_for(lambda: ("MptcpFallback", "client", None) in prometheus_fires(), message=prometheus_fires)
    wait_for(lambda: not [one for one in prometheus_fires() if one[0] == "MptcpLinkDown"], message=prometheus_fires)
    wait_for(lambda: "mptcp-link-down" not in grafana_fires(), message=grafana_fires)


def test_what_is_gone_has_no_value(scene):
    """Connections that end leave tables and lines; when the agent dies, all but what has no instances is empty."""
    lab, pages = scene.lab, scene.pages
    with lab.hold(1) as held:
        refresh(pages)
        port = str(held.port)
        assert instances(pages, port), "the new connection is nowhere"
    for host in (lab.client, lab.server):
        wait_for(lambda host=host: not host.sockets("state", "established", f"( sport = :{port} or dport = :{port} )"))
    time.sleep(0.2)  # the agent's sample is at most so old
    refresh(pages)
    assert not instances(pages, port), "a connection that ended is still told"


def instances(pages, text):
    """Queries that have an instance with this text in its name."""
    return [str(answer) for answer in live_answers(pages)
            if any(text in str(instance) for _, instance in answer.values)]


def test_an_agent_that_starts_anew(scene):
    """Its counters begin at 0: no rate is negative, or larger than the links are, live and in the history."""
    host, pages = scene.lab.client, of_the_client(scene.pages)
    began, before = time.time(), host.agent_pid()
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: agent(host) not in (None, before) and told(pages), timeout=20, message="pmcd does not restart it")
    for _ in range(3):
        time.sleep(0.7)
        refresh(pages)
        for answer in live_answers(pages):
            for value in answer.values.values():
                assert isinstance(value, str) or 0 <= value < 1e12, str(answer)
            if metrics_of(answer) == {"mptcp.interface.in.bytes"} and answer.panel["type"] == "timeseries":
                assert all(value < 1.5 * RATE for value in answer.values.values()), str(answer)
    history = scene.valkey.series({"expr": 'mptcp.interface.in.bytes{hostname == "client"}'}, time.time() - began)
    assert all(0 <= value < 1.5 * RATE / 8 for points in history.values() for _, value in points), history


def test_an_agent_that_is_dead(scene):
    """No panel tells a value of it: also not what pmproxy repeats of metrics that have no instances."""
    host, pages = scene.lab.client, of_the_client(scene.pages)

    def stays_dead():
        if agent(host):
            os.kill(agent(host), signal.SIGKILL)  # a second time within a minute: pmcd leaves it at that
        status = host.pcp("pminfo", "-f", "pmcd.agent.status", check=False).stdout
        return '"mptcp"]' in status and '"mptcp"] value 0\n' not in status

    wait_for(stays_dead, message="pmcd starts it again and again")
    refresh(pages)
    left = {str(answer) for answer in live_answers(pages) if answer.values and metrics_of(answer) - set(STILL)}
    assert not left, "told by an agent that is dead:\n" + "\n".join(sorted(left))


def of_the_client(pages):
    """The pages that show the client."""
    return {key: page for key, page in pages.items() if key[1] == "client"}


def agent(host):
    """The process of the agent, or None."""
    with contextlib.suppress(LabError, OSError):
        return host.agent_pid()


def told(pages):
    """Refresh; whether the agent tells anything.  A refresh may fail while it starts; the next one is another."""
    try:
        refresh(pages)
    except grafana.QueryError as error:
        print(error)
        return False
    return any(answer.values and metrics_of(answer) for answer in live_answers(pages))


def test_a_host_without_the_agent(scene):
    """Panels of MPTCP say that the metric is not there; those of other metrics go on."""
    with bare_pmcd(scene.lab.client) as bare:
        for (name, _), (page, variables) in vector_pages(scene.pmproxy, {"bare": bare}, lenient=True).items():
            for answer in page.answers(BOARDS[name], variables):
                if metrics_of(answer):
                    assert answer.error and not answer.values, str(answer)
                else:
                    assert not answer.error, str(answer)


def test_a_pmproxy_that_is_down(scene):
    """An error and no value, wherever it is asked."""
    scene.pmproxy.close()
    with pytest.raises(ServiceError):
        grafana.Vector(scene.pmproxy, spec(scene.lab.client))
    with pytest.raises(grafana.QueryError):
        refresh(scene.pages)
    for name in BOARDS:
        for answer in scene.valkey.answers(BOARDS[name], {"host": ["client"], "hosts": [".*"]}, 3):
            assert answer.error and not answer.values, str(answer)
    wait_for(lambda: not scene.prom.query("mptcp_connections") and scene.prom.query("up == 0"), timeout=20,
             message="Prometheus goes on telling what nobody says")
