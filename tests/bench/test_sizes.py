"""The README's tables of sizes: what they make of what was measured."""

import json
from pathlib import Path

from bridge.settings import JournalSettings
from tests.bench import sizes


def row(name: str, median: float, **detail: float) -> dict:
    return {"name": name, "median": median, "detail": detail}


def test_the_tables_are_made_of_the_rows(tmp_path: Path) -> None:
    """Bytes of an entry, those of a day at each rate, and how long it takes to fill the journal."""
    results = tmp_path / "sizes.json"
    a_day = JournalSettings().bytes_max / 864_000  # bytes that fill the journal in a day at 10/s
    rows = [
        row("exec_lane", 2.5, per_s=30_000.4),
        row("bus", 0.5, per_s=200_000.0),
        row("exec_bytes", 250.0, journal=a_day, archive=500.0, ledger=100.0, fills_share=0.18),
        row("market_bytes", 80.0, trade=70.0, quotes_mib=10.24, trades_mib=10.24),
    ]
    results.write_text(json.dumps({"rows": rows}))

    lines = sizes.tables(results).splitlines()

    assert f"| exec | 30,000 | 250 B | {a_day:.0f} B | 500 B | 100 B |" in lines
    assert "| market: quotes | 200,000 | 80 B | - | - | - |" in lines
    full = f"{a_day * 864_000 / 1e9:.2f} GB"
    assert f"| 10 | 0.22 GB | {full} | 0.43 GB | 0.09 GB | 1.00 days |" in lines
    assert "| quotes and trades of 100 instruments | 2.00 GiB |" in lines
