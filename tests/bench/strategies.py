"""What the rows of control trade."""

from decimal import Decimal
from typing import Any

from nautilus_trader.config import StrategyConfig
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.model.identifiers import InstrumentId
from nautilus_trader.model.orders import Order
from nautilus_trader.trading.strategy import Strategy

PERP = InstrumentId.from_str("BTCUSDT-PERP.BINANCE_FUTURES")
RESTING_ORDERS = 100
SIZE = Decimal("0.001")
FAR_BELOW = Decimal("0.9")


class RestingConfig(StrategyConfig, frozen=True):
    """No settings."""


class Resting(Strategy):
    """Keeps a hundred buy orders far below the market, whenever one of them is let through."""

    def __init__(self, config: RestingConfig | None = None) -> None:
        super().__init__(config)
        self.quoted = False

    def on_start(self) -> None:
        """Wait for quotes."""
        self.subscribe_quote_ticks(PERP)
        self._seen = 0
        self._is_complete = False

    def on_quote_tick(self, _: Any) -> None:
        """Try one order now and then while there is none; a hundred stand when one was taken."""
        self.quoted = True
        self._seen += 1
        if self._seen % 50:
            return
        count = self.cache.orders_open_count(strategy_id=self.id)
        if count == 0:
            self._is_complete = False
            self.submit_order(self.resting_order())
        elif not self._is_complete:
            self._is_complete = True
            for _ in range(RESTING_ORDERS - count):
                self.submit_order(self.resting_order())

    def resting_order(self) -> Order:
        """Return an order that stays where it is."""
        instrument, quote = self.cache.instrument(PERP), self.cache.quote_tick(PERP)
        price = instrument.make_price(quote.bid_price.as_decimal() * FAR_BELOW)
        size = instrument.make_qty(SIZE)
        return self.order_factory.limit(PERP, OrderSide.BUY, size, price, post_only=True)


class Submitting(Resting):
    """Submits when it is told to."""

    def on_quote_tick(self, _: Any) -> None:
        """Take note that there are prices."""
        self.quoted = True
