# SPDX-License-Identifier: GPL-2.0-or-later
"""All tables, in the order in which clients list them."""

from typing import Any, Tuple

from . import Group, agent, connection, event, interface, mib, overview, pm, service, subflow, sysctl, wire

GROUPS: Tuple[Group[Any], ...] = (
    interface.SUBFLOWS, overview.CONNECTIONS, overview.REDUNDANCY, overview.DEGRADED, interface.DEVICES,
    interface.TRAFFIC, wire.GROUP, connection.GROUP, connection.SUBFLOWS, connection.OWNERS, subflow.GROUP,
    service.GROUP, service.OWNERS, pm.LIMITS, pm.CONFIGURATION, pm.USE, event.EVENTS, event.REASONS, event.ERRORS,
    mib.GROUP, mib.OTHER, sysctl.GROUP, sysctl.OTHER, agent.GROUP, agent.LISTENER)
