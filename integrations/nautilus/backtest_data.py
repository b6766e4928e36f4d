"""What a backtest is fed: instruments and window of a dataset, as a catalog Nautilus reads."""

import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
import structlog
from nautilus_trader.backtest.config import BacktestDataConfig
from nautilus_trader.model.data import FundingRateUpdate, MarkPriceUpdate, QuoteTick
from nautilus_trader.model.identifiers import InstrumentId

from bridge.exits import CANNOT_RECORD, Exit
from integrations.binance.columns import Marks, Rates
from integrations.binance.dataset import Dataset, Integers
from integrations.binance.manifest import EPOCH, DatasetError, Instrument
from integrations.nautilus import catalog
from integrations.nautilus.backtest_settings import BacktestSettings
from integrations.nautilus.replay import instrument_of

log = structlog.get_logger("nautilus_backtest.data")

SYMBOLS_FIRST: Final = ("BTC", "ETH", "SOL")
VERSION: Final = 1  # of what a catalog holds; raise it with every change
NS: Final = 1_000_000_000
FILES: Final = "files.json"  # what a catalog consists of: written last, it marks a whole one


@dataclass(frozen=True, slots=True)
class Selection:
    """What of a dataset is fed: `rows` (spot before perp, within a leg BTC, ETH, SOL, then by the
    alphabet) over `[start_ns, end_ns)`."""

    rows: tuple[Instrument, ...]
    start_ns: int
    end_ns: int

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols, in the order in which they decide."""
        return tuple(dict.fromkeys(row.symbol for row in self.rows))

    def fed(self, data: Dataset) -> int:
        """Return how many quotes and funding rows lie in the window."""
        return sum(len(ts) for ts in self._times(data))

    def last_ts(self, data: Dataset) -> int | None:
        """Return the time of the last of them."""
        return max((int(ts[-1]) for ts in self._times(data) if len(ts)), default=None)

    def _times(self, data: Dataset) -> Iterator[Integers]:
        for row in self.rows:
            for rows in (data.quotes, data.funding) if row.leg == "perp" else (data.quotes,):
                ts = rows[row.id].ts
                yield ts[slice(*np.searchsorted(ts, (self.start_ns, self.end_ns)))]


def select(data: Dataset, settings: BacktestSettings) -> Selection:
    """Return the instruments, with the settings' terms, and the window.

    Raises DatasetError for symbols, instruments or days that the dataset does not have.
    """
    known = sorted({row.symbol for row in data.instruments}, key=_rank)
    if missing := sorted(set(settings.symbols) - set(known)):
        message = f"has no {', '.join(missing)}; it has {', '.join(known)}"
        raise DatasetError(data.path, message)
    ids = [row.id for row in data.instruments]
    if unknown := sorted(settings.instruments.keys() - set(ids)):
        message = (
            f"has no {', '.join(unknown)} (instruments of the settings); it has {', '.join(ids)}"
        )
        raise DatasetError(data.path, message)
    symbols = settings.symbols or known
    rows = [_with_terms(data, row, settings) for row in data.instruments if row.symbol in symbols]
    rows.sort(key=lambda row: (row.leg == "perp", *_rank(row.symbol)))
    return Selection(tuple(rows), *_window(data, settings))


def _rank(symbol: str) -> tuple[int, str]:
    first = SYMBOLS_FIRST.index(symbol) if symbol in SYMBOLS_FIRST else len(SYMBOLS_FIRST)
    return first, symbol


def _with_terms(data: Dataset, row: Instrument, settings: BacktestSettings) -> Instrument:
    terms = settings.instruments.get(row.id)
    given = {} if terms is None else terms.model_dump(exclude_none=True)
    fee = getattr(settings.fees, row.leg)
    changed = replace(row, **({} if fee is None else {"fee": fee}) | given)
    if (changed.price_decimals, changed.size_decimals) != (row.price_decimals, row.size_decimals):
        raise DatasetError(
            data.path,
            f"is written in ticks of {row.tick} and lots of {row.lot} for {row.id}: tick "
            f"{changed.tick} and lot {changed.lot} of the settings have other decimals",
        )
    return changed


def _window(data: Dataset, settings: BacktestSettings) -> tuple[int, int]:
    start, end = data.start_ns, data.end_ns
    if settings.start is not None:
        start = _midnight_ns(settings.start.isoformat())
    if settings.end is not None:
        end = _midnight_ns((settings.end + timedelta(days=1)).isoformat())
    if start >= end:
        raise DatasetError(data.path, f"the window is empty: it ends {_text(end)}, at its start")
    if start < data.start_ns or end > data.end_ns:
        raise DatasetError(
            data.path,
            f"has {_text(data.start_ns)} to {_text(data.end_ns)}, not the window "
            f"{_text(start)} to {_text(end)}; choose other days or another dataset",
        )
    return start, end


def _midnight_ns(day: str) -> int:
    return (datetime.fromisoformat(day).replace(tzinfo=UTC) - EPOCH) // timedelta(seconds=1) * NS


def _text(ts_ns: int) -> str:
    return f"{EPOCH + timedelta(microseconds=ts_ns // 1000):%Y-%m-%d %H:%M}"


def catalog_of(
    data: Dataset, rows: Sequence[Instrument], root: Path, progress: Callable[[float], None]
) -> Path:
    """Return the catalog of all the dataset's rows of these instruments, made when there is none.

    It is found again by a hash of content and instruments; one that is no longer what was written
    is made anew. `progress` is told the fraction that is written. Raises bridge.exits.Exit when it
    cannot be written.
    """
    made_of = {
        "dataset": data.sha256,
        "instruments": [asdict(row) for row in rows],
        "version": VERSION,
        "nautilus": version("nautilus_trader"),
    }
    text = json.dumps(made_of, sort_keys=True, default=str)
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    target = root / name
    try:
        with _locked(root):
            if target.exists():
                if _is_as_written(target):
                    log.info("catalog.reused", folder=str(target))
                    return target
                why = "it was not finished, or its files are not what was written"
                log.warning("catalog.discarded", folder=str(target), why=why)
                shutil.rmtree(target)
            _write(data, rows, target, progress)
    except OSError as error:
        raise Exit(
            CANNOT_RECORD,
            f"catalog: {root}: the converted dataset cannot be written: {error.strerror or error}; "
            "make room there, or name another folder (`catalog` of the settings)",
        ) from None
    log.info("catalog.written", folder=str(target))
    return target


def _is_as_written(folder: Path) -> bool:
    """Return whether a catalog is whole, and what was written. Raises OSError."""
    try:
        return (folder / FILES).read_bytes() == _files(folder)
    except FileNotFoundError:
        return False


def _files(folder: Path) -> bytes:
    """Return what a catalog consists of, as JSON: `{path: [size in bytes, sha256]}`."""
    found: dict[str, tuple[int, str]] = {}
    for path in folder.rglob("*"):
        if path.is_file() and path != folder / FILES:
            content = path.read_bytes()
            found[str(path.relative_to(folder))] = len(content), hashlib.sha256(content).hexdigest()
    return json.dumps(found, sort_keys=True).encode()


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Let one process at a time look into `root` and convert."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write(
    data: Dataset, rows: Sequence[Instrument], root: Path, progress: Callable[[float], None]
) -> None:
    """Write a catalog, or nothing. Raises OSError."""
    root.mkdir()
    try:
        _fill(data, rows, root, progress)
        (root / FILES).write_bytes(_files(root))
    except OSError:
        shutil.rmtree(root, ignore_errors=True)
        raise


def _fill(
    data: Dataset, rows: Sequence[Instrument], root: Path, progress: Callable[[float], None]
) -> None:
    for done, row in enumerate(rows):
        progress(done / len(rows))
        instrument = instrument_of(row)
        catalog.write_instrument(root, instrument)
        catalog.write(root, instrument, data.quotes[row.id])
        if row.leg == "perp":
            funding = data.funding[row.id]
            catalog.write(root, instrument, Marks(funding.ts, funding.mark))
            catalog.write(root, instrument, Rates(funding.ts, funding.rate, funding.interval_hours))
    progress(1.0)


def data_configs(path: Path, rows: Sequence[Instrument]) -> list[BacktestDataConfig]:
    """Return what a BacktestNode reads, in the order that events of the same time have.

    Nautilus sorts by time, and stably: what is read first comes first. So at each time marks stand
    before funding, before quotes of spot, before those of perpetuals; timers run behind them all.
    """
    perps = [row for row in rows if row.leg == "perp"]
    spots = [row for row in rows if row.leg == "spot"]
    kinds = ((MarkPriceUpdate, perps), (FundingRateUpdate, perps), (QuoteTick, spots + perps))
    return [
        BacktestDataConfig(
            catalog_path=str(path), data_cls=kind, instrument_id=InstrumentId.from_str(row.id)
        )
        for kind, chosen in kinds
        for row in chosen
    ]
