# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections of the host, counted."""

from typing import Dict, Optional, Tuple

from ..sample import Sample
from ..snapshot import Snapshot
from . import COUNT, INSTANT, U32, Domain, Group, Metric

_MOST = 8
Redundancy = Tuple[int, Optional[int]]  # live subflows, how many connections have so many

CONNECTIONS: Group[Sample] = Group(7, None, Snapshot.refresh_sockets, (
    Metric("mptcp.connections", U32, INSTANT, COUNT, lambda sample: sample.established,
           "MPTCP connections established now",
           "Connections that speak MPTCP. Those that fell back to TCP are in mptcp.fallback.connections; "
           "mptcp.mib.mpcurrestab has the sum of both."),
    Metric("mptcp.fallback.connections", U32, INSTANT, COUNT, lambda sample: sample.fallen_back,
           "Connections that asked for MPTCP and run as TCP",
           "The socket is an MPTCP socket, the peer or something on the way does not speak it. Why: "
           "mptcp.mib.mpcapablefallbacksynack and its neighbours. A server does not count clients that never "
           "asked for MPTCP."),
), rows=lambda snapshot: snapshot.sample if snapshot.sampled else None)


def _redundancy(snapshot: Snapshot) -> Dict[int, Redundancy]:
    """Instance number -> how many; 1 is "0", so that ids are positive."""
    if not snapshot.subflows_known:
        return {number + 1: (number, None) for number in range(_MOST + 1)}
    found = snapshot.sample.redundancy
    rows: Dict[int, Redundancy] = {number + 1: (number, found[number]) for number in range(_MOST)}
    rows[_MOST + 1] = _MOST, sum(how_many for number, how_many in found.items() if number >= _MOST)
    return rows


def _name(row: Redundancy) -> str:
    return f"{row[0]}+" if row[0] == _MOST else str(row[0])


REDUNDANCY: Group[Redundancy] = Group(8, Domain(
    3, Snapshot.refresh_sockets, _redundancy, name=_name, labels=lambda row: {},
    oneline="Number of live subflows", help="0 to 7, and 8+ for 8 or more."), Snapshot.refresh_sockets, (
    Metric("mptcp.redundancy.connections", U32, INSTANT, COUNT, lambda row: row[1],
           "Connections that have so many live subflows",
           "How many established MPTCP connections have 0, 1, 2, ... live subflows. Live: established, with a "
           "way out over an interface that is up, and answered by the peer. 1 means that the next link "
           "failure ends the connection, 0 that it hangs now."),
))

# Apart, since not every kernel tells everybody which sockets are subflows.
DEGRADED: Group[Sample] = Group(24, None, Snapshot.refresh_sockets, (
    Metric("mptcp.redundancy.degraded_connections", U32, INSTANT, COUNT, lambda sample: sample.degraded,
           "Connections that have lost live subflows",
           "Established MPTCP connections that have fewer live subflows now than the most that a sample saw them "
           "have. A rise: a link or a path went, and they go on with what is left; which ones: "
           "mptcp.connection.live_subflows against mptcp.connection.live_subflows_most. It falls when the subflows "
           "are back or the connections end. Subflows that were closed on purpose count as lost, too."),
), rows=lambda snapshot: snapshot.sample if snapshot.subflows_known else None)
