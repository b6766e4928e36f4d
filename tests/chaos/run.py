"""`make chaos`: strike the bridge while it works, compare what was emitted with what arrived.

Exit 0 when every figure of the bridge is 0, 1 when one is not, 2 for usage, 69 without a
redis-server. The naive rows must show that the checker finds loss and duplicates.
"""

import argparse
import json
import os
import platform
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from bridge import VERSION
from bridge.embedded_redis import find_redis_server
from bridge.exits import DONE, FAILED, UNAVAILABLE
from tests.bridge.processes import ROOT
from tests.chaos.checker import Verdict
from tests.chaos.report import is_clean, result_line
from tests.chaos.rig import Pace, Rig
from tests.chaos.rows import NAIVE, ROWS

OUTPUT: Final = Path("artifacts/chaos.json")
STRIKES: Final = 20
LONG_SECONDS: Final = 10.0
SHORT: Final = Pace(strikes=1, seconds=1.5)
# One more than there are CPUs: some rows mostly wait.
JOBS: Final = (os.cpu_count() or 1) + 1
ROW_SECONDS_MAX: Final = 1_500.0
POLL_SECONDS: Final = 0.05
PACKAGES: Final = ("nautilus_trader", "redis")
TABLE: Final = {**ROWS, **NAIVE}
# The longest first.
ORDER: Final = ("starved", "readers_rewound", "journal_damaged", "disk_full", "taken_over")


class Options(NamedTuple):
    """What to run: names of rows, how long, how many at a time, where the results go."""

    rows: Sequence[str]
    seed: int
    pace: Pace
    jobs: int
    output: Path


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, write the results; return the exit code."""
    arguments = _parse(argv)
    pace = SHORT if arguments.short else Pace(arguments.strikes, LONG_SECONDS)
    if arguments.one is not None:
        return _run_one(arguments.one, arguments.seed, pace, arguments.output)
    if find_redis_server() is None:
        print("make chaos: no redis-server found; run ops/find-redis", file=sys.stderr)
        return UNAVAILABLE
    seed = secrets.randbelow(1 << 32) if arguments.seed is None else arguments.seed
    rows = arguments.rows or list(TABLE)
    return run(Options(rows, seed, pace, arguments.jobs, arguments.output))


def run(options: Options) -> int:
    """Run rows in processes of their own, several at a time; return the exit code."""
    began = time.monotonic()
    print(f"seed {options.seed}, {options.pace.strikes} strikes of each fault", flush=True)
    results = _run_all(options)
    rows = [results[name] for name in options.rows]
    report = {
        "seed": options.seed,
        "strikes": options.pace.strikes,
        "seconds": round(time.monotonic() - began),
        "rows": [row for row in rows if row["name"] in ROWS],
        "naive": [row | {"notes": []} for row in rows if row["name"] in NAIVE],
        "versions": versions(),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    for row in rows:
        print(result_line(row))
        for note in (row["error"], *row["notes"]) if row["name"] in ROWS else ():
            print(f"    {note}" if note else "", end="\n" if note else "")
    failed = [row["name"] for row in report["rows"] if not is_clean(row)]
    failed += [row["name"] for row in report["naive"] if row["error"]]
    print(f"{options.output}, seed {options.seed}, {report['seconds']} s: ", end="")
    print(f"NOT clean: {', '.join(failed)}" if failed else "every figure of the bridge is 0")
    return FAILED if failed else DONE


def versions() -> dict[str, str]:
    """Return what the figures depend on."""
    words = [str(find_redis_server()), "--version"]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    server = next(word.removeprefix("v=") for word in said.split() if word.startswith("v="))
    named = {name: version(name) for name in PACKAGES}
    return {
        "bridge": VERSION,
        "python": platform.python_version(),
        "redis_server": server,
        **named,
        "cpus": str(os.cpu_count()),
    }


# Rows in processes of their own.


def _run_all(options: Options) -> dict[str, dict[str, Any]]:
    """Return the results by name; a row that takes too long, or crashes, has failed."""
    waiting = deque(sorted(options.rows, key=lambda name: name not in ORDER))
    running: dict[str, tuple[subprocess.Popen[bytes], float]] = {}
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="bridge-chaos-") as folder:
        try:
            while waiting or running:
                while waiting and len(running) < options.jobs:
                    name = waiting.popleft()
                    running[name] = (_spawn(name, options, Path(folder)), time.monotonic())
                time.sleep(POLL_SECONDS)
                for name, (process, began) in list(running.items()):
                    if process.poll() is None and time.monotonic() - began < ROW_SECONDS_MAX:
                        continue
                    _end(process)
                    del running[name]
                    results[name] = _result(name, Path(folder), process.returncode)
        finally:
            for process, _ in running.values():
                _end(process)
    return results


def _spawn(name: str, options: Options, folder: Path) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "tests.chaos.run", "--one", name, "--seed", str(options.seed)]
    words += ["--short"] if options.pace == SHORT else ["--strikes", str(options.pace.strikes)]
    return subprocess.Popen([*words, "--output", str(folder / f"{name}.json")], cwd=ROOT)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Have a row end what it has started."""
    process.terminate()
    process.wait()


def _result(name: str, folder: Path, code: int) -> dict[str, Any]:
    path = folder / f"{name}.json"
    if path.exists():
        return dict(json.loads(path.read_text()))
    return _as_row(name, Verdict(), 0, 0.0, f"its process ended with code {code}")


def _run_one(name: str, seed: int, pace: Pace, output: Path) -> int:
    """Run one row in this process, and write its result."""
    folder = Path(tempfile.mkdtemp(prefix=f"bridge-chaos-{name}-"))
    row, began, error = TABLE[name], time.monotonic(), ""
    rig = Rig(name, folder, seed=seed, pace=pace, options=row.options)
    verdict = Verdict()
    try:
        with rig:
            verdict = row.run(rig)
    except Exception as raised:  # noqa: BLE001 - whatever it is, the row has failed
        error = f"{type(raised).__name__}: {raised}; see {folder}"
    result = _as_row(name, verdict, rig.strikes, time.monotonic() - began, error)
    output.write_text(json.dumps(result))
    if is_clean(result) or name in NAIVE:
        shutil.rmtree(folder, ignore_errors=True)
    return DONE


def _leave(*_: object) -> NoReturn:
    sys.exit(FAILED)


def _as_row(
    name: str, verdict: Verdict, strikes: int, seconds: float, error: str
) -> dict[str, Any]:
    figures: Mapping[str, Any] = verdict._asdict()
    return {
        "name": name,
        "strikes": strikes,
        "seconds": round(seconds, 1),
        **figures,
        "notes": list(verdict.notes),
        "error": error,
    }


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, help="of the schedule; default: any")
    parser.add_argument("--rows", nargs="+", choices=TABLE, metavar="ROW", help=", ".join(TABLE))
    parser.add_argument("--strikes", type=_count, default=STRIKES, help="of each fault")
    parser.add_argument("--short", action="store_true", help="one strike of each, shortened")
    parser.add_argument("--jobs", type=_count, default=JOBS, help=f"rows at a time; here {JOBS}")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"default {OUTPUT}")
    parser.add_argument("--one", choices=TABLE, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 up")
    return int(text)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _leave)  # ends what was started on the way out
    sys.exit(main())
