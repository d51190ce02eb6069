# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands and exit status of `pcp mptcp`: see pcp-mptcp(1)."""

import json
import os
import sys
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Sequence

from . import case, checks, overview, tables, text, timeline, why
from .arguments import Arguments, Usage, Wrong
from .sample import Sample, Trouble
from .screen import Quit, Screen
from .source import INTERVAL, Source
from .text import Paint
from .view import View

OK, TROUBLE, FOUND, UNKNOWN = 0, 1, 2, 3
_CHECK_STATUS = {checks.NOTE: OK, checks.WARNING: 1, checks.CRITICAL: 2}


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
    columns: Sequence[text.Column] = ()  # of its table
    once: bool = False  # an interval is how long it looks, not how often it answers


def _overview(view: View, arguments: Arguments, paint: Paint) -> Page:
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
    if arguments.words:
        raise Wrong("check takes no argument, but --only and --ignore")
    findings = checks.check(view, arguments.thresholds, arguments.rules)
    status = max((_CHECK_STATUS[one.level] for one in findings), default=OK)
    found = [[one for one in findings if one.level == level] for level in (checks.CRITICAL, checks.WARNING)]
    counts = [f"{len(found[0])} critical"] * bool(found[0]) + [text.plural(len(found[1]), "warning")] * bool(found[1])
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
                           _connections, columns=tables.CONNECTION_COLUMNS),
    "subflows": Command("a table of subflows", tables.METRICS, _subflows,
                        columns=tables.SUBFLOW_COLUMNS),
    "why": Command("ADDRESS, PORT or CONNECTION: why it has no more paths, step by step", case.METRICS, _why,
                   once=True),
    "check": Command("the health rules, with the exit status of a monitoring plugin", checks.METRICS, _check, False,
                     once=True),
}


EVENTS = "what happened: subflows that came and went, links lost and back, failovers, fallbacks"

_EVENT_COLOURS = {"link_lost": "red", "link_away": "red", "stalled": "red", "blackhole": "red", "link_back": "green",
                  "recovered": "green", "link_down": "yellow", "degraded": "yellow", "fallback": "yellow",
                  "join_failed": "yellow", "gap": "yellow", "agent_restarted": "yellow"}


def _events(source: Source, arguments: Arguments) -> int:
    """Tells what happens as it becomes known; of an archive also a summary."""
    if arguments.words:
        raise Wrong("events takes no argument, but a time window: -S, -T")
    source.choose(timeline.METRICS)
    paint, story = Paint(arguments.colours), timeline.Timeline()
    told: List[timeline.Happening] = []

    def tell(happenings: Sequence[timeline.Happening]) -> None:
        told.extend(happenings)
        for one in happenings:
            if "json" in arguments:
                print(json.dumps({**one._asdict(), "host": source.name}), flush=True)
            else:
                kind = paint(_EVENT_COLOURS.get(one.kind, ""), one.kind.ljust(17))
                print(f"{source.clock(one.time)}  {kind}  {text.printable(one.text)}", flush=True)

    samples = 0
    for sample in _live_records(source) if source.live else source.records():
        samples += sample is not None
        tell(story.take(sample))
    tell(story.end())
    if not samples:
        raise Trouble(f"{source.archive} has no MPTCP values in this time window, it spans: "
                      f"pmdumplog -L {source.archive}")
    if "json" not in arguments:
        print("\n".join(["", *timeline.summary(told)] if told else ["Nothing happened."]))
    return OK


def _live_records(source: Source) -> Iterator[Sample]:
    """Samples of a live host: as many as the options say, else until Ctrl-C."""
    yield source.fetch()
    yield from source.watch(endless=True)


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
            screen.draw([f"{text.printable(self._source.name)}: looking ..."])
            try:
                for before, now in self._endless(screen):
                    view = View(before, now)
                    screen.draw(self._headed(view, self._page(view)))
                    if not self._source.live:
                        screen.pause(self._source.interval or INTERVAL)
            except Quit:
                pass

    def _endless(self, screen: Screen) -> Iterator[Any]:
        while True:
            try:
                yield from self._source.pairs(endless=True)
                screen.pause(86400)  # the end of an archive, until q
            except Trouble as trouble:
                screen.draw([str(trouble), "", "Trying again; q ends."])
                screen.pause(self._source.interval or INTERVAL)

    def _page(self, view: View) -> Page:
        page = self._command.page(view, self._arguments, self._paint)
        self.status = max(self.status, page.status)
        return page

    def _headed(self, view: View, page: Page) -> List[str]:
        if not self._command.headed:
            when = f"{self._source.clock(view.now.time)}  " if self._source.archive and self._many else ""
            return [when + page.lines[0]] + page.lines[1:]
        since = view.now.time - view.before.time if view.before else None
        head = f"{text.printable(self._source.name)}  {self._source.clock(view.now.time)}"
        head += f"  {self._source.archive}" if self._source.archive else ""
        return [self._paint("bold", head) + (f"  rates of {text.span(since)}" if since else "")] + page.lines

    def _wrapped(self, view: View, page: Page) -> Dict[str, Any]:
        return {"host": self._source.name, "time": view.now.time,
                "since": view.before.time if view.before else None,
                self._arguments.command or "overview": page.data}


def _list_rules() -> None:
    for rule in checks.RULES:
        print(f"{rule.name:20}{rule.text}")
    print()
    for name, (value, what) in checks.THRESHOLDS.items():
        print(f"{name + '=' + format(value, 'g'):24}{what}")


def run(argv: Sequence[str]) -> int:
    """Do what the command line says; returns the exit status."""
    arguments = Arguments(argv, {**{name: one.text for name, one in COMMANDS.items()}, "events": EVENTS})
    if "list" in arguments:
        _list_rules()
        return OK
    command = COMMANDS.get(arguments.command, COMMANDS[""])
    if arguments["sort"]:
        tables.column(command.columns, arguments["sort"])
    source = Source(arguments.connect(), arguments.pcp)
    if arguments.command == "events":
        return _events(source, arguments)
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
    failed = UNKNOWN if "check" in sys.argv[1:] else TROUBLE
    sys.stdout.reconfigure(errors="replace")  # type: ignore[attr-defined]
    try:
        status = run(sys.argv)
        sys.stdout.flush()
        return status
    except Usage:
        return failed
    except Trouble as trouble:
        print(f"pcp-mptcp: {text.printable(str(trouble))}", file=sys.stderr)
        return failed
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return _unheard(OK)
    except OSError as error:
        print(f"pcp-mptcp: cannot write: {error.strerror}", file=sys.stderr)
        return _unheard(failed)


def _unheard(status: int) -> int:
    """Nobody takes what is still to be written: lest Python say so at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status
