# SPDX-License-Identifier: GPL-2.0-or-later
"""A private pmcd on a host of the lab, with the mptcp agent.

It has nothing in common with a pmcd of the machine: own configuration, name
space, directories and socket.  Clients reach it by its Unix socket, from any
network namespace.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

from .common import PATIENCE, PYTHON, LabError, run, search_path, wait_for

REPOSITORY = Path(__file__).resolve().parents[2]
AGENT = REPOSITORY / "pmda-mptcp" / "pmdamptcp.python"
DOMAIN = 262

PMCD_CONF = """\
{root}pmcd	2	dso	pmcd_init	{pmdas}/pmcd/pmda_pmcd.so
linux	60	dso	linux_init	{pmdas}/linux/pmda_linux.so
mptcp	{domain}	pipe	binary	{python} {agent} {options}

[access]
allow "local:*" : all;
allow ".*" : fetch;
allow ":*" : fetch;
"""
ROOT = "root\t1\tpipe\tbinary\t{pmdas}/root/pmdaroot\n"


def pcp_conf():
    """The variables of /etc/pcp.conf."""
    variables = {}
    path = os.environ.get("PCP_CONF", "/etc/pcp.conf")
    try:
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                name, equals, value = line.strip().partition("=")
                if equals and not name.startswith("#"):
                    variables[name] = value.strip('"')
    except OSError as error:
        raise LabError(f"{path}: {error.strerror}: is the Debian package pcp installed?") from None
    return variables


class PrivatePcp:
    """The PCP part of a Host."""

    def __init__(self):
        self.agent = AGENT
        self.pmcd = None
        self.pmdaroot = False  # start PCP's pmdaroot, too, which then starts the agents and knows containers
        self.patience = PATIENCE  # seconds that pmcd gives an agent to answer; usual: 5, but this machine may be busy
        self._agent_options = ()
        self._agent_env = {}

    @property
    def pcp_socket(self):
        """The path of pmcd's Unix socket."""
        return self.work / "pmcd.socket"

    def start_pcp(self, agent=None, options=(), env=None):
        """Start pmcd and the agent; return when the agent answers.

        agent is another agent script, for example an installed one; options
        and env (a dict) are given to it.
        """
        if self.pmcd:
            raise LabError(f"{self.name}: PCP is already running")
        self.agent = Path(agent or self.agent).resolve()
        if not self.agent.exists():
            raise LabError(f"the agent {self.agent} does not exist")
        self._agent_options = options
        self._agent_env = dict(env or {})
        self._prepare_pcp()
        self._start_pmcd()

    def _prepare_pcp(self):
        conf = pcp_conf()
        user = conf.get("PCP_USER", "pcp")
        # The agent gives up root, and then writes its log and PCP's caches.
        for name in ("log", "log/pmcd", "run", "tmp", "tmp/pmlogger", "tmp/pmie",
                     "var", "var/config", "var/config/pmda", "var/pmns"):
            directory = self.work / name
            directory.mkdir(exist_ok=True)
            shutil.chown(directory, user, conf.get("PCP_GROUP", "pcp"))
        self.env.update(
            PCP_VAR_DIR=str(self.work / "var"), PCP_TMP_DIR=str(self.work / "tmp"),
            PCP_RUN_DIR=str(self.work / "run"), PCP_LOG_DIR=str(self.work / "log"),
            PMCD_SOCKET=str(self.pcp_socket), PMNS_DEFAULT=str(self.work / "root"),
            # No root-owned __pycache__ in a user's checkout.
            PYTHONDONTWRITEBYTECODE="1")
        (self.work / "pmcd.conf").write_text(PMCD_CONF.format(
            pmdas=conf["PCP_PMDAS_DIR"], domain=DOMAIN,
            root=ROOT.format(pmdas=conf["PCP_PMDAS_DIR"]) if self.pmdaroot else "", python=PYTHON, agent=self.agent,
            options=" ".join(map(str, self._agent_options))), encoding="utf-8")
        self._make_names(conf)

    def _make_names(self, conf):
        """Write the name space: pmcd's, Linux's and the agent's names."""
        own = self.run(PYTHON, self.agent, *self._agent_options,
                       env=dict(self.env, PCP_PYTHON_PMNS="root", **self._agent_env)).stdout
        (self.work / "root_mptcp").write_text(own, encoding="utf-8")
        pmns = Path(conf["PCP_VAR_DIR"]) / "pmns"
        merge = shutil.which("pmnsmerge", path=conf["PCP_BINADM_DIR"] + ":" + search_path())
        if not merge:
            raise LabError("pmnsmerge is missing: Debian package pcp")
        # pmnsmerge reads symbols of numbers from files next to the sources.
        run(merge, "-f", "-a", pmns / "root_pmcd", pmns / "root_linux", self.work / "root_mptcp",
            self.work / "root", cwd=pmns)

    def _start_pmcd(self):
        conf = pcp_conf()
        # -q: patience with agents that start.
        # PCP_BINADM_DIR: pmcd is not in PATH.  -U root: there is no pmdaroot
        # here to start the agent as root, so pmcd itself stays root.
        with open(self.work / "log/pmcd.out", "w", encoding="utf-8") as out:
            self.pmcd = self.popen(
                Path(conf["PCP_BINADM_DIR"]) / "pmcd", "-f", "-A", "-U", "root",
                "-c", self.work / "pmcd.conf", "-n", self.work / "root",
                "-s", self.pcp_socket, "-l", self.work / "log/pmcd.log", "-x", "fatal",
                "-t", self.patience, "-q", PATIENCE,
                stdout=out, stderr=out, cwd=self.work / "log",
                env=dict(self.env, PYTHONWARNINGS="error", **self._agent_env))
        try:
            wait_for(self._pcp_answers, timeout=4 * PATIENCE, interval=0.05)
        except TimeoutError:
            text = self.pmcd_log() + self.agent_log()
            self.stop_pcp()
            raise LabError(f"{self.name}: pmcd or the agent did not start:\n{text}") from None

    def _pcp_answers(self):
        if self.pmcd.poll() is not None:
            raise TimeoutError
        if not self.pcp_socket.exists():
            return False
        # Status 0 is an agent that runs and answered the handshake.
        text = self.pcp("pminfo", "-f", "pmcd.agent.status", check=False).stdout
        return re.search(r'"mptcp"\] value 0$', text, re.MULTILINE) is not None

    def stop_pcp(self):
        """End pmcd and its agents."""
        if self.pmcd:
            self.stop(self.pmcd)
            self.pmcd = None
            with contextlib.suppress(FileNotFoundError):
                self.pcp_socket.unlink()

    def restart_pcp(self):
        """Restart pmcd and the agent with the same settings."""
        self.stop_pcp()
        self._start_pmcd()

    def configure(self, settings):
        """Start PCP anew with these settings in the agent's configuration; "" are the defaults."""
        path = self.work / "mptcp.conf"
        path.write_text("[mptcp]\n" + settings, encoding="utf-8")
        self.stop_pcp()
        self.start_pcp(env={"PMDAMPTCP_CONFIG": str(path)})

    def agent_pid(self, command="pmdamptcp"):
        """The process of the agent; "pmdamptcp-proc": its helper that knows the owners of sockets."""
        children = [self.pmcd.pid]
        for pid in children:  # grows
            children += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split())
        for pid in children:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
            helper = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() == "pmdamptcp-proc"
            if os.fsencode(self.agent) in line.split(b"\0") and helper == (command == "pmdamptcp-proc"):
                return pid
        raise LabError(f"{self.name}: no process {command}")

    def pcp(self, *argv, check=True, timeout=60):
        """Run a PCP client against this host's pmcd: pcp("pminfo", "-f", "mptcp")."""
        # Always -h: without it clients fall back to the machine's own pmcd.
        return self.run(argv[0], "-h", "unix:", *argv[1:], check=check, timeout=timeout)

    def pminfo(self, metric):
        """The values of a metric by instance name (None: no instances)."""
        try:
            import cpmapi
            from pcp import pmapi
        except ImportError:
            raise LabError("this Python has no module pcp: use /usr/bin/python3") from None
        # A context each time, so that a restarted pmcd is no problem.
        context = pmapi.pmContext(cpmapi.PM_CONTEXT_HOST, f"unix:{self.pcp_socket}")
        pmids = context.pmLookupName([metric])
        desc = context.pmLookupDesc(pmids[0])
        kind = desc.contents.type
        result = context.pmFetch(pmids)
        try:
            found = result.contents
            count = found.get_numval(0)
            if count < 0:
                raise pmapi.pmErr(count)
            names = {}
            if count and desc.contents.indom != cpmapi.PM_INDOM_NULL:
                names = dict(zip(*context.pmGetInDom(desc)))
            values = {}
            for i in range(count):
                atom = context.pmExtractValue(found.get_valfmt(0), found.get_vlist(0, i),
                                              kind, kind)
                values[names.get(found.get_inst(0, i))] = atom.dref(kind)
            return values
        finally:
            context.pmFreeResult(result)

    def agent_log(self):
        """The text of the agent's log."""
        return self._logs("mptcp.log")

    def pmcd_log(self):
        """The text of pmcd's log."""
        return self._logs("pmcd.log")

    def _logs(self, name):
        return "".join(path.read_text(encoding="utf-8", errors="replace")
                       for path in sorted((self.work / "log").rglob(name)))

    @contextlib.contextmanager
    def pmlogger(self, config_text, archive, interval="1sec"):
        """Record an archive while the block runs."""
        config = self.work / f"pmlogger-{Path(archive).name}.conf"
        config.write_text(config_text + "\n", encoding="utf-8")
        log = config.with_suffix(".log")
        process = self.popen("pmlogger", "-h", "unix:", "-c", config, "-l", log,
                             "-t", interval, archive,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def recording():
            if process.poll() is not None:
                raise LabError("pmlogger: " + log.read_text(encoding="utf-8", errors="replace"))
            return Path(f"{archive}.meta").exists()

        try:
            wait_for(recording, interval=0.05, message="pmlogger did not start")
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            self.stop(process, grace=10)
