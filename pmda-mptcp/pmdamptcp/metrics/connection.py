# SPDX-License-Identifier: GPL-2.0-or-later
"""mptcp.connection.*: one instance for each MPTCP socket.  A row is a flows.Connection.

The local token is what the kernel knows a connection by and what privileged
commands take; it stays here (as keys and data sequence numbers do), and the
connection is called c1, c2, ... instead.
"""

from typing import Callable, Optional

from ..flows import Connection
from ..kernel.inet_diag import MPTCP_INFO, Row, info_field
from ..snapshot import Owned, Snapshot
from . import BYTE, COUNT, COUNTER, DISCRETE, INSTANT, MSEC, NONE, STRING, U32, U64, Domain, Group, Metric, Value


def _info(name: str) -> Callable[[Row], Optional[int]]:
    return info_field(MPTCP_INFO, name)


_write_seq, _snd_una = _info("write_seq"), _info("snd_una")
_OLD = " On kernels before 6.5, which do not count it, the sum over the subflows that samples saw."
_LOOKED_UP = (" Looked up aside, so that of a new connection it comes a second late; no value for one that no process "
              "has open any more, or with the setting processes = no. Root is told of all, users of their own.")
_LIMIT = " (as this connection saw it when it was opened; 0 under a userspace path manager)"


def _bytes(name: str, of_subflows: Callable[[Connection], int]) -> Callable[[Connection], Optional[int]]:
    """The connection's own counter, or what the subflows say where this kernel has none."""
    own = _info(name)

    def get(row: Connection) -> Optional[int]:
        value = own(row)
        return of_subflows(row) if value is None and row.opened else value
    return get


def _unacked(row: Connection) -> Optional[int]:
    written, unacked = _write_seq(row), _snd_una(row)
    return None if written is None or unacked is None else (written - unacked) % 2**64


def _server_side(row: Connection) -> Optional[int]:
    return None if row.server_side is None else int(row.server_side)


CONNECTIONS: Domain[Connection] = Domain(
    5, Snapshot.refresh_owners, lambda snapshot: snapshot.connections,
    name=lambda row: row.name,
    labels=lambda row: {"connection": f"c{row.id}", "local": row.local, "remote": row.remote},
    oneline="MPTCP connections",
    help="One instance for each MPTCP socket that is not a listener: a number that is never used again, and the "
         "addresses it was opened with.")

GROUP: Group[Connection] = Group(12, CONNECTIONS, Snapshot.refresh_sockets, (
    Metric("mptcp.connection.name", STRING, DISCRETE, NONE, lambda row: row.name,
           "Name of the connection", "The instance's name as a value, for tools that choose by values."),
    Metric("mptcp.connection.local", STRING, DISCRETE, NONE, lambda row: row.local,
           "Local address and port", "Those of the initial subflow."),
    Metric("mptcp.connection.remote", STRING, DISCRETE, NONE, lambda row: row.remote,
           "Remote address and port",
           "Those of the initial subflow, as far as the setting remote_addresses shows them."),
    Metric("mptcp.connection.state", STRING, DISCRETE, NONE, lambda row: row.state,
           "State of the connection", "As ss -M prints it. ESTAB is the normal one."),
    Metric("mptcp.connection.server_side", U32, DISCRETE, NONE, _server_side,
           "1 if the peer opened the connection",
           "No value when the initial subflow ended before the agent saw it."),
    Metric("mptcp.connection.fallback", U32, INSTANT, NONE, lambda row: int(row.fallback),
           "1 if the connection runs as plain TCP",
           "MPTCP was asked for but not agreed on, or given up later. It has no subflows then."),
    Metric("mptcp.connection.subflows_max", U32, DISCRETE, NONE, _info("subflows_max"),
           "Limit of additional subflows", "mptcp.pm.limits.subflows" + _LIMIT + "."),
    Metric("mptcp.connection.in.bytes", U64, COUNTER, BYTE, _bytes("bytes_received", lambda row: row.received),
           "Bytes received", "Data that the connection received in order, once each." + _OLD),
    Metric("mptcp.connection.out.bytes", U64, COUNTER, BYTE, _bytes("bytes_sent", lambda row: row.sent),
           "Bytes sent", "Data that the connection handed to subflows, without reinjections." + _OLD),
    Metric("mptcp.connection.out.acked_bytes", U64, COUNTER, BYTE, _info("bytes_acked"),
           "Bytes that the peer has confirmed", "At the level of the connection (DATA_ACK)."),
    Metric("mptcp.connection.out.retrans_bytes", U64, COUNTER, BYTE, _info("bytes_retrans"),
           "Bytes sent again on another subflow",
           "Reinjected at the level of the connection: the first sign of a path that went dead."),
    Metric("mptcp.connection.out.unacked_bytes", U64, INSTANT, BYTE, _unacked,
           "Bytes written and not yet confirmed by the peer",
           "What the application wrote minus what the peer confirmed. Large and not shrinking: no path works."),
    Metric("mptcp.connection.retransmits", U32, INSTANT, COUNT, _info("retransmits"),
           "Retransmission timeouts of the connection in a row",
           "Timeouts at the level of the connection since it last made progress."),
    Metric("mptcp.connection.addresses.signalled", U32, INSTANT, COUNT, _info("add_addr_signal"),
           "Own addresses announced to the peer", "ADD_ADDR sent on this connection."),
    Metric("mptcp.connection.addresses.accepted", U32, INSTANT, COUNT, _info("add_addr_accepted"),
           "The peer's announced addresses that were accepted",
           "At mptcp.connection.addresses.accepted_max, further announcements are ignored."),
    Metric("mptcp.connection.addresses.signalled_max", U32, DISCRETE, NONE, _info("add_addr_signal_max"),
           "Own addresses that could be announced", "Endpoints with the signal flag" + _LIMIT + "."),
    Metric("mptcp.connection.addresses.accepted_max", U32, DISCRETE, NONE, _info("add_addr_accepted_max"),
           "Limit of accepted announcements", "mptcp.pm.limits.add_addr_accepted" + _LIMIT + "."),
    Metric("mptcp.connection.since.data_sent", U32, INSTANT, MSEC, _info("last_data_sent"),
           "Time since data were last sent", "Linux 6.10 and newer."),
    Metric("mptcp.connection.since.data_received", U32, INSTANT, MSEC, _info("last_data_recv"),
           "Time since data were last received", "Linux 6.10 and newer."),
    Metric("mptcp.connection.since.ack_received", U32, INSTANT, MSEC, _info("last_ack_recv"),
           "Time since the peer last confirmed data", "Linux 6.10 and newer."),
    Metric("mptcp.connection.uid", U32, DISCRETE, NONE, lambda row: row.uid,
           "User that owns the socket", "Numeric user id."),
))

# Apart, since not every kernel tells everybody which sockets are subflows.
SUBFLOWS: Group[Connection] = Group(15, CONNECTIONS, Snapshot.refresh_sockets, (
    Metric("mptcp.connection.subflows", U32, INSTANT, COUNT, lambda row: row.subflows,
           "Established subflows, the initial one included", "As ss -tM shows them, counted."),
    Metric("mptcp.connection.live_subflows", U32, INSTANT, COUNT, lambda row: row.live,
           "Of these, subflows that can do their work",
           "They have a way out over an interface that is up, and the peer answers. 1: the next link failure "
           "makes the connection hang."),
    Metric("mptcp.connection.live_subflows_most", U32, DISCRETE, COUNT, lambda row: row.most,
           "Most live subflows that it had",
           "That samples saw at once while it was established; more than mptcp.connection.live_subflows: it has lost "
           "redundancy. 0 once it runs as plain TCP."),
), rows=lambda snapshot: snapshot.connections if snapshot.subflows_known else {})


def owner(field: str) -> Callable[[Owned], Value]:
    """A getter for a field of the owner, who is only looked for with the value."""
    def get(pair: Owned) -> Value:
        owner_of, row = pair
        value: Value = getattr(owner_of(row), field, None)
        return value
    return get


# Apart, since somebody else looks them up, and only when they are asked for.
OWNERS: Group[Owned] = Group(22, CONNECTIONS, Snapshot.refresh_owners, (
    Metric("mptcp.connection.pid", U32, DISCRETE, NONE, owner("pid"),
           "Process that has the connection open",
           "As ss -Mp shows it; of several the one that was started first, for programs inherit what their parents "
           "have open." + _LOOKED_UP),
    Metric("mptcp.connection.command", STRING, DISCRETE, NONE, owner("command"),
           "Name of that process", "Up to 15 characters of it, as ps -o comm shows it." + _LOOKED_UP),
), rows=lambda snapshot: snapshot.owned_connections)
