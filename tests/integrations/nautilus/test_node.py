"""The demo's node: how it starts, how it ends, and every way it can refuse to."""

import asyncio
import functools
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nautilus_trader.config import StrategyConfig
from nautilus_trader.model.enums import OrderSide, OrderStatus, TradingState
from nautilus_trader.model.identifiers import InstrumentId
from nautilus_trader.trading.strategy import Strategy

from bridge import config, exits
from bridge.core import resp
from bridge.core.contract import default_names
from bridge.core.control import State
from bridge.core.lanes import ExecLane, MarketLane
from bridge.exits import Exit
from bridge.metrics import Metrics
from integrations.binance import sample
from integrations.nautilus.loading import load_strategy
from integrations.nautilus.node import NodeSource, factory
from integrations.nautilus.replay import ReplayDataClient
from integrations.nautilus.roles import check_market, demo_data
from tests.integrations.nautilus.engines import PERP, until

HERE = __name__
# Stopping is over as soon as all is done, which a busy machine may not do in 0.1 s.
PATIENT = {"node.stop_timeout_seconds": 10}


@pytest.fixture
def build(folder: Path) -> Callable[..., SimpleNamespace]:
    """Return `build(settings)`: the source of the demo on lanes that nobody publishes."""

    def build(settings: dict[str, Any] | None = None, entries_max: int = 1000) -> SimpleNamespace:
        given = {
            "replay.dataset": str(folder),
            "replay.rate": 2000,
            "node.stop_timeout_seconds": 0.1,
            "node.log_level": "OFF",
            "source.strategy": f"{HERE}:Buyer",
            **(settings or {}),
        }
        loaded = config.load(None, environ={}, overrides=given)
        exec_lane = ExecLane(
            default_names(),
            producer="T-1.00000000.1",
            entries_max=entries_max,
            clock_ns=time.monotonic_ns,
        )
        market_lane = MarketLane(entries_max=100_000, clock_ns=time.monotonic_ns)
        metrics = Metrics()
        source = factory(loaded, exec_lane, market_lane, metrics, True)
        source.apply(State.ACTIVE, "")
        return SimpleNamespace(
            source=source, exec_lane=exec_lane, market_lane=market_lane, metrics=metrics
        )

    return build


class BuyerConfig(StrategyConfig, frozen=True):
    instrument_ids: tuple[InstrumentId, ...] = ()


class Buyer(Strategy):
    """Buys at the first quote, sells on stop."""

    def on_start(self) -> None:
        self.bought = False
        self.subscribe_quote_ticks(PERP)

    def on_quote_tick(self, tick: Any) -> None:
        if not self.bought:
            self.bought = True
            size = self.cache.instrument(PERP).make_qty("0.002")
            self.submit_order(self.order_factory.market(PERP, OrderSide.BUY, size))

    def on_stop(self) -> None:
        self.close_all_positions(PERP)


class Patient(Buyer):
    """Buys far below the market."""

    def on_quote_tick(self, tick: Any) -> None:
        if not self.bought:
            self.bought = True
            instrument = self.cache.instrument(PERP)
            price = instrument.make_price(tick.bid_price.as_decimal() * 9 / 10)
            size = instrument.make_qty("0.002")
            self.submit_order(self.order_factory.limit(PERP, OrderSide.BUY, size, price))


class Bare(Strategy):
    """A strategy without a config class."""


class Demanding(Strategy):
    """A strategy whose config has a field that nobody fills."""


class DemandingConfig(StrategyConfig, frozen=True):
    threshold: float


class Moody(Strategy):
    """A strategy that cannot be made."""

    def __init__(self) -> None:
        raise ZeroDivisionError("in the constructor")


class Stumbling(Strategy):
    """A strategy that raises as it starts."""

    def on_start(self) -> None:
        raise ZeroDivisionError("in on_start")


class Raising(Strategy):
    """A strategy that raises at the first quote."""

    def on_start(self) -> None:
        self.subscribe_quote_ticks(PERP)

    def on_quote_tick(self, tick: Any) -> None:
        raise ZeroDivisionError("in on_quote_tick")


async def start(source: NodeSource) -> "asyncio.Task[None]":
    running = asyncio.create_task(source.run())
    await until(lambda: source.is_running or running.done(), "the node to run")
    return running


async def end_of(source: NodeSource) -> Exit:
    """Run the source to the exit that it raises; take it down."""
    try:
        with pytest.raises(Exit) as caught:
            async with asyncio.timeout(10):
                await source.run()
        return caught.value
    finally:
        await source.stop()


async def test_it_runs_and_stops(build):
    """Market data and orders reach the lanes; the closing fill on stop is still caught."""
    made = build(PATIENT)
    running = await start(made.source)
    await until(lambda: made.market_lane.backlog > 100 and made.exec_lane.streams["fills"].seq == 1)

    began = time.monotonic()
    await made.source.stop()
    await running

    assert time.monotonic() - began < 5
    assert not made.source.is_running
    assert made.exec_lane.streams["fills"].seq == 2
    assert made.exec_lane.streams["positions"].seq == 2


async def test_stop_cancels_what_rests(build):
    """A resting order is canceled and its end recorded before the node is taken down."""
    made = build(PATIENT | {"source.strategy": f"{HERE}:Patient"})
    running = await start(made.source)
    cache = made.source.node.cache
    await until(lambda: cache.orders_open(), "the resting order")
    [order] = cache.orders_open()

    await made.source.stop()
    await running

    assert order.status == OrderStatus.CANCELED
    last = made.exec_lane.streams["orders"].window[-1]
    assert resp.pairs(last.data)["status"] == "canceled"


async def test_stop_twice_is_harmless(build):
    """The second call returns at once."""
    made = build()
    running = await start(made.source)

    await made.source.stop()
    await made.source.stop()

    await running


async def test_stop_before_run(build):
    """A source that never ran is freed, and a later run returns."""
    made = build()

    await made.source.stop()

    await made.source.run()
    assert not made.source.is_running


async def test_stop_while_it_connects(build, monkeypatch):
    """A node that is still starting is taken down without its strategies ever running."""
    monkeypatch.setattr(ReplayDataClient, "_connect", never)
    made = build()
    running = asyncio.create_task(made.source.run())
    await until(lambda: made.source.node.is_running(), "the node to begin")

    await made.source.stop()

    await asyncio.wait_for(running, 5)
    assert not made.source.node.trader.is_running


async def test_the_loop_is_usable_behind_it(build):
    """Other tasks live on, threads can be had, and nothing but Nautilus's idle workers is left."""
    before = asyncio.all_tasks()
    other = asyncio.create_task(asyncio.Event().wait())
    made = build()
    running = await start(made.source)
    await made.source.stop()
    await running

    assert not other.done()
    assert await asyncio.to_thread(int, "7") == 7
    left = asyncio.all_tasks() - before - {other}
    assert {task.get_coro().__qualname__ for task in left} <= {"ActorExecutor._worker"}
    other.cancel()


async def test_one_node_after_the_other(build):
    """A second source on the same loop works like the first."""
    for _ in range(2):
        made = build()
        running = await start(made.source)
        await until(lambda made=made: made.exec_lane.streams["fills"].seq == 1)
        await made.source.stop()
        await running


async def never(_: Any) -> None:
    await asyncio.Event().wait()


async def test_a_client_that_never_connects(build, monkeypatch):
    """Exit 69 behind the deadline, with the name of the setting."""
    monkeypatch.setattr(ReplayDataClient, "_connect", never)
    made = build({"node.start_timeout_seconds": 0.3})

    error = await end_of(made.source)

    assert error.code == exits.UNAVAILABLE
    assert "node.start_timeout_seconds" in str(error)


async def test_a_node_that_stops_by_itself(build):
    """Exit 75: whoever supervises the process starts it again."""
    made = build()
    running = await start(made.source)

    await made.source.node.stop_async()

    with pytest.raises(Exit, match="stopped by itself") as caught:
        await asyncio.wait_for(running, 5)
    assert caught.value.code == exits.RESTART
    await made.source.stop()


async def test_a_strategy_that_raises_ends_the_node_in_order(build):
    """An error in a strategy is exit 75, not the end of the process without a flush."""
    made = build({"source.strategy": f"{HERE}:Raising"})

    error = await end_of(made.source)

    assert error.code == exits.RESTART


async def test_a_strategy_that_raises_as_it_starts_is_named(build):
    """The exit's message tells what it raised."""
    made = build({"source.strategy": f"{HERE}:Stumbling"})

    error = await end_of(made.source)

    assert error.code == exits.RESTART
    assert "ZeroDivisionError: in on_start" in str(error)


async def test_a_full_lane_ends_the_node(build):
    """Exit 74: what cannot be recorded must not be traded."""
    made = build(entries_max=3)

    error = await end_of(made.source)

    assert error.code == exits.CANNOT_RECORD
    assert "exec.entries_max" in str(error)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["on the loop", "in another thread"])
async def test_a_failure_stops_trading(build, elsewhere):
    """Whatever the lane's failure is, from whichever thread: nothing more is submitted, what rests
    is canceled, and `run` ends with the failure's own code."""
    made = build({"source.strategy": f"{HERE}:Patient"})
    running = await start(made.source)
    cache, risk = made.source.node.cache, made.source.node.kernel.risk_engine
    await until(lambda: cache.orders_open(), "the resting order")

    tell = functools.partial(made.exec_lane.on_failure, Exit(exits.FENCED, "another bridge"))
    if elsewhere:
        await asyncio.to_thread(tell)
    else:
        tell()

    with pytest.raises(Exit, match="another bridge") as caught:
        await asyncio.wait_for(running, 5)
    assert caught.value.code == exits.FENCED
    assert risk.trading_state == TradingState.HALTED
    made.source.apply(State.ACTIVE, "Redis is back")
    assert made.source.guard.state is State.HALTED, "nobody opens these gates again"
    await until(lambda: not cache.orders_open(), "the cancel")
    await made.source.stop()


async def test_a_guard_that_fails_loses_no_fill(build, monkeypatch):
    """It hears of a fill before the tap does: the fill is recorded all the same, and the node ends
    with 75, its gates closed."""
    made = build()

    def stumble(_: Any) -> None:
        raise ZeroDivisionError("in the book")

    monkeypatch.setattr(made.source.guard.out, "_fill", stumble)

    error = await end_of(made.source)

    assert error.code == exits.RESTART
    assert "ZeroDivisionError: in the book" in str(error)
    assert made.source.guard.state is not State.ACTIVE
    assert made.exec_lane.streams["fills"].seq >= 1


async def test_two_instruments_on_one_stream(build):
    """Exit 78 names both instruments and the setting that tells them apart."""
    with pytest.raises(Exit) as caught:
        build({"streams.quotes": "market.raw.{base}"})

    assert caught.value.code == exits.CONFIGURATION
    for word in ("BTCUSDT.BINANCE_SPOT", "BTCUSDT-PERP.BINANCE_FUTURES", "streams.quotes"):
        assert word in str(caught.value)


async def test_the_metrics_say_what_runs(build):
    """Versions and role are one series; without a Nautilus backing its gauge is 0."""
    made = build()

    text = made.metrics.exposition().decode()

    assert 'nautilus_version="1.231.0"' in text
    assert 'role="demo"' in text
    assert "nautilus_bridge_native_backing_closed 0.0" in text
    await made.source.stop()


def test_a_missing_dataset_is_made(tmp_path, monkeypatch):
    """The folder appears, and is what is loaded."""
    brief = {**sample.generate.__kwdefaults__, "minutes": 2}
    monkeypatch.setattr(sample.generate, "__kwdefaults__", brief)
    data = demo_data(tmp_path / "new" / "data")

    assert (tmp_path / "new" / "data" / "MANIFEST.json").exists()
    assert PERP.value in data.quotes


def truncate(path: Path) -> None:
    file = path / "spot.parquet"
    file.write_bytes(file.read_bytes()[:-100])


def lose_a_file(path: Path) -> None:
    (path / "perp_trades.parquet").unlink()


def garble_manifest(path: Path) -> None:
    (path / "MANIFEST.json").write_text("{")


@pytest.mark.parametrize("harm", [truncate, lose_a_file, garble_manifest])
def test_an_unusable_dataset(tmp_path, harm):
    """Exit 65 names the file and the remedy."""
    path = tmp_path / "data"
    sample.generate(path, minutes=2)
    harm(path)

    with pytest.raises(Exit, match="to have it made again") as caught:
        demo_data(path)

    assert caught.value.code == exits.BAD_DATA
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("market.instruments", "FOO.BAR"),
        ("market.bar_types", f"{PERP}-1-MINUTE-LAST-EXTERNAL"),
    ],
)
def test_market_data_that_the_dataset_lacks(tmp_path, setting, value):
    """Exit 78 names the setting: a stream that stays empty would look like a quiet market."""
    sample.generate(tmp_path / "data", minutes=2)
    market = config.load(None, environ={}, overrides={setting: value}).market

    with pytest.raises(Exit, match=setting) as caught:
        check_market(market, demo_data(tmp_path / "data"))

    assert caught.value.code == exits.CONFIGURATION


def test_a_dataset_path_that_is_a_file(tmp_path):
    """Exit 65, not a traceback."""
    path = tmp_path / "file"
    path.write_text("")

    with pytest.raises(Exit) as caught:
        demo_data(path)

    assert caught.value.code == exits.BAD_DATA


def test_a_strategy_is_given_the_instruments():
    """Where its config has the field; a strategy without a config class is simply made."""
    known = {"instrument_ids": (PERP,), "size_fraction": Decimal("0.1")}
    assert load_strategy(f"{HERE}:Buyer", known).config.instrument_ids == (PERP,)
    assert isinstance(load_strategy(f"{HERE}:Bare", known), Bare)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no.such.module:Thing", "No module named"),
        (f"{HERE}:Missing", "Missing"),
        (f"{HERE}:HERE", "is no Nautilus Strategy"),
        (f"{HERE}:BuyerConfig", "is no Nautilus Strategy"),
        (f"{HERE}:Demanding", "threshold"),
        (f"{HERE}:Moody", "ZeroDivisionError: in the constructor"),
    ],
)
def test_a_strategy_that_cannot_be_had(path, words):
    """Exit 78 names source.strategy, the path and what is wrong with it."""
    with pytest.raises(Exit) as caught:
        load_strategy(path, {"instrument_ids": (PERP,)})

    assert caught.value.code == exits.CONFIGURATION
    assert f"source.strategy: {path}" in str(caught.value).replace("cannot load ", "")
    assert words in str(caught.value)


def test_a_module_that_raises_on_import(tmp_path, monkeypatch):
    """Exit 78 with what it raised, not a traceback."""
    (tmp_path / "stumbles.py").write_text("raise KeyError('on import')\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(Exit, match="KeyError: 'on import'") as caught:
        load_strategy("stumbles:Thing", {})

    assert caught.value.code == exits.CONFIGURATION
