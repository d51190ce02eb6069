# SPDX-License-Identifier: GPL-2.0-or-later
"""`pcp mptcp` as a program, on archives: its exit status, and one line for each error."""

from pathlib import Path

import pytest

from .archives import write
from .client_host import C1, record, without
from .client_program import COMMANDS, _folder, _healthy, _make, run  # noqa: F401  fixtures

DEGRADED = {"mptcp.redundancy.degraded_connections": 1}
HANGING = {**DEGRADED, "mptcp.redundancy.connections": {"0": 1}}


def fails(status, said, *words, **more):
    """One line that says why, and nothing else."""
    got, out, err = run(*words, **more)
    assert (got, out) == (status, ""), err
    assert err.count("\n") == 1 and err.startswith("pcp-mptcp: ") and said in err, err


# Status

def test_what_each_command_says(healthy):
    """In one run each."""
    said = {"": "2 with 2 live paths", "connections": "c2 ", "subflows": "c1::2", "events": "", "why": "Verdict:",
            "check": "MPTCP OK - nothing is wrong, 2 connections"}
    for command in COMMANDS:
        status, out, err = run(*filter(None, [command]), "-a", healthy)
        assert (status, err) == (0, ""), command
        assert said[command] in out and out.endswith("\n"), command


@pytest.mark.parametrize("name, changes, status, head, lines", [
    ("healthy2", {}, 0, "MPTCP OK - nothing is wrong, 2 connections", []),
    ("note", {"mptcp.fallback.connections": 1}, 0, "MPTCP OK - nothing is wrong, 2 connections", ["NOTE fallback: "]),
    ("warning", DEGRADED, 1, "MPTCP WARNING - 1 warning, 2 connections", ["WARNING redundancy_lost: 1 of 2 con"]),
    ("critical", {**HANGING, "mptcp.agent.overruns": 2}, 2, "MPTCP CRITICAL - 1 critical, 1 warning, 2 connections",
     ["CRITICAL redundancy_lost: ", "WARNING agent_overrun: "]),
    ("warnings", {**DEGRADED, "mptcp.agent.overruns": 2}, 1, "MPTCP WARNING - 2 warnings, 2 connections",
     ["WARNING redundancy_lost: 1 of 2 con", "WARNING agent_overrun: "]),
])
def test_status_of_check(make, name, changes, status, head, lines):
    """As monitoring plugins have it: 0 fine, 1 warning, 2 critical; the first line says it in short."""
    got, out, err = run("check", "-a", make(name, changes))
    found = out.splitlines()
    assert (got, err, found[0], len(found) - 1) == (status, "", head, len(lines))
    assert all(line.startswith(start) for line, start in zip(found[1:], lines))


def test_rules_and_thresholds_of_check(make):
    """--only, --ignore and --set."""
    critical = make("critical", {**HANGING, "mptcp.agent.overruns": 2})
    assert run("check", "-a", critical, "--only", "agent_overrun")[0] == 1
    assert run("check", "-a", critical, "--ignore=agent_overrun,redundancy_lost")[0] == 0
    stalled = make("stalled", {"mptcp.interface.stalled_subflows": {"eth0": 2}})
    assert [run("check", "-a", stalled, *more)[0] for more in (
        [], ["--set", "stalled_subflows=3"], ["--set=stalled_subflows=3", "--set", "join_least=1"])] == [1, 0, 0]


def test_check_of_what_cannot_be_known_is_unknown(healthy, folder):
    """3, whatever is wrong: 1 and 2 would be taken for findings."""
    for words in (["-a", str(folder / "nosuch")], ["-a", healthy, "--only", "nosuch"], ["-a", healthy, "--set", "a=1"],
                  ["-a", healthy, "-S", "@2031-01-01"], ["-h", "127.0.0.1:1"]):
        assert run("check", *words)[0] == 3, words


def test_check_with_an_unknown_option_is_unknown(healthy):
    """3 here, too."""
    assert run("check", "-a", healthy, "--nosuch")[0] == 3
    assert run("check", "now", "-a", healthy)[0] == 3


def test_status_of_why(healthy, make):
    """0: nothing to mend; 2: a cause was found."""
    status, out, _ = run("why", "-a", make("healthy2", {}))
    assert status == 0 and "nothing to mend" in out
    limited = make("limited", {"mptcp.connection.live_subflows": {C1: 1}, "mptcp.pm.limits.subflows": 0})
    status, out, _ = run("why", "c1", "-a", limited)
    assert status == 2 and "the limit lets no connection have a second subflow" in out


# Errors

@pytest.mark.parametrize("said, words", [
    ("no command nosuch, there are: connections, subflows, ", ["nosuch"]),
    ("no rule nosuch, there are: redundancy_lost, ", ["--only=nosuch"]),
    ("no rule nosuch, there are: redundancy_lost, ", ["--ignore", "fallback,nosuch"]),
    ("--set nosuch=1: no such threshold, there are: ", ["--set", "nosuch=1"]),
    ("--set join_share=high: not a number", ["--set", "join_share=high"]),
    ("--set join_share=nan: not a number of 0 or more", ["--set", "join_share=nan"]),
    ("--set join_share=-1: not a number of 0 or more", ["--set", "join_share=-1"]),
    ("no column nosuch, there are: name, state, ", ["connections", "--sort", "nosuch"]),
    ("no column nosuch, there are: name, interface, ", ["subflows", "--sort=nosuch"]),
    ("--port 0: not a port number", ["connections", "--port", "0"]),
    ("--port http: not a port number", ["subflows", "--port=http"]),
    ("--color mauve: one of auto, always, never", ["--color=mauve"]),
    ("no connection c9 at that time, there are 2", ["connections", "c9"]),
    ("no subflow c1::9 at that time, there are 4", ["subflows", "c1::9"]),
    ("no connection c9 at that time, there are 2", ["why", "c9"]),
    ("no MPTCP connection has port 81", ["why", "81"]),
    ("no MPTCP connection and no endpoint has the address 192.0.2.1", ["why", "192.0.2.1"]),
    ("no MPTCP connection and no endpoint has the address 2001:db8::1", ["why", "2001:db8::1"]),
    ("host.example is no connection such as c17, no port and no address", ["why", "host.example"]),
    ("why takes one address, port or connection", ["why", "c1", "c2"]),
    ("events takes no argument", ["events", "c1"]),
    ("--full-screen needs a terminal", ["-f"]),
    ("the time window is outside of the archive", ["-S", "@2031-01-01"]),
    ("the time window is outside of the archive", ["events", "-T", "@2020-01-01"]),
    ("no MPTCP values in this time window at intervals of 3600 s", ["-t", "1h"]),
])
def test_errors_of_the_user(healthy, said, words):
    """Status 1 and one line."""
    fails(1, said, *words, "-a", healthy)


@pytest.mark.parametrize("words, said", [
    (["--nosuch"], "unrecognized option '--nosuch'"),
    (["-x"], "invalid option"),
    (["--sort"], "option '--sort' requires an argument"),
    (["--json=x"], "doesn't allow an argument"),
    (["-t", "often"], "-t argument not in"),
    (["-S", "yesteryear"], "invalid time window"),
    (["-z", "-Z", "UTC"], "at most one of -Z and -z"),
])
def test_errors_that_pcp_finds(healthy, words, said):
    """In the words of its library, which shows the usage as well."""
    status, out, err = run("-a", healthy, *words)
    assert (status, out) == (1, "") and err.startswith("pcp-mptcp: ") and said in err.splitlines()[0]
    assert "Traceback" not in err


@pytest.mark.parametrize("command", ["", "why", "events", "check"])
def test_what_is_not_there(command, folder):
    """No such archive, no such host, and no mptcp in it."""
    words, status = list(filter(None, [command])), 3 if command == "check" else 1
    other = folder / "other"
    if not other.with_name("other.0").exists():
        write(other, {0: {"kernel.all.uptime": 1}, 10: {"kernel.all.uptime": 11}})
    fails(status, "cannot read the archive /nosuch: No such file or directory", *words, "-a", "/nosuch")
    fails(status, "cannot reach pmcd on 127.0.0.1:1: ", *words, "-h", "127.0.0.1:1", PMCD_CONNECT_TIMEOUT="2")
    fails(status, "holds no MPTCP metrics: pmlogger must record", *words, "-a", str(other))


def test_an_archive_without_single_connections(folder):
    """The commands that need them say which group of pmlogger has them; the others do without."""
    path = str(folder / "aggregates")
    less = {second: without(record(second), "mptcp.connection.", "mptcp.subflow.") for second in (0, 10)}
    write(path, less)
    for words in (["connections"], ["subflows"], ["why", "443"], ["connections", "c1"]):
        fails(1, "an archive has them when pmlogger records the group mptcp/subflows", *words, "-a", path)
    for command in ("", "check", "events"):
        assert run(*filter(None, [command]), "-a", path)[0] == 0, command


@pytest.mark.parametrize("part, keep", [("0", 0), ("0", 60), ("0", 0.02), ("0", 0.5), ("0", -1), ("meta", 0),
                                        ("meta", 200), ("meta", 0.5), ("meta", -1), ("index", 0), ("index", 100),
                                        ("index", -1)])
def test_a_truncated_archive(healthy, tmp_path, part, keep):
    """The disk was full, or the copy incomplete: what is there is shown, or one line says what is wrong."""
    for name in ("0", "meta", "index"):
        data = Path(f"{healthy}.{name}").read_bytes()
        if name == part:
            data = data[:int(keep * len(data)) if isinstance(keep, float) else keep]
        (tmp_path / f"cut.{name}").write_bytes(data)
    for command in ("connections", "events", "check"):
        status, out, err = run(command, "-a", str(tmp_path / "cut"))
        assert "Traceback" not in err, command
        if out:
            assert (status, err) == (0, ""), command
        else:
            assert status == (3 if command == "check" else 1), command
            assert err.splitlines()[-1].startswith("pcp-mptcp: "), command


@pytest.mark.parametrize("where", [0.1, 0.4, 0.7])
def test_a_corrupt_archive(healthy, tmp_path, where):
    """Bytes that were turned over in the middle of the values."""
    for name in ("0", "meta", "index"):
        data = bytearray(Path(f"{healthy}.{name}").read_bytes())
        if name == "0":
            at = int(where * len(data))
            data[at:at + 40] = bytes(0xff ^ one for one in data[at:at + 40])
        (tmp_path / f"bad.{name}").write_bytes(data)
    for command in ("connections", "events", "check"):
        status, _, err = run(command, "-a", str(tmp_path / "bad"), "-t", "10")
        assert status in (0, 1, 2, 3) and "Traceback" not in err, (command, err)


# What needs no archive

def test_help():
    """It needs neither archive nor host, and names all commands and options."""
    status, out, err = run("--help")
    assert status == 0
    assert all(word in out + err for word in (*COMMANDS, "--json", "--full-screen", "--set=NAME=NUMBER", "--archive"))


def test_version():
    """As all tools of PCP have it."""
    status, out, err = run("--version")
    assert status == 0 and "version" in out + err


def test_the_list_of_rules_needs_no_host():
    """It is of the program."""
    status, out, _ = run("check", "--list", "-h", "127.0.0.1:1")
    assert status == 0 and "redundancy_lost" in out and "join_share=0.9" in out
