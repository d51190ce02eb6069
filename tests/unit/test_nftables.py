# SPDX-License-Identifier: GPL-2.0-or-later
"""The sets of mptcp.nft, as libnftables gives them, and its complaints."""

import errno
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from pmdamptcp.kernel import nftables
from pmdamptcp.kernel.nftables import Counter, Wire
from pmdamptcp.source import FAULTS

# Recorded from libnftables 1.0.6.
_HEAD = (
    '{"nftables": [{"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}}, '
)
RECEIVED = _HEAD + (
    '{"set": {"family": "inet", "name": "received", "table": "pcp_mptcp", "type": "ifname", "handle": 3, "size": 1024,'
    ' "elem": [{"elem": {"val": "lo", "counter": {"packets": 62684, "bytes": 1971749723}}}]}}]}\n'
)
SENT = _HEAD + (
    '{"set": {"family": "inet", "name": "sent", "table": "pcp_mptcp", "type": "ifname", "handle": 4, "size": 1024,'
    ' "elem": [{"elem": {"val": "lo", "counter": {"packets": 4, "bytes": 256}}},'
    ' {"elem": {"val": "we*", "counter": {"packets": 1, "bytes": 64}}},'
    ' {"elem": {"val": "a\\"b", "counter": {"packets": 2, "bytes": 128}}}]}}]}\n'
)
EMPTY = _HEAD + (
    '{"set": {"family": "inet", "name": "sent", "table": "pcp_mptcp", "type": "ifname", "handle": 4, "size": 1024}}]}\n'
)
NEWER = (  # from 1.1.3
    '{"nftables": [{"metainfo": {"version": "1.1.3", "release_name": "Commodore Bullmoose #4",'
    ' "json_schema_version": 1}}, {"set": {"family": "inet", "name": "sent", "table": "pcp_mptcp", "type":'
    ' {"typeof": {"meta": {"key": "oifname"}}}, "handle": 4, "size": 1024, "flags": ["dynamic"],'
    ' "elem": [{"elem": {"val": "lo", "counter": {"packets": 1, "bytes": 64}}}]}}]}\n'
)
NO_TABLE = "Error: No such file or directory\nlist set inet pcp_mptcp received\n              ^^^^^^^^^\n"
DENIED = "netlink: Error: cache initialization failed: Operation not permitted\n"
BUSY = "netlink: Error: cache initialization failed: Device or resource busy\n"


@pytest.fixture
def library(monkeypatch):
    """A libnftables whose answers can be set, and a thread that may ask it."""

    class Library:
        json = False
        answers = {"received": (0, RECEIVED, ""), "sent": (0, SENT, "")}
        asked, opened = [], 0

        def __init__(self):
            Library.opened += 1

        def set_json_output(self, on):
            self.json = on

        def cmd(self, command):
            assert self.json
            self.asked.append(command)
            return self.answers[command.split()[-1]]

    monkeypatch.setitem(sys.modules, "nftables", SimpleNamespace(Nftables=Library))
    monkeypatch.setattr(nftables, "net_admin", lambda: True)
    monkeypatch.setattr(nftables.netlink, "open_socket", lambda protocol: SimpleNamespace(close=lambda: None))
    nftables._library.cache_clear()
    yield Library
    nftables._library.cache_clear()


def test_both_directions_by_interface(library):
    """A direction that an interface has not had is None, not 0."""
    assert nftables.read() == {
        "lo": Wire(received_bytes=1971749723, received_packets=62684, sent_bytes=256, sent_packets=4),
        "we*": Wire(None, None, sent_bytes=64, sent_packets=1),
        'a"b': Wire(None, None, sent_bytes=128, sent_packets=2),
    }


def test_only_received(library):
    """The other direction is None then, too."""
    library.answers = {**library.answers, "sent": (0, EMPTY, "")}
    assert nftables.read() == {"lo": Wire(1971749723, 62684, None, None)}


def test_before_the_first_packet(library):
    """A set without elements is no error."""
    library.answers = {"received": (0, EMPTY.replace('"sent"', '"received"'), ""), "sent": (0, EMPTY, "")}
    assert nftables.read() == {}


def test_one_handle_for_all_reads_and_only_questions(library):
    """The agent lists two sets and never changes a ruleset."""
    for _ in range(3):
        nftables.read()
    assert library.opened == 1
    assert set(library.asked) == {"list set inet pcp_mptcp received", "list set inet pcp_mptcp sent"}


def test_nothing_is_loaded_before_the_first_read():
    """An agent that does not use the mode does without the library."""
    package = str(Path(nftables.__file__).resolve().parents[2])
    code = f"import sys; sys.path.insert(0, {package!r}); import pmdamptcp.kernel.nftables; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    assert "pmdamptcp.kernel.nftables" in loaded
    assert "nftables" not in loaded


@pytest.mark.parametrize(
    "answers, number, words",
    [
        ({"received": (-1, "", NO_TABLE)}, errno.ENOENT, "table inet pcp_mptcp: load mptcp.nft"),
        ({"received": (0, RECEIVED, ""), "sent": (-1, "", NO_TABLE)}, errno.ENOENT, "no set sent"),
        ({"received": (-1, "", DENIED)}, errno.EPERM, "Operation not permitted"),
        ({"received": (-1, "", BUSY)}, errno.EIO, "Device or resource busy"),
        ({"received": (-1, "", "")}, errno.EIO, "failed"),
    ],
)
def test_complaints(library, answers, number, words):
    """Each gets the errno that says what to do; the next read asks again."""
    good = library.answers
    library.answers = answers
    with pytest.raises(OSError, match=words) as raised:
        nftables.read()
    assert raised.value.errno == number
    library.answers = good
    assert nftables.read()["lo"].sent_bytes == 256


def test_without_the_capability_nobody_is_asked(library, monkeypatch):
    """libnftables writes to stderr at each refusal."""
    monkeypatch.setattr(nftables, "net_admin", lambda: False)
    with pytest.raises(OSError, match="CAP_NET_ADMIN") as raised:
        nftables.read()
    assert raised.value.errno == errno.EPERM
    assert not library.opened


def test_without_a_socket_nobody_is_asked(library, monkeypatch):
    """libnftables ends the process when it gets none."""

    def none_left(protocol):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(nftables.netlink, "open_socket", none_left)
    with pytest.raises(OSError) as raised:
        nftables.read()
    assert raised.value.errno == errno.EMFILE
    assert not library.opened


def test_no_binding(library, monkeypatch):
    """The package to install is named; once it is there, it works."""
    binding = sys.modules["nftables"]
    monkeypatch.setitem(sys.modules, "nftables", None)
    with pytest.raises(OSError, match="python3-nftables") as raised:
        nftables.read()
    assert raised.value.errno == errno.ENOPKG
    monkeypatch.setitem(sys.modules, "nftables", binding)
    assert nftables.read()


def test_a_binding_without_its_library(library, monkeypatch):
    """As ctypes says it."""

    def missing():
        raise OSError("libnftables.so.1: cannot open shared object file")

    monkeypatch.setitem(sys.modules, "nftables", SimpleNamespace(Nftables=missing))
    with pytest.raises(OSError, match="libnftables.so.1") as raised:
        nftables.read()
    assert raised.value.errno == errno.ENOPKG


def test_decode_is_of_one_set():
    """The name is checked."""
    assert nftables.decode(SENT, "sent")["we*"] == Counter(bytes=64, packets=1)
    with pytest.raises(ValueError):
        nftables.decode(SENT, "received")


def test_newer_libraries_say_more():
    """But the same about the elements."""
    assert nftables.decode(NEWER, "sent") == {"lo": Counter(bytes=64, packets=1)}


def test_big_numbers():
    """As far as JSON of libnftables goes: 63 bits."""
    text = SENT.replace('"bytes": 256', f'"bytes": {2**63 - 1}')
    assert nftables.decode(text, "sent")["lo"].bytes == 2**63 - 1


@pytest.mark.parametrize(
    "old, new",
    [
        ('"counter": {"packets": 4, "bytes": 256}', '"expires": 5'),  # an element without counter
        ('{"elem": {"val": "lo", "counter": {"packets": 4, "bytes": 256}}}', '"lo"'),  # the same, as 1.0.6 has it
        ('{"packets": 4, "bytes": 256}', "null"),
        ('"bytes": 256', '"bytes": -1'),
        ('"bytes": 256', '"bytes": "256"'),
        ('"bytes": 256', '"bytes": 2.5'),
        ('"packets": 4', '"packets": true'),
        ('"packets": 4, ', ""),
        ('"val": "lo"', '"val": 1'),
        ('"val": "lo"', '"val": ["lo"]'),
        ('"val": "lo"', '"val": "we*"'),  # twice
        ('"elem": [', '"elem": [7, '),
        ('"family": "inet"', '"family": "ip"'),
        ('"table": "pcp_mptcp"', '"table": "other"'),
        ('"table": "pcp_mptcp", ', ""),
        ('{"set": ', '{"map": '),
        ('{"nftables": ', '{"other": '),
        ("[{", "[{}, 5, {"),
        ("}}]}\n", "}}"),
    ],
)
def test_nonsense(old, new):
    """Rather no value than a wrong one."""
    assert old in SENT
    with pytest.raises(ValueError):
        nftables.decode(SENT.replace(old, new, 1), "sent")


@pytest.mark.parametrize("text", ["", "[]", "null", "5", '{"nftables": []}', '{"nftables": {}}', '{"nftables": null}'])
def test_no_set(text):
    """Whatever else may come."""
    with pytest.raises(ValueError):
        nftables.decode(text, "sent")


def test_two_sets():
    """One was asked for."""
    root = json.loads(SENT)
    root["nftables"].append(root["nftables"][1])
    with pytest.raises(ValueError):
        nftables.decode(json.dumps(root), "sent")


def test_what_is_raised_is_what_a_source_catches():
    """Else one fault would end the agent."""
    assert issubclass(OSError, FAULTS) and issubclass(ValueError, FAULTS)
