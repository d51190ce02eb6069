# SPDX-License-Identifier: GPL-2.0-or-later
"""Which counters of the agent rose, for tests that say so exactly."""

import re
from typing import Dict

from ..common import wait_for

GROUPS = ("mptcp.mib", "mptcp.event")
# What rises with the data of any connection, and gauges, and events of listeners that come and go with tests.
COMMON = re.compile(r"mib\.(ofo\w+|.*wnd.*|duplicatedata|mptcpretrans|mpcurrestab|winprobe)|event\.listener_\w+")


def counters(host) -> Dict[str, int]:
    """mptcp.mib.* and mptcp.event.* as {"mib.mpjoinsyntx": 2, "event.subflow_closed_by.error ECONNRESET": 1}."""
    values, name = {}, ""
    for line in host.pcp("pminfo", "-f", *GROUPS).stdout.splitlines():
        if line and not line[0].isspace():
            name = line.strip()[len("mptcp."):]
            continue
        found = re.fullmatch(r'\s+(?:inst \[\d+ or "(.*)"\] )?value (\d+)', line)
        if found:
            values[f"{name} {found[1]}" if found[1] else name] = int(found[2])
    return values


def rises(before: Dict[str, int], after: Dict[str, int]) -> Dict[str, int]:
    """What rose between two of these, COMMON ones left out."""
    return {name: value - before.get(name, 0) for name, value in after.items()
            if value != before.get(name, 0) and not COMMON.fullmatch(name)}


def quiet(*hosts):
    """Wait until no connection is left and no counter rises; return the counters of each host."""
    seen = []

    def settled():
        seen.append([counters(host) for host in hosts])
        return len(seen) > 1 and seen[-1] == seen[-2] and not any(
            host.pminfo(f"mptcp.{kind}connections")[None] for host in hosts for kind in ("", "fallback."))

    wait_for(settled, timeout=20, interval=0.3, message="the hosts do not become quiet")
    return seen[-1]


class AtLeast(int):
    """Equal to all numbers from this one on: for counters of what is sent again after a while."""

    def __eq__(self, other):
        return other >= int(self)

    def __hash__(self):
        return int.__hash__(self)

    def __repr__(self):
        return f"{int(self)} or more"
