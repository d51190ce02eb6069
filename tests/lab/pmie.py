# SPDX-License-Identifier: GPL-2.0-or-later
"""A real pmie on a host of the lab, with the project's rules as pmieconf makes them."""

import re
import shutil
import subprocess
from pathlib import Path

from .common import LabError, run, wait_for
from .pmcd import REPOSITORY, pcp_conf

RULES = REPOSITORY / "pmda-mptcp" / "etc" / "pmieconf" / "mptcp"
TICK = "tick of the lab"
#: Evaluated together with the slow rules: it tells that pmie is at work, and when.
CANARY = f'\ndelta = {{delta}};\nmptcp.connections >= 0 -> print "{TICK}";\n'


def rules_tree(directory):
    """PCP's own rules and ours in one tree, as they are installed: rules need PCP's global variables."""
    stock = Path(pcp_conf()["PCP_VAR_DIR"]) / "config" / "pmieconf"
    shutil.copytree(stock, directory, ignore=shutil.ignore_patterns("mptcp"))  # of an agent that is installed here
    shutil.copytree(RULES, directory / "mptcp")
    return directory


def pmieconf(tree, config, *commands):
    """Run pmieconf; return what it prints."""
    result = run("pmieconf", "-r", tree, "-f", config, input="\n".join([*commands, "quit"]) + "\n")
    # It goes on after a mistake, with exit status 0.
    if result.stderr.strip():
        raise LabError(f"pmieconf: {result.stderr}")
    return result.stdout


def evaluate(count, *pmies):
    """Wait until all rules of each were evaluated so often; returns just after the last time."""
    wanted = [(one, one.ticks() + count) for one in pmies]
    for one, ticks in wanted:
        try:
            wait_for(lambda one=one, ticks=ticks: one.ticks() >= ticks, interval=0.02, timeout=20)
        except TimeoutError:
            raise LabError(f"pmie evaluates nothing on {one.host.name}:\n{one.log()}") from None


def settle(*pmies):
    """Wait until there is no alert any more."""
    def silent():
        for one in pmies:
            one.forget()
        evaluate(2, *pmies)
        return not any(one.alerts() for one in pmies)
    wait_for(silent, timeout=30, message="alerts do not end")


class Pmie:
    """pmie with all our rules and none of PCP's, evaluated often: alerts() is what it says.

    edit changes the text of the configuration before pmie reads it.
    """

    def __init__(self, host, fast="0.4 sec", slow="0.8 sec", edit=lambda text: text, name="pmie"):
        self.host = host
        directory = host.work / name
        directory.mkdir()
        config, self._out, self._log = (directory / part for part in ("config.pmie", "out", "log"))
        pmieconf(rules_tree(directory / "rules"), config, "disable all", "enable mptcp",
                 "modify global syslog_action no", "modify global user_action yes",
                 f'modify mptcp delta "{fast}"', 'modify mptcp holdoff "0 sec"',
                 *(f'modify mptcp.{rule} delta "{slow}"' for rule in ("fallback", "join_success")))
        config.write_text(edit(config.read_text(encoding="utf-8")) + CANARY.format(delta=slow), encoding="utf-8")
        self._start = 0
        with open(self._out, "w", encoding="utf-8") as out:
            self._process = host.popen("pmie", "-f", "-h", "unix:", "-l", self._log, config,
                                       stdout=out, stderr=subprocess.STDOUT)
        evaluate(1, self)

    def _lines(self):
        return self._out.read_text(encoding="utf-8").splitlines()[self._start:]

    def log(self):
        """What pmie itself had to say."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def alerts(self):
        """What the rules said since forget(), each line once."""
        return sorted({line for line in self._lines() if TICK not in line})

    def forget(self):
        """Look only at what comes from now on."""
        self._start += len(self._lines())

    def ticks(self):
        """How often all rules were evaluated since forget()."""
        return sum(TICK in line for line in self._lines())

    def says(self, text, timeout=15):
        """Wait for this alert, a regular expression for the whole line."""
        try:
            wait_for(lambda: any(re.fullmatch(text, line) for line in self.alerts()), timeout=timeout, interval=0.05)
        except TimeoutError:
            raise AssertionError(f"{self.host.name}: no alert {text!r}, but {self.alerts()}") from None
        print(f"{self.host.name}: {self.alerts()}")

    def close(self):
        """End it."""
        self.host.stop(self._process)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()
