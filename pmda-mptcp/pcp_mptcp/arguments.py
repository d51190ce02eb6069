# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line of `pcp mptcp`: PCP's options by PCP's own parser, ours beside it."""

import os
import sys
from math import inf
from typing import Dict, List, Mapping, NamedTuple, NoReturn, Optional, Sequence, Tuple

import cpmapi
from pcp import pmapi

from . import checks, tables
from .sample import Trouble

_STANDARD = "Align Archive Debug Host Finish Origin Start Samples Interval TimeZone HostZone Container Version Help"


class Option(NamedTuple):
    """An option of our own."""

    name: str
    letter: str
    value: str  # what it takes, "" for nothing
    text: str


OPTIONS = (
    Option("json", "", "", "print JSON, for programs"),
    Option("color", "", "WHEN", "colours: auto, always or never"),
    Option("full-screen", "f", "", "one screen, drawn anew until q is pressed"),
    Option("sort", "", "COLUMN", "order of a table: the largest first"),
    Option("reverse", "r", "", "turn the order round"),
    Option("interface", "", "NAME", "only what uses this interface"),
    Option("address", "", "ADDRESS", "only what has this address at either end"),
    Option("port", "", "PORT", "only what has this port at either end"),
    Option("process", "", "NAME|PID", "only connections of this program or process"),
    Option("only", "", "RULE,...", "check: only these rules"),
    Option("ignore", "", "RULE,...", "check: without these rules"),
    Option("set", "", "NAME=NUMBER", "check: set a threshold; may be repeated"),
    Option("list", "", "", "check: list the rules and thresholds"),
)


class Usage(Exception):
    """PCP's parser has said what is wrong with the command line."""


class Wrong(Trouble):
    """The command line makes no sense."""


class Arguments:
    """The command line: PCP's options by its own parser, ours beside it."""

    def __init__(self, argv: Sequence[str], commands: Mapping[str, str]):
        """`commands`: what each does, in a few words; "" is what no command does."""
        self._commands = commands
        self._given: Dict[str, str] = {}
        self.settings: List[str] = []
        self.pcp = self._options()
        if {"-?", "--help"} & set(argv):
            pmapi.pmUsageErr().message()
            raise SystemExit(0)
        self._parse(list(argv))
        self.command, self.words = self._operands()

    def _options(self) -> pmapi.pmOptions:
        options = pmapi.pmOptions("A:a:D:h:O:S:s:T:t:Z:zfrV?", "mptcp [command] [options] [argument...]")
        options.pmSetOptionCallback(self._own)
        options.pmSetLongOptionHeader("Commands")
        for name, what in self._commands.items():
            options.pmSetLongOptionText(f"  {(name or '(none)').ljust(22)}{what}")
        options.pmSetLongOptionHeader("Options")
        for one in OPTIONS:
            options.pmSetLongOption(one.name, int(bool(one.value)), one.letter, one.value, one.text)
        options.pmSetLongOptionHeader("General options")
        for name in _STANDARD.split():
            getattr(options, "pmSetLongOption" + name)()
        return options

    def _own(self, option: str, value: Optional[str], unused: int) -> None:
        name = next((one.name for one in OPTIONS if option in (one.name, one.letter)), option)
        self._given[name] = value or ""
        if name == "set":
            self.settings.append(value or "")

    def _parse(self, argv: List[str]) -> None:
        if not cpmapi.pmGetOptionsFromList(argv):
            return
        pmapi.pmContext.pmflush()  # what it has to say: what is wrong, or the version
        if self.pcp.pmGetOptionErrors():
            raise Usage
        raise SystemExit(0)

    def connect(self) -> pmapi.pmContext:
        """The host or the archive that the options name; Trouble if there is no getting at it."""
        archives, hosts = self.pcp.pmGetOptionArchives(), self.pcp.pmGetOptionHosts()
        try:
            if archives:
                context = pmapi.pmContext(cpmapi.PM_CONTEXT_ARCHIVE, archives[0])
            else:
                context = pmapi.pmContext(cpmapi.PM_CONTEXT_HOST, hosts[0] if hosts else "local:")
            if cpmapi.pmSetContextOptions(context.ctx, self.pcp.mode, self.pcp.delta):
                pmapi.pmContext.pmflush()
                raise Usage
        except pmapi.pmErr as error:
            self._cannot(error)
        return context

    def _cannot(self, error: pmapi.pmErr) -> NoReturn:
        archives, hosts = self.pcp.pmGetOptionArchives(), self.pcp.pmGetOptionHosts()
        why = error.message().split(" [", 1)[0]
        if archives:
            raise Trouble(f"cannot read the archive {archives[0]}: {why}") from None
        raise Trouble(f"cannot reach pmcd on {hosts[0] if hosts else 'this host'}: {why}; is it running there? "
                      "systemctl start pmcd") from None

    def _operands(self) -> Tuple[str, List[str]]:
        command, *words = self.pcp.pmGetOperands() or [""]
        if command not in self._commands:
            raise Wrong(f"no command {command}, there are: {', '.join(filter(None, self._commands))}")
        return command, words

    def __contains__(self, name: str) -> bool:
        return name in self._given

    def __getitem__(self, name: str) -> str:
        return self._given.get(name, "")

    @property
    def filter(self) -> tables.Filter:
        """Which connections and subflows are asked for."""
        port = self["port"]
        if port and not (port.isdigit() and 0 < int(port) < 65536):
            raise Wrong(f"--port {port}: not a port number")
        return tables.Filter(self["interface"], self["address"], int(port or 0), self["process"], tuple(self.words))

    @property
    def colours(self) -> bool:
        """Are colours wanted?"""
        when = self["color"] or "auto"
        if when not in ("auto", "always", "never"):
            raise Wrong(f"--color {when}: one of auto, always, never")
        return when == "always" or (when == "auto" and sys.stdout.isatty() and "NO_COLOR" not in os.environ)

    @property
    def thresholds(self) -> checks.Thresholds:
        """Those of --set."""
        found = {}
        for setting in self.settings:
            name, _, value = setting.partition("=")
            if name not in checks.THRESHOLDS:
                raise Wrong(f"--set {setting}: no such threshold, there are: {', '.join(checks.THRESHOLDS)}")
            try:
                found[name] = float(value)
            except ValueError:
                found[name] = -1.0
            if not 0 <= found[name] < inf:
                raise Wrong(f"--set {setting}: not a number of 0 or more")
        return found

    @property
    def rules(self) -> Sequence[checks.Rule]:
        """Those of --only and --ignore."""
        known = {rule.name: rule for rule in checks.RULES}
        only, ignore = ([one for one in self[name].split(",") if one] for name in ("only", "ignore"))
        for name in only + ignore:
            if name not in known:
                raise Wrong(f"no rule {name}, there are: {', '.join(known)}")
        return [rule for name, rule in known.items() if (name in only or not only) and name not in ignore]
