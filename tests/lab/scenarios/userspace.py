# SPDX-License-Identifier: GPL-2.0-or-later
"""mptcpd, the path manager outside of the kernel, on a host of the lab.

    use_userspace(host)             # the kernel opens no subflows of its own any more
    with Mptcpd(host):              # with the plugin of mesh.c: a subflow for each address
        ...
    with Mptcpd(host, "addr_adv", flags="subflow"):    # mptcpd's own: endpoints and limits in the kernel
        ...
"""

import glob
import os
from pathlib import Path

from ..common import LabError, run, wait_for

MESH = Path(__file__).with_name("mesh.c")
PROGRAMS = ("/usr/libexec/mptcpd", "/usr/lib/mptcpd/mptcpd")
PLUGINS = ("/usr/lib/*/mptcpd/addr_adv.so", "/usr/lib64/mptcpd/addr_adv.so")
HEADERS = ("/usr/include/mptcpd/plugin.h", "/usr/include/ell/queue.h")


def _first(*patterns):
    return next((path for pattern in patterns for path in glob.glob(pattern)), None)


def missing():
    """What mptcpd needs and this machine lacks, as sentences."""
    problems = []
    if not _first(*PROGRAMS):
        problems.append("mptcpd is missing: Debian package mptcpd")
    if not _first(*PLUGINS):
        problems.append("mptcpd's plugins are missing: Debian package mptcpd-plugins")
    if not all(map(os.path.exists, HEADERS)):
        problems.append("headers are missing: Debian packages libmptcpd3-dev and libell-dev")
    return problems


def use_userspace(host, userspace=True):
    """Leave the paths of new connections to user space, or give them back to the kernel."""
    host.sysctl("net.mptcp.pm_type", int(userspace))


def build_mesh(directory):
    """Compile mesh.c; return the directory of the plugin."""
    plugin = Path(directory) / "mesh.so"
    if not plugin.exists():
        run("cc", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-o", plugin, MESH, "-lmptcpd", "-lell")
    return plugin.parent


class Mptcpd:
    """mptcpd with one plugin, in the foreground; flags are those that addr_adv gives to its endpoints."""

    def __init__(self, host, plugin="mesh", flags=None):
        self.host, self.plugin, self.flags = host, plugin, flags
        self.log_file = host.work / f"mptcpd-{plugin}.log"
        self.process = None

    def start(self):
        """Start it; return when it has found the kernel's path manager."""
        directory = build_mesh(self.host.work) if self.plugin == "mesh" else os.path.dirname(_first(*PLUGINS))
        options = [f"--plugin-dir={directory}", f"--path-manager={self.plugin}", f"--load-plugins={self.plugin}",
                   "--notify-flags=existing,skip_link_local,skip_loopback", "--log=stderr", "--debug"]
        if self.flags:
            options.append(f"--addr-flags={self.flags}")
        with open(self.log_file, "w", encoding="utf-8") as log:
            self.process = self.host.popen(_first(*PROGRAMS), *options, stdout=log, stderr=log)
        wait_for(self._ready, interval=0.05, message=lambda: f"mptcpd does not start: {self.log()}")
        return self

    def _ready(self):
        if self.process.poll() is not None:
            raise LabError(f"mptcpd: {self.log()}")
        return "family appeared" in self.log()

    def log(self):
        """What it said."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def stop(self):
        """End it; what it made stays."""
        self.host.stop(self.process)

    def __enter__(self):
        return self.start()

    def __exit__(self, *unused):
        self.stop()
