# SPDX-License-Identifier: GPL-2.0-or-later
"""Who gets to know what, and what the agent can do: each claim of docs/security.md that a lab can show."""

import os
import pwd
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from . import wait_for
from .client import pcp_mptcp, pcp_mptcp_json
from .common import PYTHON
from .pmcd import pcp_conf
from .services import PMPROXY_CONF, Pmproxy, Redis, Service, logs

PCP, NOBODY = pwd.getpwnam(pcp_conf().get("PCP_USER", "pcp")).pw_uid, pwd.getpwnam("nobody").pw_uid
NET_ADMIN, DAC_READ_SEARCH, SYS_PTRACE = 1 << 12, 1 << 2, 1 << 19
HARM = b"\x1b[2J\xff\x07"
OWNERS = ("mptcp.connection.pid", "mptcp.connection.command", "mptcp.service.pid", "mptcp.service.command")
SERVER = """
import socket, sys
with open("/proc/self/comm", "wb") as file:
    file.write(bytes.fromhex(sys.argv[2]))
one = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
one.bind(("0.0.0.0", int(sys.argv[1])))
one.listen()
print("listening", flush=True)
held = [one]
while True:
    held.append(one.accept())
"""


def as_user(host, uid, *argv):
    """What a user's program says; the text of both streams."""
    done = host.run("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *argv, check=False)
    return done.stdout + done.stderr


def values(text):
    """Instance -> value of one metric, as pminfo prints them."""
    return dict(re.findall(r'inst \[\d+ or "(.*?)"\] value (.*)', text))


def status(pid):
    """[(name, fields)] of each thread of a process."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/status"):
        fields = dict(line.split(":", 1) for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
        found.append({name: text.strip() for name, text in fields.items()})
    return found


@pytest.fixture(name="held", scope="module")
def fixture_held(lab):
    """Connections of root's to root's on both hosts, and to a server of the user nobody with a name that harms."""
    port = lab.next_port()
    server = lab.server.popen("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", PYTHON, "-c",
                              SERVER, port, HARM.hex(), stdout=subprocess.PIPE)
    assert server.stdout.readline() == "listening\n"
    with lab.hold(2) as held:
        client = lab.client.popen(PYTHON, "-c", f"""
import socket, time
one = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
one.connect(("{lab.server.address_of(1, 4)}", {port}))
print("ready", flush=True)
time.sleep(600)
""", stdout=subprocess.PIPE)
        assert client.stdout.readline() == "ready\n"
        for host in (lab.client, lab.server):
            wait_for(lambda: host.pminfo("mptcp.redundancy.connections")["3"] == 3, message=f"{host.name}: subflows")
        yield held, server, port
        lab.client.stop(client)
    lab.server.stop(server)


# Privileges.

def test_what_the_processes_may_do(lab, held):
    """All threads: the user pcp, one capability (the child: two), nothing to be gained, system calls given up."""
    for command, expected in (("pmdamptcp", NET_ADMIN), ("pmdamptcp-proc", DAC_READ_SEARCH | SYS_PTRACE)):
        threads = status(lab.client.agent_pid(command))
        assert len(threads) > (command == "pmdamptcp")
        for one in threads:
            print(command, {name: one[name] for name in ("Uid", "CapEff", "NoNewPrivs", "Seccomp")})
            assert one["Uid"].split() == [str(PCP)] * 4 and "0" not in one["Groups"].split() + one["Gid"].split()
            assert int(one["CapEff"], 16) == int(one["CapPrm"], 16) == expected
            assert int(one["CapBnd"], 16) == int(one["CapInh"], 16) == int(one["CapAmb"], 16) == 0
            assert one["NoNewPrivs"] == "1" and one["Seccomp"] == "2"


# Owners of sockets.

def owners(lab, ask):
    """Names and numbers that a client is told on the server, and what it is told in place of them."""
    texts = {metric: ask(metric) for metric in OWNERS}
    return {metric: sorted(values(text).values()) for metric, text in texts.items()}, "".join(texts.values())


def test_owners_are_told_to_those_who_may_know(lab, held):
    """Root all, a user the own, pcp's pmlogger all, others none and a reason; as TCP, pmproxy and unix: sockets say."""
    server = lab.server
    wait_for(lambda: len(values(server.pcp("pminfo", "-f", OWNERS[0]).stdout)) == 3, message="owners looked up")
    every, _ = owners(lab, lambda metric: server.pcp("pminfo", "-f", metric).stdout)
    assert [len(every[metric]) for metric in OWNERS] == [3, 3, 2, 2], every
    own, said = owners(lab, lambda metric: as_user(server, NOBODY, "pminfo", "-h", "unix:", "-f", metric))
    print("root", every, "nobody", own)
    assert own == {metric: [str(held[1].pid)] if metric.endswith("pid") else ['"?[2J\ufffd?"'] for metric in OWNERS}
    for uid in (PCP, NOBODY - 1):  # neither has a connection
        none, said = owners(lab, lambda metric: as_user(server, uid, "pminfo", "-h", "unix:", "-f", metric))
        assert not any(none.values()) and said.count("No permission") == len(OWNERS), said
    none, said = owners(lab, lambda metric: as_user(server, 0, "pminfo", "-h", "127.0.0.1", "-f", metric))
    assert not any(none.values()) and said.count("No permission") == len(OWNERS), said
    assert "c1" in as_user(server, 0, "pminfo", "-h", "127.0.0.1", "-f", "mptcp.connection.state"), "all else is there"


POLLER = """
import sys, time
import cpmapi
from pcp import pmapi
context = pmapi.pmContext(cpmapi.PM_CONTEXT_HOST, "unix:")
pmids = context.pmLookupName(["mptcp.connection.pid"])
counts = set()
for _ in range(300):
    result = context.pmFetch(pmids)
    counts.add(result.contents.get_numval(0))
    context.pmFreeResult(result)
print(sorted(counts))
"""


def test_two_clients_that_ask_in_turn(lab, held):
    """What one may know, the other is not told: whose request it is is asked each time."""
    server = lab.server
    root = server.popen("pmval", "-h", "unix:", "-t", "0.002", "mptcp.connection.pid", stdout=subprocess.DEVNULL)
    try:
        told = as_user(server, NOBODY, PYTHON, "-c", POLLER).strip()
        assert root.poll() is None
    finally:
        server.stop(root)
    every = server.run(PYTHON, "-c", POLLER).stdout.strip()
    print("root", every, "nobody", told)
    assert (every, told) == ("[3]", "[1]")


def test_recorders_are_told_and_relays_are_not(lab, held, tmp_path):
    """pmlogger and pmproxy are the same user: an archive has the names, HTTP has them by no host name at all."""
    server = lab.server
    tmp_path.chmod(0o755)
    directory = server.work / "as-pcp"
    directory.mkdir(exist_ok=True)
    shutil.chown(directory, PCP)
    (directory / "config").write_text("log mandatory on once { mptcp.connection.command }\n", encoding="utf-8")
    server.run("setpriv", f"--reuid={PCP}", f"--regid={PCP}", "--clear-groups", "pmlogger", "-h", "unix:", "-c",
               directory / "config", "-l", directory / "log", "-T", "1sec", directory / "archive")
    recorded = values(server.run("pminfo", "-a", directory / "archive", "-f", "mptcp.connection.command").stdout)
    assert len(recorded) == 3, recorded
    config = directory / "pmproxy.conf"
    config.write_text(PMPROXY_CONF.format(history="false", redis=Redis.port, logs=logs(server)), encoding="utf-8")
    shutil.copytree(server.work / "run", directory / "run", dirs_exist_ok=True,
                    ignore=lambda *_: [])
    shutil.chown(directory / "run", PCP)
    proxy = object.__new__(Pmproxy)
    Service.__init__(proxy, server, "pmproxy", [
        "setpriv", f"--reuid={PCP}", f"--regid={PCP}", "--clear-groups",
        Path(pcp_conf()["PCP_BINADM_DIR"]) / "pmproxy", "-f", "-A", "-U", pwd.getpwuid(PCP).pw_name, "-c", config,
        "-p", Pmproxy.port, "-i", "127.0.0.1", "-s", directory / "pmproxy.socket", "-l", directory / "pmproxy.log"],
        env={"PCP_LOG_DIR": str(logs(server).parent), "PCP_RUN_DIR": str(directory / "run")})
    with proxy:
        for spec in ("unix:", "local:", "localhost", "127.0.0.1"):
            context = proxy.json("/pmapi/context", hostspec=spec)["context"]
            names = {one["name"]: one["instances"] for metric in ("mptcp.connection.state", *OWNERS)
                     for one in proxy.json(f"/pmapi/{context}/fetch", names=metric)["values"]}
            print(spec, names)
            assert len(names.pop("mptcp.connection.state")) == 3
            assert not any(names.values()), f"{spec}: {names}"


def test_a_terminal_is_not_told_what_to_do(lab, held):
    """Names of processes and interfaces are anybody's to choose; what is exported and printed is harmless."""
    server = lab.server
    name = b"x\x1b[2J\xfe"
    server.run("ip", "link", "add", os.fsdecode(name), "type", "veth", "peer", "name", "other")
    try:
        wait_for(lambda: "x?[2J" in {name[:5] for name in server.pminfo("mptcp.interface.up")},
                 message=lambda: f"no such interface: {list(server.pminfo('mptcp.interface.up'))}")
        texts = [server.pcp("pminfo", "-f", "mptcp").stdout, server.pcp("pminfo", "-l", "mptcp").stdout]
        texts += [pcp_mptcp(server, *words)[1] for words in (
            ("connections",), ("--json", "connections"))]
        for text in texts:
            assert text and not [one for one in text if not one.isprintable() and one != "\n"], text
        assert "?[2J" in texts[0]
    finally:
        server.run("ip", "link", "del", os.fsdecode(name))


# What never leaves, and what can be masked.

def secrets(host):
    """Tokens and sequence numbers that this host's kernel tells now, as they may be written."""
    text = host.run("ss", "-tMineO").stdout
    found = set()
    for name in ("token", "seq", "sfseq", "write_seq", "snd_una", "rcv_nxt", "remote_key", "local_key"):
        for part in re.findall(rf"\b{name}:([0-9a-f()id:/]+)", text):
            found |= set(re.findall(r"(?<![\w:])[0-9a-f]{5,16}\b", re.sub(r"\(id:\d+\)", "", part)))
    return found


def everything(host, directory):
    """All that leaves the agent, as text: values, labels, names, an archive's bytes, its log."""
    archive = directory / f"all-{time.monotonic_ns()}"
    config = directory / "all.config"
    config.write_text("log mandatory on once { mptcp }\n", encoding="utf-8")
    host.run("pmlogger", "-h", "unix:", "-c", config, "-l", f"{archive}.log", "-T", "1sec", archive)
    parts = [path.read_bytes().decode("latin-1") for path in directory.glob(archive.name + ".*")]
    parts += [host.pcp("pminfo", option, "mptcp").stdout for option in ("-f", "-l")]
    parts += [host.pcp("pminfo", "-I", "mptcp.connection", "mptcp.subflow").stdout, host.agent_log(), host.pmcd_log()]
    return "\n".join(parts)


def test_tokens_and_sequence_numbers_never_leave(lab, held, tmp_path):
    """Those that ss shows, in hexadecimal and decimal, before traffic and after it."""
    for host in (lab.client, lab.server):
        known = secrets(host)
        assert len(known) >= 6, known
        text = everything(host, tmp_path)
        words = {word.lower() for word in re.findall(r"[0-9A-Za-z]+", text)}
        numbers = {str(int(one, 16)) for one in known} | known
        print(f"{host.name}: {len(known)} secrets, {len(words)} words, {len(text)} characters")
        assert "10" in words and "estab" in words
        leaked = {one for one in numbers if one in words and len(one) > 5}
        assert not leaked, f"{host.name}: {leaked}"


# More than usual.

def test_many_clients_that_do_not_wait(lab, held):
    """A hundred contexts that fetch as fast as they can cause ten looks at the kernel a second, and no more."""
    client = lab.client
    program = """
import sys, time
import cpmapi
from pcp import pmapi
spec, seconds = sys.argv[1], float(sys.argv[2])
contexts = [pmapi.pmContext(cpmapi.PM_CONTEXT_HOST, spec) for _ in range(100)]
pmids = [one.pmLookupName(["mptcp.subflow.state", "mptcp.connection.remote"]) for one in contexts]
end, count = time.monotonic() + seconds, 0
while time.monotonic() < end:
    for one, ids in zip(contexts, pmids):
        one.pmFreeResult(one.pmFetch(ids))
        count += 1
print(count)
"""
    before, start = client.pminfo("mptcp.agent.samples")[None], time.monotonic()
    count = int(client.run(PYTHON, "-c", program, f"unix:{client.pcp_socket}", 2).stdout)
    looks, seconds = client.pminfo("mptcp.agent.samples")[None] - before, time.monotonic() - start
    print(f"{count} fetches, {looks} looks at the kernel in {seconds:.1f} s")
    assert count > 100 and looks <= 10 * seconds + 2


# From here on with other settings; each start of PCP takes seconds, so nothing is set back.

@pytest.mark.parametrize("setting", ["network", "none"])
def test_masked_addresses_are_nowhere(lab, held, tmp_path, setting):
    """Neither in values nor names, labels, archives and logs; IPv6 as well; everything else goes on."""
    client = lab.client
    peers = {family: [lab.server.address_of(n, family) for n in (1, 2, 3)] for family in (4, 6)}

    def found(text):
        return [[one for one in peers[family] if re.search(re.escape(one) + r"(?![\w.])", text)] for family in (4, 6)]

    with lab.hold(1, family=6):
        if setting == "network":
            assert all(found(everything(client, tmp_path))), "shown by default"
        client.configure(f"remote_addresses = {setting}\nlistener = {'no' if setting == 'none' else 'yes'}\n")
        wait_for(lambda: client.pminfo("mptcp.connections")[None] == 4, message="four connections")
        text = everything(client, tmp_path)
        assert found(text) == [[], []], [line for line in text.splitlines() if any(found(line))][:4]
        names = list(client.pminfo("mptcp.subflow.remote"))
        print(names[0], "|", names[-1])
        assert len({name.split(" ")[0] for name in names}) == len(names) >= 10
        assert len(pcp_mptcp_json(client, "connections")["connections"]) == 4
        code, out, err = pcp_mptcp(client, "why", "c1")
        assert code in (0, 1, 2) and out and not err, (code, err)
        near = pcp_mptcp_json(client, "connections", "--address", peers[4][0])["connections"]
        assert len(near) == (3 if setting == "network" else 0), near


def test_no_capability_without_events(lab, held):
    """`listener = no`, as it was set last, gives it up, and a kernel that tells subflows without it still does."""
    client = lab.client
    for one in status(client.agent_pid()):
        assert int(one["CapEff"], 16) == int(one["CapPrm"], 16) == 0
    shown = client.pminfo("mptcp.subflow.state")
    print(f"{os.uname().release}: {len(shown)} subflows")
    assert "CAP_NET_ADMIN is given up" in client.agent_log()
    if tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 18):
        assert len(shown) >= 9
    else:
        assert not shown and "shows subflows to CAP_NET_ADMIN only" in client.agent_log()


def test_everybody_is_told(lab, held):
    """`processes = all` is what it says; and without `seccomp` no system call is given up."""
    server = lab.server
    server.configure("processes = all\nseccomp = no\n")
    ask = ("pminfo", "-h", "127.0.0.1", "-f", "mptcp.connection.command")
    wait_for(lambda: len(values(as_user(server, NOBODY - 1, *ask))) == 3, message="not told to all")
    assert {one["Seccomp"] for one in status(server.agent_pid())} == {"0"}
