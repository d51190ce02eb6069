# SPDX-License-Identifier: GPL-2.0-or-later
"""Named network namespaces: each client sees the one that it asks for, and never another in its place."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from . import Lab, missing
from .common import PYTHON, run, wait_for

ADMIN, SYS_ADMIN = 1 << 12, 1 << 21

TALK = """
import socket, sys
server = socket.socket(proto=262)
server.bind(("127.0.0.1", 7777))
server.listen()
pairs = []
for _ in range(3):
    one = socket.socket(proto=262)
    one.connect(("127.0.0.1", 7777))
    other = server.accept()[0]
    one.sendall(b"x" * 1000)
    other.recv(1000, socket.MSG_WAITALL)
    pairs.append((one, other))
print("ready", flush=True)
sys.stdin.read()
"""

# One process, a context for each namespace, interleaved requests.
INTERLEAVED = """
import ctypes, json, sys
import cpmapi
from pcp import pmapi
socket, *names = sys.argv[1:]
contexts = {name: pmapi.pmContext(cpmapi.PM_CONTEXT_HOST,
                                  f"unix:{socket}" + (f"?container={name}" if name != "-" else "")) for name in names}
ids = contexts["-"].pmLookupName(["mptcp.connection.name", "mptcp.interface.up"])
descs = {pmid: contexts["-"].pmLookupDesc(pmid) for pmid in ids}
# Fetches with nothing before them: libpcp_pmda still has the client of the last request as the one that asks.
counts = {}
for turn in range(10):
    for name, context in contexts.items():
        for pmid in ids:
            found = context.pmFetch((ctypes.c_uint * 1)(pmid))
            counts.setdefault(f"{name} {pmid}", set()).add(found.contents.get_numval(0))
            context.pmFreeResult(found)
wrong, seen = 0, {}
for turn in range(30):
    for name, context in contexts.items():
        ids = context.pmLookupName(["mptcp.connection.name", "mptcp.interface.up"])
        for pmid in ids:
            desc = context.pmLookupDesc(pmid)
            listed = sorted(context.pmGetInDom(desc)[1]) if turn % 2 else None
            found = context.pmFetch((ctypes.c_uint * 1)(pmid))
            count = found.contents.get_numval(0)
            numbers = [found.contents.get_inst(0, i) for i in range(count)]
            context.pmFreeResult(found)
            named = sorted(context.pmNameInDom(desc, number) for number in numbers)
            before = seen.setdefault(f"{name} {pmid}", named)
            wrong += named != before or listed not in (None, named)
wrong += sum(found != {len(seen[key])} for key, found in counts.items())
print(json.dumps([wrong, seen]))
"""


@pytest.fixture(scope="module")
def lab():
    """Two hosts with connections, and a namespace with its own; pmcd is on the client."""
    problems = missing()
    if problems:
        pytest.skip("; ".join(problems))
    with Lab(rate="50mbit", delay_ms=0, links=3) as built:
        built.tutorial()
        built.blue = built.add_netns("blue")
        run("ip", "-n", built.blue, "link", "set", "lo", "up")
        run("ip", "netns", "exec", built.blue, "sysctl", "-qw", "net.mptcp.enabled=1")
        built.red = built.server.netns
        with talking(built.blue):
            held = built.hold(2)
            built.client.configure(f"namespaces = {built.blue} {built.red}\n")
            yield built
            held.close()


def talking(netns):
    """Three MPTCP connections within a namespace while the block runs."""
    process = subprocess.Popen(["ip", "netns", "exec", netns, PYTHON, "-c", TALK],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def ask(lab, metric, container=None, check=True):
    """What pminfo prints of a metric in a namespace."""
    options = [f"--container={container}"] if container else []
    done = lab.client.pcp("pminfo", *options, "-f", metric, check=check)
    return done.stdout + done.stderr


def value(lab, metric, container=None):
    """The value of a metric without instances."""
    text = ask(lab, metric, container)
    assert "value " in text, text + lab.client.agent_log()
    return int(text.split("value ")[1])


def processes(lab):
    """pid -> effective capabilities of the helper and the workers."""
    found = {}
    pids = [lab.client.pmcd.pid]
    for pid in pids:  # grows
        pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split())
    for pid in pids:
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        if status["Name"] == "pmdamptcp-ns":
            found[pid] = int(status["CapEff"], 16), status["Uid"].split()[0]
    return found


def test_each_context_sees_its_own(lab):
    """Connections and interfaces of three namespaces, by pminfo and by the host specification."""
    own, blue, red = (value(lab, "mptcp.connections", name) for name in (None, lab.blue, lab.red))
    print(f"connections: own {own}, blue {blue}, red {red}")
    assert (own, blue, red) == (2, 6, 2)
    assert "enp1s0" not in ask(lab, "mptcp.interface.up", lab.blue)
    assert "lo" in ask(lab, "mptcp.interface.up", lab.blue)
    text = lab.client.run("pminfo", "-h", f"unix:?container={lab.blue}", "-f", "mptcp.connections").stdout
    assert "value 6" in text


def test_interleaved_contexts_are_not_mixed(lab):
    """One process with a context for each, in turns: names and values are always those of its namespace."""
    done = lab.client.run(PYTHON, "-c", INTERLEAVED, lab.client.pcp_socket, "-", lab.blue, lab.red)
    wrong, seen = json.loads(done.stdout)
    assert wrong == 0
    assert sorted(map(len, seen.values())) == [1, 2, 2, 4, 4, 6], seen


def test_counters_are_those_of_the_namespace(lab):
    """A sysctl and a counter differ where the namespaces do."""
    opened = {name: value(lab, "mptcp.mib.mpcapablesyntx", name) for name in (None, lab.blue, lab.red)}
    print(f"opened: {opened}")
    assert opened[lab.blue] == 3 and opened[lab.red] == 0 and opened[None] == 2


def test_a_name_that_is_not_configured_is_an_error(lab):
    """Neither another namespace of the machine nor a path gives values, and never the host's."""
    for name in ("nobody", "../netns/" + lab.blue, "/run/netns/" + lab.blue):
        text = ask(lab, "mptcp.connections", name, check=False)
        assert "Container not found" in text and "value" not in text, text
        assert "enp1s0" not in ask(lab, "mptcp.interface.up", name, check=False)


def test_privileges(lab):
    """The helper can enter namespaces, workers and the agent cannot; nobody is root."""
    found = sorted(processes(lab).values())
    print([(hex(able), uid) for able, uid in found])
    assert [able for able, _ in found] == [ADMIN, ADMIN, ADMIN | SYS_ADMIN]
    assert "0" not in {uid for _, uid in found}
    status = Path(f"/proc/{lab.client.agent_pid()}/status").read_text(encoding="ascii")
    assert f"CapEff:\t{ADMIN:016x}" in status


def test_a_worker_that_stops_or_dies_is_replaced(lab):
    """Meanwhile there is no value, of nobody; the other namespaces go on, and pmcd keeps the agent."""
    workers = [pid for pid, (able, _) in processes(lab).items() if able == ADMIN]
    here = os.stat(f"/run/netns/{lab.blue}").st_ino
    pid = next(pid for pid in workers if os.stat(f"/proc/{pid}/ns/net").st_ino == here)
    os.kill(pid, signal.SIGSTOP)
    try:
        text = ask(lab, "mptcp.connections", lab.blue, check=False)
        assert "value" not in text and "Try again" in text, text
        assert value(lab, "mptcp.connections", lab.red) == 2
    finally:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: "value 6" in ask(lab, "mptcp.connections", lab.blue, check=False), timeout=20,
             message=lambda: "no worker came back: " + lab.client.agent_log())


def test_a_namespace_made_anew_is_another(lab):
    """Deleted: not found.  Made again under its name: the new one, with nothing of the old."""
    run("ip", "netns", "delete", lab.blue)
    assert "Container not found" in ask(lab, "mptcp.connections", lab.blue, check=False)
    run("ip", "netns", "add", lab.blue)
    wait_for(lambda: "value 0" in ask(lab, "mptcp.connections", lab.blue, check=False), timeout=20)


def test_all_end_with_the_agent(lab):
    """Killed with -9, the agent leaves no process behind."""
    pids = list(processes(lab))
    assert len(pids) == 3
    os.kill(lab.client.agent_pid(), signal.SIGKILL)
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), timeout=10,
             message="processes are left")


def test_off_by_default(lab):
    """Without the setting there is no helper, and a name gives an error instead of the host's values."""
    lab.client.configure("")
    assert processes(lab) == {}
    text = ask(lab, "mptcp.connections", lab.red, check=False)
    assert "Container not found" in text and "value" not in text, text + lab.client.agent_log()
    assert value(lab, "mptcp.connections") == 2
