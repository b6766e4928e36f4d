"""The dashboards in Grafana's format: `python -m ops.grafana.dashboards` writes them beside it.

Grafana takes each by Dashboards > New > Import, or from a folder that it is told to provision.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueGraphMode, BigValueTextMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableRefresh,
)

from ops.grafana.acceptance_board import ACCEPTANCE
from ops.grafana.bridge_board import BRIDGE
from ops.grafana.panels import Board, Line, Panel
from ops.grafana.trading_board import TRADING

BOARDS: Final = (BRIDGE, TRADING, ACCEPTANCE)
FOLDER = Path(__file__).parent
COLUMNS, HEIGHT, HEIGHT_OF_NUMBERS = 24, 8, 4
MARK_COLORS = ("red", "blue")
SOURCE = DataSourceRef("prometheus", "${source}")
# Where a service has it. A browser opens no file from a page: a team writes its own address there.
RUNBOOK = "file:///opt/nautilus-redis-bridge/current/ops/RUNBOOK.md"
BUILDERS: dict[str, Callable[[], Any]] = {
    "lines": lambda: timeseries.Panel().line_width(1).fill_opacity(10),
    "timeline": lambda: statetimeline.Panel().line_width(0).fill_opacity(70),
    "number": lambda: stat.Panel().graph_mode(BigValueGraphMode.NONE),
    "name": lambda: (
        stat.Panel().graph_mode(BigValueGraphMode.NONE).text_mode(BigValueTextMode.NAME)
    ),
}
NUMBERS = ("number", "name")


def make(board: Board) -> dashboard.Dashboard:
    """Return the builder of a dashboard."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .tags(["nautilus"])
        .time(board.since, "now")
        .refresh(board.refresh)
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("source").type("prometheus"))
        .link(_boards())
        .link(_link("Runbook", "${runbook:raw}"))
    )
    if any("$role" in query for panel in _panels(board) for query, _ in panel.queries):
        made.with_variable(_roles())
    made.with_variable(dashboard.TextBoxVariable("runbook").label("Runbook").default_value(RUNBOOK))
    for (name, query), color in zip(board.marks.items(), MARK_COLORS, strict=False):
        mark = dashboard.AnnotationQuery().name(name).datasource(SOURCE)
        made.annotation(mark.expr(query).icon_color(color))
    number = 0
    for title, lines in board.rows.items():
        made.with_row(dashboard.Row(title).id(number := number + 1))
        for line in lines:
            for panel in line:
                made.with_panel(_panel(panel, line).id(number := number + 1))
    return made


def text(board: Board) -> str:
    """Return what the file of a dashboard contains."""
    plain = json.loads(json.dumps(make(board).build(), cls=JSONEncoder))
    return json.dumps(without_nulls(plain), indent=1) + "\n"


def anchor(title: str) -> str:
    """Return where a section of the runbook is, as GitHub and its like call it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _panels(board: Board) -> Iterator[Panel]:
    for lines in board.rows.values():
        for line in lines:
            yield from line


def _boards() -> dashboard.DashboardLink:
    made = dashboard.DashboardLink("Nautilus").type(DashboardLinkType.DASHBOARDS)
    return made.tags(["nautilus"]).keep_time(True).include_vars(True)


def _link(title: str, url: str) -> dashboard.DashboardLink:
    made = dashboard.DashboardLink(title).type(DashboardLinkType.LINK)
    return made.url(url).target_blank(True)


def _roles() -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable("role")
        .label("Role")
        .datasource(SOURCE)
        .query('label_values(up{job="nautilus-bridge"}, role)')
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
    )


def _panel(panel: Panel, line: Line) -> Any:
    is_low = all(each.kind in NUMBERS for each in line)
    made = BUILDERS[panel.kind]().title(panel.title).description(panel.about)
    made.datasource(SOURCE).unit(panel.unit)
    made.height(HEIGHT_OF_NUMBERS if is_low else HEIGHT).span(COLUMNS // len(line))
    for ref, (query, legend) in zip("ABCDEFGH", panel.queries, strict=False):
        asked = Dataquery().expr(query).legend_format(legend).ref_id(ref).datasource(SOURCE)
        made.with_target(asked.instant() if panel.kind in NUMBERS else asked.range())
    if panel.kind in NUMBERS:
        made.graph_mode(BigValueGraphMode.NONE).thresholds(_thresholds(panel.bad_from))
    if panel.words:
        shown = {
            str(i): ValueMappingResult(text=word, color=color, index=i)
            for i, (word, color) in enumerate(panel.words)
        }
        made.mappings([ValueMap(options=shown)])
    if panel.nothing:
        made.no_value(panel.nothing)
    if panel.runbook:
        url = "${runbook:raw}#"
        made.links([_link(f"Runbook: {each}", url + anchor(each)) for each in panel.runbook])
    return made


def _thresholds(bad_from: float | None) -> dashboard.ThresholdsConfig:
    """Return the colors of a number; without any Grafana makes it red from 80 on."""
    steps = [Threshold(color="blue")]
    if bad_from is not None:
        steps = [Threshold(color="green"), Threshold(bad_from, "red")]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def without_nulls(value: Any) -> Any:
    """Grafana takes a null for a setting; what is absent has its default."""
    if isinstance(value, dict):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


if __name__ == "__main__":
    for board in BOARDS:
        (FOLDER / f"{board.uid}.json").write_text(text(board))
