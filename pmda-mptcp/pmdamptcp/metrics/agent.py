# SPDX-License-Identifier: GPL-2.0-or-later
"""mptcp.agent.*: what the agent itself costs and leaves out."""

from ..snapshot import Snapshot
from . import BYTE, COUNT, COUNTER, INSTANT, U32, U64, USEC, Group, Metric


def _omitted(rows):
    return lambda snapshot: snapshot.omitted(rows(snapshot.sample)) if snapshot.sampled else None


GROUP = Group(14, None, Snapshot.refresh_sockets, (
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
