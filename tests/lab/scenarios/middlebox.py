# SPDX-License-Identifier: GPL-2.0-or-later
"""Boxes on the path that do to MPTCP what firewalls, proxies and routers do.

    with drops_joins(lab, 2) as box:     # on link 2 only; without numbers: on all links
        lab.iperf3(...)
        print(box.hits())                # how many packets were met

A box sits in front of the interfaces of both hosts, where a packet has left
the wire and the host's TCP has not seen it: an nftables chain of the netdev
family at the ingress hook.  It looks only at what passes, so connections that
it let through before stay as they are.
"""

import json

# Subtypes of the MPTCP option (RFC 8684), as nft wants them.
CAPABLE, JOIN, ADD_ADDR = 0, 1, 3

SYN = "tcp flags & (syn|ack) == syn"
ANSWER = "tcp flags & (syn|ack) == (syn|ack)"
ANY_SYN = "tcp flags & syn == syn"
LATER = "tcp flags & syn == 0"
STRIP = "reset tcp option mptcp"  # to NOPs, with a checksum that fits
DROP = "drop"
REJECT = "reject with tcp reset"


def _option(subtype):
    return f"tcp option mptcp subtype {subtype}"


class Middlebox:
    """Rules on links of a lab; on from start() to stop(), or in a with block."""

    def __init__(self, lab, links, name, *rules):
        self.hosts = (lab.client, lab.server)
        self.links = links or tuple(range(1, lab.links + 1))
        self.table = f"box_{name}"
        self.rules = rules

    def start(self):
        """Put the box on the path."""
        for host in self.hosts:
            host.run("nft", "-f", "-", input=self._script(host))
        return self

    def stop(self):
        """Take it off again."""
        for host in self.hosts:
            host.run("nft", "delete", "table", "netdev", self.table, check=False)

    def _script(self, host):
        lines = [f"table netdev {self.table} {{"]
        for n in self.links:
            lines.append(f"chain link{n} {{ type filter hook ingress device {host.link(n)} priority 0;")
            lines += [rule.replace("%", "counter") for rule in self.rules]
            lines.append("}")
        return "\n".join(lines + ["}"]) + "\n"

    def hits(self):
        """How many packets the box did something to, by the host they were on the way to."""
        return {host.name: sum(self._counters(host)) for host in self.hosts}

    def _counters(self, host):
        listing = json.loads(host.run("nft", "-j", "list", "table", "netdev", self.table).stdout)
        for item in listing["nftables"]:
            for statement in item.get("rule", {}).get("expr", ()):
                if "counter" in statement:
                    yield statement["counter"]["packets"]

    def __enter__(self):
        return self.start()

    def __exit__(self, *unused):
        self.stop()


# When a connection starts

def strips_mptcp(lab, *links):
    """Takes the MPTCP option out of every SYN and its answer: connections become TCP, joins plain strangers."""
    return Middlebox(lab, links, "strips_mptcp", f"{ANY_SYN} tcp option mptcp exists % {STRIP}")


def strips_answers(lab, *links):
    """Takes the MPTCP option out of SYN/ACKs only: the server believes in MPTCP until the third packet."""
    return Middlebox(lab, links, "strips_answers", f"{ANSWER} tcp option mptcp exists % {STRIP}")


def drops_mptcp(lab, *links):
    """Drops every SYN that asks for a new MPTCP connection: a blackhole; plain TCP passes."""
    return Middlebox(lab, links, "drops_mptcp", f"{SYN} {_option(CAPABLE)} % {DROP}")


# When a subflow joins

def drops_joins(lab, *links):
    """Drops the SYN of every join."""
    return Middlebox(lab, links, "drops_joins", f"{SYN} {_option(JOIN)} % {DROP}")


def resets_joins(lab, *links):
    """Answers the SYN of every join with a RST, as a firewall that rejects does."""
    return Middlebox(lab, links, "resets_joins", f"{SYN} {_option(JOIN)} % {REJECT}")


def strips_joins(lab, *links):
    """Takes the option out of the SYN of every join: it arrives as a plain TCP connect."""
    return Middlebox(lab, links, "strips_joins", f"{SYN} {_option(JOIN)} % {STRIP}")


def drops_join_answers(lab, *links):
    """Drops the SYN/ACK of every join: the server sees joins, the client no answer."""
    return Middlebox(lab, links, "drops_join_answers", f"{ANSWER} {_option(JOIN)} % {DROP}")


def drops_join_ends(lab, *links):
    """Drops the third packet of every join, which proves who it is: the join stays half open."""
    return Middlebox(lab, links, "drops_join_ends", f"{LATER} {_option(JOIN)} % {DROP}")


# When addresses are announced

def drops_announcements(lab, *links):
    """Drops packets with ADD_ADDR, which are announcements and their echoes."""
    return Middlebox(lab, links, "drops_announcements", f"{_option(ADD_ADDR)} % {DROP}")


def strips_announcements(lab, *links):
    """Takes ADD_ADDR out of the packets that have it."""
    return Middlebox(lab, links, "strips_announcements", f"{_option(ADD_ADDR)} % {STRIP}")


# Later

def strips_data(lab, *links):
    """Lets handshakes pass and takes the MPTCP option out of all that follows."""
    return Middlebox(lab, links, "strips_data", f"{LATER} tcp option mptcp exists % {STRIP}")


def swallows_data(lab, *links):
    """Lets handshakes pass and drops all that follows with an MPTCP option: a path that died silently."""
    return Middlebox(lab, links, "swallows_data", f"{LATER} tcp option mptcp exists % {DROP}")


def resets_subflows(lab, *links):
    """Answers whatever an established subflow sends with a RST."""
    return Middlebox(lab, links, "resets_subflows", f"{LATER} tcp option mptcp exists % {REJECT}")


def forget_blackholes(lab):
    """Let both hosts try MPTCP again, after drops_mptcp made them give it up for an hour."""
    for host in (lab.client, lab.server):
        host.sysctl("net.mptcp.blackhole_timeout", host.sysctl("net.mptcp.blackhole_timeout"))
