# SPDX-License-Identifier: GPL-2.0-or-later
"""mptcp.service.*: who could speak MPTCP, and who does.  A row is a services.Service."""

from ..services import Service
from ..snapshot import Owned, Snapshot
from . import COUNT, DISCRETE, INSTANT, NONE, STRING, U32, Domain, Group, Metric
from .connection import owner

SERVICES: Domain[Service] = Domain(
    9, Snapshot.refresh_services, lambda snapshot: snapshot.services, name=lambda row: str(row.port),
    labels=lambda row: {"port": row.port},
    oneline="Services that accept MPTCP", help="One instance for each local port with an MPTCP listener.")

GROUP: Group[Service] = Group(20, SERVICES, Snapshot.refresh_services, (
    Metric("mptcp.service.port", U32, DISCRETE, NONE, lambda row: row.port,
           "Local port", "The instance's name as a value, for tools that choose by values."),
    Metric("mptcp.service.addresses", STRING, DISCRETE, NONE, lambda row: row.addresses,
           "Addresses it listens on", "0.0.0.0: all of IPv4; :: all of IPv6, and of IPv4 unless the service says no."),
    Metric("mptcp.service.connections", U32, INSTANT, COUNT, lambda row: row.mptcp + row.tcp,
           "Established connections of the service", "mptcp_connections and tcp_connections together."),
    Metric("mptcp.service.mptcp_connections", U32, INSTANT, COUNT, lambda row: row.mptcp,
           "Of these, connections that speak MPTCP", "Those that fell back to TCP are not among them."),
    Metric("mptcp.service.tcp_connections", U32, INSTANT, COUNT, lambda row: row.tcp,
           "Of these, connections that are plain TCP",
           "Clients that did not ask for MPTCP, or that lost it on the way here: what the service could carry over "
           "several paths and does not. Connections of a plain TCP listener on the same port count, too."),
))

OWNERS: Group[Owned] = Group(23, SERVICES, Snapshot.refresh_owners, (
    Metric("mptcp.service.pid", U32, DISCRETE, NONE, owner("pid"),
           "Process that listens", "Of several the one that was started first. See mptcp.connection.pid."),
    Metric("mptcp.service.command", STRING, DISCRETE, NONE, owner("command"),
           "Name of that process", "Up to 15 characters of it, as ps -o comm shows it."),
), rows=lambda snapshot: {port: (snapshot.owner, row.listeners[0]) for port, row in snapshot.services.items()})
