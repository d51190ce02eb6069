# SPDX-License-Identifier: GPL-2.0-or-later
"""How many TCP sockets there are, as the kernel counts them."""

import socket

import pytest
from pmdamptcp.kernel import sockstat

FOUR = """sockets: used 291
TCP: inuse 15 orphan 2 tw 3 alloc 18 mem 221
UDP: inuse 4 mem 8
UDPLITE: inuse 5
RAW: inuse 6
FRAG: inuse 7 memory 0
"""
SIX = """TCP6: inuse 7
UDP6: inuse 3
UDPLITE6: inuse 1
RAW6: inuse 1
FRAG6: inuse 1 memory 0
"""


@pytest.fixture
def files(monkeypatch, tmp_path):
    """Two files in the place of the kernel's; None removes one."""
    paths = tmp_path / "sockstat", tmp_path / "sockstat6"
    monkeypatch.setattr(sockstat, "PATHS", tuple(map(str, paths)))

    def write(*texts):
        for path, text in zip(paths, texts):
            if text is not None:
                path.write_text(text, encoding="ascii")
        return sockstat.tcp_sockets()

    return write


@pytest.mark.parametrize("four, six, count", [
    (FOUR, SIX, 22), (FOUR, None, 15), (FOUR, "", 15), ("", SIX, 7), ("UDP: inuse 9\n", "UDP6: inuse 9\n", 0),
    ("TCP: orphan 1 inuse 8\n", "", 8), ("TCP: orphan inuse\n", "", 0), ("TCP:\n", SIX, 7)])
def test_sockets_of_both_families(files, four, six, count):
    """TCP only; a kernel without IPv6 has no second file."""
    assert files(four, six) == count


def test_without_the_first_file(files):
    """No such kernel: the caller shall know."""
    with pytest.raises(FileNotFoundError):
        files(None, SIX)


@pytest.mark.parametrize("text", ["TCP: inuse many\n", "\n"])
def test_nonsense(files, text):
    """Is told as such."""
    with pytest.raises(ValueError):
        files(text, SIX)


def test_this_hosts_sockets():
    """A listener counts, of either family."""
    before = sockstat.tcp_sockets()
    with socket.create_server(("127.0.0.1", 0)), socket.create_server(("::1", 0), family=socket.AF_INET6):
        assert sockstat.tcp_sockets() >= before + 1
    assert before >= 0
