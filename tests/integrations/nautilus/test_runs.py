"""Attaching beyond the plain case: runs after a reset, two bridges, too late, broken events."""

from typing import Any

import pytest
from nautilus_trader.model.enums import TimeInForce

from integrations.nautilus.bridge import NautilusRedisBridge
from tests.integrations.nautilus import engines
from tests.integrations.nautilus.engines import running, until
from tests.integrations.nautilus.record import rows_of
from tests.integrations.nautilus.scripts import Script, Step


class Broken:
    """An event that is none, and cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


def market_buys(count: int) -> list[Step]:
    return [lambda s, _: s.market(time_in_force=TimeInForce.IOC)] * count


def attach(target: Any, url: str | None = None) -> NautilusRedisBridge:
    bridge = NautilusRedisBridge(url)
    bridge.attach(target)
    return bridge


async def test_a_reset_engine_begins_another_run(redis_server):
    """Nautilus's ids come again after a reset; fill_id tells the runs apart, and only them."""
    script = Script(*market_buys(3))
    engine = engines.make_engine(script)
    bridge = attach(engine, redis_server.url)
    await bridge.start()

    for _ in range(3):
        engine.run()
        engine.reset()
        script.left, script._seen = market_buys(3), 0
    await bridge.stop()

    fills = rows_of(redis_server.client, f"{bridge.prefix}exec:fills")
    ids = [row["fill_id"] for row in fills]
    runs = [each.rpartition("|")[2] for each in ids]
    assert len(ids) == len(set(ids)) == 9
    assert len({row["cl_ord_id"] for row in fills}) == 3, "the ids did not come again"
    assert runs == [runs[0]] * 3 + [runs[3]] * 3 + [runs[6]] * 3
    assert runs[0] == engine.kernel.instance_id.value
    positions = rows_of(redis_server.client, f"{bridge.prefix}exec:positions")
    assert [row["status"] for row in positions] == ["opened", "changed", "changed"] * 3
    engine.dispose()


async def test_two_bridges_on_one_node(redis_server):
    """Each publishes every fill under a producer of its own, with equal fill_ids."""
    node = engines.make_node(Script(*market_buys(3)))
    bridges = [attach(node, redis_server.url), attach(node, redis_server.url)]
    for bridge in bridges:
        await bridge.start()

    async with running(node):
        await until(lambda: node.cache.orders_closed_count() == 3, "three fills")
    for bridge in bridges:
        await bridge.stop()
        assert bridge.unpublished == {"exec": 0, "market": 0}

    by_producer: dict[str, list[str]] = {}
    for row in rows_of(redis_server.client, "shadow:exec:fills"):
        by_producer.setdefault(row["producer"], []).append(row["fill_id"])
    first, second = by_producer.values()
    assert first == second
    assert len(set(first)) == 3


async def test_attach_after_start_is_refused():
    """It has missed what reconciliation said: refused, and nothing of it stays on the bus."""
    node = engines.make_node()
    bridge = NautilusRedisBridge()
    async with running(node):
        before = len(node.kernel.msgbus.subscriptions()), len(node.trader.actors())

        with pytest.raises(RuntimeError, match="runs already"):
            bridge.attach(node)

        after = len(node.kernel.msgbus.subscriptions()), len(node.trader.actors())
        assert after == before
    assert bridge.unpublished == {}


async def test_an_actor_that_is_refused_leaves_no_tap(monkeypatch):
    """What Nautilus refuses is raised before anything of the bridge listens."""
    node = engines.make_node()
    before = len(node.kernel.msgbus.subscriptions())

    def refuse(_: Any) -> None:
        raise RuntimeError("not now")

    with monkeypatch.context() as patched:
        patched.setattr(type(node.trader), "add_actor", lambda _, actor: refuse(actor))
        bridge = NautilusRedisBridge()
        with pytest.raises(RuntimeError, match="not now"):
            bridge.attach(node)

    assert len(node.kernel.msgbus.subscriptions()) == before
    bridge.attach(node)
    engines.free(node)


async def test_start_after_stop_is_refused(redis_server):
    """Its tap is gone: it would publish nothing, and say that all is well."""
    engine = engines.make_engine()
    bridge = attach(engine, redis_server.url)
    await bridge.start()
    await bridge.stop()

    with pytest.raises(RuntimeError, match="make another one"):
        await bridge.start()
    engine.dispose()


@pytest.mark.parametrize("event", [Broken(), None, 5], ids=["no repr", "None", "number"])
async def test_no_event_raises_into_the_bus(redis_server, event):
    """Whatever our subscriptions are given is refused and counted, once a topic.

    They are called as the bus does, one by one: Nautilus's own ones raise.
    """
    engine = engines.make_engine()
    bridge = attach(engine, redis_server.url)
    await bridge.start()

    topics = [topic for topic, _ in bridge._tap._subscriptions]
    for _, handler in bridge._tap._subscriptions:
        handler(event)
    await bridge.stop()

    refused = sum(counter._value.get() for counter in bridge.metrics.events_refused.values())
    assert "data.index_prices.*" in topics
    assert refused == len([topic for topic in topics if topic.endswith("*")]) == 9
    assert bridge.unpublished == {"exec": 0, "market": 0}
    engine.dispose()
