"""bridge/exec_shipper.py over a journal: each entry once and in order, whatever strikes Redis."""

from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from bridge.core.scripts import mark_key
from tests.bridge.journal_rig import Gate, JournalRig
from tests.proxies import Proxy, exec_entries, key, on_uvloop, until
from tests.servers import RedisServer

KINDS = ("orders", "fills", "control")
STRIKES: dict[str, Callable[[redis.Redis], object]] = {
    "FLUSHALL": lambda client: client.flushall(),
    "DEL of a stream": lambda client: client.delete(key("orders")),
    "DEL of a mark": lambda client: client.delete(mark_key(key("orders"))),
    "DEL of both": lambda client: client.delete(key("orders"), mark_key(key("orders"))),
    "SCRIPT FLUSH": lambda client: client.script_flush(),
    "all of it": lambda client: [client.flushall(), client.script_flush()],
}
strikes = pytest.mark.parametrize("strike", STRIKES.values(), ids=STRIKES)


@on_uvloop
@pytest.mark.parametrize("fsync", ["always", "group", "never"])
async def test_entries_arrive_once_in_order(
    redis_server: RedisServer, tmp_path: Path, fsync: str
) -> None:
    """What is appended to each stream is there once, in order, in all sessions."""
    rig = JournalRig(tmp_path, journal={"fsync": fsync, "segment_bytes": 1 << 16})
    for _ in range(3):
        async with rig.running(redis_server.port) as session:
            for kind in KINDS * 20:
                session.append(kind, 7)
            await session.drained()
            assert session.publisher.unpublished["exec"] == 0
            assert session.publisher.exec.in_flight == 0

    rig.check(redis_server.client)
    assert {row["producer"] for row in exec_entries(redis_server.client, "fills")} == {
        session.producer
    }


@on_uvloop
@strikes
@pytest.mark.parametrize("place", [2, 4])
async def test_a_strike_between_batches_in_flight(
    redis_server: RedisServer, tmp_path: Path, strike: Callable[[redis.Redis], object], place: int
) -> None:
    """Redis loses something between two batches in flight: nothing is lost or doubled by it."""
    rig, in_flight = JournalRig(tmp_path), []
    async with Gate(redis_server.port) as gate, rig.running(gate.port) as session:
        session.append("orders", 25)
        session.append("fills", 25)
        await session.drained()
        struck = gate.batches + place

        def before(number: int) -> None:
            if number == struck:
                in_flight.append(session.publisher.exec.in_flight)
                strike(redis_server.client)

        gate.before_batch = before
        session.append("orders", 100)
        await until(lambda: in_flight)
        session.append("fills", 10)
        await session.drained()
        await until(lambda: len(exec_entries(redis_server.client, "fills")) == 35)

    assert in_flight[0] > 10, "more than one batch was in flight"
    rig.check(redis_server.client)


@on_uvloop
@strikes
async def test_a_strike_on_idle_streams(
    redis_server: RedisServer, tmp_path: Path, strike: Callable[[redis.Redis], object]
) -> None:
    """Nothing is appended any more: what Redis lost comes again by itself."""
    rig, client = JournalRig(tmp_path), redis_server.client
    async with rig.running(redis_server.port) as session:
        for kind in KINDS:
            session.append(kind, 35)
        await session.drained()
        strike(client)
        marks = [mark_key(key(kind)) for kind in KINDS]
        await until(
            lambda: (
                all(len(exec_entries(client, kind)) == 35 for kind in KINDS)
                and all(client.hexists(mark, session.producer) for mark in marks)
            )
        )
        await until(lambda: session.publisher.unpublished["exec"] == 0)
        session.append("orders", 5)
        await session.drained()
        assert session.publisher.problem is None

    rig.check(client)


@on_uvloop
@pytest.mark.parametrize("after", [0, 2, 9])
async def test_a_reply_that_never_comes(
    redis_server: RedisServer, tmp_path: Path, after: int
) -> None:
    """The connection is cut in the middle of the replies: what was done is not done again."""
    rig = JournalRig(tmp_path)
    async with Proxy(redis_server.port) as proxy, rig.running(proxy.port) as session:
        for _ in range(5):
            await until(lambda: session.publisher.problem is None)
            proxy.hold_replies()
            session.append("orders", 100)
            session.append("fills", 100)
            await until(lambda: session.publisher.exec.in_flight >= 100)
            proxy.cut_next_reply(after)
            proxy.release_replies()
            await until(lambda: not proxy.is_armed)
        await session.drained()

    rig.check(redis_server.client)


@on_uvloop
async def test_a_batch_that_never_arrives(redis_server: RedisServer, tmp_path: Path) -> None:
    """The connection is cut while batches are on their way: they go again, in order."""
    rig = JournalRig(tmp_path)
    async with Proxy(redis_server.port) as proxy, rig.running(proxy.port) as session:
        for _ in range(20):
            session.append("orders", 40)
            await until(lambda: session.publisher.exec.in_flight or not session.lane.backlog)
            proxy.cut()
        await session.drained()

    rig.check(redis_server.client)


@on_uvloop
async def test_more_than_memory_holds(redis_server: RedisServer, tmp_path: Path) -> None:
    """While Redis is away memory keeps `exec.in_flight_max`; the rest comes from the disk."""
    rig = JournalRig(tmp_path, exec={"in_flight_max": 32, "batch_entries_max": 10})
    async with Proxy(redis_server.port) as proxy, rig.running(proxy.port) as session:
        session.append("orders", 5)
        await session.drained()
        port, proxy.upstream_port = proxy.upstream_port, 1
        proxy.cut()
        await until(lambda: session.publisher.problem)
        for _ in range(100):
            session.append("orders", 10)
            session.append("fills", 3)
        assert session.publisher.unpublished["exec"] == 1300
        assert max(len(each.window) for each in session.lane.streams.values()) == 32
        proxy.upstream_port = port
        await until(lambda: len(exec_entries(redis_server.client, "orders")) > 100)
        session.append("orders", 10)
        await session.drained()

    rig.check(redis_server.client)


@on_uvloop
async def test_former_producers_come_first(redis_server: RedisServer, tmp_path: Path) -> None:
    """What former producers left goes before what the present one has, in their order."""
    rig = JournalRig(tmp_path)
    producers = []
    for name in ("A", "B", "A", "C"):
        rig.producer_id = name
        producers.append(rig.offline(lambda each: [each.append(kind, 25) for kind in KINDS]))
    rig.producer_id = "D"
    async with rig.running(redis_server.port) as session:
        session.append("orders", 25)
        await session.drained()
        producers.append(session.producer)

    rig.check(redis_server.client)
    found = [row["producer"] for row in exec_entries(redis_server.client, "orders")]
    assert list(dict.fromkeys(found)) == producers
    assert len(set(producers)) == 5


@on_uvloop
async def test_the_backlog_holds_former_producers(tmp_path: Path) -> None:
    """What former producers left counts as unpublished, also while there is no Redis yet."""
    rig = JournalRig(tmp_path)
    rig.offline(lambda each: each.append("orders", 25))
    rig.producer_id = "U"
    async with rig.running(1, connected=False) as session:
        session.append("fills", 5)

        assert session.publisher.unpublished["exec"] == 30
        assert not await session.publisher.drain(0.01)


@on_uvloop
async def test_a_flushed_redis_gets_former_producers_again(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """A Redis that forgot everything gets all that the journal holds, in the old order."""
    rig = JournalRig(tmp_path)
    for name in ("A", "B"):
        rig.producer_id = name
        async with rig.running(redis_server.port) as session:
            session.append("orders", 25)
            await session.drained()
            if name == "B":
                redis_server.client.flushall()
                await until(lambda: len(exec_entries(redis_server.client, "orders")) == 50)
                session.append("orders", 1)
                await session.drained()

    rig.check(redis_server.client)


@on_uvloop
async def test_former_producers_come_first_into_an_empty_stream(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """A stream is deleted before the present producer wrote to it: the former ones go first."""
    rig, client = JournalRig(tmp_path), redis_server.client
    async with rig.running(redis_server.port) as session:
        session.append("orders", 25)
        await session.drained()
    rig.producer_id = "U"
    async with rig.running(redis_server.port) as session:
        session.append("fills", 5)
        await session.drained()
        client.delete(key("orders"))
        session.append("orders", 5)
        await session.drained()
        await until(lambda: len(exec_entries(client, "orders")) == 30)

    rig.check(client)


@on_uvloop
async def test_entries_of_another_width(redis_server: RedisServer, tmp_path: Path) -> None:
    """Entries with more or fewer fields, of another contract, arrive as they were, in order."""
    rig = JournalRig(tmp_path)
    rows = [
        ("orders", {f"f{number}": str(seq) for number in range(1 + seq // 7 % 3)})
        for seq in range(60)
    ]
    rig.write(rows)
    async with rig.running(redis_server.port) as session:
        session.append("orders", 5)
        await session.drained()

    found = exec_entries(redis_server.client, "orders")
    tail = ("producer", "seq", "jseq", "v")
    assert [int(row["seq"]) for row in found] == list(range(1, 66))
    assert [{k: v for k, v in row.items() if k not in tail} for row in found[:60]] == [
        fields for _, fields in rows
    ]
    assert [row["status"] for row in found[60:]] == rig.appended["orders"]
