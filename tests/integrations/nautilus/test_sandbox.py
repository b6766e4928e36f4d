"""The sandbox with its six corrections, in a live node."""

from typing import Any

import pytest
from nautilus_trader.adapters.sandbox import execution
from nautilus_trader.adapters.sandbox.execution import SandboxExecutionClient
from nautilus_trader.backtest.engine import SimulatedExchange
from nautilus_trader.model.data import Bar, BarType, QuoteTick, TradeTick
from nautilus_trader.model.enums import AggressorSide
from nautilus_trader.model.identifiers import ClientId, TradeId
from nautilus_trader.model.objects import Price, Quantity

from integrations.nautilus.sandbox import QuoteSandboxClient
from tests.integrations.nautilus import engines
from tests.integrations.nautilus.engines import PERP, running, until
from tests.integrations.nautilus.scripts import Script

SIZE = Quantity.from_str("1.000")


def names(script: Script) -> list[str]:
    return [type(event).__name__ for event in script.events]


def sandbox_of(node: Any) -> SandboxExecutionClient:
    clients = node.kernel.exec_engine._clients
    return clients[ClientId(PERP.venue.value)]


async def test_trades_and_bars_never_move_the_book():
    """Best bid and ask are the last quote's, whatever is traded in between."""
    node = engines.make_node()
    node.build()
    client = sandbox_of(node)
    client.connect()
    quote = QuoteTick(PERP, Price.from_str("100.00"), Price.from_str("100.10"), SIZE, SIZE, 1, 1)
    trade = TradeTick(PERP, Price.from_str("50.00"), SIZE, AggressorSide.SELLER, TradeId("1"), 2, 2)
    bar_type = BarType.from_str(f"{PERP}-1-MINUTE-LAST-EXTERNAL")
    bar = Bar(bar_type, *[Price.from_str("70.00")] * 4, SIZE, 3, 3)

    for topic, event in (("quotes", quote), ("trades", trade), ("bars", bar)):
        node.kernel.msgbus.publish(f"data.{topic}.{PERP.venue}.{PERP.symbol}", event)

    assert isinstance(client, QuoteSandboxClient)
    assert client.exchange.best_bid_price(PERP) == quote.bid_price
    assert client.exchange.best_ask_price(PERP) == quote.ask_price
    client.disconnect()
    engines.free(node)


async def test_market_orders_are_acknowledged():
    """A market order shows accepted before its fill, as at a venue."""
    script = Script(lambda s, _: s.market())
    node = engines.make_node(script)

    async with running(node):
        await until(lambda: "OrderFilled" in names(script))

    assert names(script)[:4] == [
        "OrderInitialized",
        "OrderSubmitted",
        "OrderAccepted",
        "OrderFilled",
    ]


async def test_a_batch_is_canceled():
    """cancel_orders cancels each order; the client itself would leave them pending for ever."""

    def two(script: Script, tick: Any) -> None:
        low = tick.bid_price.as_decimal() / 2
        script.limit(low, name="a")
        script.limit(low, name="b")

    script = Script(two)
    node = engines.make_node(script)

    async with running(node):
        await until(lambda: names(script).count("OrderAccepted") == 2)
        script.cancel_orders(list(script.orders.values()))
        await until(lambda: names(script).count("OrderCanceled") == 2)

    assert all(order.is_closed for order in script.orders.values())


@pytest.mark.parametrize("fails", [False, True])
async def test_nautilus_is_left_as_it_was(monkeypatch, fails):
    """Building a client changes Nautilus's module for that moment only, also when it fails."""
    node = engines.make_node()
    if fails:

        def fail(*_: Any, **__: Any) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(SandboxExecutionClient, "__init__", fail)
        with pytest.raises(ZeroDivisionError):
            QuoteSandboxClient()
    else:
        node.build()

    assert execution.SimulatedExchange is SimulatedExchange
    engines.free(node)


async def test_time_never_goes_back():
    """The events of each order stand in the order of their times, also between two quotes."""
    script = Script(lambda s, _: s.market())
    node = engines.make_node(script)

    async with running(node):
        await until(lambda: "OrderFilled" in names(script))

    times = [event.ts_event for event in script.events]
    assert times == sorted(times)
