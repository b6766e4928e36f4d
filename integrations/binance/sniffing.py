"""What a market data file holds, told from its column names, or from its first row without them.

Known are Binance's dumps (with a header or not) and raw ticks in the layouts of Tardis and of
data frames. `read_layout` names the fields of a file; nothing here reads more than its first row.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Final, NamedTuple

# What a field may be called in a file, best first; names are compared in lower case.
NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "init": ("local_timestamp",),
    "price": ("price",),
    "size": ("amount", "qty", "quantity", "size"),
    "side": ("side",),
    "maker": ("is_buyer_maker", "buyer_maker", "isbuyermaker"),
    "id": ("agg_trade_id", "trade_id", "id"),
    "bid": ("bid", "bid_price", "best_bid_price"),
    "ask": ("ask", "ask_price", "best_ask_price"),
    "bid_size": ("bid_size", "bid_amount", "bid_qty", "best_bid_qty"),
    "ask_size": ("ask_size", "ask_amount", "ask_qty", "best_ask_qty"),
    "open": ("open",),
    "high": ("high",),
    "low": ("low",),
    "close": ("close",),
    "volume": ("volume",),
    "rate": ("last_funding_rate", "funding_rate"),
    "hours": ("funding_interval_hours", "interval_hours"),
    "snapshot": ("is_snapshot",),
    "update": ("update_type",),
    "sequence": ("last_update_id",),
    "symbol": ("symbol",),
    "exchange": ("exchange",),
}
TIMED: Final = ("ts", "init")
TIMES: Final = ("timestamp", "time", "transact_time", "transaction_time", "ts")
LEVEL: Final = re.compile(r"(ask|bid)(?:s\[(\d+)\]\.|_)(price|amount|size|qty)(?:_(\d+))?")
INTERVAL: Final = re.compile(r"(?<![a-z0-9])([1-9]\d*(?:mo|[smhdw]))(?![a-z0-9])")
MARKS: Final = "markpriceklines"
OTHER_KLINES: Final = ("indexpriceklines", "premiumindexklines")

KLINE_NAMES: Final = (
    *("open_time", "open", "high", "low", "close", "volume", "close_time"),
    *("quote_volume", "count", "taker_buy_volume", "taker_buy_quote_volume", "ignore"),
)
TRADE_NAMES: Final = ("id", "price", "qty", "quote_qty", "time", "is_buyer_maker")
AGGREGATE_NAMES: Final = (
    *("agg_trade_id", "price", "quantity", "first_trade_id", "last_trade_id"),
    *("transact_time", "is_buyer_maker"),
)
TICKER_NAMES: Final = (
    *("update_id", "best_bid_price", "best_bid_qty", "best_ask_price", "best_ask_qty"),
    *("transaction_time", "event_time"),
)
FUNDING_NAMES: Final = ("calc_time", "funding_interval_hours", "last_funding_rate")
BEST_MATCH: Final = ("is_best_match",)  # only on the spot market
# By the number of fields, and which of them is the first that is true or false.
HEADERLESS: Final[Mapping[tuple[int, int | None], tuple[str, ...]]] = {
    (12, None): KLINE_NAMES,
    (6, 5): TRADE_NAMES,
    (7, 5): TRADE_NAMES + BEST_MATCH,
    (7, 6): AGGREGATE_NAMES,
    (8, 6): AGGREGATE_NAMES + BEST_MATCH,
    (7, None): TICKER_NAMES,
    (3, None): FUNDING_NAMES,
}

# What tells the markets apart: Tardis's names of them, the folders of Binance's archive, dumps that
# only one of them has, and the unit of time in those that both have.
EXCHANGES: Final[Mapping[str, str]] = {
    "binance": "spot",
    "binance-futures": "futures",
    "binance-delivery": "futures",
}
FOLDER: Final = re.compile(r"/(?:(futures)/(?:um|cm)|(spot)/(?:daily|monthly))(?=/)")
DUMPS: Final[Mapping[tuple[str, ...], tuple[str, str]]] = {
    TRADE_NAMES: ("futures", "a dump of trades without is_best_match"),
    AGGREGATE_NAMES: ("futures", "a dump of aggTrades without is_best_match"),
    TRADE_NAMES + BEST_MATCH: ("spot", "a dump with is_best_match"),
    AGGREGATE_NAMES + BEST_MATCH: ("spot", "a dump with is_best_match"),
    TICKER_NAMES: ("futures", "a dump of bookTicker"),
}
SPOT_IN_US: Final = 1_735_689_600_000  # 2025-01-01: from then on, spot has microseconds
US_DIGITS: Final = 16


class Layout(NamedTuple):
    """What a file holds: its kind, and which of its columns each field is.

    `kind` is trades, quotes, klines, marks, rates, depth or deltas; `levels` counts those of depth.
    """

    kind: str
    fields: Mapping[str, str]
    levels: int = 0
    interval: str = ""


def headerless(row: Sequence[str]) -> tuple[str, ...] | None:
    """Return the names of the columns of a Binance dump whose first row this is, else None."""
    flags = [i for i, value in enumerate(row) if value.lower() in ("true", "false")]
    return HEADERLESS.get((len(row), flags[0] if flags else None))


def read_layout(path: PurePath, names: Sequence[str]) -> Layout | None:
    """Return the layout of a file with these columns; None when it is no market data."""
    known = {name.strip().lower(): name for name in names}
    fields = {
        field: next(known[alias] for alias in aliases if alias in known)
        for field, aliases in NAMES.items()
        if known.keys() & set(aliases)
    }
    time = next((known[name] for name in TIMES if name in known), None)
    if time is not None:
        fields["ts"] = time
    levels = _levels(names)
    interval = _interval(path)
    if "ts" in fields and levels:
        fields = {name: fields[name] for name in (*TIMED, "symbol", "exchange") if name in fields}
        depth = max(level for _, level in levels) + 1
        return Layout("depth", fields | _level_fields(levels), depth)
    if _has(fields, "open", "high", "low", "close"):
        return _klines(path, known, fields, interval)
    if _has(fields, "ts", "price", "size", "side") and _has_any(fields, "snapshot", "update"):
        return Layout("deltas", fields)
    if _has(fields, "ts", "bid", "ask", "bid_size", "ask_size"):
        return Layout("quotes", fields)
    if _has(fields, "ts", "price", "size") and _has_any(fields, "side", "maker"):
        return Layout("trades", fields)
    if "calc_time" in known and _has(fields, "rate", "hours"):
        return Layout("rates", fields | {"ts": known["calc_time"]})
    return None


def markets_of(
    path: PurePath, layout: Layout, names: Sequence[str], first: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield the market, spot or futures, that each trait of a file shows, and the trait.

    `path` is absolute, `names` are the columns of a CSV, `first` has the fields of its first row.
    """
    if layout.kind in ("rates", "marks"):
        yield "futures", f"a file of {layout.kind}"
    exchange = first.get("exchange", "").lower()
    if exchange in EXCHANGES:
        column = layout.fields["exchange"]
        yield EXCHANGES[exchange], f"what has {exchange} in its column {column}"
    for found in [*FOLDER.finditer(path.as_posix())][-1:]:
        yield found[1] or found[2], f"what is below {found[0][1:]}"
    columns = tuple(name.strip().lower() for name in names)
    if columns in DUMPS:
        yield DUMPS[columns]
    time = first.get("ts", "")
    if columns == KLINE_NAMES and time.isdecimal():
        if len(time) == US_DIGITS:
            yield "spot", "a dump of klines in microseconds"
        elif int(time) >= SPOT_IN_US:
            yield "futures", "a dump of klines in milliseconds since 2025"


def symbol_of(path: PurePath, value: str | None, symbols: Sequence[str]) -> str | None:
    """Return which of `symbols` a file is of: by its symbol column's `value`, else by its name."""
    if value is not None:
        found = value.replace("/", "").upper()
        return found if found in symbols else None
    name = path.name.upper().split(".")[0]
    for symbol in sorted(symbols, key=len, reverse=True):
        if re.search(rf"(?:^|_){re.escape(symbol)}(?:[-_]|$)", name):
            return symbol
    return None


def _klines(
    path: PurePath, known: Mapping[str, str], fields: Mapping[str, str], interval: str
) -> Layout | None:
    where = str(path).lower()
    if any(word in where for word in OTHER_KLINES):
        return None
    if MARKS in where:
        if "open_time" not in known:
            return None
        return Layout("marks", {"ts": known["open_time"], "price": fields["open"]}, 0, interval)
    if "close_time" in known:  # a candle is known when it is over
        fields = {**fields, "ts": known["close_time"]}
    return Layout("klines", fields, 0, interval) if _has(fields, "ts", "volume") else None


def _interval(path: PurePath) -> str:
    found = INTERVAL.findall(path.name.lower().split(".")[0])
    return found[0] if found else ""


def _levels(names: Sequence[str]) -> dict[tuple[str, int], str]:
    """Return the columns of a book by field and level: `asks[0].price` or `ask_price_0`."""
    levels = {}
    for name in names:
        found = LEVEL.fullmatch(name.strip().lower())
        if found and (found[2] is None) != (found[4] is None):
            field = found[1] if found[3] == "price" else f"{found[1]}_size"
            levels[field, int(found[2] or found[4] or 0)] = name
    return levels


def _level_fields(levels: Mapping[tuple[str, int], str]) -> dict[str, str]:
    return {f"{field}.{level}": name for (field, level), name in levels.items()}


def _has(fields: Mapping[str, str], *names: str) -> bool:
    return all(name in fields for name in names)


def _has_any(fields: Mapping[str, str], *names: str) -> bool:
    return any(name in fields for name in names)
