"""What the commands of `python -m acceptance` do: read, call, write, return an exit code."""

import argparse
import importlib.util
import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

from acceptance import (
    builders,
    events,
    fills,
    fills_csv,
    fills_redis,
    golden,
    record,
    report_html,
    report_tables,
    report_text,
    run,
    shadow,
    shadow_report,
    tolerance,
)
from acceptance import compare as comparison
from acceptance import report as reports
from acceptance.builders import Named
from acceptance.fills_csv import FillsError
from acceptance.record import RecordError
from acceptance.shape import Fill, Record
from acceptance.tolerance import ToleranceError
from integrations.binance import dataset, week
from integrations.binance.dataset import Dataset
from integrations.binance.manifest import DatasetError
from integrations.binance.progress import Progress
from strategies.basis_carry.params import BasisCarryParams


class ParamsError(ValueError):
    """Parameters that cannot be used; the message says where and why."""


PASS, FAIL, CANNOT_JUDGE = 0, 1, 2
DAY_NS: Final = 86_400_000_000_000
REPORTS: Final = ("comparison.json", "report.md", "report.html")
ARTIFACTS: Final = Path("artifacts/acceptance")
DATASET: Final = Path(__file__).resolve().parents[1] / "data/binance/spot.parquet"
INSTALL: Final = "nautilus_trader is not installed: pip install -r requirements.txt"
# What a user's arguments and files can cause; the message says it all.
ERRORS: Final = (
    DatasetError, FillsError, OSError, ParamsError, RecordError, ToleranceError
)  # fmt: skip


def compare(arguments: argparse.Namespace) -> int:
    """Compare two results, and write the report in three forms, in place of an earlier one."""
    folder: Path = arguments.output
    for name in REPORTS:  # one that was left would speak for results that cannot be read
        (folder / name).unlink(missing_ok=True)
    a, b = record.load(arguments.a), record.load(arguments.b)
    tolerances = tolerance.load(arguments.tolerances or tolerance.FILE)
    extra = (golden.check(a, arguments.golden),) if arguments.golden else ()
    found = comparison.compare(a, b, tolerances, tier=arguments.tier, extra=extra)
    told = reports.report(found)
    folder.mkdir(parents=True, exist_ok=True)
    texts = _json(told.as_dict()), report_text.markdown(told), report_html.page(told, a, b)
    for name, text in zip(REPORTS, texts, strict=True):
        (folder / name).write_text(text, encoding="utf-8")
    sys.stdout.write(report_text.terminal(told))
    sys.stdout.write(f"\n{folder / 'report.html'}, report.md, comparison.json\n")
    return found.exit_code


def run_nautilus(arguments: Sequence[str]) -> int:
    """Run the port: the same as `integrations/nautilus/run_backtest.py` with these arguments."""
    if importlib.util.find_spec("nautilus_trader") is None:
        tell(INSTALL)
        return CANNOT_JUDGE
    from integrations.nautilus import run_backtest  # the only command that needs Nautilus

    return run_backtest.main(arguments)


def run_legacy(arguments: argparse.Namespace) -> int:
    """Run the legacy program."""
    arguments.output.unlink(missing_ok=True)  # an earlier result must not stand for this run
    data, params = _dataset(arguments.dataset, arguments.symbols), _params(arguments.params)
    with Progress("legacy") as progress:
        try:
            made = run.legacy(
                data,
                params,
                arguments.symbols or (),
                arguments.start,
                arguments.end,
                mode=arguments.mode,
                progress=lambda fraction: progress.show("trading", fraction),
            )
        except DatasetError:
            raise
        except ValueError as error:  # lots that do not fit, a symbol with one leg
            raise DatasetError(data.path, str(error)) from None
    return _saved(made, arguments.output)


def check_golden(arguments: argparse.Namespace) -> int:
    """Check a result against a pinned one, or pin it."""
    found = record.load(arguments.result)
    if arguments.write:
        golden.write(found, arguments.golden)
        _say(f"{arguments.golden} is now {found.program}'s result {record.sha256(found)}")
        return PASS
    gate = golden.check(found, arguments.golden)
    _say(f"{reports.WORDS[gate.passed]}: {gate.name} {gate.why}".rstrip())
    return {True: PASS, False: FAIL, None: CANNOT_JUDGE}[gate.passed]


def from_redis(arguments: argparse.Namespace) -> int:
    """Build a result from a stream of fills."""
    place = fills_redis.address(
        arguments.url,
        arguments.prefix,
        strategies=arguments.strategy_id or (),
        accounts=arguments.account or (),
    )
    window = _window(arguments)
    found = fills_redis.read(place, window.instruments() if window else (), tell=tell)
    start_ns, end_ns = _bounds(arguments, window, found)
    refused = fills_redis.refused(place, start_ns, end_ns, tell)
    return _built(arguments, found, window, "redis", refused)


def from_csv(arguments: argparse.Namespace) -> int:
    """Build a result from a CSV of fills, which is taken to be all that was ordered."""
    found = fills_csv.read(arguments.file)
    return _built(arguments, found, _window(arguments), "csv", {"denied": 0, "rejected": 0})


def compare_shadow(arguments: argparse.Namespace) -> int:
    """Compare a shadow's fills with those of another run."""
    ours = fills.read(arguments.shadow, tell)
    theirs = fills.read(arguments.reference, tell)
    found = shadow.compare(
        shadow.window(ours.fills, arguments.begin, arguments.end),
        shadow.window(theirs.fills, arguments.begin, arguments.end),
        size_fraction=arguments.size_fraction,
        tolerance_ns=int(arguments.tolerance_seconds * shadow.SECOND_NS),
        tolerance_percent=arguments.tolerance_percent,
        instruments=[*ours.instruments, *theirs.instruments],
    )
    if arguments.json:
        sys.stdout.write(_json(found.as_dict()))
    else:
        sys.stdout.write(shadow_report.terminal(found))
    return comparison.EXIT_CODES[found.verdict]


def schema(_: argparse.Namespace) -> int:
    """Print the JSON Schema of results."""
    sys.stdout.write(_json(record.SCHEMA))
    return PASS


def tell(text: str) -> None:
    """Say something that is no result."""
    sys.stderr.write(f"{text}\n")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _built(
    arguments: argparse.Namespace,
    found: Sequence[Fill],
    window: events.Window | None,
    program: str,
    refused: Mapping[str, int],
) -> int:
    params = _params(arguments.params) if arguments.params else None
    named = Named(
        arguments.program or program,
        arguments.strategy,
        run.texts(params) if params else None,
        **refused,
    )
    if window is not None:
        return _saved(builders.of_dataset(found, named, window), arguments.output)
    start_ns, end_ns = _bounds(arguments, window, found)
    made = builders.of_fills(found, named, start_ns=start_ns, end_ns=end_ns)
    return _saved(made, arguments.output)


def _window(arguments: argparse.Namespace) -> events.Window | None:
    if arguments.dataset is None:
        return None
    data = _dataset(arguments.dataset, arguments.symbols)
    return events.window(data, arguments.symbols or (), arguments.start, arguments.end)


def _bounds(
    arguments: argparse.Namespace, window: events.Window | None, found: Sequence[Fill]
) -> tuple[int, int]:
    """Return start and end of the run; without a dataset, the full days that are named, or those
    of the fills. Raises FillsError when there is neither."""
    if window is not None:
        return window.start_ns, window.end_ns
    if not found and None in (arguments.start, arguments.end):
        raise FillsError("there is no fill; name the days of the run by --start and --end")
    start_ns = found[0].ts // DAY_NS * DAY_NS if found else 0
    end_ns = (found[-1].ts // DAY_NS + 1) * DAY_NS if found else 0
    if arguments.start is not None:
        start_ns = _midnight_ns(arguments.start)
    if arguments.end is not None:
        end_ns = _midnight_ns(arguments.end) + DAY_NS
    return start_ns, end_ns


def _midnight_ns(day: date) -> int:
    return (day - date(1970, 1, 1)).days * DAY_NS


def _dataset(path: Path, symbols: Sequence[str] | None) -> Dataset:
    """Return the dataset; make the week where nothing lies yet, at its own place only."""
    folder = path.absolute().parent
    if folder == DATASET.parent and not folder.exists():
        tell(f"{folder} does not exist: generating the acceptance week")
        week.generate(folder)
    return dataset.load(path, symbols=symbols or None)


def _params(path: Path | None) -> BasisCarryParams:
    """Return the parameters of a TOML file, the defaults without one. Raises ParamsError."""
    if path is None:
        return BasisCarryParams()
    try:
        return BasisCarryParams.from_mapping(tomllib.loads(path.read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:
        raise ParamsError(f"{path}: {error}") from None


def _saved(made: Record, path: Path) -> int:
    digest = record.save(made, path)
    made_by = f"{path}: {made.program}, {made.run.fills} fills"
    if not made.run.fills:
        _say(f"{made_by}, sha256 {digest}")
        tell("cannot judge this run: nothing was traded")
        return CANNOT_JUDGE
    net = made.totals and f", net {report_tables.money_text(made.totals[record.TOTAL].net)} USDT"
    _say(f"{made_by}{net or ''}, sha256 {digest}")
    return PASS


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"
