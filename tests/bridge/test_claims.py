"""bridge/claims.py: marks that are missing, and owners that come late."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from structlog.testing import capture_logs

from bridge import exits
from bridge.core.scripts import mark_key
from bridge.exits import Exit
from tests.bridge.journal_rig import Gate, JournalRig
from tests.proxies import exec_entries, key, on_uvloop, until
from tests.servers import RedisServer

ORDERS, MARK = key("orders"), mark_key(key("orders"))
PAGES = [0, 1, 197, 198, 199, 200, 201, 1000]

type MakeRedis = Callable[..., RedisServer]


def foreign(client: redis.Redis, count: int) -> None:
    """Write what no bridge has written: some of it looks a little like it."""
    shapes = ({"n": "1"}, {"producer": "X", "seq": "9"}, {"producer": "T", "seq": "x"}, {"seq": ""})
    pipeline = client.pipeline(transaction=False)
    for number in range(count):
        pipeline.xadd(ORDERS, dict(shapes[number % len(shapes)]))
    pipeline.execute()


def texts(client: redis.Redis, producers: set[str]) -> list[str]:
    """Return the texts of these producers' orders."""
    rows = exec_entries(client, "orders")
    return [row["status"] for row in rows if row.get("producer") in producers]


def calls(client: redis.Redis, command: str) -> int:
    """Return how often the server was told a command since it started."""
    statistics = client.info("commandstats").get(f"cmdstat_{command}", {})
    return int(statistics.get("calls", 0))


# Marks from the stream.


@on_uvloop
@pytest.mark.parametrize("behind", PAGES)
async def test_a_missing_mark_is_found_in_the_stream(
    redis_server: RedisServer, tmp_path: Path, behind: int
) -> None:
    """However many foreign entries stand behind our last one, on whatever page, it is found."""
    rig, client = JournalRig(tmp_path), redis_server.client
    async with rig.running(redis_server.port) as session:
        session.append("orders", 3)
        await session.drained()
    foreign(client, behind)
    client.delete(MARK)
    async with rig.running(redis_server.port) as session:
        session.append("orders", 3)
        await session.drained()

    assert texts(client, {session.producer}) == rig.appended["orders"]
    assert client.xlen(ORDERS) == 6 + behind


@on_uvloop
@pytest.mark.parametrize("ours", [199, 200, 201, 1000])
async def test_every_producer_gets_its_mark_back(
    redis_server: RedisServer, tmp_path: Path, ours: int
) -> None:
    """The marks of former producers are found behind pages of the present one's entries."""
    rig, client, producers = JournalRig(tmp_path), redis_server.client, set()
    for name, count in (("A", 5), ("B", 7), ("C", ours)):
        rig.producer_id = name
        async with rig.running(redis_server.port) as session:
            producers.add(session.producer)
            session.append("orders", count)
            await session.drained()
            if name == "C":
                client.delete(MARK)
                await until(lambda: client.hlen(MARK) >= 4)
                session.append("orders", 1)
                await session.drained()

    assert texts(client, producers) == rig.appended["orders"]


@on_uvloop
async def test_a_mark_lost_while_the_connection_is_cut(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """The first entries of a new producer are in, nobody said so, and their mark is deleted."""
    rig, client = JournalRig(tmp_path), redis_server.client
    async with Gate(redis_server.port) as gate, rig.running(gate.port) as session:

        def cut(number: int) -> None:
            if number == 2:  # the first is in; its reply is still to be read
                session.publisher.exec.link.drop()
                client.delete(MARK)

        gate.before_batch = cut
        session.append("orders", 10)
        session.append("fills", 10)
        await session.drained()

    rig.check(client)


@on_uvloop
async def test_a_new_producer_does_not_search(make_redis: MakeRedis, tmp_path: Path) -> None:
    """Who has written nothing yet does not read through what others have written."""
    server, rig = make_redis(), JournalRig(tmp_path)
    foreign(server.client, 1000)
    async with rig.running(server.port) as session:
        session.append("orders", 3)
        await session.drained()

    assert calls(server.client, "xrevrange") == 0
    assert texts(server.client, {session.producer}) == rig.appended["orders"]


@on_uvloop
async def test_large_foreign_entries_are_read_past(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """The search for a mark comes past entries of others that are large."""
    rig, client = JournalRig(tmp_path), redis_server.client
    async with rig.running(redis_server.port) as session:
        session.append("orders", 3)
        await session.drained()
    for _ in range(250):
        client.xadd(ORDERS, {"blob": "x" * 8_000})
    client.delete(MARK)
    async with rig.running(redis_server.port, connected=False) as session:
        session.append("orders", 3)
        await session.drained()

    assert texts(client, {session.producer}) == rig.appended["orders"]


async def forgotten(rig: JournalRig, server: RedisServer) -> None:
    """Have 3 orders that neither journal nor Redis hold any more; the stream is another's."""
    async with rig.running(server.port) as session:
        session.append("orders", 3)
        session.append("fills", 500)
        await session.drained()
    rig.segments[0].unlink()  # as retention does
    server.client.flushall()
    foreign(server.client, 1000)


@on_uvloop
async def test_a_search_that_found_nothing_is_not_repeated(
    make_redis: MakeRedis, tmp_path: Path
) -> None:
    """A stream that holds none of our entries is read through once, not at every check."""
    server, rig = make_redis(), JournalRig(tmp_path, journal={"segment_bytes": 1 << 16})
    await forgotten(rig, server)
    with capture_logs() as logs:
        async with rig.running(server.port) as session:
            await until(lambda: session.publisher.exec.backlog <= 3)
            searched = calls(server.client, "xrevrange")
            evals = calls(server.client, "evalsha")
            await until(lambda: calls(server.client, "evalsha") >= evals + 24)  # three checks

    assert calls(server.client, "xrevrange") == searched
    assert len([each for each in logs if each["event"] == "exec.mark_rebuilt"]) <= 6


@on_uvloop
@pytest.mark.parametrize("others", PAGES)
async def test_a_mark_of_an_earlier_moment(
    redis_server: RedisServer, tmp_path: Path, others: int
) -> None:
    """A slot was moved by hand, the mark before its stream, and others have written since: what the
    stream holds behind the mark is not sent again."""
    rig, client = JournalRig(tmp_path), redis_server.client
    async with rig.running(redis_server.port) as session:
        session.append("orders", 5)
        await session.drained()
        earlier = client.hgetall(MARK)
        session.append("orders", 5)
        await session.drained()
        foreign(client, others)
        client.hset(MARK, session.producer, earlier[session.producer])
        session.publisher.exec.link.drop()
        session.append("orders", 5)
        await session.drained()

    assert texts(client, {session.producer}) == rig.appended["orders"]


@on_uvloop
async def test_what_others_wrote_is_looked_at_once(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """A stream into which others write is asked about each second, not read each second."""
    rig, client = JournalRig(tmp_path), redis_server.client
    async with rig.running(redis_server.port) as session:
        session.append("orders", 5)
        await session.drained()
        foreign(client, 500)
        before = calls(client, "xrevrange")
        for looks in (True, False):
            claimed = calls(client, "evalsha")
            await until(lambda claimed=claimed: calls(client, "evalsha") >= claimed + 12)
            assert (calls(client, "xrevrange") > before) == looks
            before = calls(client, "xrevrange")


@on_uvloop
async def test_what_is_nowhere_is_no_backlog(make_redis: MakeRedis, tmp_path: Path) -> None:
    """Numbers that the journal no longer holds cannot be sent: they do not keep an end waiting."""
    server, rig = make_redis(), JournalRig(tmp_path, journal={"segment_bytes": 1 << 16})
    await forgotten(rig, server)
    async with rig.running(server.port) as session:
        await until(lambda: session.publisher.exec.backlog <= 3)
        assert await session.publisher.drain(3.0), session.publisher.unpublished


# Owners.


@on_uvloop
async def test_each_connection_has_its_own_token(redis_server: RedisServer, tmp_path: Path) -> None:
    """A new connection owns the streams under a new token."""
    rig, client, tokens = JournalRig(tmp_path), redis_server.client, set()
    async with rig.running(redis_server.port) as session:
        for connects in range(1, 4):
            await until(lambda connects=connects: session.publisher.exec.link.connects == connects)
            tokens.add(client.hget(MARK, "owner:T"))
            session.publisher.exec.link.drop()
            await until(lambda: not session.publisher.exec.link.is_up)

    assert len(tokens) == 3
    assert None not in tokens


@on_uvloop
async def test_a_late_batch_is_fenced(redis_server: RedisServer, tmp_path: Path) -> None:
    """What an older connection still had on its way comes behind a newer one: refused."""
    rig = JournalRig(tmp_path)
    async with Gate(redis_server.port) as gate, rig.running(gate.port) as session:
        session.append("orders", 5)
        await session.drained()
        late, gate.flow = gate.flow, asyncio.Event()
        late.clear()
        gate.flow, passing = late, gate.flow
        session.append("orders", 5)
        await until(lambda: gate.held)
        gate.flow = passing
        passing.set()
        session.publisher.exec.link.drop()
        await session.drained()
        session.append("orders", 5)
        await session.drained()
        late.set()
        await until(lambda: any("FENCED" in str(reply) for reply in gate.replies))
        session.append("orders", 5)
        await session.drained()

    rig.check(redis_server.client)


@on_uvloop
async def test_numbers_that_were_never_given_end_the_bridge(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """A mark beyond our numbers, while we run: somebody uses a copy of the journal."""
    rig, client = JournalRig(tmp_path), redis_server.client
    with pytest.raises(Exit) as caught:
        async with rig.running(redis_server.port) as session:
            session.append("orders", 5)
            await session.drained()
            _, entry_id, added = client.hget(MARK, session.producer).split()
            client.hset(MARK, session.producer, f"6 {entry_id} {added}")
            await until(session.task.done)

    assert caught.value.code == exits.FENCED
    assert session.producer in str(caught.value)
