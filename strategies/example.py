"""A small strategy for the demo: it trades every few seconds, so that there is something to see.

It has no opinion about the market and is not meant to earn anything.
"""

from datetime import timedelta
from decimal import Decimal

from nautilus_trader.common.component import TimeEvent
from nautilus_trader.config import StrategyConfig
from nautilus_trader.model.enums import OrderSide, TimeInForce
from nautilus_trader.model.identifiers import InstrumentId
from nautilus_trader.model.instruments import Instrument
from nautilus_trader.model.orders import Order
from nautilus_trader.trading.strategy import Strategy


class ExampleConfig(StrategyConfig, frozen=True):
    """`interval_seconds` between two steps; `notional` of each order in quote currency, of which a
    shadow trades `size_fraction`."""

    instrument_ids: tuple[InstrumentId, ...] = ()
    interval_seconds: float = 2.0
    notional: Decimal = Decimal(500)
    size_fraction: Decimal = Decimal(1)


class Example(Strategy):
    """Goes round its instruments: at each step it closes what is open there, or opens it.

    Opening is a market buy of about `notional` and a limit order below the market that rests until
    the closing; closing cancels the limit order and sells what was bought.
    """

    def __init__(self, config: ExampleConfig) -> None:
        super().__init__(config)
        self._step = 0
        self._closing: dict[InstrumentId, Order] = {}

    def on_start(self) -> None:
        """Subscribe quotes and start the timer; a missing instrument stops the strategy."""
        for instrument_id in self.config.instrument_ids:
            if self.cache.instrument(instrument_id) is None:
                self.log.error(f"{instrument_id} is not in the cache")
                self.stop()
                return
            self.subscribe_quote_ticks(instrument_id)
        self.clock.set_timer(
            "step", timedelta(seconds=self.config.interval_seconds), callback=self._on_step
        )

    def on_stop(self) -> None:
        """Cancel and close everything."""
        for instrument_id in self.config.instrument_ids:
            self._close(instrument_id)

    def _on_step(self, _: TimeEvent) -> None:
        ids = self.config.instrument_ids
        if not ids:
            return
        instrument_id = ids[self._step % len(ids)]
        self._step += 1
        if self.cache.positions_open(instrument_id=instrument_id, strategy_id=self.id):
            self._close(instrument_id)
            return
        instrument = self.cache.instrument(instrument_id)
        quote = self.cache.quote_tick(instrument_id)
        if quote is not None:
            self._open(instrument, quote.bid_price.as_decimal(), quote.ask_size.as_decimal())

    def _close(self, instrument_id: InstrumentId) -> None:
        self.cancel_all_orders(instrument_id)
        closing = self._closing.get(instrument_id)
        if closing is not None and not closing.is_closed:
            return  # the position is there until it is filled
        for position in self.cache.positions_open(instrument_id=instrument_id, strategy_id=self.id):
            # IOC: what is larger than the size shown would stay half filled for ever in a sandbox.
            order = self.order_factory.market(
                instrument_id,
                position.closing_order_side(),
                position.quantity,
                time_in_force=TimeInForce.IOC,
                reduce_only=True,
            )
            self._closing[instrument_id] = order
            self.submit_order(order, position_id=position.id)

    def _open(self, instrument: Instrument, bid: Decimal, shown: Decimal) -> None:
        notional = self.config.notional * self.config.size_fraction
        quantity = min(notional / bid, shown)
        least = instrument.size_increment.as_decimal()
        size = instrument.make_qty(max(quantity, least), round_down=True)
        self.submit_order(
            self.order_factory.market(
                instrument.id, OrderSide.BUY, size, time_in_force=TimeInForce.IOC
            )
        )
        self.submit_order(
            self.order_factory.limit(
                instrument.id,
                OrderSide.BUY,
                size,
                instrument.make_price(bid * Decimal("0.99")),
                post_only=True,
            )
        )
