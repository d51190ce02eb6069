# SPDX-License-Identifier: GPL-2.0-or-later
"""Containers by the names that PCP's pmdaroot knows, with a real engine."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from . import Lab, missing, podman
from .common import PYTHON, LabError, run, wait_for
from .pmcd import REPOSITORY
from .services import Pmproxy
from .test_containers import ADMIN, SYS_ADMIN, TALK, ask, processes, value

SYS_PTRACE, DAC_OVERRIDE = 1 << 19, 1 << 1


@pytest.fixture(scope="module")
def lab():
    """A client host with pmdaroot, and a container "web" with three connections of its own."""
    problems = [one for one in (*missing(), podman.missing()) if one]
    if problems:
        pytest.skip("; ".join(problems))
    with Lab(rate="50mbit", delay_ms=0, links=2) as built:
        built.tutorial()
        built.podman = podman.Podman(built.work)
        try:
            try:
                built.id = built.podman.start("web")
            except LabError as error:
                pytest.skip(f"no container runs here: {error}")
            built.pid = built.podman.pid("web")
            inside(built.pid, "ip", "link", "set", "lo", "up")
            inside(built.pid, "sysctl", "-qw", "net.mptcp.enabled=1")
            directory = built.client.work / "var/pmcd"
            directory.mkdir(parents=True, mode=0o700)  # as PCP's packages have it
            built.client.pmdaroot = True
            built.client.env.update(built.podman.env)
            with subprocess.Popen(["nsenter", "-t", str(built.pid), "-n", PYTHON, "-c", TALK], text=True,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE) as talk:
                assert talk.stdout.readline() == "ready\n"
                held = built.hold(2)
                built.client.configure("containers = yes\nnamespaces = " + built.server.netns + "\n")
                yield built
                held.close()
        finally:
            built.podman.close()


def inside(pid, *argv):
    """What a program prints that runs in a container's network namespace."""
    return run("nsenter", "-t", pid, "-n", *argv).stdout


def test_a_container_by_its_name_and_identifier(lab):
    """Its numbers are those that ss shows in it, and the host's stay the host's."""
    shown = [line for line in inside(lab.pid, "ss", "-MnH").splitlines() if "ESTAB" in line]
    assert len(shown) == 6
    for name in ("web", lab.id, lab.id[:12]):
        assert value(lab, "mptcp.connections", name) == len(shown)
    assert value(lab, "mptcp.mib.mpcapablesyntx", "web") == 3
    assert value(lab, "mptcp.connections") == 2
    assert value(lab, "mptcp.connections", lab.server.netns) == 2
    ports = {line.split()[3].rpartition(":")[2] for line in shown}
    named = ask(lab, "mptcp.connection.name", "web")
    assert all(f":{port}" in named for port in ports), named
    assert "enp1s0" not in ask(lab, "mptcp.interface.up", "web")


def test_other_names(lab):
    """No beginning of an identifier, alone or with something behind, no path; each is logged once."""
    names = ["nobody", lab.id[0], lab.id[:11], lab.id[:1] + "-database", lab.id[:12] + "x", "web~", "../web", "WEB"]
    for name in names * 2:
        text = ask(lab, "mptcp.connections", name, check=False)
        assert "Container not found" in text and "value" not in text, (name, text, lab.client.agent_log())
        assert "] value " not in ask(lab, "mptcp.interface.up", name, check=False)
    log = lab.client.agent_log()
    print(log)
    assert [log.count(f"container {name}: ") for name in names] == [1] * len(names), log


def test_names_that_begin_like_identifiers(lab):
    """A container whose name begins as the identifier of the same one, or of another."""
    for name in {lab.id[0] + "x", lab.id[:3] + "-1"}:
        other = lab.podman.start(name)
        try:
            wait_for(lambda name=name: "value 0" in ask(lab, "mptcp.connections", name, check=False),
                     message=lambda: lab.client.agent_log())
            assert value(lab, "mptcp.connections", other[:12]) == 0
            assert value(lab, "mptcp.connections", "web") == 6
        finally:
            lab.podman.remove(name)
        wait_for(lambda name=name: "Container not found" in ask(lab, "mptcp.connections", name, check=False))


def test_a_process_that_may_be_anybodys(lab):
    """One that is not the first of a pid namespace is not taken for a container's."""
    identifier = lab.podman.start("stale")
    try:
        # What pmdaroot remembers when the container has ended and its number is another's.
        pidfile = Path(lab.podman.env["PCP_PODMAN_RUNDIR"]) / identifier / "userdata/pidfile"
        pidfile.write_text(str(os.getpid()), encoding="ascii")
        text = ask(lab, "mptcp.connections", "stale", check=False)
        assert "Container not found" in text, text
        assert "container stale: its process is not the first" in lab.client.agent_log()
    finally:
        lab.podman.remove("stale")


def test_privileges(lab):
    """The helper has more than without containers, workers and the agent have not."""
    value(lab, "mptcp.connections", "web")
    found = {able for able, _ in processes(lab).values()}
    assert found == {ADMIN, ADMIN | SYS_ADMIN | SYS_PTRACE | DAC_OVERRIDE}
    assert "0" not in {uid for _, uid in processes(lab).values()}
    status = Path(f"/proc/{lab.client.agent_pid()}/status").read_text(encoding="ascii")
    assert f"CapEff:\t{ADMIN:016x}" in status
    # Each question ends its connection to pmdaroot, who starts programs as root.
    path = f"{lab.client.work}/var/pmcd/root.socket"
    peers = {line.split()[7] for line in lab.client.run("ss", "-xaH").stdout.splitlines() if path in line}
    assert len(peers) > 1  # pmcd's own
    for pid in [*processes(lab), lab.client.agent_pid()]:
        held = {os.readlink(one) for one in Path(f"/proc/{pid}/fd").iterdir()}
        assert not held & {f"socket:[{peer}]" for peer in peers}, held


def test_pcp_mptcp_says_which_container(lab):
    """In its header and in JSON; a name that is unknown is an error and no zeros."""
    program = REPOSITORY / "pmda-mptcp" / "pcp-mptcp"

    host = f"{lab.id[:12]}:web"  # by --container, pmcd says the container's host name
    for argv in ((PYTHON, program, "-h", "unix:", "--container=web", "-t", "0.2", "-s", "1"),
                 (PYTHON, program, "-h", "unix:?container=web", "-t", "0.2", "-s", "1")):
        done = lab.client.run(*argv)
        assert done.stdout.split()[0] == host, done.stdout
        assert "6 MPTCP connections" in done.stdout, done.stdout
    text = lab.client.run(PYTHON, program, "-h", "unix:", "--container=web", "connections", "--json", "-t", "0.2",
                          "-s", "1").stdout
    assert json.loads(text)["host"] == host
    for command, status in (("connections", 1), ("check", 3), ("why", 1), ("", 1)):
        done = lab.client.run(PYTHON, program, "-h", "unix:", "--container=nobody", *command.split(), check=False)
        assert done.returncode == status and not done.stdout, (command, done)
        assert done.stderr.startswith("pcp-mptcp: no container or network namespace nobody on client"), done.stderr
        assert done.stderr.count("\n") == 1


def test_host_specifications(lab):
    """Over the socket and over TCP, by pmproxy as Vector asks it, and by pmlogger: each the one that it names."""
    names = {"web": 6, lab.server.netns: 2}
    with Pmproxy(lab.client) as proxy:
        for name, expected in names.items():
            for spec in ("unix:", "local:", "localhost", "pcp://127.0.0.1:44321"):
                spec = f"{spec}?container={name}"
                text = lab.client.run("pminfo", "-h", spec, "-f", "mptcp.connections").stdout
                assert f"value {expected}\n" in text, (spec, text)
                context = proxy.json("/pmapi/context", hostspec=spec)["context"]
                found = proxy.json(f"/pmapi/{context}/fetch", names="mptcp.connections")
                assert found["values"][0]["instances"][0]["value"] == expected, (spec, found)
    config = lab.client.work / "both.conf"
    config.write_text("log mandatory on 200 msec { mptcp.connections }\n", encoding="ascii")
    for name, expected in names.items():
        archive = lab.client.work / f"archive-{name}"
        lab.client.run("pmlogger", "-h", f"localhost?container={name}", "-c", config, "-l", f"{archive}.log", "-s", "2",
                       archive)
        assert f"value {expected}\n" in lab.client.run("pmdumplog", archive, "mptcp.connections").stdout


def test_a_container_ends_and_its_worker_with_it(lab):
    """Ended: not found, no process left.  A new one of this name is another."""
    before = set(processes(lab))
    lab.podman.start("short")
    wait_for(lambda: "value 0" in ask(lab, "mptcp.connections", "short", check=False))
    assert len(set(processes(lab)) - before) == 1
    lab.podman.remove("short")
    wait_for(lambda: set(processes(lab)) <= before, message="a worker is left")
    assert "Container not found" in ask(lab, "mptcp.connections", "short", check=False)
    lab.podman.start("short")
    try:
        wait_for(lambda: "value 0" in ask(lab, "mptcp.connections", "short", check=False))
    finally:
        lab.podman.remove("short")


def test_a_name_that_is_polled_does_not_fill_the_log(lab):
    """All metrics, five times: never a value, and of PCP's own lines not more than a hundred or so."""
    for _ in range(5):
        text = ask(lab, "mptcp", "nobody", check=False)
        assert "value " not in text and ("Container not found" in text or "Try again" in text), text
    assert 80 < lab.client.agent_log().count("Fetch callback error") < 120


def test_the_end_of_the_helper(lab):
    """What is watched goes on, what is not cannot be; it is said once."""
    value(lab, "mptcp.connections", "web")
    helper = next(pid for pid, (able, _) in processes(lab).items() if able & SYS_ADMIN)
    os.kill(helper, signal.SIGKILL)
    lab.podman.start("late")
    try:
        for _ in range(3):
            assert value(lab, "mptcp.connections", "web") == 6
            assert value(lab, "mptcp.connections", lab.server.netns) == 2
            assert value(lab, "mptcp.connections") == 2
            assert "Try again" in ask(lab, "mptcp.connections", "late", check=False)
    finally:
        lab.podman.remove("late")
    log = lab.client.agent_log()
    assert log.count("the process that enters them has ended") == 1, log


def test_off_by_default(lab):
    """Without the setting the name of a container gives an error, and the helper has no more than it needs."""
    lab.client.configure("namespaces = " + lab.server.netns + "\n")
    text = ask(lab, "mptcp.connections", "web", check=False)
    assert "Container not found" in text and "value" not in text, text + lab.client.agent_log()
    assert {able for able, _ in processes(lab).values()} == {ADMIN, ADMIN | SYS_ADMIN}
