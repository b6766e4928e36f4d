"""Nautilus's sandbox execution, with four corrections.

* Trades and bars are kept out of its book: with the default L1 book every trade print overwrites
  best bid and ask until the next quote, and a trade with unusual decimals ends the process.
* Market orders are acknowledged (`accepted`), as venues do; the client has no setting for it.
* Its clock, which stands still between two events of market data, is set before every command and
  never goes back: else an order would be filled before it was made.
* A batch cancel, which the client does not implement, cancels one order after the other.
"""

import asyncio
import functools
from typing import Any

from nautilus_trader.adapters.sandbox import execution
from nautilus_trader.adapters.sandbox.config import SandboxExecutionClientConfig
from nautilus_trader.adapters.sandbox.execution import SandboxExecutionClient
from nautilus_trader.backtest.engine import SimulatedExchange
from nautilus_trader.core.data import Data
from nautilus_trader.live.factories import LiveExecClientFactory
from nautilus_trader.model.data import Bar, TradeTick


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

    def on_data(self, data: Data) -> None:
        """Pass everything on but trades and bars."""
        if not isinstance(data, TradeTick | Bar):
            self._advance()
            super().on_data(data)

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
        """Cancel now."""
        self._advance()
        super().cancel_order(command)

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
