# SPDX-License-Identifier: GPL-2.0-or-later
"""Fallback, no MPTCP, loopback, recording, and faults on the way."""

import re
import time

import pytest

from . import Lab, wait_for

CONNECTION_METRICS = ("mptcp.connections", "mptcp.fallback.connections")


def totals(host):
    """(MPTCP, fallen back) connections."""
    return tuple(host.pminfo(metric)[None] for metric in CONNECTION_METRICS)


def test_plain_tcp_server_is_a_fallback(lab):
    """The client asks for MPTCP, the server does not speak it: fallback there, plain TCP here, no subflow anywhere."""
    with lab.hold(2, payload=b"hello", server_mptcp=False):
        wait_for(lambda: totals(lab.client) == (0, 2), message="no fallback seen")
        print(f"client {totals(lab.client)}, server {totals(lab.server)}")
        assert totals(lab.server) == (0, 0)
        assert list(lab.client.pminfo("mptcp.connection.fallback").values()) == [1, 1]
        assert list(lab.client.pminfo("mptcp.connection.in.bytes").values()) == [5, 5]
        assert lab.client.pminfo("mptcp.subflow.state") == {}
        assert set(lab.client.pminfo("mptcp.subflows").values()) == {0}
        assert lab.client.pminfo("mptcp.mib.mpcapablefallbacksynack")[None] >= 2
    wait_for(lambda: totals(lab.client) == (0, 0), message="the fallback did not end")


def test_plain_tcp_is_not_counted(lab):
    """Plain TCP to an MPTCP server is nobody's MPTCP."""
    with lab.hold(2, payload=b"hello", client_mptcp=False):
        time.sleep(0.3)
        assert totals(lab.client) == totals(lab.server) == (0, 0)
        print("two plain connections: none counted on either side")


def test_a_connection_over_loopback(lab):
    """Both ends on one host: two connections, whose packets leave by lo."""
    host = lab.client
    server = host.popen("mptcpize", "run", "ncat", "-l", "127.0.0.1", "7001", stdin=-1)
    wait_for(lambda: ":7001" in host.run("ss", "-Hltn").stdout, message="no listener")
    client = host.popen("mptcpize", "run", "ncat", "127.0.0.1", "7001", stdin=-1)
    wait_for(lambda: totals(host) == (2, 0), message="no connection over lo")
    print(f"subflows {host.pminfo('mptcp.subflows')}, sole {host.pminfo('mptcp.interface.sole_path_connections')}")
    assert host.pminfo("mptcp.subflows")["lo"] == 2
    assert host.pminfo("mptcp.interface.sole_path_connections")["lo"] == 2
    host.stop(client, server)
    wait_for(lambda: host.pminfo("mptcp.connection.state") == {}, message="connection not gone")


def test_links_come_and_go(lab):
    """A new link is an instance at once, a renamed one is another, and one that carried nothing is forgotten."""
    host = lab.client
    host.ip("link add new7 type veth peer name far7")
    host.ip("link set far7 up")
    host.ip("link set new7 up")
    wait_for(lambda: host.pminfo("mptcp.interface.up").get("new7") == 1, message="new link not seen")
    host.ip("link set new7 down")
    host.ip("link set new7 name new8")
    wait_for(lambda: host.pminfo("mptcp.interface.up").get("new8") == 0, message="renamed link not seen")
    assert "new7" not in host.pminfo("mptcp.interface.up")
    host.ip("link del new8")
    wait_for(lambda: "new8" not in host.pminfo("mptcp.interface.up"), message="link still there")
    print(f"links at the end: {host.pminfo('mptcp.interface.up')}")


def test_an_interface_name_that_is_not_utf8(lab):
    """The kernel allows any bytes in a name: it is shown as well as can be, and the others stay."""
    host = lab.client
    host.run("sh", "-c", r"""ip link add "$(printf 'a\377b')" type veth peer name zz9""")
    wait_for(lambda: "zz9" in host.pminfo("mptcp.interface.up"), message="new link not seen")
    names = host.pminfo("mptcp.interface.name")
    print(f"names {sorted(names)}")
    assert "a\ufffdb" in names.values() and "enp1s0" in names
    host.ip("link del zz9")
    wait_for(lambda: "zz9" not in host.pminfo("mptcp.interface.up"), message="link still there")


def test_an_endpoint_counts_down_as_subflows_end(lab):
    """Three connections, two of them closed: 3, then 1 live subflow of each endpoint, and never anything else."""
    host = lab.server
    first, rest = lab.hold(1), lab.hold(2)
    wait_for(lambda: set(host.pminfo("mptcp.pm.endpoint.subflows").values()) == {3}, message="not 3 each")
    rest.close()
    seen = set()
    wait_for(lambda: seen.update(host.pminfo("mptcp.pm.endpoint.subflows").values()) or
             host.pminfo("mptcp.connections")[None] == 1, message="not closed")
    for _ in range(8):
        time.sleep(0.15)
        seen.update(host.pminfo("mptcp.pm.endpoint.subflows").values())
    print(f"values seen {seen}")
    assert seen <= {0, 1, 2, 3} and set(host.pminfo("mptcp.pm.endpoint.subflows").values()) == {1}
    first.close()


def test_half_closed_connection_depends_on_its_path(lab):
    """One end has closed its direction, data still flow the other way: not ESTABLISHED, but it would hang."""
    host = lab.client
    server = host.popen("mptcpize", "run", "ncat", "-l", "127.0.0.1", "7002", "--recv-only")
    wait_for(lambda: ":7002" in host.run("ss", "-Hltn").stdout, message="no listener")
    client = host.popen("mptcpize", "run", "ncat", "127.0.0.1", "7002", stdin=-1)
    wait_for(lambda: host.pminfo("mptcp.interface.sole_path_connections")["lo"] == 2, message="not seen")
    states = host.pminfo("mptcp.connection.state")
    print(f"states {states}")
    assert sorted(states.values()) == ["CLOSE-WAIT", "FIN-WAIT-2"] and totals(host) == (0, 0)
    host.stop(client, server)
    wait_for(lambda: host.pminfo("mptcp.connection.state") == {}, message="connection not gone")


def test_labels_and_the_same_as_strings(lab):
    """Instances carry labels, and metrics of strings say the same."""
    with lab.hold(1):
        wait_for(lambda: len(lab.client.pminfo("mptcp.subflow.local")) == 3, message="no three subflows")
        out = lab.client.pcp("pminfo", "-l", "mptcp.subflow.local").stdout
        print(out)
        for name, local in lab.client.pminfo("mptcp.subflow.local").items():
            line = next(line for line in out.splitlines() if name in line)
            assert f'"local":"{local}"' in line and f'"connection":"{name.partition("::")[0]}"' in line
            assert f'"interface":"{lab.client.pminfo("mptcp.subflow.interface")[name]}"' in line
        assert '"agent":"mptcp"' in out


def test_pmlogger_records_and_pmrep_replays(lab, tmp_path):
    """An archive of a connection with three paths shows them again, subflow instances included."""
    config = "log mandatory on 500 msec { mptcp.subflows mptcp.interface.in.bytes mptcp.subflow.interface mptcp.pm }"
    archive = tmp_path / "archive"
    with lab.client.pmlogger(config, archive, interval="500msec"):
        traffic = lab.iperf3(seconds=4, reverse=True)
        traffic.wait()
    out = lab.client.run("pmrep", "-a", str(archive), "-t", "1", "-u", "mptcp.subflows",
                         "mptcp.interface.in.bytes").stdout
    print(out)
    rows = [line.split() for line in out.splitlines()[3:] if re.match(r"\s*\d", line)]
    assert any(row[1:4] == ["2", "2", "2"] for row in rows), "three links in use are not in the archive"
    last = lab.client.run("pminfo", "-fa", str(archive), "-O-1", "mptcp.interface.in.bytes", check=False).stdout
    dump = lab.client.run("pmdumplog", "-i", str(archive)).stdout
    assert re.search(r"c\d+::2 enp[23]s0 10\.0\.[23]\.1:\d+->10\.0\.[23]\.2:5201", dump)
    assert "enp3s0" in last or "enp3s0" in out


def test_text_of_every_metric(lab):
    """pminfo knows a one-line and a long help for each name; every value can be fetched."""
    names = lab.client.pcp("pminfo", "mptcp").stdout.split()
    helped = lab.client.pcp("pminfo", "-tT", "mptcp").stdout
    assert len(names) > 170
    for name in names:
        assert re.search(rf"^{re.escape(name)} \[.+\]$", helped, re.M), name
    fetched = lab.client.pcp("pminfo", "-f", "mptcp", check=False).stdout
    errors = [line for line in fetched.splitlines() if line.startswith("Error")]
    print(f"{len(names)} metrics; {len(errors)} that this kernel lacks")
    assert set(errors) <= {"Error: Metric not supported by this version of monitored application"}


@pytest.mark.parametrize("command, capabilities", [("pmdamptcp", {12}), ("pmdamptcp-proc", {2, 19})])
def test_processes_run_as_pcp_with_what_they_need(lab, command, capabilities):
    """Not root: the pcp user; CAP_NET_ADMIN for the agent, what shows other users' files for its helper; no more."""
    with open(f"/proc/{lab.client.agent_pid(command)}/status", encoding="ascii") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    print({key: status[key] for key in ("Uid", "CapEff", "CapPrm", "CapBnd", "NoNewPrivs")})
    assert "0" not in status["Uid"].split()
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == sum(1 << number for number in capabilities)
    assert int(status["CapInh"], 16) == int(status["CapBnd"], 16) == int(status["CapAmb"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert "CAP_NET_ADMIN" in lab.client.agent_log()


def test_malformed_configuration_is_said_and_survived(lab):
    """Nonsense in the file: one line each in the log, defaults in force, everything answered."""
    host = lab.server
    host.configure("instances = many\ncolour = blue\n")
    print(host.agent_log())
    assert host.agent_log().count("not a value that makes sense") == 1
    assert host.agent_log().count("unknown setting 'colour'") == 1
    assert totals(host) == (0, 0)


def test_cap_leaves_out_instances_but_not_sums(lab):
    """With instances = 2, two connections are shown, five are counted, and the rest is told."""
    host = lab.server
    host.configure("instances = 2\n")
    with lab.hold(5):
        wait_for(lambda: totals(host) == (5, 0) and host.pminfo("mptcp.subflows")["enp2s0"] == 5, message="not 5")
        print(host.pminfo("mptcp.connection.name"), host.pminfo("mptcp.agent.omitted.connections"))
        assert len(host.pminfo("mptcp.connection.name")) == 2
        assert host.pminfo("mptcp.agent.omitted.connections")[None] == 3
        assert host.pminfo("mptcp.agent.omitted.subflows")[None] == 13
    host.configure("")


@pytest.fixture(scope="module")
def quiet():
    """A lab of its own in which no MPTCP socket ever was."""
    with Lab(links=1, delay_ms=0) as built:
        built.client.start_pcp()
        yield built


def test_no_mptcp_socket_ever(quiet):
    """All zero, nothing missing, nothing in the log."""
    host = quiet.client
    assert totals(host) == (0, 0)
    assert set(host.pminfo("mptcp.subflows").values()) == {0}
    assert host.pminfo("mptcp.connection.name") == {}
    assert host.pminfo("mptcp.mib.mpcapablesyntx") == {None: 0}
    assert host.pminfo("mptcp.pm.endpoints") == {None: 0}
    log = host.agent_log()
    print(log)
    assert "no value" not in log and "Traceback" not in log


def test_mptcp_disabled(quiet):
    """net.mptcp.enabled=0: sockets that ask for MPTCP are refused or plain; the agent says so and counts none."""
    host = quiet.client
    host.sysctl("net.mptcp.enabled", 0)
    wait_for(lambda: host.pminfo("mptcp.sysctl.enabled") == {None: 0}, message="setting not seen")
    assert totals(host) == (0, 0)
    host.sysctl("net.mptcp.enabled", 1)
    wait_for(lambda: host.pminfo("mptcp.sysctl.enabled") == {None: 1}, message="setting not seen")
    print("enabled 0 and 1 again were seen")


def test_log_holds_no_traceback(lab):
    """After everything above."""
    for host in (lab.client, lab.server):
        assert "Traceback" not in host.agent_log(), host.agent_log()
