# SPDX-License-Identifier: GPL-2.0-or-later
"""A host as the client sees it: two links, two connections of two subflows each, all well.

`record(second)` is what is known at a time, `changed` what a fault makes of
it, `view` the client's view of two of them, ten seconds apart.
"""

from typing import Any, Dict, Optional

from pcp_mptcp.sample import Sample
from pcp_mptcp.view import View

C1, C2 = "c1 10.0.1.1:40000->10.0.9.9:443", "c2 [fd00:1::1]:5201->[fd00:9::9]:50000"
FLOWS = ("c1::1 eth0 10.0.1.1:40000->10.0.9.9:443", "c1::2 wlan0 10.0.2.1:40001->10.0.9.9:443",
         "c2::1 eth0 [fd00:1::1]:5201->[fd00:9::9]:50000", "c2::2 wlan0 [fd00:2::1]:5201->[fd00:9::9]:50001")
ENDPOINT = "2 10.0.2.1%wlan0"
NONE_OF_THEM = dict.fromkeys(("0", "1", "3", "4", "5", "6", "7", "8+"), 0)
#: Counters of the kernel that stand still while all is well.
QUIET = ("mpcapablefallbackack mpcapablefallbacksynack mpcapablesyntxdrop mpcapablesyntxdisabled blackhole "
         "mpcapabledatafallback md5sigfallback dssfallback simultconnectfallback dsscorruptionfallback infinitemaptx "
         "infinitemaprx mpjoinsynackhmacfailure mpjoinackhmacfailure mpjoinrejected").split()

Record = Dict[str, Any]


def record(second: int = 0) -> Record:
    """All values of the host at a second; in ten seconds eth0 carries 10 MB in, wlan0 5 MB."""
    s = second
    found = {
        "mptcp.connections": 2, "mptcp.fallback.connections": 0, "mptcp.sysctl.enabled": 1,
        "mptcp.sysctl.path_manager": "kernel", "mptcp.sysctl.pm_type": 0, "mptcp.sysctl.blackhole_timeout": 3600,
        "mptcp.pm.limits.subflows": 2, "mptcp.pm.limits.add_addr_accepted": 2,
        "mptcp.redundancy.connections": {**NONE_OF_THEM, "2": 2}, "mptcp.redundancy.degraded_connections": 0,
        "mptcp.agent.overruns": 0, "mptcp.event.announced": 0,
        "mptcp.subflows": links(0, 2, 2),
        **_of("mptcp.interface.", {
            "up": links(1, 1, 1), "rtt": {"eth0": 12000, "wlan0": 31500}, "sole_path_connections": links(0, 0, 0),
            "stalled_subflows": links(0, 0, 0), "backup_subflows": links(0, 0, 0),
            "in.bytes": links(0, 1000000 * s + 1000, 500000 * s + 1000), "out.bytes": links(0, 10000 * s, 5000 * s),
            "out.retrans_bytes": links(0, 100 * s, 0), "in.backup_bytes": links(0, 0, 0),
            "out.backup_bytes": links(0, 0, 0), "total.in.bytes": links(5 * s, 2000000 * s, 505000 * s),
            "total.out.bytes": links(5 * s, 20000 * s, 5000 * s)}),
        **_of("mptcp.pm.endpoint.", {name: {ENDPOINT: value} for name, value in {
            "id": 2, "address": "10.0.2.1", "port": 0, "interface": "wlan0", "flags": "subflow", "signal": 0,
            "subflow": 1, "implicit": 0, "owner": "wlan0", "subflows": 1, "misrouted": 0}.items()}),
        **_of("mptcp.mib.", {**dict.fromkeys(QUIET, 0), "mpcapablesyntx": 5 + s, "mpcapablesynackrx": 5 + s,
                             "mpcapablesynrx": 5 + s, "mpcapableackrx": 5 + s, "mpjoinsyntx": 5 + s,
                             "mpjoinsynackrx": 5 + s, "mpjoinsynrx": 5 + s, "mpjoinackrx": 5 + s}),
        **_of("mptcp.connection.", {name: {C1: one, C2: two} for name, (one, two) in _connections(s).items()}),
        **_of("mptcp.subflow.", {name: dict(zip(FLOWS, values)) for name, values in _flows(s).items()}),
    }
    return found


def links(lo: Any, eth0: Any, wlan0: Any) -> Dict[str, Any]:
    """A value for each interface."""
    return {"lo": lo, "eth0": eth0, "wlan0": wlan0}


def _of(prefix: str, values: Dict[str, Any]) -> Record:
    return {prefix + name: value for name, value in values.items()}


def _connections(s: int) -> Dict[str, Any]:
    return {
        "local": ("10.0.1.1:40000", "[fd00:1::1]:5201"), "remote": ("10.0.9.9:443", "[fd00:9::9]:50000"),
        "state": ("ESTAB", "ESTAB"), "server_side": (0, 1), "fallback": (0, 0), "subflows": (2, 2),
        "live_subflows": (2, 2), "live_subflows_most": (2, 2), "subflows_max": (2, 2),
        "in.bytes": (1000000 * s, 500000 * s), "out.bytes": (10000 * s, 5000 * s), "out.retrans_bytes": (100 * s, 0),
        "out.unacked_bytes": (0, 1448), "retransmits": (0, 0), "addresses.signalled": (0, 1),
        "addresses.accepted": (1, 0), "addresses.signalled_max": (0, 2), "addresses.accepted_max": (2, 2),
        "since.data_sent": (40, 9000), "since.data_received": (12000, 8500), "since.ack_received": (40, 8500),
        "pid": (4711, 815), "command": ("curl", "iperf3")}


def _flows(s: int) -> Dict[str, Any]:
    return {
        "connection": (C1, C1, C2, C2), "interface": ("eth0", "wlan0") * 2,
        "local": ("10.0.1.1:40000", "10.0.2.1:40001", "[fd00:1::1]:5201", "[fd00:2::1]:5201"),
        "remote": ("10.0.9.9:443", "10.0.9.9:443", "[fd00:9::9]:50000", "[fd00:9::9]:50001"),
        "state": ("ESTAB",) * 4, "flags": ("Mmec", "Jjec") * 2, "initial": (1, 0, 1, 0), "backup": (0,) * 4,
        "live": (1,) * 4, "in.bytes": (700000 * s, 300000 * s, 300000 * s, 200000 * s),
        "out.bytes": (10000 * s, 0, 0, 5000 * s), "out.retrans_bytes": (100 * s, 0, 0, 0),
        "rtt": (12000, 31500, 12000, 31500), "rttvar": (500, 4000, 500, 4000), "min_rtt": (11000, 22000, 11000, 22000),
        "cwnd": (10, 20, 10, 20), "snd_mss": (1448,) * 4, "delivery_rate": (1250000,) * 4,
        "pacing_rate": (2500000,) * 4, "unacked": (0, 0, 0, 1), "notsent_bytes": (0,) * 4, "lost": (0,) * 4,
        "backoff": (0,) * 4, "ca_state": ("Open",) * 4, "busy": (250000 * s, 0, 0, 500000 * s),
        "rwnd_limited": (0,) * 4, "sndbuf_limited": (0, 0, 0, 200000 * s)}


def changed(old: Record, changes: Record) -> Record:
    """With some other values; a dict changes single instances, and None takes a metric or an instance away."""
    found = {name: dict(values) if isinstance(values, dict) else values for name, values in old.items()}
    for name, values in changes.items():
        if values is None:
            found.pop(name, None)
        elif isinstance(values, dict):
            merged = {**found.get(name, {}), **values}
            found[name] = {instance: value for instance, value in merged.items() if value is not None}
        else:
            found[name] = values
    return found


def without(old: Record, *prefixes: str) -> Record:
    """As an older kernel, or an archive of less, has it."""
    return {name: values for name, values in old.items() if not name.startswith(prefixes)}


def sample(values: Record, when: float) -> Sample:
    """As the source gives it."""
    made = Sample(0.0)
    for name, value in values.items():
        made.put(name, value if isinstance(value, dict) else {None: value}, when)
    return made


def view(changes: Optional[Record] = None, before: Optional[Record] = None) -> View:
    """The host at the seconds 10 and 20, with changes in the later, or `before`, in the earlier."""
    return View(sample(changed(record(10), before or {}), 1010.0), sample(changed(record(20), changes or {}), 1020.0))
