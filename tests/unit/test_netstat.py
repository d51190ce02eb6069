# SPDX-License-Identifier: GPL-2.0-or-later
"""MPTcpExt by the names of the header line, whatever kernel wrote it."""

import pytest
from pmdamptcp.kernel import netstat
from pmdamptcp.metrics import mib

from . import messages as m

RECORDED = "proc_net_netstat_host-a.txt"

#: Columns of Linux 5.10, in the kernel's order (net/mptcp/mib.c).
LINUX_5_10 = """MPCapableSYNRX MPCapableACKRX MPCapableFallbackACK MPCapableFallbackSYNACK MPTCPRetrans
    MPJoinNoTokenFound MPJoinSynRx MPJoinSynAckRx MPJoinSynAckHMacFailure MPJoinAckRx MPJoinAckHMacFailure
    DSSNotMatching InfiniteMapRx OFOQueueTail OFOQueue OFOMerge NoDSSInWindow DuplicateData AddAddr EchoAdd
    RmAddr RmSubflow""".split()
#: What 6.18 has and 6.12 lacks, and what 6.12 has and 6.1 lacks (and the other way round).
NEW_IN_6_18 = set("""MPCapableDataFallback MD5SigFallback DssFallback SimultConnectFallback FallbackFailed
    MPJoinRejected WinProbe""".split())
NEW_IN_6_12 = set("""MPCapableSYNTXDrop MPCapableSYNTXDisabled Blackhole MPCurrEstab MPJoinSynTx
    MPJoinSynTxCreatSkErr MPJoinSynTxBindErr MPJoinSynTxConnectErr AddAddrTx AddAddrTxDrop EchoAddTx
    EchoAddTxDrop RmAddrTx RmAddrTxDrop""".split())


def recorded_names():
    """The 76 columns of Linux 6.18."""
    return next(line for line in m.lines(RECORDED) if line.startswith("MPTcpExt:")).split()[1:]


LINUX_6_18 = recorded_names()
LINUX_6_12 = [name for name in LINUX_6_18 if name not in NEW_IN_6_18] + ["RcvPruned"]
LINUX_6_1 = [name for name in LINUX_6_12 if name not in NEW_IN_6_12]


@pytest.fixture
def write(tmp_path):
    """Write a netstat file of these lines behind others; returns its path."""

    def netstat_file(*lines):
        path = tmp_path / "netstat"
        path.write_text(
            "TcpExt: SyncookiesSent\nTcpExt: 0\nIpExt: InNoRoutes\nIpExt: 5\n"
            + "".join(line + "\n" for line in lines)
        )
        return str(path)

    return netstat_file


def table(names):
    """Header and values; each column its own value."""
    return "MPTcpExt: " + " ".join(names), "MPTcpExt: " + " ".join(
        str(number) for number in range(1, len(names) + 1)
    )


@pytest.mark.parametrize(
    "names, how_many", [(LINUX_5_10, 22), (LINUX_6_1, 56), (LINUX_6_12, 70), (LINUX_6_18, 76)]
)
def test_columns_of_each_kernel(write, names, how_many):
    """As many as that kernel has, each with its own value; no others."""
    assert len(names) == how_many
    assert netstat.read(write(*table(names))) == {name: number for number, name in enumerate(names, 1)}


@pytest.mark.parametrize("names", [LINUX_5_10, LINUX_6_1, LINUX_6_12, LINUX_6_18])
def test_metrics_have_values_for_the_columns_that_are_there(write, names):
    """And None, not 0, for the others."""
    row = netstat.read(write(*table(names)))
    for metric in mib.METRICS:
        expected = [
            number for number, name in enumerate(names, 1) if f"mptcp.mib.{name.lower()}" == metric.name
        ]
        assert metric.get(row) == (expected[0] if expected else None)


@pytest.mark.parametrize(
    "host, expected",
    [
        (
            "host-a",
            {"MPCapableSYNTX": 3, "MPJoinSynAckRx": 8, "RcvWndShared": 1277, "MPCurrEstab": 3, "WinProbe": 0},
        )
    ],
)
def test_recorded_file(host, expected):
    """Among all the other lines."""
    found = netstat.read(str(m.DATA / f"proc_net_netstat_{host}.txt"))
    assert len(found) == 76
    assert {name: found[name] for name in expected} == expected


def test_a_column_of_the_future_is_served_under_its_name(write):
    """Through mptcp.mib.other."""
    header, values = table([*LINUX_6_18[:3], "QuantumFallback", *LINUX_6_18[3:]])
    row = netstat.read(write(header, values))
    assert row["QuantumFallback"] == 4
    assert row["MPCapableACKRX"] == 5


def test_big_values(write):
    """64 bits without a sign."""
    assert netstat.read(write("MPTcpExt: AddAddr", f"MPTcpExt: {2**64 - 1}")) == {"AddAddr": 2**64 - 1}


def test_a_kernel_without_mptcp(write):
    """No such lines: nothing there, and no error."""
    assert netstat.read(write()) == {}


@pytest.mark.parametrize(
    "lines",
    [
        ["MPTcpExt: AddAddr"],
        ["MPTcpExt: AddAddr EchoAdd", "MPTcpExt: 1"],
        ["MPTcpExt: AddAddr", "MPTcpExt: 1 2"],
        ["MPTcpExt: AddAddr", "MPTcpExt: 1", "MPTcpExt: 2"],
        ["MPTcpExt: AddAddr", "MPTcpExt: x"],
        ["MPTcpExt: AddAddr", "MPTcpExt: \N{SNOWMAN}"],
    ],
)
def test_lines_that_do_not_fit(write, lines):
    """Rather no value than one under the wrong name."""
    with pytest.raises(ValueError):
        netstat.read(write(*lines))


def test_no_file(tmp_path):
    """Left to the caller, who logs it."""
    with pytest.raises(OSError):
        netstat.read(str(tmp_path / "none"))
