# SPDX-License-Identifier: GPL-2.0-or-later
"""One screen: is MPTCP used, over which links, is anything wrong?"""

from typing import Any, Dict, List, Sequence

from . import text
from .checks import CRITICAL, NOTE, WARNING, Finding
from .between import total
from .rows import Link, plain
from .text import Column, Paint, words
from .view import View

COLOURS = {CRITICAL: "red", WARNING: "yellow", NOTE: "grey"}


def _state(link: Link) -> str:
    return {"down": "red", "up": "green"}.get(link.state, "") if link.carried else ""


LINK_COLUMNS = (
    words("name", "LINK"),
    words("state", "STATE", _state),
    Column("subflows", "FLOWS"),
    Column("stalled", "STALLED", colour=lambda link: "red" if link.stalled else "", seldom=True),
    Column("backup", "BACKUP", seldom=True),
    Column("in_rate", "IN", text.rate),
    Column("out_rate", "OUT", text.rate),
    Column("of_mptcp", "OF MPTCP", text.percent),
    Column("of_link", "OF LINK", text.percent),
    Column("rtt", "RTT", text.milliseconds),
    Column("retrans", "RESENT", text.percent),
    Column("sole", "SOLE", colour=lambda link: "yellow" if link.sole else ""),
)


def used_links(view: View) -> List[Link]:
    """Those that carry or carried MPTCP, or that an endpoint is meant for."""
    wanted = {name for endpoint in view.endpoints if endpoint.used for name in (endpoint.owner, endpoint.interface)}
    return [link for link in view.links if link.carried or link.name in wanted]


def lines(view: View, findings: Sequence[Finding], paint: Paint) -> List[str]:
    """The screen."""
    out = [_use(view, paint), _redundancy(view, paint)]
    links = used_links(view)
    if links:
        out += [""] + text.table(LINK_COLUMNS, links, paint)
    others = [link.name for link in view.links if link not in links and link.up and link.name != "lo"]
    if others:
        out.append(paint("grey", "Up, without MPTCP: " + text.printable(", ".join(others))))
    idle = [endpoint for endpoint in view.endpoints if endpoint.used and endpoint.subflows == 0]
    if idle:
        out += ["", "Endpoints that carry nothing"]
        out += [f"  {text.printable(endpoint.name)}  {text.printable(endpoint.flags)}" for endpoint in idle]
    return out + [""] + finding_lines(findings, paint)


def finding_lines(findings: Sequence[Finding], paint: Paint) -> List[str]:
    """What the checks found, with what to do."""
    if not any(one.level != NOTE for one in findings):
        out = [paint("green", "Nothing is wrong.")]
    else:
        out = []
    for one in findings:
        out.append(f"{paint(COLOURS[one.level], one.level.upper().ljust(8))}  {text.printable(one.text)}")
        out.append(paint("grey", f"          {one.rule}: {text.printable(one.mend)}"))
    return out


def _use(view: View, paint: Paint) -> str:
    if view.host("sysctl.enabled") == 0:
        return paint("red", "MPTCP is switched off here (net.mptcp.enabled=0)")
    fallback = view.host("fallback.connections")
    parts = [paint("bold", text.plural(view.host("connections"), "MPTCP connection")),
             paint("yellow" if fallback else "", f"{text.number(fallback)} fell back to TCP")]
    subflows = total(*(link.subflows for link in view.links))
    if subflows is not None:
        parts.append(text.plural(int(subflows), "subflow"))
    for head, rates in (("in", [link.in_rate for link in view.links]), ("out", [link.out_rate for link in view.links])):
        parts.append(f"{head} {text.rate(total(*rates))}")
    return ", ".join(parts)


def _redundancy(view: View, paint: Paint) -> str:
    found = {name: count for name, count in view.now.all("mptcp.redundancy.connections").items() if count}
    if not found:
        return "Redundancy: no connection" if view.host("connections") == 0 else "Redundancy: not known"
    parts = []
    for name, count in sorted(found.items(), key=lambda item: -int(str(item[0]).rstrip("+"))):
        colour = {"0": "red", "1": "yellow"}.get(str(name), "")
        parts.append(paint(colour, f"{count} with {name} live path{'' if name == '1' else 's'}"))
    degraded = view.host("redundancy.degraded_connections")
    if degraded:
        parts.append(paint("yellow", f"{degraded} with fewer than {'it' if degraded == 1 else 'they'} had"))
    return "Redundancy: " + ", ".join(parts)


def data(view: View, findings: Sequence[Finding]) -> Dict[str, Any]:
    """The same for programs; rates are bytes per second, rtt is in microseconds."""
    return {
        "enabled": view.host("sysctl.enabled"),
        "connections": view.host("connections"),
        "fallback_connections": view.host("fallback.connections"),
        "degraded_connections": view.host("redundancy.degraded_connections"),
        "redundancy": view.now.all("mptcp.redundancy.connections"),
        "links": [plain(link) for link in view.links],
        "endpoints": [plain(endpoint) for endpoint in view.endpoints],
        "findings": [one._asdict() for one in findings],
    }
