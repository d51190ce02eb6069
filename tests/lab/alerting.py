# SPDX-License-Identifier: GPL-2.0-or-later
"""Evaluates alert rules that are provisioned for Grafana, as its server-side expressions do: reduce, then math."""

import re
from statistics import mean

import yaml

REDUCERS = {"last": lambda values: values[-1], "max": max, "min": min, "mean": mean}


def rules(path):
    """The rules of a provisioning file."""
    with open(path, encoding="utf-8") as text:
        return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def firing(rule, source, speed=1):
    """[labels] for which a rule's condition is true; source answers its queries, for time that runs faster."""
    found = {}
    for node in rule["data"]:
        model, name = node["model"], node["refId"]
        assert model["refId"] == name, f"{rule['uid']}: {name}"
        if node["datasourceUid"] != "__expr__":
            seconds = node["relativeTimeRange"]["from"] / speed
            found[name] = source.series(model, seconds, max(1, round(model["intervalMs"] / 1000 / speed)))
        elif model["type"] == "reduce":
            assert model["settings"] == {"mode": "dropNN"}
            reduce = REDUCERS[model["reducer"]]
            found[name] = {labels: reduce([value for _, value in points])
                           for (labels, _), points in found[model["expression"]].items() if points}
        else:
            found[name] = _math(model["expression"], found)
    return [dict(labels) for labels, value in found[rule["condition"]].items() if value]


def _math(expression, found):
    """A formula of numbers, for each set of labels that all of them have."""
    names = re.findall(r"\$(\w+)", expression)
    shared = set.intersection(*(set(found[name]) for name in names))
    code = re.sub(r"\$(\w+)", r"values['\1']", expression).replace("&&", " and ").replace("||", " or ")
    return {labels: eval(code, {"values": {name: found[name][labels] for name in names}}) for labels in shared}
