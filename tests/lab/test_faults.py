# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults while traffic flows and pmlogger records: the agent lives on, and the archive tells nothing false."""

import pytest

from . import Lab, faults, missing, wait_for
from .faults import COUNTERS, FAULTS, GAUGES, HEARD, LINK, READ
from .recorded import Witness

RATIO = 0.85, 1.1  # of payload to what the device carried: headers, and two looks that are not at the same time


@pytest.fixture(scope="module")
def lab():
    """Links without a bridge between the hosts, of little bandwidth; a download all the time."""
    problems = missing()
    if problems:
        pytest.skip("; ".join(problems))
    with Lab(rate="8mbit", delay_ms=0, links=3) as built:
        built.tutorial()
        built.client.start_pcp()
        traffic = built.iperf3(seconds=600, reverse=True)
        yield built
        traffic.stop()


@pytest.fixture
def host(lab):
    """The receiving host, when all is well."""
    wait_for_all(lab.client)
    return lab.client


def wait_for_all(host):
    """The control and the data connection use each link."""
    wait_for(lambda: [host.pminfo("mptcp.subflows").get(link) for link in host.links] == [2, 2, 2], timeout=20,
             message=lambda: f"not 2 subflows on each link: {host.pminfo('mptcp.subflows')}")


def grows(host, link):
    """Wait until the link carries more."""
    def carried():
        return host.pminfo("mptcp.interface.in.bytes")[link]
    before = carried()
    wait_for(lambda: carried() > before + 10_000, timeout=40, message=f"no traffic on {link}")


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_the_agent_lives_on(lab, host, tmp_path, fault):
    """One life, counters that only grow, what cannot be known has no value, and all is there again afterwards."""
    agent = host.agent_pid()
    with Witness(host, tmp_path / "archive") as witness:
        witness.wait()
        with fault.provoke(lab, host):
            witness.wait()
        wait_for_all(host)
        for link in host.links:
            grows(host, link)
        witness.wait()
        witness.end()
    assert host.agent_pid() == agent
    witness.check()
    # What is silent, and nothing else.
    for metric in GAUGES | COUNTERS | HEARD | READ:
        instance = host.link(1) if metric.startswith(("mptcp.interface.", "mptcp.subflows")) else None
        gaps = witness.missing(metric, instance)
        assert (gaps > 0) == (metric in fault.silent), f"{metric}: {gaps} of {len(witness.samples)} without a value"
        assert witness.series(metric, instance)[-1][0] >= witness.samples[-2][0], f"{metric} has not come back"
    # What is told is true.
    told = {metric: {value for _, value in witness.series(metric, instance)} for metric, instance in (
        ("mptcp.connections", None), ("mptcp.subflows", host.link(1)))}
    suffering = {value for _, value in witness.series("mptcp.subflows", host.link(LINK))}
    print(told, f"the link that suffers: {suffering}")
    assert set(map(frozenset, told.values())) == {frozenset({2})}
    assert suffering == ({0, 2} if fault.link_down else {2})
    payload = witness.growth("mptcp.interface.in.bytes", host.link(1))
    device = witness.growth("network.interface.in.bytes", host.link(1))
    print(f"{host.link(1)}: {payload} bytes of payload, {device} of the device")
    assert RATIO[0] * device < payload < RATIO[1] * device


def test_the_helper_is_killed(lab, host, tmp_path):
    """Owners have no value from then on, as nobody else may look them up; all else goes on."""
    agent = host.agent_pid()
    with Witness(host, tmp_path / "archive") as witness:
        with faults.helper_killed(lab, host):
            witness.wait()
        witness.end()
    witness.check()
    assert host.agent_pid() == agent and "the process that looks them up has ended" in host.agent_log()
    assert witness.missing("mptcp.subflows", host.link(1)) == 0
    host.restart_pcp()
    wait_for(lambda: host.pminfo("mptcp.connection.pid"), message="owners are not known to the next agent")


def test_no_traceback(host):
    """After everything above."""
    assert "Traceback" not in host.agent_log(), host.agent_log()
