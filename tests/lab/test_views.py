# SPDX-License-Identifier: GPL-2.0-or-later
"""The views for pmrep, dstat and bash on a host where connections and links come and go: live, then from the archive.

One story is played while all views run and pmlogger records; the tests then
read what the views showed.
"""

import contextlib
import os
import pty
import re
import select
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from . import wait_for
from .pmcd import REPOSITORY

FILES = REPOSITORY / "pmda-mptcp"
PMREP = FILES / "etc/pmrep/mptcp.conf"
SETS = ("mptcp", "mptcp-interfaces", "mptcp-connections", "mptcp-subflows", "mptcp-events")
LINKS = ("enp1s0", "enp2s0", "enp3s0")


class Row(dict):
    """The cells of a line by label; name is what stands between the time and the cells."""

    def __init__(self, line, labels):
        words = line.split()
        cells = words[len(words) - len(labels):]
        super().__init__(zip(labels, cells))
        self.time, self.name, self.line = words[0], " ".join(words[1:len(words) - len(labels)]), line


def rows(text):
    """The rows that a metricset printed; the labels are those of the last head."""
    found, labels, named = [], None, False
    for line in text.splitlines():
        if re.match(r"\d\d:\d\d:\d\d ", line):
            found.append(Row(line, labels))
        elif labels is None and line.split():
            named = line.split()[0] in ("interface", "connection", "subflow", "because")
            labels = line.split()[named:]
    return found


def samples(found):
    """Rows by time, as a list of dicts by name."""
    by_time = {}
    for row in found:
        by_time.setdefault(row.time, {})[row.name] = row
    return list(by_time.values())


class Views:
    """All views at once, each into a file."""

    def __init__(self, host):
        self.host = host
        self.processes = []
        env = dict(host.env, PYTHONUNBUFFERED="1", HOME=str(home(host)))
        for name in SETS:
            self._start(name, env, "pmrep", "-h", "unix:", "-c", PMREP, "-t", "1", f":{name}")
        self._start("dstat", env, "pcp", "-h", "unix:", "dstat", "--time", "--mptcp", "--mptcp-links", "1")

    def _start(self, name, env, *argv):
        with open(self.host.work / f"view-{name}", "w", encoding="utf-8") as out:
            self.processes.append(self.host.popen(*argv, stdout=out, stderr=out, env=env))

    def text(self, name):
        """What a view has printed so far."""
        return (self.host.work / f"view-{name}").read_text(encoding="utf-8")

    def wait(self, name, predicate, what):
        """Until a view shows in its last whole sample what it should."""
        def shown():
            seen = samples(rows(self.text(name)))
            return len(seen) > 1 and predicate(seen[-2])
        try:
            wait_for(shown, timeout=20)
        except TimeoutError:
            pytest.fail(f"{name} did not show {what}:\n{self.text(name)[-3000:]}")

    def stop(self):
        """End them."""
        self.host.stop(*self.processes)


def home(host):
    """A home directory with the dstat plugin."""
    folder = host.work / "home/.pcp/dstat"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(FILES / "etc/dstat/mptcp", folder)
    return host.work / "home"


@pytest.fixture(scope="module")
def story(lab):
    """Two connections; two more; a link lost and found; the two closed; subflows killed."""
    client = lab.client
    archive = client.work / "story"
    with contextlib.ExitStack() as stack:
        download = lab.iperf3(seconds=300, reverse=True)
        stack.callback(download.stop)
        stack.enter_context(client.pmlogger("log mandatory on 1 sec { mptcp }", archive))
        views = Views(client)
        stack.callback(views.stop)

        def host(**cells):
            views.wait("mptcp", lambda seen: all(seen[""][key] == str(value) for key, value in cells.items()), cells)

        host(conns=2, subfl=6)
        with lab.hold(2, payload=b"some") as held:
            host(conns=4, subfl=12, degr=0)
            client.link_down(3)
            try:
                host(degr=4, subfl=8)
            finally:
                client.link_up(3)
            host(conns=4, subfl=12, degr=0)
            held.close()
        host(conns=2, subfl=6)
        for left, address in ((4, "10.0.3.2"), (2, "10.0.2.2")):
            client.run("ss", "-K", "dst", address, "dport", "=", ":5201")
            host(conns=2, subfl=left)
        views.wait("mptcp-interfaces", lambda seen: seen["enp2s0"]["subfl"] == "0", "no subflow on the second link")
        views.wait("mptcp-subflows", lambda seen: len(seen) == 2, "two subflows")
        views.wait("mptcp-events", lambda seen: list(seen) == ["="], "a quiet second after the kills")
        views.stop()
        live = {name: views.text(name) for name in (*SETS, "dstat")}
    # -u takes the records as they are.
    replayed = {name: client.run("pmrep", "-a", archive, "-u", "-c", PMREP, f":{name}").stdout for name in SETS}
    replayed["dstat"] = client.run("pcp", "-a", archive, "dstat", "--time", "--mptcp", "--mptcp-links", "1",
                                   env=dict(client.env, HOME=str(home(client)))).stdout
    for name, text in live.items():
        print(f"== {name}, live\n{text}")
    return SimpleNamespace(live=live, archive=replayed, path=archive)


@pytest.fixture(params=["live", "archive"])
def shown(request, story):
    """What each view printed."""
    return getattr(story, request.param)


def number(cell):
    """A cell as a number; no value as 0."""
    return 0.0 if cell in ("N/A", "~", "") else float(cell)


def test_host(shown):
    """One line per sample tells each turn of the story, in order."""
    found = rows(shown["mptcp"])
    turns = []
    for row in found:
        turn = tuple(row[key] for key in ("conns", "degr", "subfl"))
        if not turns or turns[-1] != turn:
            turns.append(turn)
    print(turns)
    wanted = iter(turns)
    for turn in (("2", "0", "6"), ("4", "0", "12"), ("4", "4", "8"), ("4", "0", "12"), ("2", "0", "6"),
                 ("2", "2", "4"), ("2", "2", "2")):
        assert turn in wanted, f"no {turn} in its place: {turns}"
    rates = [number(row["in"]) for row in found]
    assert max(rates) < 25
    assert sum(rate > 10 for rate in rates) >= 3
    assert sum(number(row["sub-"]) for row in found) == 4, "the subflows that were killed"
    assert sum(number(row["ok"]) for row in found) >= 4, "the joins of the two connections"


def test_interfaces(shown):
    """A row for each link in each sample, none for lo; a dead link keeps its row."""
    seen = samples(rows(shown["mptcp-interfaces"]))
    assert len(seen) > 5 and all(list(sample) == list(LINKS) for sample in seen), [list(sample) for sample in seen]
    dead = [sample for sample in seen if sample["enp3s0"]["up"] == "0"]
    assert dead and dead[-1]["enp3s0"]["subfl"] == "0", [sample["enp3s0"].line for sample in dead]
    assert all(sample["enp1s0"]["up"] == "1" for sample in seen)
    for link in LINKS:
        best = max(seen, key=lambda sample: number(sample[link]["in"]))[link]
        assert 4 < number(best["in"]) < 9 and 50 < number(best["%mptcp"]) < 150, best.line
    assert number(seen[-1]["enp1s0"]["rtt"]) >= 9
    assert sum(number(sample["enp2s0"]["sub-"]) for sample in seen) == 4, "two closed, two killed"


def test_connections_come_and_go(shown):
    """The two that were opened later have rows while they live, under the same head."""
    seen = samples(rows(shown["mptcp-connections"]))
    names = [{name for name in sample if name.startswith("c")} for sample in seen]
    sizes = [len(some) for some in names if some]
    assert sizes[0] == 2 and max(sizes) == 4 and sizes[-1] == 2, sizes
    busy = max((row for sample in seen for row in sample.values()), key=lambda row: number(row["in"]))
    assert re.fullmatch(r"c\d+ 10\.0\.1\.1:\d+->10\.0\.1\.2:5201", busy.name) and busy["program"] == "iperf3"
    assert 10 < number(busy["in"]) < 25, busy.line
    assert any(sample[busy.name]["live"] == "2" and sample[busy.name]["subfl"] == "3"
               for sample in seen if busy.name in sample), "the link was down"


def test_subflows_come_and_go(shown):
    """Names are whole; those on the dead link are not live; those that were killed are gone."""
    seen = samples(rows(shown["mptcp-subflows"]))
    sizes = [len(sample) for sample in seen if "N/A" not in sample]
    assert max(sizes) == 12 and sizes[-1] == 2, sizes
    for row in (row for sample in seen for row in sample.values() if row.name != "N/A"):
        assert re.fullmatch(r"c\d+::\d+ enp\ds0 10\.0\.\d\.1:\d+->10\.0\.\d\.2:\d+", row.name), row.line
    dead = {name for sample in seen for name, row in sample.items() if row["live"] == "0"}
    assert dead and all(" enp3s0 " in name for name in dead)
    assert all(" enp1s0 " in name for name in seen[-1])


def test_events(shown):
    """What came, what went and why; a quiet sample has nothing but the connections."""
    found = rows(shown["mptcp-events"])
    total = {label: sum(number(row[label]) for row in found) for label in found[0] if label != "conns"}
    print(total)
    assert total["conn+"] == 2 and total["conn-"] == 2 and total["sub+"] == 4 and total["sub-"] == 4
    # The first of a kind has no count before it to differ from.
    errors = {row.name: number(row["error"]) for row in found if number(row["error"])}
    assert set(errors) == {"ECONNABORTED"} and errors["ECONNABORTED"] >= 2, errors
    assert any(set(row.values()) <= {"2", "~"} and row["conns"] == "2" for row in found)


def test_dstat(shown):
    """Connections, those with a lost path, subflows and the rates; then a section for each link but lo."""
    head, labels, *lines = shown["dstat"].splitlines()
    assert re.findall(r"-(mptcp|enp\ds0|lo)-", head) == ["mptcp", *LINKS]
    assert labels.split("|")[1].split() == ["conns", "fallb", "degr", "subfl", "recv", "send"]
    cells = [line.split("|")[1].split() for line in lines if line.count("|") == 2]
    assert ["4", "0", "4", "8"] in [some[:4] for some in cells], cells
    assert any(re.fullmatch(r"1\d\.\dM", some[4]) for some in cells if len(some) == 6), cells
    links = [[part.split() for part in line.split("|")[2].split(":")] for line in lines if line.count("|") == 2]
    assert any(re.fullmatch(r"5\d\d\dk", some[0][0]) and some[2] == ["0", "0", "0"]
               for some in links if all(len(part) == 3 for part in some)), "enp3s0 was down"


def test_no_leap_where_an_archive_starts(story, lab):
    """At even times between the records there are no values first: their sum must not count as 0."""
    found = rows(lab.client.run("pmrep", "-a", story.path, "-t", "2", "-c", PMREP, ":mptcp").stdout)
    before = [row["subfl"] for row in found if row["conns"] == "N/A"]
    first, second, *_ = [row for row in found if row["conns"] != "N/A"]
    assert before and set(before) == {"N/A"}
    assert first["in"] == "N/A" and 5 < number(second["in"]) < 25, first.line + "\n" + second.line


@pytest.mark.parametrize("name", SETS)
def test_nothing_there(story, lab, name):
    """On a host without connections each set still prints a head and a line per sample, and no complaint."""
    assert story
    wait_for(lambda: lab.server.pminfo("mptcp.connection.name") == {}, message="the story has not ended")
    done = lab.server.run("pmrep", "-h", "unix:", "-c", PMREP, "-t", "0.2", "-s", "2", f":{name}")
    names = list(LINKS) if name == "mptcp-interfaces" else [""] if name == "mptcp" else ["N/A"]
    assert done.stderr == "" and [row.name for row in rows(done.stdout)] == names * 2, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["mptcp-connections", "mptcp-subflows"])
def test_an_archive_that_lacks_metrics(lab, name):
    """Columns that were not recorded are left out, and nothing is said about them."""
    archive = lab.client.work / f"few-{name}"
    kind = name[6:-1]
    with lab.hold(1), lab.client.pmlogger(
            f"log mandatory on 200 msec {{ mptcp.{kind}.in.bytes mptcp.{kind}.fallback mptcp.{kind}.rtt }}", archive):
        wait_for(lambda: Path(f"{archive}.0").exists() and Path(f"{archive}.0").stat().st_size > 2000,
                 message="nothing was recorded")
    done = lab.client.run("pmrep", "-a", archive, "-u", "-c", PMREP, f":{name}")
    found = rows(done.stdout)
    assert found and list(found[0]) == (["fb", "in"] if kind == "connection" else ["in", "rtt"]), done.stdout
    assert done.stderr == ""


# Completion


class Bash:
    """An interactive bash that starts as a user's does: bash-completion reads our file by itself."""

    def __init__(self, host):
        main = Path("/usr/share/bash-completion/bash_completion")
        if not main.exists():
            pytest.skip("bash-completion is not installed")
        folder = host.work / "bash"
        (folder / "compat").mkdir(parents=True, exist_ok=True)
        shutil.copy(FILES / "pcp-mptcp.bash", folder / "compat/pcp-mptcp")
        # "pcp" looks for its commands here, too, and for the rest where PCP is installed.
        (folder / ".pcp/bin").mkdir(parents=True, exist_ok=True)
        if not (folder / ".pcp/bin/pcp-mptcp").exists():
            (folder / ".pcp/bin/pcp-mptcp").symlink_to(FILES / "pcp-mptcp")
        (folder / "rc").write_text(f"PS1='> '\nbind 'set bell-style none'\nbind 'set enable-bracketed-paste off'\n"
                                   f"bind 'set page-completions off'\nBASH_COMPLETION_COMPAT_DIR={folder}/compat\n"
                                   f". {main}\n", encoding="utf-8")
        self.terminal, end = pty.openpty()
        self.process = host.popen("bash", "--noprofile", "--rcfile", folder / "rc", "-i",
                                  stdin=end, stdout=end, stderr=end, cwd=folder,
                                  env=dict(host.env, TERM="dumb", HOME=str(folder), COLUMNS="200"))
        os.close(end)
        self._read("> ")

    def _read(self, until, timeout=10):
        text, end = "", time.monotonic() + timeout
        while until not in text:
            if not select.select([self.terminal], [], [], max(0, end - time.monotonic()))[0]:
                pytest.fail(f"bash said only {text!r}, not {until!r}")
            text += os.read(self.terminal, 65536).decode()
        return text

    def complete(self, line):
        """The words that bash proposes for the last one of a line."""
        # M-* inserts all of them, C-a goes to the start of the line, C-e to its end.
        os.write(self.terminal, line.encode() + b"\x1b*\x01printf '%s\\n' BEGIN \x05 END\n")
        text = self._read("\r\nEND\r\n")
        return re.search(r"\r\nBEGIN\r\n(.*)\r\nEND\r\n", text, re.DOTALL)[1].split()


@pytest.fixture
def bash(story, lab):
    """A bash on the client, which knows nothing but what bash-completion read."""
    assert story
    shell = Bash(lab.client)
    yield shell
    lab.client.stop(shell.process)
    os.close(shell.terminal)


def test_completion_in_a_real_bash(bash, lab, story):
    """Commands, options and values for both ways to call it, live and from an archive; PCP's own goes on."""
    def last(line):
        words = bash.complete(line)[len(line.split()) - (not line.endswith(" ")):]
        return [re.sub(r"^--\w+=(?=.)", "", word) for word in words]
    assert sorted(last("pcp mptcp ")) == ["check", "connections", "events", "subflows", "why"]
    assert last("pcp-mptcp su") == ["subflows"]
    assert last("pcp -h unix: mptcp subflows --inter") == ["--interface=", "--interval="]
    assert last("pcp mptcp --inter") == ["--interval="]
    for line in ("pcp -h unix: mptcp subflows --interface=", "pcp-mptcp -h unix: subflows --interface="):
        assert last(line + "e") == list(LINKS)
    assert last(f"pcp -a {story.path} mptcp connections --process i") == ["iperf3"]
    assert last(f"pcp mptcp -a {str(story.path)[:-1]}") == [str(story.path)]
    assert last("pcp mptcp --color=") == ["always", "auto", "never"]
    assert "dstat" in last("pcp ds")
    assert "--mptcp" not in last("pcp dstat --")
    # PCP's file is loaded by this, and takes nothing away.
    assert last("pmprobe -h unix: mptcp.fallb") == ["mptcp.fallback.connections"]
    assert last("pcp mptcp ch") == ["check"]


def test_completion_by_what_the_tool_says(bash):
    """Columns, rules and thresholds are the tool's own."""
    assert bash.complete("pcp mptc") == ["pcp", "mptcp"]
    columns = bash.complete("pcp -h unix: mptcp subflows --sort=")[5:]
    assert {"interface", "rtt", "retrans"} <= set(columns), columns
    rules = bash.complete("pcp mptcp check --only=")
    assert rules[3] == "--only=agent_overrun" and "redundancy_lost" in rules, rules
    assert not any("=" in rule for rule in rules[4:]), "no thresholds"
    assert bash.complete("pcp mptcp check --only=fallback,link_")[3:] == ["--only=fallback,link_down"]
    assert bash.complete("pcp mptcp check --set=fallback_sh")[3:] == ["--set=fallback_share="]
