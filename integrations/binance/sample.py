"""Generate a sample dataset: BTC, ETH and SOL, spot and perpetual, as if recorded at Binance.

The same arguments give the same content on every machine and NumPy version: all arithmetic is on
integers, and all randomness comes from `PCG64.random_raw`, whose output NumPy guarantees. Every
quantity draws from a stream of its own, so a longer dataset begins with the shorter one's rows.

Only the funding rates are facts: those Binance published for 1 to 7 July 2025.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from integrations.binance import sample_market as market
from integrations.binance.dataset import content_hash
from integrations.binance.layout import FILES, MANIFEST, RATE_DECIMALS
from integrations.binance.manifest import EPOCH, Instrument
from integrations.binance.sample_market import MARKETS, SYMBOLS, IntegerColumns

GENERATOR = "integrations.binance.sample"
VERSION = 1  # raise it with every change of the content
START = datetime(2025, 7, 1, 7, 45, tzinfo=UTC)  # the settlement at 08:00 falls inside
MINUTES = 30
MINUTES_MAX = 1440  # about 3.2 million rows, all in memory
SEED = 1
PROGRESS_AFTER_SECONDS = 2.0

RATE_UNIT = Decimal(1).scaleb(-RATE_DECIMALS)
WORDS = {"symbol": list(SYMBOLS), "side": ["SELLER", "BUYER"]}

type Stored = NDArray[np.int64] | NDArray[np.float64]


def generate(
    directory: Path | str, *, start: datetime = START, minutes: int = MINUTES, seed: int = SEED
) -> dict[str, int]:
    """Write the dataset for `minutes` from `start` (with a time zone); return rows by file name.

    The folder appears complete or not at all, and replaces an earlier generated one. Raises
    ValueError for arguments out of range, for a settlement whose rate is not known, and for a
    folder that holds something else; OSError when it cannot be written.
    """
    target = Path(directory).resolve()
    _check(target, start, minutes, seed)
    start_us = (start - EPOCH) // timedelta(microseconds=1)
    tables = _tables(start_us, minutes * 60_000_000, seed)
    manifest = {
        "generator": GENERATOR,
        "generator_version": VERSION,
        "seed": seed,
        "start": start.astimezone(UTC).isoformat(),
        "end": (start + timedelta(minutes=minutes)).astimezone(UTC).isoformat(),
        "instruments": [_row(instrument) for instrument, _ in MARKETS],
        "files": {
            name: {"rows": table.num_rows, "sha256": content_hash(table)}
            for name, table in tables.items()
        },
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
        new = Path(scratch, "new")
        new.mkdir()
        for name, table in tables.items():
            pq.write_table(table, new / name)
        (new / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        if target.exists():
            target.rename(Path(scratch, "old"))
        new.rename(target)
    return {name: table.num_rows for name, table in tables.items()}


def _check(target: Path, start: datetime, minutes: int, seed: int) -> None:
    if start.tzinfo is None:
        raise ValueError(f"start {start} has no time zone; write it as {START.isoformat()}")
    if not 1 <= minutes <= MINUTES_MAX:
        raise ValueError(f"minutes is {minutes}, expected 1 to {MINUTES_MAX}")
    if seed < 0:
        raise ValueError(f"seed is {seed}, expected 0 or more")
    if target.is_file() or (target.is_dir() and any(target.iterdir()) and not _is_ours(target)):
        raise ValueError(f"{target} is not a generated dataset; remove it or choose another folder")


def _is_ours(directory: Path) -> bool:
    try:
        manifest = json.loads((directory / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("generator") == GENERATOR


def _row(instrument: Instrument) -> dict[str, str]:
    return {field.name: str(getattr(instrument, field.name)) for field in fields(instrument)}


def _tables(start_us: int, span_us: int, seed: int) -> dict[str, pa.Table]:
    """Return the content of every file; say how far it is when that takes a while."""
    parts: dict[str, list[dict[str, Stored]]] = {name: [] for name in FILES}
    due = market.settlements(start_us, span_us)
    begun = time.monotonic()
    for done, (instrument, shown) in enumerate(MARKETS):
        leg = instrument.leg
        path = market.fair_path(instrument, span_us // market.STEP_US + 2, seed)
        quotes = market.quotes(instrument, path, shown, span_us=span_us, seed=seed)
        made = {
            f"{leg}.parquet": quotes,
            f"{leg}_trades.parquet": market.trades(instrument, quotes, span_us=span_us, seed=seed),
        }
        if leg == "perp":
            made["funding.parquet"] = market.funding(instrument, path, due, start_us=start_us)
        for name, columns in made.items():
            parts[name].append(_stored(name, columns, instrument, start_us))
        elapsed = time.monotonic() - begun
        if elapsed > PROGRESS_AFTER_SECONDS:
            progress = f"{done + 1} of {len(MARKETS)} instruments after {elapsed:.0f} s"
            print(f"sample dataset: {progress}", file=sys.stderr)
    return {name: _table(name, columns) for name, columns in parts.items()}


def _stored(
    name: str, columns: IntegerColumns, instrument: Instrument, start_us: int
) -> dict[str, Stored]:
    """Return the columns as the file has them: times in ns UTC, prices and sizes as float64."""
    units = {"price": instrument.tick, "size": instrument.lot, "rate": RATE_UNIT}
    stored: dict[str, Stored] = {
        "symbol": np.full(len(columns["ts"]), SYMBOLS.index(instrument.symbol))
    }
    for column, values in columns.items():
        unit = units.get(FILES[name][1][column].unit)
        if column in ("ts", "calc_time"):
            stored[column] = (values + start_us) * 1000
        elif unit is None:
            stored[column] = values
        else:
            numerator, denominator = unit.as_integer_ratio()
            # One division of exact integers: the float64 nearest to the decimal, everywhere.
            stored[column] = values * numerator / denominator
    return stored


def _table(name: str, parts: Sequence[dict[str, Stored]]) -> pa.Table:
    """Return one file's table, its parts merged by time and then by symbol."""
    columns = {c: np.concatenate([part[c] for part in parts]) for c in FILES[name][1]}
    order = np.lexsort((columns["symbol"], columns["ts"]))
    arrays = {column: pa.array(values[order]) for column, values in columns.items()}
    for column in WORDS.keys() & arrays.keys():
        words = pa.DictionaryArray.from_arrays(arrays[column], WORDS[column])
        arrays[column] = words.cast(pa.string())
    return pa.table(arrays)


def main(argv: Sequence[str] | None = None) -> int:
    """Generate a dataset as the arguments say; return the exit code."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {GENERATOR}", description="Generate the sample dataset."
    )
    parser.add_argument("directory", nargs="?", default="data/binance", help="default: %(default)s")
    parser.add_argument(
        "--start", type=datetime.fromisoformat, default=START, help="default: %(default)s"
    )
    parser.add_argument("--minutes", type=int, default=MINUTES, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=SEED, help="default: %(default)s")
    arguments = parser.parse_args(argv)
    try:
        rows = generate(**vars(arguments))
    except ValueError as error:
        print(f"{error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"cannot write the dataset: {error}", file=sys.stderr)
        return 74
    counts = ", ".join(f"{name} {count}" for name, count in rows.items())
    print(f"{arguments.directory}: {counts} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
