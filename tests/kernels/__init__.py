# SPDX-License-Identifier: GPL-2.0-or-later
"""The core of the lab on this kernel, on an older one when tests/kernels/run boots it."""
