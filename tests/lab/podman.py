# SPDX-License-Identifier: GPL-2.0-or-later
"""Real containers, by podman, without images, network or anything that stays."""

import os
import shutil
import time
from pathlib import Path

from .common import LabError, run

# A cgroup file system of its own: crun refuses the mixture of both versions that some hosts have.
SCRIPT = 'mount -t cgroup2 none /sys/fs/cgroup || exit; exec podman "$@"'


class Podman:
    """An engine with its own storage below a directory."""

    def __init__(self, work):
        self.work = work / "podman"
        self.root = self.work / "root"
        for name in ("bin", "proc", "sys", "dev", "etc", "tmp", "run"):
            (self.root / name).mkdir(parents=True)
        shutil.copy(shutil.which("busybox"), self.root / "bin/sleep")
        #: pmdaroot looks there
        self.env = {"PCP_PODMAN_DATADIR": str(self.work / "storage/vfs-containers"),
                    "PCP_PODMAN_RUNDIR": str(self.work / "run/vfs-containers")}

    def __call__(self, *argv, check=True):
        return run("unshare", "--mount", "sh", "-c", SCRIPT, "podman", "--root", self.work / "storage",
                   "--runroot", self.work / "run", "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs",
                   "--runtime", "crun", "--events-backend", "none", *argv, check=check)

    def start(self, name, *options):
        """Start a container that does nothing; returns its identifier."""
        time.sleep(0.02)  # pmdaroot tells changes of podman's files by their times
        return self("run", "-d", "--name", name, "--network", "none", "--cgroups=disabled", "--log-driver", "none",
                    "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000", *options,
                    "--rootfs", self.root, "/bin/sleep", "900").stdout.strip()

    def pid(self, name):
        """Its process."""
        return int(self("inspect", "-f", "{{.State.Pid}}", name).stdout)

    def remove(self, name):
        """End and forget a container."""
        self("rm", "-f", "-t", "0", name)

    def close(self):
        """Remove all."""
        self("rm", "-f", "-a", "-t", "0", check=False)


def missing():
    """What is missing here, as a sentence, or nothing."""
    programs = [name for name in ("podman", "crun", "busybox") if not shutil.which(name)]
    if programs:
        return f"no {', '.join(programs)}: Debian packages podman, crun, busybox-static"
    if not Path("/usr/lib/pcp/pmdas/root/pmdaroot").exists() and not os.path.exists("/var/lib/pcp/pmdas/root/pmdaroot"):
        raise LabError("PCP without pmdaroot")
    return ""
