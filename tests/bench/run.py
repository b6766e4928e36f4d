"""`make bench`: what the bridge must reach, each figure against a reference of the same run.

Exit 0 when every bar holds, 1 when one does not, 2 for usage, 69 without a redis-server.
"""

import argparse
import json
import operator
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from bridge import log
from bridge.embedded_redis import find_redis_server
from bridge.exits import UNAVAILABLE
from tests.bench.accept import accept_seconds
from tests.bench.backtest import backtest, legacy
from tests.bench.books import archive, audit, audit_rss, ledger
from tests.bench.command import status
from tests.bench.control import flag_seen, guard_cost, guard_growth, halt_done, halt_gate
from tests.bench.faults import kill_lost, stall_drain
from tests.bench.ingest import ingest_rate, ingest_rss
from tests.bench.machine import Bench, Cpus, Round
from tests.bench.recording import exec_lane, exec_latency, journal_append
from tests.bench.rig import Rig
from tests.bench.rivals import native_buffered, redis_py_pipeline, redis_py_xadd
from tests.bench.sizes import exec_bytes, market_bytes
from tests.bench.steady import latency_10k, latency_50k, memory_1m
from tests.bench.throughput import against_ref, sink, streams_1000

OUTPUT = Path("artifacts/bench.json")
QUICK_SCALE = 0.01
LOAD_MAX = 0.5  # what others may use without a word about it
PACKAGES = ("nautilus_trader", "redis", "uvloop")
RELATIONS = {">=": operator.ge, "<=": operator.le}
COLUMNS = "{:18} {:>9} {:>9} {:>9}  {:8} {:5} {:10} {}"


class Row(NamedTuple):
    """One figure: `measure(bench, rounds)` yields it, the median must be `relation` `bar`."""

    name: str
    unit: str
    relation: str
    bar: float
    measure: Callable[[Bench, int], Iterator[Round]]
    rounds: int = 5


def _flood(name: str, bar: float, opens: Any) -> Row:
    return Row(name, "x REF", ">=", bar, partial(against_ref, opens=opens), rounds=9)


ROWS = (
    _flood("sink", 0.85, partial(sink, every=1)),
    _flood("sink_sparse", 1.0, sink),
    _flood("bus", 0.50, Rig.bus),
    _flood("engine", 0.40, Rig.data_engine),
    Row("native_buffered", "x native", ">=", 4.5, native_buffered),
    Row("redis_py_pipeline", "x redis-py", ">=", 6.5, redis_py_pipeline),
    Row("redis_py_xadd", "x redis-py", ">=", 35, redis_py_xadd),
    Row("latency_10k", "x PING", "<=", 6, latency_10k),
    Row("latency_50k", "x timer", "<=", 0.25, latency_50k),
    Row("stall_drain", "s", "<=", 1, stall_drain),
    Row("kill_lost", "entries", "<=", 0, kill_lost),
    Row("streams_1000", "x 1 stream", "<=", 1.25, streams_1000),
    Row("memory_1m", "MiB", "<=", 30, memory_1m),
    Row("journal_append", "x write()", "<=", 3, journal_append, rounds=9),
    Row("exec_lane", "x redis-py", ">=", 3, exec_lane),
    Row("exec_latency", "x fdatasync+PING", "<=", 3, exec_latency),
    Row("flag_seen", "x poll", "<=", 0.2, flag_seen),
    Row("halt_gate", "ms p99", "<=", 5, halt_gate),
    Row("halt_done", "ms p99", "<=", 250, halt_done, rounds=1),
    Row("guard_cost", "x without", "<=", 1.5, guard_cost),
    Row("guard_growth", "x alone", "<=", 1.1, guard_growth, rounds=3),
    Row("ledger", "fills/s", ">=", 5_000, ledger),
    Row("archive", "records/s", ">=", 20_000, archive),
    Row("audit", "s", "<=", 60, audit, rounds=3),
    Row("audit_rss", "MiB", "<=", 500, audit_rss, rounds=3),
    Row("backtest", "x bare engine", ">=", 0.6, backtest),
    Row("legacy", "events/s", ">=", 400_000, legacy),
    Row("accept_seconds", "s", "<=", 60, accept_seconds, rounds=3),
    Row("ingest", "x Nautilus", ">=", 0.8, ingest_rate),
    Row("ingest_rss", "x a tenth", "<=", 1.1, ingest_rss, rounds=1),
    Row("status", "s", "<=", 0.5, status),
    Row("exec_bytes", "bytes", "<=", 350, exec_bytes, rounds=1),
    Row("market_bytes", "bytes", "<=", 100, market_bytes, rounds=1),
)
NAMES = [row.name for row in ROWS]
# First in the process: a heap that other rows have stretched would hide what this one takes.
FIRST = "memory_1m"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write the results; return the exit code."""
    options = _parse(argv)
    binary = find_redis_server()
    if binary is None:
        print(
            "make bench: no redis-server (6.2 or newer) found; run ops/find-redis", file=sys.stderr
        )
        return UNAVAILABLE
    log.configure("error")
    cpus = Cpus.choose()
    machine = describe(binary, cpus)
    print(_headline(machine, quick=options.quick))
    print(COLUMNS.format("row", "min", "median", "max", "bar", "holds", "unit", "medians of"))
    chosen = [row for row in ROWS if row.name in (options.only or NAMES)]
    results = {}
    with tempfile.TemporaryDirectory(prefix="bridge-bench-") as folder, cpus.on_client():
        bench = Bench(binary, Path(folder), cpus, QUICK_SCALE if options.quick else 1.0)
        for row in sorted(chosen, key=lambda row: row.name != FIRST):
            rounds = options.rounds or (1 if options.quick else row.rounds)
            results[row.name] = _measure(row, bench, rounds)
    rows = [results[row.name] for row in chosen]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({"rows": rows, "machine": machine}, indent=2) + "\n")
    failed = [row["name"] for row in rows if not row["holds"]]
    print(f"{options.output}: {f'missed: {", ".join(failed)}' if failed else 'every bar holds'}")
    return 1 if failed else 0


def judge(row: Row, rounds: Sequence[Round]) -> dict[str, Any]:
    """Return the row of the report. What any single round lost breaks the bar."""
    values = [each.value for each in rounds]
    median = statistics.median(values)
    holds = RELATIONS[row.relation](median, row.bar) and not any(each.lost for each in rounds)
    return {
        "name": row.name,
        "unit": row.unit,
        "min": min(values),
        "median": median,
        "max": max(values),
        "bar": row.bar,
        "relation": row.relation,
        "holds": holds,
        "rounds": len(rounds),
        "detail": {
            key: statistics.median([each.detail[key] for each in rounds])
            for key in rounds[0].detail
        },
    }


def describe(binary: Path, cpus: Cpus) -> dict[str, Any]:
    """Return what the figures depend on: machine, load, versions, pinning."""
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    words = dict(word.split("=", 1) for word in said.split() if "=" in word)
    return {
        "cpus": os.cpu_count(),
        "system": platform.platform(),
        "processor": platform.machine(),
        "load_average": round(os.getloadavg()[0], 2),
        "pinned": cpus._asdict(),
        "python": platform.python_version(),
        "redis_server": words["v"],
        **{name: version(name) for name in PACKAGES},
    }


def _measure(row: Row, bench: Bench, count: int) -> dict[str, Any]:
    start, rounds = time.monotonic(), []
    print(f"{row.name:18} ", end="", flush=True)
    for each in row.measure(bench, count):
        rounds.append(each)
        print(".", end="", flush=True)
    result = judge(row, rounds)
    detail = "  ".join(f"{key} {_shown(value)}" for key, value in result["detail"].items())
    figures = [f"{result[key]:.3f}" for key in ("min", "median", "max")]
    holds = "yes" if result["holds"] else "NO"
    bar = f"{row.relation} {row.bar:g}"
    print(f" {time.monotonic() - start:.0f} s")
    print(COLUMNS.format("", *figures, bar, holds, row.unit, detail), flush=True)
    return result


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _headline(machine: dict[str, Any], *, quick: bool) -> str:
    pinned = machine["pinned"]
    if pinned["server"] is None:
        where = "not pinned: needs two CPUs and sched_setaffinity; expect more scatter"
    else:
        where = f"server on CPU {pinned['server']}, client on CPU {pinned['client']}"
    load = machine["load_average"]
    busy = f"; the machine is busy (load {load}), expect low figures" if load > LOAD_MAX else ""
    note = "; quick: it shows that the rows work, the figures mean nothing" if quick else ""
    return f"redis-server {machine['redis_server']}, {where}{busy}{note}"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="Measure the bridge.")
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="ROW", help=", ".join(NAMES))
    parser.add_argument("--rounds", type=_count, help="rounds of each row (default 5 or more)")
    parser.add_argument("--quick", action="store_true", help="one tiny round, to try the rows")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"default {OUTPUT}")
    return parser.parse_args(argv)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 up")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
