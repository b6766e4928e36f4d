"""A TradingNode of somebody else's, with the bridge attached: `python -m tests.chaos.node`.

It trades on the stand-in venue until SIGTERM. The bridge's settings come from the environment.
"""

import asyncio
import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import uvloop
from nautilus_trader.config import (
    LiveExecEngineConfig,
    LiveRiskEngineConfig,
    LoggingConfig,
    StrategyConfig,
    TradingNodeConfig,
)
from nautilus_trader.live.node import TradingNode
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.model.identifiers import TraderId
from nautilus_trader.trading.strategy import Strategy

from integrations.nautilus.bridge import NautilusRedisBridge
from tests.chaos.generator import INSTRUMENT, NO_LIMIT, RECORD, VENUE, instrument
from tests.chaos.recorder import Recorder
from tests.chaos.venue import VenueConfig, VenueFactory

MEMORY: Final = "CHAOS_VENUE"
STEP: Final = timedelta(milliseconds=10)
RESTING_MAX: Final = 5


class Steady(Strategy):
    """Buys and sells in turn, and cancels what rests for long."""

    def __init__(self) -> None:
        super().__init__(
            StrategyConfig(
                strategy_id="CHAOS", order_id_tag="001", external_order_claims=[INSTRUMENT]
            )
        )
        self._count = 0

    def on_start(self) -> None:
        """Take a step each ten milliseconds, on the thread of Nautilus's timers, not the loop's."""
        self.clock.set_timer("step", STEP, callback=self._step)

    def on_stop(self) -> None:
        """Send nothing more."""
        self.clock.cancel_timers()

    def _step(self, _: Any) -> None:
        self._count += 1
        resting = [order for order in self.cache.orders_open() if order.filled_qty == 0]
        if len(resting) > RESTING_MAX:
            self.cancel_order(resting[0])
            return
        side = OrderSide.BUY if self._count % 2 else OrderSide.SELL
        size, price = instrument().make_qty(0.004), instrument().make_price(100_000)
        self.submit_order(self.order_factory.limit(INSTRUMENT, side, size, price))


def make_node(loop: asyncio.AbstractEventLoop) -> TradingNode:
    """Return the node, not built."""
    node = TradingNode(
        config=TradingNodeConfig(
            trader_id=TraderId("CHAOS-001"),
            logging=LoggingConfig(log_level="ERROR", log_colors=False),
            exec_engine=LiveExecEngineConfig(reconciliation=True),
            risk_engine=LiveRiskEngineConfig(max_order_submit_rate=NO_LIMIT),
            exec_clients={VENUE: VenueConfig(path=os.environ[MEMORY])},
            timeout_connection=5.0,
            timeout_reconciliation=10.0,
            timeout_post_stop=0.2,
            timeout_disconnection=1.0,
        ),
        loop=loop,
    )
    node.cache.add_instrument(instrument())
    node.add_exec_client_factory(VENUE, VenueFactory)
    node.trader.add_strategy(Steady())
    return node


async def main() -> None:
    """Run until SIGTERM."""
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    node, bridge = make_node(loop), NautilusRedisBridge()
    bridge.attach(node)
    Recorder(node.kernel, Path(os.environ[RECORD]))
    node.build()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    await bridge.start()
    run = asyncio.create_task(node.run_async())
    await told.wait()
    await node.stop_async()
    await asyncio.wait({run}, timeout=2.0)
    await bridge.stop()
    left = bridge.unpublished
    os._exit(1 if any(left.values()) else 0)  # without waiting for what Nautilus leaves running


if __name__ == "__main__":
    uvloop.run(main())
