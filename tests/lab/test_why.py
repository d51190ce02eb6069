# SPDX-License-Identifier: GPL-2.0-or-later
"""`pcp mptcp why` names the culprit, on both hosts, for each thing that keeps a connection from its paths.

It is started before the connection is opened and looks for some seconds, as
one does who tries again: so the counters of the cases before do not matter.
"""

import itertools
import json

import pytest

from . import wait_for
from .client import finish, pcp_mptcp, pcp_mptcp_json, start
from .common import PYTHON
from .scenarios import middlebox

WELL = "nothing to mend"
STRIPPED = "the peer answers, but not with MPTCP: a firewall or proxy on the way strips the option"
PLAIN = "the clients' SYNs arrive without MPTCP"
UNHEARD = "none of its joins arrives"
INCOMPLETE = "peers begin joins that never complete"

# fault: the first bad step and the verdict at the client, the same at the server
BOXES = {
    "": (None, WELL, None, WELL),
    "strips_mptcp": ("handshake", STRIPPED, "asked", PLAIN),
    "strips_answers": ("handshake", STRIPPED, "asked", "the answers of this host lose it on the way back"),
    "drops_mptcp": ("blackhole", "a firewall on the way drops SYNs that ask for MPTCP", "asked", PLAIN),
    "drops_joins": ("joins", "joins get no answer: a firewall on the way drops them", "joins", UNHEARD),
    "resets_joins": ("joins", "joins are refused with a reset: a firewall on the way rejects them", "joins", UNHEARD),
    "strips_joins": ("joins", "joins are answered by plain TCP: a firewall or proxy on the way strips the option",
                     "joins", UNHEARD),
    "drops_join_answers": ("joins", "joins get no answer", "joins", INCOMPLETE),
    "drops_join_ends": (None, WELL, "joins", INCOMPLETE),
    "drops_announcements": ("endpoints", "no announcement of the peer arrived",
                            "announced", "the announced addresses are never confirmed: a firewall drops"),
    "strips_announcements": ("handshake", "the first packets spoke MPTCP, then a proxy or firewall",
                             "announced", "the announced addresses are never confirmed: a firewall drops or strips"),
}


def fetches(host):
    """How often pmcd was asked for values: by this question, too."""
    return sum(host.pminfo(f"pmcd.pdu_in.{kind}")[None] for kind in ("fetch", "highres_fetch"))


def first_sample(host, before):
    """Wait until `why` has asked for its host's name and for the first sample."""
    questions = itertools.count(1)
    wait_for(lambda: fetches(host) - 2 * next(questions) >= before + 2, timeout=20,
             message="why took no first sample")  # each of our own questions is two


def tried_again(lab, seconds=3, payload=b"x" * 10000):
    """What `why PORT` says on the client and on the server of a connection that is opened meanwhile."""
    hosts = lab.client, lab.server
    port = str(lab.next_port())
    before = [fetches(host) for host in hosts]
    running = [start(host, "why", port, "--json", "-t", str(seconds), "-s", "1") for host in hosts]
    for host, count in zip(hosts, before):
        first_sample(host, count)
    with lab.hold(1, port=int(port), payload=payload):
        return [finish(process) for process in running]


def judge(role, answer, step, verdict):
    """Is the first bad step this one, and the verdict this?"""
    status, out, err = answer
    assert out, err
    found = json.loads(out)["why"]
    print(f"{role}: {found['verdict']}")
    for one in found["steps"]:
        print(f"  {one['level']:5}{one['name']:10} {one['text']}")
    assert verdict in found["verdict"]
    bad = [one["name"] for one in found["steps"] if one["level"] == "BAD"]
    assert bad[:1] == ([step] if step else [])
    assert status == (0 if found["healthy"] else 2)
    assert found["healthy"] is (step is None)
    assert bool(found["mend"]) is (step is not None)
    return found


@pytest.mark.parametrize("fault", BOXES)
def test_a_box_on_the_path(lab, fault):
    """Each thing that a middlebox does to the start of a connection and to its joins."""
    client_step, client_verdict, server_step, server_verdict = BOXES[fault]
    box = getattr(middlebox, fault)(lab).start() if fault else None
    try:
        # Linux tries for 3 s before it gives MPTCP up; a server that has confirmed data is not doubted any more.
        at_client, at_server = tried_again(lab, 5 if fault == "drops_mptcp" else 3,
                                           b"" if fault == "strips_announcements" else b"x" * 10000)
        judge("client", at_client, client_step, client_verdict)
        judge("server", at_server, server_step, server_verdict)
    finally:
        if box:
            box.stop()
        middlebox.forget_blackholes(lab)


SETTINGS = {
    "client's limit of subflows": ("client", "ip mptcp limits set subflow 0 add_addr_accepted 2",
                                   "limits", "the limit lets no connection have a second subflow"),
    "client's limit of addresses": ("client", "ip mptcp limits set subflow 2 add_addr_accepted 0",
                                    "limits", "the peer announced addresses, and the limit lets none be accepted"),
    "server's limit of subflows": ("server", "ip mptcp limits set subflow 0",
                                   "limits", "the limit lets no connection have a second subflow"),
    "server has no endpoints": ("server", "ip mptcp endpoint flush", "endpoints", "this host announces none"),
    "an endpoint on no interface": ("server", "ip mptcp endpoint add 10.0.77.2 signal", "endpoints",
                                    "no interface has the address of endpoint"),
}


def test_nobody_answers(lab):
    """All SYNs are dropped: that is said, and nothing about MPTCP."""
    lab.server.run("nft", "add table inet mute; add chain inet mute in { type filter hook input priority 0; }; "
                   "add rule inet mute in tcp flags & syn == syn drop")
    program = "import socket, sys; s = socket.socket(2, 1, 262); s.connect((sys.argv[1], 9999))"
    client = lab.client.popen(PYTHON, "-c", program, lab.server.address(1))
    try:
        wait_for(lambda: "SYN-SENT" in lab.client.pminfo("mptcp.connection.state").values())
        found = pcp_mptcp_json(lab.client, "why", "9999", "-t", "1")["why"]
        print(found["verdict"])
        assert "the peer has not answered, so far, at all" in found["verdict"]
    finally:
        lab.client.stop(client)
        lab.server.run("nft", "delete", "table", "inet", "mute")


@pytest.mark.parametrize("what", SETTINGS)
def test_a_setting(lab, what):
    """The settings of the tutorial, each forgotten once: its host names it, with the command that mends it."""
    role, command, step, verdict = SETTINGS[what]
    host = getattr(lab, role)
    try:
        host.run(*command.split())
        answer = tried_again(lab)[role == "server"]
        found = judge(role, answer, step, verdict)
        assert any(one.startswith(("ip mptcp limits set", "ip mptcp endpoint", "ip address add"))
                   for one in found["mend"]), found["mend"]
    finally:
        for one in (lab.client, lab.server):
            one.run("ip", "mptcp", "endpoint", "flush")
        lab.tutorial()


def test_source_routing_is_missing(lab):
    """Without its rule, the packets of an endpoint leave by another link."""
    host = lab.server
    rules = [line for line in host.run("ip", "rule").stdout.splitlines() if host.address(2) in line]
    assert rules, "the lab has source routing"
    number = rules[0].split(":")[0]
    host.run("ip", "rule", "del", "pref", number)
    host.run("ip", "route", "add", lab.client.address(2), "via", lab.client.address(3), "onlink", "dev", host.link(3))
    try:
        with lab.hold(1):
            found = pcp_mptcp_json(host, "why")["why"]
            print(found["verdict"], found["mend"])
            assert "source routing is missing: packets from 10.0.2.2 leave by another link than enp2s0" \
                in found["verdict"]
            assert found["mend"][0] == "ip rule add from 10.0.2.2 table N"
    finally:
        host.run("ip", "route", "del", lab.client.address(2), "via", lab.client.address(3), "dev", host.link(3))
        host.run("ip", "rule", "add", *rules[0].split(":", 1)[1].split(), "pref", number)


def test_a_dead_link(lab):
    """A link that goes down on this host, and one that dies beyond it."""
    server = lab.server
    with lab.hold(1):
        server.link_down(3)
        try:
            found = pcp_mptcp_json(server, "why")["why"]
            print(found["verdict"])
            assert "enp3s0, the link of endpoint 2 10.0.3.2%enp3s0, is down" in found["verdict"]
        finally:
            server.link_up(3)
    download = lab.iperf3(seconds=60, reverse=True)
    try:
        wait_for(lambda: server.pminfo("mptcp.redundancy.connections")["3"] == 2, message="not all paths")
        with middlebox.swallows_data(lab, 2):
            wait_for(lambda: server.pminfo("mptcp.interface.stalled_subflows")["enp2s0"], timeout=20)
            found = pcp_mptcp_json(server, "why", "5201")["why"]
            print(found["verdict"])
            assert "the path over enp2s0 is dead though the link looks up: 10.0.2.1:" in found["verdict"]
            assert found["mend"] == ["ping -I enp2s0 10.0.2.1"]
    finally:
        download.stop()


@pytest.mark.parametrize("argv, said", [
    (("why", "77"), "no MPTCP connection has port 77"),
    (("why", "192.0.2.99"), "no MPTCP connection and no endpoint has the address 192.0.2.99"),
    (("why", "c4711"), "no connection c4711 at that time"),
    (("why", "nobody"), "nobody is no connection such as c17, no port and no address"),
    (("why", "1", "2"), "why takes one address, port or connection"),
])
def test_what_is_not_there(lab, argv, said):
    """One clear line, and a status that is not 0."""
    status, out, err = pcp_mptcp(lab.client, *argv)
    print(err.strip())
    assert (status, out) == (1, "") and said in err and len(err.splitlines()) == 1
