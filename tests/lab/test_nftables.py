# SPDX-License-Identifier: GPL-2.0-or-later
"""mptcp.nft on real traffic: what it counts, what not, and that it comes and goes cleanly."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from . import Lab, LabError, missing, wait_for
from .common import PYTHON, search_path

AGENT = Path(__file__).resolve().parents[2] / "pmda-mptcp"
LINKS = ("enp1s0", "enp2s0", "enp3s0")
ETHERNET = 14  # bytes of header that the devices count and nftables does not

#: As the agent reads: an ordinary user with one capability.
READ = """
import json, os
from pmdamptcp import privileges
from pmdamptcp.kernel import nftables
privileges.drop("nobody", lambda line: None)
assert os.geteuid() != 0
print(json.dumps({name: wire._asdict() for name, wire in nftables.read().items()}))
"""


@pytest.fixture(scope="module")
def lab():
    """The lab of the tutorial, without PCP, with the file loaded twice on both hosts."""
    problems = missing(pcp=False)
    if not shutil.which("nft", path=search_path()) or not importlib.util.find_spec("nftables"):
        problems.append("nft or its Python binding is missing: Debian packages nftables, python3-nftables")
    if problems:
        pytest.skip("; ".join(problems))
    with Lab(rate="50mbit", delay_ms=5, links=3) as built:
        built.tutorial()
        for host in (built.client, built.server):
            load(host)
            load(host)
        yield built


def load(host):
    """As the operator does."""
    host.run("nft", "-f", AGENT / "mptcp.nft")


def read(host):
    """What the agent reads on a host."""
    return json.loads(host.run(PYTHON, "-c", READ, env=dict(host.env, PYTHONPATH=str(AGENT))).stdout)


def device(host):
    """IP bytes of each link, both ways, by its own counters."""
    found = {}
    for link in json.loads(host.run("ip", "-j", "-s", "link").stdout):
        for way, counters in (("received", link["stats64"]["rx"]), ("sent", link["stats64"]["tx"])):
            found[link["ifname"], way] = counters["bytes"] - ETHERNET * counters["packets"]
    return found


def rules(host):
    """All rules of a host's ruleset."""
    listed = json.loads(host.run("nft", "-j", "list", "ruleset").stdout)["nftables"]
    return [item["rule"] for item in listed if "rule" in item]


def settled(host):
    """Read until nothing more comes."""
    last = []

    def same():
        last.append(read(host))
        return len(last) > 1 and last[-1] == last[-2]

    wait_for(same, interval=0.5, message="the counters do not come to rest")
    return last[-1]


def test_what_the_links_carried(lab):
    """Three links, both ways, both hosts: nearly all that the devices carried, and what one sent the other received."""
    hosts = (lab.client, lab.server)
    before = {host: device(host) for host in hosts}
    assert all(read(host) == {} for host in hosts)
    lab.iperf3(seconds=3, reverse=True).wait()
    counted = {host: settled(host) for host in hosts}
    for host in hosts:
        after = device(host)
        assert set(counted[host]) == set(LINKS)
        for link in LINKS:
            for way in ("received", "sent"):
                wire = counted[host][link][f"{way}_bytes"]
                total = after[link, way] - before[host][link, way]
                print(f"{host.name} {link} {way}: {wire} of {total} bytes in {counted[host][link][f'{way}_packets']}")
                assert total - 3000 - total / 100 < wire <= total  # the rest: ARP, ACK and FIN without the option
    for link in LINKS:
        one, other = counted[lab.client][link], counted[lab.server][link]
        assert one["received_bytes"] == pytest.approx(other["sent_bytes"], rel=0.01)
        assert one["received_bytes"] > 5e6
        assert one["received_packets"] > 1000 and one["sent_packets"] > 1000
        assert one["received_bytes"] > 10 * one["sent_bytes"]


def test_plain_tcp_is_not_counted(lab):
    """Megabytes of it, to a server that speaks MPTCP."""
    before, total = settled(lab.server), device(lab.server)
    lab.iperf3(seconds=1, client_mptcp=False).wait()
    moved = device(lab.server)["enp1s0", "received"] - total["enp1s0", "received"]
    print(f"{moved} bytes of plain TCP")
    assert moved > 2e6
    assert settled(lab.server) == before != {}


def test_loading_again_starts_anew(lab):
    """Two rules, however often; the counters begin at nothing, and count once."""
    assert len(rules(lab.server)) == 2
    settled(lab.client)
    load(lab.server)
    assert len(rules(lab.server)) == 2
    assert read(lab.server) == {}
    before = device(lab.server)
    with lab.hold(payload=b"x" * 1000):
        wait_for(lambda: set(read(lab.server)) == set(LINKS), message="not all links counted")
    wire, after = settled(lab.server), device(lab.server)
    for link in LINKS:
        assert 0 < wire[link]["received_bytes"] <= after[link, "received"] - before[link, "received"]


def test_one_command_removes_it(lab):
    """Nothing is left, the agent's reader says what to do, and it can come back."""
    lab.server.run("nft", "delete", "table", "inet", "pcp_mptcp")
    assert lab.server.run("nft", "list", "ruleset").stdout == ""
    with pytest.raises(LabError, match="FileNotFoundError.*load mptcp.nft"):
        read(lab.server)
    load(lab.server)
    assert read(lab.server) == {}


def test_no_verdict_is_changed(lab):
    """Another table's drop stays one, and what it drops is not counted."""
    settled(lab.client)
    load(lab.server)
    lab.server.run("nft", "-f", "-", input="table inet other {\nchain input {\n"
                   "type filter hook input priority 0; policy accept;\ntcp dport 5999 counter drop\n}\n}\n")
    try:
        lab.client.run("mptcpize", "run", "ncat", "-w", "1", lab.server.address(1), "5999", check=False)
        listed = lab.server.run("nft", "list", "table", "inet", "other").stdout
        assert "counter packets" in listed and "counter packets 0" not in listed
        assert read(lab.server) == {}
        assert read(lab.client)["enp1s0"]["sent_packets"] > 0
    finally:
        lab.server.run("nft", "delete", "table", "inet", "other")
