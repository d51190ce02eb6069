# SPDX-License-Identifier: GPL-2.0-or-later
"""Options, commands and exit status of `pcp mptcp`: see pcp-mptcp(1)."""

import json
import os
import sys
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

from pcp import pmapi

from . import case, checks, overview, tables, text, why
from .sample import Trouble
from .screen import Quit, Screen
from .source import Source
from .text import Paint
from .view import View

OK, TROUBLE, FOUND, UNKNOWN = 0, 1, 2, 3
_CHECK_STATUS = {checks.NOTE: OK, checks.WARNING: 1, checks.CRITICAL: 2}
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


class Wrong(Trouble):
    """The command line makes no sense."""


class Arguments:
    """The command line: PCP's options by its own parser, ours beside it."""

    def __init__(self, argv: Sequence[str]):
        self._given: Dict[str, str] = {}
        self.settings: List[str] = []
        self.pcp = self._options()
        self.context: Optional[pmapi.pmContext] = None
        if {"-?", "--help"} & set(argv):
            pmapi.pmUsageErr().message()
            raise SystemExit(OK)
        self._connect(argv)
        words = self.pcp.pmGetOperands() or []
        self.command = words[0] if words else ""
        self.words: List[str] = list(words[1:])

    def _options(self) -> pmapi.pmOptions:
        options = pmapi.pmOptions("A:a:D:h:O:S:s:T:t:Z:zfrV?", "mptcp [command] [options] [argument...]")
        options.pmSetOptionCallback(self._own)
        options.pmSetLongOptionHeader("Commands")
        for name, command in COMMANDS.items():
            options.pmSetLongOptionText(f"  {(name or '(none)').ljust(22)}{command.text}")
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

    def _connect(self, argv: Sequence[str]) -> None:
        try:
            self.context = pmapi.pmContext.fromOptions(self.pcp, list(argv))
        except pmapi.pmUsageErr as error:
            if self.pcp.pmGetOptionErrors():
                error.message()
                raise SystemExit(TROUBLE) from None
            raise SystemExit(OK) from None  # --version
        except pmapi.pmErr as error:
            self._cannot(error)

    def _cannot(self, error: pmapi.pmErr) -> None:
        words = self.pcp.pmGetOperands() or [""]
        if words[0] not in COMMANDS:
            raise Wrong(_no_command(words[0])) from None
        archives, hosts = self.pcp.pmGetOptionArchives(), self.pcp.pmGetOptionHosts()
        why = error.message().split(" [", 1)[0]
        if archives:
            raise Trouble(f"cannot read the archive {archives[0]}: {why}") from None
        raise Trouble(f"cannot reach pmcd on {hosts[0] if hosts else 'this host'}: {why}; is it running there? "
                      "systemctl start pmcd") from None

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
                raise Wrong(f"--set {setting}: not a number") from None
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


class Page(NamedTuple):
    """What a command says of a view."""

    lines: List[str]
    data: Any
    status: int = OK


class Command(NamedTuple):
    """A command: the metrics that it needs, and what it makes of each view."""

    text: str
    metrics: Sequence[str]
    page: Callable[[View, Arguments, Paint], Page]
    headed: bool = True
    once: bool = False  # an interval is how long it looks, not how often it answers


def _overview(view: View, arguments: Arguments, paint: Paint) -> Page:
    if arguments.words:
        raise Wrong(f"no command {arguments.words[0]}")
    findings = checks.check(view, arguments.thresholds, arguments.rules)
    return Page(overview.lines(view, findings, paint), overview.data(view, findings))


def _connections(view: View, arguments: Arguments, paint: Paint) -> Page:
    tables.known(view, "connections")
    found = tables.connections(view, arguments.filter)
    found = tables.ordered(found, tables.CONNECTION_COLUMNS, arguments["sort"], "reverse" in arguments)
    if len(found) == len(arguments.words) == 1:
        return Page(tables.detail(found[0], paint), tables.data(found))
    lines = text.table(tables.CONNECTION_COLUMNS, found, paint) if found else ["No such connection."]
    return Page(lines, tables.data(found))


def _subflows(view: View, arguments: Arguments, paint: Paint) -> Page:
    tables.known(view, "subflows")
    found = tables.subflows(view, arguments.filter)
    found = tables.ordered(found, tables.SUBFLOW_COLUMNS, arguments["sort"], "reverse" in arguments)
    lines = text.table(tables.SUBFLOW_COLUMNS, found, paint) if found else ["No such subflow."]
    return Page(lines, tables.data(found))


def _check(view: View, arguments: Arguments, paint: Paint) -> Page:
    findings = checks.check(view, arguments.thresholds, arguments.rules)
    status = max((_CHECK_STATUS[one.level] for one in findings), default=OK)
    counts = [f"{len(found)} {level}" for level in (checks.CRITICAL, checks.WARNING)
              for found in [[one for one in findings if one.level == level]] if found]
    head = (f"MPTCP {('OK', 'WARNING', 'CRITICAL')[status]} - {', '.join(counts) or 'nothing is wrong'}, "
            f"{text.plural(view.host('connections'), 'connection')}")
    lines = [f"{one.level.upper()} {one.rule}: {text.printable(one.text)}" for one in findings]
    return Page([head] + lines, {"status": status, "findings": [one._asdict() for one in findings]}, status)


def _why(view: View, arguments: Arguments, paint: Paint) -> Page:
    if len(arguments.words) > 1:
        raise Wrong("why takes one address, port or connection")
    if arguments.words:
        tables.known(view, "connections")
    found = why.diagnose(case.Case(view, (arguments.words or [""])[0]))
    return Page(why.lines(found, paint), why.data(found), OK if found.healthy else FOUND)


COMMANDS = {
    "": Command("one screen: is MPTCP used, over which links, is anything wrong", checks.METRICS, _overview),
    "connections": Command("a table of connections; NAME: one of them, its subflows side by side", tables.METRICS,
                           _connections),
    "subflows": Command("a table of subflows", tables.METRICS, _subflows),
    "why": Command("ADDRESS, PORT or CONNECTION: why it has no more paths, step by step", case.METRICS, _why,
                   once=True),
    "check": Command("the health rules, with the exit status of a monitoring plugin", checks.METRICS, _check, False,
                     once=True),
}


class Printer:
    """Prints pages one after the other, or draws them on one screen."""

    def __init__(self, source: Source, arguments: Arguments, command: Command):
        self._source, self._arguments, self._command = source, arguments, command
        self._paint = Paint(arguments.colours)
        self._many = bool(source.samples or source.interval)
        self.status = OK

    def print(self) -> None:
        """All samples, one below the other."""
        first = True
        for before, now in self._source.pairs():
            view = View(before, now)
            page = self._page(view)
            if "json" in self._arguments:
                print(json.dumps(self._wrapped(view, page), indent=None if self._many else 2), flush=True)
            else:
                print("\n".join(([""] if self._command.headed and not first else []) + self._headed(view, page)),
                      flush=True)
            first = False

    def draw(self) -> None:
        """All samples on the same screen."""
        if not sys.stdout.isatty():
            raise Wrong("--full-screen needs a terminal")
        with Screen() as screen:
            self._source.pause = screen.pause
            try:
                for before, now in self._endless(screen):
                    view = View(before, now)
                    screen.draw(self._headed(view, self._page(view)))
            except Quit:
                pass

    def _endless(self, screen: Screen) -> Iterator[Any]:
        while True:
            try:
                yield from self._source.pairs(endless=True)
                return
            except Trouble as trouble:
                screen.draw([str(trouble), "", "Trying again; q ends."])
                screen.pause(self._source.interval or 2.0)

    def _page(self, view: View) -> Page:
        page = self._command.page(view, self._arguments, self._paint)
        self.status = max(self.status, page.status)
        return page

    def _headed(self, view: View, page: Page) -> List[str]:
        if not self._command.headed:
            return page.lines
        since = view.seconds(next(iter(self._command.metrics)))
        head = f"{self._source.host}  {self._source.clock(view.now.time)}"
        head += f"  {self._source.archive}" if self._source.archive else ""
        return [self._paint("bold", head) + (f"  rates of {text.span(since)}" if since else "")] + page.lines

    def _wrapped(self, view: View, page: Page) -> Dict[str, Any]:
        return {"host": self._source.host, "time": view.now.time,
                "since": view.before.time if view.before else None,
                self._arguments.command or "overview": page.data}


def _no_command(name: str) -> str:
    return f"no command {name}, there are: {', '.join(filter(None, COMMANDS))}"


def _list_rules() -> None:
    for rule in checks.RULES:
        print(f"{rule.name:20}{rule.text}")
    print()
    for name, (value, what) in checks.THRESHOLDS.items():
        print(f"{name + '=' + format(value, 'g'):24}{what}")


def run(argv: Sequence[str]) -> int:
    """Do what the command line says; returns the exit status."""
    arguments = Arguments(argv)
    command = COMMANDS.get(arguments.command)
    if command is None:
        raise Wrong(_no_command(arguments.command))
    if "list" in arguments:
        _list_rules()
        return OK
    source = Source(arguments.context, arguments.pcp)
    source.choose(command.metrics)
    if command.once and source.live:
        source.samples = source.samples or 1
    printer = Printer(source, arguments, command)
    if "full-screen" in arguments:
        printer.draw()
    else:
        printer.print()
    return printer.status


def main() -> int:
    """Entry of pcp-mptcp."""
    try:
        return run(sys.argv)
    except Trouble as trouble:
        print(f"pcp-mptcp: {trouble}", file=sys.stderr)
        return UNKNOWN if "check" in sys.argv[1:] else TROUBLE
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the end
        return OK
