"""What a node's trading looks like from outside: slippage, open positions, the age of quotes."""

from decimal import Decimal, localcontext

import structlog
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.model.events import OrderEvent, OrderFilled, OrderSubmitted
from nautilus_trader.model.identifiers import ClientOrderId
from nautilus_trader.system.kernel import NautilusKernel

from bridge.metrics import Metrics
from integrations.nautilus.prices import Prices
from integrations.nautilus.values import EXACT

log = structlog.get_logger("nautilus_bridge.trading_metrics")


class TradingMetrics:
    """Follows the orders of one kernel; `look` sets what is a level.

    Slippage (Perold 1988): `side * (price - middle) / middle * value`, the middle and the value in
    US dollars as they were when the order was submitted. Orders whose instrument or currency had no
    price then are left out of both counters.
    """

    def __init__(self, kernel: NautilusKernel, metrics: Metrics) -> None:
        self._kernel = kernel
        self._metrics = metrics
        self._prices = Prices(kernel.cache)
        # The middle when an order was submitted, until it ends.
        self._middles: dict[ClientOrderId, Decimal] = {}
        self._has_failed = False
        kernel.msgbus.subscribe("events.order.*", self._on_order)

    def look(self) -> None:
        """Set the gauges. A quote that is subscribed and never came is as old as the run."""
        cache = self._kernel.cache
        self._metrics.positions_open.set(cache.positions_open_count())
        now_ns = self._kernel.clock.timestamp_ns()
        began_ns = self._kernel.ts_started or now_ns
        wanted = self._kernel.data_engine.subscribed_quote_ticks()
        quotes = [cache.quote_tick(each) for each in {*cache.instrument_ids(), *wanted}]
        times = [quote.ts_init for quote in quotes if quote is not None]
        times += [began_ns for each in wanted if cache.quote_tick(each) is None]
        if times:
            self._metrics.quote_age.set((now_ns - min(times)) / 1e9)

    def _on_order(self, event: OrderEvent) -> None:
        try:
            with localcontext(EXACT):
                self._follow(event)
        except Exception as error:  # noqa: BLE001 - a number to look at must not stop trading
            if not self._has_failed:
                self._has_failed = True
                log.error("slippage.not_measured", problem=f"{type(error).__name__}: {error}")

    def _follow(self, event: OrderEvent) -> None:
        name = event.client_order_id
        if isinstance(event, OrderSubmitted):
            if middle := self._prices.last(event.instrument_id):
                self._middles[name] = middle
        elif isinstance(event, OrderFilled) and name in self._middles:
            self._fill(event, self._middles[name])
        order = self._kernel.cache.order(name)
        if order is None or order.is_closed:
            self._middles.pop(name, None)

    def _fill(self, fill: OrderFilled, middle: Decimal) -> None:
        instrument = self._kernel.cache.instrument(fill.instrument_id)
        value = fill.last_qty.as_decimal() * instrument.multiplier.as_decimal()
        if not instrument.is_inverse:
            value *= middle
        dollars = self._prices.in_dollars(instrument.quote_currency)
        if dollars is None:
            return
        amount = value * dollars
        sign = 1 if fill.order_side == OrderSide.BUY else -1
        slipped = sign * (fill.last_px.as_decimal() - middle) / middle * amount
        self._metrics.filled.inc(float(amount))
        self._metrics.slippage["paid" if slipped > 0 else "earned"].inc(float(abs(slipped)))
