"""`python -m bridge doctor` beside a real Nautilus engine that writes to the same Redis."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import (
    CacheConfig,
    DatabaseConfig,
    LoggingConfig,
    MessageBusConfig,
)
from nautilus_trader.model.identifiers import TraderId
from nautilus_trader.test_kit.providers import TestInstrumentProvider
from nautilus_trader.test_kit.stubs.events import TestEventStubs
from nautilus_trader.test_kit.stubs.execution import TestExecStubs

from bridge import exits
from tests.bridge.doctors import KEPT, Seen, now_ms, seen
from tests.bridge.processes import environment, eventually
from tests.servers import RedisServer

type See = Callable[[RedisServer], Seen]

TRADER = "T-001"
TOPIC = "events.order.S-001"
STREAM = f"trader-{TRADER}:stream:{TOPIC}"


@pytest.fixture
def see(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> See:
    """Return `see(server)`: what doctor says of it."""
    monkeypatch.setattr("os.environ", environment({}))
    return lambda server: seen(capsys.readouterr, server.url)


@pytest.fixture
def server(make_redis: Callable[..., RedisServer]) -> RedisServer:
    """A healthy server."""
    return make_redis(*KEPT)


@contextmanager
def engine(
    server: RedisServer,
    *,
    has_bus: bool = False,
    has_cache: bool = False,
    flush_on_start: bool = False,
    streams: str | None = None,
) -> Iterator[BacktestEngine]:
    """Yield an engine that keeps its bus, its cache, or both in that Redis; `streams` is where the
    bus writes all that it publishes."""
    database = DatabaseConfig(type="redis", host="127.0.0.1", port=server.port)
    names = {"use_trader_prefix": False, "use_trader_id": False, "stream_per_topic": False}
    bus = MessageBusConfig(
        database=database, **(names | {"streams_prefix": streams} if streams else {})
    )
    config = BacktestEngineConfig(
        trader_id=TraderId(TRADER),
        logging=LoggingConfig(bypass_logging=True),
        message_bus=bus if has_bus else None,
        cache=CacheConfig(database=database, flush_on_start=flush_on_start) if has_cache else None,
    )
    made = BacktestEngine(config)
    try:
        yield made
    finally:
        made.dispose()


def publish(made: BacktestEngine) -> None:
    """Publish an order event, as the execution engine does."""
    order = TestExecStubs.limit_order(TestInstrumentProvider.btcusdt_binance())
    made.kernel.msgbus.publish(TOPIC, TestEventStubs.order_submitted(order))


def landed(server: RedisServer, count: int, key: str = STREAM) -> None:
    eventually(lambda: server.client.xlen(key) == count, f"{count} entries in {key}")


def test_a_bus_that_writes(see: See, server: RedisServer) -> None:
    """A message bus that writes beside the bridge is no fault."""
    with engine(server, has_bus=True) as made:
        publish(made)
        landed(server, 1)

        assert see(server).is_clean


def test_a_bus_that_has_died(see: See, server: RedisServer) -> None:
    """One lost connection ends Nautilus's backing for good: the bridge's stream goes on alone."""
    with engine(server, has_bus=True) as made:
        publish(made)
        landed(server, 1)
        server.client.execute_command("CLIENT", "KILL", "TYPE", "normal")

        def died() -> bool:
            publish(made)
            return made.kernel.msgbus_database.is_closed()

        eventually(died, "the end of its backing")
        # As the bridge would have it more than a minute later.
        server.client.xadd("exec:orders", {"trader_id": TRADER}, id=f"{now_ms() + 61_000}-0")
        said = see(server)

    assert said.code == exits.FAILED
    assert said.of("nautilus backing").what.startswith("closed: T-001 has gone on for 6")


def test_events_that_were_trimmed(see: See, server: RedisServer) -> None:
    """Order events that are gone from the bus's stream, as autotrim_mins removes them, are lost."""
    with engine(server, has_bus=True) as made:
        publish(made)
        landed(server, 1)
        server.client.execute_command("XTRIM", STREAM, "MINID", f"{now_ms() + 1}")
        said = see(server)

    assert said.worst == {"nautilus autotrim": "lose"}
    assert f"1 execution events are gone from {STREAM}" in said.of("nautilus autotrim").what
    assert said.code == exits.FAILED


def test_a_bus_that_writes_into_our_stream(see: See, server: RedisServer) -> None:
    """A node whose streams_prefix is the name of a stream of ours is told of."""
    with engine(server, has_bus=True, streams="exec:orders") as made:
        publish(made)
        eventually(lambda: server.client.exists("exec:orders"), "its entries")
        said = see(server)

    assert said.worst == {"exec:orders": "lose"}
    assert "streams_prefix" in said.of("exec:orders").remedy


def test_a_cache_beside_the_streams(see: See, server: RedisServer) -> None:
    """A cache in the bridge's database is a warning; one that was flushed at a start loses all."""
    with engine(server, has_cache=True) as made:
        made.kernel.cache.add_instrument(TestInstrumentProvider.btcusdt_binance())
        eventually(lambda: server.client.dbsize(), "its keys")
        said = see(server)
    assert said.worst == {"nautilus cache": "warn"}
    assert TRADER in said.of("nautilus cache").what

    server.client.set("mode", "halt")
    with engine(server, has_cache=True, flush_on_start=True) as made:
        made.run()
        eventually(lambda: not server.client.exists("mode"), "the flush")
        made.kernel.cache.add_instrument(TestInstrumentProvider.btcusdt_binance())
        eventually(lambda: server.client.dbsize(), "its keys")
        said = see(server)
    assert said.worst == {"nautilus cache": "lose"}
    assert "1 times something has" in said.of("nautilus cache").what
    assert said.code == exits.FAILED
