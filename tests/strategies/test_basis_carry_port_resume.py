"""The Nautilus port of basis carry when it starts with what the cache has kept."""

from collections.abc import Iterator
from decimal import Decimal as D

import pytest
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.common.config import InvalidConfiguration
from nautilus_trader.model.enums import OrderSide, OrderStatus

from strategies.basis_carry.port import (
    NautilusBasisCarryStrategy,
    NautilusBasisCarryStrategyConfig,
)
from strategies.basis_carry.port_memory import Record, loaded
from strategies.basis_carry.port_symbol import Symbol
from tests.strategies.basis_carry_engine import feed, id_of, make_engine, run
from tests.strategies.basis_carry_market import BTC, FLAT, HELD, RICH, SECOND, decision, steps

SPOT, PERP = (id_of(row) for row in BTC)
IDS = (SPOT, PERP)
SLACK = 5 * SECOND


@pytest.fixture
def engine() -> Iterator[BacktestEngine]:
    """An engine behind a round trip, with another position held, and two orders left."""
    engine, strategy = make_engine(
        params={"end_of_run_minutes": 0, "max_notional": 1000, "cooldown_seconds": 0}
    )
    rich, thin = RICH | {"spot_size": "4"}, HELD | {"spot_size": "4"}
    feed(engine, BTC, steps(rich, thin, thin, FLAT, FLAT, FLAT, rich, thin, thin, HELD))
    strategy.clock.set_time_alert_ns("leave", decision(9) + SECOND, lambda _: leave_two(strategy))
    run(engine, end=decision(9) + 2 * SECOND)
    assert strategy.counts["round_trips"] == 1
    yield engine
    engine.dispose()


def leave_two(strategy: NautilusBasisCarryStrategy) -> None:
    """Leave an order that rests, and one that is in the cache and was never sent."""
    instrument = strategy.cache.instrument(SPOT)
    size, price = instrument.make_qty(1), instrument.make_price(50)
    strategy.submit_order(strategy.order_factory.limit(SPOT, OrderSide.BUY, size, price))
    strategy.cache.add_order(strategy.order_factory.market(SPOT, OrderSide.BUY, size))


def resumed(engine: BacktestEngine, moved_ns: int = 0) -> tuple[Symbol, Record]:
    """Return the symbol as another start takes it up, and the record as it was kept.

    The costs of what is taken up are lost, and its time is moved.
    """
    [strategy] = engine.trader.strategies()
    kept = loaded(strategy.on_save()["memories"])["BTC"]
    memory = loaded(strategy.on_save()["memories"])["BTC"]
    record, before = memory.record, kept.record
    assert record is not None
    assert before is not None
    record.spot_cost = record.perp_proceeds = D(7)
    record.has_fill = False
    record.ts_ns += moved_ns
    spot, perp = (engine.cache.instrument(each) for each in IDS)
    symbol = Symbol(spot, perp, memory)
    symbol.resume(engine.cache, strategy.id, SLACK)
    return symbol, before


@pytest.mark.parametrize("moved_ns", [0, SLACK], ids=["its time", "a clock set back"])
def test_costs_are_booked_anew(engine, moved_ns):
    """From the fills of the record's orders, and of no earlier record's."""
    symbol, before = resumed(engine, moved_ns)

    record = symbol.memory.record
    assert before.spot_cost > 900
    assert (record.spot_cost, record.perp_proceeds) == (before.spot_cost, before.perp_proceeds)
    assert record.has_fill


def test_fills_of_an_earlier_time(engine):
    """What was ordered further than the slack in front of the record belongs to another: here,
    where it does not, fills and position do not fit."""
    with pytest.raises(ValueError, match="its fills come to 6, Nautilus's cache has 10"):
        resumed(engine, SLACK + 1)


def test_orders_that_may_still_fill(engine):
    """They are taken up; done ones are not, nor is one that was never sent."""
    statuses = {each.status for each in engine.cache.orders(instrument_id=SPOT)}
    assert statuses == {OrderStatus.FILLED, OrderStatus.ACCEPTED, OrderStatus.INITIALIZED}

    symbol, _ = resumed(engine)

    assert [order.status for order in symbol.orders] == [OrderStatus.ACCEPTED]


class Forgetful:
    """A cache that lost its positions, as a kill behind the order's writing leaves it."""

    def __init__(self, engine):
        self.orders = engine.cache.orders

    @staticmethod
    def positions_open(**_):
        return []


def test_a_position_that_was_lost(engine):
    """Fills that are not what is held end the start: it would trade blindly on."""
    [strategy] = engine.trader.strategies()
    memory = loaded(strategy.on_save()["memories"])["BTC"]
    symbol = Symbol(*(engine.cache.instrument(each) for each in IDS), memory)

    with pytest.raises(ValueError, match=r"its fills come to .* cache has 0: a kill came between"):
        symbol.resume(Forgetful(engine), strategy.id, SLACK)


def test_two_strategies_on_the_same_instruments(engine):
    """The second is refused, by the name of the first, unless it claims nothing."""
    with pytest.raises(InvalidConfiguration, match=r"BTC-spot\S+ already exists for \S+Carry"):
        engine.add_strategy(another())
    engine.add_strategy(another(order_id_tag="007", external_order_claims=[]))


def another(**config):
    """Return a second strategy on the same instruments."""
    given = {"order_id_tag": "005", "instrument_ids": IDS} | config
    return NautilusBasisCarryStrategy(NautilusBasisCarryStrategyConfig(**given))


def test_an_interval_of_no_hours():
    """It is refused when it is read, not divided by."""
    with pytest.raises(ValueError, match="interval_hours"):
        loaded(b'{"BTC":{"rate":0.0,"interval_hours":0}}')
