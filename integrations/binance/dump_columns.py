"""Rows of a market data file -> the exact columns of its kind, every value checked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from integrations.binance.columns import (
    ADD,
    CLEAR,
    DELETE,
    LAST,
    SNAPSHOT,
    UPDATE,
    Columns,
    Deltas,
    Depth,
    Klines,
    Marks,
    NamedTrades,
    Rates,
)
from integrations.binance.dataset import Integers, Mask, Quotes, Trades
from integrations.binance.exact import NS_BY_DIGITS, exact_units, in_range, largest, nanoseconds
from integrations.binance.source_files import Decimals, FileError, Source

DEPTH_LEVELS: Final = 10  # deeper books become deltas, so that no level is lost
HOUR_NS: Final = 3_600_000_000_000
LATE_NS_MAX: Final = 60_000_000_000  # a settlement is on the hour; its calc_time a little later
TRADE_ID_MAX: Final = 36  # characters, in Nautilus

SIDES: Final[Mapping[str, int]] = {
    **dict.fromkeys(("b", "bid", "buy", "buyer"), 1),
    **dict.fromkeys(("a", "ask", "sell", "seller"), -1),
    "unknown": 0,
}
FLAGS: Final[Mapping[str, int]] = {"true": 1, "false": 0}
UPDATES: Final[Mapping[str, int]] = {"snap": 1, "set": 0}


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of a file, from its row `start` on. What is wrong with them raises FileError."""

    source: Source
    table: pa.Table
    decimals: Decimals
    start: int

    def reject(self, bad: Mask, field: str, message: str) -> None:
        """Raise FileError for the first bad row, with the value of the field in it."""
        if bad.any():
            row = int(np.argmax(bad))
            where = self.source.place(self.start + row, field)
            value = self.array(field)[row].as_py()
            shown = "" if value is None else f"{value} "
            raise FileError(self.source.path, f"{where}: {shown}{message}")

    def has(self, field: str) -> bool:
        """Tell whether the file has the field."""
        return field in self.source.layout.fields

    def array(self, field: str) -> pa.Array:
        """Return a field as the file has it."""
        return self.table.column(field).combine_chunks()

    def filled(self, field: str) -> pa.Array:
        """Return a field that no row may leave empty."""
        array = self.array(field)
        if array.null_count:
            empty = array.is_null().to_numpy(zero_copy_only=False)
            self.reject(empty, field, "is empty; drop or repair the row")
        return array

    def units(self, field: str, *, least: int | None = None, signed: bool = True) -> Integers:
        """Return a number in units of its last decimal, at least so many of them."""
        array = self.filled(field)
        decimals = self.decimals.of(field) or 0
        units, exact = exact_units(array, decimals, signed=signed)
        message = (
            f"has more decimals than its instrument ({decimals}), is too large or no number; "
            "correct the file, or name the tick and lot of that time with --instruments"
        )
        self.reject(~exact, field, message)
        most = largest(field)
        high = ~in_range(units if signed else units.view(np.uint64), most, decimals)
        self.reject(high, field, f"is more than the {most} that Nautilus holds; correct the file")
        if least is not None:
            low = "is negative" if least == 0 else "is not positive"
            self.reject(units < least, field, f"{low}; drop or repair the row")
        return units

    def times(self, field: str) -> Integers:
        """Return a time in ns UTC."""
        array, digits = self.filled(field), 0
        if pa.types.is_integer(array.type):
            digits = len((self.source.first or {}).get(field, ""))
            if digits not in NS_BY_DIGITS:
                message = "is no time; expected 13 (ms), 16 (us) or 19 (ns) digits since 1970"
                self.reject(np.ones(len(array), dtype=np.bool_), field, message)
        elif not pa.types.is_timestamp(array.type):
            message = "is no time; write integers since 1970, or timestamps"
            self.reject(np.ones(len(array), dtype=np.bool_), field, message)
        times, fits = nanoseconds(array, digits)
        self.reject(~fits, field, f"has another unit than the file's first row ({digits} digits)")
        self.reject(times < 0, field, "is before 1970; drop or repair the row")
        return times

    def integers(self, field: str) -> Integers:
        """Return an integer."""
        values, exact = exact_units(self.filled(field), 0)
        self.reject(~exact, field, "is no integer of 64 bits; repair the row")
        return values

    def words(self, field: str, known: Mapping[str, int]) -> Integers:
        """Return the numbers that stand for the field's words, in any case."""
        array = self.filled(field)
        encoded = array.cast(pa.string()).dictionary_encode()
        indices: Integers = encoded.indices.to_numpy().astype(np.int64)
        words = [word.lower() for word in encoded.dictionary.to_pylist()]
        for index, word in enumerate(words):
            if word not in known:
                self.reject(indices == index, field, f"is unknown; expected {', '.join(known)}")
        return np.array([known[word] for word in words], dtype=np.int64)[indices]


def columns_of(rows: Rows) -> tuple[Columns, Integers]:
    """Return the columns of some rows and their ts_init. Raises FileError.

    The ts_init is the time of the recorder where the file has one, else the venue's.
    """
    for name in ("symbol", "exchange"):
        if rows.has(name):
            first = rows.source.first[name] if rows.source.first else ""
            other = pc.fill_null(pc.not_equal(rows.array(name), first), True)
            message = f"is another {name} than in the first row; split the file by {name}"
            rows.reject(other.to_numpy(zero_copy_only=False), name, message)
    ts = rows.times("ts")
    init = rows.times("init") if rows.has("init") else ts
    back = np.append(False, init[1:] < init[:-1])
    rows.reject(back, "init" if rows.has("init") else "ts", "goes back; sort the file by it")
    return KINDS[rows.source.layout.kind](rows, ts, init)


def _trades(rows: Rows, ts: Integers, init: Integers) -> tuple[Columns, Integers]:
    price, size = rows.units("price", least=1), rows.units("size", least=1)
    side = rows.words("side", SIDES) if rows.has("side") else 1 - 2 * rows.words("maker", FLAGS)
    if not rows.has("id"):
        ids = np.arange(rows.start + 1, rows.start + 1 + len(ts))
        return Trades(ts, price, size, side, ids), init
    array = rows.filled("id")
    if pa.types.is_integer(array.type):
        return Trades(ts, price, size, side, rows.integers("id")), init
    long = pc.greater(pc.utf8_length(array), TRADE_ID_MAX).to_numpy(zero_copy_only=False)
    rows.reject(long, "id", f"is longer than {TRADE_ID_MAX} characters; shorten it")
    return NamedTrades(ts, price, size, side, array), init


def _quotes(rows: Rows, ts: Integers, init: Integers) -> tuple[Columns, Integers]:
    bid, ask = rows.units("bid", least=1), rows.units("ask", least=1)
    return Quotes(
        ts, bid, ask, rows.units("bid_size", least=0), rows.units("ask_size", least=0)
    ), init


def _klines(rows: Rows, ts: Integers, init: Integers) -> tuple[Columns, Integers]:
    interval = rows.source.layout.interval
    if not interval:
        message = "its name does not say the interval; call it like BTCUSDT-1m-2025-07-01.csv"
        raise FileError(rows.source.path, message)
    open_, high, low, close = (rows.units(name) for name in ("open", "high", "low", "close"))
    rows.reject(high < np.maximum(open_, close), "high", "is below open or close; drop the row")
    rows.reject(low > np.minimum(open_, close), "low", "is above open or close; drop the row")
    volume = rows.units("volume", signed=False).view(np.uint64)
    return Klines(ts, open_, high, low, close, volume, interval), init


def _marks(rows: Rows, ts: Integers, init: Integers) -> tuple[Columns, Integers]:
    return Marks(ts, rows.units("price", least=1)), init


def _rates(rows: Rows, ts: Integers, _: Integers) -> tuple[Columns, Integers]:
    settled = (ts + HOUR_NS // 2) // HOUR_NS * HOUR_NS
    message = "is more than a minute from a full hour, where settlements are; repair the row"
    rows.reject(np.abs(ts - settled) > LATE_NS_MAX, "ts", message)
    again = np.append(False, settled[1:] == settled[:-1])
    rows.reject(again, "ts", "is of the same settlement as the row before; drop one of them")
    hours = rows.integers("hours")
    rows.reject((hours < 1) | (hours > 24), "hours", "is no interval of 1 to 24 hours")
    return Rates(settled, rows.units("rate"), hours), settled


def _depth(rows: Rows, ts: Integers, init: Integers) -> tuple[Columns, Integers]:
    bid, ask, bid_size, ask_size = (
        np.stack([_level(rows, f"{side}.{i}") for i in range(rows.source.layout.levels)], axis=1)
        for side in ("bid", "ask", "bid_size", "ask_size")
    )
    if rows.source.layout.levels <= DEPTH_LEVELS:
        return Depth(ts, bid, ask, bid_size, ask_size), init
    none = np.zeros((len(ts), 1), dtype=np.int64)
    price, size = np.hstack([none, bid, ask]), np.hstack([none, bid_size, ask_size])
    kept = size > 0
    kept[:, 0] = True  # each snapshot begins with a row that clears the book
    action = np.full(price.shape, ADD)
    action[:, 0] = CLEAR
    side = np.repeat([0, 1, -1], [1, bid.shape[1], ask.shape[1]])
    flags = np.full(price.shape, SNAPSHOT)
    flags[np.arange(len(ts)), price.shape[1] - 1 - np.argmax(kept[:, ::-1], axis=1)] |= LAST
    every = np.nonzero(kept)[0]
    return Deltas(
        ts=ts[every],
        action=action[kept],
        side=np.broadcast_to(side, price.shape)[kept],
        price=price[kept],
        size=size[kept],
        flags=flags[kept],
        sequence=np.zeros(len(every), dtype=np.int64),
    ), init[every]


def _level(rows: Rows, field: str) -> Integers:
    """Return one level of a book; what is empty is 0, for a book of fewer levels."""
    array = rows.array(field)
    full = Rows(
        rows.source,
        pa.table({field: pc.fill_null(array, pa.scalar(0).cast(array.type))}),
        rows.decimals,
        rows.start,
    )
    return full.units(field, least=0)


def _deltas(rows: Rows, ts: Integers, init: Integers) -> tuple[Columns, Integers]:
    price, size = rows.units("price", least=1), rows.units("size", least=0)
    side = rows.words("side", SIDES)
    rows.reject(side == 0, "side", "is no side of a book")
    if rows.has("snapshot"):
        snapshot = rows.words("snapshot", FLAGS)
    else:
        snapshot = rows.words("update", UPDATES)
    sequence = rows.integers("sequence") if rows.has("sequence") else np.zeros_like(ts)
    ends = np.append((init[1:] != init[:-1]) | (sequence[1:] != sequence[:-1]), True)
    begins = np.append(True, ends[:-1] | (snapshot[:-1] == 0)) & (snapshot == 1)
    action = np.where(size == 0, DELETE, np.where(snapshot == 1, ADD, UPDATE))
    at = np.flatnonzero(begins)  # each snapshot begins with a row that clears the book
    return Deltas(
        ts=np.insert(ts, at, ts[at]),
        action=np.insert(action, at, CLEAR),
        side=np.insert(side, at, 0),
        price=np.insert(price, at, 0),
        size=np.insert(size, at, 0),
        flags=np.insert(snapshot * SNAPSHOT | ends * LAST, at, SNAPSHOT),
        sequence=np.insert(sequence, at, sequence[at]),
    ), np.insert(init, at, init[at])


KINDS: Final[Mapping[str, Callable[[Rows, Integers, Integers], tuple[Columns, Integers]]]] = {
    "trades": _trades,
    "quotes": _quotes,
    "klines": _klines,
    "marks": _marks,
    "rates": _rates,
    "depth": _depth,
    "deltas": _deltas,
}
