# SPDX-License-Identifier: GPL-2.0-or-later
"""What stands between PCP and Grafana, for real, on a host of the lab: pmproxy, Redis, pmlogger's archives, Prometheus.

All of them listen in the host's network namespace only, and end with the lab.
"""

import contextlib
import ctypes
import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import threading
import urllib.parse
from pathlib import Path

from .common import LabError, wait_for
from .pmcd import pcp_conf

CLONE_NEWNET = 0x40000000
PMPROXY_CONF = """\
[pmproxy]
pcp.enabled = true
http.enabled = true
redis.enabled = {history}
resp.enabled = {history}

[redis]
servers = 127.0.0.1:{redis}

[resp]
servers = 127.0.0.1:{redis}

[pmseries]
enabled = {history}
servers = 127.0.0.1:{redis}

[pmsearch]
enabled = false

[discover]
enabled = {history}
path = {logs}
"""


class ServiceError(LabError):
    """A service said no, or nothing at all; status is that of HTTP, None without an answer."""

    def __init__(self, status, text):
        super().__init__(f"{status or 'no answer'}: {text.strip()}")
        self.status = status


def connect(netns, port, timeout=10):
    """A connection to a port of this network namespace; a socket stays in the one that it was made in."""
    result = []

    def enter():
        try:
            with open(f"/run/netns/{netns}", "rb") as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), f"setns {netns}")
            result.append(socket.create_connection(("127.0.0.1", port), timeout))
        except OSError as error:
            result.append(error)

    thread = threading.Thread(target=enter)  # setns is for one thread, which ends here
    thread.start()
    thread.join()
    if isinstance(result[0], OSError):
        raise result[0]
    return result[0]


class Service:
    """A program on a host that answers on a port."""

    port = 0

    def __init__(self, host, name, argv, env=None):
        self.host = host
        self._connection = None
        self.log = host.work / f"{name}.log"
        with open(self.log, "a", encoding="utf-8") as out:
            self._process = host.popen(*argv, stdout=out, stderr=subprocess.STDOUT, env=dict(host.env, **(env or {})))

        def ready():
            if self._process.poll() is not None:
                raise LabError(f"{name} ended: {self.said()}")
            with contextlib.suppress(OSError):
                return self.answers()

        try:
            wait_for(ready, timeout=20, interval=0.05)
        except BaseException as error:
            self.close()
            raise LabError(f"{host.name}: no {name}: {error}: {self.said()}") from None

    def said(self):
        """The end of its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-2000:]

    def answers(self):
        """Whether it takes connections."""
        connect(self.host.netns, self.port).close()
        return True

    def get(self, path, **params):
        """What it answers to GET, as text."""
        url = path + ("?" + urllib.parse.urlencode(params) if params else "")
        try:
            try:
                status, text = self._request(url)
            except (ConnectionError, http.client.HTTPException):
                if not self._connection:
                    raise
                self._hang_up()  # it has ended an idle connection
                status, text = self._request(url)
        except (OSError, http.client.HTTPException) as error:
            self._hang_up()
            raise ServiceError(None, str(error)) from None
        if status != 200:
            raise ServiceError(status, text)
        return text

    def _request(self, url):
        if not self._connection:
            connection = http.client.HTTPConnection("127.0.0.1", self.port)
            connection.sock = connect(self.host.netns, self.port)
            self._connection = connection
        self._connection.request("GET", url)
        answer = self._connection.getresponse()
        return answer.status, answer.read().decode()

    def _hang_up(self):
        if self._connection:
            self._connection.close()
            self._connection = None

    def json(self, path, **params):
        """What it answers to GET, in JSON."""
        text = self.get(path, **params)
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:  # pmproxy, while an agent starts
            raise ServiceError(200, f"no JSON: ..{text[max(0, error.pos - 150):error.pos + 50]}") from None

    def close(self):
        """End it."""
        self._hang_up()
        self.host.stop(self._process)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


class Redis(Service):
    """A store that keeps nothing on disk."""

    port = 6390

    def __init__(self, host):
        super().__init__(host, "redis", [
            "redis-server", "--port", self.port, "--bind", "127.0.0.1", "--save", "", "--dir", host.work])


class Pmproxy(Service):
    """pmproxy's REST API; with history, it also reads the archives below logs(host) into Redis."""

    port = 44322

    def __init__(self, host, history=False):
        config = host.work / "pmproxy.conf"
        config.write_text(PMPROXY_CONF.format(history=str(history).lower(), redis=Redis.port, logs=logs(host)),
                          encoding="utf-8")
        super().__init__(host, "pmproxy", [
            Path(pcp_conf()["PCP_BINADM_DIR"]) / "pmproxy", "-f", "-A", "-U", "root", *(["-t"] if history else []),
            "-c", config, "-p", self.port, "-i", "127.0.0.1", "-s", host.work / "pmproxy.socket",
            "-l", host.work / "pmproxy.log"], env={"PCP_LOG_DIR": str(logs(host).parent)})


class Prometheus(Service):
    """A server that scrapes what its configuration, a text, says; files are put beside it."""

    port = 9090

    def __init__(self, host, config, **files):
        directory = host.work / "prometheus"
        directory.mkdir(exist_ok=True)
        for name, text in {"prometheus.yml": config, **files}.items():
            (directory / name).write_text(text, encoding="utf-8")
        super().__init__(host, "prometheus-server", [
            "prometheus", f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data",
            f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"])

    def answers(self):
        """Whether it is ready for queries, which is later than it takes connections."""
        with contextlib.suppress(ServiceError):
            return self.get("/-/ready") != ""


@contextlib.contextmanager
def bare_pmcd(host, port=44399):
    """A pmcd without the mptcp agent, on the same host; its host specification is what is returned."""
    work = host.work / "bare"
    work.mkdir()
    # Its line in the configuration, and its dynamic subtree in the name space.
    for name, line in (("pmcd.conf", r"^mptcp\s"), ("root", r"^\s+mptcp\s+\d+:\*:\*$")):
        text = (host.work / name).read_text(encoding="utf-8")
        kept = [part for part in text.splitlines(keepends=True) if not re.search(line, part)]
        (work / name).write_text("".join(kept), encoding="utf-8")
    env = {name: value for name, value in host.env.items() if name not in ("PMCD_SOCKET", "PMNS_DEFAULT")}
    process = host.popen(Path(pcp_conf()["PCP_BINADM_DIR"]) / "pmcd", "-f", "-A", "-U", "root",
                         "-c", work / "pmcd.conf", "-n", work / "root", "-s", work / "pmcd.socket", "-p", port,
                         "-l", work / "pmcd.log", "-x", work / "fatal", stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL, cwd=work, env=env)
    try:
        wait_for(lambda: (work / "pmcd.socket").exists(), message="no second pmcd")
        yield f"pcp://127.0.0.1:{port}"
    finally:
        host.stop(process)


def logs(host):
    """Where the archives are that pmproxy of this host reads."""
    return host.work / "archives" / "pmlogger"


@contextlib.contextmanager
def recorded(host, source, config, spec="unix:"):
    """pmlogger on a host records source (a host, at spec) with this configuration, where host's pmproxy looks."""
    directory = logs(host) / source.name
    directory.mkdir(parents=True, exist_ok=True)
    path = host.work / f"pmlogger-{source.name}.conf"
    path.write_text(config, encoding="utf-8")
    log = path.with_suffix(".log")
    process = host.popen("pmlogger", "-h", spec, "-c", path, "-l", log, directory / "20000101.00.00",
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: process.poll() is not None or list(directory.glob("*.meta")), interval=0.05)
        if process.poll() is not None:
            raise LabError("pmlogger: " + log.read_text(encoding="utf-8", errors="replace"))
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        host.stop(process, grace=10)


def pmlogconf(host, groups, path):
    """The configuration that PCP's own program makes of the groups in this directory."""
    path.unlink(missing_ok=True)
    host.run("pmlogconf", "-c", "-r", "-q", "-h", "unix:", "-d", groups, path)
    return path.read_text(encoding="utf-8")


def missing():
    """What these services lack on this machine, as sentences."""
    wanted = {"redis-server": "redis-server", "prometheus": "prometheus", "promtool": "prometheus"}
    problems = [f"{program} is missing: Debian package {package}" for program, package in wanted.items()
                if not shutil.which(program)]
    if not (Path(pcp_conf()["PCP_BINADM_DIR"]) / "pmproxy").exists():
        problems.append("pmproxy is missing: Debian package pcp")
    return problems
