"""A strategy that sends a burst of orders at each quote, for tests that want many."""

from nautilus_trader.model.data import QuoteTick
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.trading.strategy import Strategy

from tests.integrations.nautilus.engines import PERP


class Storm(Strategy):
    """At each quote one order that fills and many that rest until the next, up to `orders_max`.

    Few fill, because Nautilus's netting positions take the longer the more fills they have seen.
    """

    def __init__(self, orders_max: int, burst: int) -> None:
        super().__init__()
        self.sent = 0
        self._orders_max = orders_max
        self._burst = burst

    def on_start(self) -> None:
        """Subscribe the quotes."""
        self.subscribe_quote_ticks(PERP)

    def on_quote_tick(self, quote: QuoteTick) -> None:
        """Cancel what rests, send the next orders."""
        self.cancel_all_orders(PERP)
        if self.sent == self._orders_max:
            return
        instrument = self.cache.instrument(PERP)
        size = instrument.make_qty(instrument.size_increment)
        far = instrument.make_price(quote.bid_price.as_decimal() / 2)
        self.submit_order(self.order_factory.market(PERP, OrderSide.BUY, size))
        self.sent += 1
        for _ in range(min(self._burst, self._orders_max - self.sent)):
            self.submit_order(self.order_factory.limit(PERP, OrderSide.BUY, size, far))
            self.sent += 1
