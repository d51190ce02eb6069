# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of namespaces, and the talk of agent and worker."""

import socket
import threading

import pytest
from pmdamptcp import config, worker
from pmdamptcp.namespaces import Namespaces


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
    namespaces = Namespaces(pytest.fail)
    namespaces.start("pcp", config.Config())
    assert namespaces.worker("blue") is None and not namespaces.exists("blue")


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
