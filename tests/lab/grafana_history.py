# SPDX-License-Identifier: GPL-2.0-or-later
"""The data sources with a memory: PCP Valkey, which asks pmproxy for what is in Redis, and Prometheus."""

import re
import time

from .grafana import NUMBERS, TIME_UNITS, Answer, QueryError, expand, queries
from .services import ServiceError


class Valkey:
    """History: series that pmproxy keeps in Redis."""

    plugin = "performancecopilot-valkey-datasource"

    def __init__(self, pmproxy):
        self._pmproxy = pmproxy

    def ask(self, query):
        """The values of a variable: metrics(PATTERN), label_names(PATTERN), label_values(LABEL); else none."""
        match = re.fullmatch(r"(metrics|label_names|label_values)\(\s*([\w.*]*)\s*\)", query)
        if not match:
            return []
        if match[1] == "label_values":
            return self._pmproxy.json("/series/labels", names=match[2]).get(match[2], [])
        path = "/series/metrics" if match[1] == "metrics" else "/series/labels"
        return self._pmproxy.json(path, match=match[2] or "*")

    def series(self, target, seconds=60, interval=1):
        """{(labels as sorted pairs, instance name): [(time, value)]} of the last seconds, and a bit around them.

        The plugin asks for at least two minutes more, and one after; this would make a test blind for what
        happened before it, so here it is two intervals.
        """
        try:
            ids = self._pmproxy.json("/series/query", expr=target["expr"])
            if not ids:
                raise QueryError(f"cannot find any series for query '{target['expr']}'")
            joined = ",".join(ids)
            descs = {desc["series"]: desc for desc in self._pmproxy.json("/series/descs", series=joined)}
            now = time.time()
            values = self._pmproxy.json("/series/values", series=joined, start=int(now - seconds - 2 * interval),
                                        finish=int(now + interval), interval=interval)
            labels, names = self._labels(descs)
        except ServiceError as error:
            raise QueryError(str(error)) from None
        found = {}
        for value in sorted(values, key=lambda value: value["timestamp"]):
            desc = descs[value["series"]]
            instance = value.get("instance") or None
            key = labels.get(instance or value["series"], ()), names.get((value["series"], instance))
            number = float(value["value"]) if desc["type"] in NUMBERS else value["value"].strip('"')
            found.setdefault((key, value["series"]), []).append((value["timestamp"] / 1000, number))
        options = {"rateConversion": True, "timeUtilizationConversion": True, **target.get("options", {})}
        return {key: _converted(points, descs[series], options) for (key, series), points in found.items()}

    def _labels(self, descs):
        """({id of a series or an instance: its labels as sorted pairs}, {(series, id of an instance): name})."""
        joined = ",".join(series for series, desc in descs.items() if desc["indom"] != "none")
        instances = self._pmproxy.json("/series/instances", series=joined) if joined else []
        names = {(entry["series"], entry["instance"]): entry["name"] for entry in instances}
        wanted = [series for series, desc in descs.items() if desc["indom"] == "none"]
        wanted += [entry["instance"] for entry in instances]
        found = self._pmproxy.json("/series/labels", series=",".join(dict.fromkeys(wanted))) if wanted else []
        return {entry["series"]: tuple(sorted((name, str(text)) for name, text in entry["labels"].items()))
                for entry in found}, names

    def answers(self, dashboard, variables, seconds=60):
        """An answer to each query, the last value of each series; a query that fails, fails alone."""
        found = []
        for panel, target in queries(dashboard, self.plugin):
            answer = Answer(panel, target, expand(target["expr"], variables))
            try:
                for (labels, name), points in self.series(dict(target, expr=answer.expr), seconds).items():
                    if points:
                        answer.values[dict(labels).get("hostname"), name] = points[-1][1]
            except QueryError as error:
                answer.error = str(error)
            found.append(answer)
        return found


def _converted(points, desc, options):
    """Rates of a counter, as the plugin makes them; what goes backwards is left out."""
    if desc["semantics"] != "counter" or not options["rateConversion"]:
        return points
    scale = TIME_UNITS.get(desc["units"], 1) if options["timeUtilizationConversion"] else 1
    return [(time_, (value - earlier) / (time_ - before) / scale)
            for (before, earlier), (time_, value) in zip(points, points[1:]) if value >= earlier and time_ > before]


class Prom:
    """Prometheus' own API."""

    plugin = "prometheus"

    def __init__(self, prometheus):
        self._prometheus = prometheus

    def query(self, expr):
        """[(labels, value)] now."""
        try:
            answer = self._prometheus.json("/api/v1/query", query=expr)
        except ServiceError as error:
            raise QueryError(str(error)) from None
        return [(entry["metric"], float(entry["value"][1])) for entry in answer["data"]["result"]]

    def ask(self, query):
        """The values of a variable: label_values(LABEL) or label_values(SERIES, LABEL)."""
        match = re.fullmatch(r"label_values\((?:(.+),\s*)?(\w+)\)", query)
        if not match:
            return []
        params = {"match[]": match[1]} if match[1] else {}
        return self._prometheus.json(f"/api/v1/label/{match[2]}/values", **params)["data"]

    def answers(self, dashboard, variables):
        """An answer to each query."""
        found = []
        for panel, target in queries(dashboard, self.plugin):
            answer = Answer(panel, target, expand(target["expr"], variables))
            try:
                for labels, value in self.query(answer.expr):
                    legend = re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match, labels=labels: labels.get(match[1], ""),
                                    target.get("legendFormat", ""))
                    answer.values[labels.get("hostname"), labels.get("instname") or legend] = value
            except QueryError as error:
                answer.error = str(error)
            found.append(answer)
        return found
