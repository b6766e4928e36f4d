"""Read a dataset of quotes, trades and funding, and refuse whatever is not exactly right.

A dataset is a folder with the parquet files named in `FILES` and a `MANIFEST.json` (instruments,
time range, and per file the number of rows and a hash of the content). Prices and sizes are
float64 on disk, as in most market data; they leave this module as exact integers.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

type Integers = NDArray[np.int64]
type Mask = NDArray[np.bool_]

MANIFEST = "MANIFEST.json"
RATE_DECIMALS = 8
DECIMALS_MAX = 16  # of an instrument; more than any venue quotes
POWERS = np.array([float(10**d) for d in range(DECIMALS_MAX + 1)])
INEXACT_ABOVE = 1e-6  # in units of the last decimal
EXACT_BELOW = 2**53  # a float64 holds every integer below this
SIDES = {"BUYER": 1, "SELLER": -1}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
AGAIN = "copy or generate the dataset again"


class Column(NamedTuple):
    """How a column is stored. `unit` picks its decimals; `least` counts units of the last one."""

    arrow: str
    unit: str = ""
    least: int | None = None


TEXT = Column("string")
INTEGER = Column("int64")
PRICE = Column("double", "price", least=1)
SIZE = Column("double", "size", least=1)
SHOWN = Column("double", "size", least=0)  # an empty touch is a fact, an empty trade is not
RATE = Column("double", "rate")
HOURS = Column("int64", least=1)

type Layout = Mapping[str, Column]
QUOTES: Layout = {
    "ts": INTEGER,
    "symbol": TEXT,
    "bid": PRICE,
    "ask": PRICE,
    "bid_size": SHOWN,
    "ask_size": SHOWN,
}
TRADES: Layout = {
    "ts": INTEGER,
    "symbol": TEXT,
    "price": PRICE,
    "size": SIZE,
    "side": TEXT,
    "trade_id": INTEGER,
}
FUNDING: Layout = {
    "ts": INTEGER,
    "calc_time": INTEGER,
    "symbol": TEXT,
    "rate": RATE,
    "interval_hours": HOURS,
    "mark": PRICE,
}
FILES: Mapping[str, tuple[str, Layout]] = {
    "spot.parquet": ("spot", QUOTES),
    "perp.parquet": ("perp", QUOTES),
    "spot_trades.parquet": ("spot", TRADES),
    "perp_trades.parquet": ("perp", TRADES),
    "funding.parquet": ("perp", FUNDING),
}


class DatasetError(ValueError):
    """A dataset that cannot be used: `path` names the file or folder, the message the rest."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


@dataclass(frozen=True, slots=True)
class Instrument:
    """One row of the instruments table. `fee` is the taker's fraction, `leg` is spot or perp."""

    id: str
    symbol: str
    leg: str
    tick: Decimal
    lot: Decimal
    min_notional: Decimal
    fee: Decimal
    base: str
    quote: str

    @property
    def price_decimals(self) -> int:
        """Return the decimals of prices: those the tick is written with."""
        return _decimals(self.tick)

    @property
    def size_decimals(self) -> int:
        """Return the decimals of sizes: those the lot is written with."""
        return _decimals(self.lot)


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
    in time order, and empty where the files have no row for the instrument.
    """

    path: Path
    start_ns: int
    end_ns: int
    instruments: tuple[Instrument, ...]
    quotes: Mapping[str, Quotes]
    trades: Mapping[str, Trades]
    funding: Mapping[str, Funding]


class _FileEntry(NamedTuple):
    rows: int
    sha256: str


class _Manifest(NamedTuple):
    start_ns: int
    end_ns: int
    instruments: tuple[Instrument, ...]
    files: Mapping[str, _FileEntry]


def load(directory: Path | str) -> Dataset:
    """Return the dataset in `directory`, every value checked.

    Raises DatasetError for the first problem: a folder, file or column that is missing or cannot
    be read, content that is not what the manifest says, rows out of time order, and values that
    no market has or that are not exact in the instrument's decimals.
    """
    path = Path(directory)
    manifest = _read_manifest(path)
    read = {name: _read_file(path / name, manifest) for name in FILES}
    quotes = read["spot.parquet"] | read["perp.parquet"]
    trades = read["spot_trades.parquet"] | read["perp_trades.parquet"]
    return Dataset(
        path=path,
        start_ns=manifest.start_ns,
        end_ns=manifest.end_ns,
        instruments=manifest.instruments,
        quotes={id_: _record(Quotes, columns) for id_, columns in quotes.items()},
        trades={id_: _record(Trades, columns) for id_, columns in trades.items()},
        funding={
            id_: _record(Funding, columns) for id_, columns in read["funding.parquet"].items()
        },
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


def _read_manifest(directory: Path) -> _Manifest:
    path = directory / MANIFEST
    if not path.is_file():
        missing = path if directory.is_dir() else directory
        command = f"python -m integrations.binance.sample {directory}"
        raise DatasetError(missing, f"does not exist; generate a dataset with `{command}`")
    try:
        content = json.loads(path.read_bytes())
        instruments = tuple(_instrument(row) for row in content["instruments"])
        if len({(i.symbol, i.leg) for i in instruments}) < len(instruments):
            raise ValueError("two instruments have the same symbol and leg")
        if len({i.id for i in instruments}) < len(instruments):
            raise ValueError("two instruments have the same id")
        files = {
            name: _FileEntry(
                _typed(content["files"][name], "rows", int),
                _typed(content["files"][name], "sha256", str),
            )
            for name in FILES
        }
        return _Manifest(_time(content, "start"), _time(content, "end"), instruments, files)
    except KeyError as error:
        raise DatasetError(path, f"{error} is missing in it; {AGAIN}") from error
    except (OSError, TypeError, ValueError) as error:
        raise DatasetError(path, f"broken: {error}; {AGAIN}") from error


def _instrument(row: Mapping[str, object]) -> Instrument:
    leg = _typed(row, "leg", str)
    if leg not in ("spot", "perp"):
        raise ValueError(f"leg is {leg!r}, expected spot or perp")
    return Instrument(
        id=_typed(row, "id", str),
        symbol=_typed(row, "symbol", str),
        leg=leg,
        tick=_number(row, "tick", zero=False),
        lot=_number(row, "lot", zero=False),
        min_notional=_number(row, "min_notional", zero=True),
        fee=_number(row, "fee", zero=True),
        base=_typed(row, "base", str),
        quote=_typed(row, "quote", str),
    )


def _number(row: Mapping[str, object], key: str, *, zero: bool) -> Decimal:
    text = _typed(row, key, str)
    try:
        number = Decimal(text)
    except ArithmeticError:
        number = Decimal("NaN")
    if not number.is_finite() or number < 0 or (number == 0 and not zero):
        raise ValueError(f"{key} is {text!r}, expected a number {'from' if zero else 'above'} 0")
    if _decimals(number) > DECIMALS_MAX:
        raise ValueError(f"{key} is {text!r}, expected at most {DECIMALS_MAX} decimals")
    return number


def _typed[T](row: Mapping[str, object], key: str, kind: type[T]) -> T:
    value = row[key]
    if not isinstance(value, kind):
        raise ValueError(f"{key} is {value!r}, expected {kind.__name__}")
    return value


def _time(content: Mapping[str, object], key: str) -> int:
    time = datetime.fromisoformat(_typed(content, key, str))
    if time.tzinfo is None:
        raise ValueError(f"{key} is {time}, without a time zone")
    return (time - EPOCH) // timedelta(microseconds=1) * 1000


def _decimals(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _read_file(path: Path, manifest: _Manifest) -> dict[str, dict[str, Integers]]:
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
    if content_hash(table) != expected.sha256:
        raise DatasetError(path, f"content differs from what {MANIFEST} says (sha256); {AGAIN}")
    return {
        instrument.id: {name: values[symbols == code] for name, values in columns.items()}
        for code, instrument in enumerate(instruments)
    }


def _read_table(path: Path, layout: Layout) -> pa.Table:
    """Return the columns of `layout`, in its order and types, without nulls."""
    if not path.is_file():
        raise DatasetError(path, f"does not exist; {AGAIN}")
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
