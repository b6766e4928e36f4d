"""What every row stands on: a pinned server, a real kernel with the real tap, ready quotes."""

import asyncio
import dataclasses
import gc
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from decimal import Decimal
from typing import Any

from nautilus_trader.backtest.config import BacktestEngineConfig
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.config import LoggingConfig, MessageBusConfig
from nautilus_trader.model.data import QuoteTick
from nautilus_trader.model.identifiers import InstrumentId, TraderId
from nautilus_trader.model.objects import FIXED_PRECISION

from bridge import endpoints
from bridge.core.contract import default_names
from bridge.core.lanes import Channel, ExecLane, MarketLane
from bridge.exec_shipper import ExecShipper
from bridge.metrics import Metrics
from bridge.publisher import Publisher
from bridge.settings import Config
from integrations.binance.manifest import Instrument
from integrations.nautilus import market
from integrations.nautilus.market import Routes, Trim
from integrations.nautilus.replay import instrument_of
from integrations.nautilus.tap import Tap
from tests.bench.machine import CHUNK
from tests.servers import RedisServer

VENUE = "BINANCE_SPOT"
ALIAS = {VENUE: "BINANCE"}
ROW = Instrument(
    id=f"BTCUSDT.{VENUE}",
    symbol="BTC",
    leg="spot",
    tick=Decimal("0.01"),
    lot=Decimal("0.00001"),
    min_notional=Decimal(5),
    fee=Decimal("0.001"),
    base="BTC",
    quote="USDT",
)
STREAM = "market.raw.crypto.BTCUSDT"
TOPIC = f"data.quotes.{VENUE}.BTCUSDT"
MAXLEN = 100_000
# Events published and not yet acknowledged: what is in flight, and as many that wait behind it.
WINDOW = 8_192
PRICE_PAIRS = 997  # prime: 1000 streams in turn do not each keep one price
SIZES = 1_009
RING_CHUNKS = 100
START_NS = 1_767_225_600_000_000_000
CONNECT_SECONDS_MAX = 10.0
DRAIN_SECONDS_MAX = 30.0

type Emit = Callable[[Sequence[QuoteTick]], None]


class QuoteMaker:
    """Makes quotes of about a thousand distinct price pairs; each has its own time."""

    def __init__(self, instrument_id: str) -> None:
        chance = random.Random(7)
        to_price, to_size = 10 ** (FIXED_PRECISION - 2), 10 ** (FIXED_PRECISION - 5)
        bids = [5_000_000 + step for step in range(PRICE_PAIRS)]
        chance.shuffle(bids)
        self._instrument_id = InstrumentId.from_str(instrument_id)
        self._prices = [(bid * to_price, (bid + 1) * to_price) for bid in bids]
        self._sizes = [chance.randrange(1, 10**6) * to_size for _ in range(SIZES)]

    def __call__(self, number: int) -> QuoteTick:
        bid, ask = self._prices[number % PRICE_PAIRS]
        sizes, ts_ns = self._sizes, START_NS + number
        bid_size, ask_size = sizes[number % SIZES], sizes[number * 31 % SIZES]
        return QuoteTick.from_raw(
            self._instrument_id, bid, ask, 2, 2, bid_size, ask_size, 5, 5, ts_ns, ts_ns
        )


def ring(instruments: int = 1) -> list[list[QuoteTick]]:
    """Return ready quotes in chunks of 256, of so many instruments in turn."""
    makers = [QuoteMaker(row.id) for row in instrument_rows(instruments)]
    numbers = itertools.count()
    sources = itertools.cycle(makers)
    return [[next(sources)(next(numbers)) for _ in range(CHUNK)] for _ in range(RING_CHUNKS)]


def instrument_rows(count: int) -> list[Instrument]:
    """Return the bench's instrument, or `count` that differ from it in their symbol only."""
    if count == 1:
        return [ROW]
    return [dataclasses.replace(ROW, id=f"S{number:04}USDT.{VENUE}") for number in range(count)]


@contextmanager
def engine(bus: MessageBusConfig | None = None, instruments: int = 1) -> Iterator[BacktestEngine]:
    """Yield an engine that never runs, for its kernel: the real bus, cache and data engine."""
    made = BacktestEngine(
        config=BacktestEngineConfig(
            trader_id=TraderId("BENCH-001"),
            logging=LoggingConfig(bypass_logging=True),
            message_bus=bus,
        )
    )
    try:
        for row in instrument_rows(instruments):
            made.kernel.cache.add_instrument(instrument_of(row))
        gc.collect()
        gc.freeze()  # as the daemon does once its node runs
        yield made
    finally:
        gc.unfreeze()
        made.dispose()


class Rig:
    """Lanes and publisher as the daemon makes them, with the default settings."""

    def __init__(self, server: RedisServer, publisher: type[Publisher] = Publisher) -> None:
        settings = Config()
        self.names = default_names()
        self.metrics = Metrics()
        self.exec_lane = ExecLane(
            self.names,
            producer="bench.00000000.1",
            entries_max=settings.exec.entries_max,
            clock_ns=time.monotonic_ns,
        )
        self.market_lane = MarketLane(
            entries_max=settings.market.entries_max, clock_ns=time.monotonic_ns
        )
        shipper = ExecShipper(
            self.exec_lane,
            self.metrics,
            scope=self.exec_lane.producer,
            journal=None,
            lease=None,
            batch_entries_max=settings.exec.batch_entries_max,
            in_flight_max=settings.exec.in_flight_max,
        )
        self.publisher = publisher(
            endpoints.parse(server.url),
            shipper,
            self.market_lane,
            self.metrics,
            in_flight_max=settings.market.in_flight_max,
            backoff_seconds_max=settings.redis.reconnect_seconds_max,
            reply_seconds_max=settings.redis.reply_timeout_seconds,
        )

    @property
    def unacknowledged(self) -> int:
        """Market events that Redis has not confirmed."""
        return self.publisher.unpublished["market"]

    def running(self) -> AbstractAsyncContextManager[None]:
        """Publish while the body runs."""
        return publishing(self.publisher)

    async def drained(self) -> None:
        """Return when Redis has confirmed everything. Raises TimeoutError after 30 s."""
        if not await self.publisher.drain(DRAIN_SECONDS_MAX):
            raise TimeoutError(f"still unpublished: {self.publisher.unpublished}")

    def sink(self, made: BacktestEngine, trim: Trim) -> Emit:
        """Return what puts ready quotes straight into the lane."""
        routes = Routes(self.names, made.kernel.cache, venue_alias=ALIAS, trim=trim)
        channel = Channel(
            "quotes",
            encode=market.quote_encoder(routes),
            stream_of=lambda quote: routes.route("quotes", quote.instrument_id).key,
            conflates=True,
        )
        return _each(self.market_lane.open(channel))

    def bus(self, made: BacktestEngine, maxlen: int = MAXLEN) -> Emit:
        """Return what publishes quotes on the engine's bus, which the tap listens to."""
        self._tap(made, maxlen)
        return publishes(made)

    def data_engine(self, made: BacktestEngine) -> Emit:
        """Return what hands quotes to the data engine, as a data client does."""
        self._tap(made, MAXLEN)
        return _each(made.kernel.data_engine.process)

    def _tap(self, made: BacktestEngine, maxlen: int) -> None:
        def fail(error: Exception) -> None:
            raise error

        Tap(
            made.kernel,
            self.exec_lane,
            self.market_lane,
            self.metrics,
            names=self.names,
            venue_alias=ALIAS,
            maxlen=maxlen,
            on_failure=fail,
        )


@asynccontextmanager
async def publishing(publisher: Publisher) -> AsyncIterator[None]:
    """Publish while the body runs, which begins when Redis is reached."""
    task = asyncio.create_task(publisher.run())
    try:
        async with asyncio.timeout(CONNECT_SECONDS_MAX):
            while publisher.problem is not None:  # noqa: ASYNC110 - nothing tells it
                await asyncio.sleep(0.001)
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.result()


def publishes(made: BacktestEngine) -> Emit:
    """Return what publishes quotes on the engine's bus."""
    publish = made.kernel.msgbus.publish

    def emit(chunk: Sequence[QuoteTick]) -> None:
        for quote in chunk:
            publish(TOPIC, quote)

    return emit


def _each(take: Callable[[Any], None]) -> Emit:
    def emit(chunk: Sequence[QuoteTick]) -> None:
        for quote in chunk:
            take(quote)

    return emit
