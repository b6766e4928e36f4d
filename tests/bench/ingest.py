"""Rows of the ingestion: how fast venue files become a catalog, and how much memory that takes.

Ours is everything: a spot dump of trades is hashed, parsed from its text, checked and written.
Nautilus is given the same rows parsed already, as a data frame of float64, and does what it has to
do: its V1 wrangler makes the ticks, its catalog writes them.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from nautilus_trader.persistence.catalog import ParquetDataCatalog
from nautilus_trader.persistence.wranglers import TradeTickDataWrangler
from numpy.typing import NDArray

from integrations.binance.columns import Columns
from integrations.binance.dataset import Integers, Trades
from integrations.binance.ingest import Job, find_jobs, ingest
from integrations.binance.instruments import read_instruments
from integrations.binance.journal import open_journal
from integrations.binance.manifest import Instrument
from integrations.nautilus import catalog
from integrations.nautilus.replay import instrument_of
from integrations.nautilus.wranglers import frame
from tests.bench.books import MEASURED, RSS_BYTES
from tests.bench.machine import Bench, Round
from tests.bench.steady import MIB
from tests.bridge.processes import ROOT, environment

ROWS = 307_200
FEW_ROWS, TIMES = 1_024_000, 10
PART_ROWS = 102_400
SYMBOL, FILE = "BTCUSDT", "BTCUSDT-trades-2025-07-01.csv"
START_US = 1_751_328_000_000_000


def ingest_rate(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield our rows per second over Nautilus's; `lost` when the two catalogs differ."""
    count, source = bench.entries(ROWS), bench.folder / "ingest-source"
    _write_dump(source, count)
    instruments = read_instruments(None)
    jobs, _ = find_jobs(source, [SYMBOL], "spot", instruments)
    instrument = instrument_of(jobs[0].instrument)
    parsed = frame(_trades(0, count), instrument.price_precision, instrument.size_precision)
    for number in range(rounds):
        ours, theirs = (bench.folder / f"{name}-{number}" for name in ("ours", "theirs"))
        theirs.mkdir()
        our_seconds = _seconds(jobs, ours)
        start = time.perf_counter()
        ticks = TradeTickDataWrangler(instrument).process(parsed.copy())
        wrangled = time.perf_counter() - start
        ParquetDataCatalog(str(theirs)).write_data(ticks)
        their_seconds = time.perf_counter() - start
        del ticks
        lost = 0 if _table(ours).equals(_table(theirs)) else count
        detail = {
            "rows_s": count / our_seconds,
            "nautilus_rows_s": count / their_seconds,
            "wrangler_s": wrangled,
            "write_data_s": their_seconds - wrangled,
        }
        yield Round(their_seconds / our_seconds, detail, lost)
        for folder in (ours, theirs):
            shutil.rmtree(folder)


def _seconds(jobs: Sequence[Job], root: Path) -> float:
    """Return how long it takes to ingest the files into a fresh catalog."""
    instrument = instrument_of(jobs[0].instrument)

    def target(_: Instrument, columns: Columns, ts_init: Integers) -> Path:
        return catalog.target_of(root, instrument, columns, ts_init)

    def write(_: Instrument, columns: Columns, ts_init: Integers) -> None:
        catalog.write(root, instrument, columns, ts_init)

    start = time.perf_counter()
    with open_journal(root) as journal:
        for outcome in ingest(jobs, journal, target, write):
            if outcome.refused:
                raise RuntimeError(outcome.refused)
    return time.perf_counter() - start


def ingest_rss(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield the peak of the command's memory for ten times the rows over that for the rows."""
    few_rows = max(bench.entries(FEW_ROWS), 2 * PART_ROWS)  # less than a chunk would tell nothing
    sizes = [few_rows, TIMES * few_rows]
    sources = [bench.folder / f"ingest-{count}" for count in sizes]
    for source, count in zip(sources, sizes, strict=True):
        _write_dump(source, count)
        print(".", end="", flush=True)
    for _ in range(rounds):
        runs = [_measured(bench, *each) for each in zip(sources, sizes, strict=True)]
        (few, _, few_lost), (many, seconds, many_lost) = runs
        detail = {"few_mib": few / MIB, "many_mib": many / MIB, "rows_s": sizes[1] / seconds}
        yield Round(many / few, detail, few_lost + many_lost)
    for source in sources:
        shutil.rmtree(source)


def _measured(bench: Bench, source: Path, count: int) -> tuple[float, float, int]:
    """Return the peak in bytes, the seconds, and the rows that are not in the catalog."""
    folder = bench.folder / "ingest-catalog"
    command = [sys.executable, "-m", "integrations.binance", "ingest", "--source", str(source)]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *command, "--catalog", str(folder), "--symbols", SYMBOL],
        cwd=ROOT,
        env=environment({}),
        capture_output=True,
        text=True,
        check=True,
    )
    code, seconds, _, rss = map(float, done.stdout.rstrip().rpartition("\n")[2].split())
    if code:
        raise RuntimeError(f"the command ended with {code:.0f}: {done.stderr}")
    rows = sum(pq.read_metadata(path).num_rows for path in _files(folder))
    shutil.rmtree(folder)
    return rss * RSS_BYTES, seconds, count - rows


def _files(folder: Path) -> Sequence[Path]:
    return sorted((folder / "data/trade_tick").rglob("*.parquet"))


def _table(folder: Path) -> pa.Table:
    schema = pq.read_schema(_files(folder)[0])
    return pa.concat_tables(pq.read_table(path) for path in _files(folder)).cast(schema)


def _trades(first: int, count: int) -> Trades:
    """Return trades that a price walks through, some at the same time."""
    ids = np.arange(first, first + count, dtype=np.int64)
    price = 10_700_000 + (1000 * np.sin(ids / 5000)).astype(np.int64) * 10 + ids * 7919 % 31
    side = np.where(ids * 6151 % 7 < 4, 1, -1)
    return Trades(START_US * 1000 + ids // 3 * 1_000_000, price, 1 + ids * 9973 % 99_991, side, ids)


def _write_dump(folder: Path, count: int) -> None:
    """Write them in the layout of the venue's spot dumps, part by part."""
    folder.mkdir()
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
    with (folder / FILE).open("wb") as file:
        for first in range(0, count, PART_ROWS):
            trades = _trades(first, min(PART_ROWS, count - first))
            columns = {
                "id": trades.trade_id,
                "price": _text(trades.price, 2),
                "qty": _text(trades.size, 5),
                "quote": _text(trades.price, 4),
                "time": trades.ts // 1000,
                "maker": np.where(trades.side < 0, "True", "False"),
                "best": np.full(len(trades.ts), "True"),
            }
            pyarrow.csv.write_csv(pa.table(columns), file, options)


def _text(units: NDArray[np.int64], places: int) -> pa.Array:
    """Return numbers of so many places as the venue writes them, with eight decimals."""
    whole = pa.array(units * 10 ** (8 - places)).cast(pa.decimal128(19, 0))
    buffers = whole.buffers()
    return pa.Array.from_buffers(pa.decimal128(38, 8), len(whole), buffers).cast(pa.string())
