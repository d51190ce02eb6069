# SPDX-License-Identifier: GPL-2.0-or-later
"""mptcp.subflow.*: one instance for each TCP subflow.  A row is a flows.Subflow."""

from typing import Callable, Dict, Optional, Union

from ..flows import Subflow
from ..kernel.inet_diag import BACKUP, SUBFLOW_FLAG_LETTERS, TCP_INFO, Row, info_field
from ..snapshot import Snapshot
from . import (BYTE, BYTE_PER_SEC, COUNT, COUNTER, DISCRETE, INSTANT, NONE, STRING, U32, U64, USEC, Domain, Group,
               Metric)

_CA_STATES = ("Open", "Disorder", "CWR", "Recovery", "Loss")


def _info(name: str, never: Optional[int] = None) -> Callable[[Row], Optional[int]]:
    """A tcp_info field; the value `never` is the kernel's way to say that there is none."""
    get = info_field(TCP_INFO, name)
    if never is None:
        return get

    def checked(row: Row) -> Optional[int]:
        value = get(row)
        return None if value == never else value
    return checked


def _egress(row: Subflow) -> Optional[str]:
    return row.path.name if row.routed and row.path else None


def _ca_state(row: Row, number: Callable[[Row], Optional[int]] = info_field(TCP_INFO, "ca_state")) -> Optional[str]:
    state = number(row)
    return None if state is None else _CA_STATES[state] if state < len(_CA_STATES) else str(state)


def _flags(row: Subflow) -> str:
    return "".join(letter for bit, letter in enumerate(SUBFLOW_FLAG_LETTERS) if row.flags >> bit & 1)


def _labels(row: Subflow) -> Dict[str, Union[int, str]]:
    return {"connection": f"c{row.connection.id}", "interface": row.path.name if row.path else "",
            "local": row.local, "remote": row.remote}


SUBFLOWS: Domain[Subflow] = Domain(
    6, Snapshot.refresh_sockets, lambda snapshot: snapshot.subflows,
    name=lambda row: row.name, labels=_labels, oneline="MPTCP subflows",
    help="One instance for each TCP subflow of a connection: c17::2 is the second that connection c17 had; then the "
         "interface that it left by when it was first seen, and its addresses.")

GROUP: Group[Subflow] = Group(13, SUBFLOWS, Snapshot.refresh_sockets, (
    Metric("mptcp.subflow.connection", STRING, DISCRETE, NONE, lambda row: row.connection.name,
           "Connection that the subflow belongs to", "The instance's name in mptcp.connection."),
    Metric("mptcp.subflow.interface", STRING, DISCRETE, NONE, _egress,
           "Interface that its packets leave by now", "By route lookup. No value: there is no route now."),
    Metric("mptcp.subflow.local", STRING, DISCRETE, NONE, lambda row: row.local,
           "Local address and port", "IPv4-mapped IPv6 addresses are shown as IPv4."),
    Metric("mptcp.subflow.remote", STRING, DISCRETE, NONE, lambda row: row.remote,
           "Remote address and port", "IPv4-mapped IPv6 addresses are shown as IPv4."),
    Metric("mptcp.subflow.local_id", U32, DISCRETE, NONE, lambda row: row.ids[0],
           "Address id of the local address",
           "As in MP_JOIN (RFC 8684). 0 is usually, but not always, the initial subflow's."),
    Metric("mptcp.subflow.remote_id", U32, DISCRETE, NONE, lambda row: row.ids[1],
           "Address id of the remote address", "As in MP_JOIN (RFC 8684)."),
    Metric("mptcp.subflow.state", STRING, DISCRETE, NONE, lambda row: row.state,
           "TCP state", "As ss prints it. SYN-SENT that lasts: the join is not answered."),
    Metric("mptcp.subflow.flags", STRING, DISCRETE, NONE, _flags,
           "MPTCP flags in the letters of ss",
           "M/m opened with MP_CAPABLE by remote/local, J/j joined, B/b backup asked by remote/local, e fully "
           "established, c connected, v mapping valid."),
    Metric("mptcp.subflow.initial", U32, DISCRETE, NONE, lambda row: int(row.initial),
           "1 if the subflow opened the connection", "The others joined it later."),
    Metric("mptcp.subflow.backup", U32, INSTANT, NONE, lambda row: int(bool(row.flags & BACKUP)),
           "1 if either side asked to use it as backup only", "It carries data only when no other can."),
    Metric("mptcp.subflow.live", U32, INSTANT, NONE, lambda row: int(row.live),
           "1 if it can do its work",
           "Established, with a way out over an interface that is up, and answered by the peer."),
    Metric("mptcp.subflow.in.bytes", U64, COUNTER, BYTE, _info("bytes_received"),
           "Payload received", "tcpi_bytes_received: in order, once each."),
    Metric("mptcp.subflow.out.bytes", U64, COUNTER, BYTE, _info("bytes_sent"),
           "Payload sent", "tcpi_bytes_sent: retransmissions included."),
    Metric("mptcp.subflow.out.acked_bytes", U64, COUNTER, BYTE, _info("bytes_acked"),
           "Bytes that the peer has confirmed",
           "tcpi_bytes_acked: counts SYN and FIN as one byte each."),
    Metric("mptcp.subflow.out.retrans_bytes", U64, COUNTER, BYTE, _info("bytes_retrans"),
           "Payload sent again on this subflow", "tcpi_bytes_retrans."),
    Metric("mptcp.subflow.retransmits", U32, COUNTER, COUNT, _info("total_retrans"),
           "Segments sent again on this subflow", "tcpi_total_retrans."),
    Metric("mptcp.subflow.rtt", U32, INSTANT, USEC, _info("rtt"),
           "Smoothed round-trip time", "Time in queues on the way counts."),
    Metric("mptcp.subflow.rttvar", U32, INSTANT, USEC, _info("rttvar"),
           "Mean deviation of the round-trip time", "Of the samples behind mptcp.subflow.rtt."),
    Metric("mptcp.subflow.min_rtt", U32, INSTANT, USEC, _info("min_rtt", never=2**32 - 1),
           "Least round-trip time of late", "About the path's own delay. No value before the first sample."),
    Metric("mptcp.subflow.cwnd", U32, INSTANT, COUNT, _info("snd_cwnd"),
           "Congestion window in segments", "times snd_mss is what may be under way at once."),
    Metric("mptcp.subflow.ssthresh", U32, INSTANT, COUNT, _info("snd_ssthresh", never=2**31 - 1),
           "Slow-start threshold in segments", "No value while there was no congestion yet."),
    Metric("mptcp.subflow.snd_mss", U32, INSTANT, BYTE, _info("snd_mss"),
           "Payload of a full segment", "Smaller than that of other paths: a tunnel or a small MTU."),
    Metric("mptcp.subflow.delivery_rate", U64, INSTANT, BYTE_PER_SEC, _info("delivery_rate"),
           "Rate at which the path last delivered data", "The kernel's estimate; not the throughput of now."),
    Metric("mptcp.subflow.pacing_rate", U64, INSTANT, BYTE_PER_SEC, _info("pacing_rate", never=2**64 - 1),
           "Rate that the sender paces itself to", "No value: not paced."),
    Metric("mptcp.subflow.unacked", U32, INSTANT, COUNT, _info("unacked"),
           "Segments sent and not yet confirmed", "Under way, or lost."),
    Metric("mptcp.subflow.notsent_bytes", U32, INSTANT, BYTE, _info("notsent_bytes"),
           "Payload queued and not yet sent", "What waits for window or for the link."),
    Metric("mptcp.subflow.lost", U32, INSTANT, COUNT, _info("lost"),
           "Segments taken for lost now", "They wait to be sent again."),
    Metric("mptcp.subflow.backoff", U32, INSTANT, COUNT, _info("backoff"),
           "Retransmission timeouts in a row",
           "Each doubles the wait. 3 or more: the path is as good as dead."),
    Metric("mptcp.subflow.ca_state", STRING, INSTANT, NONE, _ca_state,
           "State of congestion control",
           "Open: no trouble. Disorder, CWR, Recovery: mends losses. Loss: a retransmission timeout."),
    Metric("mptcp.subflow.busy", U64, COUNTER, USEC, _info("busy_time"),
           "Time with data to send", "The next two are parts of it."),
    Metric("mptcp.subflow.rwnd_limited", U64, COUNTER, USEC, _info("rwnd_limited"),
           "Time held up by the receiver's window",
           "A large part of mptcp.subflow.busy: the receiver, not the path, is the limit."),
    Metric("mptcp.subflow.sndbuf_limited", U64, COUNTER, USEC, _info("sndbuf_limited"),
           "Time held up by the send buffer",
           "A large part of mptcp.subflow.busy: a larger send buffer would help."),
))
