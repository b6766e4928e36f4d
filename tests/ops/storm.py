"""A strategy that sends a burst of orders at each quote, for tests that want many."""

from nautilus_trader.config import StrategyConfig
from nautilus_trader.model.data import QuoteTick
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.model.events import OrderAccepted
from nautilus_trader.model.identifiers import InstrumentId
from nautilus_trader.trading.strategy import Strategy

from tests.integrations.nautilus.engines import PERP


class Storm(Strategy):
    """At each quote one order that fills and many that rest until the next, up to `orders_max`.

    Few fill, because Nautilus's netting positions take the longer the more fills they have seen.
    """

    def __init__(
        self,
        orders_max: int,
        burst: int,
        *,
        instrument_id: InstrumentId = PERP,
        config: StrategyConfig | None = None,
    ) -> None:
        super().__init__(config)
        self.sent = 0
        self._instrument_id = instrument_id
        self._orders_max = orders_max
        self._burst = burst

    def on_start(self) -> None:
        """Subscribe the quotes."""
        self.subscribe_quote_ticks(self._instrument_id)

    def on_quote_tick(self, quote: QuoteTick) -> None:
        """Cancel what rests, send the next orders."""
        self.cancel_all_orders(self._instrument_id)
        if self.sent == self._orders_max:
            return
        instrument_id, make = self._instrument_id, self.order_factory
        instrument = self.cache.instrument(instrument_id)
        size = instrument.make_qty(instrument.size_increment)
        far = instrument.make_price(quote.bid_price.as_decimal() / 2)
        self.submit_order(make.market(instrument_id, OrderSide.BUY, size))
        self.sent += 1
        for _ in range(min(self._burst, self._orders_max - self.sent)):
            self.submit_order(make.limit(instrument_id, OrderSide.BUY, size, far))
            self.sent += 1


class StormingConfig(StrategyConfig, frozen=True):
    """How many orders, and how many at each quote."""

    orders_max: int = 10_000
    burst: int = 99


class Storming(Storm):
    """The same in the daemon, on an instrument of the demo."""

    def __init__(self, config: StormingConfig) -> None:
        instrument_id = InstrumentId.from_str("BTCUSDT-PERP.BINANCE_FUTURES")
        super().__init__(
            config.orders_max, config.burst, instrument_id=instrument_id, config=config
        )
        self._accepted = 0

    def on_quote_tick(self, quote: QuoteTick) -> None:
        """Wait until all that was sent stands: a live node queues what it is told."""
        if self._accepted == self.sent:
            super().on_quote_tick(quote)

    def on_order_accepted(self, _: OrderAccepted) -> None:
        """Count it. To ask the cache at each quote takes the longer the more orders there are."""
        self._accepted += 1
