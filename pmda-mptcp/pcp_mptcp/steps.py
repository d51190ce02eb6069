# SPDX-License-Identifier: GPL-2.0-or-later
"""The steps of MPTCP in the order of the protocol (RFC 8684), each looked at with its numbers.

A step is bad when it explains that connections have fewer paths than they
could have.  mptcp(7) and ip-mptcp(8) tell of the settings.
"""

from typing import Callable, NamedTuple, Sequence, Tuple

from . import text
from .case import Case, Numbers
from .tables import host, split

GOOD, NOTE, BAD = "ok", "note", "BAD"

_STRIPPED = ("the peer answers, but not with MPTCP: a firewall or proxy on the way strips the option, or the peer has "
             "MPTCP off, or its program listens with plain TCP")

#: Counters of what ends MPTCP after a handshake that spoke it.
_LATER = ("mpcapabledatafallback", "dssfallback", "dsscorruptionfallback", "infinitemaprx", "infinitemaptx",
          "md5sigfallback", "simultconnectfallback")


class Step(NamedTuple):
    """A step of the protocol."""

    name: str
    level: str
    text: str  # with the numbers
    cause: str = ""  # of a bad one, in plain words
    mend: Sequence[str] = ()  # commands, or what to look at


def _enabled(case: Case) -> Step:
    if case.view.host("sysctl.enabled") == 0:
        return Step("enabled", BAD, "net.mptcp.enabled = 0", "MPTCP is switched off on this host",
                    ["sysctl -w net.mptcp.enabled=1"])
    return Step("enabled", GOOD, "net.mptcp.enabled = 1")


def _asked(case: Case) -> Step:
    connections = case.connections
    if case.service:
        return _served(case)
    if not connections and "mptcp.connection.subflows" not in case.view.now:
        return Step("asked", NOTE, "single connections were not recorded (pmlogger's group mptcp/subflows has them); "
                    f"there are {text.number(case.view.host('connections'))}")
    if not connections:
        return Step("asked", NOTE, "no MPTCP connection is established: does the program ask for MPTCP? "
                    "mptcpize(8) makes it")
    role = {frozenset({True}): " as the server", frozenset({False}): " as the client"}.get(frozenset(case.roles), "")
    named = ", ".join(one.name for one in connections[:8]) + (" ..." if len(connections) > 8 else "")
    return Step("asked", GOOD, f"{text.plural(len(connections), 'connection')}{role}: {named}")


def _served(case: Case) -> Step:
    """The clients of a service."""
    spoken, plain = case.of_service("mptcp_connections") or 0, case.of_service("tcp_connections") or 0
    arrived = case.numbers("mpcapablesynrx", "mpcapableackrx", "mpcapablefallbackack")
    said = (f"connections of the service: MPTCP {spoken}, plain TCP {plain}; SYNs with MPTCP: "
            + arrived.say(("mpcapablesynrx", "received")))
    if case.healthy and plain and not spoken:  # what goes to the same port elsewhere: this host is a gateway
        return Step("asked", NOTE, f"{said}; MPTCP to port {case.wanted} of others: "
                    + ", ".join(one.name for one in case.connections if not one.server_side))
    if spoken or not plain:
        return Step("asked", GOOD if spoken else NOTE, said)
    if arrived["mpcapablesynrx"] and not arrived["mpcapableackrx"]:
        return Step("asked", BAD, said, "SYNs arrive with MPTCP, and the answers of this host lose it on the way back: "
                    "a firewall or proxy strips the option", ["compare the SYN/ACK on both sides with tcpdump"])
    return Step("asked", BAD, said, "the clients' SYNs arrive without MPTCP: the clients do not ask for it, or a "
                "firewall or proxy on the way strips or drops it",
                [f"on a client: pcp mptcp why {case.wanted}", "mptcpize run PROGRAM makes a program ask for it"])


def _blackhole(case: Case) -> Step:
    seen = case.numbers("blackhole", "mpcapablesyntxdrop", "mpcapablesyntxdisabled")
    if not seen.known("blackhole"):
        return Step("blackhole", NOTE, "this kernel does not look for blackholes")
    said = seen.say(("blackhole", "found"), ("mpcapablesyntxdrop", "SYNs answered only without MPTCP"),
                    ("mpcapablesyntxdisabled", "connections made TCP for it"))
    if said == "none":
        return Step("blackhole", GOOD, said)
    if case.recent or any(one.fallback and not one.server_side for one in case.connections):
        back = case.view.host("sysctl.blackhole_timeout") or 3600
        return Step("blackhole", BAD, said, "a firewall on the way drops SYNs that ask for MPTCP (a blackhole); this "
                    "host then opens new connections as TCP for a while (net.mptcp.blackhole_timeout, growing)",
                    ["find the firewall: it must let TCP option 30 pass",
                     f"then forget it: sysctl -w net.mptcp.blackhole_timeout=0, and back to {back}"])
    return Step("blackhole", NOTE, said)


def _handshake(case: Case) -> Step:
    client = case.roles != {True}
    if client:
        seen = case.numbers("mpcapablesyntx", "mpcapablesynackrx", "mpcapablefallbacksynack")
        said = "SYNs: " + seen.say(("mpcapablesyntx", "sent"), ("mpcapablesynackrx", "answered with MPTCP"),
                                   ("mpcapablefallbacksynack", "answered without"))
    else:
        seen = case.numbers("mpcapablesynrx", "mpcapableackrx", "mpcapablefallbackack")
        said = "SYNs: " + seen.say(("mpcapablesynrx", "received"), ("mpcapableackrx", "made connections"),
                                   ("mpcapablefallbackack", "became TCP"))
    asking = [one for one in case.connections if one.state == "SYN-SENT"]
    if asking:
        return Step("handshake", BAD, f"{said}; waits for an answer: {asking[0].name} to {asking[0].remote}",
                    "the peer has not answered, so far, at all: nobody there, or a firewall drops the SYN; if only "
                    "those with MPTCP are dropped, one without follows in a few seconds",
                    [f"look again in some seconds; ping {host(asking[0].remote)}"])
    fallen = [one for one in case.connections if one.fallback]
    if not fallen:
        return Step("handshake", GOOD if case.connections else NOTE, said)
    later = case.numbers(*_LATER)
    after = ", ".join(f"{name} {later[name]}" for name in _LATER if later[name])
    said += "; fell back to TCP: " + ", ".join(f"{one.name} to {one.remote}" for one in fallen[:4])
    if after and not seen["mpcapablefallbacksynack"]:
        return Step("handshake", BAD, f"{said}, after the handshake: {after}", "the first packets spoke MPTCP, then a "
                    "proxy or firewall on the way changed or dropped the option or the data",
                    ["look for a middlebox that rewrites TCP (proxy, load balancer, ALG) on the way"])
    return Step("handshake", BAD, said, _STRIPPED,
                ["on the peer: sysctl net.mptcp.enabled; pcp mptcp why PORT",
                 "compare the SYN on both sides: tcpdump 'tcp[tcpflags] & tcp-syn != 0'"])


def _limits(case: Case) -> Step:
    if case.view.userspace:
        return Step("limits", NOTE, "a program in userspace (mptcpd) decides about subflows, not the kernel's limits")
    subflows, accepted = case.view.host("pm.limits.subflows"), case.view.host("pm.limits.add_addr_accepted")
    said = f"subflows {text.number(subflows)}, add_addr_accepted {text.number(accepted)} (ip mptcp limits)"
    if subflows == 0:
        return Step("limits", BAD, said, "the limit lets no connection have a second subflow",
                    ["ip mptcp limits set subflows 8 add_addr_accepted 8"])
    own = any("subflow" in one.flags or "fullmesh" in one.flags for one in case.endpoints)
    if accepted == 0 and case.announced and not own and case.roles != {True}:
        return Step("limits", BAD, f"{said}; addresses announced by peers: {case.announced}",
                    "the peer announced addresses, and the limit lets none be accepted",
                    ["ip mptcp limits set add_addr_accepted 8"])
    full = [one for one in case.spoken if one.subflows_max and (one.subflows or 0) > one.subflows_max]
    if full and any(one.owner not in ("", *case.down) for one in case.idle_endpoints):
        return Step("limits", BAD, f"{said}; {full[0].name} has its most: 1 + {full[0].subflows_max}",
                    "the limit of subflows is reached, so some endpoints stay without one",
                    [f"ip mptcp limits set subflows {len(case.endpoints) + 1}"])
    return Step("limits", GOOD, said)


def _endpoints(case: Case) -> Step:
    if case.view.userspace:
        return Step("endpoints", NOTE, "not the kernel's: the userspace path manager chooses addresses")
    used = case.endpoints
    said = ", ".join(f"{one.name} ({one.flags}; {text.plural(one.subflows, 'live subflow')})" for one in used)
    for one in used:
        if one.owner == "":
            return Step("endpoints", BAD, said, f"no interface has the address of endpoint {one.name}",
                        [f"ip address add {one.address}/PREFIX dev INTERFACE", f"ip mptcp endpoint delete id {one.id}"])
        if one.misrouted:
            return Step("endpoints", BAD, said, f"source routing is missing: packets from {one.address} leave by "
                        f"another link than {one.owner or 'its own'}",
                        [f"ip rule add from {one.address} table N",
                         f"ip route add default via GATEWAY dev {one.owner or 'INTERFACE'} table N"])
        if one.owner in case.down and one.subflows == 0:
            return Step("endpoints", BAD, said, f"{one.owner}, the link of endpoint {one.name}, is down",
                        [f"ip link show {one.owner}"])
    if used or case.healthy:
        return Step("endpoints", GOOD, said or "none, and none is needed")
    free = {name: address for name, address in case.addresses.items() if name not in case.links}
    server = case.roles == {True}
    joined = any(one.accepted for one in case.spoken) or len(case.links) > 1
    if free and not case.spoken and case.connections:
        return Step("endpoints", NOTE, "none; which are needed shows when a connection speaks MPTCP")
    if free and not joined:
        flag = "signal" if server else "subflow"
        return Step("endpoints", BAD, "none; links without MPTCP: " + ", ".join(free),
                    "the path manager is not told which addresses to use" +
                    (": this host announces none" if server else ", and no announcement of the peer arrived"),
                    [f"ip mptcp endpoint add {address} dev {name} {flag}" for name, address in free.items()])
    known = "network.interface.inet_addr" in case.view.now
    return Step("endpoints", NOTE, "none" + (", but the peer's announced addresses are joined" if joined else
                                             ", and no other link to use" if known else ""))


def _announced(case: Case) -> Step:
    seen = case.numbers("addaddrtx", "echoadd", "addaddrtxdrop", "addaddr", "echoaddtx", "addaddrdrop")
    said = ("sent: " + seen.say(("addaddrtx", "ADD_ADDR"), ("echoadd", "confirmed"), ("addaddrtxdrop", "dropped"))
            + "; received: " + seen.say(("addaddr", "ADD_ADDR"), ("echoaddtx", "confirmed"),
                                        ("addaddrdrop", "dropped")))
    signal = any("signal" in one.flags for one in case.endpoints)
    if signal and seen["addaddrtx"] and not seen["echoadd"]:
        return Step("announced", BAD, said, "the announced addresses are never confirmed: a firewall drops or strips "
                    "ADD_ADDR, or the peer ignores it", ["on the peer: pcp mptcp why; does mptcp.mib.addaddr rise?"])
    if signal and seen["addaddrtxdrop"] and not seen["addaddrtx"]:
        return Step("announced", BAD, said, "the announcements found no room in the packets' options (timestamps and "
                    "IPv6 together)", ["sysctl -w net.ipv4.tcp_timestamps=0, or announce without a port"])
    return Step("announced", GOOD if seen["echoadd"] or seen["addaddr"] else NOTE, said)


def _joins(case: Case) -> Step:
    seen = case.numbers("mpjoinsyntx", "mpjoinsynackrx", "mpjoinsynackhmacfailure", "mpjoinsyntxbinderr",
                        "mpjoinsyntxconnecterr", "mpjoinsyntxcreatskerr", "mprsttx", "mpjoinsynrx", "mpjoinackrx",
                        "mpjoinackhmacfailure", "mpjoinnotokenfound", "mpjoinrejected", "echoadd")
    said = ("sent: " + seen.say(("mpjoinsyntx", "joins"), ("mpjoinsynackrx", "answered"),
                                ("mpjoinsynackhmacfailure", "wrong HMAC"))
            + "; received: " + seen.say(("mpjoinsynrx", "joins"), ("mpjoinackrx", "completed"),
                                        ("mpjoinackhmacfailure", "wrong HMAC"), ("mpjoinrejected", "rejected")))
    closed = ", ".join(f"{name} {count}" for name, count in case.closed_by().items())
    said += f"; subflows closed by: {closed}" if closed else ""
    for found, cause, mend in _faults(case, seen):
        if found:
            return Step("joins", BAD, said, cause, [mend])
    return Step("joins", GOOD if seen["mpjoinsynackrx"] or seen["mpjoinackrx"] else NOTE, said)


def _faults(case: Case, seen: Numbers) -> Sequence[Tuple[bool, str, str]]:
    """(Is it so, what it means, what to do) of joins, the most certain first."""
    unanswered = seen["mpjoinsyntx"] - seen["mpjoinsynackrx"]
    mostly = unanswered * 2 > seen["mpjoinsyntx"]
    incomplete = seen["mpjoinsynrx"] - seen["mpjoinackrx"]
    announced = any("signal" in one.flags and not one.subflows for one in case.endpoints)
    return (
        (bool(seen["mpjoinsynackhmacfailure"] or seen["mpjoinackhmacfailure"]),
         "joins fail their authentication (HMAC): a middlebox changes packets, or somebody forges them",
         "capture a join on both sides and compare"),
        (seen["mpjoinrejected"] * 2 > seen["mpjoinackrx"],
         "this host rejects joins: its limit of subflows is reached", "ip mptcp limits set subflows 8"),
        (bool(seen["mpjoinsyntxbinderr"] or seen["mpjoinsyntxconnecterr"]) and not seen["mpjoinsynackrx"],
         "joins fail on this host: the address is not there any more, or there is no route from it",
         "ip route get PEER from ADDRESS, for " + case.missing),
        (unanswered > 0 and bool(case.closed_by("ECONNREFUSED")),
         "joins are refused with a reset: a firewall on the way rejects them, or nobody listens at the address",
         f"{case.missing}: a capture there tells who sends the RST"),
        (mostly and seen["mprsttx"] >= unanswered,
         "joins are answered by plain TCP: a firewall or proxy on the way strips the option from them, or another "
         "machine has the announced address", f"{case.missing}: compare the SYN on both sides with tcpdump"),
        (mostly, "joins get no answer: a firewall on the way drops them (MP_JOIN, TCP option 30), or there is no way "
         "from here to the peer's address", f"{case.missing}: tcpdump there shows SYNs without an answer"),
        (incomplete * 2 > seen["mpjoinsynrx"] and not seen["mpjoinnotokenfound"],
         "peers begin joins that never complete: the answers of this host, or the last packet of the join, are lost on "
         "the way", "the routes back to the peer's further addresses: ip route get PEER from ADDRESS; then a firewall"),
        (seen["mpjoinnotokenfound"] > seen["mpjoinackrx"],
         "joins arrive for connections that this host does not have: a load balancer sends them to the wrong server",
         "the load balancer must keep all subflows of a connection on one server, or announce the server's address"),
        (announced and bool(seen["echoadd"]) and not seen["mpjoinsynrx"],
         "the peer knows the announced addresses, and none of its joins arrives: its limits are 0, or a firewall on "
         "the way drops joins", "on the peer: pcp mptcp why " + case.wanted),
    )


def _subflows(case: Case) -> Step:
    flows = [flow for one in case.spoken for flow in one.flows]
    if not case.connections and case.lost:
        return _lost_unseen(case)
    if not flows:
        counts = ", ".join(f"{one.name}: {one.paths or 'none'} live" for one in case.spoken[:8])
        return Step("subflows", NOTE, counts or "none")
    said = ", ".join(f"{flow.name} {flow.interface} {flow.health}" for flow in flows[:12]) + (
        " ..." if len(flows) > 12 else "")
    for flow in flows:
        if flow.health == "stalled":
            return Step("subflows", BAD, f"{said}; {flow.name} in backoff {flow.backoff}", f"the path over "
                        f"{flow.interface} is dead though the link looks up: {flow.remote} does not answer",
                        [f"ping -I {flow.interface} {host(flow.remote)}"])
        if flow.health == "no way out":
            return Step("subflows", BAD, said, f"{flow.name} has no way out: {flow.interface or 'its link'} is down, "
                        "or its route is gone", [f"ip link show {flow.interface}; ip route get {host(flow.remote)} "
                                                 f"from {split(flow.local)[0]}"])
    lost = [one for one in case.spoken if (one.live or 0) < (one.most or 0)]
    if lost:
        return Step("subflows", BAD, f"{said}; {lost[0].name} had {lost[0].most} live ones",
                    "subflows were closed, and the kernel does not join again by itself",
                    ["pcp mptcp events tells when and why", "a new connection gets all paths again"])
    return Step("subflows", GOOD if case.healthy else NOTE, said)


def _lost_unseen(case: Case) -> Step:
    """Paths were lost of connections that are only counted."""
    all_of_them = text.plural(case.view.host("connections"), "connection")
    said = f"{case.lost} of {all_of_them} with fewer live paths than before"
    down = [link.name for link in case.view.links if link.up is False and link.carried]
    if down:
        return Step("subflows", BAD, said, f"{' and '.join(down)}, which carried MPTCP, "
                    f"{'is' if len(down) == 1 else 'are'} down", [f"ip link show {name}" for name in down])
    stalled = [link.name for link in case.view.links if link.stalled]
    if stalled:
        return Step("subflows", BAD, said, f"no answer comes by {' and '.join(stalled)}: the path is dead though the "
                    "link looks up", [f"ping the gateway of {name}" for name in stalled])
    return Step("subflows", BAD, said, "paths were lost", ["pcp mptcp events tells which, when and why"])


STEPS: Sequence[Callable[[Case], Step]] = (
    _enabled, _asked, _blackhole, _handshake, _limits, _endpoints, _announced, _joins, _subflows)
