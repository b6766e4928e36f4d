"""Read a dataset of quotes, trades and funding, and refuse whatever is not exactly right.

A dataset is a folder with a `MANIFEST.json` (instruments, time range, and per file the number of
rows and a hash of the content) and the parquet files that it names, of those in `FILES`. Quotes of
both legs and funding are always there, trades may be. Prices and sizes are float64 on disk, as in
most market data; they leave this module as exact integers.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from integrations.binance.layout import FILES, MANIFEST, RATE_DECIMALS, SIDES, Layout
from integrations.binance.manifest import (
    AGAIN,
    DECIMALS_MAX,
    DatasetError,
    Instrument,
    Manifest,
    read_manifest,
)

type Integers = NDArray[np.int64]
type Mask = NDArray[np.bool_]

POWERS = np.array([float(10**d) for d in range(DECIMALS_MAX + 1)])
INEXACT_ABOVE = 1e-6  # in units of the last decimal
EXACT_BELOW = 2**53  # a float64 holds every integer below this


@dataclass(frozen=True, slots=True, eq=False)
class Quotes:
    """Best bid and ask. `ts` in ns UTC, the rest in units of the instrument's last decimal."""

    ts: Integers
    bid: Integers
    ask: Integers
    bid_size: Integers
    ask_size: Integers


@dataclass(frozen=True, slots=True, eq=False)
class Trades:
    """Trades, in the units of `Quotes`. `side` is the aggressor's: 1 BUYER, -1 SELLER."""

    ts: Integers
    price: Integers
    size: Integers
    side: Integers
    trade_id: Integers


@dataclass(frozen=True, slots=True, eq=False)
class Funding:
    """Settlements. `ts` in ns UTC, `rate` in units of 10**-8, `mark` in the price's units."""

    ts: Integers
    rate: Integers
    interval_hours: Integers
    mark: Integers


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """What a folder holds, made for `[start_ns, end_ns)`; the mappings go by instrument id.

    Each instrument is in `quotes` and `trades`, each perpetual in `funding`. Arrays are read-only,
    in time order, and empty where the files have no row for the instrument. `sha256` is over the
    instruments, the time range and the content of the whole folder, whatever part was asked for.
    """

    path: Path
    start_ns: int
    end_ns: int
    instruments: tuple[Instrument, ...]
    quotes: Mapping[str, Quotes]
    trades: Mapping[str, Trades]
    funding: Mapping[str, Funding]
    sha256: str


def load(path: Path | str, *, symbols: Collection[str] | None = None) -> Dataset:
    """Return the dataset in a folder, every value checked.

    `path` is the folder or its `spot.parquet`; `symbols` leaves the other instruments out. Raises
    DatasetError for the first problem: a folder, file, column or symbol that is missing or cannot
    be read, content that is not what the manifest says, rows out of time order, two settlements of
    one symbol at one time, and values that no market has or that are not exact in the instrument's
    decimals.
    """
    folder = Path(path)
    if folder.name in FILES:
        folder = folder.parent
    manifest = read_manifest(folder)
    instruments = _wanted(folder, manifest, symbols)

    def read[T: (Quotes, Trades, Funding)](kind: type[T], *names: str) -> dict[str, T]:
        found: dict[str, Mapping[str, Integers]] = {}
        for name in names:
            if name in manifest.files:
                found |= _read_file(folder / name, manifest)
        legs = {FILES[name][0] for name in names}
        nothing = {each.name: np.empty(0, dtype=np.int64) for each in fields(kind)}
        return {i.id: _record(kind, found.get(i.id, nothing)) for i in instruments if i.leg in legs}

    return Dataset(
        path=folder,
        start_ns=manifest.start_ns,
        end_ns=manifest.end_ns,
        instruments=instruments,
        quotes=read(Quotes, "spot.parquet", "perp.parquet"),
        trades=read(Trades, "spot_trades.parquet", "perp_trades.parquet"),
        funding=read(Funding, "funding.parquet"),
        sha256=manifest.sha256,
    )


def content_hash(table: pa.Table) -> str:
    """Return the sha256 of the columns' names, types and values, which must not be null.

    Not of the file: its bytes differ between versions of pyarrow.
    """
    digest = hashlib.sha256()
    for field, column in zip(table.schema, table.columns, strict=True):
        digest.update(f"{field.name} {field.type} {len(column)}\n".encode())
        if pa.types.is_string(field.type):
            words, values = _encode(column)
            digest.update(json.dumps(words).encode())
        else:
            values = column.to_numpy()
        digest.update(values.astype(values.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def scale(values: NDArray[np.float64], decimals: Integers) -> tuple[Integers, Mask]:
    """Return `values` in units of `10**-decimals`, row by row, and where they are exact.

    Exact is within 1e-6 units of an integer below 2**53. What is not exact comes back as 0.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        units = values * POWERS[decimals]
        nearest = np.rint(units)
        exact = (np.abs(units - nearest) <= INEXACT_ABOVE) & (np.abs(nearest) < EXACT_BELOW)
    return np.where(exact, nearest, 0).astype(np.int64), exact


def _wanted(
    folder: Path, manifest: Manifest, symbols: Collection[str] | None
) -> tuple[Instrument, ...]:
    """Return the instruments of `symbols`, all when it is None. Raises DatasetError."""
    if symbols is None:
        return manifest.instruments
    known = list(dict.fromkeys(instrument.symbol for instrument in manifest.instruments))
    if unknown := [symbol for symbol in symbols if symbol not in known]:
        raise DatasetError(folder, f"has no symbol {unknown[0]!r}; it has {', '.join(known)}")
    return tuple(i for i in manifest.instruments if i.symbol in symbols)


def _read_file(path: Path, manifest: Manifest) -> dict[str, dict[str, Integers]]:
    """Return the checked columns of one file, for each instrument of its leg."""
    leg, layout = FILES[path.name]
    table = _read_table(path, layout)
    expected = manifest.files[path.name]
    if table.num_rows != expected.rows:
        message = f"has {table.num_rows} rows, {MANIFEST} says {expected.rows}; {AGAIN}"
        raise DatasetError(path, message)
    instruments = [i for i in manifest.instruments if i.leg == leg]
    order = {instrument.symbol: code for code, instrument in enumerate(instruments)}
    symbols = _codes(path, table, "symbol", order)
    decimals = {
        "": np.zeros(len(symbols), dtype=np.int64),
        "price": np.array([i.price_decimals for i in instruments], dtype=np.int64)[symbols],
        "size": np.array([i.size_decimals for i in instruments], dtype=np.int64)[symbols],
        "rate": np.full(len(symbols), RATE_DECIMALS),
    }
    columns = {
        name: _integers(path, table, name, decimals[layout[name].unit])
        for name in layout
        if name != "symbol"
    }
    _check_rows(path, columns)
    if "rate" in columns:
        _check_settlements(path, columns["ts"], symbols)
    if content_hash(table) != expected.sha256:
        raise DatasetError(path, f"content differs from what {MANIFEST} says (sha256); {AGAIN}")
    return {
        instrument.id: {name: values[symbols == code] for name, values in columns.items()}
        for code, instrument in enumerate(instruments)
    }


def _read_table(path: Path, layout: Layout) -> pa.Table:
    """Return the columns of `layout`, in its order and types, without nulls."""
    if not path.is_file():
        raise DatasetError(path, f"does not exist, and nothing can stand in for it; {AGAIN}")
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            for name, column in layout.items():
                if schema.names.count(name) != 1:
                    raise DatasetError(path, f"column {name} is missing (or not unique); {AGAIN}")
                found = str(schema.field(name).type).removeprefix("large_")
                if found != column.arrow:
                    message = f"column {name} is {found}; write it as {column.arrow}"
                    raise DatasetError(path, message)
            table = file.read(columns=list(layout)).select(list(layout))
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(path, f"not a readable parquet file ({error}); {AGAIN}") from error
    for name in layout:
        null = table.column(name).is_null().to_numpy()
        _reject(path, null, f"{name} is null; fill or drop the row")
    types = [(name, pa.type_for_alias(column.arrow)) for name, column in layout.items()]
    return table.cast(pa.schema(types))


def _integers(path: Path, table: pa.Table, name: str, decimals: Integers) -> Integers:
    """Return a column as integers, in units of each row's last decimal."""
    column = FILES[path.name][1][name]
    if name == "side":
        return _codes(path, table, name, SIDES)
    values = table.column(name).to_numpy()
    result: Integers = values
    if column.arrow == "double":
        _reject(path, ~np.isfinite(values), f"{name} is not a number; drop or repair the row")
        result, exact = scale(values, decimals)
        message = f"{name} has more decimals than its instrument; correct it or {MANIFEST}"
        _reject(path, ~exact, message, values)
    if column.least is not None:
        low = "negative" if column.least == 0 else "not positive"
        _reject(path, result < column.least, f"{name} is {low}; drop or repair the row", values)
    return result


def _codes(path: Path, table: pa.Table, name: str, known: Mapping[str, int]) -> Integers:
    """Return the column's words as the numbers that `known` gives them."""
    words, indices = _encode(table.column(name))
    for index, word in enumerate(words):
        if word not in known:
            message = f"{name} {word!r} is unknown; expected {', '.join(known) or 'no row at all'}"
            _reject(path, indices == index, message)
    return np.array([known[word] for word in words], dtype=np.int64)[indices]


def _encode(column: pa.ChunkedArray) -> tuple[list[str], Integers]:
    """Return the distinct words in the order they first occur, and each row's index into them."""
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)


def _check_rows(path: Path, columns: Mapping[str, Integers]) -> None:
    ts = columns["ts"]
    _reject(path, np.append(False, ts[1:] < ts[:-1])[: len(ts)], "ts goes back; sort by ts")
    if "bid" in columns:
        _reject(path, columns["bid"] > columns["ask"], "bid is above ask; drop or repair the row")


def _check_settlements(path: Path, ts: Integers, symbols: Integers) -> None:
    """Refuse a second settlement of one symbol at one time: it would be paid twice."""
    order = np.lexsort((symbols, ts))  # stable: of two equal rows the later one is named
    ts, symbols = ts[order], symbols[order]
    again = np.zeros(len(ts), dtype=np.bool_)
    again[order[1:]] = (ts[1:] == ts[:-1]) & (symbols[1:] == symbols[:-1])
    _reject(path, again, "a settlement of this symbol and ts is there already; drop one")


def _reject(path: Path, bad: Mask, message: str, values: NDArray[np.generic] | None = None) -> None:
    """Raise DatasetError for the first bad row, with its value where one is given."""
    if bad.any():
        row = int(np.argmax(bad))
        shown = "" if values is None else f" ({values[row]})"
        raise DatasetError(path, f"row {row}{shown}: {message}")


def _record[T: (Quotes, Trades, Funding)](kind: type[T], columns: Mapping[str, Integers]) -> T:
    """Build a record of read-only arrays from the columns that it has fields for."""
    names = [field.name for field in fields(kind)]
    for name in names:
        columns[name].setflags(write=False)
    return kind(**{name: columns[name] for name in names})
