# SPDX-License-Identifier: GPL-2.0-or-later
"""One picture for each fetch: what is read when, and what is served when a reader fails."""

import errno

import pytest
from pmdamptcp.kernel import interfaces
from pmdamptcp.sample import STALLED_RETRANSMITS
from pmdamptcp.metrics import overview
from pmdamptcp.records import Endpoint, Limits, Link, PathManager
from pmdamptcp.endpoints import EndpointRow
from pmdamptcp.snapshot import Snapshot

from . import kernels
from . import messages as m
from .kernels import ENOENT, named, values

# The whole picture.


def test_a_snapshot_of_the_record(kernel, log):
    """host-a: two connections of five and six subflows less the closed one, and one that fell back."""
    snapshot = kernel.snapshot(log)
    assert values(snapshot, "mptcp.connections") == 2
    assert values(snapshot, "mptcp.fallback.connections") == 1
    assert named(snapshot, "mptcp.subflows") == {"lo": 0, "l1": 4, "l2": 2, "l3": 4}
    assert named(snapshot, "mptcp.redundancy.connections") == {
        **dict.fromkeys("0 1 2 3 4 6 7 8+".split(), 0),
        "5": 2,
    }
    assert values(snapshot, "mptcp.redundancy.degraded_connections") == 0
    assert named(snapshot, "mptcp.connection.live_subflows_most") == {"c1": 0, "c2": 5, "c3": 5}
    assert named(snapshot, "mptcp.connection.subflows") == {"c1": 0, "c2": 5, "c3": 5}
    assert named(snapshot, "mptcp.connection.fallback") == {"c1": 1, "c2": 0, "c3": 0}
    assert named(snapshot, "mptcp.interface.sole_path_connections") == {"lo": 0, "l1": 0, "l2": 0, "l3": 0}
    assert values(snapshot, "mptcp.mib.mpcurrestab") == 3
    assert values(snapshot, "mptcp.mib.rcvpruned") is None
    assert values(snapshot, "mptcp.pm.limits.subflows") == 8
    assert named(snapshot, "mptcp.pm.endpoint.subflows") == {"1": 1, "77": 3}
    assert named(snapshot, "mptcp.pm.endpoint.misrouted") == {"1": 0, "77": 0}
    assert values(snapshot, "mptcp.agent.samples") == 1
    assert values(snapshot, "mptcp.agent.sockets") == 15 + 1  # a listener
    assert log == []


@pytest.mark.parametrize("shape", [kernels.as_5_10, kernels.as_6_1, kernels.as_6_12, kernels.as_6_18])
def test_bytes_by_interface_on_each_kernel(kernel, log, shape):
    """The growth of the subflows' own counters, which all kernels have."""
    kernel.dumps[m.MPTCP] = [m.connection(1, 100)]
    grown = {"10.0.1.1": (100, 7), "10.0.2.1": (5, 0)}
    flows = []
    for sample in range(2):
        flows = [
            m.subflow(
                10 + number,
                100,
                local=(address, 1),
                sent=sample * sent,
                received=sample * received,
                info_length=280,
            )
            for number, (address, (sent, received)) in enumerate(grown.items())
        ]
        flows = [
            m.with_subflow_attributes(
                flow, [*m.subflow_attributes(flow).items()] + [(kind, bytes(4)) for kind in m.FOR_ADMIN_ONLY]
            )
            for flow in flows
        ]
        kernel.dumps[m.TCP] = [b"".join(flows)]
        kernel.reshape(shape, [m.TCP])
        if sample == 0:
            kernel.reshape(shape, [m.MPTCP])
            snapshot = kernel.snapshot(log)
        snapshot.refresh_sockets()
        kernel.clock.now += 1
    assert named(snapshot, "mptcp.interface.out.bytes") == {"lo": 0, "l1": 100, "l2": 5, "l3": 0}
    assert named(snapshot, "mptcp.interface.in.bytes") == {"lo": 0, "l1": 7, "l2": 0, "l3": 0}
    old = shape in (kernels.as_5_10, kernels.as_6_1)
    # The made-up connection's own counter stays at 0; old kernels have none.
    assert named(snapshot, "mptcp.connection.out.bytes") == {"c1": 105 if old else 0}
    assert named(snapshot, "mptcp.connection.out.acked_bytes") == ({} if old else {"c1": 0})


def test_one_picture_for_all_groups(kernel, log):
    """A fetch of everything dumps each protocol once."""
    snapshot = kernel.snapshot(log)
    for group in {id(group): group for group, _ in kernels.METRICS.values()}.values():
        group.refresh(snapshot)
    assert kernel.asked["dumps"] == 2
    assert {
        name: count for name, count in kernel.asked.items() if name not in ("dumps", "egress")
    } == dict.fromkeys("links addresses traffic counters settings path_manager".split(), 1)
    kernel.clock.now += 1
    snapshot.refresh_sockets()
    assert kernel.asked["dumps"] == 4
    assert kernel.asked["links"] == 1  # nothing changed


NOT_SOCKETS = {
    "mptcp.mib.addaddr": 10,
    "mptcp.sysctl.enabled": 1,
    "mptcp.pm.limits.subflows": 8,
    "mptcp.pm.endpoints": 2,
}
OF_SOCKETS = [
    name
    for name, (group, _) in kernels.METRICS.items()
    if group.refresh in (Snapshot.refresh_sockets, Snapshot.refresh_endpoints)
    and (not name.startswith("mptcp.agent.") or "omitted" in name)
]


@pytest.mark.parametrize("name", OF_SOCKETS)
def test_without_sock_diag_nothing_of_sockets_has_a_value(kernel, log, name):
    """A kernel without mptcp_diag: absent, never 0."""
    kernel.dumps[m.MPTCP] = ENOENT
    assert values(kernel.snapshot(log), name) in (None, {})


def test_without_sock_diag_the_rest_is_served(kernel, log):
    """And the log says why, once."""
    kernel.dumps[m.MPTCP] = ENOENT
    snapshot = kernel.snapshot(log)
    for _ in range(3):
        for name, value in NOT_SOCKETS.items():
            assert values(snapshot, name) == value
        assert named(snapshot, "mptcp.interface.up") == {"lo": 1, "l1": 1, "l2": 1, "l3": 1}
        assert values(snapshot, "mptcp.connections") is None
        kernel.clock.now += 1
    assert log == [
        "sock_diag: FileNotFoundError: [Errno 2] No such file or directory; its metrics have no value"
    ]


def test_sock_diag_that_fails_for_a_while(kernel, log):
    """Gauges and totals vanish, for one that stood still would tell a rate of 0; they come back, and totals go on."""

    def sample(sent):
        kernel.dumps = {m.MPTCP: [m.connection(1, 100)], m.TCP: [m.subflow(11, 100, sent=sent)]}
        snapshot.refresh_sockets()
        kernel.clock.now += 1

    snapshot = kernel.snapshot(log)
    sample(10)
    sample(30)
    kernel.dumps[m.TCP] = OSError(errno.ETIMEDOUT, "timed out")
    for _ in range(3):
        assert values(snapshot, "mptcp.connections") is None
        assert named(snapshot, "mptcp.subflows") == {}
        assert named(snapshot, "mptcp.interface.out.bytes") == {}
        kernel.clock.now += 1
    sample(35)
    assert values(snapshot, "mptcp.connections") == 1
    assert named(snapshot, "mptcp.subflows")["l1"] == 1
    assert named(snapshot, "mptcp.interface.out.bytes")["l1"] == 25
    assert len(log) == 2 and log[1] == "sock_diag: works again"


@pytest.mark.parametrize(
    "reader, absent",
    [
        ("counters", "mptcp.mib.addaddr"),
        ("settings", "mptcp.sysctl.enabled"),
        ("path_manager", "mptcp.pm.limits.subflows"),
        ("path_manager", "mptcp.pm.endpoints"),
        ("path_manager", "mptcp.pm.endpoint.flags"),
        ("path_manager", "mptcp.pm.endpoint.subflows"),
        ("traffic", "mptcp.interface.total.in.bytes"),
    ],
)
def test_each_reader_fails_for_itself(kernel, log, reader, absent):
    """What others say is served."""
    setattr(kernel, reader, OSError(errno.EACCES, "no"))
    snapshot = kernel.snapshot(log)
    assert values(snapshot, absent) in (None, {})
    assert values(snapshot, "mptcp.connections") == 2
    for name, value in NOT_SOCKETS.items():
        if getattr(kernel, reader) is not getattr(
            kernel, {"mib": "counters", "sysctl": "settings", "pm": "path_manager"}[name.split(".")[1]]
        ):
            assert values(snapshot, name) == value
    assert len(log) == 1


# Kernels that do not tell.

BLIND_ABSENT = [
    name
    for name, (group, _) in kernels.METRICS.items()
    if name.startswith(
        (
            "mptcp.subflow",
            "mptcp.redundancy",
            "mptcp.pm.endpoint.subflows",
            "mptcp.pm.endpoint.misrouted",
            "mptcp.pm.endpoint.owner",
            "mptcp.connection.subflows",
            "mptcp.connection.live_subflows",
            "mptcp.connection.server_side",
        )
    )
    and name != "mptcp.connection.subflows_max"
    or group is kernels.METRICS["mptcp.interface.rtt"][0]
    or group is kernels.METRICS["mptcp.interface.in.bytes"][0]
]


@pytest.mark.parametrize("name", BLIND_ABSENT)
def test_without_the_capability_subflows_are_absent_on_an_old_kernel(kernel, log, name):
    """Not 0: nobody knows."""
    kernel.reshape(kernels.blind)
    kernel.reshape(kernels.as_6_12)
    snapshot = kernel.snapshot(log, privileged=False)
    found = values(snapshot, name)
    # The connection that fell back has no subflows, and that is known.
    if name.startswith("mptcp.connection"):
        fallen = {row.id for row in snapshot.connections.values() if row.fallback}
        found = {inst: value for inst, value in found.items() if inst not in fallen}
    assert found in ({}, None)


def test_without_the_capability_connections_are_there(kernel, log):
    """The dump of MPTCP sockets needs none; the log says what is missing, once."""
    kernel.reshape(kernels.blind)
    snapshot = kernel.snapshot(log, privileged=False)
    for _ in range(3):
        assert values(snapshot, "mptcp.connections") == 2
        assert named(snapshot, "mptcp.connection.in.bytes") == {"c1": 37648, "c2": 445788, "c3": 5984108}
        kernel.clock.now += 1
    assert len(log) == 1
    assert "CAP_NET_ADMIN" in log[0]


@pytest.mark.parametrize("name", ["mptcp.connection.in.bytes", "mptcp.connection.out.bytes"])
def test_bytes_that_nobody_counts_are_absent(kernel, log, name):
    """Before 6.5 the connection has no counters; without the capability there are no subflows to sum up."""
    kernel.reshape(kernels.blind)
    kernel.reshape(kernels.as_6_1)
    assert values(kernel.snapshot(log, privileged=False), name) == {}


def test_without_the_capability_a_new_kernel_tells_all(kernel, log):
    """6.18 does."""
    snapshot = kernel.snapshot(log, privileged=False)
    assert named(snapshot, "mptcp.subflows")["l1"] == 4
    assert log == []


def test_without_the_capability_and_without_connections_there_are_no_subflows(kernel, log):
    """That is known on any kernel: 0."""
    kernel.dumps = {m.MPTCP: [m.done()], m.TCP: [m.done()]}
    snapshot = kernel.snapshot(log, privileged=False)
    assert set(named(snapshot, "mptcp.subflows").values()) == {0}
    assert values(snapshot, "mptcp.connections") == 0
    assert log == []


def test_malformed_messages_are_counted_and_told_once(kernel, log):
    """The sockets before them are served."""
    snapshot = kernel.snapshot(log)
    kernel.dumps[m.MPTCP] = [kernel.dumps[m.MPTCP][0][:-30], *kernel.dumps[m.MPTCP][1:]]
    for count in (1, 2, 3):
        assert values(snapshot, "mptcp.agent.malformed") == count
        assert values(snapshot, "mptcp.connections") == 1
        kernel.clock.now += 1
    assert len(log) == 1


@pytest.mark.parametrize("instances", [0, 1, 2, 100])
def test_beyond_the_cap_instances_are_omitted_and_sums_are_not(kernel, log, instances):
    """The oldest connections are shown, and subflows of these; the same ones as long as they live."""
    snapshot = kernel.snapshot(log, instances=instances)
    assert list(values(snapshot, "mptcp.connection.uid")) == [1, 2, 3][:instances]
    first = values(snapshot, "mptcp.subflow.rtt")
    snapshot.expire()
    shown = values(snapshot, "mptcp.subflow.rtt")  # what had to wait for its place is there now
    assert len(shown) == min(instances, 10) and first.items() <= shown.items()
    snapshot.expire()
    assert values(snapshot, "mptcp.subflow.rtt") == shown
    assert values(snapshot, "mptcp.agent.omitted.connections") == max(0, 3 - instances)
    assert values(snapshot, "mptcp.agent.omitted.subflows") == max(0, 10 - instances)
    assert sum(values(snapshot, "mptcp.subflows").values()) == 10


# Links and routes.


def one_subflow(kernel, address="10.0.1.1", sent=0):
    """A host with one connection and one subflow."""
    kernel.dumps = {
        m.MPTCP: [m.connection(1, 100)],
        m.TCP: [m.subflow(11, 100, local=(address, 1), sent=sent)],
    }


def interface(snapshot):
    """Where its packets leave."""
    return list(values(snapshot, "mptcp.subflow.interface").values())


def test_a_link_that_goes_down(kernel, log):
    """Seen without a new look-up of everything else."""
    one_subflow(kernel)
    snapshot = kernel.snapshot(log)
    assert named(snapshot, "mptcp.redundancy.connections")["1"] == 1
    kernel.links[1] = Link(2, "l1", False)
    kernel.changed = True
    kernel.clock.now += 1
    assert named(snapshot, "mptcp.interface.up")["l1"] == 0
    assert named(snapshot, "mptcp.redundancy.connections") == {
        **dict.fromkeys("1 2 3 4 5 6 7 8+".split(), 0),
        "0": 1,
    }


@pytest.mark.parametrize("asked_first", ["mptcp.subflows", "mptcp.interface.up", "mptcp.pm.endpoints"])
def test_routes_that_change(kernel, log, asked_first):
    """Whichever metric of a fetch comes first and hears of it."""
    one_subflow(kernel)
    snapshot = kernel.snapshot(log)
    assert interface(snapshot) == ["l1"]
    kernel.egress["10.0.1.1"] = 3
    kernel.changed = True
    kernel.clock.now += 1
    values(snapshot, asked_first)
    assert interface(snapshot) == ["l2"]


def test_routes_that_change_while_sock_diag_fails(kernel, log):
    """They are still news afterwards."""
    one_subflow(kernel)
    snapshot = kernel.snapshot(log)
    assert interface(snapshot) == ["l1"]
    kernel.egress["10.0.1.1"] = 3
    kernel.changed, works = True, kernel.dumps
    kernel.dumps = ENOENT
    kernel.clock.now += 1
    assert interface(snapshot) == []
    kernel.dumps = works
    kernel.clock.now += 1
    assert interface(snapshot) == ["l2"]


def test_links_that_change_twice_in_a_moment(kernel, log, monkeypatch):
    """A link that flaps: the second change comes just after the look that the first one caused."""

    def slow_links(look=interfaces.links):
        kernel.clock.now += 0.002
        return look()

    monkeypatch.setattr(interfaces, "links", slow_links)
    snapshot = kernel.snapshot(log)
    assert named(snapshot, "mptcp.interface.up")["l1"] == 1
    kernel.clock.now += 0.004
    kernel.links[1] = Link(2, "l1", False)
    kernel.changed = True
    named(snapshot, "mptcp.interface.up")
    kernel.clock.now += 60
    assert named(snapshot, "mptcp.interface.up")["l1"] == 0


def test_a_route_lookup_that_fails_is_logged_once(kernel, log):
    """However many samples want one."""
    snapshot = kernel.snapshot(log)
    kernel.egress = OSError(errno.ETIMEDOUT, "timed out")
    for number in range(4):
        kernel.dumps = {
            m.MPTCP: [m.connection(1, 100)],
            m.TCP: [b"".join(m.subflow(11 + one, 100, local=("10.0.1.1", one)) for one in range(number + 1))],
        }
        snapshot.refresh_sockets()
        kernel.clock.now += 1
    assert len(log) == 1


def test_a_route_lookup_that_failed_is_made_up_for(kernel, log):
    """One fault must not cost a subflow its interface, and its bytes, for the rest of its life."""
    snapshot = kernel.snapshot(log)
    works, kernel.egress = kernel.egress, OSError(errno.ETIMEDOUT, "timed out")
    one_subflow(kernel)
    assert interface(snapshot) == []
    kernel.egress = works
    kernel.clock.now += 1
    assert interface(snapshot) == ["l1"]


def test_without_word_of_changes_links_are_read_each_time(kernel, log):
    """No listening socket to be had: it costs, and is right."""
    kernel.changed = OSError(errno.ENOBUFS, "no")
    snapshot = kernel.snapshot(log)
    for reads in (1, 2, 3):
        values(snapshot, "mptcp.subflows")
        assert kernel.asked["links"] == reads
        kernel.clock.now += 1


def test_an_interface_that_carried_mptcp_outlives_its_device(kernel, log):
    """Its totals stay; one that carried nothing goes."""
    one_subflow(kernel)
    snapshot = kernel.snapshot(log)
    snapshot.refresh_sockets()
    before = named(snapshot, "mptcp.interface.up")
    kernel.links = [link for link in kernel.links if link.name not in ("l1", "l2")]
    kernel.changed = True
    kernel.clock.now += 1
    assert before == {"lo": 1, "l1": 1, "l2": 1, "l3": 1}
    assert named(snapshot, "mptcp.interface.up") == {"lo": 1, "l1": 0, "l3": 1}
    assert set(named(snapshot, "mptcp.interface.total.in.bytes")) <= {"lo", "l1", "l3"}


# Endpoints.


@pytest.fixture
def host(kernel, log):
    """A host with a joined subflow from each of three addresses, and these endpoints."""

    def with_endpoints(*endpoints, **flow):
        kernel.path_manager = PathManager(Limits(8, 8), list(endpoints))
        kernel.dumps = {
            m.MPTCP: [m.connection(1, 100)],
            m.TCP: [
                b"".join(
                    m.subflow(
                        10 + number,
                        100,
                        local=(f"10.0.{number}.1", 1000 + number),
                        remote=("10.0.9.9", 5040),
                        flags=m.OPENED_BY_US if number == 1 else m.JOINED_BY_US,
                        **flow,
                    )
                    for number in (1, 2, 3)
                )
            ],
        }
        return kernel.snapshot(log)

    return with_endpoints


def test_live_subflows_of_endpoints(host):
    """By address, and by port for an endpoint that has one."""
    snapshot = host(
        Endpoint(1, "10.0.1.1", 0, 0, 1),
        Endpoint(2, "10.0.2.1", 1002, 0, 1),
        Endpoint(3, "10.0.2.1", 0, 0, 1),
        Endpoint(4, "10.0.3.1", 7777, 0, 1),
        Endpoint(5, "10.0.7.1", 0, 0, 1),
    )
    assert named(snapshot, "mptcp.pm.endpoint.subflows") == {"1": 1, "2": 1, "3": 0, "4": 0, "5": 0}


def test_a_stalled_subflow_uses_no_endpoint(host):
    """Nor one over an interface that is down."""
    snapshot = host(Endpoint(1, "10.0.1.1", 0, 0, 1), retransmits=STALLED_RETRANSMITS)
    assert named(snapshot, "mptcp.pm.endpoint.subflows") == {"1": 0}


def test_an_endpoint_of_v4_mapped_subflows(kernel, log):
    """A dual-stack server: its sockets are IPv6, its endpoints IPv4."""
    kernel.path_manager = PathManager(Limits(8, 8), [Endpoint(1, "10.0.2.1", 0, 0, 1)])
    kernel.dumps = {
        m.MPTCP: [m.connection(1, 100)],
        m.TCP: [m.subflow(11, 100, local=("::ffff:10.0.2.1", 5040), remote=("::ffff:10.0.9.9", 1))],
    }
    snapshot = kernel.snapshot(log)
    assert named(snapshot, "mptcp.pm.endpoint.subflows") == {"1": 1}
    assert named(snapshot, "mptcp.subflows")["l2"] == 1


@pytest.mark.parametrize("egress, misrouted", [(3, 0), (2, 1), (None, None)])
def test_misrouted(kernel, host, egress, misrouted):
    """10.0.2.1 is on l2 (3); without any route nothing can be said."""
    kernel.egress["10.0.2.1"] = egress
    snapshot = host(Endpoint(1, "10.0.2.1", 0, 0, 2))
    assert named(snapshot, "mptcp.pm.endpoint.misrouted") == ({} if misrouted is None else {"1": misrouted})


def test_an_address_on_no_interface_is_not_misrouted(host):
    """It has no value."""
    assert named(host(Endpoint(1, "10.0.77.1", 0, 0, 2)), "mptcp.pm.endpoint.misrouted") == {}


@pytest.mark.parametrize("address, owner", [("10.0.2.1", "l2"), ("10.0.77.1", "")])
def test_the_owner_of_an_endpoints_address(host, address, owner):
    """Empty, and not without a value, when no interface has it."""
    assert named(host(Endpoint(1, address, 0, 0, 2)), "mptcp.pm.endpoint.owner") == {"1": owner}


@pytest.mark.parametrize(
    "endpoint, interface_name, name",
    [
        (Endpoint(3, "10.0.2.2", 0, 3, 1), "enp1s0", "3 10.0.2.2%enp1s0"),
        (Endpoint(3, "10.0.2.2", 5555, 0, 1), "", "3 10.0.2.2:5555"),
        (Endpoint(3, "fd00::2", 0, 0, 1), "", "3 fd00::2"),
        (Endpoint(3, "fd00::2", 55, 2, 1), "e", "3 [fd00::2]:55%e"),
    ],
)
def test_names_of_endpoints(endpoint, interface_name, name):
    """The id first."""
    assert EndpointRow(1, endpoint, interface_name).name == name


def test_an_endpoint_that_changes_is_another_instance(kernel, log):
    """The kernel gives ids again; instances of PCP are for good."""
    snapshot = kernel.snapshot(log)
    before = values(snapshot, "mptcp.pm.endpoint.address")
    kernel.path_manager = PathManager(Limits(8, 8), [
        Endpoint(1, "fd00:3::1", 0, 4, 14),
        Endpoint(77, "10.0.9.1", 0, 4, 2),
    ])
    kernel.clock.now += 1
    after = values(snapshot, "mptcp.pm.endpoint.address")
    assert before == {1: "fd00:3::1", 2: "10.0.3.1"}
    assert after == {1: "fd00:3::1", 3: "10.0.9.1"}


def test_an_idle_look_does_not_make_totals_known(kernel, log):
    """Without the capability on an old kernel, first no connection, then some: bytes are absent all the same."""
    dumps = dict(kernel.dumps)
    kernel.dumps.update({m.TCP: [m.done()], m.MPTCP: [m.done()]})
    snapshot = kernel.snapshot(log, privileged=False)
    snapshot.refresh_sockets()
    kernel.dumps.update(dumps)
    kernel.reshape(kernels.blind)
    snapshot.expire()
    assert kernels.values(snapshot, "mptcp.interface.in.bytes") == {}


def test_a_failed_route_lookup_leaves_gauges_without_values(kernel, log):
    """Not knowing where packets leave is not the same as no subflow."""
    kernel.egress = OSError(errno.ENOBUFS, "no")
    snapshot = kernel.snapshot(log)
    for name in ("mptcp.subflows", "mptcp.redundancy.connections", "mptcp.interface.sole_path_connections"):
        assert set(kernels.values(snapshot, name).values()) <= {None}, name


def test_instances_have_names_whatever_fails(kernel, log):
    """The number of live subflows is an instance even while nobody can count them."""
    kernel.dumps[m.MPTCP] = ENOENT
    snapshot = kernel.snapshot(log)
    snapshot.refresh_sockets()
    domain = overview.REDUNDANCY.domain
    assert [domain.name(row) for row in domain.instances(snapshot).values()] == [*"01234567", "8+"]
