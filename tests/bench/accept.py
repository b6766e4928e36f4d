"""The row of `make accept`: what it takes from nothing."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.machine import Bench, Round

ROOT = Path(__file__).resolve().parents[2]
DAYS = 7
SETTINGS = {"dataset": "week/spot.parquet", "catalog": "catalog", "output": "a.json"}
# What the Makefile's targets do, on a week and a catalog of their own.
STEPS = {
    "generate s": ("-m", "integrations.binance", "sample", "week"),
    "nautilus s": (str(ROOT / "integrations/nautilus/run_backtest.py"), "--config", "run.json"),
    "legacy s": (
        "-m", "acceptance", "run", "legacy", "--dataset", "week/spot.parquet", "--output", "b.json",
        "--start", "2025-07-01", "--end", "{last}",
    ),
    "compare s": ("-m", "acceptance", "compare", "a.json", "b.json", "--output", "report"),
}  # fmt: skip


def accept_seconds(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield the seconds to generate, convert, run both programs and compare, each in a process."""
    for number in range(rounds):
        folder = bench.folder / f"accept-{number}"
        folder.mkdir()
        last = f"2025-07-{max(1, round(DAYS * bench.scale)):02}"
        window = {"start": "2025-07-01", "end": last}
        (folder / "run.json").write_text(json.dumps(SETTINGS | window))
        took = {
            name: _seconds(folder, [word.format(last=last) for word in step])
            for name, step in STEPS.items()
        }
        yield Round(sum(took.values()), took)


def _seconds(folder: Path, step: Sequence[str]) -> float:
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *step],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - start
