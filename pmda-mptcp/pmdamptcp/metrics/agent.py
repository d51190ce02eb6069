# SPDX-License-Identifier: GPL-2.0-or-later
"""mptcp.agent.*: what the agent itself costs and leaves out."""

from operator import attrgetter
from typing import Callable, Optional, Sized

from ..sample import Sample
from ..snapshot import Snapshot
from . import BYTE, COUNT, COUNTER, DISCRETE, INSTANT, NONE, STRING, U32, U64, USEC, Group, Metric


def _omitted(rows: Callable[[Sample], Sized]) -> Callable[[Snapshot], Optional[int]]:
    return lambda snapshot: snapshot.omitted(rows(snapshot.sample)) if snapshot.sampled else None


def _listener(name: str) -> Callable[[Snapshot], Optional[int]]:
    return attrgetter("sampler.listener." + name)


GROUP: Group[Snapshot] = Group(14, None, Snapshot.refresh_sockets, (
    Metric("mptcp.agent.samples", U64, COUNTER, COUNT, lambda snapshot: snapshot.samples,
           "Samples of the sockets taken", "Several fetches in a short time share one."),
    Metric("mptcp.agent.sample_time", U64, COUNTER, USEC, lambda snapshot: int(snapshot.sample_cpu * 1e6),
           "CPU time spent on these samples",
           "Dumping the sockets and taking them in; not the values themselves. By mptcp.agent.samples: the "
           "cost of one. While it is long (0.1 s), samples are taken no more often than five times that."),
    Metric("mptcp.agent.sockets", U64, COUNTER, COUNT, lambda snapshot: snapshot.sampler.sockets,
           "Sockets read in these samples", "All TCP sockets count, since the kernel cannot sort them out."),
    Metric("mptcp.agent.malformed", U64, COUNTER, COUNT, lambda snapshot: snapshot.sampler.malformed,
           "Receive buffers with a message that could not be read",
           "Anything but 0 means a kernel that the agent does not understand; please report it."),
    Metric("mptcp.agent.omitted.connections", U32, INSTANT, COUNT, _omitted(lambda sample: sample.connections),
           "Connections that are not shown one by one",
           "Those beyond the setting `instances`. Sums have them all the same."),
    Metric("mptcp.agent.omitted.subflows", U32, INSTANT, COUNT, _omitted(lambda sample: sample.subflows),
           "Subflows that are not shown one by one",
           "Those beyond the setting `instances`. Sums have them all the same."),
    Metric("mptcp.agent.memory", U64, INSTANT, BYTE, lambda snapshot: snapshot.memory,
           "Resident memory of the agent", "As RSS in ps."),
))

# Apart, since these take no sample.
LISTENER: Group[Snapshot] = Group(19, None, Snapshot.refresh_mode, (
    Metric("mptcp.agent.mode", STRING, DISCRETE, NONE, lambda snapshot: snapshot.mode,
           "What the bytes of mptcp.interface come from",
           "events: path-manager events and the end of each socket, right to the byte but for what a peer aborts. "
           "ends: samples tell which sockets are subflows, and their end is seen. samples: what fetches saw. "
           "With +nftables, mptcp.interface.wire has the bytes of all that ended in whatever way."),
    Metric("mptcp.agent.listener_time", U64, COUNTER, USEC, lambda snapshot: int(snapshot.sampler.listener.cpu * 1e6),
           "CPU time of the listener", "Of the thread that takes in events and ends of sockets."),
    Metric("mptcp.agent.events", U64, COUNTER, COUNT, _listener("events_told"),
           "Path-manager events taken in", "By type: mptcp.event."),
    Metric("mptcp.agent.ends", U64, COUNTER, COUNT, _listener("ends_told"),
           "Ends of TCP sockets taken in", "Plain TCP sockets are among them: the kernel cannot sort them out."),
    Metric("mptcp.agent.lookups", U64, COUNTER, COUNT, _listener("lookups"),
           "Single sockets that the listener looked at",
           "Initial subflows, whose counters the kernel drops when the peer aborts the connection."),
    Metric("mptcp.agent.overruns", U64, COUNTER, COUNT, _listener("overruns"),
           "Times that messages of the kernel were lost",
           "The listener did not come to read for too long. What was opened is found again at once; bytes of "
           "subflows that ended unseen in that moment are not. Rises often: raise receive_buffer."),
    Metric("mptcp.agent.rounds", U64, COUNTER, COUNT, _listener("rounds"),
           "Times that the listener looked at all sockets",
           "Every few minutes, when routes changed, and after an overrun."),
    Metric("mptcp.agent.faults", U64, COUNTER, COUNT, _listener("faults"),
           "Turns of the listener that failed", "The log has the first of each kind."),
    Metric("mptcp.agent.truncated", U64, COUNTER, COUNT, lambda snapshot: snapshot.sampler.ledger.truncated,
           "Initial subflows whose last bytes were not seen",
           "The peer aborted the connection, or the subflow alone was reset, and the kernel dropped its counters "
           "before it told of the end. What it carried up to the last look at it is counted; young ones are looked "
           "at up to 250 times a second, old ones once."),
    Metric("mptcp.agent.unrouted", U64, COUNTER, BYTE, lambda snapshot: snapshot.sampler.ledger.unrouted,
           "Bytes of subflows that ended without a known interface", "They are on no interface's account."),
    Metric("mptcp.agent.subflows", U32, INSTANT, COUNT, lambda snapshot: len(snapshot.sampler.ledger),
           "Subflows that are being followed", "Those that just ended, or were never answered, are among them."),
    Metric("mptcp.agent.lookup_samples", U64, COUNTER, COUNT, lambda snapshot: snapshot.sampler.lookup_samples,
           "Samples that asked for single sockets",
           "Instead of all TCP sockets: when subflows are few among many. The others: mptcp.agent.samples."),
))
