"""Nautilus market data -> the bytes of XADD commands, by the hundred.

This is the hot path. `str(event)` yields every exact string of an event in one native call, which
beats asking for each price (each costs more than the whole call); the rest is one f-string an
entry and one encode a chunk. No float is ever made of a price.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Context
from itertools import cycle, repeat
from typing import Any, Final, NamedTuple

from nautilus_trader.cache.cache import Cache
from nautilus_trader.model.data import (
    Bar,
    FundingRateUpdate,
    IndexPriceUpdate,
    MarkPriceUpdate,
    QuoteTick,
    TradeTick,
)
from nautilus_trader.model.enums import AssetClass
from nautilus_trader.model.identifiers import InstrumentId
from nautilus_trader.model.instruments import Instrument

from bridge.core import contract, resp
from bridge.core.contract import STREAMS, ContractError, Names
from bridge.core.lanes import Refused
from bridge.core.resp import HEADERS, bulk
from integrations.nautilus.values import plain, text

# One XADD in so many trims its stream: exact enough, and a third cheaper than trimming with each.
TRIM_EVERY: Final = 256

ASSET_WORDS: Final[Mapping[AssetClass, str]] = {
    AssetClass.CRYPTOCURRENCY: "crypto",
    AssetClass.FX: "fx",
    AssetClass.EQUITY: "equity",
    AssetClass.COMMODITY: "commodity",
    AssetClass.DEBT: "debt",
    AssetClass.INDEX: "index",
    AssetClass.ALTERNATIVE: "alternative",
}


class Trim(NamedTuple):
    """How a market stream is kept to about `maxlen` entries: by one XADD in `every`."""

    maxlen: int
    every: int = TRIM_EVERY


class Route:
    """Where the entries of one kind and instrument go.

    `key` is the stream; `head` yields the constant beginning of each XADD, `tail` is its end;
    `skip` is the length of the instrument's id and the comma behind it in `str(event)`.
    """

    __slots__ = ("head", "key", "skip", "tail")

    def __init__(self, kind: str, key: str, venue: str, *, name: str, trim: Trim) -> None:
        self.key = key
        self.skip = len(name) + 1
        self.tail = bulk("venue") + bulk(venue)
        fields = len(STREAMS[kind].names)
        first = bulk(STREAMS[kind].names[0])
        plain, trimming = (resp.xadd_prefix(key, fields, n) + first for n in (None, trim.maxlen))
        self.head: Iterator[str] = (
            repeat(trimming) if trim.every == 1 else cycle([trimming] + [plain] * (trim.every - 1))
        )


def describe(instrument: Instrument, venue_alias: Mapping[str, str]) -> dict[str, str]:
    """Return what the placeholders of a stream name stand for."""
    venue = instrument.id.venue.value
    base = instrument.get_base_currency()
    return {
        "asset": ASSET_WORDS[instrument.asset_class],
        "symbol": instrument.id.symbol.value,
        "venue": venue_alias.get(venue, venue),
        "base": base.code if base is not None else "",
        "quote": instrument.quote_currency.code,
    }


class Routes:
    """The routes of every kind, made when an instrument is first seen.

    Two instruments never share a stream: the second is refused.
    """

    def __init__(
        self, names: Names, cache: Cache, *, venue_alias: Mapping[str, str], trim: Trim
    ) -> None:
        self._names = names
        self._cache = cache
        self._venue_alias = venue_alias
        self._trim = trim
        self._owners: dict[str, InstrumentId] = {}
        self._routes: dict[tuple[str, InstrumentId], Route] = {}

    def route(self, kind: str, instrument_id: InstrumentId) -> Route:
        """Return the route. Raises Refused when there can be none (yet)."""
        route = self._routes.get((kind, instrument_id))
        if route is None:
            route = self._routes[kind, instrument_id] = self._make(kind, instrument_id)
        return route

    def check(self, instruments: Sequence[Instrument]) -> None:
        """Make all routes of `instruments`. Raises Refused when two of them collide."""
        for instrument in instruments:
            for kind in contract.MARKET_KINDS:
                self._claim(kind, instrument)

    def _make(self, kind: str, instrument_id: InstrumentId) -> Route:
        instrument = self._cache.instrument(instrument_id)
        if instrument is None:
            raise Refused("no_instrument", f"{instrument_id} is not in Nautilus's cache")
        key, venue = self._claim(kind, instrument)
        return Route(kind, key, venue, name=instrument_id.value, trim=self._trim)

    def _claim(self, kind: str, instrument: Instrument) -> tuple[str, str]:
        parts = describe(instrument, self._venue_alias)
        try:
            key = self._names.key(kind, parts)
        except ContractError as error:
            raise Refused("collision", str(error)) from None
        owner = self._owners.setdefault(key, instrument.id)
        if owner != instrument.id:
            raise Refused(
                "collision",
                f"{owner} and {instrument.id} would share the stream {key}; "
                f"tell them apart in streams.{kind}, for example with {{venue}}",
            )
        return key, parts["venue"]


type Encode = Callable[[Sequence[Any]], bytes]

NUMBER_CHARACTERS_MAX: Final = 64  # prices, sizes and times are far shorter
# Quotes often change their sizes only: what so many pairs of prices look like is kept.
PAIRS_MAX: Final = 4096
# In `str(event)` a number of 16 decimals from 2**96 / 1e16 (7.9e12) on is rounded. All such
# numbers have 13 digits or more in front of the point; those few are written by `text`.
SURE_DIGITS_MAX: Final = 12


def _lead(name: str) -> tuple[str, ...]:
    """Return, by the length of a number, what stands between the number before it and itself."""
    return tuple([f"\r\n{bulk(name)}{header}" for header in HEADERS[:NUMBER_CHARACTERS_MAX]])


_BID_SZ, _ASK_PX, _ASK_SZ, _MID, _TS = map(_lead, ("bid_sz", "ask_px", "ask_sz", "mid", "ts_ns"))
_SIZE, _SIDE, _TRADE_ID = map(_lead, ("size", "side", "trade_id"))


def exact_mid(bid: str, ask: str) -> str:
    """Return (bid + ask) / 2 with one more digit; both prices have equally many decimals."""
    dot = bid.rfind(".")
    digits = len(bid) - dot if dot >= 0 else 1
    total = (int(bid.replace(".", "")) + int(ask.replace(".", ""))) * 5
    number, sign = str(total), ""
    if total < 0 or len(number) <= digits:
        number, sign = str(abs(total)).zfill(digits + 1), "-" if total < 0 else ""
    return f"{sign}{number[:-digits]}.{number[-digits:]}"


def is_huge(number: str) -> bool:
    """Return whether a number has more digits in front of its point than `str(event)` can do."""
    return len(number) > SURE_DIGITS_MAX and "." not in number[: SURE_DIGITS_MAX + 1]


def quote_encoder(routes: Routes) -> Encode:
    """Return the function that encodes a chunk of quotes."""
    sure = SURE_DIGITS_MAX
    # By instrument: next(head) and tail. By bid and ask: bid, ask and mid, each with what stands
    # in front of it; apart from the instrument, because many streams share few pairs of prices.
    ends: dict[str, tuple[Callable[[], str], str]] = {}
    pairs: dict[tuple[str, str], tuple[str, str, str]] = {}

    def end_of(name: str, quote: QuoteTick) -> tuple[Callable[[], str], str]:
        route = routes.route("quotes", quote.instrument_id)
        end = ends[name] = (route.head.__next__, f"\r\n{route.tail}")
        return end

    def pair_of(prices: tuple[str, str], quote: QuoteTick) -> tuple[str, str, str]:
        bid, ask = prices
        huge = is_huge(bid) or is_huge(ask)
        if huge:
            bid, ask = text(quote.bid_price), text(quote.ask_price)
        mid = exact_mid(bid, ask)
        pair = (HEADERS[len(bid)] + bid, _ASK_PX[len(ask)] + ask, _MID[len(mid)] + mid)
        if not huge:  # else another price may look the same in `str(quote)`
            if len(pairs) >= PAIRS_MAX:
                pairs.clear()
            pairs[prices] = pair
        return pair

    def encode(chunk: Sequence[QuoteTick]) -> bytes:
        parts: list[str] = []
        append = parts.append
        for quote in chunk:
            name, bid, ask, bid_size, ask_size, ts_ns = str(quote).rsplit(",", 5)
            try:
                head, tail = ends[name]
                bid, ask, mid = pairs[bid, ask]
            except KeyError:
                head, tail = ends.get(name) or end_of(name, quote)
                bid, ask, mid = pairs.get((bid, ask)) or pair_of((bid, ask), quote)
            bid_digits, ask_digits = len(bid_size), len(ask_size)
            if bid_digits > sure or ask_digits > sure:
                if is_huge(bid_size):
                    bid_size = text(quote.bid_size)
                    bid_digits = len(bid_size)
                if is_huge(ask_size):
                    ask_size = text(quote.ask_size)
                    ask_digits = len(ask_size)
            append(
                f"{head()}{bid}{_BID_SZ[bid_digits]}{bid_size}{ask}"
                f"{_ASK_SZ[ask_digits]}{ask_size}{mid}{_TS[len(ts_ns)]}{ts_ns}{tail}"
            )
        return "".join(parts).encode()

    return encode


def trade_encoder(routes: Routes) -> Encode:
    """Return the function that encodes a chunk of trades."""

    def encode(chunk: Sequence[TradeTick]) -> bytes:
        parts: list[str] = []
        for trade in chunk:
            route = routes.route("trades", trade.instrument_id)
            head, ts_ns = str(trade)[route.skip :].rsplit(",", 1)
            price, size, aggressor, trade_id = head.split(",", 3)
            if is_huge(price) or is_huge(size):
                price, size = text(trade.price), text(trade.size)
            side = AGGRESSORS[aggressor]
            parts.append(
                f"{next(route.head)}{HEADERS[len(price)]}{price}"
                f"{_SIZE[len(size)]}{size}{_SIDE[len(side)]}{side}"
                f"{_TS[len(ts_ns)]}{ts_ns}{_TRADE_ID[len(trade_id)]}{trade_id}\r\n{route.tail}"
            )
        return "".join(parts).encode()

    return encode


AGGRESSORS: Final = {"BUYER": "BUYER", "SELLER": "SELLER", "NO_AGGRESSOR": "NONE"}


def plain_encoder(routes: Routes, kind: str, values_of: Callable[[Any], Sequence[str]]) -> Encode:
    """Return an encoder of a kind that is too rare to be worth unrolling.

    `values_of` gives an event's values in wire order, without the venue.
    """
    names = [bulk(name) for name in STREAMS[kind].names]

    def encode(chunk: Sequence[Any]) -> bytes:
        parts: list[str] = []
        for event in chunk:
            route = routes.route(kind, instrument_id_of(event))
            first, *others = values_of(event)
            parts += (next(route.head), bulk(first))
            for name, value in zip(names[1:-1], others, strict=True):
                parts += (name, bulk(value))
            parts.append(route.tail)
        return "".join(parts).encode()

    return encode


def instrument_id_of(event: Any) -> InstrumentId:
    """Return the instrument of a market event; a bar has it in its type."""
    return event.bar_type.instrument_id if isinstance(event, Bar) else event.instrument_id


def bar_values(bar: Bar) -> Sequence[str]:
    """Return bar_type, open, high, low, close, volume, ts_ns."""
    numbers = (bar.open, bar.high, bar.low, bar.close, bar.volume)
    return (str(bar.bar_type), *map(text, numbers), str(bar.ts_event))


def funding_values(update: FundingRateUpdate) -> Sequence[str]:
    """Return rate, interval_hours, next_ts_ns, ts_ns."""
    interval = update.interval  # minutes
    hours = "" if interval is None else plain(Context(prec=28).divide(interval, 60))
    next_ns = update.next_funding_ns
    next_ts_ns = "" if next_ns is None else str(next_ns)
    return (plain(update.rate), hours, next_ts_ns, str(update.ts_event))


class MarkPrices:
    """Mark prices, each with the latest index price of its instrument."""

    def __init__(self) -> None:
        self._index: dict[InstrumentId, str] = {}

    def on_index(self, update: IndexPriceUpdate) -> None:
        """Remember the index price."""
        self._index[update.instrument_id] = text(update.value)

    def values(self, update: MarkPriceUpdate) -> Sequence[str]:
        """Return mark, index, ts_ns."""
        index = self._index.get(update.instrument_id, "")
        return (text(update.value), index, str(update.ts_event))
