# SPDX-License-Identifier: GPL-2.0-or-later
"""mptcp.subflows and mptcp.interface.*: traffic and subflows by interface.  A row is a flows.Path.

Instances are named as those of network.interface.*.
"""

from typing import Dict, Optional, Tuple

from ..flows import Path
from ..kernel.interfaces import Traffic
from ..snapshot import Snapshot
from . import BYTE, COUNT, COUNTER, INSTANT, DISCRETE, NONE, STRING, U32, U64, USEC, Domain, Group, Metric

_EGRESS = ("The interface is the one that the routing of this host sends the subflow's packets to, which need "
           "not be the one that owns its address. Rules by port, mark or user are not seen.")
_BOOKED = (" Taken from the subflows' own counters, to the last byte of each as the kernel tells it when it ends, "
           "however short it lived (mptcp.agent.mode: events). Only the last moments of an initial subflow that the "
           "peer aborts are not told: mptcp.agent.truncated. Starts at 0 with the agent.")
_BACKUP = ("What subflows carried while either side had them marked backup. A rise: no other path of these "
           "connections works, or the other side does not heed the mark. A mark that the peer changes counts at "
           "once, one that this host changes with the next sample; one that this host gave to a subflow that no "
           "sample saw is not known.")


def _rows(snapshot: Snapshot) -> Dict[int, Path]:
    return {path.id: path for path in snapshot.paths}


INTERFACES: Domain[Path] = Domain(
    4, Snapshot.refresh_links, _rows, name=lambda path: path.name, labels=lambda path: {"interface": path.name},
    oneline="Network interfaces", help="Named as the instances of network.interface.")


def _gauges(snapshot: Snapshot) -> Dict[int, Path]:
    """Only while the kernel tells which sockets are subflows."""
    return _rows(snapshot) if snapshot.subflows_known else {}


def _totals(snapshot: Snapshot) -> Dict[int, Path]:
    """None when a sample fails: a total that stands still would tell that nothing is carried."""
    return _rows(snapshot) if snapshot.totals_known and snapshot.sampled else {}


SUBFLOWS: Group[Path] = Group(9, INTERFACES, Snapshot.refresh_sockets, (
    Metric("mptcp.subflows", U32, INSTANT, COUNT, lambda path: path.subflows,
           "Established MPTCP subflows by interface",
           "Subflows whose packets leave by this interface now. " + _EGRESS),
    Metric("mptcp.interface.backup_subflows", U32, INSTANT, COUNT, lambda path: path.backup,
           "Of these subflows, those with the backup flag",
           "Either side asked that the subflow be used only when no other can carry data."),
    Metric("mptcp.interface.stalled_subflows", U32, INSTANT, COUNT, lambda path: path.stalled,
           "Established subflows whose peer does not answer",
           "Subflows that retransmitted three times or more without an answer. Only a sender with data under "
           "way can see it: on the receiving host a dead path shows no sign here."),
    Metric("mptcp.interface.sole_path_connections", U32, INSTANT, COUNT, lambda path: path.sole,
           "Connections that would hang if this link went",
           "MPTCP connections all of whose live subflows use this interface. Half-closed ones, in which data "
           "still flow one way, count too."),
    Metric("mptcp.interface.rtt", U32, INSTANT, USEC, lambda path: path.rtt,
           "Mean smoothed round-trip time of the subflows",
           "Of the established subflows that leave by this interface; no value without one. Queues of the "
           "own link count: it rises when the link is full."),
), rows=_gauges)

TRAFFIC: Group[Path] = Group(10, INTERFACES, Snapshot.refresh_sockets, (
    Metric("mptcp.interface.in.bytes", U64, COUNTER, BYTE, lambda path: path.received,
           "Payload that MPTCP subflows received by interface",
           "TCP payload of subflows, without headers, once each; like ss, a received FIN counts as a byte. " + _EGRESS
           + _BOOKED),
    Metric("mptcp.interface.out.bytes", U64, COUNTER, BYTE, lambda path: path.sent,
           "Payload that MPTCP subflows sent by interface",
           "TCP payload of subflows, without headers, retransmissions included. " + _EGRESS + _BOOKED),
    Metric("mptcp.interface.out.retrans_bytes", U64, COUNTER, BYTE, lambda path: path.retrans,
           "Retransmitted part of mptcp.interface.out.bytes",
           "Against out.bytes: more than a percent or two tells of a lossy or overfull link." + _BOOKED),
    Metric("mptcp.interface.subflows_opened", U64, COUNTER, COUNT, lambda path: path.opened,
           "Subflows that began to use the interface",
           "Subflows that were opened since the agent started, initial ones included."),
    Metric("mptcp.interface.subflows_closed", U64, COUNTER, COUNT, lambda path: path.closed,
           "Subflows of the interface that ended",
           "Subflows that ended since the agent started. Those that are older than the agent, or that began on "
           "another interface, count too: opened minus closed is not mptcp.subflows."),
    Metric("mptcp.interface.in.backup_bytes", U64, COUNTER, BYTE, lambda path: path.backup_received,
           "Part of mptcp.interface.in.bytes that backup subflows carried", _BACKUP),
    Metric("mptcp.interface.out.backup_bytes", U64, COUNTER, BYTE, lambda path: path.backup_sent,
           "Part of mptcp.interface.out.bytes that backup subflows carried", _BACKUP),
), rows=_totals)


_ANEW = " It goes on where a device of the same name is made anew, which begins at 0 itself."


def _devices(snapshot: Snapshot) -> Dict[int, Tuple[Path, Optional[Traffic]]]:
    """(path, its device counters or None), by instance."""
    traffic = snapshot.traffic.value or {}
    return {path.id: (path, traffic.get(path.name)) for path in snapshot.paths}


DEVICES: Group[Tuple[Path, Optional[Traffic]]] = Group(11, INTERFACES, Snapshot.refresh_traffic, (
    Metric("mptcp.interface.name", STRING, DISCRETE, NONE, lambda row: row[0].name,
           "Name of the interface", "The instance's name as a value, for tools that choose by values."),
    Metric("mptcp.interface.up", U32, INSTANT, NONE, lambda row: None if row[0].up is None else int(row[0].up),
           "1 if the interface is up and has carrier",
           "Administratively up and with carrier. 0 also for an interface that is gone but carried MPTCP."),
    Metric("mptcp.interface.total.in.bytes", U64, COUNTER, BYTE, lambda row: row[1] and row[1].received,
           "All bytes that the device received",
           "The device's own counter, headers and other traffic included, as network.interface.in.bytes: for "
           "the share that MPTCP has in a link's traffic." + _ANEW),
    Metric("mptcp.interface.total.out.bytes", U64, COUNTER, BYTE, lambda row: row[1] and row[1].sent,
           "All bytes that the device sent",
           "The device's own counter, headers and other traffic included, as network.interface.out.bytes."
           + _ANEW),
), rows=_devices)
