"""ops/grafana: what is committed is what the code makes, and the SDK knows every key of it."""

import json
import re
from pathlib import Path

import pytest

from ops.prometheus import acceptance_metrics
from tests.ops.comparison import COMPARISON
from tests.ops.monitoring import DASHBOARDS, named, queries, recorded, sampled

UIDS = ["nautilus-acceptance", "nautilus-bridge", "nautilus-trading"]
NAMES = pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)


def test_there_are_three() -> None:
    """Each in the file of its uid."""
    assert [path.stem for path in DASHBOARDS] == UIDS
    assert [json.loads(path.read_text())["uid"] for path in DASHBOARDS] == UIDS


@NAMES
def test_what_is_committed_is_what_the_code_makes(path: Path) -> None:
    """`python -m ops.grafana.dashboards` changes nothing."""
    pytest.importorskip("grafana_foundation_sdk")
    from ops.grafana import dashboards, panels

    board = next(each for each in panels.BOARDS if each.uid == path.stem)

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
    asked = " ".join(query for _, query in queries(path))
    told = {
        sample.name
        for family in acceptance_metrics.registry_of(COMPARISON, 0).collect()
        for sample in family.samples
    }
    ours = set(re.findall(r"nautilus_acceptance_\w+", asked))

    assert asked
    assert named(asked) - sampled() - recorded() == set()
    assert ours - told == set()


@NAMES
def test_no_two_panels_share_a_place(path: Path) -> None:
    """Ids are unique, and no panel covers another."""
    panels = json.loads(path.read_text())["panels"]
    places = [
        (x, y)
        for spot in [panel["gridPos"] for panel in panels]
        for x in range(spot["x"], spot["x"] + spot["w"])
        for y in range(spot["y"], spot["y"] + spot["h"])
    ]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len(set(places)) == len(places)
    assert max(x for x, _ in places) < 24
