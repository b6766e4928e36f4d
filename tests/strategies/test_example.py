"""The demo's strategy in a BacktestEngine."""

from decimal import Decimal
from typing import Any

import pytest
from nautilus_trader.model.enums import OrderSide, OrderType
from nautilus_trader.model.identifiers import InstrumentId

from strategies.example import Example, ExampleConfig
from tests.integrations.nautilus import engines
from tests.integrations.nautilus.engines import PERP

NOTIONAL = Decimal(500)


@pytest.fixture(scope="module")
def cache() -> Any:
    """Return the cache behind two minutes of sample data and a step every five seconds."""
    config = ExampleConfig(instrument_ids=(PERP,), interval_seconds=5.0, notional=NOTIONAL)
    engine = engines.make_engine(Example(config))
    engine.run()
    yield engine.kernel.cache
    engine.dispose()


def test_it_trades(cache):
    """It opened and closed its position several times."""
    sides = [order.side for order in cache.orders() if order.filled_qty]

    assert sides.count(OrderSide.BUY) >= 5
    assert sides.count(OrderSide.SELL) >= 5


def test_it_is_flat_in_the_end(cache):
    """No position and no order is left open."""
    assert cache.positions_open_count() == 0
    assert cache.orders_open_count() == 0


def test_resting_orders_are_canceled(cache):
    """Every limit order was accepted, rested and was canceled."""
    limits = [order for order in cache.orders() if order.order_type == OrderType.LIMIT]

    assert len(limits) >= 5
    assert {order.status_string() for order in limits} == {"CANCELED"}


def test_orders_stay_within_the_notional(cache):
    """No buy is worth more than was configured."""
    buys = [order for order in cache.orders() if order.side == OrderSide.BUY and order.filled_qty]

    assert buys
    for order in buys:
        assert order.filled_qty.as_decimal() * Decimal(str(order.avg_px)) <= NOTIONAL * Decimal(
            "1.001"
        )


def test_without_instruments_it_does_nothing():
    """A strategy that was given nothing to trade runs and trades nothing."""
    engine = engines.make_engine(Example(ExampleConfig()))

    engine.run()

    assert engine.kernel.cache.orders_total_count() == 0
    engine.dispose()


def test_a_missing_instrument_stops_it():
    """It is stopped before it could trade what it does not know."""
    unknown = InstrumentId.from_str("NOBODY.KNOWS")
    strategy = Example(ExampleConfig(instrument_ids=(unknown, PERP)))
    engine = engines.make_engine(strategy)

    engine.run()

    assert engine.kernel.cache.orders_total_count() == 0
    engine.dispose()
