"""A TradingNode for a role: `factory` is what `source.factory` names."""

import asyncio
import contextlib
from collections.abc import Callable, Container
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Final

import nautilus_trader
import structlog
from nautilus_trader.common.actor import Actor
from nautilus_trader.live.node import TradingNode
from nautilus_trader.model.enums import TradingState
from nautilus_trader.model.identifiers import ClientOrderId, InstrumentId

import bridge
from bridge.core.contract import Names
from bridge.core.control import State
from bridge.core.lanes import ExecLane, MarketLane, Refused
from bridge.core.limits import Limits
from bridge.exits import CANNOT_RECORD, CONFIGURATION, RESTART, UNAVAILABLE, Exit
from bridge.metrics import Metrics
from bridge.settings import Config
from bridge.source import Action, HaltAccount
from integrations.nautilus.breakers import BreakerWatch
from integrations.nautilus.feed import feed_of
from integrations.nautilus.guard import Guard
from integrations.nautilus.halt import Sweep
from integrations.nautilus.loading import load_strategy
from integrations.nautilus.node_config import kept_minutes, node_config
from integrations.nautilus.prices import marks
from integrations.nautilus.progress import Progress
from integrations.nautilus.purge import Purge
from integrations.nautilus.roles import Plan, plan_of
from integrations.nautilus.tap import Tap

log = structlog.get_logger("nautilus_bridge.node")

# Nautilus's own state, behind the gates: it has no DISABLED.
TRADING_STATES: Final = {
    State.ACTIVE: TradingState.ACTIVE,
    State.REDUCING: TradingState.REDUCING,
    State.DISABLED: TradingState.HALTED,
    State.HALTED: TradingState.HALTED,
}
# How often a node that stops is asked whether its strategies have ended.
POLL_SECONDS: Final = 0.01
# The share of the time to stop that strategies have for closing what they hold.
CLOSING_SHARE: Final = 0.75


def factory(
    config: Config,
    exec_lane: ExecLane,
    market_lane: MarketLane,
    metrics: Metrics,
    executes: bool,
) -> "NodeSource":
    """Build the role's node, its tap and its guard; nothing runs yet, and the gates are closed.

    Call it on the loop that will run the node; without `executes` the node of a live role has no
    execution client. Raises Exit when the dataset, a client or the strategy cannot be used, or two
    instruments map to one stream.
    """
    source = NodeSource(config, plan_of(config, executes=executes), exec_lane, market_lane, metrics)
    try:
        source.check_streams()
    except Exit:
        source.dispose()
        raise
    return source


class NodeSource:
    """One TradingNode with the bridge's tap, feed and guard: `run` until `stop`."""

    def __init__(
        self,
        config: Config,
        plan: Plan,
        exec_lane: ExecLane,
        market_lane: MarketLane,
        metrics: Metrics,
    ) -> None:
        self.on_breach: Callable[[str], None] = _nothing
        self.symbols = plan.symbols
        kept = kept_minutes(config)
        self._config = config
        self._plan = plan
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._started = asyncio.Event()
        self._stopping = False
        # Gates that a failure or the end has closed nobody opens again.
        self._is_sealed = False
        self._run: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[HaltAccount] | None = None
        strategy = load_strategy(
            config.source.strategy,
            {"instrument_ids": plan.universe.traded, "size_fraction": plan.size_fraction},
            config.source.params,
            is_demo=config.role == "demo",
        )
        self.node = _node_of(config, plan)
        kernel = self.node.kernel
        self._progress = Progress(kernel)
        self.guard = Guard(kernel, metrics, config.limits_in_force, on_failure=self._distrust)
        self.sweep = Sweep(kernel, self.guard)
        self.tap = Tap(
            kernel,
            exec_lane,
            market_lane,
            metrics,
            names=Names(config.stream_prefix, config.streams.templates),
            venue_alias=config.contract.venue_alias,
            maxlen=config.market.maxlen,
            on_failure=self._fail,
            swept=self.guard.swept,
        )
        self._watch = BreakerWatch(
            kernel,
            self.guard,
            self.sweep,
            metrics,
            directory=config.state_directory,
            on_breach=lambda reason: self.on_breach(reason),
        )
        self.purge = Purge(kernel, self.guard, kept)
        # The first to be started, behind the reconciliation and in front of every strategy.
        self.node.trader.add_actor(_Opening(self.guard))
        self.node.trader.add_actor(feed_of(config.market))
        self.node.trader.add_strategy(strategy)
        self.node.build()
        for client in kernel.exec_engine._clients.values():
            self.guard.attach(client)
        metrics.set_info(
            version=bridge.VERSION, nautilus_version=nautilus_trader.__version__, role=config.role
        )
        metrics.native_backing_closed.set_function(self._native_backing_closed)

    async def run(self) -> None:
        """Run the node until `stop`. Raises Exit when it does not start, or ends by itself."""
        if self._stopping:
            return
        self._run = asyncio.create_task(self.node.run_async(), name="node")
        watch: asyncio.Task[None] | None = None
        purge = asyncio.create_task(self._purge_when_started(), name="purge")
        try:
            seconds = self._config.node.start_timeout_seconds
            deadline = asyncio.get_running_loop().time() + seconds
            await self._await_start(deadline)
            watch = asyncio.create_task(self._watch.run(), name="breakers")
            await self._await_data(deadline)
            ends = {self._run, self._failure, watch}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._failure.done():
                self._failure.result()
            if watch.done():
                watch.result()
            if not self._stopping:
                cause = None if self._run.cancelled() else self._run.exception()
                why = "its log says why" if cause is None else f"{type(cause).__name__}: {cause}"
                raise Exit(RESTART, f"the Nautilus node stopped by itself; {why}")
        finally:
            self._failure.cancel()
            purge.cancel()
            if watch is not None:
                watch.cancel()

    async def stop(self) -> None:
        """Stop strategies, cancel what rests, wait for their last events, take the node down.

        Twice is harmless.
        """
        if self._stopping:
            return
        self._stopping = True
        if self._run is not None:
            if self.node.trader.is_running:
                await self._wind_down(self._config.node.stop_timeout_seconds)
            else:
                # Still starting: it would start the strategies behind our back.
                self._run.cancel()
                await asyncio.wait({self._run})
            await self.node.stop_async()
            await asyncio.wait({self._run}, timeout=1.0)
        if self._sweeping is not None:
            self._sweeping.cancel()
        self.sweep.stop()
        self._watch.save()
        self.dispose()

    def apply(self, state: State, reason: str) -> None:
        """Open or close the gates, at once; those that a failure has closed stay closed."""
        if self._is_sealed:
            return
        was = self.guard.state
        self.guard.set(state, reason)
        risk_engine = self.node.kernel.risk_engine
        if risk_engine.trading_state != TRADING_STATES[state]:
            risk_engine.set_trading_state(TRADING_STATES[state])
        if was is State.HALTED and state is not State.HALTED:
            self._watch.forgive()

    def limit(self, limits: Limits) -> None:
        """Check orders and positions by these limits from now on."""
        self.guard.limits = limits

    async def halt(self, action: Action) -> HaltAccount:
        """Cancel every order until all are terminal; `flatten` closes all positions, too.

        Begins when the node has started: what it then finds at its venues is swept as well.
        """
        await self._started.wait()
        return await self.sweep.run(action)

    def dispose(self) -> None:
        """Free the node. Never `node.dispose()` here: it cancels every task of the loop."""
        self.tap.detach()
        self.guard.detach()
        kernel = self.node.kernel
        kernel.dispose()
        if kernel.executor is not None:
            kernel.executor.shutdown(wait=False)
            self.node.get_event_loop().set_default_executor(ThreadPoolExecutor())

    def marks(self, wanted: Container[tuple[str, str]]) -> dict[tuple[str, str], Decimal]:
        """Return the last prices of instruments, by venue, as the streams have it, and symbol."""
        return marks(self.node.cache, self._config.contract.venue_alias, wanted)

    @property
    def is_running(self) -> bool:
        """Whether the strategies run."""
        return bool(self.node.trader.is_running) and not self._stopping

    @property
    def progress_ns(self) -> int:
        """The monotonic time of the last look at which no engine's queue was stuck."""
        return self._progress.look()

    def check_streams(self) -> None:
        """Raise Exit when two instruments would share a stream."""
        try:
            self.tap.routes.check(self.node.cache.instruments())
        except Refused as error:
            raise Exit(CONFIGURATION, str(error)) from None

    async def _purge_when_started(self) -> None:
        await self._started.wait()
        await self.purge.run()

    async def _await_start(self, deadline: float) -> None:
        """Nautilus says nothing when a client does not connect: it just does not start."""
        assert self._run is not None
        while not self.node.trader.is_running:
            if self._run.done() or self._failure.done() or self._stopping:
                return
            if asyncio.get_running_loop().time() > deadline:
                raise Exit(
                    UNAVAILABLE,
                    f"the node did not start within {self._config.node.start_timeout_seconds} s "
                    f"(node.start_timeout_seconds){self._absent()}; see Nautilus's log, "
                    "node.log_level = INFO",
                )
            await asyncio.sleep(POLL_SECONDS)
        self._check_instruments()
        self._check_strategies()
        self._started.set()
        log.info("node.running", trader_id=self._config.trader_id)

    async def _await_data(self, deadline: float) -> None:
        """Nautilus only logs that a stream cannot be had, and never asks for it again."""
        assert self._run is not None
        while silent := self._silent():
            if self._run.done() or self._failure.done() or self._stopping:
                return
            if asyncio.get_running_loop().time() > deadline:
                raise Exit(
                    UNAVAILABLE,
                    f"no market data from {', '.join(silent)} within "
                    f"{self._config.node.start_timeout_seconds} s (node.start_timeout_seconds); "
                    "see Nautilus's log, node.log_level = INFO",
                )
            await asyncio.sleep(POLL_SECONDS)

    def _silent(self) -> list[str]:
        """Return the venues from which nothing has come of what is published."""
        cache, market = self.node.cache, self._config.market
        if self._config.data != "venue" or not {"quotes", "trades"} & {*market.subscribe}:
            return []
        named = [InstrumentId.from_str(name) for name in market.instruments]
        wanted = named or self._plan.universe.all
        heard = {each.venue for each in wanted if cache.quote_tick(each) or cache.trade_tick(each)}
        return sorted({each.venue.value for each in wanted if each.venue not in heard})

    def _absent(self) -> str:
        """Return which clients are not connected."""
        kernel = self.node.kernel
        clients = [*kernel.data_engine._clients.values(), *kernel.exec_engine._clients.values()]
        names = sorted({str(each.id) for each in clients if not each.is_connected})
        return f": not connected: {', '.join(names)}" if names else ""

    def _check_instruments(self) -> None:
        """Raise Exit when a venue does not have what is to be traded."""
        known = {instrument.id for instrument in self.node.cache.instruments()}
        if missing := [each.value for each in self._plan.universe.all if each not in known]:
            raise Exit(
                UNAVAILABLE,
                f"the venues have no {', '.join(missing)}; correct node.symbols and node.venues, "
                "or see Nautilus's log, node.log_level = INFO",
            )
        self.check_streams()

    def _check_strategies(self) -> None:
        """Raise Exit when a strategy has stopped as it started: nobody would tend its positions."""
        strategies = self.node.trader.strategies()
        if idle := [each.id.value for each in strategies if not each.is_running]:
            raise Exit(
                CONFIGURATION,
                f"{', '.join(idle)} stopped as it started; its error in Nautilus's log says why",
            )

    async def _wind_down(self, seconds: float) -> None:
        """Stop the strategies, give what they close a moment, then cancel all that is left."""
        kernel, live = self.node.kernel, self.guard.out.live
        before = set(live)
        self.node.trader.stop()
        strategies = self.node.trader.strategies()

        def rests() -> list[ClientOrderId]:
            return [each for each in list(live) if each in before]

        def has_settled() -> bool:
            return not live and not any(strategy.is_running for strategy in strategies)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds * CLOSING_SHARE):
                await self.sweep.until_gone(rests, has_settled)
        self._is_sealed = True
        self.guard.set(State.DISABLED, "the bridge stops")
        try:
            async with asyncio.timeout(max(POLL_SECONDS, seconds * (1 - CLOSING_SHARE))):
                await self.sweep.until_gone(lambda: list(live))
        except TimeoutError:
            log.error("node.orders_left", orders=len(live), within_seconds=seconds)
        open_ = kernel.cache.positions_open_count()
        if open_:
            log.warning("node.positions_left", positions=open_)

    def _fail(self, error: Exception) -> None:
        """Stop trading at once, then the node. Any thread that Nautilus trades on may come here."""
        self._is_sealed = True
        self.guard.set(State.HALTED, str(error))
        self.node.kernel.risk_engine.set_trading_state(TradingState.HALTED)
        if not isinstance(error, Exit):
            error = Exit(CANNOT_RECORD, f"cannot record execution events: {error}")
        self.node.get_event_loop().call_soon_threadsafe(self._end, error)

    def _distrust(self, error: Exception) -> None:
        """End a node whose guard no longer knows what is out; another start asks the venues."""
        log.critical("guard.failed", exc_info=error)
        self._fail(Exit(RESTART, f"the guard has failed: {type(error).__name__}: {error}"))

    def _end(self, error: Exit) -> None:
        """Cancel what is open, and have `run` raise `error`."""
        if not self._failure.done():
            self._failure.set_exception(error)
            self._sweeping = self.node.get_event_loop().create_task(self.sweep.run("cancel"))

    def _native_backing_closed(self) -> float:
        backing = self.node.kernel.msgbus_database
        return float(backing is not None and backing.is_closed())


def _node_of(config: Config, plan: Plan) -> TradingNode:
    """Return the node that the plan describes, not built yet."""
    node = TradingNode(config=node_config(config, plan), loop=asyncio.get_running_loop())
    for instrument in plan.instruments:
        node.cache.add_instrument(instrument)
    for venue, (_, data_factory) in plan.data.items():
        node.add_data_client_factory(venue, data_factory)
    for venue, (_, exec_factory) in plan.execution.items():
        node.add_exec_client_factory(venue, exec_factory)
    return node


class _Opening(Actor):
    """Opens the guard's book at the only moment at which it can be complete."""

    def __init__(self, guard: Guard) -> None:
        super().__init__()
        self._guard = guard

    def on_start(self) -> None:
        """Take over what the cache knows."""
        self._guard.open_book()


def _nothing(_: str) -> None:
    """Nobody asks for breaches."""
