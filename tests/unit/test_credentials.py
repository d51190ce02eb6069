# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may see which process, by what pmcd hands on."""

import os

import pytest
from pmdamptcp import credentials
from pmdamptcp.credentials import CONTAINER, PROCESSID, USERID, Credentials, Viewer

PCP = 997


@pytest.fixture
def clients(monkeypatch):
    """The agent is the user pcp; processes have names by their numbers."""
    names = {"10": b"pmlogger", "11": b"pmie", "12": b"pmproxy", "13": b"pminfo"}
    monkeypatch.setattr(os, "geteuid", lambda: PCP)
    monkeypatch.setattr(credentials, "_name", lambda pid: names.get(pid, b""))
    return Credentials()


@pytest.mark.parametrize("uid, pid, expected", [
    ("0", "13", Viewer(0, True)),
    ("0", None, Viewer(0, True)),
    ("0", "12", Viewer()),  # it asks for others, whoever it is
    (str(PCP), "10", Viewer(PCP, True)),
    (str(PCP), "11", Viewer(PCP, True)),
    (str(PCP), "12", Viewer()),
    (str(PCP), "13", Viewer(PCP)),
    (str(PCP), None, Viewer(PCP)),
    ("1000", "10", Viewer(1000)),  # anybody can have a program called pmlogger
    ("1000", "13", Viewer(1000)),
    (None, "10", Viewer()),
    ("", "10", Viewer()),
    ("-1", "10", Viewer()),
    ("root", "10", Viewer()),
    ("\u0660", "10", Viewer()),  # a zero that int() takes
])
def test_viewers(clients, uid, pid, expected):
    """Root and PCP's recorders see everything, others what is theirs, who is unknown nothing."""
    for attribute, value in ((USERID, uid), (PROCESSID, pid)):
        if value is not None:
            clients.note(3, attribute, value)
    assert clients.viewer(3) == expected
    assert clients.viewer(4) == Viewer(), "another one"


def test_what_they_see():
    """Unknown is not the same as unknown."""
    assert Viewer(0, True).sees(1000) and Viewer(0, True).sees(None)
    assert Viewer(1000).sees(1000) and not Viewer(1000).sees(0) and not Viewer(1000).sees(None)
    assert not Viewer().sees(None) and not Viewer().sees(0)


def test_a_number_is_used_again(clients):
    """pmcd numbers its clients anew: the next one has nothing of the one before."""
    clients.note(3, USERID, "0")
    clients.note(3, CONTAINER, "web")
    assert clients.viewer(3).everything and clients.of(3, CONTAINER) == "web"
    clients.end(3)
    assert clients.viewer(3) == Viewer() and clients.of(3, CONTAINER) is None
    clients.end(3)


def test_what_comes_later_counts(clients):
    """Attributes come one by one, and all of them before the first fetch, or not."""
    clients.note(3, USERID, str(PCP))
    assert clients.viewer(3) == Viewer(PCP)
    clients.note(3, PROCESSID, "10")
    assert clients.viewer(3) == Viewer(PCP, True)


def test_names_of_processes():
    """Of this one; and of one that is none."""
    with open("/proc/self/comm", "rb") as file:
        assert credentials._name(str(os.getpid())) == file.read().strip()
    assert credentials._name(None) == credentials._name("x/../1") == b""
