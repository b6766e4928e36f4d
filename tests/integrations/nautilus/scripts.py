"""Strategies for tests that take one scripted step after the other."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

from nautilus_trader.config import StrategyConfig
from nautilus_trader.core.uuid import UUID4
from nautilus_trader.execution.messages import CancelOrder
from nautilus_trader.model.data import QuoteTick
from nautilus_trader.model.enums import OrderSide, TimeInForce, TriggerType
from nautilus_trader.model.identifiers import InstrumentId
from nautilus_trader.model.instruments import Instrument
from nautilus_trader.model.objects import Quantity
from nautilus_trader.trading.strategy import Strategy

from tests.integrations.nautilus.engines import PERP

SIZE = Decimal("0.002")

type Step = Callable[["Script", QuoteTick], Any]


class Script(Strategy):
    """Takes the next of `steps` at every `every`-th quote, and keeps its own order events."""

    def __init__(self, *steps: Step, every: int = 3, instrument_id: InstrumentId = PERP) -> None:
        super().__init__(StrategyConfig(strategy_id="SCRIPT", order_id_tag="001"))
        self.instrument_id = instrument_id
        self.left = list(steps)
        self.orders: dict[str, Any] = {}
        self.events: list[Any] = []
        self.on_fill: Callable[[Any], None] | None = None
        self.with_trades = False
        self._every = every
        self._seen = 0

    def on_start(self) -> None:
        self.subscribe_quote_ticks(self.instrument_id)
        if self.with_trades:
            self.subscribe_trade_ticks(self.instrument_id)

    def on_quote_tick(self, tick: QuoteTick) -> None:
        self._seen += 1
        if self.left and not self._seen % self._every:
            self.left.pop(0)(self, tick)

    def on_order_event(self, event: Any) -> None:
        self.events.append(event)

    def on_order_filled(self, event: Any) -> None:
        if self.on_fill is not None:
            self.on_fill(event)

    @property
    def instrument(self) -> Instrument:
        return self.cache.instrument(self.instrument_id)

    def market(self, side: OrderSide = OrderSide.BUY, size: Decimal = SIZE, **more: Any) -> Any:
        """Submit a market order; return it."""
        quantity = self.instrument.make_qty(size)
        return self.send(self.order_factory.market(self.instrument_id, side, quantity, **more))

    def limit(
        self, price: Any, side: OrderSide = OrderSide.BUY, *, name: str = "limit", **more: Any
    ) -> Any:
        """Submit a limit order, kept in `orders` under `name`; return it."""
        quantity = self.instrument.make_qty(SIZE)
        order = self.order_factory.limit(
            self.instrument_id, side, quantity, self.instrument.make_price(price), **more
        )
        self.orders[name] = order
        return self.send(order)

    def send(self, order: Any) -> Any:
        self.submit_order(order)
        return order


def off(tick: Any, factor: str) -> Decimal:
    """Return a price that is `factor` times the bid."""
    return tick.bid_price.as_decimal() * Decimal(factor)


def everything() -> list[Step]:
    """Return steps that bring about every order event that Nautilus has."""

    def modify(script: Script, price: Decimal) -> None:
        order = script.orders["resting"]
        script.modify_order(order, price=script.instrument.make_price(price))

    def cancel_twice(script: Script) -> None:
        order = script.orders["resting"]
        again = CancelOrder(
            trader_id=script.trader_id,
            strategy_id=script.id,
            instrument_id=PERP,
            client_order_id=order.client_order_id,
            venue_order_id=order.venue_order_id,
            command_id=UUID4(),
            ts_init=script.clock.timestamp_ns(),
        )
        script.cancel_order(order)
        script.msgbus.send("ExecEngine.execute", again)

    def stop_limit(script: Script, tick: Any) -> None:
        make, price = script.instrument.make_qty, script.instrument.make_price
        order = script.order_factory.stop_limit(
            PERP,
            OrderSide.BUY,
            make(SIZE),
            price(off(tick, "0.9")),
            price(off(tick, "1.00001")),
        )
        script.send(order)

    def too_fine(script: Script) -> None:
        size = Quantity.from_str("0.00123")  # more decimals than the instrument has
        script.send(script.order_factory.market(PERP, OrderSide.BUY, size))

    def expiring(script: Script, tick: Any) -> None:
        when = script.clock.utc_now() + timedelta(seconds=2)
        script.limit(off(tick, "0.5"), time_in_force=TimeInForce.GTD, expire_time=when)

    return [
        lambda s, t: s.market(),
        lambda s, t: s.market(size=t.ask_size.as_decimal() * 2),
        lambda s, t: s.limit(off(t, "0.9"), name="resting", post_only=True),
        lambda s, t: modify(s, off(t, "0.8")),
        lambda s, t: modify(s, off(t, "1.1")),
        lambda s, _: cancel_twice(s),
        lambda s, t: s.limit(off(t, "1.1"), post_only=True),
        lambda s, _: too_fine(s),
        stop_limit,
        lambda s, t: s.limit(off(t, "1.05"), emulation_trigger=TriggerType.BID_ASK),
        expiring,
        lambda s, _: s.close_all_positions(PERP),
    ]
