"""A TradingNode for a role: `factory` is what `source.factory` names."""

import asyncio
import importlib
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import nautilus_trader
import structlog
from nautilus_trader.adapters.sandbox.config import SandboxExecutionClientConfig
from nautilus_trader.config import (
    LiveDataEngineConfig,
    LiveExecEngineConfig,
    LiveRiskEngineConfig,
    LoggingConfig,
    TradingNodeConfig,
)
from nautilus_trader.core.uuid import UUID4
from nautilus_trader.execution.messages import CancelOrder
from nautilus_trader.live.node import TradingNode
from nautilus_trader.model.enums import TradingState
from nautilus_trader.model.identifiers import InstrumentId, TraderId
from nautilus_trader.system.kernel import NautilusKernel
from nautilus_trader.trading.strategy import Strategy

import bridge
from bridge.core.contract import Names
from bridge.core.lanes import ExecLane, MarketLane, Refused
from bridge.exits import BAD_DATA, CANNOT_RECORD, CONFIGURATION, RESTART, UNAVAILABLE, Exit
from bridge.metrics import Metrics
from bridge.settings import Config, MarketSettings
from integrations.binance import sample
from integrations.binance.dataset import Dataset, load
from integrations.binance.manifest import DatasetError
from integrations.nautilus.feed import feed_of
from integrations.nautilus.replay import ReplayClientConfig, instrument_of, replay_factory
from integrations.nautilus.sandbox import SandboxLiveExecClientFactory
from integrations.nautilus.tap import Tap

log = structlog.get_logger("nautilus_bridge.node")

# Account types of the sandbox by venue; what is not named here is a margin account.
ACCOUNT_TYPES = {"BINANCE_SPOT": "CASH"}
BALANCES = ["500000 USDT"]


def factory(
    config: Config, exec_lane: ExecLane, market_lane: MarketLane, metrics: Metrics
) -> "NodeSource":
    """Build the demo's node and its tap; nothing runs yet.

    Call it on the loop that will run the node. Raises Exit when the dataset or the strategy
    cannot be used, or two instruments map to one stream.
    """
    data = demo_data(config.replay.dataset)
    check_market(config.market, data)
    source = NodeSource(config, data, exec_lane, market_lane, metrics)
    try:
        source.tap.routes.check(source.node.cache.instruments())
    except Refused as error:
        source.dispose()
        raise Exit(CONFIGURATION, str(error)) from None
    return source


def demo_data(folder: Path) -> Dataset:
    """Return the dataset in `folder`, made first when there is no such folder."""
    try:
        if not folder.exists():
            log.info("dataset.making", folder=str(folder))
            sample.generate(folder)
        return load(folder)
    except (DatasetError, OSError, ValueError) as error:
        remedy = f"remove the folder {folder} to have it made again"
        raise Exit(BAD_DATA, f"replay.dataset: {error}; {remedy}") from None


def check_market(market: MarketSettings, data: Dataset) -> None:
    """Raise Exit for market data that the dataset does not have."""
    missing = [kind for kind in market.subscribe if kind not in ("quotes", "trades")]
    if missing:
        raise Exit(
            CONFIGURATION,
            f"market.subscribe: the demo's dataset has quotes and trades, no {', '.join(missing)}",
        )
    known = {row.id for row in data.instruments}
    unknown = sorted({*market.instruments} - known)
    if unknown:
        raise Exit(
            CONFIGURATION,
            f"market.instruments: the demo's dataset has no {', '.join(unknown)}; it has "
            f"{', '.join(sorted(known))}",
        )
    external = [name for name in market.bar_types if not name.endswith("-INTERNAL")]
    if external:
        raise Exit(
            CONFIGURATION,
            f"market.bar_types: the demo's dataset has no bars ({', '.join(external)}); "
            "-INTERNAL bars are built by Nautilus from its trades or quotes",
        )


class NodeSource:
    """One TradingNode with the bridge's tap and feed: `run` until `stop`."""

    def __init__(
        self,
        config: Config,
        data: Dataset,
        exec_lane: ExecLane,
        market_lane: MarketLane,
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stopping = False
        self._run: asyncio.Task[None] | None = None
        strategy = load_strategy(
            config.source.strategy, [InstrumentId.from_str(row.id) for row in data.instruments]
        )
        self.node = TradingNode(config=_node_config(config, data), loop=asyncio.get_running_loop())
        for row in data.instruments:
            self.node.cache.add_instrument(instrument_of(row))
        for venue in _venues(data):
            self.node.add_data_client_factory(venue, replay_factory(data))
            self.node.add_exec_client_factory(venue, SandboxLiveExecClientFactory)
        self.tap = Tap(
            self.node.kernel,
            exec_lane,
            market_lane,
            metrics,
            names=Names(config.stream_prefix, config.streams.templates),
            venue_alias=config.contract.venue_alias,
            maxlen=config.market.maxlen,
            on_failure=self._fail,
        )
        self.node.trader.add_actor(feed_of(config.market))
        self.node.trader.add_strategy(strategy)
        self.node.build()
        metrics.set_info(
            version=bridge.VERSION, nautilus_version=nautilus_trader.__version__, role=config.role
        )
        metrics.native_backing_closed.set_function(self._native_backing_closed)

    async def run(self) -> None:
        """Run the node until `stop`. Raises Exit when it does not start, or ends by itself."""
        if self._stopping:
            return
        self._run = asyncio.create_task(self.node.run_async(), name="node")
        try:
            await self._await_start()
            await asyncio.wait({self._run, self._failure}, return_when=asyncio.FIRST_COMPLETED)
            if self._failure.done():
                self._failure.result()
            if not self._stopping:
                cause = None if self._run.cancelled() else self._run.exception()
                why = "its log says why" if cause is None else f"{type(cause).__name__}: {cause}"
                raise Exit(RESTART, f"the Nautilus node stopped by itself; {why}")
        finally:
            self._failure.cancel()

    async def stop(self) -> None:
        """Stop strategies, wait for their last events, take the node down; twice is harmless."""
        if self._stopping:
            return
        self._stopping = True
        if self._run is not None:
            if not self.node.trader.is_running:
                # Still starting: it would start the strategies behind our back.
                self._run.cancel()
                await asyncio.wait({self._run})
            await self.node.stop_async()
            await asyncio.wait({self._run}, timeout=1.0)
        self.dispose()

    def dispose(self) -> None:
        """Free the node. Never `node.dispose()` here: it cancels every task of the loop."""
        self.tap.detach()
        kernel = self.node.kernel
        kernel.dispose()
        if kernel.executor is not None:
            kernel.executor.shutdown(wait=False)
            self.node.get_event_loop().set_default_executor(ThreadPoolExecutor())

    @property
    def is_running(self) -> bool:
        """Whether the strategies run."""
        return bool(self.node.trader.is_running) and not self._stopping

    async def _await_start(self) -> None:
        """Nautilus says nothing when a client does not connect: it just does not start."""
        assert self._run is not None
        deadline = asyncio.get_running_loop().time() + self._config.node.start_timeout_seconds
        while not self.node.trader.is_running:
            if self._run.done() or self._stopping:
                return
            if asyncio.get_running_loop().time() > deadline:
                raise Exit(
                    UNAVAILABLE,
                    f"the node did not start within {self._config.node.start_timeout_seconds} s "
                    "(node.start_timeout_seconds); see Nautilus's log, node.log_level = INFO",
                )
            await asyncio.sleep(0.01)
        log.info("node.running", trader_id=self._config.node.trader_id)

    def _fail(self, error: Exception) -> None:
        """Stop trading at once, then the node. Any thread that Nautilus trades on may come here."""
        self.node.kernel.risk_engine.set_trading_state(TradingState.HALTED)
        if not isinstance(error, Exit):
            error = Exit(CANNOT_RECORD, f"cannot record execution events: {error}")
        self.node.get_event_loop().call_soon_threadsafe(self._end, error)

    def _end(self, error: Exit) -> None:
        """Cancel what is open, and have `run` raise `error`."""
        if not self._failure.done():
            self._failure.set_exception(error)
            cancel_all(self.node.kernel)

    def _native_backing_closed(self) -> float:
        backing = self.node.kernel.msgbus_database
        return float(backing is not None and backing.is_closed())


def cancel_all(kernel: NautilusKernel) -> None:
    """Send a cancel for every order that is open, emulated or on its way."""
    cache = kernel.cache
    for order in (*cache.orders_open(), *cache.orders_emulated(), *cache.orders_inflight()):
        command = CancelOrder(
            trader_id=order.trader_id,
            strategy_id=order.strategy_id,
            instrument_id=order.instrument_id,
            client_order_id=order.client_order_id,
            venue_order_id=order.venue_order_id,
            command_id=UUID4(),
            ts_init=kernel.clock.timestamp_ns(),
        )
        kernel.msgbus.send("ExecEngine.execute", command)


def load_strategy(path: str, instrument_ids: Sequence[InstrumentId]) -> Strategy:
    """Return the strategy named `module:Class`, built from `<Class>Config` of the same module.

    Its config is given `instrument_ids` where it has such a field. Raises Exit when there is no
    such class, or it cannot be built without more settings.
    """
    module_name, _, class_name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
        cls = getattr(module, class_name)
    except Exception as error:  # noqa: BLE001 - whatever a module of the user's raises
        raise Exit(
            CONFIGURATION,
            f"source.strategy: cannot load {path}: {type(error).__name__}: {error}; write "
            f"module:Class, with the module below {Path.cwd()} or on PYTHONPATH",
        ) from None
    if not (isinstance(cls, type) and issubclass(cls, Strategy)):
        raise Exit(CONFIGURATION, f"source.strategy: {path} is no Nautilus Strategy")
    config_class = getattr(sys.modules[module_name], f"{class_name}Config", None)
    try:
        if config_class is None:
            return cls()
        known: dict[str, Any] = {"instrument_ids": tuple(instrument_ids)}
        wanted = {name: known[name] for name in known if name in config_class.__struct_fields__}
        return cls(config_class(**wanted))
    except Exception as error:  # noqa: BLE001 - whatever a strategy of the user's raises
        raise Exit(
            CONFIGURATION,
            f"source.strategy: {path} cannot be built: {type(error).__name__}: {error}; every "
            "field of its config but instrument_ids needs a default",
        ) from None


def _venues(data: Dataset) -> list[str]:
    return list(dict.fromkeys(row.id.partition(".")[2] for row in data.instruments))


def _node_config(config: Config, data: Dataset) -> TradingNodeConfig:
    replay = ReplayClientConfig(dataset=str(config.replay.dataset), rate=config.replay.rate)
    return TradingNodeConfig(
        trader_id=TraderId(config.node.trader_id),
        logging=LoggingConfig(log_level=config.node.log_level, log_colors=False),
        data_engine=LiveDataEngineConfig(graceful_shutdown_on_exception=True),
        risk_engine=LiveRiskEngineConfig(graceful_shutdown_on_exception=True),
        exec_engine=LiveExecEngineConfig(graceful_shutdown_on_exception=True),
        data_clients=dict.fromkeys(_venues(data), replay),
        exec_clients={venue: _sandbox_config(venue) for venue in _venues(data)},
        timeout_connection=config.node.start_timeout_seconds,
        timeout_post_stop=config.node.stop_timeout_seconds,
        timeout_disconnection=1.0,
    )


def _sandbox_config(venue: str) -> SandboxExecutionClientConfig:
    account_type = ACCOUNT_TYPES.get(venue, "MARGIN")
    return SandboxExecutionClientConfig(
        venue=venue,
        account_type=account_type,
        starting_balances=BALANCES,
        default_leverage=Decimal(10) if account_type == "MARGIN" else Decimal(1),
    )
