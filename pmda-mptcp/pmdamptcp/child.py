# SPDX-License-Identifier: GPL-2.0-or-later
"""What each process that the agent forks does first."""

import gc
import os
import signal
import socket
from contextlib import suppress


def begin(name: str, channel: socket.socket) -> None:
    """Be that child from now on, with this name, its channel and the log."""
    gc.freeze()  # to look at the agent's objects would be to copy them
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the agent, and with that it ends
    with suppress(OSError), open("/proc/self/comm", "wb") as file:
        file.write(name.encode())
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor not in (2, channel.fileno()):  # pmcd waits for the agent's to be closed
            with suppress(OSError):
                os.close(descriptor)
