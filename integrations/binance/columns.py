"""Market data as columns: beside `dataset.Quotes` and `dataset.Trades`, what venue files hold.

Every array is int64 unless it says otherwise: `ts` in ns UTC, prices and sizes in units of the
instrument's last decimal, as in `dataset`. All arrays of one object have the same length.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from integrations.binance.dataset import Integers, Quotes, Trades

# What a row of `Deltas` does to the level that it names.
ADD: Final = 1
UPDATE: Final = 2
DELETE: Final = 3
CLEAR: Final = 4  # names no level: side, price and size are 0

# Flags of a row of `Deltas`.
LAST: Final = 128  # the book is whole again after this row
SNAPSHOT: Final = 32


@dataclass(frozen=True, slots=True, eq=False)
class NamedTrades:
    """Trades whose ids are no integers: `trade_id` is an Arrow array of text."""

    ts: Integers
    price: Integers
    size: Integers
    side: Integers
    trade_id: pa.StringArray


@dataclass(frozen=True, slots=True, eq=False)
class Klines:
    """Candles. `ts` is when each closed, `interval` how long each lasts: 1s, 15m, 4h, 1d, 1w.

    `volume` is uint64: volumes that were summed as floats have up to twelve decimals.
    """

    ts: Integers
    open: Integers
    high: Integers
    low: Integers
    close: Integers
    volume: NDArray[np.uint64]
    interval: str


@dataclass(frozen=True, slots=True, eq=False)
class Marks:
    """Mark prices."""

    ts: Integers
    mark: Integers


@dataclass(frozen=True, slots=True, eq=False)
class Rates:
    """Settled funding rates. `ts` is the settlement, `rate` in units of 10**-8."""

    ts: Integers
    rate: Integers
    interval_hours: Integers


@dataclass(frozen=True, slots=True, eq=False)
class Depth:
    """Snapshots of a book: rows by levels, best first, at most ten. Size 0 is no level."""

    ts: Integers
    bid: Integers
    ask: Integers
    bid_size: Integers
    ask_size: Integers


@dataclass(frozen=True, slots=True, eq=False)
class Deltas:
    """Changes of a book. `side` is 1 for bids, -1 for asks; `size` is what the level has now."""

    ts: Integers
    action: Integers
    side: Integers
    price: Integers
    size: Integers
    flags: Integers
    sequence: Integers


type Columns = Quotes | Trades | NamedTrades | Klines | Marks | Rates | Depth | Deltas
