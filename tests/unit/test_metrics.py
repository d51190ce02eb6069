# SPDX-License-Identifier: GPL-2.0-or-later
"""The metric tables: complete, consistent, and the same as yesterday.

metrics.golden holds what archives rely on.  After an intended change:

    UPDATE_GOLDEN=1 /usr/bin/python3 -m pytest tests/unit/test_metrics.py
"""

import json
import os
import re
from pathlib import Path

import pytest
from pcp.pmapi import pmUnits
from pmdamptcp import metrics
from pmdamptcp.agent import DOMAIN
from pmdamptcp.kernel.path_manager import FLAGS
from pmdamptcp.metrics import mib, sysctl
from pmdamptcp.metrics.registry import GROUPS
from pmdamptcp.records import PathManager

from . import kernels
from . import messages as m
from .test_netstat import LINUX_6_18

GOLDEN = Path(__file__).with_name("metrics.golden")
METRICS = [metric for group in GROUPS for metric in group.metrics]
DOMAINS = [group.domain for group in GROUPS if group.domain]
TYPES = {metrics.U32: "u32", metrics.U64: "u64", metrics.STRING: "string"}
SEMANTICS = {metrics.COUNTER: "counter", metrics.INSTANT: "instant", metrics.DISCRETE: "discrete"}
#: Counters that the kernel itself keeps in 32 bits; PCP's clients know that these wrap.
COUNTERS_OF_32_BITS = {"mptcp.subflow.retransmits"}

each_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)


def listing():
    """Name, PMID, type, instance domain, semantics and units of each metric, in the order of PMIDs."""
    return "".join(
        "\t".join(
            (
                metric.name,
                f"{DOMAIN}.{group.cluster}.{item}",
                TYPES[metric.type],
                str(group.domain.serial) if group.domain else "-",
                SEMANTICS[metric.semantics],
                str(pmUnits(*metric.units)) or "none",
            )
        )
        + "\n"
        for group in sorted(GROUPS, key=lambda group: group.cluster)
        for item, metric in enumerate(group.metrics)
    )


def test_nothing_that_archives_rely_on_has_changed():
    """See the top of this file for how to change it."""
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(listing(), encoding="utf-8")
    assert listing() == GOLDEN.read_text(encoding="utf-8")


def test_names_are_unique_and_no_name_is_another_ones_parent():
    """A name is a metric or a node of the tree, not both."""
    names = [metric.name for metric in METRICS]
    assert len(names) == len(set(names))
    nodes = {name.rsplit(".", depth)[0] for name in names for depth in range(1, name.count(".") + 1)}
    assert not nodes & set(names)


@each_metric
def test_name(metric):
    """As PMNS(5) wants them, under one root."""
    assert re.fullmatch(r"mptcp(\.[a-z][a-z0-9_]*)+", metric.name)


@each_metric
def test_texts(metric):
    """A title, and a help that says more."""
    assert 0 < len(metric.oneline) <= 80
    assert not metric.oneline.endswith(".")
    assert "\n" not in metric.oneline and metric.oneline == metric.oneline.strip()
    assert metric.help.strip() and metric.help != metric.oneline
    assert metric.help.rstrip().endswith(".")


@each_metric
def test_help_names_metrics_that_exist(metric):
    """A reference to a metric that was renamed helps nobody."""
    names = {one.name for one in METRICS}
    nodes = {name.rsplit(".", depth)[0] for name in names for depth in range(1, name.count(".") + 1)}
    for name in re.findall(r"(?<!net\.)\bmptcp(?:\.[a-z0-9_]+)+", metric.help + " " + metric.oneline):
        assert name in names | nodes


def test_titles_are_unique():
    """Within a group's neighbours: what a chart's legend shows must tell metrics apart."""
    for prefix in (
        "mptcp.mib.",
        "mptcp.sysctl.",
        "mptcp.pm.",
        "mptcp.connection.",
        "mptcp.subflow.",
        "mptcp.interface.",
        "mptcp.agent.",
    ):
        titles = [metric.oneline for metric in METRICS if metric.name.startswith(prefix)]
        assert sorted(titles) == sorted(set(titles))


@each_metric
def test_type_semantics_and_units_fit_each_other(metric):
    """Counters are wide and count something; strings have no units."""
    assert metric.type in TYPES and metric.semantics in SEMANTICS
    if metric.semantics == metrics.COUNTER:
        assert metric.type == (metrics.U32 if metric.name in COUNTERS_OF_32_BITS else metrics.U64)
        assert metric.units in (metrics.COUNT, metrics.BYTE, metrics.USEC)
    if metric.type == metrics.STRING:
        assert metric.semantics in (metrics.DISCRETE, metrics.INSTANT)
        assert metric.units == metrics.NONE
    if metric.name.endswith("bytes"):
        assert metric.units == metrics.BYTE


def test_clusters_are_unique():
    """And fit the 12 bits of a PMID; items fit 10."""
    clusters = [group.cluster for group in GROUPS]
    assert len(clusters) == len(set(clusters))
    assert all(0 <= cluster < 4096 for cluster in clusters)
    assert all(len(group.metrics) <= 1024 for group in GROUPS)


def test_serials_are_unique():
    """One serial is one domain, with one set of texts."""
    by_serial = {}
    for domain in DOMAINS:
        assert by_serial.setdefault(domain.serial, domain) is domain
        assert domain.oneline and domain.help and not domain.oneline.endswith(".")


def test_the_domain_number_is_that_of_mptcp():
    """domain.h and Install rely on it."""
    assert DOMAIN == 262


def test_mib_has_the_counters_of_the_recorded_kernel_and_of_older_ones():
    """Linux 6.18's, and the one that it no longer has."""
    assert {metric.name for metric in mib.METRICS} == {f"mptcp.mib.{name.lower()}" for name in LINUX_6_18} | {
        "mptcp.mib.rcvpruned"
    }
    assert mib.KNOWN == {*LINUX_6_18, "RcvPruned"}
    gauges = [metric.name for metric in mib.METRICS if metric.semantics != metrics.COUNTER]
    assert gauges == ["mptcp.mib.mpcurrestab"]


def test_sysctl_has_a_metric_for_each_known_setting():
    """Named as the file."""
    assert {metric.name for metric in sysctl.METRICS} == {f"mptcp.sysctl.{name}" for name in sysctl.KNOWN}


def test_endpoint_flags_have_a_metric_each():
    """All that linux/mptcp_pm.h has."""
    assert [f"mptcp.pm.endpoint.{name}" in kernels.METRICS for name in FLAGS] == [True] * 6


# Values: every metric of every kernel.

SHAPES = [kernels.as_5_10, kernels.as_6_1, kernels.as_6_12, kernels.as_6_18]
LIMIT = {metrics.U32: 2**32, metrics.U64: 2**64}


@pytest.fixture(params=SHAPES, ids=lambda shape: shape.__name__)
def snapshot(request, kernel, log):
    """The recorded host as each kernel shows it, with settings and counters that the agent does not know."""
    kernel.reshape(request.param)
    kernel.counters["QuantumFallback"] = 7
    kernel.settings["warp_factor"] = "9"
    kernel.events.waiting = m.split(m.recorded("pm_events_host-a.bin"))
    snapshot = kernel.snapshot(log)
    snapshot.sampler.listener.open(0)
    return snapshot


def test_each_value_fits_its_type(snapshot):
    """And None is the only other answer: no exception, no bool, no float."""
    for metric in METRICS:
        found = kernels.values(snapshot, metric.name)
        for value in found.values() if isinstance(found, dict) else [found]:
            if metric.type == metrics.STRING:
                assert value is None or type(value) is str and len(value.encode()) < 256, metric.name
            else:
                assert value is None or type(value) is int and 0 <= value < LIMIT[metric.type], metric.name


def test_instances(snapshot):
    """Positive ids, names whose first word is unique and not a prefix clash, labels that are JSON."""
    for group in GROUPS:
        if not group.domain:
            continue
        group.domain.refresh(snapshot)
        rows = group.domain.instances(snapshot)
        assert rows
        assert all(0 < number < 2**31 for number in rows)
        words = [group.domain.name(row).split()[0] for row in rows.values()]
        assert len(words) == len(set(words))
        for row in rows.values():
            assert isinstance(json.loads(json.dumps(group.domain.labels(row))), dict)


def test_what_no_metric_is_made_for_is_served_by_its_name(snapshot):
    """Counters and settings of the future."""
    assert kernels.named(snapshot, "mptcp.mib.other") == {"QuantumFallback": 7}
    assert kernels.named(snapshot, "mptcp.sysctl.other") == {"warp_factor": "9"}


def test_no_value_shows_a_token_or_a_sequence_number(kernel, log):
    """They are handles for privileged commands; archives travel."""
    kinds = "token token_rem token_loc write_seq snd_una rcv_nxt map_seq ssn_off".split()
    secrets = {
        number
        for name in ("host-a_af2", "host-a_af10")
        for kind in ("tcp", "mptcp")
        for socket in m.truth(f"{kind}_dump_{name}.txt")
        for key, number in {**socket["info"], **socket["ulp"]}.items()
        if key in kinds and number > 2**28
    }  # sequence numbers of a fallen-back one start at 0
    assert len(secrets) > 20
    snapshot = kernel.snapshot(log)
    for name in kernels.METRICS:
        found = kernels.values(snapshot, name)
        for value in found.values() if isinstance(found, dict) else [found]:
            assert value not in secrets
            for secret in secrets:
                assert str(secret) not in str(value) and f"{secret:x}" not in str(value)


# Some values in detail.


def subflow_value(kernel, log, name, **flow):
    """A metric of a made-up subflow."""
    kernel.dumps = {m.MPTCP: [m.connection(1, 100)], m.TCP: [m.subflow(11, 100, **flow)]}
    return kernels.named(kernel.snapshot(log), name).get("c1::1")


@pytest.mark.parametrize("number, text", [(0, "Open"), (4, "Loss"), (9, "9")])
def test_states_of_congestion_control(kernel, log, number, text):
    """Also one that a later kernel may have."""
    assert subflow_value(kernel, log, "mptcp.subflow.ca_state", ca_state=number) == text


@pytest.mark.parametrize(
    "name, place, never",
    [("min_rtt", 148, b"\xff" * 4), ("ssthresh", 76, b"\xff\xff\xff\x7f"), ("pacing_rate", 104, b"\xff" * 8)],
)
def test_the_kernels_words_for_none(kernel, log, name, place, never):
    """Not 4294967295 microseconds."""
    flow = bytearray(m.subflow(11, 100))
    kernel.dumps = {m.MPTCP: [m.connection(1, 100)], m.TCP: [bytes(flow)]}
    assert kernels.named(kernel.snapshot(log), f"mptcp.subflow.{name}") == {"c1::1": 0}
    start = m.BODY + 4 + place  # behind the header of the first attribute
    flow[start:start + len(never)] = never
    kernel.dumps[m.TCP] = [bytes(flow)]
    assert kernels.named(kernel.snapshot(log), f"mptcp.subflow.{name}") == {}


def test_unacked_bytes_over_the_end_of_the_sequence_space(kernel, log):
    """Data sequence numbers wrap at 64 bits."""
    kernel.dumps[m.MPTCP] = [m.connection(1, 100, info={"write_seq": 5, "snd_una": 2**64 - 10})]
    assert kernels.named(kernel.snapshot(log), "mptcp.connection.out.unacked_bytes") == {"c1": 15}


@pytest.mark.parametrize(
    "flags, text",
    [(0, ""), (3, "signal subflow"), (0x10, "implicit"), (0x20, "laminar"), (0x41, "signal 0x40")],
)
def test_flags_of_endpoints_in_words(kernel, log, flags, text):
    """Flags of the future in figures."""
    limits, [endpoint, _] = kernel.path_manager
    kernel.path_manager = PathManager(limits, [endpoint._replace(flags=flags)])
    snapshot = kernel.snapshot(log)
    assert kernels.named(snapshot, "mptcp.pm.endpoint.flags") == {"1": text}
    for name, bit in FLAGS.items():
        assert kernels.named(snapshot, f"mptcp.pm.endpoint.{name}") == {"1": int(bool(flags & bit))}
