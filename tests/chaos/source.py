"""`source.factory = tests.chaos.source:factory`: the generator, tapped as the real node is."""

import asyncio

from bridge.core.contract import Names
from bridge.core.control import State
from bridge.core.lanes import ExecLane, MarketLane
from bridge.core.limits import Limits
from bridge.exits import CANNOT_RECORD, Exit
from bridge.metrics import Metrics
from bridge.settings import Config
from bridge.source import Action, HaltAccount
from integrations.nautilus.tap import Tap
from tests.chaos import generator


def factory(
    config: Config,
    exec_lane: ExecLane,
    market_lane: MarketLane,
    metrics: Metrics,
    executes: bool,
) -> "Source":
    """Build the engine and its tap; nothing runs yet."""
    return Source(config, exec_lane, market_lane, metrics)


class Source:
    """Trades until `stop`, whatever state it is given: here delivery is judged, not control.

    A failure of the exec lane halts it, as it would a node.
    """

    symbols = ()

    def __init__(
        self, config: Config, exec_lane: ExecLane, market_lane: MarketLane, metrics: Metrics
    ) -> None:
        self._generator = generator.from_environment()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tap = Tap(
            self._generator.kernel,
            exec_lane,
            market_lane,
            metrics,
            names=Names(config.stream_prefix, config.streams.templates),
            venue_alias=config.contract.venue_alias,
            maxlen=config.market.maxlen,
            on_failure=self._fail,
        )
        self.is_running = False

    async def run(self) -> None:
        """Trade until `stop`. Raises Exit when execution events cannot be kept."""
        self.is_running = True
        trading = asyncio.create_task(self._generator.run())
        try:
            await asyncio.wait({trading, self._failure}, return_when=asyncio.FIRST_COMPLETED)
            if self._failure.done():
                self._generator.halt()
                self._failure.result()
            trading.result()
        finally:
            self._failure.cancel()
            trading.cancel()
            self.is_running = False

    async def stop(self) -> None:
        """Emit nothing more; twice is harmless."""
        self._generator.stop()
        self._tap.detach()

    def apply(self, state: State, reason: str) -> None:
        """Go on."""

    def limit(self, limits: Limits) -> None:
        """Go on."""

    async def halt(self, action: Action) -> HaltAccount:
        """Leave every order as it is."""
        return HaltAccount(0, 0, 0)

    def _fail(self, error: Exception) -> None:
        if self._failure.done():
            return
        self._generator.strategy.is_halted = True
        if not isinstance(error, Exit):
            error = Exit(CANNOT_RECORD, f"cannot record execution events: {error}")
        self._failure.set_exception(error)
