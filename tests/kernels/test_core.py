# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent on this kernel: what the kernel has is right, what it lacks is absent and never 0.

Natively with the tree's agent, in a guest of tests/kernels/run with the
installed one.  The connections are idle while they are compared.
"""

import os
import platform
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab import Lab, missing, wait_for
from tests.lab.client import finish, start

from . import kernel

GUEST = os.environ.get("KERNELS_GUEST")  # the name that it was booted by
AGENT = os.environ.get("KERNELS_AGENT")  # installed there
SAMPLES = os.environ.get("KERNELS_SAMPLES")  # a directory for the kernel's bytes
PATIENCE = 60 if GUEST else 15  # seconds
HELD, PAYLOAD = 2, 4000
ROLES = ("client", "server")
LACKING = "Metric not supported by this version of monitored application"
# Of a subflow: our name and ss's.
SUBFLOW_FIELDS = {"in.bytes": "bytes_received", "out.bytes": "bytes_sent", "out.acked_bytes": "bytes_acked",
                  "cwnd": "cwnd", "snd_mss": "mss"}


def values(host, *names):
    """By metric: {instance: text} ({} for none, None: the instance of a single value), or the error."""
    found = {}
    for part in re.split(r"\n\n?(?=mptcp\.)", host.pcp("pminfo", "-f", *names, check=False).stdout.strip()):
        name, _, text = part.partition("\n")
        error = re.search(r"^\s*Error: (.*)$", text, re.M)
        rows = re.findall(r'^\s+(?:inst \[\d+ or "(.*)"\] )?value (.*)$', text, re.M)
        found[name] = error[1] if error else {inst or None: value.strip('"') for inst, value in rows}
    return found


def ss(host, *options):
    """Lines of established sockets by local->remote."""
    lines = host.run("ss", "-HnO", *options).stdout.splitlines()
    return {"->".join(re.sub(r"%[^:\]]+", "", word) for word in line.split()[3:5]): line
            for line in lines if line.split()[1 if "-tuM" in options else 0] == "ESTAB"}


def by_flow(rows):
    """Instances of connections or subflows by their addresses."""
    return {name.split()[-1]: value for name, value in rows.items()}


def number(line, field):
    """What ss prints as field:NUMBER, which it leaves out when it is 0."""
    found = re.search(rf"\b{field}:(\d+)", line)
    return int(found[1]) if found else 0


@pytest.fixture(scope="module", name="lab")
def fixture_lab():
    """Two links, and the agent on both hosts."""
    problems = missing()
    if problems:
        pytest.skip("; ".join(problems))
    with Lab(rate="20mbit", delay_ms=0, links=2) as built:
        built.tutorial()
        with ThreadPoolExecutor() as pool:  # one after the other would take twice as long in a guest
            list(pool.map(lambda host: host.start_pcp(agent=AGENT), built.hosts))
        yield built


@pytest.fixture(scope="module", name="seen")
def fixture_seen(lab):
    """Role -> all metrics, and what the system's tools say at that time."""
    with recording(lab), lab.hold(HELD, payload=b"x" * PAYLOAD):
        for host in lab.hosts:
            wait_for(lambda: host.pminfo("mptcp.redundancy.connections").get("2") == HELD, timeout=PATIENCE,
                     message=lambda: f"{host.name}: not {HELD} connections of two subflows:\n"
                     f"{host.agent_log()}\n{host.pcp('pminfo', '-f', 'mptcp', check=False).stdout[:8000]}")
            wait_for(lambda: at_rest(host), timeout=PATIENCE)
        if SAMPLES:
            for name, protocol in (("tcp", 6), ("mptcp", kernel.IPPROTO_MPTCP)):
                Path(SAMPLES, f"{name}_dump.bin").write_bytes(kernel.diag(lab.client, protocol))
        yield {host.name: {
            "host": host, "values": values(host, "mptcp"), "subflows": subflows(host), "connections": ss(host, "-Mi"),
            "counters": kernel.counters(host), "settings": kernel.settings(host), "size": kernel.info_size(host),
            "tcp size": kernel.info_size(host, 6),
        } for host in lab.hosts}


@contextmanager
def recording(lab):
    """Keep the kernel's bytes for the unit tests, if they are wanted."""
    if not SAMPLES:
        yield
        return
    with kernel.recorded_events(lab.client, f"{SAMPLES}/pm_events.bin"):
        yield


def subflows(host):
    """As ss shows them."""
    return {flow: line for flow, line in ss(host, "-ti").items() if "tcp-ulp-mptcp" in line}


def at_rest(host):
    """Does nothing move between two looks?"""
    def look():
        return {flow: [number(line, field) for field in ("bytes_sent", "bytes_acked", "bytes_received")]
                for flow, line in subflows(host).items()}, host.pminfo("mptcp.interface.in.bytes")
    return look() == look()


def one(seen, role):
    """(values, all that was seen) of a host."""
    return seen[role]["values"], seen[role]


# What the kernel has is right.


@pytest.mark.parametrize("role", ROLES)
def test_the_agent_has_all_its_sources(seen, role):
    """Events and ends are told, nothing was malformed, no source complained."""
    ours, other = one(seen, role)
    log = other["host"].agent_log()
    assert ours["mptcp.agent.mode"] == {None: "events"}, log
    for name in ("malformed", "overruns", "faults", "truncated"):
        assert ours[f"mptcp.agent.{name}"] == {None: "0"}, log
    assert "have no value" not in log and "Traceback" not in log
    print(f"{platform.release()}: mptcp_info {other['size']} bytes, tcp_info {other['tcp size']}, "
          f"{len(other['counters'])} counters, {len(other['settings'])} settings")


@pytest.mark.parametrize("role", ROLES)
def test_connections_and_subflows_agree_with_ss(seen, role):
    """Who is there, and what each has carried."""
    ours, other = one(seen, role)
    assert ours["mptcp.connections"] == {None: str(HELD)} and ours["mptcp.fallback.connections"] == {None: "0"}
    assert len(other["connections"]) == HELD and len(other["subflows"]) == 2 * HELD
    assert by_flow(ours["mptcp.connection.subflows"]) == dict.fromkeys(other["connections"], "2")
    for metric, field in SUBFLOW_FIELDS.items():
        assert by_flow(ours[f"mptcp.subflow.{metric}"]) == {
            flow: str(number(line, field)) for flow, line in other["subflows"].items()}, metric
    for metric in ("in.bytes", "out.bytes"):
        assert list(ours[f"mptcp.connection.{metric}"].values()) == [str(PAYLOAD)] * HELD, metric
    assert set(ours["mptcp.connection.out.unacked_bytes"].values()) == {"0"}
    assert set(ours["mptcp.subflow.live"].values()) == {"1"}


@pytest.mark.parametrize("role", ROLES)
def test_interfaces_carry_what_their_subflows_do(seen, role):
    """Subflows and bytes of each interface."""
    ours, other = one(seen, role)
    for n, name in enumerate(other["host"].links, 1):
        own = [line for flow, line in other["subflows"].items() if flow.startswith(other["host"].address(n) + ":")]
        assert ours["mptcp.subflows"][name] == str(HELD) == str(len(own))
        for way, field in (("in", "bytes_received"), ("out", "bytes_sent")):
            assert ours[f"mptcp.interface.{way}.bytes"][name] == str(sum(number(line, field) for line in own))
    # MPTCP sends once more what was not acknowledged in time, and a busy machine is late.
    assert sum(map(int, ours["mptcp.interface.in.bytes"].values())) >= HELD * PAYLOAD


@pytest.mark.parametrize("role", ROLES)
def test_path_manager_agrees_with_ip(seen, role):
    """Limits, endpoints, and that events were counted."""
    ours, other = one(seen, role)
    limits = dict(re.findall(r"(subflows|add_addr_accepted) (\d+)", other["host"].ip("mptcp limits show")))
    assert {name: ours[f"mptcp.pm.limits.{name}"][None] for name in limits} == limits and len(limits) == 2
    shown = [line.split() for line in other["host"].ip("mptcp endpoint show").splitlines()]
    assert sorted(ours["mptcp.pm.endpoint.address"].values()) == sorted(words[0] for words in shown)
    assert ours["mptcp.pm.endpoints"] == {None: str(len(shown))}
    assert list(ours["mptcp.pm.endpoint.signal"].values()).count("1") == (role == "server")
    expected = {"created": HELD, "established": HELD, "sub_established": HELD, "closed": 0, "removed": 0,
                "announced": HELD if role == "client" else 0}
    assert {name: int(ours[f"mptcp.event.{name}"][None]) for name in expected} == expected


# What it lacks is absent.


@pytest.mark.parametrize("role", ROLES)
def test_each_counter_is_there_or_absent(seen, role):
    """Every name in MPTcpExt has its value, and no other metric has any."""
    ours, other = one(seen, role)
    names = {name.lower(): str(value) for name, value in other["counters"].items()}
    others = {name.lower(): value for name, value in ours["mptcp.mib.other"].items()}
    for metric, rows in ours.items():
        name = metric[len("mptcp.mib."):]
        if metric.startswith("mptcp.mib.") and name != "other":
            assert rows == ({None: names.pop(name)} if name in names else LACKING), metric
    assert others == names  # those that have no metric
    assert int(other["counters"]["MPJoinAckRx" if role == "server" else "MPJoinSynAckRx"]) == HELD
    assert not GUEST or LACKING in ours.values(), "not an older kernel"


@pytest.mark.parametrize("role", ROLES)
def test_each_setting_is_there_or_absent(seen, role):
    """As the counters."""
    ours, other = one(seen, role)
    settings = dict(other["settings"])
    for metric, rows in ours.items():
        name = metric[len("mptcp.sysctl."):]
        if metric.startswith("mptcp.sysctl.") and name != "other":
            assert rows == ({None: settings.pop(name)} if name in settings else LACKING), metric
    assert ours["mptcp.sysctl.other"] == settings


@pytest.mark.parametrize("role", ROLES)
def test_each_field_of_a_connection_is_there_or_absent(seen, role):
    """By the size of the kernel's own mptcp_info."""
    ours, other = one(seen, role)
    for size, names in kernel.BY_SIZE.items():
        for name in names:
            expected = HELD if other["size"] >= size else 0
            assert len(ours[f"mptcp.connection.{name}"]) == expected, (name, other["size"])


@pytest.mark.parametrize("role", ROLES)
def test_nothing_else_is_absent(seen, role):
    """Every metric that is not a counter, a setting or one of those fields has a value, or has nobody to have it."""
    ours, _ = one(seen, role)
    absent = {name for name, rows in ours.items() if not rows or rows == LACKING}
    absent -= {f"mptcp.connection.{name}" for names in kernel.BY_SIZE.values() for name in names}
    elsewhere = ("mptcp.mib.", "mptcp.sysctl.", "mptcp.interface.wire.")
    absent = {name for name in absent if not name.startswith(elsewhere)}
    # ssthresh: none is set before the first loss.
    nobody = {"mptcp.event.subflow_closed_by.error", "mptcp.event.listener_created", "mptcp.event.listener_closed",
              "mptcp.subflow.ssthresh"}
    if role == "client":
        nobody |= {name for name in ours if name.startswith(("mptcp.service.", "mptcp.pm.endpoint."))}
    print(f"{role}: of {len(ours)} metrics without a value: {', '.join(sorted(absent))}")
    assert absent <= nobody


# What people look at.


def test_a_download_is_accounted_and_explained(lab, seen):
    """iperf3 through mptcpize: its bytes are the interfaces', and `pcp mptcp` says so."""
    client = lab.client
    before = sum(client.pminfo("mptcp.interface.in.bytes").values())
    download = lab.iperf3(seconds=8 if GUEST else 4, reverse=True)
    tools = [start(client), start(client, "why")]
    for tool, word in zip(tools, ("enp2s0", "Verdict")):
        status, text, errors = finish(tool, timeout=PATIENCE)
        print(text)
        assert status == 0 and word in text, (status, errors)
    end = download.json(timeout=PATIENCE)["end"]
    sent, received = (end[f"sum_{what}"]["bytes"] for what in ("sent", "received"))
    download.stop()
    wait_for(lambda: client.pminfo("mptcp.connections")[None] == HELD, timeout=PATIENCE)
    ours = sum(client.pminfo("mptcp.interface.in.bytes").values()) - before
    print(f"iperf3 sent {sent} bytes and took {received}, the interfaces received {ours}")
    # What iperf3 did not read any more was received as well; a little is its own talk, or came twice.
    assert received <= ours < 1.02 * sent + 50_000


@pytest.mark.skipif(not GUEST, reason="sets the clock of the machine: in a guest only")
@pytest.mark.parametrize("step", [3600, -3600])
def test_the_clock_is_set(lab, seen, step, tmp_path):
    """By an hour, while pmlogger records: the agent goes on, what it counts is right, pmcd finds no fault with it."""
    client = lab.client
    agent, before = client.agent_pid(), client.pminfo("mptcp.interface.in.bytes")
    recorded = "mptcp.agent.samples"
    with client.pmlogger(f"log mandatory on 1 sec {{ {recorded} }}", tmp_path / "archive") as logger:
        time.clock_settime(time.CLOCK_REALTIME, time.time() + step)
        with lab.hold(1, payload=b"x" * PAYLOAD):
            wait_for(lambda: client.pminfo("mptcp.connections")[None] == HELD + 1, timeout=PATIENCE)
            wait_for(lambda: sum(client.pminfo("mptcp.interface.in.bytes").values())
                     == sum(before.values()) + PAYLOAD, timeout=PATIENCE)
        wait_for(lambda: client.pminfo("mptcp.connections")[None] == HELD, timeout=PATIENCE)
        after = client.pminfo("mptcp.interface.in.bytes")
        assert all(after[link] >= before[link] for link in before)
        assert client.agent_pid() == agent and client.pminfo("pmcd.agent.status")["mptcp"] == 0
        assert client.pminfo("mptcp.agent.faults")[None] == 0 and client.pminfo("mptcp.agent.mode")[None] == "events"
        assert logger.poll() is None
    dump = client.run("pmdumplog", tmp_path / "archive", recorded, check=False)
    print(f"{step} s: {dump.stdout.count(recorded)} records, {dump.stderr}")


@pytest.mark.skipif(not GUEST, reason="takes the kernel's modules away: in a guest only")
def test_without_the_modules_there_is_no_value(lab, seen):
    """tcp_diag and mptcp_diag gone and not to be had: the log says so and nothing is 0."""
    client, program = lab.client, kernel.autoload()
    kernel.autoload("/bin/false")
    try:
        client.run("rmmod", "mptcp_diag", "tcp_diag")
        wait_for(lambda: values(client, "mptcp.connections")["mptcp.connections"] != {None: str(HELD)},
                 timeout=PATIENCE)
        ours = values(client, "mptcp")
        print(client.agent_log())
        for name in ("mptcp.connections", "mptcp.fallback.connections"):
            assert isinstance(ours[name], str), (name, ours[name])
        for name in ("mptcp.subflows", "mptcp.redundancy.connections", "mptcp.connection.state", "mptcp.subflow.state",
                     "mptcp.connection.subflows"):
            assert ours[name] == {}, (name, ours[name])
        assert "modprobe mptcp_diag; its metrics have no value" in client.agent_log()
    finally:
        kernel.autoload(program)
    wait_for(lambda: values(client, "mptcp.connections")["mptcp.connections"] == {None: str(HELD)}, timeout=PATIENCE)
    assert "works again" in client.agent_log()
