"""The bridge is struck while it works; `make chaos` runs the same with a seed of one's own."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.bridge.processes import ROOT
from tests.chaos import run
from tests.chaos.report import is_clean
from tests.chaos.rows import NAIVE, ROWS

SHORT_NAIVE = ("naive_flushed", "naive_reply_lost")
SHORT_SECONDS_MAX = 1_800
LONG_SECONDS_MAX = 3_600


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """The results of a run of one strike each, by row."""
    output = tmp_path_factory.mktemp("chaos") / "chaos.json"
    run.main(["--short", "--rows", *ROWS, *SHORT_NAIVE, "--output", str(output)])
    report = json.loads(output.read_text())
    return {row["name"]: row for row in (*report["rows"], *report["naive"])}


@pytest.mark.timeout(SHORT_SECONDS_MAX)
@pytest.mark.parametrize("name", ROWS)
def test_nothing_is_lost_or_doubled(short: Mapping[str, Any], name: str) -> None:
    """Nothing that a handler had returned for is lost, doubled or reordered by this fault."""
    row = short[name]
    assert is_clean(row), row
    assert row["strikes"] >= 1
    assert row["events"] > 100


@pytest.mark.timeout(SHORT_SECONDS_MAX)
def test_the_checker_sees_the_naive_way_fail(short: Mapping[str, Any]) -> None:
    """Against `XADD *` with redis-py's retries the same checker finds a loss and a double."""
    assert short["naive_flushed"]["lost"] > 0
    assert short["naive_reply_lost"]["doubled"] > 0


@pytest.mark.slow
@pytest.mark.timeout(LONG_SECONDS_MAX)
def test_twenty_strikes_of_each(capfd: pytest.CaptureFixture[str]) -> None:
    """Twenty strikes of each fault, with a seed that is printed; what it wrote stays."""
    with capfd.disabled():
        code = run.main([])
    report = json.loads((ROOT / run.OUTPUT).read_text())
    assert code == 0, [row for row in report["rows"] if not is_clean(row)]
    assert {row["name"] for row in report["rows"]} == set(ROWS)
    assert {row["name"] for row in report["naive"]} == set(NAIVE)
    assert sum([row["lost"] for row in report["naive"]]) > 0
    assert sum([row["doubled"] for row in report["naive"]]) > 0
