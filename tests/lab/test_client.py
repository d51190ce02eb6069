# SPDX-License-Identifier: GPL-2.0-or-later
"""`pcp mptcp` through a link failure, live and from the archive of it; and what it says when there is no answer."""

import os
import signal
import time
from pathlib import Path

import pytest

from . import wait_for
from .client import finish, pcp_mptcp, pcp_mptcp_json, start
from .pmcd import pcp_conf

LINKS = ["enp1s0", "enp2s0", "enp3s0"]


@pytest.fixture(scope="module")
def archive(lab):
    """iperf3 over three links, of which one goes down for some seconds; (archive, when it went, when it came back)."""
    path = lab.client.work / "failure"
    with lab.client.pmlogger("log mandatory on 1 sec { mptcp network.interface.inet_addr }", path):
        download = lab.iperf3(seconds=60, reverse=True)
        wait_for(lambda: lab.client.pminfo("mptcp.redundancy.connections")["3"] == 2, message="not all paths")
        time.sleep(4)
        lab.client.link_down(3)
        down = time.time()
        time.sleep(6)
        lab.client.link_up(3)
        up = time.time()
        time.sleep(5)
        download.stop()
    return str(path), down, up


@pytest.fixture
def download(lab):
    """iperf3 from the server to the client."""
    traffic = lab.iperf3(seconds=60, reverse=True)
    wait_for(lambda: lab.client.pminfo("mptcp.redundancy.connections")["3"] == 2, message="not all paths")
    yield traffic
    traffic.stop()


def established(found):
    """Without what earlier tests left half closed."""
    return [one for one in found["connections"] if one["state"] == "ESTAB"]


def test_the_overview_of_a_failure(lab, download):
    """Which link carries what, before and while one is down; the findings and the status of check go with it."""
    host = lab.client
    found = pcp_mptcp_json(host, "-t", "1", "-s", "1")["overview"]
    shares = {link["name"]: link["of_mptcp"] for link in found["links"] if link["of_mptcp"]}
    print(f"shares of MPTCP's traffic {shares}, findings {found['findings']}")
    assert found["connections"] == 2 and found["degraded_connections"] == 0 and found["findings"] == []
    assert sorted(shares) == LINKS and all(0.2 < share < 0.5 for share in shares.values())
    assert pcp_mptcp(host, "check")[:2] == (0, "MPTCP OK - nothing is wrong, 2 connections\n")
    host.link_down(3)
    try:
        wait_for(lambda: host.pminfo("mptcp.redundancy.degraded_connections")[None] == 2)
        status, out, _ = pcp_mptcp(host, "--color=never")
        print(out)
        assert status == 0
        assert "Redundancy: 2 with 2 live paths, 2 with fewer than they had" in out
        line = next(line for line in out.splitlines() if line.startswith("enp3s0"))
        assert line.split()[:3] == ["enp3s0", "down", "0"]
        assert "WARNING   2 of 2 connections have fewer live paths than they had" in out
        status, out, _ = pcp_mptcp(host, "check")
        print(out)
        assert status == 1 and out.startswith("MPTCP WARNING - 2 warnings, 2 connections\n")
        assert [line.split(":")[0] for line in out.splitlines()[1:]] == ["WARNING redundancy_lost", "WARNING link_down"]
    finally:
        host.link_up(3)


def test_nothing_is_left_is_critical(lab, download):
    """All links down: connections hang, which is worth a call."""
    host = lab.client
    for n in (1, 2, 3):
        host.link_down(n)
    try:
        wait_for(lambda: host.pminfo("mptcp.redundancy.connections")["0"] == 2)
        status, out, _ = pcp_mptcp(host, "check", "--only=redundancy_lost,link_down")
        print(out)
        assert status == 2 and "CRITICAL redundancy_lost: 2 of 2 connections without any live path" in out
        assert sum(line.startswith("CRITICAL link_down: enp") for line in out.splitlines()) == 3
    finally:
        for n in (1, 2, 3):
            host.link_up(n)


def test_tables(lab, download):
    """Connections and subflows, chosen by each of the filters; one connection with its subflows side by side."""
    host = lab.client
    data = established(pcp_mptcp_json(host, "connections", "--sort=in_rate"))
    busy = data[0]
    print({key: busy[key] for key in ("name", "remote", "live", "in_rate", "command")})
    assert len(data) == 2 and busy["remote"] == "10.0.1.2:5201" and busy["command"] == "iperf3"
    assert 5e6 < busy["in_rate"] < 25e6
    assert busy["in_rate"] == pytest.approx(sum(flow["in_rate"] for flow in busy["flows"]), rel=0.05)
    names = [one["name"] for one in data]
    for arguments, count in (((), 6), (("--interface=enp2s0",), 2), (("--address=10.0.3.2",), 2), (("--port=5201",), 6),
                             (("--process=iperf3",), 6), (("--process=nobody",), 0)):
        rows = pcp_mptcp_json(host, "subflows", *names, *arguments, "-t", "0.3", "-s", "1")["subflows"]
        assert len(rows) == count, arguments
    for name, count in ((busy["name"], 3), (busy["name"] + "::2", 1)):
        assert len(pcp_mptcp_json(host, "subflows", name, "-t", "0.3", "-s", "1")["subflows"]) == count
    _, out, _ = pcp_mptcp(host, "connections", busy["name"])
    print(out)
    assert f"{busy['name']}::1" in out and "Process     iperf3/" in out
    assert next(line.split()[1:] for line in out.splitlines() if line.startswith("HEALTH")) == ["ok"] * 3


def test_the_story_from_the_archive(lab, archive):
    """The events, the state at the end, and in the middle: from the archive alone, the host is not asked."""
    path, down, up = archive
    host = lab.server
    status, out, _ = pcp_mptcp(host, "-a", path, "events")
    print(out)
    assert status == 0 and "enp3s0: lost once, without traffic for" in out
    lost = next(line for line in out.splitlines() if " link_lost " in line)
    back = next(line for line in out.splitlines() if " link_back " in line)
    assert "enp3s0 lost: the link is down; it carried" in lost and "enp3s0 is back after" in back
    assert " link_lost " not in out.replace(lost, "")
    moment = time.strftime("@%Y-%m-%d %H:%M:%S", time.localtime(down + 4))
    found = pcp_mptcp_json(host, "-a", path, "-O", moment)["overview"]
    assert found["degraded_connections"] == 2
    assert [one["rule"] for one in found["findings"]] == ["redundancy_lost", "link_down"]
    assert {link["name"]: link["up"] for link in found["links"]}["enp3s0"] is False
    assert [one["live"] for one in established(pcp_mptcp_json(host, "-a", path, "connections", "-O", moment))] == [2, 2]
    status, out, _ = pcp_mptcp(host, "-a", path, "check", "-t", "2")
    assert status == 1 and "MPTCP OK" in out and "WARNING link_down: enp3s0 is down or gone" in out


def test_events_live(lab):
    """Told as they happen, until Ctrl-C."""
    process = start(lab.client, "events", "-t", "0.5")
    try:
        time.sleep(1.5)
        with lab.hold(2):
            time.sleep(1)
            lab.client.link_down(2)
            time.sleep(1)
            lab.client.link_up(2)
            time.sleep(1)
        time.sleep(1)
    finally:
        process.send_signal(signal.SIGINT)
        status, out, err = finish(process)
    print(out)
    assert status == 130 and not err
    for kind in ("connection_opened", "link_down", "link_up", "connection_closed"):
        assert kind in out


def one_line(answer, status, text):
    """Is it this status, and one line on standard error that says this?"""
    print(answer[2].strip())
    assert answer[0] == status and text in answer[2] and answer[2].startswith("pcp-mptcp: ")
    assert len(answer[2].splitlines()) == 1 and not answer[1]


def test_an_agent_that_ended(lab):
    """The agent is gone, then pmcd: each is told, with what to do."""
    host = lab.server

    def values():
        return " value " in host.pcp("pminfo", "-f", "mptcp.connections", check=False).stdout

    try:
        for _ in range(2):  # pmcd starts it again, but not a second time within a minute
            os.kill(host.agent_pid(), signal.SIGKILL)
            wait_for(lambda: not values(), message="pmcd did not notice")
            time.sleep(1)
            if not values():
                break
        assert not values()
        one_line(pcp_mptcp(host), 1, "the MPTCP agent on server does not answer: see mptcp.log")
        one_line(pcp_mptcp(host, "check"), 3, "the MPTCP agent on server does not answer")
        host.stop_pcp()
        one_line(pcp_mptcp(host), 1, "is it running there? systemctl start pmcd")
    finally:
        host.stop_pcp()
        host._start_pmcd()


def test_a_pmcd_without_the_agent(lab):
    """One that never had it."""
    host, conf = lab.server, pcp_conf()
    host.stop_pcp()
    without = Path(host.work) / "without.conf"
    lines = (host.work / "pmcd.conf").read_text().splitlines()
    without.write_text("\n".join(line for line in lines if not line.startswith("mptcp")) + "\n")
    names = Path(host.work) / "without_root"
    names.write_text((Path(conf["PCP_VAR_DIR"]) / "pmns" / "root_linux").read_text())
    pmcd = host.popen(Path(conf["PCP_BINADM_DIR"]) / "pmcd", "-f", "-A", "-U", "root", "-c", without, "-n", names,
                      "-s", host.pcp_socket, "-l", host.work / "log/without.log", cwd=host.work / "log")
    try:
        wait_for(lambda: host.pcp("pminfo", "-f", "hinv.ncpu", check=False).returncode == 0, timeout=10)
        one_line(pcp_mptcp(host, "connections"), 1, "pmcd on server has no MPTCP agent: run ./Install of the agent")
    finally:
        host.stop(pmcd)
        host._start_pmcd()
