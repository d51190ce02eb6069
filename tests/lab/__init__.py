# SPDX-License-Identifier: GPL-2.0-or-later
"""Two hosts in network namespaces with real MPTCP between them.

    with Lab(rate="50mbit", delay_ms=5, links=3) as lab:
        lab.tutorial()
        lab.client.start_pcp()
        traffic = lab.iperf3(seconds=10)
        print(lab.client.pminfo("network.interface.in.bytes"))

Needs root and a kernel with MPTCP; everything is removed at the end.
Run "sudo python3 tests/lab" to watch it.
"""

from .common import LabError, Terminated, missing, wait_for
from .hosts import Host
from .lab import Lab, cleanup

__all__ = ["Host", "Lab", "LabError", "Terminated", "cleanup", "missing", "wait_for"]
