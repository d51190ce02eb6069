# SPDX-License-Identifier: GPL-2.0-or-later
"""MPTCP Troubleshooting: the protocol in its order, and what a rise means at each step.

Bars are what the kernel counted since the last look; the legend has the sum
in the time shown.  A counter that the kernel does not have has no series.
"""

from typing import Any, Dict

from . import look, vector
from .look import Section
from .vector import Query, events

_MIB = "mptcp.mib."

#: The steps: title, and its panels: title, what a rise means, {counter: what it is called}.
_STEPS = (
    ("1. Asked for: does a connection begin with MPTCP?", (
        ("This host asks", "As a client: SYNs that ask for MPTCP, and answers that accept it. Good: as many answers as "
         "SYNs. Nothing although programs connect: they open plain TCP, or net.mptcp.enabled is 0.",
         {"mpcapablesyntx": "SYN sent", "mpcapablesynackrx": "accepted by the server"}),
        ("Others ask", "As a server: SYNs that ask for MPTCP, and handshakes that ended with it. Good: alike. No SYNs "
         "although clients use MPTCP: the option is stripped on the way, or the service listens with plain TCP "
         "(ss -Mln). Fewer handshakes: see the fallbacks.",
         {"mpcapablesynrx": "SYN received", "mpcapableackrx": "handshake completed"}),
        ("Is MPTCP swallowed on the way?", "Good is nothing. No answer to SYNs: the server is away, or a firewall "
         "drops MPTCP. Blackhole: the plain SYN was answered, so something drops it; from then on this host opens all "
         "connections as TCP for a while (made TCP). Find it, then sysctl net.mptcp.blackhole_timeout=0, and back.",
         {"mpcapablesyntxdrop": "no answer to SYNs", "blackhole": "blackhole found",
          "mpcapablesyntxdisabled": "made TCP at once"}),
    )),
    ("2. Fallback: why did it become TCP?", (
        ("In the handshake", "The other side answered without MPTCP (client), or its third packet lacked it (server). "
         "Normal towards hosts without MPTCP. Between hosts that have it: a middlebox strips the option; capture on "
         "both ends.", {"mpcapablefallbacksynack": "server answered without", "mpcapablefallbackack": "client went on "
                        "without", "mpfallbacktokeninit": "no token left", "md5sigfallback": "TCP MD5 is used",
                        "simultconnectfallback": "both connected at once"}),
        ("After the handshake", "The handshake had MPTCP, the data does not. Good is nothing. A proxy or gateway "
         "strips or changes options later on, or rewrites the stream: capture on both ends.",
         {"mpcapabledatafallback": "first data without", "dssfallback": "bad or no mapping",
          "dsscorruptionfallback": "corrupt mapping", "infinitemaptx": "infinite mapping sent",
          "infinitemaprx": "infinite mapping received", "fallbackfailed": "impossible, path reset"}),
        ("Refused at a port for joins", "New connections to a port that was announced for joins only; they were reset. "
         "Good is nothing. A port scan, or a client with the wrong port: compare with ip mptcp endpoint show.",
         {"mpcapableendpattempt": "refused"}),
    )),
    ("3. Addresses: are they announced and heard?", (
        ("Announced by this host", "Each announcement should come back as an echo. More sent than echoed: they are "
         "lost, or the peer ignores them. Could not be sent: no room in the packet (IPv6 with ports and timestamps).",
         {"addaddrtx": "announced", "echoadd": "echo received", "addaddrtxdrop": "could not be sent"}),
        ("Announced by peers", "Announcements heard, and echoed. An echo does not mean that the address is used: if no "
         "join follows, look at ip mptcp limits show, add_addr_accepted (0 by default). Dropped: the path manager was "
         "busy, or no daemon runs; the peer repeats it.",
         {"addaddr": "received", "echoaddtx": "echo sent", "addaddrdrop": "dropped", "portadd": "with a port",
          "echoaddtxdrop": "echo could not be sent"}),
        ("Taken back", "Addresses withdrawn, here and by peers. Normal when interfaces or endpoints go. All the time: "
         "a flapping link, or something that changes endpoints (NetworkManager, mptcpd). Drops leave paths behind "
         "that only time out.", {"rmaddrtx": "withdrawn here", "rmaddr": "withdrawn by peers",
                                 "rmaddrdrop": "dropped", "rmaddrtxdrop": "could not be sent"}),
    )),
    ("4. Join: do further paths come up?", (
        ("Joins by this host", "Good: as many answers as attempts; one or two may be under way. Fewer: a firewall on "
         "one of the paths, or the limits of the other side. No attempts at all: no endpoints, or limits of 0.",
         {"mpjoinsyntx": "attempted", "mpjoinsynackrx": "answered", "mpjoinsynackbackuprx": "answered as backup"}),
        ("Joins by peers", "Good: as many completed as requested. Fewer: see who is refused.",
         {"mpjoinsynrx": "requested", "mpjoinackrx": "completed", "mpjoinsynbackuprx": "as backup"}),
        ("Joins to announced ports", "Joins to ports of endpoints that have their own. Good: as many completed as "
         "requested; the firewall must let these ports in. Mismatch: the port was never announced; look for port "
         "translation on the way.", {"mpjoinportsynrx": "requested", "mpjoinportackrx": "completed",
                                     "mpjoinportsynackrx": "answers received", "mismatchportsynrx": "mismatch, step 1",
                                     "mismatchportackrx": "mismatch, step 3"}),
        ("Could not even be sent", "Good is nothing. Bind: the address of the endpoint is not on this host, or still "
         "tentative. Connect: no route from it to the peer; ip route get PEER from ADDRESS. Socket: no memory, or a "
         "security module refuses.", {"mpjoinsyntxbinderr": "bind", "mpjoinsyntxconnecterr": "connect",
                                      "mpjoinsyntxcreatskerr": "socket"}),
        ("Refused", "Rejected: the limit of subflows here is reached, clients have fewer paths than they could: "
         "ip mptcp limits set subflows N. Unknown connection: a load balancer sends the join to the wrong server, the "
         "connection has just ended, or somebody probes.",
         {"mpjoinrejected": "rejected", "mpjoinnotokenfound": "unknown connection"}),
        ("Wrong authentication", "Good is nothing. The join reached another host than the connection (load balancer, "
         "reused address), a middlebox changes options, or somebody tries to enter foreign connections: capture it.",
         {"mpjoinsynackhmacfailure": "seen by the initiator", "mpjoinackhmacfailure": "seen by the server"}),
    )),
    ("5. Data: does it arrive whole and once?", (
        ("Sent again on another path", "Sent again: the first sign of a dead or slow path, 0.3 s after it happens. "
         "Received twice: the same, seen by the receiver. Single ones are normal; all the time: look at the round-trip "
         "times and at Backoff of the connection.", {"mptcpretrans": "sent again", "duplicatedata": "received twice"}),
        ("Out of order", "Data that came before earlier data on another path. Normal with unequal paths; a sharp rise "
         "without more traffic: one path has become much slower.",
         {"ofoqueue": "queued", "ofoqueuetail": "at the end", "ofomerge": "merged"}),
        ("Changed on the way", "Good is nothing. Mappings or checksums do not fit the data: a proxy, gateway or "
         "middlebox rewrites or resegments the stream. The connection falls back, or the path is reset.",
         {"dssnotmatching": "mapping contradicts", "dssnomatchtcp": "mapping does not fit TCP",
          "datacsumerr": "checksum wrong", "dsscorruptionreset": "corrupt, path reset", "mpfailtx": "MP_FAIL sent",
          "mpfailrx": "MP_FAIL received"}),
        ("The receiver is full", "Window probes: the program at the other end does not read. Outside the window: a "
         "peer that ignores it. The network is not the cause; look at Recv-Q in ss -Mn there.",
         {"winprobe": "window probes", "nodssinwindow": "outside the window"}),
        ("Receive buffer at its limit (older kernels)", "The program here reads too slowly, or net.ipv4.tcp_rmem is "
         "small. Newer kernels do not have this counter: then this is empty.", {"rcvpruned": "pruned"}),
        ("Window of several paths", "Bookkeeping of the window that paths share. It grows with traffic, packets and "
         "processors, and is no fault.", {"sndwndshared": "send window shared", "rcvwndshared": "receive window shared",
                                          "rcvwndconflict": "conflict", "rcvwndconflictupdate": "conflict, update"}),
    )),
    ("6. Paths: do they live?", (
        ("Dead and back", "Stale: a path made no progress while others did, so it is avoided; recovered is the good "
         "news. Stale without recovered: a lost path. Both again and again: it flaps.",
         {"subflowstale": "stale", "subflowrecover": "recovered"}),
        ("Priority changed", "Paths that were made backup, or regular again. Explains traffic that moves without a "
         "fault.", {"mppriotx": "asked by this host", "mppriorx": "asked by peers"}),
        ("Closed by the path manager here", "An endpoint was removed, or a daemon asked for it. Normal after changes "
         "of the configuration; otherwise find who changes endpoints.", {"rmsubflow": "closed"}),
    )),
    ("7. Close: how do they end?", (
        ("Aborted connections", "Some are normal. Many sent: a program here closes with unread data or dies; many "
         "received: the program at the other end does.",
         {"mpfastclosetx": "by this host", "mpfastcloserx": "by peers"}),
        ("Paths reset with a reason", "A few are normal. The reason: Why did subflows close, below.",
         {"mprsttx": "by this host", "mprstrx": "by peers"}),
    )),
)


def _panel(title: str, description: str, counters: Dict[str, str], width: int) -> Any:
    return vector.series(title, description, "short",
                         [Query(events(_MIB + name), text) for name, text in counters.items()],
                         width=width, height=7, style="bars", absent="This kernel does not count it, or no agent")


_REASONS = vector.series(
    "Why did subflows close?", "Reasons of resets, by name. Good is nothing. prohibited and no_resources: limits of "
    "the other side; middlebox: packets are changed on the way; mptcp_error: see step 5.", "short",
    [Query("delta(mptcp.event.subflow_closed_by.reason)")], width=8, height=7, style="bars")

_OTHER = vector.series(
    "Counters without a name here", "What a newer kernel counts and this agent does not know by name. The kernel's "
    "net/mptcp/mib.h says what it means. Empty on kernels up to this agent's.", "short",
    [Query("delta(mptcp.mib.other)")], width=24, height=5, style="bars", absent="No such counter, or no agent")

_SECTIONS = [Section(title, [_panel(*panel, width=8) for panel in panels]) for title, panels in _STEPS]
_SECTIONS[-1].panels.append(_REASONS)

DASHBOARD = look.board(
    "mptcp-troubleshooting", "MPTCP Troubleshooting",
    "The protocol in its order: SYN, fallback, addresses, join, data, paths, close, and what a rise means",
    vector.TAGS, vector.source_variables(), [*_SECTIONS, Section("Newer kernels", [_OTHER])])
