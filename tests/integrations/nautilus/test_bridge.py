"""NautilusRedisBridge on real engines and a real Redis."""

import asyncio
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
import structlog
from nautilus_trader.config import LiveExecClientConfig
from nautilus_trader.model.enums import TimeInForce

from bridge import exits
from bridge.core.lanes import CannotRecord
from bridge.exits import Exit
from integrations.nautilus.bridge import DEFAULT_URL, NautilusRedisBridge
from integrations.nautilus.roles import _sandbox_config
from tests.integrations.nautilus import engines
from tests.integrations.nautilus.engines import running, until
from tests.integrations.nautilus.record import Record, rows_of, same_fields
from tests.integrations.nautilus.scripts import Script
from tests.servers import free_port

ROOT = Path(__file__).parents[3]
VENUE = engines.PERP.venue.value
QUOTES = "shadow:market.raw.crypto.BTCUSDT-PERP"


def market_buys(count: int) -> Script:
    return Script(*[lambda s, _: s.market(time_in_force=TimeInForce.IOC)] * count)


def attach(target: Any, url: str | None = None) -> NautilusRedisBridge:
    bridge = NautilusRedisBridge(url)
    bridge.attach(target)
    return bridge


async def test_a_backtest_loses_nothing_in_tiny_lanes(redis_server, monkeypatch):
    """The engine waits where a live node would conflate: every quote and trade arrives."""
    monkeypatch.setenv("BRIDGE_MARKET__ENTRIES_MAX", "4")
    monkeypatch.setenv("BRIDGE_EXEC__ENTRIES_MAX", "2")
    monkeypatch.setenv("BRIDGE_MARKET__IN_FLIGHT_MAX", "256")
    engine = engines.make_engine(market_buys(5))
    record = Record(engine.kernel)
    bridge = attach(engine, redis_server.url)

    await bridge.start()
    engine.run()
    await bridge.stop()

    kinds = {"quotes": "market.raw.crypto", "trades": "market.raw.trades"}
    for kind, stream in kinds.items():
        expected = record.by_kind[kind]
        found = rows_of(redis_server.client, f"{bridge.prefix}{stream}.BTCUSDT-PERP")
        assert same_fields(found, expected) == expected
    assert len(record.by_kind["quotes"] + record.by_kind["trades"]) == len(
        engines.events_of(engines.PERP)
    )
    fills = rows_of(redis_server.client, f"{bridge.prefix}exec:fills")
    assert same_fields(fills, record.by_kind["fills"]) == record.by_kind["fills"]
    engine.dispose()


def test_a_backtest_has_a_prefix_of_its_own():
    """It names the run, so that no reader books its fills."""
    engine = engines.make_engine()

    assert attach(engine).prefix == f"backtest:{engine.kernel.instance_id.value[:8]}:"
    engine.dispose()


@pytest.mark.parametrize(
    ("clients", "prefix"),
    [
        ({VENUE: _sandbox_config(VENUE)}, "shadow:"),
        ({VENUE: LiveExecClientConfig()}, ""),
        ({}, ""),
    ],
)
async def test_the_prefix_of_a_node_follows_its_execution(clients, prefix):
    """Sandbox fills go to shadow:, real ones to the documented streams."""
    node = engines.make_node(exec_clients=clients)

    assert attach(node).prefix == prefix
    engines.free(node)


async def test_mixed_execution_needs_a_prefix(monkeypatch):
    """Real and sandbox in one node: refused, unless the settings say where the fills go."""
    clients = {VENUE: LiveExecClientConfig(), "BINANCE_SPOT": _sandbox_config("BINANCE_SPOT")}
    node = engines.make_node(exec_clients=clients)

    with pytest.raises(ValueError, match=r"streams\.prefix"):
        attach(node)
    monkeypatch.setenv("BRIDGE_STREAMS__PREFIX", "mine:")

    assert attach(node).prefix == "mine:"
    engines.free(node)


def test_the_url_is_argument_then_environment_then_default(monkeypatch):
    """What is said later in code wins over the environment, which wins over the default."""
    monkeypatch.delenv("BRIDGE_REDIS__URL", raising=False)
    assert NautilusRedisBridge()._url == DEFAULT_URL == "redis://127.0.0.1:6379/0"
    monkeypatch.setenv("BRIDGE_REDIS__URL", "redis://127.0.0.1:7001/1")
    assert NautilusRedisBridge()._url == "redis://127.0.0.1:7001/1"
    assert NautilusRedisBridge("redis://127.0.0.1:7002/2")._url == "redis://127.0.0.1:7002/2"


async def test_start_needs_attach():
    """It says what to do first."""
    with pytest.raises(RuntimeError, match="attach a TradingNode or BacktestEngine before start"):
        await NautilusRedisBridge().start()


def test_a_bridge_is_attached_once():
    """A second node needs a second bridge."""
    engine = engines.make_engine()
    bridge = attach(engine)

    with pytest.raises(RuntimeError, match="attached already"):
        bridge.attach(engine)
    engine.dispose()


async def test_redis_away_at_start():
    """Exit 69 names the address; the loop stays free for others meanwhile."""
    engine = engines.make_engine()
    bridge = attach(engine, f"redis://127.0.0.1:{free_port()}/0")

    with pytest.raises(Exit, match=r"redis\.url: redis://127\.0\.0\.1:") as caught:
        await bridge.start()

    assert caught.value.code == exits.UNAVAILABLE
    await bridge.stop()
    engine.dispose()


async def test_wrong_password_at_start(make_redis):
    """Exit 77, and the password is in no message."""
    server = make_redis("--requirepass", "right")
    engine = engines.make_engine()
    bridge = attach(engine, f"redis://:wrong-one@127.0.0.1:{server.port}/0")

    with pytest.raises(Exit) as caught:
        await bridge.start()

    assert caught.value.code == exits.REFUSED
    assert "wrong-one" not in str(caught.value)
    engine.dispose()


async def test_a_bridge_that_did_not_start_lets_go_of_the_engine():
    """After a failed start and stop the node can go on without anything filling up."""
    engine = engines.make_engine(market_buys(1))
    bridge = attach(engine, f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(Exit):
        await bridge.start()
    await bridge.stop()

    engine.run()

    assert bridge.unpublished == {"exec": 0, "market": 0}
    engine.dispose()


@pytest.mark.parametrize("live", [False, True], ids=["backtest", "live"])
async def test_handlers_see_every_entry(redis_server, live):
    """Plain and async handlers get the stream's fields in order; one that raises harms nothing."""
    plain: list[dict[str, str]] = []
    later: list[dict[str, str]] = []
    orders: list[dict[str, str]] = []

    async def keep(fields: dict[str, str]) -> None:
        await asyncio.sleep(0)
        later.append(fields)

    def fail(_: dict[str, str]) -> None:
        raise ZeroDivisionError("a fault of the user's")

    script = market_buys(3)
    target = engines.make_node(script) if live else engines.make_engine(script)
    bridge = NautilusRedisBridge(redis_server.url)
    bridge.register_fill_handler(fail)
    bridge.register_fill_handler(plain.append)
    bridge.register_fill_handler(keep)
    bridge.register_order_handler(orders.append)
    bridge.attach(target)
    await bridge.start()
    with structlog.testing.capture_logs() as logs:
        if live:
            async with running(target):
                await until(lambda: len(later) == 3)
        else:
            target.run()
        await bridge.stop()

    fills = rows_of(redis_server.client, f"{bridge.prefix}exec:fills")
    assert len(fills) == 3
    assert plain == later == fills
    assert [list(fields) for fields in plain] == [list(fields) for fields in fills]
    assert orders == rows_of(redis_server.client, f"{bridge.prefix}exec:orders")
    assert bridge.metrics.handler_errors._value.get() == 3
    assert [line["event"] for line in logs].count("handler.raised") == 3
    if not live:
        target.dispose()


async def test_stop_is_harmless_twice_and_without_start(redis_server):
    """Each call returns, and no thread of the bridge is left."""
    engine = engines.make_engine(market_buys(1))
    bridge = attach(engine, redis_server.url)
    await bridge.stop()
    again = engines.make_engine(market_buys(1))
    other = attach(again, redis_server.url)
    await other.start()
    again.run()

    await other.stop()
    await other.stop()

    assert "bridge.publisher" not in [thread.name for thread in threading.enumerate()]
    engine.dispose()
    again.dispose()


async def test_start_twice_is_refused(redis_server):
    """Two publishers on one lane would send everything twice."""
    engine = engines.make_engine()
    bridge = attach(engine, redis_server.url)
    await bridge.start()

    with pytest.raises(RuntimeError, match="started"):
        await bridge.start()

    await bridge.stop()
    engine.dispose()


async def test_nodes_one_after_the_other(redis_server):
    """Two bridges on two live nodes in one process and loop: both runs are complete."""
    for number in (1, 2):
        node = engines.make_node(market_buys(2), trader_id=f"LIVE-00{number}")
        record = Record(node.kernel)
        bridge = attach(node, redis_server.url)
        await bridge.start()
        async with running(node):
            await until(lambda record=record: len(record.by_kind["fills"]) == 2, "two fills")
        await bridge.stop()

        rows = rows_of(redis_server.client, "shadow:exec:fills")
        mine = [row for row in rows if row["trader_id"] == f"LIVE-00{number}"]
        assert same_fields(mine, record.by_kind["fills"]) == record.by_kind["fills"]
        assert await asyncio.to_thread(int, "1") == 1
    assert len({row["fill_id"] for row in rows}) == 4


async def test_entries_survive_a_restart_of_redis(make_redis):
    """What happens while Redis is away is sent once it is back, and nothing comes twice."""
    server = make_redis("--appendonly", "yes", "--appendfsync", "always")
    script = market_buys(10_000)
    node = engines.make_node(script)
    record = Record(node.kernel)
    bridge = attach(node, server.url)
    await bridge.start()
    fills = record.by_kind["fills"]

    async with running(node):
        for change in (lambda: None, server.kill, server.start):
            change()
            before = len(fills)
            await until(lambda before=before: len(fills) >= before + 3, "fills")
        script.left.clear()
    await bridge.stop()

    rows = rows_of(server.client, "shadow:exec:fills")
    assert same_fields(rows, fills) == fills
    assert [int(row["seq"]) for row in rows] == list(range(1, len(fills) + 1))
    assert bridge.unpublished == {"exec": 0, "market": 0}


async def test_a_full_lane_is_raised_by_stop(make_redis, monkeypatch):
    """A live node trades on without Redis; that events were lost is told in the end."""
    monkeypatch.setenv("BRIDGE_EXEC__ENTRIES_MAX", "10")
    server = make_redis()
    script = market_buys(20)
    node = engines.make_node(script)
    bridge = attach(node, server.url)
    await bridge.start()

    async with running(node):
        server.pause()
        await until(lambda: node.cache.orders_closed_count() == 20, "orders to fill")
        server.resume()

    with pytest.raises(CannotRecord, match=r"exec\.entries_max"):
        await bridge.stop()


async def test_no_task_of_the_bridge_is_left(redis_server):
    """After stop the user's loop holds nothing of ours."""
    node = engines.make_node(market_buys(1))
    before = asyncio.all_tasks()
    bridge = attach(node, redis_server.url)
    await bridge.start()
    async with running(node):
        await until(lambda: redis_server.client.xlen(QUOTES) > 0, "quotes")
    await bridge.stop()

    left = {task.get_coro().__qualname__ for task in asyncio.all_tasks() - before}
    assert left <= {"ActorExecutor._worker"}


async def test_trades_of_a_stock_sandbox_are_left_out(redis_server):
    """They would overwrite its book: the bridge must not change what a user's sandbox fills."""
    node = engines.make_node()
    with structlog.testing.capture_logs() as logs:
        bridge = attach(node, redis_server.url)
    await bridge.start()
    async with running(node):
        await until(lambda: redis_server.client.xlen(QUOTES) > 100, "quotes")
    await bridge.stop()

    assert "bridge.trades_left_out" in [line["event"] for line in logs]
    assert not redis_server.client.keys("shadow:market.raw.trades.*")


def test_a_script_that_forgets_to_stop_ends(redis_server, tmp_path):
    """The bridge's thread keeps no process alive."""
    script = tmp_path / "forgets.py"
    script.write_text(
        textwrap.dedent(f"""
            import asyncio
            from integrations.nautilus.bridge import NautilusRedisBridge
            from tests.integrations.nautilus import engines

            engine = engines.make_engine()
            bridge = NautilusRedisBridge("{redis_server.url}")
            bridge.attach(engine)
            asyncio.run(bridge.start())
            engine.run()
        """)
    )

    done = subprocess.run(
        [sys.executable, str(script)], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, timeout=30
    )

    assert done.returncode == 0
