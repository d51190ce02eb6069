# SPDX-License-Identifier: GPL-2.0-or-later
"""mptcp.interface.wire.*: packets of MPTCP as the optional table of nftables counts them.  A row is a Wire."""

from typing import Dict

from ..kernel.nftables import Wire
from ..snapshot import Snapshot
from . import BYTE, COUNT, COUNTER, U64, Group, Metric
from .interface import INTERFACES

_TABLE = (" Counted by a table of nftables that comes with the agent, once whoever runs the host has loaded it and "
          "turned the setting nftables on; no value without it. Exact whatever way connections end. From the IP "
          "header on; what the card cuts up or puts together is one packet. Starts at 0 when the table is loaded.")


def _rows(snapshot: Snapshot) -> Dict[int, Wire]:
    """Wires by instance: of interfaces that the table has met."""
    wires = snapshot.wires.value or {}
    return {path.id: wires[path.name] for path in snapshot.paths if path.name in wires}


GROUP: Group[Wire] = Group(21, INTERFACES, Snapshot.refresh_wires, (
    Metric("mptcp.interface.wire.in.bytes", U64, COUNTER, BYTE, lambda row: row.received_bytes,
           "Bytes of MPTCP packets received, headers included", "All TCP packets with an MPTCP option." + _TABLE),
    Metric("mptcp.interface.wire.out.bytes", U64, COUNTER, BYTE, lambda row: row.sent_bytes,
           "Bytes of MPTCP packets sent, headers included", "All TCP packets with an MPTCP option." + _TABLE),
    Metric("mptcp.interface.wire.in.packets", U64, COUNTER, COUNT, lambda row: row.received_packets,
           "MPTCP packets received", "All TCP packets with an MPTCP option." + _TABLE),
    Metric("mptcp.interface.wire.out.packets", U64, COUNTER, COUNT, lambda row: row.sent_packets,
           "MPTCP packets sent", "All TCP packets with an MPTCP option." + _TABLE),
), rows=_rows)
