"""Nautilus's sandbox execution, with six corrections.

* Trades and bars are kept out of its book: with the default L1 book every trade print overwrites
  best bid and ask until the next quote, and a trade with unusual decimals ends the process.
* Market orders are acknowledged (`accepted`), as venues do; the client has no setting for it.
* Its clock, which stands still between two events of market data, is set before every command and
  never goes back: else an order would be filled before it was made.
* An order larger than the size shown is half filled and then forgotten by the exchange, open for
  ever; a cancel ends it.
* A batch cancel, which the client does not implement, cancels one order after the other.
* What a venue lists without a fee is charged the standard one: Binance tells its spot fees to
  accounts only, and no fill is free.
"""

import asyncio
import functools
from decimal import Decimal
from typing import Any, Final

from nautilus_trader.adapters.sandbox import execution
from nautilus_trader.adapters.sandbox.config import SandboxExecutionClientConfig
from nautilus_trader.adapters.sandbox.execution import SandboxExecutionClient
from nautilus_trader.backtest.engine import SimulatedExchange
from nautilus_trader.core.data import Data
from nautilus_trader.live.factories import LiveExecClientFactory
from nautilus_trader.model.data import Bar, TradeTick
from nautilus_trader.model.enums import OrderStatus, OrderType, TimeInForce
from nautilus_trader.model.identifiers import ClientOrderId
from nautilus_trader.model.instruments import Instrument
from nautilus_trader.model.orders import Order

# By venue, of makers and takers alike.
STANDARD_FEES: Final = {"BINANCE_SPOT": Decimal("0.001")}
# These never stand in a venue's book.
PASSING: Final = (TimeInForce.IOC, TimeInForce.FOK)


class QuoteSandboxClient(SandboxExecutionClient):
    """A sandbox whose book is made of quotes only."""

    def __init__(self, **parts: Any) -> None:
        # The exchange is made inside the constructor, and its acknowledgements are fixed then.
        execution.SimulatedExchange = functools.partial(
            SimulatedExchange, use_market_order_acks=True
        )
        try:
            super().__init__(**parts)
        finally:
            execution.SimulatedExchange = SimulatedExchange
        # Those that were ended here, until the engine knows it.
        self._forgotten: set[ClientOrderId] = set()

    def on_data(self, data: Data) -> None:
        """Pass everything on but trades and bars."""
        if not isinstance(data, TradeTick | Bar):
            self._advance()
            super().on_data(with_fee(data) if isinstance(data, Instrument) else data)

    def submit_order(self, command: Any) -> None:
        """Submit now."""
        self._advance()
        super().submit_order(command)

    def submit_order_list(self, command: Any) -> None:
        """Submit now."""
        self._advance()
        super().submit_order_list(command)

    def modify_order(self, command: Any) -> None:
        """Modify now."""
        self._advance()
        super().modify_order(command)

    def cancel_order(self, command: Any) -> None:
        """Cancel now; what the exchange has forgotten ends here."""
        self._advance()
        order = self._cache.order(command.client_order_id)
        if order is None or not self._is_forgotten(order):
            super().cancel_order(command)
            return
        known = [self._cache.order(order_id) for order_id in self._forgotten]
        self._forgotten = {each.client_order_id for each in known if each and not each.is_closed}
        self._forgotten.add(order.client_order_id)
        self.generate_order_canceled(
            order.strategy_id,
            order.instrument_id,
            order.client_order_id,
            order.venue_order_id,
            self._clock.timestamp_ns(),
        )

    def _is_forgotten(self, order: Order) -> bool:
        """Whether an order is open that neither rests nor fills, and was not ended here."""
        never_rests = order.order_type == OrderType.MARKET or order.time_in_force in PASSING
        if not (never_rests and order.status == OrderStatus.PARTIALLY_FILLED):
            return False
        engine = self.exchange.get_matching_engine(order.instrument_id)
        order_id = order.client_order_id
        return order_id not in self._forgotten and not engine.order_exists(order_id)

    def cancel_all_orders(self, command: Any) -> None:
        """Cancel now."""
        self._advance()
        super().cancel_all_orders(command)

    def _advance(self) -> None:
        self.test_clock.set_time(self._clock.timestamp_ns())

    def batch_cancel_orders(self, command: Any) -> None:
        """Cancel each order of the batch."""
        for cancel in command.cancels:
            self.cancel_order(cancel)


def with_fee(instrument: Instrument) -> Instrument:
    """Return the instrument, with its venue's standard fee where it has none."""
    fee = STANDARD_FEES.get(instrument.venue.value)
    if fee is None or instrument.maker_fee or instrument.taker_fee:
        return instrument
    kind, fees = type(instrument), {"maker_fee": str(fee), "taker_fee": str(fee)}
    return kind.from_dict(kind.to_dict(instrument) | fees)


class SandboxLiveExecClientFactory(LiveExecClientFactory):
    """Makes the clients. The node builder hands a portfolio only to a factory of this name."""

    @staticmethod
    def create(
        loop: asyncio.AbstractEventLoop,
        name: str,
        config: SandboxExecutionClientConfig,
        **parts: Any,
    ) -> QuoteSandboxClient:
        """Return the client of one venue."""
        return QuoteSandboxClient(loop=loop, config=config, **parts)
