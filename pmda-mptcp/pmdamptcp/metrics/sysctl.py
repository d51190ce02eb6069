# SPDX-License-Identifier: GPL-2.0-or-later
"""mptcp.sysctl.*: the settings under net.mptcp.  A row is a dict from setting to text."""

from typing import Callable, Dict, Optional, Tuple

from ..snapshot import Snapshot
from ..stable_ids import Ids
from . import DISCRETE, NONE, STRING, U32, Domain, Group, Metric

Settings = Dict[str, str]


def _number(setting: str) -> Callable[[Settings], Optional[int]]:
    def get(row: Settings) -> Optional[int]:
        text = row.get(setting)
        if text is None or not (text.isascii() and text.isdigit() and len(text) <= 10):
            return None
        return int(text) if int(text) < 1 << 32 else None  # what U32 cannot hold
    return get


def _text(setting: str) -> Callable[[Settings], Optional[str]]:
    return lambda row: row.get(setting)


# setting, is it a number, oneline, help
_TABLE = (
    ("enabled", True, "Can sockets use MPTCP?",
     "1: applications that ask for MPTCP get it. 0: their sockets are plain TCP. It holds for connections "
     "opened from then on."),
    ("pm_type", True, "Which path manager: 0 in the kernel, 1 in user space",
     "0: the kernel follows the limits and endpoints in mptcp.pm. 1: a daemon such as mptcpd decides, and "
     "mptcp.pm has no effect. For connections opened from then on."),
    ("path_manager", False, "Name of the path manager of new connections",
     "kernel: limits and endpoints in mptcp.pm count; userspace: a daemon such as mptcpd decides. Replaces "
     "pm_type on newer kernels."),
    ("available_path_managers", False, "Path managers that path_manager may name", "In the kernel's order."),
    ("scheduler", False, "Packet scheduler of new connections",
     "Chooses the subflow that the next data go to. default: the one that is expected to send it first."),
    ("available_schedulers", False, "Schedulers that scheduler may name",
     "More than default are there when BPF schedulers are loaded."),
    ("allow_join_initial_addr_port", True, "May peers join at the address and port they first connected to?",
     "0 for servers behind a load balancer that would send the join elsewhere: announce endpoints instead."),
    ("checksum_enabled", True, "Do connections carry DSS checksums?",
     "1 finds middleboxes that change the data, at some cost in CPU. A connection has them when either end "
     "asks."),
    ("add_addr_timeout", True, "Seconds until an unconfirmed ADD_ADDR is sent again",
     "0: never again. Compare mptcp.mib.addaddrtx with mptcp.mib.echoadd."),
    ("stale_loss_cnt", True, "Retransmission timeouts in a row that make a subflow stale",
     "A stale subflow gets no new data until it answers. 0: subflows never become stale."),
    ("close_timeout", True, "Seconds that a closed connection waits for its peer",
     "A closed connection without a working subflow is ended after this time."),
    ("blackhole_timeout", True, "Seconds without MPTCP after a firewall swallowed its SYNs",
     "When SYNs with MPTCP are lost but plain ones are answered, new connections use plain TCP for this "
     "time, longer each time it happens. 0: not detected; writing it also ends a running pause."),
    ("syn_retrans_before_tcp_fallback", True, "SYNs with MPTCP that are lost before plain TCP is tried",
     "0: at once with the first retransmission. 128 or more: never."),
    ("add_addr_v6_port_drop_ts", True, "Drop TCP timestamps to fit an IPv6 address with port?",
     "1: an ADD_ADDR for IPv6 with a port and an HMAC takes the room of the timestamps option."),
)
KNOWN = frozenset(row[0] for row in _TABLE)
METRICS = tuple(Metric(f"mptcp.sysctl.{setting}", U32 if number else STRING, DISCRETE, NONE,
                       (_number if number else _text)(setting), oneline, f"net.mptcp.{setting}. {text}")
                for setting, number, oneline, text in _TABLE)
_refresh = Snapshot.refresh_settings


_other_ids: Ids[str] = Ids()


def _others(snapshot: Snapshot) -> Dict[int, Tuple[str, str]]:
    """Settings that are not in KNOWN."""
    settings = snapshot.settings.value or {}
    return {number: (name, settings[name]) for name, number in _other_ids.of(
        name for name in settings if name not in KNOWN).items()}


GROUP: Group[Settings] = Group(2, None, _refresh, METRICS, rows=lambda snapshot: snapshot.settings.value)
OTHER: Group[Tuple[str, str]] = Group(3, Domain[Tuple[str, str]](
    1, _refresh, _others, name=lambda setting: setting[0], labels=lambda setting: {},
    oneline="Settings without a metric of their own",
    help="Files under /proc/sys/net/mptcp that are newer than this agent."), _refresh, (
    Metric("mptcp.sysctl.other", STRING, DISCRETE, NONE, lambda setting: setting[1],
           "MPTCP settings of this kernel that the agent does not know by name",
           "Settings under net.mptcp that are newer than this agent, one instance each, as text."),
))
