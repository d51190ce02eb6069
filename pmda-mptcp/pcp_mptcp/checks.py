# SPDX-License-Identifier: GPL-2.0-or-later
"""The health rules: what is wrong with a host's MPTCP, in one line each.

Gauges are judged as they are, counters by their growth between the two
samples of a view.  What rose before, since the host started, is a note: it
may explain what is seen, but calls nobody.
"""

from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from . import text
from .between import part, total
from .rows import Endpoint
from .view import ENDPOINTS, HOST, LINKS, View

NOTE, WARNING, CRITICAL = "note", "warning", "critical"
LEVELS = (NOTE, WARNING, CRITICAL)

_FALLBACKS = ("mpcapablefallbacksynack", "mpcapablefallbackack", "mpcapabledatafallback", "md5sigfallback",
              "dssfallback", "simultconnectfallback", "dsscorruptionfallback", "infinitemaprx", "infinitemaptx")
_AUTHENTICATION = ("mpjoinsynackhmacfailure", "mpjoinackhmacfailure")
_BLACKHOLE = ("blackhole", "mpcapablesyntxdisabled")
_JOINS = ("mpjoinsyntx", "mpjoinsynackrx", "mpjoinsynrx", "mpjoinackrx", "mpjoinrejected")

METRICS = HOST + LINKS + ENDPOINTS + ["mptcp.agent.overruns"] + [f"mptcp.mib.{name}" for name in {
    *_FALLBACKS, *_AUTHENTICATION, *_BLACKHOLE, *_JOINS, "mpcapablesyntx", "mpcapablesynrx"}]

#: What may be set by --set: its value, and what it is.
THRESHOLDS: Dict[str, Tuple[float, str]] = {
    "fallback_share": (0.1, "part of the connections that asked for MPTCP and became TCP"),
    "fallback_least": (3, "of how many such connections at the least"),
    "join_share": (0.9, "part of the joins that succeed, at the least"),
    "join_least": (3, "of how many joins at the least"),
    "stalled_subflows": (1, "subflows of a link that get no answer"),
    "backup_rate": (10000, "bytes per second on backup subflows while no path is lost"),
}

Thresholds = Dict[str, float]
_Found = Iterator[Tuple[str, str, str, str]]  # of a rule: the rest of a Finding


class Finding(NamedTuple):
    """What a rule found."""

    rule: str
    level: str
    subject: str  # an interface, an endpoint, or "" for the host
    text: str
    mend: str  # what to do about it


class Rule(NamedTuple):
    """A rule of health."""

    name: str
    text: str
    find: Callable[[View, Thresholds], _Found]


def _grown(view: View, *names: str) -> int:
    """How much counters of the kernel rose between the samples, those that it has."""
    return int(total(*(view.growth("mptcp.mib." + name) for name in names)) or 0)


def _ever(view: View, *names: str) -> int:
    return int(total(*(view.now.value("mptcp.mib." + name) for name in names)) or 0)


def _redundancy_lost(view: View, limits: Thresholds) -> _Found:
    lost, all_of_them = view.host("redundancy.degraded_connections") or 0, view.host("connections")
    hang = view.now.value("mptcp.redundancy.connections", "0") or 0
    mend = "see which path is gone: pcp mptcp connections, pcp mptcp events"
    if hang:
        yield CRITICAL, "", f"{hang} of {text.plural(all_of_them, 'connection')} without any live path", mend
    if lost > hang:
        one = lost - hang == 1
        last = [f"; {text.plural(link.sole, 'connection')} depend{'s' if link.sole == 1 else ''} on {link.name} alone"
                for link in view.links if link.sole]
        yield (WARNING, "", f"{lost - hang} of {text.plural(all_of_them, 'connection')} "
               f"{'has' if one else 'have'} fewer live paths than {'it' if one else 'they'} had{''.join(last)}", mend)


def _why_unused(view: View, endpoint: Endpoint) -> Tuple[str, str]:
    links = {link.name: link for link in view.links}
    name = endpoint.owner or endpoint.interface
    if endpoint.owner == "":
        return "no interface has its address", "give the address to its interface, or remove the endpoint"
    if name in links and links[name].up is False:
        return f"{name} is down", f"bring {name} back"
    if endpoint.misrouted:
        return "its packets leave by another interface", "add source routing, see misrouted_endpoint"
    return "no connection joined from it", "pcp mptcp why"


def _endpoint_unused(view: View, limits: Thresholds) -> _Found:
    idle = [one for one in view.endpoints if one.used and one.subflows == 0] if view.host("connections") else []
    if idle and view.userspace:
        yield (NOTE, "", f"{text.plural(len(idle), 'endpoint')} of the kernel without use: a program in userspace such "
               "as mptcpd decides about the paths of new connections", "if that is not meant: sysctl -w "
               "net.mptcp.pm_type=0, and open the connections anew")
    else:
        for endpoint in idle:
            why, mend = _why_unused(view, endpoint)
            yield WARNING, endpoint.name, f"endpoint {endpoint.name} ({endpoint.flags}) carries nothing: {why}", mend


def _link_down(view: View, limits: Thresholds) -> _Found:
    others = any(link.up and link.subflows for link in view.links)
    for link in view.links:
        if link.up is False and link.carried:
            level = WARNING if others or not view.host("connections") else CRITICAL
            carried = text.size(total(link.in_bytes, link.out_bytes))
            yield (level, link.name, f"{link.name} is down or gone, it has carried {carried} of MPTCP",
                   f"ip link show {link.name}; cable, radio or provider; pcp mptcp events tells since when")


def _fallback(view: View, limits: Thresholds) -> _Found:
    mend = "pcp mptcp why PORT: the peer, its application, or a firewall on the way does not speak MPTCP"
    asked = _grown(view, "mpcapablesyntx", "mpcapablesynrx")
    became = _grown(view, *_FALLBACKS)
    share = part(became, asked)
    if asked >= limits["fallback_least"] and share is not None and share >= limits["fallback_share"]:
        yield (WARNING, "", f"{text.percent(min(share, 1))} of {asked} new connections that asked for MPTCP became TCP",
               mend)
    elif view.host("fallback.connections"):
        now = view.host("fallback.connections")
        share = part(now, total(now, view.host("connections")))
        level = WARNING if (share or 0) >= limits["fallback_share"] and now >= limits["fallback_least"] else NOTE
        runs = "runs" if now == 1 else "run"
        yield level, "", f"{text.plural(now, 'connection')} asked for MPTCP and {runs} as TCP", mend


def _blackhole(view: View, limits: Thresholds) -> _Found:
    mend = "find the firewall that drops SYNs with MPTCP, then: sysctl net.mptcp.blackhole_timeout=0 (and back)"
    off, holes = _grown(view, "mpcapablesyntxdisabled"), _grown(view, "blackhole")
    if holes or off:
        yield (CRITICAL, "", "something on the way swallows MPTCP, so this host opens new connections as TCP for now "
               f"({text.plural(holes, 'blackhole')} found, {text.plural(off, 'connection')} made TCP)", mend)
    elif _ever(view, *_BLACKHOLE):
        yield (NOTE, "", f"{text.plural(_ever(view, 'blackhole'), 'blackhole')} found and "
               f"{text.plural(_ever(view, 'mpcapablesyntxdisabled'), 'connection')} made TCP for it, "
               "since the host started", mend)


def _join_success(view: View, limits: Thresholds) -> _Found:
    for tried, made, whose, lost in (
            ("mpjoinsyntx", "mpjoinsynackrx", "this host's", "the others got no answer or a refusal"),
            ("mpjoinsynrx", "mpjoinackrx", "peers'", f"{_grown(view, 'mpjoinrejected')} rejected by the limits")):
        joins, share = _grown(view, tried), part(view.growth("mptcp.mib." + made), view.growth("mptcp.mib." + tried))
        if joins >= limits["join_least"] and share is not None and share < limits["join_share"]:
            yield (WARNING, "", f"{text.percent(share)} of {whose} {joins} joins succeeded: {lost}",
                   "pcp mptcp why: a firewall on one of the paths, or the limits of the other side")


def _authentication(view: View, limits: Thresholds) -> _Found:
    mend = "a middlebox that changes packets, or somebody who tries to enter connections: look at the peers' addresses"
    rose, ever = _grown(view, *_AUTHENTICATION), _ever(view, *_AUTHENTICATION)
    if rose:
        yield CRITICAL, "", f"{text.plural(rose, 'join')} with a wrong authentication code (HMAC)", mend
    elif ever:
        yield NOTE, "", f"{text.plural(ever, 'join')} with a wrong authentication code since the host started", mend


def _stalled_subflow(view: View, limits: Thresholds) -> _Found:
    for link in view.links:
        if link.up is not False and link.stalled and link.stalled >= limits["stalled_subflows"]:
            yield (WARNING, link.name, f"{link.name}: {text.plural(link.stalled, 'subflow')} without an answer for "
                   "seconds, though not closed", f"the path beyond {link.name} is dead: ping its gateway from there")


def _misrouted_endpoint(view: View, limits: Thresholds) -> _Found:
    for endpoint in view.endpoints:
        if endpoint.misrouted:
            yield (WARNING, endpoint.name, f"packets from endpoint {endpoint.name} leave by another interface than the "
                   "one that has its address", f"ip rule add from {endpoint.address} table N; "
                   f"ip route add default via GATEWAY dev {endpoint.owner or 'INTERFACE'} table N")


def _backup_traffic(view: View, limits: Thresholds) -> _Found:
    if view.host("redundancy.degraded_connections") != 0:
        return  # that is what a backup is for
    for link in view.links:
        if link.backup_rate is not None and link.backup_rate > limits["backup_rate"]:
            yield (WARNING, link.name, f"{link.name}: backup subflows carry {text.rate(link.backup_rate)} though no "
                   "path is lost", "do its connections have another path? pcp mptcp subflows; ip mptcp endpoint show")


def _agent_overrun(view: View, limits: Thresholds) -> _Found:
    overruns = view.growth("mptcp.agent.overruns")
    if overruns:
        yield (WARNING, "", f"the agent missed messages of the kernel ({text.plural(overruns, 'overrun')}): bytes of "
               "short connections are lost", "raise receive_buffer in the agent's mptcp.conf")


RULES = (
    Rule("redundancy_lost", "connections that have fewer live subflows than they had", _redundancy_lost),
    Rule("endpoint_unused", "an endpoint that no live subflow uses while there are connections", _endpoint_unused),
    Rule("link_down", "a link that carried MPTCP is down", _link_down),
    Rule("fallback", "connections that asked for MPTCP and became TCP", _fallback),
    Rule("blackhole", "a firewall swallows MPTCP, and the kernel has switched it off for a while", _blackhole),
    Rule("join_success", "joins of further paths fail", _join_success),
    Rule("authentication", "joins with a wrong authentication code", _authentication),
    Rule("stalled_subflow", "subflows whose peer does not answer", _stalled_subflow),
    Rule("misrouted_endpoint", "packets leave by another interface than their address says", _misrouted_endpoint),
    Rule("backup_traffic", "backup subflows carry traffic though no path is lost", _backup_traffic),
    Rule("agent_overrun", "the agent lost messages of the kernel", _agent_overrun),
)


def check(view: View, thresholds: Optional[Thresholds] = None, rules: Sequence[Rule] = RULES) -> List[Finding]:
    """All findings, the gravest first."""
    limits = {name: value for name, (value, _) in THRESHOLDS.items()}
    limits.update(thresholds or {})
    found = [Finding(rule.name, *one) for rule in rules for one in rule.find(view, limits)]
    return sorted(found, key=lambda one: -LEVELS.index(one.level))
