"""Rows of the backtest: the port in Nautilus against a bare engine, and the legacy program."""

import time
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path

from nautilus_trader.backtest.config import BacktestEngineConfig
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.backtest.node import BacktestNode
from nautilus_trader.config import LoggingConfig
from nautilus_trader.model.enums import AccountType, OmsType
from nautilus_trader.model.identifiers import TraderId, Venue
from nautilus_trader.model.objects import Money
from nautilus_trader.trading.strategy import Strategy

from acceptance import run
from integrations.binance import dataset, week
from integrations.binance.dataset import Dataset
from integrations.nautilus import backtest as port
from integrations.nautilus import backtest_data, backtest_settings
from integrations.nautilus.backtest_data import Selection
from integrations.nautilus.backtest_settings import BacktestSettings
from strategies.basis_carry.params import BasisCarryParams
from tests.bench.machine import Bench, Round

DAYS = 7


def backtest(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield how much slower the port's backtest is than an engine that does nothing with the same
    data: both from the catalog to the end, its books included."""
    data, settings = _week(bench)
    folder = bench.folder / "catalog"
    selection = backtest_data.select(data, settings)
    catalog = backtest_data.catalog_of(data, selection.rows, folder, lambda done: None)
    for _ in range(rounds):
        start = time.perf_counter()
        books = port.run(data, settings=settings, catalog=folder)
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        count = _bare(catalog, selection)
        bare_seconds = time.perf_counter() - start
        detail = {
            "events/s": books.events / seconds,
            "bare/s": count / bare_seconds,
            "fills": len(books.fills),
        }
        yield Round(bare_seconds / seconds, detail, books.fed - books.events)


def legacy(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield the events per second of the legacy program, its loader included."""
    data, settings = _week(bench)
    for _ in range(rounds):
        start = time.perf_counter()
        made = run.legacy(data, BasisCarryParams(), start=settings.start, end=settings.end)
        seconds = time.perf_counter() - start
        events = made.run.events or 0
        detail = {"fills": made.run.fills or 0, "us": seconds / events * 1e6}
        yield Round(events / seconds, detail, (made.data.events or 0) - events)


@cache
def _week(bench: Bench) -> tuple[Dataset, BacktestSettings]:
    """Return the generated week, and settings for as many days of it as the bench's size asks."""
    folder = bench.folder / "week"
    week.generate(folder)
    days = max(1, round(DAYS * bench.scale))
    first = week.START.date()
    given = {"start": first, "end": first + timedelta(days=days - 1)}
    return dataset.load(folder), backtest_settings.load(overrides=given)


def _bare(catalog: Path, selection: Selection) -> int:
    """Run what Nautilus does by itself with the data; return how many events that were."""
    engine = BacktestEngine(
        BacktestEngineConfig(
            trader_id=TraderId("BARE-001"),
            logging=LoggingConfig(log_level="ERROR"),
            run_analysis=False,
        )
    )
    for name in dict.fromkeys(row.id.rpartition(".")[2] for row in selection.rows):
        engine.add_venue(
            Venue(name), OmsType.NETTING, AccountType.MARGIN, [Money.from_str("500000 USDT")]
        )
    for config in backtest_data.data_configs(catalog, selection.rows):
        read = BacktestNode.load_data_config(config, selection.start_ns, selection.end_ns - 1)
        if read.instruments[0].id not in engine.cache.instrument_ids():
            engine.add_instrument(read.instruments[0])
        engine.add_data(read.data, sort=False)
    engine.sort_data()
    engine.add_strategy(Strategy())
    engine.run()
    count = engine.iteration
    engine.dispose()
    return count
