# SPDX-License-Identifier: GPL-2.0-or-later
"""Multipath TCP metrics for Performance Co-Pilot.

Data flows one way: kernel readers -> records -> ledger -> snapshot ->
metric tables -> agent.
"""
