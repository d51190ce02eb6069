# SPDX-License-Identifier: GPL-2.0-or-later
"""Hostile input for every decoder: python3 -m tests.fuzz --help, and docs/robustness.md."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "pmda-mptcp"))
