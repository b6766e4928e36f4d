"""The tables that the README prints, from results that are written here."""

import json
from pathlib import Path

from tests.chaos import report
from tests.chaos.run import versions

ROW = {
    **{"name": "daemon_killed", "strikes": 20, "seconds": 61.2, "events": 12_345},
    **{"entries": 13_000, "lost": 0, "doubled": 0, "reordered": 0, "gaps": 0, "invented": 0},
    **{"in_hand": 3, "notes": [], "error": ""},
}
NAIVE = ROW | {"name": "naive_flushed", "lost": 4_321}


def write(folder: Path) -> Path:
    path = folder / "results.json"
    path.write_text(json.dumps({"rows": [ROW], "naive": [NAIVE]}))
    return path


def test_a_row_of_each_table(tmp_path: Path) -> None:
    """A row names the fault, and says what a zero does not cover."""
    results = write(tmp_path)
    assert report.bridge_table(results).splitlines()[2] == (
        "| SIGKILL of the daemon, restart | 20 | 12,345 | 0 of what a handler had returned for"
        " | 0 | 0 |"
    )
    assert report.naive_table(results).splitlines()[2] == (
        "| FLUSHALL | 20 | 12,345 | 4,321 | 0 | 0 |"
    )


def test_clean_means_all_of_it() -> None:
    """One figure that is not 0 is enough, and so is a row that did not run to its end."""
    assert report.is_clean(ROW)
    for name in ("lost", "doubled", "reordered", "gaps", "invented"):
        assert not report.is_clean(ROW | {name: 1})
    assert not report.is_clean(ROW | {"error": "AssertionError"})


def test_versions_are_named() -> None:
    """The results say of which versions they are."""
    assert {"bridge", "python", "redis_server", "nautilus_trader", "redis"} <= set(versions())
