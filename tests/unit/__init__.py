# SPDX-License-Identifier: GPL-2.0-or-later
"""Unit tests: recorded and reshaped bytes in, values out; no root, no network."""
