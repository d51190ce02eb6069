# SPDX-License-Identifier: GPL-2.0-or-later
"""What Debian's older kernels really sent, as tests/kernels/run keeps it; shapes made from 6.18 are elsewhere.

The host is the client of tests/kernels/test_core.py: two connections of two
subflows each, 4000 bytes sent and received on each connection.
"""

from collections import Counter
from struct import unpack_from

import pytest
from pmdamptcp.kernel import inet_diag, pm_events
from pmdamptcp.kernel.inet_diag import MPTCP_INFO, Decoder, Row, info_field
from pmdamptcp.kernel.layouts import Decoder as EventDecoder

from . import messages as m

SIZES = {"6.1": (48, 232), "6.12": (96, 248)}  # of mptcp_info and tcp_info
RECORDED = sorted(name for name in SIZES if (m.DATA / f"linux-{name}-mptcp_dump.bin").exists())


def decoded(name, protocol, what):
    """(values, row, layout) of each socket of a dump."""
    decoder = Decoder(protocol)
    found = []
    for values, data, offset, layout in decoder.decode([m.recorded(f"linux-{name}-{what}_dump.bin")]):
        row = Row()
        row.data, row.offset, row.layout = data, offset, layout
        found.append((values, row, layout))
    assert decoder.malformed == 0
    return found


def test_there_is_something():
    """No parameters would be no test."""
    assert RECORDED


@pytest.mark.parametrize("name", RECORDED)
def test_connections(name):
    """Two, with what this kernel's mptcp_info has, and nothing that it has not."""
    found = decoded(name, m.MPTCP, "mptcp")
    assert len(found) == 2
    size = SIZES[name][0]
    for _, row, layout in found:
        assert layout.info_length == size
        for field, least in (("bytes_received", 80), ("bytes_sent", 80), ("last_data_sent", 96)):
            shown = info_field(MPTCP_INFO, field)(row)
            assert (shown is None) == (size < least), field
            assert shown in (None, 4000) or field == "last_data_sent"
        assert info_field(MPTCP_INFO, "subflows_max")(row) == 1


@pytest.mark.parametrize("name", RECORDED)
def test_subflows_add_up(name):
    """Four subflows, two of each connection, which carried what was sent."""
    tokens = {values[3] for values, _, _ in decoded(name, m.MPTCP, "mptcp")}
    received = Counter()
    of_each = Counter()
    for values, _, layout in decoded(name, m.TCP, "tcp"):
        if values[7] in tokens:
            assert layout.info_length == SIZES[name][1] and values[8] & inet_diag.SPEAKS_MPTCP
            received[values[7]] += values[4]
            of_each[values[7]] += 1
    assert received == dict.fromkeys(tokens, 4000) and of_each == dict.fromkeys(tokens, 2)


@pytest.mark.parametrize("name", RECORDED)
def test_events(name):
    """Every connection begins, is ready, hears of an address, joins it, and is closed at the end."""
    data = m.recorded(f"linux-{name}-pm_events.bin")
    decoder = EventDecoder(unpack_from("=H", data, 4)[0], pm_events.learn)
    events = [event for event, *_ in decoder.decode([data])]
    assert decoder.malformed == 0 and decoder.messages == len(events)
    counts = Counter(event.kind for event in events)
    expected = ("created", "established", "announced", "sub_established")
    kinds = {text: kind for kind, text in pm_events.NAMES.items()}
    assert {text: counts[kinds[text]] for text in expected} == dict.fromkeys(expected, 4)  # iperf3 has two, too
    tokens = {values[3] for values, _, _ in decoded(name, m.MPTCP, "mptcp")}
    assert tokens <= {event.token for event in events}
