"""bridge/exec_shipper.py over a journal that lost something: holes are told once and passed."""

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge import exits
from bridge.exits import Exit
from bridge.segments import Segment
from tests.bridge.journal_rig import JournalRig, Session, bases
from tests.proxies import Rig, exec_entries, key, on_uvloop, until
from tests.servers import RedisServer

SMALL: dict[str, Any] = {"segment_bytes": 1 << 16}


async def fill(rig: JournalRig, server: RedisServer, count: int = 1000) -> Session:
    """Have a session publish orders into several segments of the journal."""
    async with rig.running(server.port) as session:
        for _ in range(count // 50):
            session.append("orders", 50)
            await session.drained()
    assert len(rig.segments) > 2
    return session


def texts(server: RedisServer, kind: str = "orders") -> list[str]:
    return [row["status"] for row in exec_entries(server.client, kind)]


@on_uvloop
async def test_a_hole_is_told_once_and_passed(redis_server: RedisServer, tmp_path: Path) -> None:
    """The oldest segment is gone and Redis empty: one entry says so, all behind it arrives."""
    rig = JournalRig(tmp_path, journal=SMALL)
    former = await fill(rig, redis_server)
    oldest = Segment.load(rig.segments[0])
    rig.segments[0].unlink()
    redis_server.client.flushall()
    with capture_logs() as logs:
        async with rig.running(redis_server.port) as session:
            await session.drained()
            session.append("orders", 5)
            await session.drained()
            assert session.count("exec_holes_total") == oldest.seal.ends["orders"]

    last = oldest.seal.ends["orders"]
    assert bases(redis_server.client) == [f"{key('orders')} {former.producer} 1-{last}"]
    assert texts(redis_server) == rig.appended["orders"][last:]
    found = [int(row["seq"]) for row in exec_entries(redis_server.client, "orders")]
    assert found == list(range(last + 1, 1006))
    [told] = [each for each in logs if each["event"] == "exec.hole"]
    assert (told["log_level"], told["first"], told["last"]) == ("error", 1, last)


@on_uvloop
async def test_a_hole_is_not_told_again(redis_server: RedisServer, tmp_path: Path) -> None:
    """A Redis that is flushed again gets the same telling again, not another one."""
    rig = JournalRig(tmp_path, journal=SMALL)
    await fill(rig, redis_server)
    last = Segment.load(rig.segments[0]).seal.ends["orders"]
    rig.segments[0].unlink()
    async with rig.running(redis_server.port) as session:
        for _ in range(3):
            redis_server.client.flushall()
            await until(lambda: len(texts(redis_server)) == 1000 - last)
            await session.drained()
            await until(lambda: bases(redis_server.client))

    assert len(bases(redis_server.client)) == 1


@on_uvloop
async def test_each_hole_is_told_once(redis_server: RedisServer, tmp_path: Path) -> None:
    """Two holes in one stream: each is told once, however often Redis is flushed."""
    rig = JournalRig(tmp_path, journal=SMALL)
    former = await fill(rig, redis_server)
    gone = [Segment.load(rig.segments[place]) for place in (1, 3)]
    for segment in gone:
        segment.path.unlink()
    numbers = [(each.head.seqs["orders"] + 1, each.seal.ends["orders"]) for each in gone]
    left = 1000 - sum([end - begin + 1 for begin, end in numbers])
    async with rig.running(redis_server.port) as session:
        for _ in range(3):
            redis_server.client.flushall()
            await until(lambda: len(texts(redis_server)) == left)
            await session.drained()
            await until(lambda: len(bases(redis_server.client)) >= 2)

    assert bases(redis_server.client) == [
        f"{key('orders')} {former.producer} {begin}-{end}" for begin, end in numbers
    ]


@on_uvloop
async def test_a_former_producer_has_a_hole(redis_server: RedisServer, tmp_path: Path) -> None:
    """A hole of a former producer is told by the present one, and what follows arrives."""
    rig = JournalRig(tmp_path, journal=SMALL)
    former = await fill(rig, redis_server)
    last = Segment.load(rig.segments[0]).seal.ends["orders"]
    rig.segments[0].unlink()
    redis_server.client.flushall()
    rig.producer_id = "U"
    async with rig.running(redis_server.port) as session:
        session.append("orders", 5)
        await session.drained()
        assert session.producer != former.producer

    assert bases(redis_server.client) == [f"{key('orders')} {former.producer} 1-{last}"]
    assert texts(redis_server) == rig.appended["orders"][last:]


@on_uvloop
async def test_memory_without_a_journal_has_a_hole(redis_server: RedisServer) -> None:
    """Without a journal what Redis had confirmed is nowhere else: told, and passed."""
    rig = Rig(redis_server.port)
    async with rig.running():
        rig.append("orders", 50)
        await rig.drained()
        redis_server.client.flushall()
        rig.append("orders", 5)
        await rig.drained()
        await until(lambda: bases(redis_server.client))

    assert bases(redis_server.client) == [f"{key('orders')} T.0.1 1-50"]
    assert texts(redis_server) == rig.appended["orders"][50:]


@on_uvloop
@pytest.mark.parametrize("is_present", [True, False], ids=["present", "former producer"])
async def test_a_damaged_journal_ends_the_bridge(
    redis_server: RedisServer, tmp_path: Path, is_present: bool
) -> None:
    """What must be read back from the disk cannot be: the bridge ends, and says how to mend it."""
    rig = JournalRig(tmp_path, journal=SMALL, exec={"in_flight_max": 50, "batch_entries_max": 10})
    await fill(rig, redis_server)
    rig.producer_id = "T" if is_present else "U"
    told: list[Exception] = []
    with pytest.raises(Exit) as caught:
        async with rig.running(redis_server.port) as session:
            session.lane.on_failure = told.append
            with rig.segments[1].open("r+b") as file:
                file.seek(30_000)
                file.write(b"\xff" * 100)
            redis_server.client.flushall()
            await until(session.task.done)

    assert caught.value.code == exits.BAD_DATA == 65
    assert "--repair" in str(caught.value)
    assert told == [caught.value]


@on_uvloop
async def test_a_journal_taken_away_ends_the_bridge(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """A segment that must be read back was removed while it runs: the bridge does not hang."""
    rig = JournalRig(tmp_path, journal=SMALL, exec={"in_flight_max": 50, "batch_entries_max": 10})
    await fill(rig, redis_server)
    with pytest.raises(Exit):
        async with rig.running(redis_server.port) as session:
            rig.segments[1].unlink()
            redis_server.client.flushall()
            await until(session.task.done)


@on_uvloop
async def test_retention_asks_for_former_producers_too(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """What former producers left goes when it is old, also where only a part of it is left."""
    rig = JournalRig(tmp_path, journal=SMALL | {"retain": 0})
    async with rig.running(redis_server.port) as session:
        session.append("orders", 30)
        for _ in range(6):
            session.append("fills", 50)
            await session.drained()
    former = [path for path in rig.segments if Segment.load(path).head.seqs["orders"]]
    assert former, "a segment that holds none of the orders, and begins behind them"
    for path in set(rig.segments) - set(former):
        path.unlink()
    rig.producer_id = "U"
    async with rig.running(redis_server.port) as session:
        for _ in range(30):
            session.append("fills", 20)
            await session.drained()
        await until(lambda: not any(path.exists() for path in former))


@on_uvloop
async def test_a_full_journal_starts_again(redis_server: RedisServer, tmp_path: Path) -> None:
    """A journal that is kept at its limit is no failure at the next start: Redis has it all."""
    rig = JournalRig(tmp_path, journal=SMALL | {"bytes_max": 1 << 18})
    await fill(rig, redis_server, 2000)
    for _ in range(3):
        async with rig.running(redis_server.port) as session:
            session.append("orders", 50)
            await session.drained()
            await until(lambda: not session.journal.reserve_is_due)
            assert session.journal.failure is None
        session.records.latch.clear()

    rig.check(redis_server.client)


@on_uvloop
async def test_a_session_that_lost_its_beginning(redis_server: RedisServer, tmp_path: Path) -> None:
    """Retention took the beginning of a session, and the stream was trimmed: nothing is doubled."""
    rig = JournalRig(tmp_path, journal=SMALL | {"bytes_max": 1 << 18})
    former, client = await fill(rig, redis_server, 2000), redis_server.client
    client.xtrim(key("orders"), maxlen=20, approximate=False)
    async with rig.running(redis_server.port) as session:
        session.append("orders", 5)
        await session.drained()
        assert session.producer == former.producer

    assert texts(redis_server) == rig.appended["orders"][-25:]
