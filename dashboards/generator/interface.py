# SPDX-License-Identifier: GPL-2.0-or-later
"""MPTCP Interface: everything about one link."""

from typing import Any

from . import look, vector
from .look import BAD, DEVICE, GOOD, IDLE, WARN, Section
from .vector import Query, bits, table_of

_BACKUP = " backup"
_NO_TABLE = "Needs the nftables table mptcp, see mptcp.nft"


def _one(title: str, description: str, metric: str, limits: look.Steps, unit: str = "short", **more: Any) -> Any:
    return look.stat(title, description, unit, table_of((title, f"{metric}[$interface]")), limits,
                     absent="No value", **more)


def _series(title: str, description: str, unit: str, *queries: Query, **more: Any) -> Any:
    return vector.series(title, description, unit, queries, interfaces="interface", **more)


_NOW = Section("", [
    _one("Is it up?", "Administratively up and with a carrier. Down: cable, radio, provider, or ip link set down. No "
         "value: there is no such interface, or no agent.", "mptcp.interface.up", [(None, BAD), (1, GOOD)],
         mapping={"1": ("Up", GOOD), "0": ("Down", BAD)}),
    _one("Subflows on it", "Established subflows whose packets leave by this link. 0 though it is up: no "
         "endpoint is on it, or its joins fail; pcp mptcp why tells.", "mptcp.subflows", [(None, IDLE), (1, GOOD)]),
    _one("Who needs it?", "Connections whose only live path this link is. Good is 0.",
         "mptcp.interface.sole_path_connections", [(None, GOOD), (1, WARN)]),
    _one("Stalled subflows", "Subflows that send again and again and get no answer. Good is 0. More: the "
         "path beyond this link is dead though the link is up; ping its gateway from here.",
         "mptcp.interface.stalled_subflows", [(None, GOOD), (1, BAD)]),
    _one("Backup subflows", "Subflows marked as backup: they carry only when no other path works. As you meant it, "
         "there is no good or bad.", "mptcp.interface.backup_subflows", [(None, IDLE)]),
    _one("Round-trip time", "Mean of the smoothed round-trip times of its subflows. Good: near what the provider "
         "promises. Far more under load: buffers on the way are full.", "mptcp.interface.rtt", [(None, IDLE)], "µs"),
])


def _traffic(way: str, done: str) -> Any:
    return _series(
        f"Traffic {way}", f"MPTCP payload {done} by this link, the part of it on backup subflows, and all that the "
        "device carries (dashed). Good: near the link's capacity when the connection wants it. Backup traffic is good "
        "only while another path is lost.", "bps",
        Query(bits(f"mptcp.interface.{way}.bytes")), Query(bits(f"mptcp.interface.{way}.backup_bytes"),
                                                           "$instance" + _BACKUP),
        Query(bits(f"mptcp.interface.total.{way}.bytes"), "$instance" + DEVICE), height=9)


_SHARE = _series(
    "How much of the link is MPTCP?", "MPTCP payload as a part of the bytes of the device, headers included. Full "
    "packets of MPTCP alone give about 95 %. Less: the rest is other traffic, or many small packets.", "percentunit",
    Query("rate(mptcp.interface.in.bytes) / rate(mptcp.interface.total.in.bytes)", "$instance in"),
    Query("rate(mptcp.interface.out.bytes) / rate(mptcp.interface.total.out.bytes)", "$instance out"), width=8,
    maximum=1)

_RESENT = _series(
    "How much is sent again?", "Retransmitted bytes as a part of the bytes that MPTCP sent here. Good: below 2 %. "
    "More: the path loses packets (radio, policer, full queue).", "percentunit",
    Query("rate(mptcp.interface.out.retrans_bytes) / rate(mptcp.interface.out.bytes)"), width=8,
    limits=[(None, "transparent"), (0.02, WARN), (0.1, BAD)])

_RTT = _series("Round-trip time over time", "Mean of the smoothed round-trip times of the link's subflows. Good: flat. "
               "A climb under load means full buffers on the way; a gap means that no subflow is here.", "µs",
               Query("mptcp.interface.rtt"), width=8)

_PATHS = Section("Paths", [
    _series("Subflows over time", "Subflows by now, those without an answer, and those marked as backup. Good: steady, "
            "and none without an answer.", "short", Query("mptcp.subflows"),
            Query("mptcp.interface.stalled_subflows", "$instance stalled"),
            Query("mptcp.interface.backup_subflows", "$instance" + _BACKUP), width=8, style="steps", legend="list"),
    _series("Subflows opened and closed", "Since the last look, one bar a look; the legend has the sum in the time "
            "shown. Good: as many as connections come and go. Both all the time while connections stay: the path "
            "flaps.", "short", Query("delta(mptcp.interface.subflows_opened)", "$instance opened"),
            Query("delta(mptcp.interface.subflows_closed)", "$instance closed"), width=8, style="bars"),
    _series("Connections that hang if it goes", "Connections whose only live path is this link. Good is 0; a rise "
            "while the link is fine means that another one was lost.", "short",
            Query("mptcp.interface.sole_path_connections"), width=8, style="steps"),
])

_WIRE = Section("On the wire (only with the nftables table mptcp)", [
    _series("Packets of MPTCP, headers included", "What the table of nftables counts; empty without it, see mptcp.nft. "
            "Far above the payload: small packets or many acknowledgements.", "bps",
            Query(bits("mptcp.interface.wire.in.bytes"), "$instance in"),
            Query(bits("mptcp.interface.wire.out.bytes"), "$instance out"), height=6, absent=_NO_TABLE),
    _series("Packets per second", "Packets of MPTCP that the table of nftables counts. No good or bad by itself.",
            "pps", Query("rate(mptcp.interface.wire.in.packets)", "$instance in"),
            Query("rate(mptcp.interface.wire.out.packets)", "$instance out"), height=6, absent=_NO_TABLE),
])

DASHBOARD = look.board(
    "mptcp-interface", "MPTCP Interface", "Everything about one link: what it carries, how well, and who needs it",
    vector.TAGS, [*vector.source_variables(), vector.names_variable("interface", "Interface", "mptcp.interface.name")],
    [_NOW, Section("Traffic", [_traffic("in", "received"), _traffic("out", "sent"), _SHARE, _RESENT, _RTT]),
     _PATHS, _WIRE])
