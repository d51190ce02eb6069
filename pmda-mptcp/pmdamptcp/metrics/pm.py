# SPDX-License-Identifier: GPL-2.0-or-later
"""mptcp.pm.*: the in-kernel path manager.  A row is an endpoints.EndpointRow."""

from typing import Callable, Optional

from ..endpoints import EndpointRow
from ..kernel.path_manager import FLAGS
from ..records import Limits
from ..snapshot import Snapshot
from . import COUNT, DISCRETE, INSTANT, NONE, STRING, U32, Domain, Group, Metric


def _limit(get: Callable[[Limits], Optional[int]]) -> Callable[[Snapshot], Optional[int]]:
    return lambda snapshot: get(snapshot.path_manager.value.limits) if snapshot.path_manager.value else None


def _flag(bit: int) -> Callable[[EndpointRow], int]:
    return lambda row: int(bool(row.endpoint.flags & bit))


def _flags(row: EndpointRow) -> str:
    names = [name for name, bit in FLAGS.items() if row.endpoint.flags & bit]
    unknown = row.endpoint.flags & ~sum(FLAGS.values())
    return " ".join(names + ([f"{unknown:#x}"] if unknown else []))


LIMITS: Group[Snapshot] = Group(4, None, Snapshot.refresh_path_manager, (
    Metric("mptcp.pm.limits.subflows", U32, DISCRETE, NONE, _limit(lambda limits: limits.subflows),
           "Additional subflows that a connection may have",
           "As ip mptcp limits shows it: how many subflows besides the initial one. The limits of both hosts "
           "count: a server with too low a limit answers joins with a reset (mptcp.mib.mpjoinrejected)."),
    Metric("mptcp.pm.limits.add_addr_accepted", U32, DISCRETE, NONE, _limit(lambda limits: limits.add_addr_accepted),
           "Announced addresses of the peer that a connection may join",
           "As ip mptcp limits shows it. 0 (the kernel's default): announcements are ignored, so endpoints "
           "with the signal flag on the other host bring no subflow."),
    Metric("mptcp.pm.endpoints", U32, INSTANT, COUNT, lambda snapshot: len(snapshot.endpoints),
           "Number of endpoints", "Endpoints of the in-kernel path manager, as ip mptcp endpoint lists them."),
), rows=lambda snapshot: snapshot if snapshot.path_manager.value else None)

ENDPOINTS: Domain[EndpointRow] = Domain(
    2, Snapshot.refresh_path_manager, lambda snapshot: {row.id: row for row in snapshot.endpoints},
    name=lambda row: row.name,
    labels=lambda row: {"endpoint": row.endpoint.id, "address": row.endpoint.address, "interface": row.interface},
    oneline="Path-manager endpoints",
    help="One instance for each endpoint, named by its id, address, port and device.")

CONFIGURATION: Group[EndpointRow] = Group(5, ENDPOINTS, Snapshot.refresh_path_manager, (
    Metric("mptcp.pm.endpoint.id", U32, DISCRETE, NONE, lambda row: row.endpoint.id,
           "Address id of the endpoint",
           "The id that ip mptcp endpoint shows and that goes to the peer with the address (RFC 8684)."),
    Metric("mptcp.pm.endpoint.address", STRING, DISCRETE, NONE, lambda row: row.endpoint.address,
           "Address of the endpoint", "IPv4 or IPv6 address, as text."),
    Metric("mptcp.pm.endpoint.port", U32, DISCRETE, NONE, lambda row: row.endpoint.port,
           "Port of the endpoint, 0 for any",
           "An endpoint with a port listens there for joins, beside the port of the service."),
    Metric("mptcp.pm.endpoint.interface", STRING, DISCRETE, NONE, lambda row: row.interface,
           "Interface that the endpoint is tied to",
           "The device named with dev, empty without one. Joins from the endpoint are bound to it."),
    Metric("mptcp.pm.endpoint.flags", STRING, DISCRETE, NONE, _flags,
           "Flags of the endpoint, in words", "As ip mptcp endpoint shows them; also one by one."),
    *(Metric(f"mptcp.pm.endpoint.{name}", U32, DISCRETE, NONE, _flag(bit), oneline, text)
      for (name, bit), (oneline, text) in zip(FLAGS.items(), (
          ("Is the address announced to peers?",
           "1: the peer learns the address (ADD_ADDR) and may join it. Usual on servers."),
          ("Are subflows opened from the address?",
           "1: this host joins from the address to the peer's. Usual on clients."),
          ("Are its subflows a backup?",
           "1: subflows from this endpoint carry data only when no other can."),
          ("Does the address join to every address of the peer?",
           "1: subflows from this address go to each announced address of the peer."),
          ("Was the endpoint made by the kernel?",
           "1: the kernel added it by itself for a local address that joined."),
          ("Is the address used only to join announced addresses?",
           "1: the address joins an address that the peer announced, once each (Linux 6.18).")))),
))

USE: Group[EndpointRow] = Group(6, ENDPOINTS, Snapshot.refresh_endpoints, (
    Metric("mptcp.pm.endpoint.subflows", U32, INSTANT, COUNT, lambda row: row.subflows,
           "Live subflows that use the endpoint",
           "Established subflows from the endpoint's address that have a way out over an interface that is up "
           "and whose peer answers. 0 while there are connections is lost redundancy: look at "
           "mptcp.interface.up, mptcp.pm.endpoint.misrouted and the limits."),
    Metric("mptcp.pm.endpoint.misrouted", U32, INSTANT, NONE,
           lambda row: None if row.misrouted is None else int(row.misrouted),
           "1 if packets from its address leave by another interface",
           "The routing of this host would send packets from the address by another interface than the one "
           "that owns it, so the path is not used although the subflow exists. The mend is source routing: "
           "ip rule add from ADDRESS table N, with a default route by that link in table N. Checked against "
           "the peers of its subflows, for the subflow flag also against the servers in use, without any "
           "against the default route. No value: the address is on no interface, or there is no route."),
    Metric("mptcp.pm.endpoint.owner", STRING, DISCRETE, NONE, lambda row: row.owner,
           "Interface that has the endpoint's address",
           "Empty when no interface has it: then no subflow can use the endpoint."),
))
