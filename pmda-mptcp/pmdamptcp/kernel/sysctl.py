# SPDX-License-Identifier: GPL-2.0-or-later
"""The settings under net.mptcp (Documentation/networking/mptcp-sysctl.rst)."""

import os
from typing import Dict

PATH = "/proc/sys/net/mptcp"


def read(path: str = PATH) -> Dict[str, str]:
    """Setting -> text, for every setting that this kernel has and that can be read.

    Raises OSError when there is no such directory: a kernel without MPTCP.
    """
    settings = {}
    for name in sorted(os.listdir(path)):
        try:
            with open(os.path.join(path, name), encoding="utf-8", errors="replace") as file:
                settings[name] = " ".join(file.read().replace("\0", " ").split())
        except OSError:
            continue  # write-only or gone: absent, as if the kernel had none
    return settings
