# SPDX-License-Identifier: GPL-2.0-or-later
"""mptcp.mib.*: the kernel's own MPTCP counters, line MPTcpExt of /proc/net/netstat.

A row is a dict from the kernel's field name to its value, without the fields
that the running kernel lacks.  The kernel's order differs from version to
version; the order here is by subject.
"""

from typing import Callable, Dict, Optional, Tuple

from ..snapshot import Snapshot
from . import COUNT, COUNTER, INSTANT, U32, U64, Domain, Group, Metric

Fields = Dict[str, int]


def _field(kernel_name: str) -> Callable[[Fields], Optional[int]]:
    return lambda row: row.get(kernel_name)


def _metric(kernel_name: str, type_: int, semantics: int, oneline: str, help: str) -> Metric[Fields]:
    return Metric("mptcp.mib." + kernel_name.lower(), type_, semantics, COUNT, _field(kernel_name),
                  oneline, help)


def _counter(kernel_name: str, oneline: str, help: str) -> Tuple[str, Metric[Fields]]:
    return kernel_name, _metric(kernel_name, U64, COUNTER, oneline, help)


def _gauge(kernel_name: str, oneline: str, help: str) -> Tuple[str, Metric[Fields]]:
    return kernel_name, _metric(kernel_name, U32, INSTANT, oneline, help)


_TABLE = (
    # Capable / fallback: does a new connection become MPTCP?
    _counter(
        "MPCapableSYNRX", "Connection requests received that ask for MPTCP",
        "Server side: SYNs with MP_CAPABLE that reached an MPTCP listener. This is the demand for MPTCP; "
        "compare with mptcp.mib.mpcapableackrx, the handshakes completed with MPTCP. No rise although "
        "clients use MPTCP: the option is stripped on the way, or the service listens with plain TCP "
        "(MPTCP listeners: ss -Mln)."),
    _counter(
        "MPCapableSYNTX", "Connection requests sent that ask for MPTCP",
        "Client side: connections opened with MP_CAPABLE in the SYN. "
        "mptcp.mib.mpcapablesynackrx divided by this is the share of servers that accept MPTCP. "
        "No rise although applications connect: they use plain TCP sockets, net.mptcp.enabled is 0, or "
        "mptcp.mib.mpcapablesyntxdisabled rises instead."),
    _counter(
        "MPCapableSYNACKRX", "Own connection requests that the server answered with MPTCP",
        "Client side: SYN/ACKs with MP_CAPABLE received. Normally close to mptcp.mib.mpcapablesyntx; the "
        "difference is plain TCP servers and middleboxes (mptcp.mib.mpcapablefallbacksynack), refused "
        "connections and lost packets."),
    _counter(
        "MPCapableACKRX", "Handshakes completed with MPTCP as the server",
        "Server side: third packets of the handshake that carried a valid MP_CAPABLE, that is, MPTCP "
        "connections accepted. Clearly less than mptcp.mib.mpcapablesynrx: clients give up, SYNs are "
        "repeated or scanned, or mptcp.mib.mpcapablefallbackack rises."),
    _counter(
        "MPCapableFallbackACK", "Server: handshake ended without MPTCP, fell back to TCP",
        "Server side: the client asked for MPTCP, but the third packet came without MP_CAPABLE, so the "
        "connection is plain TCP. Usual cause: the SYN/ACK lost its option on the way to the client. "
        "A few are normal on the internet; a jump points to a new firewall, proxy or load balancer: "
        "capture on both ends and compare the options."),
    _counter(
        "MPCapableFallbackSYNACK", "Client: server answered without MPTCP, fell back to TCP",
        "Client side: a SYN with MP_CAPABLE was answered by a SYN/ACK without it, so the connection is "
        "plain TCP and has one path only. Normal towards servers without MPTCP. If the server is known "
        "to speak MPTCP (net.mptcp.enabled and ss -Mln there), a middlebox strips the option."),
    _counter(
        "MPCapableSYNTXDrop", "Client: no answer to SYNs with MPTCP, went on with plain SYNs",
        "Client side: SYNs with MP_CAPABLE stayed unanswered, so the next ones are sent without it (how "
        "many are tried: net.mptcp.syn_retrans_before_tcp_fallback). Users see a delay of seconds. An "
        "unreachable server also counts here; if the plain SYN is answered, something drops MPTCP and "
        "mptcp.mib.blackhole rises too."),
    _counter(
        "MPCapableSYNTXDisabled", "Client: connections opened as TCP because of a past blackhole",
        "Client side: applications asked for MPTCP but got TCP, because a blackhole was detected and "
        "MPTCP is paused for all new connections of this network namespace. Normal is 0; any rise means "
        "lost redundancy. Find what drops MPTCP SYNs (see mptcp.mib.blackhole), then end the pause with "
        "sysctl net.mptcp.blackhole_timeout=0."),
    _counter(
        "Blackhole", "Blackholes detected: MPTCP SYNs dropped, plain SYNs answered",
        "Client side: a server answered only once MP_CAPABLE was left out, so a device on the path drops "
        "such SYNs. The kernel then opens ALL new connections of this network namespace as TCP for "
        "net.mptcp.blackhole_timeout seconds (default 3600, longer each time). Normal is 0: find the "
        "device, then set net.mptcp.blackhole_timeout=0 to resume (0 also turns detection off)."),
    _counter(
        "MPCapableEndpAttempt", "New connections refused on a port meant for joins only",
        "Server side: somebody tried to open a new connection to the port of a signal endpoint, where "
        "only MP_JOIN is welcome; it was reset. Normal is 0. Either a port scan or a client configured "
        "with the wrong port: compare with ip mptcp endpoint show."),
    _counter(
        "MPFallbackTokenInit", "Fell back to TCP because no token could be allocated",
        "Client or server: no unused connection token was found when a connection was set up, so it "
        "became plain TCP. Normal is 0. A rise means a very large number of MPTCP connections: see "
        "mptcp.mib.mpcurrestab and ss -s."),
    _counter(
        "MPCapableDataFallback", "Fell back to TCP: first packets after the handshake lacked MPTCP",
        "Either side, mostly the server: the handshake agreed on MPTCP, but the first packet afterwards "
        "came without MP_CAPABLE or DSS, so the connection is plain TCP. Normal is 0. A middlebox lets "
        "the options pass in SYNs but strips them later: capture on both ends."),
    _counter(
        "MD5SigFallback", "Fell back to TCP because the socket uses TCP MD5 signatures",
        "Either side: the application set TCP_MD5SIG, which excludes MPTCP because the options do not "
        "fit together. Harmless for the connection, which is plain TCP; typical for BGP daemons forced "
        "to MPTCP (mptcpize, BPF): exempt them."),
    _counter(
        "DssFallback", "Fell back to TCP because of a bad or missing data mapping",
        "Receiver of data: a segment came with an invalid DSS mapping or none while the connection could "
        "still fall back, so it goes on as plain TCP. Normal is 0. Suspect a middlebox or proxy that "
        "strips options or rewrites the stream; see also mptcp.mib.dsscorruptionfallback."),
    _counter(
        "SimultConnectFallback", "Fell back to TCP because both sides connected at once",
        "Either side: a TCP simultaneous open (crossing SYNs), which Linux does not support with MPTCP. "
        "Practically always 0. A rise comes from peer-to-peer software or tests and is harmless."),
    _counter(
        "FallbackFailed", "Fallback to TCP needed but impossible, subflow reset",
        "Either side: the MPTCP options stopped being usable on a subflow, but falling back was no "
        "longer allowed, typically because the connection has had several subflows; the subflow was "
        "reset. Normal is 0. A rise means a middlebox interferes on one path: find the path with "
        "ip mptcp monitor (SF_CLOSED) and capture there."),
    _counter(
        "InfiniteMapTx", "Infinite mappings sent: fell back to TCP in mid-connection",
        "Sender of data: after a failure reported by the peer (MP_FAIL, mptcp.mib.mpfailrx) the "
        "connection went on as plain TCP, announced by an infinite mapping (RFC 8684 section 3.7). "
        "Normal is 0; a rise means payload or mappings are changed on the way."),
    _counter(
        "InfiniteMapRx", "Infinite mappings received: peer fell back to TCP",
        "Receiver of data: the peer announced that the connection goes on as plain TCP (infinite "
        "mapping, RFC 8684 section 3.7). Normal is 0; look at mptcp.mib.datacsumerr and "
        "mptcp.mib.mpfailtx for the cause."),
    _gauge(
        "MPCurrEstab", "MPTCP sockets in state ESTABLISHED now",
        "The only gauge here: connections of both roles that are established at this moment, those that "
        "fell back to TCP included, closing ones (CLOSE_WAIT, FIN_WAIT) not. A sudden drop is a mass "
        "disconnect. Linux 6.8 and newer; list them with ss -Mn state established."),

    # Join: do additional subflows come up?
    _counter(
        "MPJoinSynTx", "Joins attempted: requests to add a subflow",
        "Initiator of the join, normally the client: attempts to open another subflow (MP_JOIN in the "
        "SYN). mptcp.mib.mpjoinsynackrx divided by this is the join success; below 90 % look for "
        "filtered paths and limits. No rise at all: no endpoints or a limit of 0, see ip mptcp endpoint "
        "show and ip mptcp limits show."),
    _counter(
        "MPJoinSynTxCreatSkErr", "Joins failed locally: no socket could be created",
        "Initiator of the join: the kernel could not create the socket of the subflow. Normal is 0. A "
        "rise means lack of memory or a refusal by a security module or cgroup program: see dmesg."),
    _counter(
        "MPJoinSynTxBindErr", "Joins failed locally: cannot bind the local address",
        "Initiator of the join: the address or port of the endpoint could not be bound. Normal is 0. "
        "Usually the address is not (or no longer) on the host, or an IPv6 address is still tentative: "
        "compare ip mptcp endpoint show with ip addr."),
    _counter(
        "MPJoinSynTxConnectErr", "Joins failed locally: cannot connect, e.g. no route",
        "Initiator of the join: the SYN could not even be sent, mostly because there is no route from "
        "the endpoint's address to the peer. Normal is 0. Check with ip route get PEER from ADDRESS, "
        "ip rule, and whether the interface is up."),
    _counter(
        "MPJoinSynRx", "Join requests received (step 1 of 3)",
        "Server side: SYNs with MP_JOIN received, before any check. mptcp.mib.mpjoinackrx divided by "
        "this is the join success seen by the server. For the failures see mptcp.mib.mpjoinnotokenfound, "
        "mptcp.mib.mpjoinrejected and mptcp.mib.mpjoinackhmacfailure."),
    _counter(
        "MPJoinSynAckRx", "Join requests that the peer answered (step 2 of 3)",
        "Initiator of the join, normally the client: valid SYN/ACKs with MP_JOIN received. Normally "
        "close to mptcp.mib.mpjoinsyntx. A growing gap means that joins are dropped or refused on some "
        "path: find subflows in SYN-SENT with ss -tni state syn-sent."),
    _counter(
        "MPJoinAckRx", "Joins completed as the server (step 3 of 3)",
        "Server side: third packets with a valid MP_JOIN, that is, subflows added by clients. Normally "
        "close to mptcp.mib.mpjoinsynrx. No rise while mptcp.mib.mpcapableackrx rises: connections run "
        "on a single path."),
    _counter(
        "MPJoinSynBackupRx", "Join requests received for a backup subflow",
        "Server side: those of mptcp.mib.mpjoinsynrx with the backup bit: the client wants the path "
        "used only when no other works. Normal if clients have backup endpoints, for example a metered "
        "mobile link."),
    _counter(
        "MPJoinSynAckBackupRx", "Join answers received that declare the subflow a backup",
        "Initiator of the join: those of mptcp.mib.mpjoinsynackrx with the backup bit, so the peer wants "
        "the path used only when no other works. Normal if the server's endpoint has the backup flag "
        "(ip mptcp endpoint show there); otherwise it explains an idle path."),
    _counter(
        "MPJoinNoTokenFound", "Join requests received for an unknown connection",
        "Server side: MP_JOIN with a token that no connection here has; it was reset. A few are normal "
        "when connections close while joins are under way. A steady rise: a load balancer or anycast "
        "sends the subflow to another server than the connection's, the connection has fallen back, or "
        "somebody probes tokens."),
    _counter(
        "MPJoinSynAckHMacFailure", "Join authentication failed at the initiator",
        "Initiator of the join: the HMAC in the peer's SYN/ACK was wrong, so the subflow was reset. "
        "Normal is 0. Either the join reached another server than the connection (load balancer, address "
        "reuse behind NAT), or an attack: capture the join and check who answers."),
    _counter(
        "MPJoinAckHMacFailure", "Join authentication failed at the server",
        "Server side: the HMAC in the third packet of a join was wrong, so the subflow was reset. Normal "
        "is 0. A rise suggests somebody tries to enter foreign connections, or a middlebox changes "
        "options: find the source addresses by a capture."),
    _counter(
        "MPJoinRejected", "Authenticated joins refused by the path manager, mostly by a limit",
        "Receiver of the join, normally the server: the client proved its key, but the number of "
        "subflows is at its limit or the connection no longer accepts any; the subflow was reset. Clients "
        "run with fewer paths than they could. Compare ip mptcp limits show here with the clients' "
        "endpoints; raise with ip mptcp limits set subflows N."),
    _counter(
        "MPJoinPortSynRx", "Join requests received on another port than the connection's",
        "Server side: joins (step 1) to the port of a signal endpoint with its own port. Normal if such "
        "endpoints exist (ip mptcp endpoint show); then a firewall must let this port in."),
    _counter(
        "MPJoinPortSynAckRx", "Join answers received from another port than the connection's",
        "Initiator of the join: answers (step 2) to joins towards a port that the peer announced. "
        "Normal if the peer announces ports (mptcp.mib.portadd)."),
    _counter(
        "MPJoinPortAckRx", "Joins on another port than the connection's, step 3 at the server",
        "Server side: third packets of joins to an announced port. Normally close to "
        "mptcp.mib.mpjoinportsynrx."),
    _counter(
        "MismatchPortSynRx", "Join requests refused: port was never announced",
        "Server side: a SYN with MP_JOIN came to a port that is neither the connection's nor one "
        "announced to this peer; it was reset. Normal is 0. Check port translation on the path and the "
        "peer's configuration against ip mptcp endpoint show."),
    _counter(
        "MismatchPortAckRx", "Joins refused at step 3: port was never announced",
        "Server side: as mptcp.mib.mismatchportsynrx, found at the third packet, for example because the "
        "endpoint was removed during the join. Normal is 0."),

    # Addresses: announcing and withdrawing them.
    _counter(
        "AddAddr", "Addresses announced by peers (ADD_ADDR received)",
        "ADD_ADDR options received, mostly by clients: the peer offers an address to join. If no join "
        "follows (mptcp.mib.mpjoinsyntx), the client's limit is the usual reason: "
        "ip mptcp limits show, add_addr_accepted (default 0)."),
    _counter(
        "AddAddrTx", "Address announcements sent (ADD_ADDR)",
        "ADD_ADDR options sent, mostly by servers: one for each signal endpoint and connection, and "
        "repetitions while the echo is missing. Compare with mptcp.mib.echoadd: more sent than "
        "confirmed means they are lost or the peer ignores them."),
    _counter(
        "AddAddrTxDrop", "Address announcements that could not be sent",
        "Announcing side, mostly the server: an ADD_ADDR was due but did not fit or no resources were "
        "left, so the peer does not learn the address now. Normal is 0 or near it. TCP timestamps take "
        "option space that IPv6 addresses with a port need."),
    _counter(
        "EchoAdd", "Confirmations of own address announcements received",
        "Announcing side, mostly the server: ADD_ADDR options with the echo bit received. Normally as "
        "many as mptcp.mib.addaddrtx; without the echo the announcement is repeated after "
        "net.mptcp.add_addr_timeout seconds."),
    _counter(
        "EchoAddTx", "Confirmations of the peers' address announcements sent",
        "Receiver of announcements, mostly the client: ADD_ADDR options with the echo bit sent. Normally "
        "as many as mptcp.mib.addaddr. An echo does not mean the address is used: beyond the limit it is "
        "confirmed and ignored."),
    _counter(
        "EchoAddTxDrop", "Confirmations of address announcements that could not be sent",
        "Receiver of announcements, mostly the client: an echo was due but did not fit or no resources "
        "were left; the peer will repeat its announcement. Normal is 0 or near it."),
    _counter(
        "PortAdd", "Address announcements received that name a port",
        "Receiver of announcements, mostly the client: those of mptcp.mib.addaddr with a port. "
        "Joins to it count in mptcp.mib.mpjoinportsynackrx; no rise there suggests a firewall that "
        "does not let this port pass."),
    _counter(
        "AddAddrDrop", "Address announcements received but dropped",
        "Receiver of announcements, mostly the client: an ADD_ADDR came while the path manager was still "
        "busy with the previous one or, with a userspace path manager, when none was running. The peer "
        "repeats it later. A limit that is reached does NOT count here: see ip mptcp limits show."),
    _counter(
        "RmAddr", "Addresses withdrawn by peers (RM_ADDR received)",
        "The peer withdrew an address, and subflows that use it are closed. Normal when "
        "interfaces or endpoints go away on the other side; frequent rises are a flapping link there."),
    _counter(
        "RmAddrTx", "Address withdrawals sent (RM_ADDR)",
        "This host told peers that an address is gone, after an endpoint was removed here. An "
        "unexpected rise: somebody or something (NetworkManager, mptcpd) changes endpoints; watch "
        "ip mptcp endpoint show and the logs."),
    _counter(
        "RmAddrDrop", "Address withdrawals received but dropped",
        "An RM_ADDR came while the path manager could not take it, so subflows to that address "
        "linger until they time out. Normal is 0 or near it."),
    _counter(
        "RmAddrTxDrop", "Address withdrawals that could not be sent",
        "An endpoint was removed here but the RM_ADDR did not fit or no resources were left, so the peer "
        "may keep using or trying the address. Normal is 0 or near it."),
    _counter(
        "RmSubflow", "Subflows closed by the path manager of this host",
        "Subflows closed because their endpoint was removed here, or because a userspace path manager "
        "asked for it. Normal after configuration changes; otherwise find who changes endpoints. "
        "Subflows that break or that the peer closes do not count here."),
    _counter(
        "MPPrioTx", "Priority changes of subflows sent (MP_PRIO)",
        "This host asked peers to treat a subflow as backup or as regular again, after a change of the "
        "backup flag of an endpoint. Normal is 0 without such changes; current flags: ip mptcp endpoint "
        "show."),
    _counter(
        "MPPrioRx", "Priority changes of subflows received (MP_PRIO)",
        "The peer asked to treat a subflow as backup or as regular again. Explains traffic that "
        "moves from one path to another without any fault; ip mptcp monitor shows SF_PRIO."),

    # Data: mappings, reordering and retransmission at MPTCP level.
    _counter(
        "MPTCPRetrans", "Segments sent again at MPTCP level, mostly on another subflow",
        "Sender: data reinjected because the peer did not confirm it at MPTCP level in time. The first "
        "sign of a dead or stalling path, about 0.3 s after it happens. Single rises are normal with "
        "lossy or very unequal paths; if it keeps rising see mptcp.mib.subflowstale and look for backoff "
        "in ss -tni."),
    _counter(
        "DSSNotMatching", "Data mappings that contradict the previous one",
        "Receiver: a new DSS mapping came before the previous one was used up and disagrees with it. "
        "Normal is 0. A middlebox splits, merges or rewrites segments, or the peer's stack has a bug."),
    _counter(
        "DSSNoMatchTCP", "Data mappings that do not match the TCP sequence numbers",
        "Receiver: a DSS mapping does not cover the TCP data it came with. Normal is 0. Suspect devices "
        "that change the length of the stream or resegment it, such as proxies and application gateways."),
    _counter(
        "DSSCorruptionFallback", "Corrupt data mapping, connection fell back to TCP",
        "Receiver: the mapping state of a subflow was inconsistent and, because a fallback was still "
        "possible, the connection goes on as plain TCP. Normal is 0; any rise is worth a capture on "
        "both ends."),
    _counter(
        "DSSCorruptionReset", "Corrupt data mapping, subflow reset",
        "Receiver: the mapping state of a subflow was inconsistent and a fallback was impossible, so the "
        "subflow was reset; others go on. Normal is 0; find the affected path with ip mptcp monitor "
        "(SF_CLOSED) and capture on both ends."),
    _counter(
        "DataCsumErr", "MPTCP data checksum errors",
        "Receiver: payload does not match the DSS checksum, so it was changed on the way. Only checked "
        "if one side has net.mptcp.checksum_enabled=1. Normal is 0; a rise means a middlebox (application "
        "gateway, transparent proxy) rewrites data on this path."),
    _counter(
        "OFOQueue", "Segments queued out of order at MPTCP level",
        "Receiver: data that arrived before earlier data still on another subflow. Normal with two or "
        "more unequal paths. Judge by the rate against throughput: a sharp increase means that one path "
        "has become much slower (compare rtt in ss -tni)."),
    _counter(
        "OFOQueueTail", "Out-of-order segments appended at the end of the queue",
        "Receiver: those of mptcp.mib.ofoqueue that could be put at the end, the cheap and usual case. "
        "No fault by itself."),
    _counter(
        "OFOMerge", "Out-of-order segments merged with a neighbour in the queue",
        "Receiver: those of mptcp.mib.ofoqueue that were joined to a queued neighbour, which saves "
        "memory. No fault by itself."),
    _counter(
        "DuplicateData", "Segments discarded because their data had already arrived",
        "Receiver: data received twice, on different subflows, after the sender reinjected it. Often the "
        "only sign at the receiver that a path is dead or stalling; the sender's mptcp.mib.mptcpretrans "
        "is the counterpart. Single rises are normal; if it keeps rising check each link and "
        "ss -tni."),
    _counter(
        "NoDSSInWindow", "Segments dropped because they are outside the MPTCP window",
        "Receiver: data beyond the receive window of the connection. Normal is 0 or near it. A rise "
        "suggests a peer that ignores the window, or corrupted sequence numbers."),
    _counter(
        "RcvPruned", "Receive buffer at its limit (older kernels)",
        "Receiver: incoming data met a full receive buffer or lack of memory; depending on the kernel it "
        "had to wait in the subflow or was dropped and sent again. Usually the application reads too "
        "slowly; otherwise see net.ipv4.tcp_rmem, net.ipv4.tcp_mem and skmem in ss -tm. "
        "Recent kernels (6.18 for one) no longer have this counter."),

    # Subflow state: dead paths, aborts and resets.
    _counter(
        "SubflowStale", "Subflows declared stale: no longer used for sending",
        "Sender: a subflow made no progress while data was outstanding (net.mptcp.stale_loss_cnt) and "
        "another one works, so the scheduler avoids it: a path is dead. This minus "
        "mptcp.mib.subflowrecover, if it grows, counts subflows on lost paths. Find them by backoff in "
        "ss -tni; no path-manager event tells, and idle connections or pure receivers notice nothing."),
    _counter(
        "SubflowRecover", "Stale subflows in use again",
        "Sender: a stale subflow made progress and is used again; the good news after "
        "mptcp.mib.subflowstale. It comes only with the next retransmission timeout, so the later the "
        "longer the outage was. Both rising together: a flapping path."),
    _counter(
        "MPFailTx", "Failures reported to the peer (MP_FAIL sent)",
        "Receiver of data: told the sender about a wrong checksum (mptcp.mib.datacsumerr); the subflow "
        "is closed or the connection falls back to TCP. Normal is 0: payload is changed on the way."),
    _counter(
        "MPFailRx", "Failures reported by the peer (MP_FAIL received)",
        "Sender of data: the peer saw a wrong checksum in what this host sent; the subflow is closed or "
        "the connection falls back to TCP (mptcp.mib.infinitemaptx). Normal is 0: payload is changed on "
        "the way."),
    _counter(
        "MPFastcloseTx", "Connections aborted by this host (MP_FASTCLOSE sent)",
        "Aborting side: the application closed or died with unread data, or the kernel gave up closing "
        "after net.mptcp.close_timeout seconds. Counts once per subflow, so 3 for "
        "a connection with three paths. Some are normal; a jump points at the application."),
    _counter(
        "MPFastcloseRx", "Connections aborted by the peer (MP_FASTCLOSE received)",
        "Aborted side: the peer ended the whole connection at once; counts once per connection. Often "
        "only mptcp.mib.mprstrx rises instead. Some are normal (impatient clients); a jump points at "
        "the peer's application."),
    _counter(
        "MPRstTx", "Subflow resets sent with a reason (MP_TCPRST)",
        "This host reset a subflow, for example a refused join or a broken one; the connection can go on. "
        "A few are normal. For the cause see mptcp.mib.mpjoinrejected, mptcp.mib.mpjoinnotokenfound and "
        "the DSS counters."),
    _counter(
        "MPRstRx", "Subflow resets received with a reason (MP_TCPRST)",
        "The peer reset a subflow, for example a join beyond its limit, or aborted the connection. "
        "A few are normal. ip mptcp monitor shows SF_CLOSED with the reset reason: 1 MPTCP error, 2 out "
        "of resources, 3 prohibited, 4 too much outstanding data, 5 bad performance, 6 middlebox."),

    # Window: the window shared by the subflows of a connection.
    _counter(
        "SndWndShared", "Send window of a subflow raised to the connection's",
        "Sender: the window seen on one subflow was smaller than the one of the connection, which was "
        "announced on another, so the wider one applies. Ordinary bookkeeping with two or more paths; "
        "no fault."),
    _counter(
        "RcvWndShared", "Receive window announced on a subflow taken from the connection's",
        "Receiver: a subflow announced the wider window of the connection instead of its own. Grows with "
        "traffic on two or more paths; no fault."),
    _counter(
        "RcvWndConflictUpdate", "Window update races lost to a wider window of another subflow",
        "Receiver: two subflows updated the connection's window at once and the other's, wider one was "
        "taken. Harmless; grows with packet rate and number of CPUs."),
    _counter(
        "RcvWndConflict", "Window update races between subflows",
        "Receiver: two subflows updated the connection's window at once, and the update was tried "
        "again. Harmless; grows with packet rate and number of CPUs."),
    _counter(
        "WinProbe", "Zero-window probes sent at MPTCP level",
        "Sender: the peer's window for the connection is closed, so this host probes whether it has "
        "opened. The peer's application does not read fast enough; the network is not the cause. "
        "Look at the receiving host (Recv-Q in ss -Mn there)."),
)

METRICS = tuple(metric for _, metric in _TABLE)
KNOWN = frozenset(kernel_name for kernel_name, _ in _TABLE)

_refresh = Snapshot.refresh_counters


def _others(snapshot: Snapshot) -> Dict[int, Tuple[str, int]]:
    """Fields that are not in KNOWN, by a number of their own (their place in the kernel's line)."""
    return {number: field for number, field in enumerate((snapshot.counters.value or {}).items(), 1)
            if field[0] not in KNOWN}


GROUP: Group[Fields] = Group(0, None, _refresh, METRICS, rows=lambda snapshot: snapshot.counters.value)

OTHER: Group[Tuple[str, int]] = Group(1, Domain[Tuple[str, int]](
    0, _refresh, _others, name=lambda field: field[0], labels=lambda field: {},
    oneline="Kernel counters without a metric of their own",
    help="Fields of the line MPTcpExt in /proc/net/netstat, under the kernel's names."), _refresh, (
    Metric("mptcp.mib.other", U64, COUNTER, COUNT, lambda field: field[1],
           "MPTCP counters of this kernel that the agent does not know by name",
           "Fields of the line MPTcpExt in /proc/net/netstat that are newer than this agent, one instance "
           "per field, under the kernel's name. Taken as counters; the kernel's net/mptcp/mib.h says what "
           "they mean. A newer agent will have metrics of their own for them."),
))
