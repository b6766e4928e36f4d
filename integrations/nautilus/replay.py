"""A live data client that replays a recorded dataset for ever, stamped with the present."""

import asyncio
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, Final

import numpy as np
import structlog
from nautilus_trader.common.providers import InstrumentProvider
from nautilus_trader.config import LiveDataClientConfig
from nautilus_trader.live.data_client import LiveMarketDataClient
from nautilus_trader.live.factories import LiveDataClientFactory
from nautilus_trader.model.currencies import Currency
from nautilus_trader.model.data import (
    FundingRateUpdate,
    MarkPriceUpdate,
    QuoteTick,
    TradeTick,
)
from nautilus_trader.model.enums import AggressorSide
from nautilus_trader.model.identifiers import ClientId, InstrumentId, Symbol, TradeId, Venue
from nautilus_trader.model.instruments import CryptoPerpetual, CurrencyPair, Instrument
from nautilus_trader.model.objects import FIXED_PRECISION, Money, Price, Quantity

from integrations.binance import manifest
from integrations.binance.dataset import Dataset
from integrations.binance.layout import RATE_DECIMALS

log = structlog.get_logger("nautilus_bridge.replay")

# How often the replay looks at the clock; events due in between leave together.
TICK_SECONDS: Final = 0.001
# A loop turn hands Nautilus at most this many events, whatever the rate asks for.
BURST_EVENTS_MAX: Final = 100

# Of the sandbox: what it takes as margin and charges for adding liquidity.
MARGIN: Final = Decimal("0.05")


def instrument_of(row: manifest.Instrument) -> Instrument:
    """Return the Nautilus instrument of a row of the dataset's table."""
    instrument_id = InstrumentId.from_str(row.id)
    quote = Currency.from_str(row.quote)
    common: dict[str, Any] = {
        "instrument_id": instrument_id,
        "raw_symbol": Symbol(f"{row.base}{row.quote}"),
        "base_currency": Currency.from_str(row.base),
        "quote_currency": quote,
        "price_precision": row.price_decimals,
        "size_precision": row.size_decimals,
        "price_increment": Price.from_str(str(row.tick)),
        "size_increment": Quantity.from_str(str(row.lot)),
        "min_notional": Money.from_str(f"{row.min_notional} {row.quote}"),
        "maker_fee": row.fee,
        "taker_fee": row.fee,
        "ts_event": 0,
        "ts_init": 0,
    }
    if row.leg == "spot":
        return CurrencyPair(**common)
    return CryptoPerpetual(
        **common,
        settlement_currency=quote,
        is_inverse=False,
        margin_init=MARGIN,
        margin_maint=MARGIN / 2,
    )


class Tape:
    """The events of some instruments in one order of time, ready to be built.

    Quotes, trades, and settlements of funding with the mark price that each is due at.
    """

    def __init__(self, data: Dataset, instruments: Sequence[manifest.Instrument]) -> None:
        builders: list[Any] = []
        times, sources, rows = [], [], []
        for instrument in instruments:
            for build, ts in (
                *_funding_builders(data, instrument),
                _quote_builder(data, instrument),
                _trade_builder(data, instrument),
            ):
                times.append(ts)
                sources.append(np.full(len(ts), len(builders)))
                rows.append(np.arange(len(ts)))
                builders.append(build)
        joined = np.concatenate(times)
        order = np.argsort(joined, kind="stable")
        start_ns = int(joined[order[0]]) if len(order) else 0
        self.builders = builders
        self.offsets_ns: list[int] = (joined[order] - start_ns).tolist()
        self.sources: list[int] = np.concatenate(sources)[order].tolist()
        self.rows: list[int] = np.concatenate(rows)[order].tolist()

    def __len__(self) -> int:
        return len(self.rows)

    def event(self, position: int, now_ns: int) -> Any:
        """Build the event at `position`, as if it had happened at `now_ns`."""
        return self.builders[self.sources[position]](self.rows[position], now_ns)


def _quote_builder(data: Dataset, row: manifest.Instrument) -> tuple[Any, Any]:
    quotes = data.quotes[row.id]
    instrument_id = InstrumentId.from_str(row.id)
    price, size = row.price_decimals, row.size_decimals
    to_price, to_size = 10 ** (FIXED_PRECISION - price), 10 ** (FIXED_PRECISION - size)
    bids, asks = quotes.bid.tolist(), quotes.ask.tolist()
    bid_sizes, ask_sizes = quotes.bid_size.tolist(), quotes.ask_size.tolist()

    def build(i: int, ts_ns: int) -> QuoteTick:
        return QuoteTick.from_raw(
            instrument_id,
            bids[i] * to_price,
            asks[i] * to_price,
            price,
            price,
            bid_sizes[i] * to_size,
            ask_sizes[i] * to_size,
            size,
            size,
            ts_ns,
            ts_ns,
        )

    return build, quotes.ts


def _trade_builder(data: Dataset, row: manifest.Instrument) -> tuple[Any, Any]:
    trades = data.trades[row.id]
    instrument_id = InstrumentId.from_str(row.id)
    price, size = row.price_decimals, row.size_decimals
    to_price, to_size = 10 ** (FIXED_PRECISION - price), 10 ** (FIXED_PRECISION - size)
    prices, sizes, sides = trades.price.tolist(), trades.size.tolist(), trades.side.tolist()
    ids = trades.trade_id.tolist()

    def build(i: int, ts_ns: int) -> TradeTick:
        return TradeTick.from_raw(
            instrument_id,
            prices[i] * to_price,
            price,
            sizes[i] * to_size,
            size,
            AggressorSide.BUYER if sides[i] > 0 else AggressorSide.SELLER,
            TradeId(str(ids[i])),
            ts_ns,
            ts_ns,
        )

    return build, trades.ts


def _funding_builders(data: Dataset, row: manifest.Instrument) -> list[tuple[Any, Any]]:
    """Return the builders of marks and of rates: what a settlement needs comes before it."""
    if row.id not in data.funding:
        return []
    funding = data.funding[row.id]
    instrument_id = InstrumentId.from_str(row.id)
    to_price = 10 ** (FIXED_PRECISION - row.price_decimals)
    marks, rates = funding.mark.tolist(), funding.rate.tolist()
    hours = funding.interval_hours.tolist()

    def mark(i: int, ts_ns: int) -> MarkPriceUpdate:
        price = Price.from_raw(marks[i] * to_price, row.price_decimals)
        return MarkPriceUpdate(instrument_id, price, ts_ns, ts_ns)

    def rate(i: int, ts_ns: int) -> FundingRateUpdate:
        exact = Decimal(rates[i]).scaleb(-RATE_DECIMALS)
        return FundingRateUpdate(instrument_id, exact, ts_ns, ts_ns, interval=60 * hours[i])

    return [(mark, funding.ts), (rate, funding.ts)]


class ReplayClientConfig(LiveDataClientConfig, frozen=True):
    """Which dataset to replay; `rate` in events per second, None for the recorded pace."""

    dataset: str = ""
    rate: float | None = None


class ReplayDataClient(LiveMarketDataClient):
    """Replays the instruments of one venue; hands out only what was subscribed."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        name: str,
        config: ReplayClientConfig,
        data: Dataset,
        share: float,
        **parts: Any,
    ) -> None:
        super().__init__(
            loop=loop,
            client_id=ClientId(name),
            venue=Venue(name),
            instrument_provider=InstrumentProvider(),
            config=config,
            **parts,
        )
        rows = [row for row in data.instruments if row.id.endswith(f".{name}")]
        self._rate = None if config.rate is None else config.rate * share
        self._tape = Tape(data, rows)
        self._wanted: set[tuple[type, InstrumentId]] = set()
        self._pump_task: asyncio.Task[None] | None = None

    async def _connect(self) -> None:
        self._pump_task = self.create_task(self._pump(), log_msg="replay")

    async def _disconnect(self) -> None:
        if self._pump_task is not None:
            self._pump_task.cancel()
            self._pump_task = None

    async def _pump(self) -> None:
        """Hand out what is due, then sleep; start over behind the last event."""
        events = self._due() if self._rate is None else self._at_rate(self._rate)
        while True:
            for _ in range(BURST_EVENTS_MAX):
                position = next(events)
                if position is None:
                    break
                event = self._tape.event(position, self._clock.timestamp_ns())
                if (type(event), event.instrument_id) in self._wanted:
                    self._handle_data(event)
            await asyncio.sleep(TICK_SECONDS)

    def _due(self) -> Iterator[int | None]:
        """Yield the positions that are due by the recorded pace, None when there is none."""
        while True:
            start_ns = self._clock.timestamp_ns()
            for position, offset_ns in enumerate(self._tape.offsets_ns):
                while self._clock.timestamp_ns() - start_ns < offset_ns:
                    yield None
                yield position

    def _at_rate(self, rate: float) -> Iterator[int | None]:
        """Yield positions at `rate` a second, None when none is due."""
        start_ns, count = self._clock.timestamp_ns(), 0
        while True:
            for position in range(len(self._tape)):
                while count >= (self._clock.timestamp_ns() - start_ns) * rate / 1e9:
                    yield None
                yield position
                count += 1

    async def _subscribe_quote_ticks(self, command: Any) -> None:
        self._wanted.add((QuoteTick, command.instrument_id))

    async def _subscribe_trade_ticks(self, command: Any) -> None:
        self._wanted.add((TradeTick, command.instrument_id))

    async def _subscribe_mark_prices(self, command: Any) -> None:
        self._wanted.add((MarkPriceUpdate, command.instrument_id))

    async def _subscribe_funding_rates(self, command: Any) -> None:
        self._wanted.add((FundingRateUpdate, command.instrument_id))

    async def _unsubscribe_quote_ticks(self, command: Any) -> None:
        self._wanted.discard((QuoteTick, command.instrument_id))

    async def _unsubscribe_trade_ticks(self, command: Any) -> None:
        self._wanted.discard((TradeTick, command.instrument_id))

    async def _unsubscribe_mark_prices(self, command: Any) -> None:
        self._wanted.discard((MarkPriceUpdate, command.instrument_id))

    async def _unsubscribe_funding_rates(self, command: Any) -> None:
        self._wanted.discard((FundingRateUpdate, command.instrument_id))


def replay_factory(data: Dataset) -> type[LiveDataClientFactory]:
    """Return the client factory for a node; the rate is shared by the venues' event counts."""
    venues = [row.id.partition(".")[2] for row in data.instruments]
    counts = dict.fromkeys(venues, 0)
    for row, venue in zip(data.instruments, venues, strict=True):
        counts[venue] += len(data.quotes[row.id].ts) + len(data.trades[row.id].ts)
        if row.id in data.funding:
            counts[venue] += 2 * len(data.funding[row.id].ts)  # each with its mark
    total = sum(counts.values()) or 1

    class ReplayDataClientFactory(LiveDataClientFactory):
        @staticmethod
        def create(
            loop: asyncio.AbstractEventLoop, name: str, config: ReplayClientConfig, **parts: Any
        ) -> ReplayDataClient:
            share = counts[name] / total
            return ReplayDataClient(
                loop=loop, name=name, config=config, data=data, share=share, **parts
            )

    return ReplayDataClientFactory
