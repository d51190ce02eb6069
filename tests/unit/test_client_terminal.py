# SPDX-License-Identifier: GPL-2.0-or-later
"""`pcp mptcp` as a program, on archives: what it writes, in which colours, for whom, and how it ends."""

import json
import os
import pty
import signal
import subprocess

import pytest

from .client_host import C1, C2, ENDPOINT
from .client_program import COMMAND, _folder, _healthy, _make, environment, run  # noqa: F401  fixtures


def started(*words):
    """Still running."""
    return subprocess.Popen([*COMMAND, *words], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            # Ctrl-C is ignored where the tests run in the background.
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


@pytest.mark.parametrize("more", [[], ["--json"], ["check"]])
def test_a_closed_pipe_ends_it_quietly(healthy, more):
    """`| head -1`, although there are thousands of samples."""
    with started("-a", healthy, "-t", "0.001", *more) as child:
        assert child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(timeout=30) in (0, -signal.SIGPIPE)


def test_ctrl_c_ends_it_quietly(healthy):
    """With the status that a shell expects."""
    with started("-a", healthy, "-t", "0.001") as child:
        assert child.stdout.readline()
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=30)
        assert (child.returncode, err) == (130, b"")


def on_a_terminal(*words, send=b"", **more):
    """Its status, and what it writes when its output is a terminal; `send` is typed when something is there."""
    master, slave = pty.openpty()
    child = subprocess.Popen([*COMMAND, *words], env=environment(**{"TERM": "xterm", "COLUMNS": "80", **more}),
                             stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    out = b""
    try:
        while True:
            got = os.read(master, 65536)
            if not got:
                break
            out += got
            if send and b"MPTCP connections" in out:
                os.write(master, send)
                send = b""
    except OSError:
        pass  # the end of a terminal
    os.close(master)
    return child.wait(timeout=30), out.decode()


def test_full_screen(healthy):
    """On its own screen, until q; lines are cut to the terminal's width."""
    status, out = on_a_terminal("-a", healthy, "-f", send=b"q", COLUMNS="40")
    assert status == 0
    assert out.startswith("\x1b[?1049h") and out.rstrip().endswith("\x1b[?1049l")
    assert "in 12.0 Mbit/s, out 120" not in out


# Colours and other outputs

@pytest.mark.parametrize("words, more, coloured", [
    ([], {}, True), (["--color=always"], {"NO_COLOR": "1"}, True), ([], {"NO_COLOR": "1"}, False),
    (["--color=never"], {}, False), (["--color", "auto"], {}, True),
])
def test_colours_of_a_terminal(healthy, words, more, coloured):
    """auto is on, unless NO_COLOR is set; --color has the last word."""
    status, out = on_a_terminal("-a", healthy, *words, **more)
    assert status == 0 and ("\x1b[" in out) is coloured


@pytest.mark.parametrize("words, coloured", [([], False), (["--color=auto"], False), (["--color=always"], True)])
def test_colours_of_a_pipe(healthy, words, coloured):
    """auto is off."""
    assert ("\x1b[" in run("-a", healthy, *words)[1]) is coloured


@pytest.mark.parametrize("command", ["", "connections", "subflows", "why", "check"])
def test_json(healthy, command):
    """One object; a line for each with an interval."""
    words = [*filter(None, [command]), "-a", healthy, "--json"]
    found = json.loads(run(*words)[1])
    assert (found["host"], found["since"] < found["time"]) == ("client", True) and found[command or "overview"]
    if command not in ("why", "check"):
        lines = [json.loads(line) for line in run(*words, "-t", "20")[1].splitlines()]
        assert [round(line["time"] - line["since"]) for line in lines] == [20] * 3


def test_a_connection_as_json(healthy):
    """With its subflows."""
    (one,) = json.loads(run("connections", "c2", "-a", healthy, "--json")[1])["connections"]
    assert (one["command"], one["process"], len(one["flows"])) == ("iperf3", "iperf3/815", 2)


def test_order_and_filters(healthy):
    """As the options say."""
    def names(*words):
        return [line.split()[0] for line in run(*words, "-a", healthy)[1].splitlines()[2:]]

    assert names("connections", "--sort", "out", "-r") == ["c2", "c1"]
    assert names("connections", "-r") == ["c2", "c1"]
    assert names("connections", "--process", "815") == ["c2"]
    assert names("subflows", "--interface=wlan0", "--sort", "rtt") == ["c1::2", "c2::2"]
    assert names("subflows", "--address", "FD00:1::0:1") == ["c2::1"]
    assert run("connections", "--port", "1", "-a", healthy)[1].splitlines()[1:] == ["No such connection."]


EVIL = {"mptcp.connection.command": {C1: b"\x1b]0;owned\x07\xff\xfe", C2: b"a\r\nb\x9b2J"},
        "mptcp.pm.endpoint.flags": {ENDPOINT: "subflow\x1b[2J"}, "mptcp.pm.endpoint.subflows": {ENDPOINT: 0},
        "mptcp.pm.endpoint.misrouted": {ENDPOINT: 1}}


@pytest.mark.parametrize("words", [[], ["connections"], ["connections", "c1"], ["subflows"], ["why"], ["check"],
                                   ["events"]])
def test_names_cannot_command_the_terminal(make, words):
    """Whatever bytes a process chose for its name."""
    _, out, err = run(*words, "-a", make("evil", EVIL))
    assert err == "" and not [one for one in out if one != "\n" and not one.isprintable()]


def test_hosts_of_archives_cannot_either(make):
    """The label of an archive is anybody's to write."""
    _, out, err = run("-a", make("evilhost", {}, host="a\x1b[2Jb"))
    assert err == "" and "\x1b" not in out


def test_the_times_and_zone_of_pcp(healthy):
    """-S, -T, -t, -z and -Z mean what they always mean."""
    status, out, _ = run("-a", healthy, "-S", "+10", "-T", "+40", "-t", "20", "-Z", "UTC")
    heads = [line for line in out.splitlines() if line.startswith("client  ")]
    assert status == 0 and [head.split()[2] for head in heads] == ["03:04:35", "03:04:55"]
    assert all("rates of 20 s" in head for head in heads)
    assert "2026-01-01 22:05:05" in run("-a", healthy, "-Z", "EST+5")[1]


def test_a_terminal_without_unicode(make):
    """Something is shown instead."""
    status, out, err = run("connections", "-a", make("cafe", {"mptcp.connection.command": {C1: "caf\u00e9"}}),
                           PYTHONIOENCODING="ascii")
    assert (status, err) == (0, "") and "caf" in out


def test_a_full_disk(healthy):
    """One line, and not 0."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*COMMAND, "-a", healthy], env=environment(), stdout=full, stderr=subprocess.PIPE,
                              timeout=60, check=False)
    assert done.returncode == 1 and done.stderr.startswith(b"pcp-mptcp: ") and done.stderr.count(b"\n") == 1
