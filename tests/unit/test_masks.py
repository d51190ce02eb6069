# SPDX-License-Identifier: GPL-2.0-or-later
"""What is left of a peer's address."""

import ipaddress

import pytest
from hypothesis import given, strategies as st
from pmdamptcp.masks import HIDDEN, Remote, network
from pmdamptcp.metrics.registry import GROUPS
from pmdamptcp.flows import Flow

from . import messages as m


@pytest.mark.parametrize("address, shown", [
    ("192.0.2.77", "192.0.2.0/24"),
    ("203.0.113.255", "203.0.113.0/24"),
    ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
    ("fe80::1%eth0", "fe80::/48"),
    ("2002:c000:24d:1::1", "2002:c000:200::/40"),  # 6to4: 192.0.2.77 is in the prefix
    ("64:ff9b::c000:24d", "64:ff9b::/32"),  # NAT64
    ("64:ff9b:1:c000:2:4d00::", "64:ff9b::/32"),  # with an operator's own prefix, which is a /48
    ("::ffff:192.0.2.77", "::/32"),
    ("::192.0.2.77", "::/32"),
    ("::1", "::/32"),
    ("nonsense", HIDDEN),
    ("", HIDDEN),
])
def test_networks(address, shown):
    """Never more than 24 bits of an IPv4 address, wherever it is."""
    assert network(address) == shown


@pytest.mark.parametrize("setting, four, six", [
    (Remote.FULL, "192.0.2.77:443", "[2001:db8::7]:443"),
    (Remote.NETWORK, "192.0.2.0/24:443", "[2001:db8::/48]:443"),
    (Remote.NONE, "*", "*"),
])
def test_texts(setting, four, six):
    """The port stays with a network and goes with the address."""
    assert setting.text("192.0.2.77", 443) == four
    assert setting.text("2001:db8::7", 443) == six


@given(st.ip_addresses())
def test_a_network_says_nothing_of_the_host(address):
    """All addresses of the same network look alike, and it has at least 256 of them."""
    shown = ipaddress.ip_network(network(str(address)))
    assert address in shown
    assert network(str(shown[0])) == network(str(shown[255])) == str(shown)
    assert shown.num_addresses >= 256


@pytest.mark.parametrize("setting", [Remote.NETWORK, Remote.NONE])
def test_no_metric_name_or_label_has_a_peer_s_address(kernel, log, monkeypatch, setting):
    """Every value, instance and label of the record is searched for the addresses of its peers."""
    sockets = [one for protocol in ("mptcp", "tcp") for family in ("af2", "af10")
               for one in m.truth(f"{protocol}_dump_host-a_{family}.txt")]
    peers = {one["dst"].replace("::ffff:", "") for one in sockets if one["dport"]}
    peers -= {one["src"].replace("::ffff:", "") for one in sockets}
    assert len(peers) > 2, "the record has peers"
    assert _found(_everything(kernel.snapshot(log)), peers), "and shows them by default"
    monkeypatch.setattr(Flow, "peers", setting)
    texts = _everything(kernel.snapshot(log))
    assert len(texts) > 200
    assert _found(texts, peers) == []
    names = [name for name in texts if name.startswith("c") and "->" in name]
    assert names and len({name.split(" ")[0] for name in names}) == len(set(names))
    print(sorted(set(names))[:3])


def _everything(snapshot):
    texts = []
    for group in GROUPS:
        group.refresh(snapshot)
        instances = group.domain.instances(snapshot) if group.domain else None
        if instances:
            texts += [group.domain.name(row) for row in instances.values()]
            texts += [str(value) for row in instances.values() for value in group.domain.labels(row).values()]
        for row in group.rows_of(snapshot, instances).values():
            if row is not None:
                texts += [str(metric.get(row)) for metric in group.metrics]
    return texts


def _found(texts, addresses):
    return sorted({text for text in texts for address in addresses if address in text})
