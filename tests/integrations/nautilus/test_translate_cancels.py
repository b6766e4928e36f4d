"""Why an order was canceled: OrderCanceled does not tell, its history does."""

from typing import Any

import pytest
from nautilus_trader.backtest.config import BacktestEngineConfig
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.config import LoggingConfig
from nautilus_trader.model.data import QuoteTick
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide, TimeInForce, TriggerType
from nautilus_trader.model.events import (
    OrderAccepted,
    OrderCanceled,
    OrderCancelRejected,
    OrderEmulated,
    OrderPendingCancel,
    OrderReleased,
    OrderSubmitted,
)
from nautilus_trader.model.objects import Price, Quantity
from nautilus_trader.trading.strategy import Strategy

from tests.integrations.nautilus.builders import (
    TS_NS,
    cache_of,
    entry_of,
    event_of,
    fields_of,
    fill_of,
    happen,
    known,
    limit,
    market,
    money,
    perpetual,
    translator_of,
)

BTC = perpetual()


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        # cancel_order publishes OrderPendingCancel, cancel_all_orders only applies it.
        ([OrderSubmitted, OrderAccepted, OrderPendingCancel], "requested"),
        ([OrderSubmitted, OrderAccepted], "venue"),
        ([OrderSubmitted], "venue"),  # immediate or cancel, nothing filled
        ([OrderAccepted], "venue"),  # an order that was placed by other means
        # The request failed; what ended the order came later, and from the venue.
        ([OrderSubmitted, OrderAccepted, OrderPendingCancel, OrderCancelRejected], "venue"),
        ([OrderAccepted, OrderPendingCancel, OrderCancelRejected, OrderPendingCancel], "requested"),
    ],
)
def test_the_cause_of_a_cancel_is_supplied(before: Any, reason: str) -> None:
    """OrderCanceled carries no reason; what the order went through tells."""
    order = limit(BTC)
    happen(order, *before)
    event = event_of(OrderCanceled, order)
    order.apply(event)

    assert entry_of(translator_of(known(order)), event)["reason"] == reason


@pytest.mark.parametrize("before", [[OrderEmulated], [OrderEmulated, OrderReleased]])
def test_an_order_that_never_left_is_canceled_on_request(before: Any) -> None:
    """Emulated orders see no OrderPendingCancel, and no venue either."""
    order = limit(BTC, emulation_trigger=TriggerType.BID_ASK)
    happen(order, *before)
    event = event_of(OrderCanceled, order, account_id=None, venue_order_id=None)
    order.apply(event)

    fields = entry_of(translator_of(known(order)), event)

    assert (fields["status"], fields["reason"]) == ("canceled", "requested")


def test_the_rest_of_an_immediate_order_is_canceled_by_the_venue() -> None:
    """A partly filled IOC order ends with the venue's cancel; the entry shows what was filled."""
    order = market(BTC)
    happen(order, OrderSubmitted, fill_of(BTC, order))
    event = event_of(OrderCanceled, order)
    order.apply(event)

    fields = entry_of(translator_of(known(order)), event)

    assert (fields["reason"], fields["filled_qty"]) == ("venue", "0.004")


def test_a_cancel_of_an_order_that_the_cache_does_not_know_came_from_the_venue() -> None:
    """Without the order's history nothing was requested here."""
    event = event_of(OrderCanceled, limit(BTC))
    assert entry_of(translator_of(cache_of()), event)["reason"] == "venue"


class Canceling(Strategy):
    """Brings about every way in which an order of a strategy is canceled."""

    def on_start(self) -> None:
        self.subscribe_quote_ticks(BTC.id)
        self._steps: list[Any] = [self._rest, self._cancel, self._cancel_all, self._immediate]
        self.orders: dict[str, Any] = {}

    def on_quote_tick(self, tick: QuoteTick) -> None:
        if self._steps:
            self._steps.pop(0)()

    def _limit(self, name: str, *, price: str = "40000.00", **options: Any) -> None:
        size, price_ = Quantity.from_str("0.010"), Price.from_str(price)
        order = self.order_factory.limit(BTC.id, OrderSide.BUY, size, price_, **options)
        self.orders[name] = order
        self.submit_order(order)

    def _rest(self) -> None:
        self._limit("cancel_order")
        self._limit("cancel_all_orders")
        self._limit("emulated", emulation_trigger=TriggerType.BID_ASK)

    def _cancel(self) -> None:
        self.cancel_order(self.orders["cancel_order"])
        self.cancel_order(self.orders["emulated"])

    def _cancel_all(self) -> None:
        self.cancel_all_orders(BTC.id)

    def _immediate(self) -> None:
        self._limit("immediate", price="50000.01", time_in_force=TimeInForce.IOC)


@pytest.fixture(scope="module")
def canceled() -> dict[str, list[dict[str, str]]]:
    """Return the order entries of one backtest, by the way in which an order was canceled."""
    config = BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True))
    engine = BacktestEngine(config=config)
    kinds = {"oms_type": OmsType.NETTING, "account_type": AccountType.MARGIN}
    engine.add_venue(BTC.id.venue, starting_balances=[money("500000 USDT")], **kinds)
    engine.add_instrument(BTC)
    prices = (Price.from_str("50000.00"), Price.from_str("50000.01"))
    sizes = (Quantity.from_str("0.004"), Quantity.from_str("0.004"))
    ticks = [QuoteTick(BTC.id, *prices, *sizes, TS_NS + i, TS_NS + i) for i in range(10)]
    engine.add_data(ticks)
    strategy = Canceling()
    engine.add_strategy(strategy)
    entries: list[dict[str, str]] = []
    translator = translator_of(engine.cache)

    def tell(event: Any) -> None:
        entries.extend(fields_of(entry) for entry in translator.order(event)[-1:])

    engine.kernel.msgbus.subscribe("events.order.*", tell, 6)
    try:
        engine.run()
        names = {str(order.client_order_id): name for name, order in strategy.orders.items()}
    finally:
        engine.dispose()
    return {
        name: [entry for entry in entries if entry["cl_ord_id"] == order_id]
        for order_id, name in names.items()
    }


@pytest.mark.parametrize(
    ("way", "reason", "pending"),
    [
        ("cancel_order", "requested", True),
        ("cancel_all_orders", "requested", False),  # applied to the order, and not published
        ("emulated", "requested", False),
        ("immediate", "venue", False),
    ],
)
def test_a_canceled_order_says_who_asked_for_it(
    canceled: Any, way: str, reason: str, pending: bool
) -> None:
    """In a real engine: what a strategy asked for is `requested`, the rest is the venue's."""
    entries = canceled[way]
    assert (entries[-1]["status"], entries[-1]["reason"]) == ("canceled", reason)
    assert any(entry["status"] == "pending_cancel" for entry in entries) == pending


def test_the_fill_of_an_immediate_order_is_partial(canceled: Any) -> None:
    """In a real engine the order's state is behind the fill when its entry is made."""
    statuses = [(entry["status"], entry["filled_qty"]) for entry in canceled["immediate"]]
    assert statuses[-2:] == [("partially_filled", "0.004"), ("canceled", "0.004")]
