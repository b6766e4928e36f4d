"""The dashboards in Grafana's format: `python -m ops.grafana.dashboards` writes them beside it.

Grafana takes each by Dashboards > New > Import, or from a folder that it is told to provision.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import dashboard, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    ValueMap,
    ValueMappingResult,
    VariableRefresh,
)

from ops.grafana.panels import BOARDS, Board, Panel

FOLDER = Path(__file__).parent
COLUMNS, HEIGHT = 24, 8
PANELS_A_LINE = 3
# By severity; of a yes and a no neither is the better one everywhere.
COLORS = ("green", "yellow", "orange", "red")
COLORS_OF_TWO = ("light-blue", "dark-blue")
SOURCE = DataSourceRef("prometheus", "${source}")
BUILDERS: dict[str, Callable[[], Any]] = {
    "lines": lambda: timeseries.Panel().line_width(1).fill_opacity(10),
    "timeline": lambda: statetimeline.Panel().line_width(0).fill_opacity(70),
    "number": stat.Panel,
}


def make(board: Board) -> dashboard.Dashboard:
    """Return the builder of a dashboard."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .tags(["nautilus"])
        .time(board.since, "now")
        .refresh("10s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("source").type("prometheus"))
    )
    if any("$role" in query for row in board.rows.values() for p in row for query, _ in p.queries):
        made.with_variable(_roles())
    number = 0
    for title, panels in board.rows.items():
        made.with_row(dashboard.Row(title).id(number := number + 1))
        for panel in panels:
            made.with_panel(_panel(panel).id(number := number + 1))
    return made


def text(board: Board) -> str:
    """Return what the file of a dashboard contains."""
    plain = json.loads(json.dumps(make(board).build(), cls=JSONEncoder))
    return json.dumps(without_nulls(plain), indent=1) + "\n"


def _roles() -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable("role")
        .datasource(SOURCE)
        .query('label_values(up{job="nautilus-bridge"}, role)')
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
    )


def _panel(panel: Panel) -> Any:
    made = BUILDERS[panel.kind]().title(panel.title).datasource(SOURCE).unit(panel.unit)
    made.height(HEIGHT).span(COLUMNS // PANELS_A_LINE)
    for ref, (query, legend) in zip("ABCDEFGH", panel.queries, strict=False):
        asked = Dataquery().expr(query).legend_format(legend).ref_id(ref).datasource(SOURCE)
        made.with_target(asked.instant() if panel.kind == "number" else asked.range())
    if panel.words:
        colors = COLORS_OF_TWO if len(panel.words) == len(COLORS_OF_TWO) else COLORS
        words = enumerate(zip(panel.words, colors, strict=False))
        shown = {str(i): ValueMappingResult(text=w, color=c, index=i) for i, (w, c) in words}
        made.mappings([ValueMap(options=shown)])
    return made


def without_nulls(value: Any) -> Any:
    """Grafana takes a null for a setting; what is absent has its default."""
    if isinstance(value, dict):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


if __name__ == "__main__":
    for board in BOARDS:
        (FOLDER / f"{board.uid}.json").write_text(text(board))
