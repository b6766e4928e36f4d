"""Nautilus's own execution engine, portfolio and bus, without an exchange."""

from decimal import Decimal
from typing import Any, NamedTuple

from nautilus_trader.common.component import MessageBus, TestClock
from nautilus_trader.config import StrategyConfig
from nautilus_trader.execution.engine import ExecutionEngine
from nautilus_trader.model.enums import AccountType, OrderSide
from nautilus_trader.model.events import AccountState, OrderSubmitted, PositionEvent
from nautilus_trader.model.instruments import Instrument
from nautilus_trader.model.objects import AccountBalance
from nautilus_trader.portfolio.portfolio import Portfolio
from nautilus_trader.trading.strategy import Strategy

from tests.integrations.nautilus.builders import (
    ACCOUNT,
    TRADER,
    cache_of,
    event_of,
    fields_of,
    fill_of,
    limit,
    money,
    perpetual,
    translator_of,
    uuid,
)

BTC = perpetual()


class Trade(NamedTuple):
    """A fill: units of the smallest size, signed, and ticks of the smallest price."""

    units: int
    ticks: int


class Desk:
    """Nautilus's execution engine, portfolio and bus; a tap's place on the bus from `listen` on."""

    def __init__(self, instrument: Instrument = BTC, *, hedging: bool = False) -> None:
        self.instrument = instrument
        self.cache = cache_of(instrument)
        self.told: list[dict[str, str]] = []
        clock = TestClock()
        self.bus = MessageBus(TRADER, clock)
        self._portfolio = Portfolio(self.bus, self.cache, clock)
        self._engine = ExecutionEngine(self.bus, self.cache, clock)
        self._portfolio.update_account(_account())
        self._orders = 0
        if hedging:
            config = StrategyConfig(strategy_id="CARRY", order_id_tag="001", oms_type="HEDGING")
            self._engine.register_oms_type(Strategy(config))

    def listen(self) -> None:
        """Translate position events from now on."""
        translator = translator_of(self.cache)

        def tell(event: PositionEvent) -> None:
            self.told += [fields_of(entry) for entry in translator.position(event)]

        self.bus.subscribe("events.position.*", tell, 6)

    def fill(self, side: OrderSide, qty: str, price: str, **changes: Any) -> None:
        """Fill an order of its own at once."""
        self._orders += 1
        name = f"O-{self._orders}"
        order = limit(self.instrument, qty=qty, price=price, side=side, name=name)
        self.cache.add_order(order)
        self._engine.process(event_of(OrderSubmitted, order))
        self._engine.process(
            fill_of(
                self.instrument,
                order,
                qty=qty,
                price=price,
                trade_id=name,
                **({"fee": "0 USDT"} | changes),
            )
        )

    def trade(self, trade: Trade, **changes: Any) -> None:
        qty = Decimal(abs(trade.units)).scaleb(-self.instrument.size_precision)
        price = Decimal(trade.ticks).scaleb(-self.instrument.price_precision)
        side = OrderSide.BUY if trade.units > 0 else OrderSide.SELL
        self.fill(side, f"{qty:f}", f"{price:f}", **changes)

    def summary(self, *names: str) -> list[tuple[str, ...]]:
        return [tuple(fields[name] for name in names) for fields in self.told]


def _account() -> AccountState:
    rich = ("1000000000 USDT", "1000000 BTC")
    balances = [AccountBalance(money(m), money(f"0 {m.split()[1]}"), money(m)) for m in rich]
    return AccountState(ACCOUNT, AccountType.MARGIN, None, True, balances, [], {}, uuid(1), 0, 0)
