# SPDX-License-Identifier: GPL-2.0-or-later
"""All tables, in the order in which clients list them."""

from . import agent, connection, interface, mib, overview, pm, subflow, sysctl

GROUPS = (
    interface.SUBFLOWS, overview.CONNECTIONS, overview.REDUNDANCY, interface.DEVICES, interface.TRAFFIC,
    connection.GROUP, connection.SUBFLOWS, subflow.GROUP, pm.LIMITS, pm.CONFIGURATION, pm.USE,
    mib.GROUP, mib.OTHER, sysctl.GROUP, sysctl.OTHER, agent.GROUP)
