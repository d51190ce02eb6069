# SPDX-License-Identifier: GPL-2.0-or-later
"""The MPTCP agent on recorded answers of the kernel, which lie beside this file.

Everything is as pmcd would start it, except for the readers: those that read
sockets and files get bytes, and pyroute2's classes parse bytes with pyroute2's
own messages.  The agent itself knows nothing of this, so nothing in it can be
turned against a host.  MPTCP_PMDA is the directory of the agent.
"""

import os
import socket
import sys
from pathlib import Path
from struct import unpack_from

sys.path.insert(0, os.environ["MPTCP_PMDA"])

from pmdamptcp import config  # noqa: E402
from pmdamptcp.agent import Agent  # noqa: E402
from pmdamptcp.kernel import inet_diag, interfaces, netstat, path_manager, routes, sock_diag, sysctl  # noqa: E402
from pyroute2.netlink.generic.mptcp import mptcp_msg  # noqa: E402
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg  # noqa: E402
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg  # noqa: E402

HERE = Path(__file__).resolve().parent
NLMSG_DONE = 3
#: All of it, read while this is still root: the agent gives that up.
CANNED = {path.name: path.read_bytes() for path in HERE.iterdir() if path.suffix == ".bin"}
COUNTERS = netstat.read(str(HERE / "netstat"))
SETTINGS = {name.replace("net.mptcp.", ""): value for name, value in (
    line.split(" = ") for line in (HERE / "sysctl").read_text(encoding="ascii").splitlines())}


def parsed(name, kind):
    """The messages of an answer, as pyroute2 hands them out."""
    data, at = CANNED[name], 0
    while at < len(data):
        length, number = unpack_from("=IH", data, at)
        if number > NLMSG_DONE:
            message = kind(data[at:at + length])
            message.decode()
            yield message
        at += length + 3 & ~3


class Canned:
    """In the place of pyroute2.IPRoute and of pyroute2.MPTCP."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def get_links(self):
        """RTM_GETLINK."""
        return parsed("links.bin", ifinfmsg)

    def get_addr(self):
        """RTM_GETADDR."""
        return parsed("addresses.bin", ifaddrmsg)

    def limits(self, _command):
        """MPTCP_PM_CMD_GET_LIMITS."""
        return parsed("limits.bin", mptcp_msg)

    def endpoint(self, _command):
        """MPTCP_PM_CMD_GET_ADDR."""
        return parsed("endpoints.bin", mptcp_msg)

    @staticmethod
    def any():
        """Of interfaces.Changes: nothing changes."""
        return False


def dump(protocol, _states=0, ports=(), _families=()):
    """As sock_diag.dump; nobody here serves plain TCP."""
    name = "mptcp" if protocol == inet_diag.IPPROTO_MPTCP else "tcp"
    return iter(() if ports else (CANNED[name + "4.bin"], CANNED[name + "6.bin"]))


def egress(keys):
    """As routes.egress: packets leave by the link that has their address."""
    owner = {sources: index for address, index in interfaces.addresses().items() for sources in routes.sources(address)}
    return {key: owner.get(routes.source_of(key)) for key in keys}


def traffic():
    """As interfaces.traffic, from what links tell of themselves."""
    found = {}
    for link in Canned().get_links():
        counters = link.get_attr("IFLA_STATS64")
        found[link.get_attr("IFLA_IFNAME")] = interfaces.Traffic(counters["rx_bytes"], counters["tx_bytes"])
    return found


def main():
    """Serve dbpmda or pmcd."""
    assert socket.htons(1) != 1, "recorded on a little-endian machine"
    netstat.read, sysctl.read = lambda: COUNTERS, lambda: SETTINGS
    interfaces.IPRoute = interfaces.Changes = path_manager.MPTCP = Canned
    interfaces.traffic, sock_diag.dump, routes.egress = traffic, dump, egress
    config.read = lambda _path, _log: config.Config(listener=False, processes=False)
    Agent().run()


main()
