# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes the dashboards: one module for each, `look` has what they share."""
