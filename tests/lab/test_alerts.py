# SPDX-License-Identifier: GPL-2.0-or-later
"""Each alert rule fires when its fault is caused, with the words an operator needs, and else is silent."""

import contextlib
import os
import re
import signal
from types import SimpleNamespace

import pytest

from . import wait_for
from .pmcd import REPOSITORY
from .pmie import RULES, Pmie, evaluate, pmieconf, rules_tree, settle

SYN, ACK = "tcp flags & (syn|ack) == syn", "tcp flags & (syn|ack) == ack"
TO_LINKS_2_AND_3 = "ip daddr { 10.0.2.2, 10.0.3.2 }"
BOTH_ENDPOINTS = r"\[1 10.0.2.2%enp2s0\]@server \[2 10.0.3.2%enp3s0\]@server"


@pytest.fixture(scope="module")
def pmie(lab):
    """pmie on both hosts, for the whole module."""
    with Pmie(lab.client) as client, Pmie(lab.server) as server:
        yield SimpleNamespace(client=client, server=server)


@pytest.fixture(autouse=True)
def fresh(pmie):
    """Alerts of the test before are over and forgotten."""
    settle(pmie.client, pmie.server)


@contextlib.contextmanager
def firewall(host, *rules, hook="output"):
    """Rules of nftables that treat the packets of a host."""
    chain = "\n".join([f"type filter hook {hook} priority 0", *rules])
    host.run("nft", "-f", "-", input=f"table ip lab {{\nchain packets {{\n{chain}\n}}\n}}\n")
    try:
        yield
    finally:
        host.run("nft", "delete table ip lab")


def download(lab, seconds):
    """iperf3 to the client, with a subflow on each link that both agents have seen."""
    traffic = lab.iperf3(seconds=seconds, reverse=True)
    for host in (lab.client, lab.server):
        wait_for(lambda host=host: all(host.pminfo("mptcp.subflows")[link] == 2 for link in host.links),
                 message=f"not a subflow on each link of the {host.name}")
    return traffic


@contextlib.contextmanager
def connections(lab, pmie, count, **options):
    """Open connections just after an evaluation, so that none is between SYN and answer at the next."""
    evaluate(1, pmie.client)
    with lab.hold(count, **options):
        yield


def no_alerts(pmie):
    """Both say nothing, while they evaluate all rules."""
    evaluate(2, pmie.client, pmie.server)
    assert (pmie.client.alerts(), pmie.server.alerts()) == ([], [])


def test_silent_on_a_sound_host(lab, pmie):
    """With traffic on all links and connections that come, without any, and while the agent starts anew."""
    traffic = download(lab, 9)
    with connections(lab, pmie, 20):
        no_alerts(pmie)
    lab.client.restart_pcp()
    lab.server.restart_pcp()
    no_alerts(pmie)
    assert traffic.wait(20) == 0
    no_alerts(pmie)


def test_a_link_goes_down(lab, pmie):
    """The host that lost it says which link and how many connections; the sender at the other end, that it is dead."""
    traffic = download(lab, 11)
    lab.client.link_down(3)
    try:
        pmie.client.says(r"MPTCP link is down: \[enp3s0\]@client")
        pmie.client.says("MPTCP redundancy lost: 2 connections have fewer paths than before@client")
        pmie.server.says(r"MPTCP subflows get no answer: \[enp3s0\]@server")
        pmie.server.says("MPTCP redundancy lost: [12] connections have fewer paths than before@server")
    finally:
        lab.client.link_up(3)
    assert traffic.wait(30) == 0


def test_an_endpoint_carries_nothing(lab, pmie):
    """The client accepts no announced address; the rule names both endpoints of the server, once there is a client."""
    lab.client.mptcp(subflows=2, add_addr_accepted=0)
    try:
        no_alerts(pmie)
        with connections(lab, pmie, 3):
            pmie.server.says("MPTCP endpoint carries no subflow: " + BOTH_ENDPOINTS)
    finally:
        lab.client.mptcp(subflows=2, add_addr_accepted=2)


def many_make_it_say(lab, pmie, role, text, attempts=3):
    """Many connections in one interval of pmie, which a busy machine may spread over two: then once more."""
    one = getattr(pmie, role)
    for attempt in range(attempts):
        evaluate(1, one)
        try:
            with lab.hold(10):
                return one.says(text, timeout=6)
        except AssertionError:
            if attempt == attempts - 1:
                raise


@pytest.mark.parametrize("role, packets", [("client", SYN), ("server", ACK)], ids=["client", "server"])
def test_fallback(lab, pmie, role, packets):
    """A firewall takes the option out of the first packet, or of those after it: one side and the other notice."""
    with firewall(lab.client, f"{packets} reset tcp option mptcp"):
        many_make_it_say(lab, pmie, role, f"MPTCP falls back to TCP: more than 20 percent of connections@{role}")
    print(lab.client.pminfo("mptcp.mib.mpcapablefallbacksynack"), lab.server.pminfo("mptcp.mib.mpcapablefallbackack"))


def test_a_blackhole(lab, pmie):
    """A firewall drops SYNs that ask for MPTCP; the kernel finds out, and opens the next as TCP at once."""
    timeout = lab.client.sysctl("net.mptcp.blackhole_timeout")
    said = r"MPTCP is blackholed, connections are opened as TCP: {} times@client"
    try:
        with firewall(lab.client, f"{SYN} tcp option mptcp exists drop"):
            with lab.hold(1):
                pmie.client.says(said.format("1"))
            pmie.client.forget()
            with connections(lab, pmie, 4):
                pmie.client.says(said.format("4"))
    finally:
        lab.client.sysctl("net.mptcp.blackhole_timeout", 0)
        lab.client.sysctl("net.mptcp.blackhole_timeout", timeout)


@pytest.mark.parametrize("role, packets", [("client", SYN), ("server", ACK)], ids=["client", "server"])
def test_joins_fail(lab, pmie, role, packets):
    """The first packet of joins is lost, or the third: the client and the server notice."""
    with firewall(lab.client, f"{TO_LINKS_2_AND_3} {packets} drop"):
        many_make_it_say(lab, pmie, role, f"MPTCP joins fail: fewer than 90 percent succeed@{role}")


@pytest.mark.parametrize("role, alter", [
    ("client", f"{SYN} tcp option mptcp subtype 1 @th,384,32 set 0x12345678"),  # the client's random number
    ("server", f"{ACK} tcp option mptcp length 24 @th,288,32 set 0x12345678")],  # the client's HMAC
    ids=["client", "server"])
def test_joins_are_not_authentic(lab, pmie, role, alter):
    """Something on the way alters joins: the client refuses the server's HMAC, the server the client's."""
    with firewall(lab.client, alter), connections(lab, pmie, 10):
        getattr(pmie, role).says(f"MPTCP joins with a wrong HMAC: [0-9]+@{role}")


def test_an_endpoint_is_misrouted(lab, pmie):
    """Its source routing is taken away.  A link that is down moves routes as well: that is another rule's.

    The endpoint is not tied to a device: nothing else keeps its packets on the right link.
    """
    server = lab.server
    rule = next(line for line in server.ip("rule show").splitlines() if "10.0.3.2" in line)
    priority, table = rule.split(":")[0], rule.split()[-1]
    server.ip("mptcp endpoint delete id 2")
    server.ip("mptcp endpoint add 10.0.3.2 id 2 signal")
    with lab.hold(3, payload=b"x" * 1000):
        wait_for(lambda: server.pminfo("mptcp.subflows")["enp3s0"] == 3, message="no joins over enp3s0")
        server.ip("route add 10.0.3.0/24 via 10.0.2.1 metric 9")
        server.link_down(3)
        try:
            pmie.server.says(r"MPTCP link is down: \[enp3s0\]@server")
            assert server.pminfo("mptcp.pm.endpoint.misrouted")["2 10.0.3.2"] == 1
            evaluate(2, pmie.server)
            assert not [line for line in pmie.server.alerts() if "wrong link" in line]
            server.link_up(3)
            settle(pmie.server)
            server.ip(f"rule del pref {priority}")
            server.ip("route replace 10.0.3.1/32 dev enp2s0")
            pmie.server.says(r"MPTCP endpoint leaves by the wrong link: \[2 10.0.3.2\]@server")
        finally:
            server.link_up(3)
            server.run("ip", "route", "del", "10.0.3.1/32", "dev", "enp2s0", check=False)
            server.ip("route del 10.0.3.0/24 via 10.0.2.1 metric 9")
            server.run("ip", "rule", "add", "from", "10.0.3.2", "pref", priority, "table", table, check=False)
            server.ip("mptcp endpoint delete id 2")
            server.ip("mptcp endpoint add 10.0.3.2 dev enp3s0 id 2 signal")


def test_a_backup_carries_traffic(lab, pmie):
    """Not while it stands by or its link is needed; but when the main path fails where the receiver cannot see it."""
    for endpoint in (1, 2):
        lab.server.ip(f"mptcp endpoint change id {endpoint} backup")
    try:
        traffic = download(lab, 18)
        no_alerts(pmie)
        lab.client.link_down(1)
        for host in (lab.client, lab.server):
            wait_for(lambda host=host: host.pminfo("mptcp.redundancy.degraded_connections")[None] > 0,
                     message=f"redundancy not lost on the {host.name}")
        pmie.client.forget()
        pmie.server.forget()
        evaluate(3, pmie.client, pmie.server)
        print("backup bytes:", lab.client.pminfo("mptcp.interface.in.backup_bytes"))
        assert not [line for line in pmie.client.alerts() + pmie.server.alerts() if "backup" in line]
        lab.client.link_up(1)
        settle(pmie.client, pmie.server)
        with firewall(lab.client, "ip daddr 10.0.1.1 drop", hook="input"):
            pmie.client.says(r"MPTCP uses a backup link without need: \[enp2s0\]@client( \[enp3s0\]@client)?")
        assert traffic.wait(30) == 0
    finally:
        for endpoint in (1, 2):
            lab.server.ip(f"mptcp endpoint change id {endpoint} nobackup")


def test_the_agent_loses_messages(lab, pmie):
    """It stands still while a small buffer runs over; its restart, which sets the counter back, is no alert."""
    lab.server.configure("receive_buffer = 131072\n")
    evaluate(2, pmie.server)
    os.kill(lab.server.agent_pid(), signal.SIGSTOP)
    try:
        for _ in range(3):
            with lab.hold(60, payload=b"x" * 1000):
                pass
    finally:
        os.kill(lab.server.agent_pid(), signal.SIGCONT)
    pmie.server.says("MPTCP agent lost messages of the kernel: [0-9]+ overruns@server")
    settle(pmie.client, pmie.server)
    lab.server.configure("")
    no_alerts(pmie)


def test_a_kernel_without_a_counter(lab, pmie):
    """Its share of a rule is silent, the other one works: this kernel counts joins that it makes, older ones do not."""
    lacking = "mptcp.mib.rcvpruned"
    if "value" in lab.server.pcp("pminfo", "-f", lacking).stdout:
        pytest.skip("this kernel still has RcvPruned")
    text = "MPTCP joins fail: fewer than 90 percent succeed@"
    old = {"name": "old", "edit": lambda text: text.replace("mptcp.mib.mpjoinsyntx", lacking)}
    with Pmie(lab.client, **old) as client, Pmie(lab.server, **old) as server:
        for packets, says in ((SYN, pmie.client), (ACK, server)):
            with firewall(lab.client, f"{TO_LINKS_2_AND_3} {packets} drop"), connections(lab, pmie, 10):
                says.says(text + says.host.name)
        assert text + "client" not in client.alerts()


def test_rules_are_as_documented(lab, tmp_path):
    """The page names each rule with its variables, and those that are off; pmie takes them as they are installed."""
    tree = rules_tree(tmp_path / "rules")
    page = (REPOSITORY / "docs" / "alerts.md").read_text(encoding="utf-8")
    rows = {row[1]: row[0] for row in re.finditer(r"^\| `(\w+)` .*$", page, re.MULTILINE)}
    assert set(rows) == {path.name for path in RULES.iterdir()}
    for name, row in rows.items():
        listed = pmieconf(tree, tmp_path / "config", f"list mptcp.{name}")
        variables = dict(line.split(" = ") for line in listed.partition("vars: ")[2].split("\n\t") if line.strip())
        assert (variables.pop("enabled").strip() == "no") == row.startswith(f"| `{name}` (off)"), listed
        assert set(variables) <= set(re.findall(r"`(\w+)`", row)), listed
    lab.client.run("pmieconf", "-r", tree, "-f", tmp_path / "config", "-F")
    text = (tmp_path / "config").read_text(encoding="utf-8")
    assert text.count("mptcp.redundancy_lost =") == 1 and "mptcp.fallback =" not in text
    checked = lab.client.run("pmie", "-C", "-h", "unix:", tmp_path / "config")
    assert "syntax error" not in checked.stdout + checked.stderr
