"""ops/grafana: what is committed is what the code makes, the SDK knows every key of it, and who
sees it first finds words, links and no holes."""

import json
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from ops.prometheus import acceptance_metrics
from tests.ops.comparison import COMPARISON
from tests.ops.monitoring import DASHBOARDS, RULES, named, recorded, sampled

UIDS = ["nautilus-acceptance", "nautilus-bridge", "nautilus-trading"]
# A counter falls to 0 with its process: only its growth is shown.
GROWING = ("rate(", "increase(")
LINES_FILL = 24
RUNBOOK = (RULES.parent / "RUNBOOK.md").read_text()
NAMES = pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)


def panels_of(path: Path) -> list[dict[str, Any]]:
    """Return the panels of a dashboard, without the titles of its rows."""
    panels = json.loads(path.read_text())["panels"]
    return [panel for panel in panels if panel["type"] != "row"]


def asked(path: Path) -> list[str]:
    """Return all expressions of a dashboard: of its panels, and of what it marks."""
    marks = json.loads(path.read_text())["annotations"].get("list", [])
    targets = [target for panel in panels_of(path) for target in panel["targets"]]
    return [each["expr"] for each in [*targets, *marks]]


def anchors(path: Path) -> Iterator[str]:
    """Yield the section of the runbook of each link of a panel."""
    for panel in panels_of(path):
        for link in panel.get("links", ()):
            address, _, section = link["url"].partition("#")
            assert address == "${runbook:raw}"
            yield section


def test_there_are_three() -> None:
    """Each in the file of its uid."""
    assert [path.stem for path in DASHBOARDS] == UIDS
    assert [json.loads(path.read_text())["uid"] for path in DASHBOARDS] == UIDS


@NAMES
def test_what_is_committed_is_what_the_code_makes(path: Path) -> None:
    """`python -m ops.grafana.dashboards` changes nothing."""
    pytest.importorskip("grafana_foundation_sdk")
    from ops.grafana import dashboards

    board = next(each for each in dashboards.BOARDS if each.uid == path.stem)

    assert path.read_text() == dashboards.text(board)


@NAMES
def test_the_sdk_reads_every_key(path: Path) -> None:
    """Decoded and encoded again nothing is missing: a key misspelt would be."""
    pytest.importorskip("grafana_foundation_sdk")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    from ops.grafana.dashboards import without_nulls

    register_default_plugins()
    committed = json.loads(path.read_text())

    again = json.loads(json.dumps(Dashboard.from_json(committed), cls=JSONEncoder))

    assert without_nulls(again) == committed


@NAMES
def test_every_name_exists(path: Path) -> None:
    """Panels name what a bridge samples, a rule records or an acceptance run tells."""
    expressions = " ".join(asked(path))
    told = {
        sample.name
        for family in acceptance_metrics.registry_of(COMPARISON, 0).collect()
        for sample in family.samples
    }
    ours = set(re.findall(r"nautilus_acceptance_\w+", expressions))

    assert expressions
    assert named(expressions) - sampled() - recorded() == set()
    assert ours - told == set()


@NAMES
def test_panels_leave_no_hole(path: Path) -> None:
    """Ids are unique, no panel covers another, and from the first line to the last one each is
    filled over its whole width."""
    panels = json.loads(path.read_text())["panels"]
    spots = [panel["gridPos"] for panel in panels]
    places = [
        place
        for spot in spots
        for place in product(
            range(spot["x"], spot["x"] + spot["w"]), range(spot["y"], spot["y"] + spot["h"])
        )
    ]
    lowest = max(y for _, y in places)

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert sorted(places) == sorted(product(range(LINES_FILL), range(lowest + 1)))


@NAMES
def test_no_counter_is_shown_as_it_is(path: Path) -> None:
    """It would fall to 0 when the process begins anew."""
    for expression in asked(path):
        for found in re.finditer(r"\w+_total\b", expression):
            assert expression[: found.start()].endswith(GROWING), expression


@NAMES
def test_every_panel_says_what_it_is(path: Path) -> None:
    """In one line, and its series are called by words instead of the names of metrics."""
    for panel in panels_of(path):
        about = panel["description"]
        assert about.endswith(".")
        assert "\n" not in about
        for target in panel["targets"]:
            assert target["legendFormat"]
            assert "_" not in re.sub(r"{{\w+}}", "", target["legendFormat"])


def test_no_two_panels_show_the_same() -> None:
    """A number and a timeline of the same expression are two: what is now, and what was when."""
    shown = [
        (panel["type"], *sorted(target["expr"] for target in panel["targets"]))
        for path in DASHBOARDS
        for panel in panels_of(path)
    ]

    assert len(set(shown)) == len(shown)


def test_each_alert_has_a_panel() -> None:
    """What an alert watches is seen somewhere, beside a link to the alert's section."""
    alerts = re.findall(r"alert: (\w+)", (RULES / "alerts.yml").read_text())
    linked = {section for path in DASHBOARDS for section in anchors(path)}

    assert alerts
    assert {alert.lower() for alert in alerts} - linked == set()


@NAMES
def test_each_link_leads_to_a_section(path: Path) -> None:
    """The runbook has a title for it, as GitHub turns one into an address."""
    titles = re.findall("^## (.+)$", RUNBOOK, re.MULTILINE)
    sections = {re.sub(r"[^a-z0-9_ -]", "", each.lower()).replace(" ", "-") for each in titles}

    assert set(anchors(path)) - sections == set()
