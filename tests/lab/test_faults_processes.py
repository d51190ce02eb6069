# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent or pmcd is killed, stopped or restarted, messages are lost: who notices, and what is in the archive."""

import contextlib
import os
import signal
import time
from pathlib import Path

import cpmapi
import pytest
from pcp import pmapi

from . import Lab, missing, wait_for
from .faults import stopped
from .hosts import Host
from .recorded import STATUS, Witness

PATIENCE = 5  # seconds that pmcd gives an agent to answer, as usual
LONG = 10  # seconds that an agent stands still
BYTES = 1000


@pytest.fixture(scope="module")
def lab():
    """A pmcd that is as impatient as usual on the client."""
    problems = missing()
    if problems:
        pytest.skip("; ".join(problems))
    with Lab(rate="50mbit", delay_ms=0, links=3) as built:
        built.tutorial()
        built.client.patience = built.server.patience = PATIENCE
        built.client.start_pcp()
        built.server.start_pcp()
        yield built


@pytest.fixture
def host(lab):
    """The client, with the agent of a pmcd that has not restarted one yet."""
    lab.client.configure("")
    return lab.client


@pytest.fixture
def held(lab):
    """Two connections that stay, of three subflows each."""
    with lab.hold(2, payload=b"x" * BYTES) as connections:
        for host in (lab.client, lab.server):
            wait_for(lambda host=host: subflows(host) == 6, message=f"{host.name}: not 6 subflows")
        yield connections


def subflows(host):
    """All of them; None while nobody tells."""
    return sum(host.pminfo("mptcp.subflows").values())


def gone(host):
    """Does pmcd say that there is no agent?  Just when it notices, it says nothing else but: try again."""
    try:
        return host.pminfo(STATUS)["mptcp"] != 0
    except pmapi.pmErr as error:
        if error.errno() != cpmapi.PM_ERR_AGAIN:
            raise
        return False


def answers(host):
    """Does an agent answer, and pmcd find no fault with it?"""
    with contextlib.suppress(Exception):
        return host.pminfo(STATUS)["mptcp"] == 0 and subflows(host) == 6
    return False


def ended(pid):
    """Has a process ended, though maybe nobody has asked what became of it?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def totals(host):
    """What only grows, by metric and instance."""
    names = [f"mptcp.interface.{name}" for name in ("in.bytes", "out.bytes", "subflows_opened", "subflows_closed")]
    return {(name, link): value for name in names for link, value in host.pminfo(name).items()}


def test_the_agent_is_killed(lab, host, held, tmp_path):
    """pmcd starts another at once; one that is killed soon after only with the next minute, or with SIGHUP."""
    del lab, held
    with Witness(host, tmp_path / "archive") as witness:
        witness.wait()
        first = host.agent_pid()
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: answers(host), timeout=15, message="no agent came back")
        second = host.agent_pid()
        witness.wait()
        os.kill(second, signal.SIGKILL)
        wait_for(lambda: gone(host), message="pmcd does not notice that the agent is gone")
        witness.wait()  # what other agents tell is recorded
        assert not answers(host) and gone(host)
        os.kill(host.pmcd.pid, signal.SIGHUP)
        wait_for(lambda: answers(host), timeout=15, message="SIGHUP brought no agent back")
        witness.wait()
        witness.end()
    assert len({first, second, host.agent_pid()}) == 3
    witness.check(lives=3, faultless=False)
    told = {value for _, value in witness.series("mptcp.subflows", host.link(1))}
    print(f"subflows that were told: {told}; pmcd's status {[value for _, value in witness.series(STATUS, 'mptcp')]}")
    assert told == {2}


def test_the_agent_stands_still(lab, host, held, tmp_path):
    """For ten seconds: where a client asks, pmcd takes another after five; where none does, it was never away."""
    server = lab.server
    agents, before = (host.agent_pid(), server.agent_pid()), totals(server)
    truncated = server.pminfo("mptcp.agent.truncated")[None]
    with Witness(host, tmp_path / "archive") as witness:
        witness.wait()
        with stopped(agents[0]), stopped(agents[1]):
            end = time.monotonic() + LONG
            with lab.hold(20, payload=b"x" * BYTES) as short:
                wait_for(lambda: len(server.sockets("state", "established", f"( sport = :{short.port} )")) == 60,
                         message="not three subflows each")
            wait_for(lambda: time.monotonic() > end, LONG + 5, message="time stands still")
        wait_for(lambda: answers(host), timeout=15, message="no agent answers")
        witness.wait()
        witness.end()
    del held
    witness.check(lives=2)
    assert witness.pause() < PATIENCE + 5
    wait_for(lambda: ended(agents[0]), message="the agent that pmcd gave up did not end")
    assert host.agent_pid() != agents[0]
    # The other one has missed nothing but bytes of initial subflows that ended unseen, and says of how many.
    assert server.agent_pid() == agents[1] and server.pminfo(STATUS)["mptcp"] == 0
    wait_for(lambda: server.pminfo("mptcp.agent.subflows")[None] == 6, timeout=15, message="subflows left over")
    grown = {key: value - before[key] for key, value in totals(server).items()}
    counts = {name: sum(value for (metric, _), value in grown.items() if metric == f"mptcp.interface.{name}")
              for name in ("in.bytes", "out.bytes", "subflows_opened", "subflows_closed")}
    lost = server.pminfo("mptcp.agent.truncated")[None] - truncated
    print(f"the one that nobody asked: {counts}, {lost} ends without bytes")
    assert min(grown.values()) >= 0 and counts["subflows_opened"] == counts["subflows_closed"] == 60
    assert 20 * BYTES <= counts["in.bytes"] + lost * BYTES <= 20 * BYTES + 60


def test_pmcd_is_restarted(lab, host, held, tmp_path):
    """pmlogger finds it again by itself, and marks the gap."""
    del lab, held
    with Witness(host, tmp_path / "archive") as witness:
        witness.wait()
        host.restart_pcp()
        witness.wait(timeout=30)
        witness.end()
    witness.check(lives=2)
    print(f"{witness.pause():.1f} s without a record")
    assert "re-established connection" in witness.log and witness.pause() < 15
    assert {value for _, value in witness.series("mptcp.subflows", host.link(1))} == {2}


@pytest.mark.parametrize("lost", ["events", "ends"])
def test_messages_are_lost(lab, host, held, lost):
    """Of one kind only: counted, nothing falls, and what is there is known again at once."""
    host.configure("receive_buffer = 8192\n")
    wait_for(lambda: answers(host), message="no agent")
    before, agent = totals(host), host.agent_pid()
    told = {name: host.pminfo(f"mptcp.agent.{name}")[None] for name in ("events", "ends")}
    with stopped(agent):
        if lost == "ends":  # of plain TCP, of which the path manager says nothing
            with lab.hold(100, client_mptcp=False, server_mptcp=False):
                pass
        else:  # the peer changes its mind about a path, again and again
            for _ in range(30):
                lab.server.ip("mptcp endpoint change id 1 backup")
                lab.server.ip("mptcp endpoint change id 1 nobackup")
    wait_for(lambda: host.pminfo("mptcp.agent.overruns")[None] > 0, message=f"no overrun of {lost}")
    now = {name: host.pminfo(f"mptcp.agent.{name}")[None] - told[name] for name in told}
    print(f"{host.pminfo('mptcp.agent.overruns')[None]} overruns; taken in {now}")
    assert now[lost] > 0 and (now["events"] == 0 if lost == "ends" else now["ends"] == 0)
    after = totals(host)
    assert host.agent_pid() == agent and subflows(host) == 6
    assert all(after[key] >= before[key] for key in before)
    with lab.hold(5, payload=b"x" * BYTES):
        wait_for(lambda: subflows(host) == 21, message="new connections are not seen")
    wait_for(lambda: subflows(host) == 6, message="their ends are not seen")
    sent = sum(value - after[key] for key, value in totals(host).items() if key[0] == "mptcp.interface.out.bytes")
    print(f"5 connections of {BYTES} bytes afterwards: {sent} booked")
    assert sent == 5 * BYTES
    del held


def test_two_agents_on_one_host(lab, host, held):
    """They do not know of each other, and tell the same."""
    work = host.work / "second"
    work.mkdir()
    second = Host(host.name, host.netns, host.number, host.links, work)
    second.peer = host.peer
    try:
        second.start_pcp()
        before = totals(host), totals(second)
        with lab.hold(20, payload=b"x" * BYTES):
            wait_for(lambda: subflows(host) == subflows(second) == 66, message="not 66 subflows")
        wait_for(lambda: subflows(host) == subflows(second) == 6, message="subflows left over")
        now = totals(host), totals(second)
        grown = [{key: value - old[key] for key, value in new.items()} for old, new in zip(before, now)]
        print(grown[0])
        assert grown[0] == grown[1] and sum(grown[0].values()) > 20 * BYTES
    finally:
        second.close()
    del held


def test_no_traceback(lab):
    """After everything above."""
    for host in (lab.client, lab.server):
        assert "Traceback" not in host.agent_log(), host.agent_log()
