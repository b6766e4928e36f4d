"""Exact columns -> tables in the schema of Nautilus's catalog, in either of two ways.

`arrow` makes the 128-bit integers of the schema with vectorized arithmetic. `v1` goes through
Nautilus's own V1 wranglers (data frames of float64) and serializers, an object for each row: far
slower, and what the first is compared with. Both give the same table, bit by bit.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa
from nautilus_trader.model import data as model
from nautilus_trader.model.enums import BookAction, OrderSide
from nautilus_trader.model.instruments import Instrument
from nautilus_trader.model.objects import FIXED_PRECISION, Price, Quantity
from nautilus_trader.persistence.wranglers import (
    BarDataWrangler,
    QuoteTickDataWrangler,
    TradeTickDataWrangler,
)
from nautilus_trader.serialization.arrow.schema import NAUTILUS_ARROW_SCHEMA
from nautilus_trader.serialization.arrow.serializer import ArrowSerializer
from numpy.typing import NDArray

from integrations.binance.columns import (
    CLEAR,
    Columns,
    Deltas,
    Depth,
    Klines,
    Marks,
    NamedTrades,
    Rates,
)
from integrations.binance.dataset import EXACT_BELOW, Integers, Quotes, Trades
from integrations.binance.layout import RATE_DECIMALS

LEVELS: Final = 10  # of an OrderBookDepth10
UNITS: Final = {"s": "SECOND", "m": "MINUTE", "h": "HOUR", "d": "DAY", "w": "WEEK", "mo": "MONTH"}
QUOTE_PRICES: Final = ("bid_price", "ask_price")
BAR_PRICES: Final = ("open", "high", "low", "close")
LOW: Final = 0xFFFFFFFF  # the lower half of 64 bits

TYPES: Final[Mapping[type, type]] = {
    Quotes: model.QuoteTick,
    Trades: model.TradeTick,
    NamedTrades: model.TradeTick,
    Klines: model.Bar,
    Marks: model.MarkPriceUpdate,
    Rates: model.FundingRateUpdate,
    Depth: model.OrderBookDepth10,
    Deltas: model.OrderBookDelta,
}

type Wrangler = Callable[[Instrument, Columns, Integers], pa.Table]


def wrangler(name: str) -> Wrangler:
    """Return `arrow` or `v1`: (instrument, columns, ts_init) -> the table. Raises ValueError."""
    if name not in WRANGLERS:
        raise ValueError(f"no wrangler is named {name!r}; expected {' or '.join(WRANGLERS)}")
    return WRANGLERS[name]


def bar_type(instrument: Instrument, interval: str) -> model.BarType:
    """Return the bar type of an interval such as 1m. Raises ValueError for an unknown one."""
    count = interval.rstrip("smhdwo")
    unit = interval.removeprefix(count)
    if not count.isdecimal() or unit not in UNITS:
        raise ValueError(f"interval {interval!r} is unknown; expected one such as 1s, 1m, 4h, 1d")
    return model.BarType.from_str(f"{instrument.id}-{count}-{UNITS[unit]}-LAST-EXTERNAL")


def fixed(units: Integers | NDArray[np.uint64], decimals: int) -> pa.Array:
    """Return `units` of `10**-decimals` as the catalog has numbers: 128-bit, little-endian.

    The product with a power of ten below 2**54 is made exactly, from products of half words.
    """
    zeros = FIXED_PRECISION - decimals
    first, second = 10 ** (zeros // 2), 10 ** (zeros - zeros // 2)
    low, high = (units & LOW) * first, (units >> 32) * first
    high += low >> 32
    low = (low & LOW) * second
    middle = (high & LOW) * second + (low >> 32)
    words = np.empty((len(units), 2), dtype="<i8")
    words[:, 0] = (middle << 32) | (low & LOW)
    words[:, 1] = (high >> 32) * second + (middle >> 32)
    return pa.Array.from_buffers(pa.binary(16), len(units), [None, pa.py_buffer(words)])


# With Arrow.


def arrow_table(instrument: Instrument, columns: Columns, ts_init: Integers) -> pa.Table:
    """Return the table, made column by column."""
    schema = NAUTILUS_ARROW_SCHEMA[TYPES[type(columns)]]
    made = _arrays(instrument, columns) | {
        "ts_event": columns.ts.astype(np.uint64),
        "ts_init": ts_init.astype(np.uint64),
    }
    arrays = [pa.array(made[field.name], type=field.type) for field in schema]
    return pa.table(arrays, schema=schema.with_metadata(_metadata(instrument, columns)))


def _metadata(instrument: Instrument, columns: Columns) -> dict[str, str]:
    metadata = {"instrument_id": instrument.id.value}
    if isinstance(columns, Klines):
        metadata["bar_type"] = str(bar_type(instrument, columns.interval))
    if not isinstance(columns, Rates):
        metadata["price_precision"] = str(instrument.price_precision)
    if not isinstance(columns, Rates | Marks):
        metadata["size_precision"] = str(instrument.size_precision)
    return metadata


def _arrays(instrument: Instrument, columns: Columns) -> dict[str, Any]:
    price, size = instrument.price_precision, instrument.size_precision
    match columns:
        case Quotes():
            return {
                "bid_price": fixed(columns.bid, price),
                "ask_price": fixed(columns.ask, price),
                "bid_size": fixed(columns.bid_size, size),
                "ask_size": fixed(columns.ask_size, size),
            }
        case Trades() | NamedTrades():
            return {
                "price": fixed(columns.price, price),
                "size": fixed(columns.size, size),
                "aggressor_side": _sides(columns.side),
                "trade_id": pa.array(columns.trade_id).cast(pa.string()),
            }
        case Klines():
            made = {name: fixed(getattr(columns, name), price) for name in BAR_PRICES}
            return made | {"volume": fixed(columns.volume, size)}
        case Marks():
            return {"value": fixed(columns.mark, price)}
        case Rates():
            return {
                "rate": pa.array([f'"{rate}"'.encode() for rate in _rates(columns)]),
                "interval": (columns.interval_hours * 60).astype(np.uint16),
                "next_funding_ns": pa.nulls(len(columns.ts), pa.uint64()),
            }
        case Depth():
            return _levels(columns, price, size)
        case Deltas():
            return {
                "action": columns.action.astype(np.uint8),
                "side": _sides(columns.side),
                "price": fixed(columns.price, price),
                "size": fixed(columns.size, size),
                "order_id": np.zeros(len(columns.ts), dtype=np.uint64),
                "flags": columns.flags.astype(np.uint8),
                "sequence": columns.sequence.astype(np.uint64),
            }


def _sides(side: Integers) -> Any:
    """Return 1, -1, 0 as Nautilus's numbers of a buyer, a seller, and none."""
    return np.where(side < 0, 2, side).astype(np.uint8)


def _rates(columns: Rates) -> list[Decimal]:
    return [Decimal(rate).scaleb(-RATE_DECIMALS) for rate in columns.rate.tolist()]


def _levels(columns: Depth, price: int, size: int) -> dict[str, Any]:
    rows, levels = columns.bid.shape
    none = np.zeros(rows, dtype=np.int64)
    made: dict[str, Any] = {}
    for side in ("bid", "ask"):
        prices, sizes = getattr(columns, side), getattr(columns, f"{side}_size")
        for level in range(LEVELS):
            given = level < levels
            shown = sizes[:, level] if given else none
            made[f"{side}_price_{level}"] = fixed(prices[:, level] if given else none, price)
            made[f"{side}_size_{level}"] = fixed(shown, size)
            made[f"{side}_count_{level}"] = (shown > 0).astype(np.uint32)
    return made | {
        "flags": np.zeros(rows, dtype=np.uint8),
        "sequence": np.zeros(rows, dtype=np.uint64),
    }


# With Nautilus's own wranglers. It has none for marks, rates and books of exact integers: there an
# object is built for each row.


def v1_table(instrument: Instrument, columns: Columns, ts_init: Integers) -> pa.Table:
    """Return the table, made of one Nautilus object for each row."""
    table = ArrowSerializer.serialize_batch(
        _objects(instrument, columns), data_cls=TYPES[type(columns)]
    )
    if isinstance(table, pa.RecordBatch):
        table = pa.Table.from_batches([table])
    # A wrangler knows one constant delay for all rows.
    place = table.schema.get_field_index("ts_init")
    init = pa.array(ts_init.astype(np.uint64))
    return table.set_column(place, table.schema.field(place), init)


def frame(columns: Quotes | Trades | NamedTrades | Klines, price: int, size: int) -> Any:
    """Return the data frame that the V1 wranglers take, for numbers of so many decimals.

    Raises ValueError for what they cannot hold.
    """
    for name in columns.__dataclass_fields__.keys() - {"ts", "trade_id", "interval"}:
        if (getattr(columns, name) >= EXACT_BELOW).any():
            raise ValueError(f"{name} is more than a float64 holds exactly; use the arrow wrangler")
    if isinstance(columns, Trades | NamedTrades) and not columns.side.all():
        raise ValueError("V1 wranglers take no trade of an unknown side; use the arrow wrangler")
    prices, sizes = float(10**price), float(10**size)
    content: dict[str, Any] = {"timestamp": pa.array(columns.ts, pa.timestamp("ns", "UTC"))}
    match columns:
        case Quotes():
            content |= {name: getattr(columns, name[:3]) / prices for name in QUOTE_PRICES}
            content |= {name: getattr(columns, name) / sizes for name in ("bid_size", "ask_size")}
        case Klines():
            content |= {name: getattr(columns, name) / prices for name in BAR_PRICES}
            content["volume"] = columns.volume / sizes
        case _:
            content["price"] = columns.price / prices
            content["quantity"] = columns.size / sizes
            content["side"] = np.where(columns.side < 0, "SELL", "BUY")
            content["trade_id"] = pa.array(columns.trade_id).cast(pa.string())
    # A block for each column: BarDataWrangler refuses the read-only rows of a shared one.
    return pa.table(content).to_pandas(split_blocks=True).set_index("timestamp")


def _objects(instrument: Instrument, columns: Columns) -> list[Any]:
    price, size = instrument.price_precision, instrument.size_precision
    match columns:
        case Quotes():
            return QuoteTickDataWrangler(instrument).process(frame(columns, price, size))
        case Trades() | NamedTrades():
            return TradeTickDataWrangler(instrument).process(frame(columns, price, size))
        case Klines():
            kind = bar_type(instrument, columns.interval)
            return BarDataWrangler(kind, instrument).process(frame(columns, price, size))
    id_, times = instrument.id, columns.ts.tolist()
    match columns:
        case Marks():
            marks = columns.mark.tolist()
            return [
                model.MarkPriceUpdate(id_, _price(mark, price), ts, ts)
                for mark, ts in zip(marks, times, strict=True)
            ]
        case Rates():
            minutes = (columns.interval_hours * 60).tolist()
            return [
                model.FundingRateUpdate(id_, rate, ts, ts, interval=interval)
                for rate, interval, ts in zip(_rates(columns), minutes, times, strict=True)
            ]
        case Depth():
            return [_depth(instrument, columns, row) for row in range(len(times))]
        case Deltas():
            return [_delta(instrument, columns, row) for row in range(len(times))]


def _price(units: int, decimals: int) -> Price:
    return Price.from_raw(units * 10 ** (FIXED_PRECISION - decimals), decimals)


def _order(instrument: Instrument, side: OrderSide, price: int, size: int) -> model.BookOrder:
    decimals = instrument.size_precision
    quantity = Quantity.from_raw(size * 10 ** (FIXED_PRECISION - decimals), decimals)
    return model.BookOrder(side, _price(price, instrument.price_precision), quantity, 0)


def _depth(instrument: Instrument, columns: Depth, row: int) -> model.OrderBookDepth10:
    orders, counts = [], []
    for side, prices, sizes in (
        (OrderSide.BUY, columns.bid[row], columns.bid_size[row]),
        (OrderSide.SELL, columns.ask[row], columns.ask_size[row]),
    ):
        levels = [*zip(prices.tolist(), sizes.tolist(), strict=True)]
        levels += [(0, 0)] * (LEVELS - len(levels))
        orders.append([_order(instrument, side, *level) for level in levels])
        counts.append([int(size > 0) for _, size in levels])
    ts = int(columns.ts[row])
    return model.OrderBookDepth10(instrument.id, *orders, *counts, 0, 0, ts, ts)


def _delta(instrument: Instrument, columns: Deltas, row: int) -> model.OrderBookDelta:
    action, ts = BookAction(int(columns.action[row])), int(columns.ts[row])
    flags, sequence = int(columns.flags[row]), int(columns.sequence[row])
    side = {1: OrderSide.BUY, -1: OrderSide.SELL, 0: OrderSide.NO_ORDER_SIDE}
    order = _order(
        instrument, side[int(columns.side[row])], int(columns.price[row]), int(columns.size[row])
    )
    if action == CLEAR:
        return model.OrderBookDelta(instrument.id, BookAction.CLEAR, None, flags, sequence, ts, ts)
    return model.OrderBookDelta(instrument.id, action, order, flags, sequence, ts, ts)


WRANGLERS: Final[Mapping[str, Wrangler]] = {"arrow": arrow_table, "v1": v1_table}
