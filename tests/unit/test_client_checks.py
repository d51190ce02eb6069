# SPDX-License-Identifier: GPL-2.0-or-later
"""The health rules: each fires on its fault, and stays silent without it."""

import pytest
from pcp_mptcp.checks import CRITICAL, NOTE, RULES, THRESHOLDS, WARNING, check
from pcp_mptcp.view import View

from .client_host import ENDPOINT, changed, record, sample, view, without

DEGRADED, REDUNDANCY = "mptcp.redundancy.degraded_connections", "mptcp.redundancy.connections"
UP, FLOWS = "mptcp.interface.up", "mptcp.subflows"


def mib(**changes):
    """Counters of the kernel at the second 20; they were 0, or 15 if they rise by 1 a second in health."""
    return {"mptcp.mib." + name: value for name, value in changes.items()}


def endpoint(**changes):
    """The endpoint otherwise."""
    return {"mptcp.pm.endpoint." + name: {ENDPOINT: value} for name, value in changes.items()}


def link(name, **changes):
    """A link otherwise; `_` is for the dot."""
    return {"mptcp.interface." + metric.replace("in_", "in.").replace("out_", "out."): {name: value}
            for metric, value in changes.items()}


#: What a fault changes, the rule that finds it, how grave it is, about what, and words of the finding and its remedy.
FAULTS = [
    ({DEGRADED: 1}, "redundancy_lost", WARNING, "", "1 of 2 connections has fewer live paths than it had",
     "which path is gone"),
    ({DEGRADED: 2}, "redundancy_lost", WARNING, "", "2 of 2 connections have fewer live paths than they had", "events"),
    ({DEGRADED: 1, REDUNDANCY: {"0": 1}}, "redundancy_lost", CRITICAL, "", "1 of 2 connections without any live path",
     "which path is gone"),
    (endpoint(subflows=0), "endpoint_unused", WARNING, ENDPOINT, "(subflow) carries nothing: no connection joined",
     "pcp mptcp why"),
    (endpoint(subflows=0, owner=""), "endpoint_unused", WARNING, ENDPOINT, "no interface has its address",
     "give the address"),
    ({**endpoint(subflows=0), **link("wlan0", up=0, in_bytes=0, out_bytes=0), FLOWS: {"wlan0": 0}}, "endpoint_unused",
     WARNING, ENDPOINT, "wlan0 is down", "bring wlan0 back"),
    ({**endpoint(subflows=0, owner=None), **link("wlan0", up=0, in_bytes=0, out_bytes=0), FLOWS: {"wlan0": 0}},
     "endpoint_unused", WARNING, ENDPOINT, "wlan0 is down", "bring wlan0 back"),
    (link("wlan0", up=0), "link_down", WARNING, "wlan0", "wlan0 is down or gone, it has carried 10.1 MB of MPTCP",
     "ip link show wlan0"),
    ({UP: {"eth0": 0}, FLOWS: {"eth0": 0, "wlan0": 0}}, "link_down", CRITICAL, "eth0", "eth0 is down or gone",
     "cable"),
    ({UP: {"eth0": 0}, FLOWS: {"eth0": 0, "wlan0": 0}, "mptcp.connections": 0}, "link_down", WARNING, "eth0",
     "eth0 is down or gone", "cable"),
    (mib(mpcapablefallbacksynack=2), "fallback", WARNING, "", "10 % of 20 new connections that asked for MPTCP became",
     "pcp mptcp why"),
    (mib(dssfallback=1, infinitemaprx=30), "fallback", WARNING, "", "100 % of 20 new connections", "firewall"),
    ({"mptcp.fallback.connections": 1}, "fallback", NOTE, "", "1 connection asked for MPTCP and runs as TCP", "why"),
    ({"mptcp.fallback.connections": 3}, "fallback", WARNING, "", "3 connections asked for MPTCP and run as TCP", "why"),
    (mib(blackhole=1), "blackhole", CRITICAL, "", "(1 blackhole found, 0 connections made TCP)", "blackhole_timeout"),
    (mib(mpcapablesyntxdisabled=2), "blackhole", CRITICAL, "", "(0 blackholes found, 2 connections made TCP)", "find"),
    (mib(mpjoinsynackrx=23), "join_success", WARNING, "", "80 % of this host's 10 joins succeeded", "firewall"),
    (mib(mpjoinackrx=15, mpjoinrejected=9), "join_success", WARNING, "",
     "0 % of peers' 10 joins succeeded: 9 rejected by the limits", "limits of the other side"),
    (mib(mpjoinackhmacfailure=1), "authentication", CRITICAL, "", "1 join with a wrong authentication", "middlebox"),
    (mib(mpjoinsynackhmacfailure=2), "authentication", CRITICAL, "", "2 joins with a wrong authentication", "peers"),
    (link("wlan0", stalled_subflows=1), "stalled_subflow", WARNING, "wlan0", "wlan0: 1 subflow without an answer",
     "ping its gateway"),
    (endpoint(misrouted=1), "misrouted_endpoint", WARNING, ENDPOINT, "leave by another interface",
     "ip route add default via GATEWAY dev wlan0"),
    (endpoint(misrouted=1, owner=None), "misrouted_endpoint", WARNING, ENDPOINT, "leave by another interface",
     "dev INTERFACE"),
    (link("wlan0", in_backup_bytes=100010), "backup_traffic", WARNING, "wlan0",
     "wlan0: backup subflows carry 80.0 kbit/s though no path is lost", "another path"),
    (link("eth0", out_backup_bytes=10**7), "backup_traffic", WARNING, "eth0", "8.0 Mbit/s", "another path"),
    ({"mptcp.agent.overruns": 1}, "agent_overrun", WARNING, "", "(1 overrun)", "receive_buffer"),
]


def test_a_healthy_host_has_no_findings():
    """Each rule has looked at it."""
    assert check(view()) == []
    assert len(RULES) == 11


@pytest.mark.parametrize("changes, rule, level, subject, said, mend", FAULTS)
def test_a_fault_is_found_by_its_rule_alone(changes, rule, level, subject, said, mend):
    """With what it is about, and what to do."""
    (found,) = check(view(changes))
    assert (found.rule, found.level, found.subject) == (rule, level, subject)
    assert said in found.text and mend in found.mend


def test_every_rule_has_a_fault_here():
    """A new rule brings its tests."""
    assert {fault[1] for fault in FAULTS} == {rule.name for rule in RULES}


@pytest.mark.parametrize("changes", [
    {"mptcp.connections": 0, **endpoint(subflows=0)},  # nobody to use it
    endpoint(subflows=0, subflow=0),  # nor meant to be used
    endpoint(subflows=0, implicit=1),
    {UP: {"lo": 0}},  # has never carried any
    mib(mpcapablefallbacksynack=1),  # 5 %
    mib(mpcapablefallbacksynack=2, mpcapablesyntx=16, mpcapablesynrx=16),  # of two
    mib(mpjoinsynackrx=24),  # 90 %
    mib(mpjoinsyntx=17, mpjoinsynackrx=15),  # none of two
    mib(mpjoinrejected=5),
    link("wlan0", in_backup_bytes=99990),
    {**link("wlan0", in_backup_bytes=10**9), DEGRADED: None},  # not known whether a path is lost
    {"mptcp.agent.overruns": 0, "mptcp.sysctl.enabled": 0},
])
def test_what_is_no_fault(changes):
    """Below the thresholds, or with a reason."""
    assert check(view(changes)) == []


def test_backups_are_there_for_lost_paths():
    """The loss is told, not that the backup does its work."""
    found = check(view({**link("wlan0", in_backup_bytes=10**9), DEGRADED: 1}))
    assert [one.rule for one in found] == ["redundancy_lost"]


def test_lost_and_hanging_connections_are_counted_once():
    """One hangs, another has lost a path."""
    found = check(view({DEGRADED: 3, REDUNDANCY: {"0": 1}}))
    assert [(one.level, one.text.split()[0]) for one in found] == [(CRITICAL, "1"), (WARNING, "2")]


@pytest.mark.parametrize("counter, rule, said", [
    ("blackhole", "blackhole", "1 blackhole found and 0 connections made TCP for it, since the host started"),
    ("mpcapablesyntxdisabled", "blackhole", "0 blackholes found and 1 connection made TCP"),
    ("mpjoinackhmacfailure", "authentication", "1 join with a wrong authentication code since the host started"),
])
def test_what_rose_before_is_a_note(counter, rule, said):
    """It may explain what is seen, but calls nobody."""
    (found,) = check(view(mib(**{counter: 1}), before=mib(**{counter: 1})))
    assert (found.rule, found.level) == (rule, NOTE) and said in found.text


@pytest.mark.parametrize("name", ["mpcapablefallbacksynack", "mpjoinrejected"])
def test_what_rose_before_and_is_over(name):
    """Nothing to tell of it."""
    assert check(view(mib(**{name: 99}), before=mib(**{name: 99}))) == []


def test_restarted_counters_are_no_findings():
    """The host or the agent began anew between the samples; 0 after 50 is not a rise."""
    high = {name: 1000 for name in record() if name.startswith("mptcp.mib.")}
    assert [one.level for one in check(view(before={**high, "mptcp.agent.overruns": 9}))] == []


def test_without_an_earlier_sample():
    """Gauges are judged, counters are not."""
    faults = {**mib(mpjoinsynackrx=0, mpcapablefallbacksynack=20), "mptcp.agent.overruns": 5,
              **link("eth0", stalled_subflows=2)}
    seen = View(None, sample(changed(record(20), faults), 20.0))
    assert [one.rule for one in check(seen)] == ["stalled_subflow"]


@pytest.mark.parametrize("name", sorted({name.rsplit(".", 1)[0] + "." if name.startswith("mptcp.mib") else name
                                         for name in record()} | {f"mptcp.mib.{name}" for name in (
                                             "mpjoinsyntx", "mpjoinsynackrx", "mpjoinsynrx", "mpjoinackrx",
                                             "blackhole", "mpcapablesyntx", "mpcapablesynrx")}))
def test_what_an_older_kernel_or_archive_lacks_is_no_fault(name):
    """Each metric in turn is missing, on a healthy host."""
    old, new = (sample(without(record(second), name), float(second)) for second in (10, 20))
    assert name.rstrip(".") not in new
    assert check(View(old, new)) == []


def test_nothing_is_known():
    """An archive of a single metric."""
    assert check(View(None, sample({"mptcp.connections": 5}, 1.0))) == []


@pytest.mark.parametrize("threshold, value, changes", [
    ("fallback_share", 0.05, mib(mpcapablefallbacksynack=1)),
    ("fallback_least", 2, mib(mpcapablefallbacksynack=2, mpcapablesyntx=16, mpcapablesynrx=16)),
    ("join_share", 0.95, mib(mpjoinsynackrx=24)),
    ("join_least", 2, mib(mpjoinsyntx=17, mpjoinsynackrx=15)),
    ("backup_rate", 9000, link("wlan0", in_backup_bytes=99990)),
])
def test_thresholds(threshold, value, changes):
    """--set makes a finding of what was none."""
    assert check(view(changes)) == []
    (found,) = check(view(changes), {threshold: value})
    assert found.level == WARNING
    assert THRESHOLDS[threshold][0] != value


@pytest.mark.parametrize("who, value", [("pm_type", 1), ("path_manager", "userspace")])
def test_endpoints_that_userspace_does_not_use_are_no_alarm(who, value):
    """They are the kernel's, and it does not decide."""
    (found,) = check(view({**endpoint(subflows=0), f"mptcp.sysctl.{who}": value}))
    assert (found.rule, found.level) == ("endpoint_unused", NOTE)
    assert "1 endpoint of the kernel without use" in found.text


def test_on_a_link_that_is_down_nothing_is_stalled():
    """It is known why nobody answers there."""
    seen = view({**link("wlan0", stalled_subflows=2, up=0), FLOWS: {"wlan0": 0}})
    assert [one.rule for one in check(seen)] == ["link_down"]


@pytest.mark.parametrize("sole, said", [
    (0, "had"), (1, "had; 1 connection depends on eth0 alone"), (2, "had; 2 connections depend on eth0 alone")])
def test_the_last_path_is_named(sole, said):
    """What hangs if it goes, too."""
    seen = view({"mptcp.redundancy.degraded_connections": 2, **link("eth0", sole_path_connections=sole)})
    assert [one.text for one in check(seen)] == [f"2 of 2 connections have fewer live paths than they {said}"]


def test_the_threshold_of_stalled_subflows():
    """And --set makes none of what was one."""
    stalled = view(link("wlan0", stalled_subflows=2))
    assert len(check(stalled)) == 1 and check(stalled, {"stalled_subflows": 3}) == []


def test_the_gravest_come_first():
    """Then in the order of the rules."""
    found = check(view({DEGRADED: 1, "mptcp.fallback.connections": 1, **mib(mpjoinackhmacfailure=1),
                        **endpoint(misrouted=1), "mptcp.agent.overruns": 1}))
    assert [(one.level, one.rule) for one in found] == [
        (CRITICAL, "authentication"), (WARNING, "redundancy_lost"), (WARNING, "misrouted_endpoint"),
        (WARNING, "agent_overrun"), (NOTE, "fallback")]


def test_only_some_rules():
    """As --only and --ignore choose."""
    seen = view({DEGRADED: 1, "mptcp.agent.overruns": 1})
    assert [one.rule for one in check(seen, rules=[rule for rule in RULES if rule.name != "redundancy_lost"])] == [
        "agent_overrun"]
