# SPDX-License-Identifier: GPL-2.0-or-later
"""Every value against the tool that shows the same: ss, ip mptcp, nstat, sysctl.

The connections are idle, so that all tools look at the same numbers.
"""

import re
import time

import pytest

from . import wait_for

# name -> families of the announced addresses of links 2 and 3, and how the connection is made
FAMILIES = {
    "IPv4": ((4, 4), {}),
    "IPv6": ((6, 6), {"family": 6}),
    "IPv4 to a dual-stack server": ((4, 4), {"dual_stack": True}),
    "IPv6 with an IPv4 join": ((4, 6), {"family": 6, "dual_stack": True}),
}

# ss's name of a number -> our metric and the factor between them
TCP_FIELDS = {
    "mss": ("snd_mss", 1), "cwnd": ("cwnd", 1), "ssthresh": ("ssthresh", 1), "bytes_sent": ("out.bytes", 1),
    "bytes_acked": ("out.acked_bytes", 1), "bytes_received": ("in.bytes", 1), "minrtt": ("min_rtt", 1000),
    "unacked": ("unacked", 1), "notsent": ("notsent_bytes", 1), "bytes_retrans": ("out.retrans_bytes", 1),
}
MPTCP_FIELDS = {
    "subflows_max": "subflows_max", "add_addr_signal": "addresses.signalled",
    "add_addr_accepted": "addresses.accepted", "add_addr_accepted_max": "addresses.accepted_max",
}


@pytest.fixture(scope="module", params=FAMILIES, ids=str)
def idle(lab, request):
    """Three connections that have exchanged a few bytes and are held; yields the lab."""
    announced, how = FAMILIES[request.param]
    lab.client.ip("mptcp endpoint flush")
    lab.server.ip("mptcp endpoint flush")
    for n, family in zip((2, 3), announced):
        lab.server.endpoint(n, "signal", family=family)
    with lab.hold(3, payload=b"x" * 4000, **how):
        for host in (lab.client, lab.server):
            wait_for(lambda: host.pminfo("mptcp.redundancy.connections").get("3") == 3,
                     message=f"not three connections of three subflows on the {host.name}")
            wait_for(lambda: at_rest(host), message=f"the connections on the {host.name} do not come to rest")
        yield lab


def at_rest(host):
    """Does ss print the same twice, but for the times since something came or went?"""
    def look():
        return {flow: {name: value for name, value in numbers(line).items() if not name.startswith("last")}
                for flow, line in ss(host, "-ti").items()}
    before = look()
    time.sleep(0.3)
    return look() == before


def numbers(text):
    """The `name:value` pairs of an ss line whose values are numbers."""
    return {name: float(value) for name, value in re.findall(r"\b(\w+):(\d+(?:\.\d+)?)(?=[\s/(]|$)", text)}


def unmapped(address):
    """An ss address without the v4-mapped prefix."""
    found = re.fullmatch(r"\[::ffff:([\d.]+)\](:\d+)", address)
    return found[1] + found[2] if found else address


def ss(host, *options):
    """local->remote -> line, of the host's established sockets."""
    found = {}
    for line in host.run("ss", "-HnO", *options).stdout.splitlines():
        words = line.split()
        local = re.sub(r"%[^:\]]+", "", words[3])  # the device that it is bound to
        found[f"{unmapped(local)}->{unmapped(words[4])}"] = line
    return found


def by_flow(values):
    """The instances of connections or subflows by their addresses."""
    return {name.split()[-1]: value for name, value in values.items()}


@pytest.mark.parametrize("role", ["client", "server"])
def test_subflows_agree_with_ss(idle, role):
    """Each subflow is in both, and each number that ss -ti prints is the metric's."""
    host = getattr(idle, role)
    lines = {flow: line for flow, line in ss(host, "-ti").items() if "tcp-ulp-mptcp" in line}
    states = by_flow(host.pminfo("mptcp.subflow.state"))
    assert set(lines) == set(states) and len(states) == 9
    compared = 0
    for metric, factor in TCP_FIELDS.values():
        ours = by_flow(host.pminfo(f"mptcp.subflow.{metric}"))
        field = next(name for name, value in TCP_FIELDS.items() if value[0] == metric)
        for flow, line in lines.items():
            shown = numbers(line).get(field)
            if shown is None:  # ss leaves out zeros, and an ssthresh that is not set
                assert ours.get(flow, 0) == 0, (metric, flow, line)
            else:
                assert ours[flow] == pytest.approx(shown * factor, abs=1), (metric, flow, line)
                compared += 1
    rtt, rttvar = (by_flow(host.pminfo(f"mptcp.subflow.{name}")) for name in ("rtt", "rttvar"))
    flags = by_flow(host.pminfo("mptcp.subflow.flags"))
    ids = [by_flow(host.pminfo(f"mptcp.subflow.{name}_id")) for name in ("remote", "local")]
    for flow, line in lines.items():
        shown = re.search(r"rtt:([\d.]+)/([\d.]+)", line)
        assert (rtt[flow], rttvar[flow]) == pytest.approx((float(shown[1]) * 1000, float(shown[2]) * 1000), abs=1)
        assert flags[flow] == re.search(r"tcp-ulp-mptcp flags:(\w+)", line)[1]
        shown = re.search(r"token:\w+\(id:(\d+)\)/\w+\(id:(\d+)\)", line)
        assert (ids[0][flow], ids[1][flow]) == (int(shown[1]), int(shown[2]))
        compared += 5
    print(f"{role}: {len(lines)} subflows, {compared} numbers as ss -ti shows them")


@pytest.mark.parametrize("role", ["client", "server"])
def test_connections_agree_with_ss(idle, role):
    """Each connection is in both, its limits are ss's, and its subflows are those with its token."""
    host = getattr(idle, role)
    lines = ss(host, "-Mi")
    names = host.pminfo("mptcp.connection.name")
    assert set(by_flow(names)) == set(lines) and len(lines) == 3
    for field, metric in MPTCP_FIELDS.items():
        ours = by_flow(host.pminfo(f"mptcp.connection.{metric}"))
        for flow, line in lines.items():
            assert ours[flow] == numbers(line).get(field, 0), (metric, flow, line)
    subflows = by_flow(host.pminfo("mptcp.connection.subflows"))
    for flow, line in lines.items():
        assert subflows[flow] == numbers(line)["subflows"] + 1  # ss counts the additional ones
    # Which subflow is whose: by the local token in ss, by name in the metrics.
    owners = by_flow(host.pminfo("mptcp.subflow.connection"))
    tokens = {re.search(r" token:(\w+)", line)[1]: flow for flow, line in lines.items()}
    for flow, line in ss(host, "-ti").items():
        if "tcp-ulp-mptcp" in line:
            token = re.search(r"token:\w+\(id:\d+\)/(\w+)\(", line)[1]
            assert owners[flow].split()[-1] == tokens[token]
    print(f"{role}: {len(lines)} connections and who owns {len(owners)} subflows as ss -M and ss -t show them")


@pytest.mark.parametrize("role", ["client", "server"])
def test_bytes_of_connections_are_what_was_sent(idle, role):
    """4000 bytes each way on each connection, and nothing left to be confirmed."""
    host = getattr(idle, role)
    for metric, expected in (("in.bytes", 4000), ("out.bytes", 4000), ("out.acked_bytes", 4000),
                             ("out.unacked_bytes", 0), ("out.retrans_bytes", 0)):
        values = host.pminfo(f"mptcp.connection.{metric}")
        print(f"{role}: {metric} {sorted(values.values())}")
        assert list(values.values()) == [expected] * 3
    assert set(host.pminfo("mptcp.connection.server_side").values()) == {int(role == "server")}
    assert set(host.pminfo("mptcp.connection.fallback").values()) == {0}


def test_tokens_and_keys_stay_in_the_kernel(idle):
    """No metric shows a token that ss shows."""
    shown = idle.client.pcp("pminfo", "-fl", "mptcp.connection", "mptcp.subflow").stdout
    tokens = re.findall(r" token:(\w+)", idle.client.run("ss", "-HnOMi").stdout)
    assert tokens
    for token in tokens:
        assert str(int(token, 16)) not in shown and token not in shown


@pytest.mark.parametrize("role", ["client", "server"])
def test_path_manager_agrees_with_ip(idle, role):
    """Limits and endpoints as ip mptcp shows them."""
    host = getattr(idle, role)
    limits = dict(re.findall(r"(subflows|add_addr_accepted) (\d+)", host.ip("mptcp limits show")))
    for name, value in limits.items():
        assert host.pminfo(f"mptcp.pm.limits.{name}") == {None: int(value)}
    shown = {}
    for line in host.ip("mptcp endpoint show").splitlines():
        words = line.replace("rawflags 10", "implicit").split()
        device = words[words.index("dev") + 1] if "dev" in words else ""
        shown[int(words[words.index("id") + 1])] = (words[0], device)
        flags = {word for word in words if word in ("signal", "subflow", "backup", "fullmesh", "implicit")}
        number = words[words.index("id") + 1]
        for flag in ("signal", "subflow", "backup", "fullmesh", "implicit"):
            ours = {name.split()[0]: value for name, value in host.pminfo(f"mptcp.pm.endpoint.{flag}").items()}
            assert ours[number] == int(flag in flags), line
    ids, addresses, devices = (host.pminfo(f"mptcp.pm.endpoint.{name}") for name in ("id", "address", "interface"))
    assert {ids[name]: (addresses[name], devices[name]) for name in ids} == shown
    assert host.pminfo("mptcp.pm.endpoints") == {None: len(shown)}
    print(f"{role}: limits {limits}, endpoints {shown}")


@pytest.mark.parametrize("role", ["client", "server"])
def test_counters_agree_with_nstat(idle, role):
    """Every MPTcpExt counter that nstat knows, by name."""
    host = getattr(idle, role)
    shown = dict(re.findall(r"^MPTcpExt(\w+)\s+(\d+)", host.run("nstat", "-asz").stdout, re.M))
    assert len(shown) > 20
    known = set(host.pcp("pminfo", "mptcp.mib").stdout.split())
    others = host.pminfo("mptcp.mib.other")
    for name, value in shown.items():
        metric = f"mptcp.mib.{name.lower()}"
        ours = host.pminfo(metric)[None] if metric in known else others[name]
        assert ours == int(value), name
    print(f"{role}: {len(shown)} counters as nstat shows them, {sum(int(value) > 0 for value in shown.values())} not 0")


def test_sysctls_agree(idle):
    """Every file under /proc/sys/net/mptcp."""
    known = set(idle.client.pcp("pminfo", "mptcp.sysctl").stdout.split())
    names = idle.client.run("ls", "/proc/sys/net/mptcp").stdout.split()
    for name in names:
        value = idle.client.sysctl(f"net.mptcp.{name}")
        metric = f"mptcp.sysctl.{name}"
        ours = idle.client.pminfo(metric)[None] if metric in known else idle.client.pminfo("mptcp.sysctl.other")[name]
        assert str(ours) == " ".join(str(value).split())
    print(f"{len(names)} settings as sysctl shows them")


def test_gauge_of_the_kernel_counts_the_same(idle):
    """mptcp.connections and mptcp.fallback.connections sum up to MPCurrEstab."""
    for host in (idle.client, idle.server):
        ours = host.pminfo("mptcp.connections")[None] + host.pminfo("mptcp.fallback.connections")[None]
        assert ours == host.pminfo("mptcp.mib.mpcurrestab")[None] == 3
