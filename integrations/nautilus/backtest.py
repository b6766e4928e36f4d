"""A dataset through a strategy in Nautilus's BacktestNode -> the books of the run."""

import gc
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, Self

from nautilus_trader.backtest.config import (
    BacktestEngineConfig,
    BacktestRunConfig,
    BacktestVenueConfig,
    FillModelConfig,
    ImportableFeeModelConfig,
    ImportableFillModelConfig,
    SimulationModuleConfig,
)
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.backtest.models import FillModel
from nautilus_trader.backtest.node import BacktestNode
from nautilus_trader.common.config import ImportableActorConfig
from nautilus_trader.config import LoggingConfig
from nautilus_trader.model.data import FundingRateUpdate
from nautilus_trader.model.identifiers import InstrumentId, TraderId
from nautilus_trader.persistence.catalog.types import CatalogDataResult
from nautilus_trader.portfolio import portfolio
from nautilus_trader.risk.config import RiskEngineConfig
from nautilus_trader.trading.strategy import Strategy

from bridge.exits import CONFIGURATION, Exit
from integrations.binance.dataset import Dataset
from integrations.binance.manifest import Instrument
from integrations.nautilus.backtest_data import Selection, catalog_of, data_configs, select
from integrations.nautilus.backtest_settings import Account, BacktestSettings
from integrations.nautilus.books import Books, reckon
from integrations.nautilus.fees import ExactFeeModel, ExactFeeModelConfig
from integrations.nautilus.funding import FundingModule
from integrations.nautilus.loading import load_strategy
from integrations.nautilus.recorder import Recorder

TRADER: Final = TraderId("BACKTEST-001")
# Made before Python looks for garbage: each look walks the lists of all events, mostly in vain.
GARBAGE_OBJECTS: Final = 200_000

type Progress = Callable[[str, float], None]  # what is being done, and the fraction that is done


@contextmanager
def _snapshots_read_once() -> Iterator[None]:
    """Let Nautilus's portfolio unpickle each closed position once.

    It forgets what it has read when another instrument closes one, and reads all of them again.
    """
    portfolio.pickle = SimpleNamespace(loads=cache(pickle.loads))
    try:
        yield
    finally:
        portfolio.pickle = pickle


def run(
    data: Dataset, *, settings: BacktestSettings, catalog: Path, progress: Progress | None = None
) -> Books:
    """Feed the dataset to the strategy of the settings; return the books.

    Raises DatasetError for what the dataset does not have, bridge.exits.Exit for a strategy that
    cannot be loaded or a catalog that cannot be written, and whatever the strategy raises.
    """
    with Backtest(data, settings=settings, catalog=catalog, progress=progress) as backtest:
        return backtest.run()


class _Node(BacktestNode):
    """Reads funding rates as decimals: a catalog hands them out as text."""

    @classmethod
    def load_data_config(cls, *arguments: Any, **named: Any) -> CatalogDataResult:
        result = super().load_data_config(*arguments, **named)
        if result.data_cls is not FundingRateUpdate:
            return result
        return replace(result, data=[_with_decimal(update) for update in result.data])


def _with_decimal(update: FundingRateUpdate) -> FundingRateUpdate:
    return FundingRateUpdate(
        update.instrument_id,
        Decimal(update.rate),
        update.ts_event,
        update.ts_init,
        interval=update.interval,
        next_funding_ns=update.next_funding_ns,
    )


class Backtest:
    """One run: built, so that something can be attached to `engine`, and run once.

    A context manager, which frees what Nautilus holds.
    """

    def __init__(
        self,
        data: Dataset,
        *,
        settings: BacktestSettings,
        catalog: Path,
        progress: Progress | None = None,
    ) -> None:
        self._tell = tell = progress or (lambda what, fraction: None)
        self.selection = selection = select(data, settings)
        self._fed = selection.fed(data)
        path = catalog_of(data, selection.rows, catalog, lambda done: tell("converting", done))
        legs = {InstrumentId.from_str(row.id): row for row in selection.rows}
        config = _run_config(path, selection, settings)
        self._node = _Node(configs=[config])
        self._node.build()
        self.engine: BacktestEngine = self._node.get_engine(config.id)
        self._recorder = Recorder(self.engine.kernel, legs, selection.start_ns, self._on_minute)
        self.strategy = _strategy(selection, settings)
        self.engine.add_strategy(self.strategy)
        # Each closed trade makes it copy all earlier ones, for statistics that are not used here.
        self.engine.portfolio.analyzer.record_trade = lambda *_: None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.engine.trader.is_running:  # something was raised
            self.engine.trader.stop()
        self._node.dispose()

    def run(self) -> Books:
        """Run to the end of the window, or to where Nautilus gives up; return the books."""
        thresholds = gc.get_threshold()
        gc.set_threshold(GARBAGE_OBJECTS, *thresholds[1:])
        try:
            with _snapshots_read_once():
                self._node.run()
        finally:
            gc.set_threshold(*thresholds)
        recorder, engine = self._recorder, self.engine
        events = engine.iteration - recorder.marks
        if events == self._fed or not recorder.samples:
            recorder.sample(self.selection.end_ns)
        equity, days = reckon(
            recorder.fills, recorder.settlements, recorder.samples, self.selection.symbols
        )
        return Books(
            fed=self._fed,
            events=events,
            last_ts=recorder.last_ts,
            fills=recorder.fills,
            orders=recorder.orders(),
            settlements=recorder.settlements,
            equity=equity,
            days=days,
            denied=recorder.denied,
            rejected=recorder.rejected,
            counts=dict(getattr(self.strategy, "counts", {})),
        )

    def _on_minute(self, ts: int) -> None:
        start_ns, end_ns = self.selection.start_ns, self.selection.end_ns
        self._tell("running", (ts - start_ns) / (end_ns - start_ns))


def _strategy(selection: Selection, settings: BacktestSettings) -> Strategy:
    strategy = load_strategy(
        settings.strategy,
        {
            "instrument_ids": tuple([InstrumentId.from_str(row.id) for row in selection.rows]),
            "params": dict(settings.params),
            "start_ns": selection.start_ns,
            "end_ns": selection.end_ns,
            # Nautilus would write every event and command as text, for a log that is not kept.
            "log_events": False,
            "log_commands": False,
        },
    )
    if settings.params and "params" not in strategy.config.__struct_fields__:
        raise Exit(
            CONFIGURATION,
            f"params: {settings.strategy} has no field params in its config; drop them, or add it",
        )
    return strategy


def _run_config(path: Path, selection: Selection, settings: BacktestSettings) -> BacktestRunConfig:
    rows, risk = selection.rows, settings.risk
    venues = dict.fromkeys(_venue_of(row) for row in rows)
    return BacktestRunConfig(
        engine=BacktestEngineConfig(
            trader_id=TRADER,
            logging=LoggingConfig(log_level="ERROR", log_colors=False),
            risk_engine=RiskEngineConfig(
                bypass=risk.bypass,
                max_order_submit_rate=risk.max_order_submit_rate,
                max_notional_per_order=dict(risk.max_notional_per_order),
            ),
            run_analysis=False,
        ),
        venues=[
            _venue_config(name, [row for row in rows if _venue_of(row) == name], settings)
            for name in venues
        ],
        data=data_configs(path, rows),
        start=selection.start_ns,
        end=selection.end_ns - 1,  # Nautilus includes the end
        raise_exception=True,
        dispose_on_completion=False,
    )


def _venue_of(row: Instrument) -> str:
    return row.id.rpartition(".")[2]


def _venue_config(
    name: str, rows: Sequence[Instrument], settings: BacktestSettings
) -> BacktestVenueConfig:
    """Return the venue: market orders fill at the touch, at once, without latency."""
    account, fills = settings.accounts.get(name, Account()), settings.fill_model
    has_perps = any(row.leg == "perp" for row in rows)
    return BacktestVenueConfig(
        name=name,
        oms_type="NETTING",
        account_type=account.type or ("MARGIN" if has_perps else "CASH"),
        starting_balances=list(account.balances),
        default_leverage=float(account.leverage) if has_perps else 1.0,
        modules=[_importable_module()] if has_perps else None,
        fill_model=ImportableFillModelConfig(
            **_paths("fill_model", FillModel, FillModelConfig),
            config={
                "prob_fill_on_limit": fills.prob_fill_on_limit,
                "prob_slippage": fills.prob_slippage,
                "random_seed": fills.seed,
            },
        ),
        fee_model=ImportableFeeModelConfig(
            **_paths("fee_model", ExactFeeModel, ExactFeeModelConfig), config={}
        ),
        use_market_order_acks=True,
        trade_execution=False,
    )


def _importable_module() -> ImportableActorConfig:
    return ImportableActorConfig(
        **_paths("actor", FundingModule, SimulationModuleConfig), config={}
    )


def _paths(kind: str, cls: type, config: type) -> dict[str, Any]:
    """Return what Nautilus imports a class and its config by."""
    return {
        f"{kind}_path": f"{cls.__module__}:{cls.__qualname__}",
        "config_path": f"{config.__module__}:{config.__qualname__}",
    }
