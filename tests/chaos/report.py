"""The results of a chaos run as text: a line each, and the two tables of the README."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

# A long run whose figures the README prints: `make chaos`, then a copy of what it wrote.
RESULTS: Final = Path(__file__).with_name("results.json")
WRONG: Final = ("lost", "doubled", "reordered", "gaps", "invented")

type Result = Mapping[str, Any]


def is_clean(row: Result) -> bool:
    """Return whether a row ran to its end and nothing is wrong."""
    return not row["error"] and not any(row[name] for name in WRONG)


def result_line(row: Result) -> str:
    """Return a row's figures in one line."""
    figures = "  ".join(f"{name} {row[name]}" for name in WRONG)
    said = "FAILED" if row["error"] else figures
    return (
        f"{row['name']:<18} {row['strikes']:>3} strikes  {row['events']:>6} events  {said}"
        f"  in hand {row['in_hand']}  {row['seconds']:.0f} s"
    )


def bridge_table(results: Path = RESULTS) -> str:
    """Return the table of what the bridge lost, doubled and reordered."""
    from tests.chaos.rows import ROWS

    report = json.loads(results.read_text())
    return _table(report["rows"], {name: (row.text, row.but) for name, row in ROWS.items()})


def naive_table(results: Path = RESULTS) -> str:
    """Return the same of `XADD *` with redis-py's default retries."""
    from tests.chaos.rows import NAIVE

    report = json.loads(results.read_text())
    return _table(report["naive"], {name: (row.text, row.but) for name, row in NAIVE.items()})


def _table(rows: Sequence[Result], texts: Mapping[str, tuple[str, str]]) -> str:
    return "\n".join(_lines(rows, texts))


def _lines(rows: Sequence[Result], texts: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    yield "| fault | strikes | events | lost | doubled | reordered |"
    yield "|---|---:|---:|---|---:|---:|"
    for row in rows:
        text, but = texts[row["name"]]
        cells = (
            text,
            row["strikes"],
            f"{row['events']:,}",
            f"{row['lost']:,} {but}".strip(),
            f"{row['doubled']:,}",
            f"{row['reordered']:,}",
        )
        yield f"| {' | '.join(map(str, cells))} |"
