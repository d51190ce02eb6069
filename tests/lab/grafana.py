# SPDX-License-Identifier: GPL-2.0-or-later
"""Asks a dashboard's queries the way Grafana's data sources do, each with the requests of the real plugin."""

import contextlib
import hashlib
import json
import re
import time
from dataclasses import dataclass, field

from .services import ServiceError

PLAIN_NAME = re.compile(r"[a-zA-Z]\w*(?:\.[a-zA-Z]\w+)*")
VARIABLE = re.compile(r"\$\{(\w+)(?::(\w+))?\}|\[\[(\w+)\]\]|\$(\w+)")
JOIN = {"pipe": "|".join, "csv": ",".join,
        "regex": lambda values: f"({'|'.join(map(re.escape, values))})" if len(values) > 1 else re.escape(values[0]),
        None: lambda values: f"{{{','.join(values)}}}" if len(values) > 1 else values[0]}
TIME_UNITS = {"nanosec": 1e9, "microsec": 1e6, "millisec": 1e3}
NUMBERS = {"32", "u32", "64", "u64", "float", "double"}


class QueryError(Exception):
    """What a panel would show instead of data."""


@dataclass
class Answer:
    """What one query of a panel brought: values by (host, instance), or an error."""
    panel: dict
    target: dict
    expr: str
    values: dict = field(default_factory=dict)
    error: str = ""

    def __str__(self):
        return f"{self.panel['title']!r} {self.target.get('refId')}: {self.expr}: {self.error or self.values}"


def load(path):
    """A dashboard from its file."""
    return json.loads(path.read_text(encoding="utf-8"))


def panels(dashboard):
    """All panels that ask for data, also those in rows."""
    for panel in dashboard["panels"]:
        yield from panels(panel) if panel["type"] == "row" and panel.get("panels") else ()
        if panel.get("targets"):
            yield panel


def queries(dashboard, plugin):
    """(panel, target) of the data source of this plugin."""
    for panel in panels(dashboard):
        for target in panel["targets"]:
            source = target.get("datasource") or panel.get("datasource") or {}
            if source.get("type") == plugin and not target.get("hide") and target.get("expr"):
                yield panel, target


def expand(text, variables):
    """Put in the values of variables, {name: [values]}; what is no variable stays, as in Grafana."""
    def value(match):
        name = match[1] or match[3] or match[4]
        return JOIN[match[2]](variables[name]) if variables.get(name) else match[0]
    return VARIABLE.sub(value, text)


def resolve(dashboard, ask, prefer=(), lenient=False):
    """The values of the variables, {name: [values]}: All where that is offered, else what is preferred, or the first.

    ask(query) is what the data source answers to the query of a variable.  lenient: one without values is no error.
    """
    found = {}
    for variable in dashboard.get("templating", {}).get("list", ()):
        kind, name = variable["type"], variable["name"]
        if kind == "query":
            query = variable["query"]
            query = query if isinstance(query, str) else query.get("query", "")
            try:
                offered = _matching(ask(expand(query, found)), variable.get("regex", ""))
            except QueryError:
                offered = []
            if not offered and not lenient:
                raise QueryError(f"variable {name}: {query} has no values")
        elif kind == "custom":
            offered = [option.split(":")[-1].strip() for option in str(variable["query"]).split(",")]
        else:  # datasource, textbox, constant, interval
            offered = [str(variable.get("current", {}).get("value") or variable.get("query") or "")]
        if variable.get("includeAll"):
            found[name] = [variable["allValue"]] if variable.get("allValue") else offered
        elif kind == "query" and offered:
            found[name] = [next((value for value in offered if value in prefer), offered[0])]
        else:
            found[name] = offered[:1]
    return found


def _matching(values, regex):
    """A variable's regex picks values, and may pick a part of each."""
    values = list(dict.fromkeys(str(value) for value in values))
    if not regex:
        return values
    # JavaScript: slashes around it, (?<name>..) without P
    pattern = re.compile(regex.strip("/").replace("(?<value>", "(?P<value>").replace("(?<text>", "(?P<text>"))
    picked = []
    for match in filter(None, map(pattern.search, values)):
        named = match.groupdict()
        picked.append(named.get("value") or (match[1] if match.groups() else match[0]))
    return list(dict.fromkeys(picked))


class Vector:
    """One page of a browser: a context of pmproxy for a host, in which all queries of a dashboard are registered."""

    plugin = "performancecopilot-vector-datasource"

    def __init__(self, pmproxy, hostspec):
        self.hostspec = hostspec
        self._pmproxy = pmproxy
        self._samples = []
        self._open()

    def _open(self):
        found = self._pmproxy.json("/pmapi/context", hostspec=self.hostspec, polltimeout=120)
        self._context = found["context"]
        self._derived, self._metadata, self._instances = {}, {}, {}

    def _get(self, path, **params):
        return self._pmproxy.json(path, context=self._context, **params)

    def register(self, expr):
        """The name of a metric, or that of an expression, which is made a metric of this context."""
        if PLAIN_NAME.fullmatch(expr):
            return expr
        if expr in self._derived:
            return self._derived[expr]
        name = "derived_" + hashlib.md5(expr.encode(), usedforsecurity=False).hexdigest()
        try:
            self._get("/pmapi/derive", name=name, expr=expr)
        except ServiceError as error:
            if "context identifier" in str(error):
                raise
            if "Duplicate per-context derived metric name" not in str(error):
                raise QueryError(str(error)) from None
        self._derived[expr] = name
        return name

    def describe(self, *names):
        """The metadata of the last of these metrics, which are asked for together."""
        wanted = [name for name in dict.fromkeys(names) if name not in self._metadata]
        if wanted:
            try:
                for found in self._get("/pmapi/metric", names=",".join(wanted))["metrics"]:
                    self._metadata[found["name"]] = found if found.get("success", True) else None
            except ServiceError as error:
                if "Unknown metric name" not in str(error):
                    raise
        if not self._metadata.get(names[-1]):
            raise QueryError(f"Cannot find metric {names[-1]}. Please check if the PMDA is enabled.")
        return self._metadata[names[-1]]

    def poll(self, exprs):
        """One fetch of everything, as at each refresh; keeps this and the sample before."""
        try:
            found = self._fetch(exprs)
        except ServiceError as error:
            if "context identifier" not in str(error):
                raise QueryError(str(error)) from None
            self._open()  # it was not used for too long
            found = self._fetch(exprs)
        # Not its own time stamp, which lacks the nanoseconds' leading zeros.
        self._samples = self._samples[-1:] + [(time.monotonic(), {
            entry["name"]: {value["instance"]: value["value"] for value in entry["instances"]} for entry in found})]

    def _fetch(self, exprs):
        names = []
        for expr in exprs:
            with contextlib.suppress(QueryError):  # told to those that ask for it
                names.append(self.register(expr))
        with contextlib.suppress(QueryError):
            self.describe(*names)
        known = [name for name in dict.fromkeys(names) if self._metadata.get(name)]
        return self._get("/pmapi/fetch", names=",".join(known))["values"] if known else []

    def _names(self, name, ids):
        """Names of instances; the instance domain is read again when an unknown one shows."""
        indom = self.describe(name).get("indom")
        known = self._instances.setdefault(indom, {})
        if not set(ids) <= set(known) and indom:
            known.update((entry["instance"], entry["name"])
                         for entry in self._get("/pmapi/indom", name=name)["instances"])
        return {number: known.get(number) for number in ids}

    def ask(self, query):
        """The values of a metric, which is what the query of a variable is."""
        page = Vector(self._pmproxy, self.hostspec)
        page.poll([query])
        return list(page.values({"expr": query}).values())

    def values(self, target):
        """{instance name: value} of the last sample; rates as the options and the metric's semantics say."""
        name = self.register(target["expr"])
        metric = self.describe(name)
        options = {"rateConversion": True, "timeUtilizationConversion": True, **target.get("options", {})}
        now, sample = self._samples[-1]
        current = sample.get(name, {})
        if metric["sem"] == "counter" and target.get("format") != "heatmap" and options["rateConversion"]:
            then, before = self._samples[-2] if len(self._samples) > 1 else (now, {})
            earlier = before.get(name, {})
            current = {number: (value - earlier[number]) / (now - then) for number, value in current.items()
                       if number in earlier and value is not None and value >= (earlier[number] or 0)}
            if options["timeUtilizationConversion"] and metric["units"] in TIME_UNITS:
                current = {number: value / TIME_UNITS[metric["units"]] for number, value in current.items()}
        names = self._names(name, current)
        return {names[number]: value for number, value in current.items() if value is not None}

    def answers(self, dashboard, variables):
        """An answer to each query; a metric that is missing fails all queries of its panel."""
        found = []
        for panel, target in queries(dashboard, self.plugin):
            expr = expand(target["expr"], variables)
            answer = Answer(panel, target, expr)
            try:
                values = self.values(dict(target, expr=expr))
                answer.values = {(self.hostspec, name): value for name, value in values.items()}
            except (QueryError, ServiceError) as error:
                answer.error = str(error)
            found.append(answer)
        for answer in found:
            failed = [other.error for other in found if other.panel is answer.panel and other.error]
            if failed and not answer.error:
                answer.error, answer.values = failed[0], {}
        return found

    def exprs(self, dashboard, variables):
        """What poll() has to fetch for a dashboard."""
        return [expand(target["expr"], variables) for _, target in queries(dashboard, self.plugin)]
