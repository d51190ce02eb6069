# SPDX-License-Identifier: GPL-2.0-or-later
"""Inputs that went wrong once, by target: what each did to the agent."""

FOUND = (
    # A layout was used for a message whose attributes are elsewhere: of two of a type only the last was proven.
    ("events", ""),
)
