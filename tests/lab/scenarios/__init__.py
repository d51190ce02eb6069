# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens to MPTCP out there, on the lab: each module has one kind of it, with its use at the top.

walk: links that go and come back under one connection, recorded.
middlebox: boxes on the path that strip, drop or reject what MPTCP needs.
gateway: plain TCP over MPTCP between two gateways.
userspace: mptcpd manages the paths.
counters: which counters of the agent rose, for tests.
"""
