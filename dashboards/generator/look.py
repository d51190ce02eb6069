# SPDX-License-Identifier: GPL-2.0-or-later
"""What all dashboards share: colours, panels with sane defaults, links, layout.

A panel gets its data source from its queries, so that the dashboards of all
data sources look the same.  The builders of the SDK are used everywhere but
for the ids of panels, which the SDK leaves out.
"""

import json
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from grafana_foundation_sdk.builders import common, dashboard, stat as stat_, table as table_, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync, DashboardLinkType, DataTransformerConfig, DynamicConfigValue, FieldColorModeId,
    Threshold, ThresholdsMode, ValueMap, ValueMappingResult)

TAG = "mptcp"
GOOD, WARN, BAD, NOTE, IDLE = "green", "orange", "red", "blue", "#6E7178"

#: Kinds of interfaces by the start of their names, which legends start with, and their colours.  Interfaces of one
#: kind differ in tone, by the first digit in their names, so that each has the same colour in all panels.
KINDS = (
    ("^wl", "blue"),  # Wi-Fi
    ("^(en|eth)", "yellow"),  # Ethernet
    ("^(ww|usb)", "purple"),  # mobile
    ("^lo( |$)", "#808080"),
)
TONES = (("[258]", "light-"), ("[369]", "dark-"))

#: Legends that end so are what the whole device carries, drawn behind the MPTCP part of it.
DEVICE = " device"

#: How the second thing about an interface is told from the first, by the end of its legend.
SUFFIXES: Sequence[Tuple[str, Sequence[Tuple[str, Any]]]] = (
    (DEVICE, [("custom.lineStyle", {"fill": "dash", "dash": [6, 6]}), ("custom.lineWidth", 1),
              ("custom.fillOpacity", 0), ("custom.hideFrom", {"legend": True, "tooltip": False, "viz": False})]),
    (" out", [("custom.lineStyle", {"fill": "dash", "dash": [12, 6]}), ("custom.fillOpacity", 0)]),
    (" backup", [("custom.lineStyle", {"fill": "dot", "dash": [0, 8]}), ("custom.fillOpacity", 0)]),
    (" stalled", [("color", {"mode": "fixed", "fixedColor": "red"})]),
    (" closed", [("color", {"mode": "fixed", "fixedColor": "red"})]),
)

#: All refresh intervals offered are shorter than the silence that breaks a line (milliseconds).
REFRESH, REFRESHES, SILENCE = "2s", ["1s", "2s", "5s"], 7000

#: Where the first colour of a tile begins: below it is the colour of no value, which is not a good one.
LOWEST = -1e15

#: What an axis shows at the least, so that nothing but zeros does not look like a range of 0 to 100.
SMALLEST = {"short": 1, "none": 1, "percentunit": 0.1, "bps": 1000, "cps": 1, "pps": 1}

Steps = Sequence[Tuple[Optional[float], str]]  # (from, colour), the first one from None
Words = Dict[str, Tuple[str, str]]  # a value as text: (what is shown, colour)
Properties = Sequence[Tuple[str, Any]]  # of an override: (id, value)


class Section(NamedTuple):
    """A row of the dashboard: its title and its panels, from left to right."""

    title: str
    panels: List[Any]


def properties(pairs: Properties) -> List[DynamicConfigValue]:
    return [DynamicConfigValue(id_val=name, value=value) for name, value in pairs]


def steps(points: Steps) -> Any:
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(
        [Threshold(value=value, color=colour) for value, colour in points])


def words(mapping: Words) -> List[ValueMap]:
    return [ValueMap(options={value: ValueMappingResult(text=text, color=colour or None, index=place)
                              for place, (value, (text, colour)) in enumerate(mapping.items())})]


def transformation(name: str, **settings: Any) -> DataTransformerConfig:
    return DataTransformerConfig(id_val=name, options=settings)


def _panel(panel: Any, title: str, description: str, unit: str, queries: Sequence[Any], width: int, height: int) -> Any:
    """What every panel has; its queries get their letters here."""
    panel.title(title).description(description).unit(unit).span(width).height(height)
    panel.datasource(queries[0].datasource)
    for letter, query in zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", queries):
        panel.with_target(query.named(letter))
    return panel


def _fixed(colour: str) -> List[DynamicConfigValue]:
    return properties([("color", {"mode": "fixed", "fixedColor": colour})])


def _colours(panel: Any, fixed: Dict[str, str]) -> None:
    for pattern, colour in KINDS:
        panel.override_by_regexp(f"/{pattern}/", _fixed(colour))
        for digits, tone in TONES if not colour.startswith("#") else ():
            panel.override_by_regexp(f"/{pattern}\\D*{digits}/", _fixed(tone + colour))
    for name, colour in fixed.items():
        panel.override_by_name(name, _fixed(colour))


def series(title: str, description: str, unit: str, queries: Sequence[Any], *, width: int = 12, height: int = 8,
           stack: str = "none", style: str = "line", legend: str = "table", minimum: Optional[float] = 0,
           maximum: Optional[float] = None, limits: Steps = (), fixed: Optional[Dict[str, str]] = None,
           silence: float = SILENCE, absent: str = "") -> Any:
    """Lines over time.  `stack`: none, normal, percent; `style`: line, steps, bars; `legend`: table, list;
    `limits` are drawn as dashed lines; `fixed` gives a colour to a legend; `silence` in ms breaks a line;
    `absent` is what an empty panel says."""
    panel = _panel(timeseries.Panel(), title, description, unit, queries, width, height)
    panel.tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI)
                  .sort(options.SortOrder.DESCENDING))
    calcs = ["sum"] if style == "bars" else ["mean", "max"] if legend == "table" else []
    shape = "list" if style == "bars" else legend  # many counters, most of them at 0: the list takes less room
    panel.legend(common.VizLegendOptions().display_mode(options.LegendDisplayMode(shape)).show_legend(True)
                 .placement(options.LegendPlacement.BOTTOM).calcs(calcs))
    panel.draw_style(options.GraphDrawStyle("bars" if style == "bars" else "line"))
    panel.line_interpolation(options.LineInterpolation("stepAfter" if style == "steps" else "linear"))
    panel.line_width(0 if style == "bars" else 1 if stack != "none" else 2)
    panel.fill_opacity(60 if style == "bars" or stack != "none" else 12)
    panel.show_points(options.VisibilityMode.AUTO).point_size(4).insert_nulls(silence).span_nulls(False)
    panel.stacking(common.StackingConfig().mode(options.StackingMode(stack)).group("A"))
    panel.color_scheme(dashboard.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC))
    if absent:
        panel.no_value(absent)
    if unit in SMALLEST:
        panel.axis_soft_max(SMALLEST[unit])
    if minimum is not None:
        panel.min(minimum)
    if maximum is not None:
        panel.max(maximum)
    panel.thresholds(steps(limits or [(None, GOOD)]))
    panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(
        options.GraphThresholdsStyleMode("dashed" if limits else "off")))
    _colours(panel, fixed or {})
    for suffix, pairs in SUFFIXES:
        if any(query.legend == "$instance" + suffix for query in queries):
            panel.override_by_regexp(f"/{suffix}$/", properties(pairs))
    return panel


def stat(title: str, description: str, unit: str, queries: Sequence[Any], limits: Steps, *, width: int = 4,
         height: int = 4, calc: str = "lastNotNull", mapping: Optional[Words] = None, absent: str = "No data",
         missing: str = IDLE, fields: str = "", size: int = 0, names: bool = False) -> Any:
    """Large numbers, one for each column or series.  `absent` and `missing` are text and colour without a value;
    `fields`: a regexp of what is shown, for text."""
    panel = _panel(stat_.Panel(), title, description, unit, queries, width, height)
    panel.reduce_options(common.ReduceDataOptions().calcs([calc]).fields(fields).values(False))
    panel.color_mode(options.BigValueColorMode.BACKGROUND).graph_mode(options.BigValueGraphMode.NONE)
    panel.text_mode(options.BigValueTextMode.VALUE_AND_NAME if names else options.BigValueTextMode.VALUE)
    if size:
        panel.text(common.VizTextDisplayOptions().value_size(size).title_size(size))
    panel.color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
    (_, first), *others = limits
    panel.thresholds(steps([(None, missing), (LOWEST, first), *others])).no_value(absent)
    return panel.mappings(words(mapping)) if mapping else panel


def column(name: str, *pairs: Tuple[str, Any], unit: str = "", width: int = 0) -> Tuple[str, Properties]:
    """What a column of a table has of its own: (its head, properties)."""
    more = [("unit", unit)] if unit else []
    return name, [*pairs, *more, *([("custom.width", width)] if width else [])]


def coloured(limits: Steps, kind: str = "color-background") -> Properties:
    """A cell that is coloured by its value."""
    return (("thresholds", {"mode": "absolute", "steps": [{"value": value, "color": colour}
                                                          for value, colour in limits]}),
            ("custom.cellOptions", {"type": kind, "mode": "basic"}), ("color", {"mode": "thresholds"}))


def worded(mapping: Words) -> Properties:
    """A cell that shows words for values."""
    return ("mappings", words(mapping)), ("custom.cellOptions", {"type": "color-text"})


def linked(title: str, url: str) -> Tuple[str, Any]:
    """A cell that leads to another dashboard."""
    return "links", [{"title": title, "url": url, "targetBlank": False}]


def table(title: str, description: str, queries: Sequence[Any], columns: Sequence[Tuple[str, Properties]] = (), *,
          unit: str = "short", width: int = 24, height: int = 8, sort: str = "", absent: str = "-") -> Any:
    """A row for each instance, a column for each query."""
    panel = _panel(table_.Panel(), title, description, unit, queries, width, height)
    panel.no_value(absent).thresholds(steps([(None, GOOD)])).show_header(True).min_width(60)
    panel.cell_height(options.TableCellHeight.SM).align(options.FieldTextAlignment.AUTO)
    for name, pairs in columns:
        panel.override_by_name(name, properties(pairs))
    if sort:
        panel.sort_by([common.TableSortByFieldState().display_name(sort.lstrip("-")).desc(sort.startswith("-"))])
    return panel


def _links() -> Any:
    return (dashboard.DashboardLink("MPTCP dashboards").type(DashboardLinkType.DASHBOARDS).tags([TAG]).as_dropdown(True)
            .icon("external link").tooltip("").url("").keep_time(True).include_vars(True).target_blank(False))


def board(uid: str, title: str, description: str, tags: Sequence[str], variables: Sequence[Any],
          sections: Sequence[Section], *, refresh: str = REFRESH, since: str = "now-5m",
          refreshes: Sequence[str] = tuple(REFRESHES)) -> Dict[str, Any]:
    """The dashboard as Grafana reads it."""
    made = (dashboard.Dashboard(title).uid(uid).description(description).tags([*tags, TAG]).readonly()
            .refresh(refresh).time(since, "now").timezone("browser").tooltip(DashboardCursorSync.CROSSHAIR)
            .timepicker(dashboard.TimePicker().refresh_intervals(list(refreshes))).link(_links()))
    for variable in variables:
        made.with_variable(variable)
    for section in sections:
        if section.title:
            made.with_row(dashboard.Row(section.title))
        for panel in section.panels:
            made.with_panel(panel)
    found: Dict[str, Any] = json.loads(json.dumps(made.build(), cls=JSONEncoder))
    for number, panel in enumerate(found["panels"], 1):
        panel["id"] = number
    return found


def text_of(found: Dict[str, Any]) -> str:
    """As it is committed."""
    return json.dumps(found, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
