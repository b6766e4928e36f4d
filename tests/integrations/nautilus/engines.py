"""Real Nautilus engines for tests: a BacktestEngine, a BacktestNode, a live TradingNode."""

import asyncio
import contextlib
import functools
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nautilus_trader.backtest.config import (
    BacktestDataConfig,
    BacktestEngineConfig,
    BacktestRunConfig,
    BacktestVenueConfig,
)
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.backtest.node import BacktestNode
from nautilus_trader.config import (
    LiveDataEngineConfig,
    LiveExecEngineConfig,
    LiveRiskEngineConfig,
    LoggingConfig,
    TradingNodeConfig,
)
from nautilus_trader.live.node import TradingNode
from nautilus_trader.model.data import QuoteTick, TradeTick
from nautilus_trader.model.enums import AccountType, OmsType
from nautilus_trader.model.identifiers import InstrumentId, TraderId, Venue
from nautilus_trader.model.objects import Money
from nautilus_trader.persistence.catalog import ParquetDataCatalog
from nautilus_trader.trading.strategy import Strategy

from integrations.binance import sample
from integrations.binance.dataset import Dataset, load
from integrations.nautilus.replay import ReplayClientConfig, Tape, instrument_of, replay_factory
from integrations.nautilus.roles import _sandbox_config
from integrations.nautilus.sandbox import SandboxLiveExecClientFactory

PERP = InstrumentId.from_str("BTCUSDT-PERP.BINANCE_FUTURES")
SPOT = InstrumentId.from_str("BTCUSDT.BINANCE_SPOT")
# Nautilus's log is one for the process: the first engine's settings win.
QUIET = LoggingConfig(log_level="OFF")
WAIT_SECONDS_MAX = 10.0


@functools.cache
def sample_data() -> Dataset:
    """Return two minutes of the generated dataset."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "data")
        sample.generate(path, minutes=2)
        return load(path)


def row_of(instrument_id: InstrumentId) -> Any:
    """Return an instrument's row of the dataset's table."""
    return next(row for row in sample_data().instruments if row.id == instrument_id.value)


@functools.cache
def events_of(instrument_id: InstrumentId) -> tuple[QuoteTick | TradeTick, ...]:
    """Return all quotes and trades of an instrument, with the times of the dataset."""
    tape = Tape(sample_data(), [row_of(instrument_id)])
    start_ns = sample_data().start_ns
    return tuple(tape.event(i, start_ns + tape.offsets_ns[i]) for i in range(len(tape)))


def make_engine(
    *strategies: Strategy,
    events: Sequence[Any] | None = None,
    trader_id: str = "TEST-001",
    instrument_id: InstrumentId = PERP,
) -> BacktestEngine:
    """Return an engine with one instrument, and its `events` (None: all of the sample)."""
    engine = BacktestEngine(
        config=BacktestEngineConfig(
            trader_id=TraderId(trader_id), logging=QUIET, run_analysis=False
        )
    )
    engine.add_venue(
        venue=Venue(instrument_id.venue.value),
        oms_type=OmsType.NETTING,
        account_type=AccountType.MARGIN,
        starting_balances=[Money.from_str("500000 USDT")],
        use_market_order_acks=True,
    )
    engine.add_instrument(instrument_of(row_of(instrument_id)))
    for kind in (QuoteTick, TradeTick):
        given = events_of(instrument_id) if events is None else events
        chosen = [event for event in given if isinstance(event, kind)]
        if chosen:
            engine.add_data(chosen)
    for strategy in strategies:
        engine.add_strategy(strategy)
    return engine


def make_backtest_node(folder: Path, strategy: Strategy) -> tuple[BacktestNode, BacktestEngine]:
    """Return a built node that reads a catalog in `folder`, and its engine."""
    catalog = ParquetDataCatalog(str(folder))
    catalog.write_data([instrument_of(row_of(PERP))])
    for kind in (QuoteTick, TradeTick):
        catalog.write_data([event for event in events_of(PERP) if isinstance(event, kind)])
    config = BacktestRunConfig(
        engine=BacktestEngineConfig(
            trader_id=TraderId("CATALOG-001"), logging=QUIET, run_analysis=False
        ),
        venues=[
            BacktestVenueConfig(
                name=PERP.venue.value,
                oms_type="NETTING",
                account_type="MARGIN",
                starting_balances=["500000 USDT"],
                use_market_order_acks=True,
            )
        ],
        data=[
            BacktestDataConfig(
                catalog_path=str(folder), data_cls=kind, instrument_id=PERP, client_id=None
            )
            for kind in (QuoteTick, TradeTick)
        ],
        dispose_on_completion=False,
    )
    node = BacktestNode(configs=[config])
    node.build()
    engine = node.get_engine(config.id)
    engine.add_strategy(strategy)
    return node, engine


def make_node(
    *strategies: Strategy,
    rate: float | None = 2_000,
    trader_id: str = "LIVE-001",
    exec_clients: Mapping[str, Any] | None = None,
) -> TradingNode:
    """Return a node on the running loop: replayed market data, sandbox execution; not built.

    `exec_clients` takes the place of the sandboxes' settings.
    """
    data = sample_data()
    venues = list(dict.fromkeys(row.id.partition(".")[2] for row in data.instruments))
    graceful = {"graceful_shutdown_on_exception": True}
    clients = {venue: _sandbox_config(venue) for venue in venues}
    node = TradingNode(
        config=TradingNodeConfig(
            trader_id=TraderId(trader_id),
            logging=QUIET,
            data_engine=LiveDataEngineConfig(**graceful),
            risk_engine=LiveRiskEngineConfig(**graceful, max_order_submit_rate="10000/00:00:01"),
            exec_engine=LiveExecEngineConfig(**graceful),
            data_clients=dict.fromkeys(venues, ReplayClientConfig(rate=rate)),
            exec_clients=clients if exec_clients is None else dict(exec_clients),
            timeout_connection=5.0,
            timeout_post_stop=0.1,
            timeout_disconnection=1.0,
        ),
        loop=asyncio.get_running_loop(),
    )
    for row in data.instruments:
        node.cache.add_instrument(instrument_of(row))
    for venue in venues:
        node.add_data_client_factory(venue, replay_factory(data))
        node.add_exec_client_factory(venue, SandboxLiveExecClientFactory)
    for strategy in strategies:
        node.trader.add_strategy(strategy)
    return node


@contextlib.asynccontextmanager
async def running(node: TradingNode) -> AsyncIterator[TradingNode]:
    """Build and run the node; at the end stop it and free what it holds."""
    if not node.is_built():
        node.build()
    run = asyncio.create_task(node.run_async(), name="node")
    try:
        await until(lambda: node.trader.is_running, "the node to run")
        yield node
    finally:
        await node.stop_async()
        await asyncio.wait_for(run, WAIT_SECONDS_MAX)
        free(node)


def free(node: TradingNode) -> None:
    """Dispose what `TradingNode.dispose` would, and leave the loop alone."""
    node.kernel.dispose()
    if node.kernel.executor is not None:
        node.kernel.executor.shutdown(wait=False)
        node.get_event_loop().set_default_executor(ThreadPoolExecutor())


async def until(condition: Callable[[], Any], what: str = "a condition") -> None:
    """Wait until `condition` holds; fail with its name when it does not come true."""
    try:
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while not condition():  # noqa: ASYNC110 - of an engine, which sets no Event
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"waited in vain for {what}") from None
