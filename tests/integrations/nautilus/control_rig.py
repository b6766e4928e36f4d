"""A real TradingNode behind its gates, with a strategy that does what a test tells it to."""

import asyncio
import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from nautilus_trader.core.uuid import UUID4
from nautilus_trader.execution.messages import SubmitOrder
from nautilus_trader.model.data import QuoteTick
from nautilus_trader.model.enums import OrderSide, OrderStatus, OrderType, PositionSide
from nautilus_trader.model.events import OrderEvent
from nautilus_trader.model.identifiers import InstrumentId
from nautilus_trader.model.objects import Price, Quantity
from nautilus_trader.trading.strategy import Strategy

from bridge import config
from bridge.core.contract import Entry, default_names
from bridge.core.control import State
from bridge.core.lanes import ExecLane, MarketLane
from bridge.metrics import Metrics
from bridge.source import HaltAccount
from integrations.nautilus.node import NodeSource, factory
from tests.integrations.nautilus.builders import fields_of
from tests.integrations.nautilus.engines import PERP, SPOT, until
from tests.integrations.nautilus.standin import Factory, Standin

BUY, SELL = OrderSide.BUY, OrderSide.SELL
BID, ASK = Decimal(60_000), Decimal(60_010)
# Far from the market on either side: what rests there does not fill.
FAR = {BUY: Decimal(50_000), SELL: Decimal(70_000)}


class Puppet(Strategy):
    """Does nothing by itself, and remembers the events of its orders."""

    def on_start(self) -> None:
        self.told: list[OrderEvent] = []
        for instrument_id in (PERP, SPOT):
            self.subscribe_quote_ticks(instrument_id)

    def on_order_event(self, event: OrderEvent) -> None:
        self.told.append(event)

    def events_of(self, order: Any, kind: str) -> list[Any]:
        """Return the events of an order of the kind `Order<kind>`."""
        return [
            event
            for event in self.told
            if event.client_order_id == order.client_order_id
            and type(event).__name__ == f"Order{kind}"
        ]


class Lane(ExecLane):
    """Remembers what it was given."""

    def __init__(self) -> None:
        super().__init__(
            default_names(),
            producer="T-1.00000000.1",
            entries_max=100_000,
            clock_ns=time.monotonic_ns,
        )
        self.given: list[Entry] = []

    def append(self, entry: Entry) -> None:
        self.given.append(entry)
        super().append(entry)


class Rig:
    """A running node, its strategy, and what came of its orders."""

    def __init__(self, source: NodeSource, lane: Lane, metrics: Metrics) -> None:
        self.source = source
        self.guard = source.guard
        self.kernel = source.node.kernel
        self.cache = source.node.cache
        self.lane = lane
        self.metrics = metrics
        self.breaches: list[str] = []
        source.on_breach = self.breaches.append

    @property
    def strategy(self) -> Puppet:
        return self.source.node.trader.strategies()[0]

    @property
    def client(self) -> Standin:
        """The stand-in that executes for the perpetual."""
        return Factory.made[PERP.venue.value]

    @property
    def net(self) -> Decimal:
        """The net position in the perpetual."""
        open_ = self.cache.positions_open(instrument_id=PERP)
        signed = [(p.quantity.as_decimal(), p.side == PositionSide.LONG) for p in open_]
        return sum([qty if is_long else -qty for qty, is_long in signed], Decimal(0))

    def close_gates(self, state: State = State.HALTED, reason: str = "a test") -> None:
        self.source.apply(state, reason)

    async def halt(self, action: Any = "cancel", state: State = State.HALTED) -> HaltAccount:
        """Close the gates and halt, as the daemon does."""
        self.source.apply(state, "a test")
        async with asyncio.timeout(10):
            return await self.source.halt(action)

    async def quote(
        self, bid: Any = BID, ask: Any = ASK, instrument_id: InstrumentId = PERP, size: str = "100"
    ) -> None:
        """Have a quote arrive, and wait until it has."""
        now_ns = self.kernel.clock.timestamp_ns()
        precision = self.cache.instrument(instrument_id).price_precision
        tick = QuoteTick(
            instrument_id,
            *(Price(Decimal(price), precision) for price in (bid, ask)),
            *[Quantity(Decimal(size), self.cache.instrument(instrument_id).size_precision)] * 2,
            now_ns,
            now_ns,
        )
        self.kernel.msgbus.send("DataEngine.process", tick)

        def has_arrived() -> bool:
            last = self.cache.quote_tick(instrument_id)  # `==` of two quotes ends the process
            return last is not None and last.ts_init == now_ns

        await until(has_arrived, "the quote")

    # Orders.

    def market(self, side: OrderSide = BUY, qty: str = "0.010", **terms: Any) -> Any:
        """Make a market order."""
        instrument_id = terms.pop("instrument_id", PERP)
        size = self.cache.instrument(instrument_id).make_qty(Decimal(qty))
        return self.strategy.order_factory.market(instrument_id, side, size, **terms)

    def limit(
        self, side: OrderSide = BUY, qty: str = "0.010", price: Any = None, **terms: Any
    ) -> Any:
        """Make a limit order, far from the market unless there is a price."""
        instrument = self.cache.instrument(terms.pop("instrument_id", PERP))
        return self.strategy.order_factory.limit(
            instrument.id,
            side,
            instrument.make_qty(Decimal(qty)),
            instrument.make_price(FAR[side] if price is None else Decimal(price)),
            **terms,
        )

    def stop(self, side: OrderSide, trigger: Any, qty: str = "0.010", **terms: Any) -> Any:
        """Make a stop order."""
        instrument = self.cache.instrument(PERP)
        return self.strategy.order_factory.stop_market(
            PERP,
            side,
            instrument.make_qty(Decimal(qty)),
            instrument.make_price(Decimal(trigger)),
            **terms,
        )

    def bracket(self, **terms: Any) -> Any:
        """Make an entry far below the market with its stop loss and its target."""
        instrument = self.cache.instrument(PERP)
        return self.strategy.order_factory.bracket(
            PERP,
            BUY,
            instrument.make_qty(Decimal("0.010")),
            entry_order_type=OrderType.LIMIT,
            entry_price=instrument.make_price(FAR[BUY]),
            sl_trigger_price=instrument.make_price(45_000),
            tp_price=instrument.make_price(FAR[SELL]),
            **terms,
        )

    def submit(self, *orders: Any) -> Any:
        """Have the strategy submit orders; return the last."""
        for order in orders:
            self.strategy.submit_order(order)
        return orders[-1]

    def command(self, order: Any) -> SubmitOrder:
        """Return the command that a strategy would send for an order."""
        return SubmitOrder(
            trader_id=self.kernel.trader_id,
            strategy_id=self.strategy.id,
            order=order,
            command_id=UUID4(),
            ts_init=self.kernel.clock.timestamp_ns(),
        )

    async def rest(self, *orders: Any) -> Any:
        """Submit orders, wait until they rest; return the last."""
        self.submit(*orders)
        await until(
            lambda: all(order.status == OrderStatus.ACCEPTED for order in orders), "the orders"
        )
        return orders[-1]

    async def hold(self, qty: str = "0.010", side: OrderSide = BUY) -> Any:
        """Get a position by a market order; return it."""
        self.submit(self.market(side, qty))
        await until(lambda: self.net, "the position")
        return self.cache.positions_open(instrument_id=PERP)[0]

    # What came of them.

    async def denied(self, order: Any) -> str:
        """Wait until an order was denied; return the reason that the strategy was told."""
        await until(lambda: self.strategy.events_of(order, "Denied"), f"the denial of {order!r}")
        await self.settle()
        (event,) = self.strategy.events_of(order, "Denied")
        return str(event.reason)

    async def settle(self) -> None:
        """Wait until nothing is on its way through the node any more."""
        await self.source.sweep.until_gone(lambda: ())

    def statuses(self, order: Any) -> list[str]:
        """Return what exec:orders says of an order, oldest first."""
        return self.histories()[order.client_order_id.value]

    def histories(self) -> dict[str, list[str]]:
        """Return what exec:orders says of each order, oldest first."""
        histories: dict[str, list[str]] = defaultdict(list)
        for fields in self.told():
            histories[fields["cl_ord_id"]].append(fields["status"])
        return histories

    def told(self) -> list[dict[str, str]]:
        """Return all entries of exec:orders."""
        return [fields_of(entry) for entry in self.lane.given if entry.kind == "orders"]

    def count(self) -> Counter[str]:
        """Return how often each status stands in exec:orders."""
        return Counter([fields["status"] for fields in self.told()])

    @property
    def submits(self) -> int:
        """How many orders reached a client."""
        return self.count()["submitted"]


def load(folder: Path, **settings: Any) -> config.Config:
    """Return a demo's config, or with `role` live that of the stand-in."""
    given: dict[str, Any] = {
        "replay.dataset": str(folder),
        "replay.rate": 0.001,  # a test brings its own quotes
        "node.stop_timeout_seconds": 0.1,
        "node.log_level": "OFF",
        "source.strategy": f"{__name__}:Puppet",
    }
    if settings.get("role") == "live":
        given |= {
            "redis.url": "redis://127.0.0.1:1/0",
            "node.data": "replay",
            "node.symbols": "BTC",
            "node.exec_client": "tests.integrations.nautilus.standin:Factory",
        }
    return config.load(None, environ={}, overrides=given | settings)


def make(folder: Path, **settings: Any) -> Rig:
    """Build a node; its gates are as they are by default."""
    lane, metrics = Lane(), Metrics()
    market_lane = MarketLane(entries_max=100_000, clock_ns=time.monotonic_ns)
    return Rig(factory(load(folder, **settings), lane, market_lane, metrics, True), lane, metrics)


@contextlib.asynccontextmanager
async def run(rig: Rig) -> AsyncIterator[Rig]:
    """Run a node until the end of the block."""
    running = asyncio.create_task(rig.source.run())
    try:
        await until(lambda: rig.source.is_running or running.done(), "the node to run")
        yield rig
    finally:
        await rig.source.stop()
        rig.source.sweep.stop()
        await running


@contextlib.asynccontextmanager
async def trading(
    folder: Path, prepare: Callable[[Rig], None] = lambda _: None, **settings: Any
) -> AsyncIterator[Rig]:
    """Run a node with open gates and quotes of both instruments."""
    rig = make(folder, **settings)
    prepare(rig)
    rig.source.apply(State.ACTIVE, "")
    async with run(rig):
        for instrument_id in (PERP, SPOT):
            await rig.quote(instrument_id=instrument_id)
        yield rig
