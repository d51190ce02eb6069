# SPDX-License-Identifier: GPL-2.0-or-later
"""A download over three links and what befalls them, recorded on both hosts: the archives tell the story."""

import time

import pytest
from pcp import pmapi

from pcp_mptcp import timeline
from pcp_mptcp.source import Source

from . import wait_for

LINKS = ("enp1s0", "enp2s0", "enp3s0")
ONE = pytest.approx(46.8e6 / 8, rel=0.15)  # payload of a link of 50 Mbit/s, in single seconds
MUTE = """table netdev mute {
    chain link { type filter hook ingress device enp2s0 priority 0; policy drop; }
}
"""


def logged(detail):
    """What pmlogger records each second: what the timeline uses, with or without single subflows."""
    metrics = [name for name in timeline.METRICS if detail or not name.startswith("mptcp.subflow.")]
    return "log mandatory on 1sec {\n" + "\n".join(metrics) + "\n}"


def in_groups():
    """The same at intervals of their own, as pmlogconf's groups: links and events, counters, settings."""
    groups = {"1sec": [], "6sec": [], "30sec": []}
    for name in timeline.METRICS:
        rare = name.startswith(("mptcp.sysctl.", "mptcp.pm."))
        groups["30sec" if rare else "6sec" if name.startswith(("mptcp.mib.", "mptcp.agent.")) else "1sec"].append(name)
    del groups["1sec"][groups["1sec"].index("mptcp.subflow.connection")]
    return "\n".join(f"log mandatory on {interval} {{\n" + "\n".join(names) + "\n}"
                     for interval, names in groups.items())


def carry(lab, links, seconds):
    """Wait until each of these links carried as much as it does in so many seconds."""
    begin = lab.client.pminfo("mptcp.interface.in.bytes")

    def carried():
        now = lab.client.pminfo("mptcp.interface.in.bytes")
        return all(now[link] - begin[link] >= 5.8e6 * seconds for link in links)
    wait_for(carried, timeout=40 + 3 * seconds, interval=0.2, message=f"no traffic on one of {links}")


def adventures(lab, moments):
    """What happens; moments says when each thing did."""
    client, server = lab.client, lab.server
    others = ("enp1s0", "enp2s0")

    def at(name, action, *args):
        action(*args)
        moments[name] = time.time()

    download = lab.iperf3(seconds=300, reverse=True)
    moments["start"] = time.time()
    carry(lab, LINKS, 6)
    at("down", client.link_down, 3)
    carry(lab, others, 8)
    at("up", client.link_up, 3)
    carry(lab, LINKS, 5)
    moments["mute"] = time.time()
    for host in (client, server):
        host.run("nft", "-f", "-", input=MUTE)
    carry(lab, ("enp1s0", "enp3s0"), 7)
    for host in (client, server):
        host.run("nft", "delete", "table", "netdev", "mute")
    moments["unmute"] = time.time()
    carry(lab, LINKS, 5)
    at("endpoint removed", server.ip, "mptcp endpoint delete id 2")
    carry(lab, others, 6)
    at("endpoint added", server.endpoint, 3, "signal")
    carry(lab, LINKS, 5)
    at("kill", client.run, "ss", "-K", "dst", server.address(2))
    carry(lab, ("enp1s0", "enp3s0"), 6)
    at("stop", download.stop)
    wait_for(lambda: client.pminfo("mptcp.connections")[None] == 0, message="iperf3 ended, its connections did not")
    time.sleep(2)  # and this is recorded, too


def story(archive):
    """The story that an archive tells, printed."""
    options = pmapi.pmOptions("a:z")
    options.pmSetLongOptionArchive()
    options.pmSetLongOptionHostZone()
    source = Source(pmapi.pmContext.fromOptions(options, ["test", "-z", "-a", str(archive)]), options)
    source.choose(timeline.METRICS)
    teller, told = timeline.Timeline(), []
    for sample in source.records():
        told += teller.take(sample)
    told += teller.end()
    print(f"\n{archive.name}:")
    for happening in told:
        print(f"{source.clock(happening.time, '%H:%M:%S')} {happening.kind:18} {happening.text}")
    print("\n".join(timeline.summary(told)))
    return told


@pytest.fixture(scope="module")
def moments():
    """When what was done."""
    return {}


@pytest.fixture(scope="module")
def stories(lab, tmp_path_factory, moments):
    """The stories of four archives of one run."""
    where = tmp_path_factory.mktemp("archives")
    names = ("client", "detail", "groups", "server")
    with lab.client.pmlogger(logged(False), where / "client"), lab.client.pmlogger(logged(True), where / "detail"), \
            lab.client.pmlogger(in_groups(), where / "groups"), lab.server.pmlogger(logged(False), where / "server"):
        adventures(lab, moments)
    return {name: story(where / name) for name in names}


@pytest.fixture(params=["client", "detail", "groups", "server"])
def told(request, stories):
    """Each of the stories."""
    return stories[request.param]


def near(told, kind, subject, moment, within=1.5):
    """The happening of a kind at a time."""
    found = [happening for happening in told if happening.kind == kind and happening.subject == subject
             and abs(happening.time - moment) <= within]
    assert len(found) == 1, f"{kind} of {subject!r} at {moment}: {found}"
    return found[0]


def returned(told, link, after):
    """The first time that a link came back since then."""
    return next(happening for happening in told
                if happening.kind == "link_back" and happening.subject == link and happening.time > after)


def test_in_order(told):
    """The story is in order, and nothing is lost that was not taken away."""
    times = [happening.time for happening in told]
    assert times == sorted(times)
    assert [happening.subject for happening in told if happening.kind == "link_lost"] == [
        "enp3s0", "enp2s0", "enp3s0", "enp2s0"]


def test_link_down_and_up(stories, told, moments):
    """A third of the traffic is gone, and comes back; the server sees no more than that nobody answers."""
    lost = near(told, "link_lost", "enp3s0", moments["down"])
    assert lost.details["cause"] == ("dead" if told is stories["server"] else "down")
    assert lost.details["rate_before"] == ONE and lost.details["share"] == pytest.approx(1 / 3, abs=0.03)
    assert lost.details["total_before"] / 3 == ONE and lost.details["total_during"] / 2 == ONE
    assert lost.details["took_over"] <= 3
    back = returned(told, "enp3s0", moments["down"])
    assert moments["up"] - 1.5 <= back.time and back.time - lost.time == pytest.approx(back.details["away"])
    assert back.details["rate_after"] == ONE and back.details["total_after"] / 3 == ONE
    if told is not stories["server"]:
        up = near(told, "link_up", "enp3s0", moments["up"])
        assert up.details["away"] == pytest.approx(moments["up"] - moments["down"], abs=1.5)


def test_both_hosts_agree_on_how_long(stories):
    """The hosts see each return within 1.5 s of one another."""
    spans = {name: [happening.details["away"] for happening in told if happening.kind == "link_back"]
             for name, told in stories.items()}
    print(spans)
    assert len(spans["client"]) == 3
    assert spans["server"] == pytest.approx(spans["client"], abs=1.5)
    assert spans["detail"] == pytest.approx(spans["client"], abs=1.5)
    assert spans["groups"] == pytest.approx(spans["client"], abs=1.5)


def test_silent_death(stories, told, moments):
    """Nobody is told that packets vanish: the sender misses answers, the receiver gets data again by others."""
    lost = near(told, "link_lost", "enp2s0", moments["mute"])
    signs = {"dead"} if told is stories["server"] else {"repeated"}
    if told is stories["groups"]:
        signs.add("silent")  # the counters come later
    assert lost.details["cause"] in signs
    assert lost.details["rate_before"] == ONE and lost.details["total_during"] / 2 == ONE
    assert returned(told, "enp2s0", moments["mute"]).time >= moments["unmute"] - 0.5


def test_endpoint_removed_and_added(stories, told, moments):
    """The server takes an address back and offers it again: at once on both hosts."""
    lost = near(told, "link_lost", "enp3s0", moments["endpoint removed"])
    assert lost.details["cause"] == "closed" and lost.details["rate_before"] == ONE
    # Without the link where the event was recorded before the gauge fell.
    assert [one for one in told if one.kind == "subflow_closed" and one.subject in ("enp3s0", "")
            and abs(one.time - moments["endpoint removed"]) <= 1.5]
    near(told, "link_back", "enp3s0", moments["endpoint added"])
    near(told, "subflow_opened", "enp3s0", moments["endpoint added"])
    if told is stories["server"]:
        near(told, "endpoint_removed", "2 10.0.3.2%enp3s0", moments["endpoint removed"])
        near(told, "endpoint_added", "2 10.0.3.2%enp3s0", moments["endpoint added"])
    else:
        near(told, "address_removed", "", moments["endpoint removed"])
        near(told, "address_announced", "", moments["endpoint added"])


def test_killed_subflows(stories, told, moments):
    """Both subflows of a link are closed by ss -K; the kernel does not open them again."""
    closed = near(told, "subflow_closed", "enp2s0", moments["kill"])
    assert closed.details["count"] == 2
    assert set(closed.details["reasons"]) == {"ECONNRESET" if told is stories["server"] else "ECONNABORTED"}
    assert len(closed.details.get("names", ())) == (2 if told is stories["detail"] else 0)
    assert near(told, "link_lost", "enp2s0", moments["kill"]).details["cause"] == "closed"
    away = next(happening for happening in told if happening.kind == "link_away")
    assert away.subject == "enp2s0"


def test_connections(told, moments):
    """iperf3's two connections begin and end."""
    opened = near(told, "connection_opened", "", moments["start"], within=2.5)
    assert opened.details["count"] == 2
    ended = [happening for happening in told if happening.kind == "connection_closed"]
    assert sum(happening.details["count"] for happening in ended) == 2
    assert all(abs(happening.time - moments["stop"]) <= 3 for happening in ended)


def test_summary(told):
    """A few lines say the worst."""
    lines = timeline.summary(told)
    assert lines[0].startswith("enp3s0: lost 2 times") or lines[1].startswith("enp3s0: lost 2 times")
    assert any(line.startswith("enp2s0: lost 2 times") and line.endswith("not back at the end") for line in lines)
    assert any(line.startswith("longest failover") for line in lines)
