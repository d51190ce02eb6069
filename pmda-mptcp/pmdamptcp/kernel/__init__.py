# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel readers: one file per interface, bytes in, records out, no PCP."""
