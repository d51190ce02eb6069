# SPDX-License-Identifier: GPL-2.0-or-later
"""mptcp.event.*: what the path manager told of, counted.  The row of a host is its Listener."""

from errno import errorcode
from typing import Callable, Dict, Optional, Tuple

from ..kernel.pm_events import NAMES
from ..listener import Listener
from ..snapshot import Snapshot
from . import COUNT, COUNTER, U64, Domain, Group, Metric

_TEXTS = {
    "created": ("Connections that began", "The first handshake told both sides that the peer speaks MPTCP."),
    "established": ("Connections that are ready", "From here on subflows can join."),
    "closed": ("Connections that the application closed",
               "None comes when the peer aborts, and data may still flow for a while."),
    "announced": ("Addresses that peers announced", "ADD_ADDR received. Whether they are joined: sub_established."),
    "removed": ("Addresses that peers withdrew", "REMOVE_ADDR received."),
    "sub_established": ("Subflows that joined a connection", "Initial subflows are not among them: see created."),
    "sub_closed": ("Subflows that ended while their connection went on",
                   "Without a later sub_established the connection lives on with fewer paths: the kernel does not "
                   "join again by itself. Why: mptcp.event.subflow_closed_by."),
    "sub_priority": ("Subflows whose backup flag the peer changed", "MP_PRIO received."),
    "listener_created": ("Listening sockets opened",
                         "Of services, and of endpoints with a port. No value before the first: older kernels "
                         "do not tell of them."),
    "listener_closed": ("Listening sockets closed", "No value before the first: older kernels do not tell of them."),
}
_SINCE = " Counted since the agent started; no value without CAP_NET_ADMIN or before Linux 5.12."


def _count(kind: int, name: str) -> Callable[[Listener], Optional[int]]:
    if name.startswith("listener_"):
        return lambda listener: listener.counts[kind] or None
    return lambda listener: listener.counts[kind]


def _listener(snapshot: Snapshot) -> Optional[Listener]:
    listener = snapshot.sampler.listener
    return listener if listener.has_events else None


EVENTS: Group[Listener] = Group(16, None, Snapshot.refresh_events, tuple(
    Metric(f"mptcp.event.{name}", U64, COUNTER, COUNT, _count(kind, name), _TEXTS[name][0], _TEXTS[name][1] + _SINCE)
    for kind, name in NAMES.items()), rows=_listener)

#: Reasons of an MP_TCPRST by number, RFC 8684 section 3.6.
_REASONS = ("unspecified", "mptcp_error", "no_resources", "prohibited", "outstanding_data", "bad_performance",
            "middlebox")


def _reasons(snapshot: Snapshot) -> Dict[int, Tuple[str, int]]:
    listener = _listener(snapshot)
    if listener is None:
        return {}
    return {number + 1: (_REASONS[number] if number < len(_REASONS) else f"reason_{number}", listener.reasons[number])
            for number in sorted({*range(len(_REASONS)), *listener.reasons})}


def _errors(snapshot: Snapshot) -> Dict[int, Tuple[str, int]]:
    listener = _listener(snapshot)
    counted = sorted(listener.errors.items()) if listener else ()
    return {number: (errorcode.get(number, f"errno_{number}"), count) for number, count in counted if number}


REASONS: Group[Tuple[str, int]] = Group(17, Domain[Tuple[str, int]](
    7, Snapshot.refresh_events, _reasons, name=lambda row: row[0], labels=lambda row: {},
    oneline="Reasons of a subflow's reset", help="As MP_TCPRST carries them, RFC 8684 section 3.6."),
    Snapshot.refresh_events, (
    Metric("mptcp.event.subflow_closed_by.reason", U64, COUNTER, COUNT, lambda row: row[1],
           "Closed subflows by the reason that was given",
           "Subflows that ended while their connection went on, by the reason in the peer's reset. prohibited and "
           "no_resources: the peer does not want more subflows; middlebox: something on the way meddles." + _SINCE),
))

ERRORS: Group[Tuple[str, int]] = Group(18, Domain[Tuple[str, int]](
    8, Snapshot.refresh_events, _errors, name=lambda row: row[0], labels=lambda row: {},
    oneline="Errors that ended a subflow", help="By the names of errno(3), those that were seen."),
    Snapshot.refresh_events, (
    Metric("mptcp.event.subflow_closed_by.error", U64, COUNTER, COUNT, lambda row: row[1],
           "Closed subflows by the error of their socket",
           "Subflows that ended while their connection went on. ETIMEDOUT: the path is dead. ECONNREFUSED: the join "
           "was answered with a reset. ECONNRESET: reset later on. ECONNABORTED: ended by this host." + _SINCE),
))
