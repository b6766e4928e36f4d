"""NautilusRedisBridge with a folder for its journal: exactly once, and one bridge of a name."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from nautilus_trader.model.enums import TimeInForce

from bridge import exits
from bridge.exits import Exit
from bridge.lease import Lease
from integrations.nautilus import bridge as bridge_module
from integrations.nautilus.bridge import NautilusRedisBridge
from tests.integrations.nautilus import engines
from tests.integrations.nautilus.engines import running, until
from tests.integrations.nautilus.record import Record, rows_of, same_fields
from tests.integrations.nautilus.scripts import Script
from tests.servers import RedisServer

LEASE = "bridge:lease:LIVE-001"


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of the settings."""
    monkeypatch.setenv("BRIDGE_STATE__DIRECTORY", str(tmp_path))
    return tmp_path


def buyer() -> Script:
    return Script(*[lambda s, _: s.market(time_in_force=TimeInForce.IOC)] * 1000)


def attach(target: Any, url: str) -> NautilusRedisBridge:
    bridge = NautilusRedisBridge(url)
    bridge.attach(target)
    return bridge


async def test_a_backtest_is_journaled(redis_server, folder):
    """All of it arrives, once; its journal lies in a folder of its own, as its streams do."""
    engine = engines.make_engine(Script(*[lambda s, _: s.market()] * 5))
    record = Record(engine.kernel)
    with structlog.testing.capture_logs() as logs:
        bridge = attach(engine, redis_server.url)
    await bridge.start()
    engine.run()
    await bridge.stop()

    (said,) = [line for line in logs if line["event"] == "bridge.attached"]
    assert said["delivery"] == "exactly once"
    assert Path(said["journal"]).is_relative_to(folder)
    assert bridge.prefix.strip(":").replace(":", "-") in said["journal"]
    assert "0000000001.seg" in os.listdir(said["journal"])  # noqa: PTH208 - only names
    for kind in ("fills", "orders", "positions", "account"):
        rows = rows_of(redis_server.client, f"{bridge.prefix}exec:{kind}")
        assert same_fields(rows, record.by_kind[kind]) == record.by_kind[kind]
    engine.dispose()


async def fills_of(server: RedisServer, *, then: Callable[[], None]) -> list[dict[str, str]]:
    """Run a node with a bridge, call `then` while it trades; return its fills."""
    node = engines.make_node(buyer())
    fills = Record(node.kernel).by_kind["fills"]
    bridge = attach(node, server.url)
    await bridge.start()
    async with running(node):
        await until(lambda: len(fills) >= 3, "fills")
        then()
        before = len(fills)
        await until(lambda: len(fills) >= before + 3, "more of them")
    await bridge.stop()
    return fills


async def test_what_redis_misses_comes_later(make_redis, monkeypatch):
    """A node ends while Redis is away; the next one of its name sends the rest, each entry once."""
    monkeypatch.setenv("BRIDGE_PRODUCER__LEASE_SECONDS", "1")
    server = make_redis("--appendonly", "yes", "--appendfsync", "always")

    with monkeypatch.context() as patched:
        patched.setattr(bridge_module, "DRAIN_SECONDS_MAX", 0.5)  # nobody waits for what is away
        first = await fills_of(server, then=server.kill)
    server.start()
    await until(lambda: not server.client.exists(LEASE), "the end of a lease nobody gave back")
    assert len(rows_of(server.client, "shadow:exec:fills")) < len(first)
    expected = first + await fills_of(server, then=lambda: None)

    rows = rows_of(server.client, "shadow:exec:fills")
    assert same_fields(rows, expected) == expected
    assert [int(row["seq"]) for row in rows] == list(range(1, len(rows) + 1))
    assert len({row["producer"] for row in rows}) == 1
    assert not server.client.exists(LEASE), "given back"


async def test_one_bridge_of_a_folder(redis_server):
    """A second one on the same folder is refused, exit 73, as long as the first has it."""
    node, other = engines.make_node(), engines.make_node()
    first = attach(node, redis_server.url)
    with pytest.raises(Exit, match=r"state\.directory") as caught:
        attach(other, redis_server.url)
    assert caught.value.code == exits.TAKEN
    await first.stop()
    engines.free(other)

    third = engines.make_node()
    await attach(third, redis_server.url).stop()
    engines.free(third)
    engines.free(node)


async def test_one_bridge_of_a_name(redis_server):
    """One whose name another bridge holds does not start: exit 73."""
    other = Lease.make([LEASE], seconds=60, uuid="other")
    other.take(redis_server.client, takeover=False)
    node = engines.make_node()
    bridge = attach(node, redis_server.url)

    with pytest.raises(Exit, match=LEASE) as caught:
        await bridge.start()
    assert caught.value.code == exits.TAKEN
    await bridge.stop()
    engines.free(node)


async def test_another_takes_its_place(redis_server, monkeypatch):
    """A bridge whose lease was taken over says so, and `stop` raises it: exit 76."""
    monkeypatch.setenv("BRIDGE_PRODUCER__LEASE_SECONDS", "1")
    monkeypatch.setattr(bridge_module, "DRAIN_SECONDS_MAX", 0.5)
    node = engines.make_node(buyer())
    bridge = attach(node, redis_server.url)
    await bridge.start()
    with structlog.testing.capture_logs() as logs:
        async with running(node):
            other = Lease.make([LEASE], seconds=60, uuid="other")
            other.take(redis_server.client, takeover=True)
            await until(
                lambda: any(line["event"] == "bridge.cannot_record" for line in logs), "the failure"
            )

    with pytest.raises(Exit, match="held by another bridge") as caught:
        await bridge.stop()
    assert caught.value.code == exits.FENCED
    assert redis_server.client.get(LEASE) == other.value, "not given away"
