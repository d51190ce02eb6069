# SPDX-License-Identifier: GPL-2.0-or-later
"""The health rules of `pcp mptcp check`, as far as expressions can say them.

Gauges are judged as they are now, counters by their growth in the time shown.
A tile has the name of its rule, so that docs, pmie and check speak of the
same thing.
"""

from typing import Any

from . import look
from .look import BAD, GOOD, WARN
from .vector import Query, live, table_of

_OK = {"0": ("OK", GOOD)}
_MIB = "mptcp.mib."

NOW = table_of(
    ("redundancy_lost", live("mptcp.redundancy.degraded_connections")),
    ("endpoint_unused", "mptcp.pm.endpoint.subflows == 0 && mptcp.pm.endpoint.implicit == 0 && "
     "mptcp.pm.endpoint.subflow + mptcp.pm.endpoint.signal > 0 && sum(mptcp.redundancy.connections) > 0"),
    ("link_down", "mptcp.interface.up == 0 && mptcp.interface.in.bytes + mptcp.interface.out.bytes > 0"),
    ("fallback", live("mptcp.fallback.connections >= 3 && 9 * mptcp.fallback.connections >= mptcp.connections")),
    ("stalled_subflow", "mptcp.interface.stalled_subflows"),
    ("misrouted_endpoint", "mptcp.pm.endpoint.misrouted"),
    ("backup_traffic", "(rate(mptcp.interface.in.backup_bytes) + rate(mptcp.interface.out.backup_bytes) > 10000) && "
     "mptcp.redundancy.degraded_connections == 0"),
)

LATELY = (
    Query(live(_MIB + "blackhole"), "blackhole"),
    Query(live(f"{_MIB}mpjoinsyntx - {_MIB}mpjoinsynackrx"), "join_success"),
    Query(live(f"{_MIB}mpjoinsynackhmacfailure + {_MIB}mpjoinackhmacfailure"), "authentication"),
    Query(live("mptcp.agent.overruns"), "agent_overrun"),
)


def now() -> Any:
    return look.stat(
        "Is anything wrong now?",
        "The rules of pcp mptcp check that look at this moment; a number says how many are concerned. redundancy_lost: "
        "connections with fewer live paths than they had. endpoint_unused: endpoints without live subflows. link_down: "
        "links that carried MPTCP. fallback: a tenth or more of the connections run as TCP. stalled_subflow: no answer "
        "for seconds, the path beyond the link is dead. misrouted_endpoint: packets leave by another link, add source "
        "routing. backup_traffic: a backup is used though no path is lost. pcp mptcp check says more.",
        "short", NOW, [(None, GOOD), (1, WARN)], width=24, height=3, calc="sum", mapping=_OK, absent="-", names=True,
        size=16)


def lately() -> Any:
    return look.stat(
        "Did anything go wrong in the time shown?",
        "Rules of pcp mptcp check that look at counters; the number is their growth in the time shown. blackhole: "
        "something swallows SYNs with MPTCP, and the kernel opens all connections as TCP for a while. join_success: "
        "joins without an answer; one or two may be under way. authentication: joins with a wrong code, a middlebox or "
        "an intruder. agent_overrun: the agent missed messages, raise receive_buffer in mptcp.conf. Good is OK.",
        "short", LATELY, [(None, GOOD), (1, WARN), (3, BAD)], width=24, height=3, calc="diff", mapping=_OK, absent="-",
        names=True, size=16)
