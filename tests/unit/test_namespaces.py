# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of namespaces, and the talk of agent and worker."""

import os
import socket
import threading

import pytest
from pmdamptcp import config, containers, worker
from pmdamptcp.namespaces import Namespaces
from pmdamptcp.pictures import Allowance


@pytest.mark.parametrize("text, names", [
    ("blue red", ("blue", "red")), ("blue, red blue", ("blue", "red")), ("", ()), ("a/b", ()), ("..", ()), (".a", ()),
    ("good ../x", ()), ("a\x1bb", ()), (" ".join(f"n{i}" for i in range(65)), ())])
def test_names(tmp_path, text, names):
    """Never a path; with one that makes no sense, none at all, and the log says so."""
    (tmp_path / "conf").write_text(f"[mptcp]\nnamespaces = {text}\n")
    lines = []
    assert config.read(str(tmp_path / "conf"), lines.append).namespaces == names
    assert bool(lines) == (bool(text) and not names)


def test_without_names_there_is_no_helper(monkeypatch):
    """Off by default: nothing is forked, and no name is known."""
    monkeypatch.setattr("os.fork", lambda: pytest.fail("forked"))
    lines = []
    namespaces = Namespaces(lines.append)
    namespaces.start("pcp", config.Config())
    for _ in range(2):
        assert namespaces.worker("blue") is None and not namespaces.exists("blue")
    assert lines == ["container blue: is not configured"]


def test_names_that_clients_make_up():
    """They fill neither the log nor the memory, and no name is a path."""
    lines = []
    namespaces = Namespaces(lines.append, containers=True)
    for number in range(300):
        assert namespaces.worker(f"a{number}") is None
    assert len(lines) == 101 and lines[-1].startswith("namespaces: so many names")
    assert len(namespaces._tried) == 100
    for name in ("../a", "a/b", "", "-a", "a" * 256, "a\n", "a\0"):
        assert not namespaces.exists(name)


def test_allowance(monkeypatch):
    """So many at once, then one in so many seconds, and never more than at first."""
    now = [1000.0]
    monkeypatch.setattr("pmdamptcp.pictures.monotonic", lambda: now[0])
    allowance = Allowance(3, 10)
    assert [allowance.take() for _ in range(5)] == [True] * 3 + [False] * 2
    now[0] += 10
    assert [allowance.take() for _ in range(2)] == [True, False]
    now[0] += 1000
    assert [allowance.take() for _ in range(5)] == [True] * 3 + [False] * 2


def test_not_more_than_16_containers(monkeypatch):
    """Beyond, there is none for now, and the log says why; when one ends, there is room."""
    lines, far = [], []

    def ask(unused, question):
        assert question[0] == 255
        near, other = socket.socketpair()
        far.append(other)
        worker.send(other, {"error": "", "unknown": False})
        return near

    monkeypatch.setattr(Namespaces, "_ask", ask)
    namespaces = Namespaces(lines.append, containers=True)
    found = [namespaces.worker(f"c{number}") for number in range(18)]
    assert all(found[:16]) and found[16:] == [None, None] and namespaces.exists("c16")
    assert "16 containers" in lines[-1] and len(lines) == 18
    assert namespaces.worker("c3") is found[3]
    far[3].close()
    namespaces.begin()
    last = namespaces.worker("c99")
    assert not found[3].alive and last and not namespaces.exists("c3")
    for one in (*far, *filter(None, found), last):
        one.close()


@pytest.mark.parametrize("over", [False, True])
def test_a_worker_of_a_container_ends(pair, monkeypatch, over):
    """With the container, or when nobody asks."""
    class Nothing:
        """A picture of nothing."""
        def __init__(self, *unused):
            self.start = list

    monkeypatch.setattr(worker, "Snapshot", Nothing)
    monkeypatch.setattr(worker, "_IDLE", 60 if over else 0.05)
    ended, writer = os.pipe()
    if over:
        os.close(writer)
    with pytest.raises(EOFError, match="ended, or nobody asks"):
        worker.serve(pair[1], config.Config(), pytest.fail, ended)


class Root:
    """pmdaroot, as its sources say that it finds containers; `known`: name, identifier and process of each."""

    def __init__(self, known, docker=False):
        self._known, self._docker = known, docker
        self.open = True

    def _best(self, query):
        def score(one):
            name, identifier, _ = one
            if query == ("/" if self._docker else "") + name:
                return 100
            if self._docker and query == name:
                return 99
            return 98 if query == identifier else len(os.path.commonprefix([query, identifier]))

        best = max(self._known, key=score)
        return best if score(best) else None

    def pid(self, name):
        """Its process."""
        best = self._best(name)
        return best[2] if best else 0

    def control_group(self, name):
        """Its control group."""
        best = self._best(name)
        return f"/libpod-{best[1]}.scope" if best else ""

    def close(self):
        """The connection ends."""
        self.open = False


WEB, DATA = ("web", "d2f1" + "0" * 60, 71), ("da", "17ab" + "1" * 60, 72)
STOPPED, ALIKE = ("old", "e" * 64, 0), ("d2", "d2" + "2" * 62, 73)


@pytest.mark.parametrize("docker", [False, True])
@pytest.mark.parametrize("name, pid", [
    ("web", 71), ("da", 72), ("d2", 73), (WEB[1], 71), (WEB[1][:12], 71), (DATA[1][:30], 72), ("old", None),
    ("e", None), ("d", None), ("d2f1", None), ("database", None), ("d2f1web", None), (WEB[1][:12] + "1", None),
    ("w", None), ("webs", None), ("1", None), (WEB[1][:63] + "1", None)])
def test_what_pmdaroot_finds_is_checked(name, pid, docker):
    """It takes what begins like an identifier for it; we do not."""
    root = Root([WEB, DATA, STOPPED, ALIKE], docker)
    conmon = {71: "web", 72: "da", 73: "d2"}
    try:
        found = containers.find(name, root, lambda one: b"conmon\0-n\0%s\0-c" % conmon[one].encode())
    except containers.Unknown:
        found = None
    assert found == pid and not root.open


@pytest.fixture(name="pair")
def _pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_question_and_answer(pair):
    """A large answer arrives whole."""
    client = worker.Client(pair[0])
    client.begin()
    answer = {"domains": [[1, [[7, "x" * 1000000, {}]]]], "rows": []}

    def serve():
        assert worker.receive(pair[1]) == {"domains": [1], "cluster": None}
        worker.send(pair[1], answer)

    thread = threading.Thread(target=serve)
    thread.start()
    assert client.ask([1]) == answer and client.alive
    thread.join()


@pytest.mark.parametrize("data", [b"", b"\x01", b"\xff\xff\xff\xff", b"\x02\0\0\0{]", b"\x02\0\0\0\xff\xff"])
def test_a_worker_that_says_nonsense_or_nothing_is_done_with(pair, monkeypatch, data):
    """No answer, no exception, and the next question does not wait."""
    monkeypatch.setattr(worker, "_PATIENCE", 0.05)
    client = worker.Client(pair[0])
    client.begin()
    pair[1].sendall(data)
    assert client.ask([]) is None and not client.alive and client.ask([]) is None
