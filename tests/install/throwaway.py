# SPDX-License-Identifier: GPL-2.0-or-later
"""A root to throw away: this host's files with an overlay in memory, and processes and a network of its own.

What is installed, started or broken in it is gone with it, and nothing in it
can reach what runs on the host: PCP's scripts signal every pmcd that they see.
"""
import pathlib
import subprocess
import time

#: What comes and goes with every start of PCP and every use of a package manager.
PASSING = ("/var/lib/dpkg", "/var/lib/rpm", "/var/cache", "/var/log", "/run", "/tmp", "/var/tmp", "/mnt", "/root",
           "/var/lib/pcp/tmp", "/var/lib/pcp/pmns/root", "/var/lib/pcp/pmns/.", "/var/lib/pcp/config/pmda")

BUILD = """
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 throwaway "$1"
cd "$1"
mkdir upper work root
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" root
mount -t proc proc root/proc
mount --rbind /sys root/sys
mount --rbind /dev root/dev
mkdir -p root/mnt/packages root/mnt/source
mount --bind "$2" root/mnt/packages
mount --bind "$3" root/mnt/source
ip link set lo up
rm -f root/run/pcp/*
echo ready
exec chroot root sleep infinity
"""

#: As a package manager's scripts have it, whatever is in the caller's.
ENVIRONMENT = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "HOME=/root", "SYSTEMD_OFFLINE=1",
               "DEBIAN_FRONTEND=noninteractive")


class Root:
    """The root, from construction to `close`."""

    def __init__(self, folder: pathlib.Path, packages: pathlib.Path, source: pathlib.Path):
        self._folder = folder
        # pylint: disable-next=consider-using-with  # lives as long as this object
        self._process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--net", "--uts", "--ipc", "sh", "-c", BUILD,
             "sh", str(folder), str(packages), str(source)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self._process.stdout
        said = self._process.stdout.readline()
        if said != "ready\n":
            said += self._process.stdout.read()
            self.close()
            raise RuntimeError(f"no throw-away root: {said}")
        own = self._process.pid
        self._init = pathlib.Path(f"/proc/{own}/task/{own}/children").read_text(encoding="ascii").strip()

    def close(self):
        """End everything in it."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def run(self, *command, timeout=120):
        """Run a command in it and return it with its output, both streams together."""
        enter = ["nsenter", "-t", self._init, "--mount", "--pid", "--net", "--uts", "--ipc", "--root", "--wd"]
        return subprocess.run([*enter, *ENVIRONMENT, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL, text=True, timeout=timeout, check=False)

    def sh(self, script, status=0, timeout=120):
        """Run a line of shell, which must end with this status; what it said."""
        done = self.run("sh", "-c", script, timeout=timeout)
        assert done.returncode == status, f"{script}: status {done.returncode}\n{done.stdout}"
        return done.stdout

    def path(self, name) -> pathlib.Path:
        """A file of it, seen from outside."""
        return pathlib.Path(f"/proc/{self._init}/root{name}")

    def changed(self):
        """Every file that differs from the host's, came or went, without what passes anyway."""
        found = subprocess.run(["nsenter", "-t", self._init, "--mount", "find", f"{self._folder}/upper",
                                "-not", "-type", "d", "-printf", "/%P\n"],
                               stdout=subprocess.PIPE, text=True, check=True)
        return {name for name in found.stdout.splitlines() if not name.startswith(PASSING) or "mptcp" in name}

    def wait_for(self, script, what, seconds=30):
        """Until a line of shell succeeds."""
        end = time.monotonic() + seconds
        while (done := self.run("sh", "-c", script)).returncode:
            assert time.monotonic() < end, f"{what}: {done.stdout}"
            time.sleep(0.2)
        return done.stdout
