"""bridge/reader.py beside a Redis that forgets: flushed, deleted, set back, promoted, storms."""

import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from bridge.core.scripts import mark_key
from tests.bridge.reading import Row, put
from tests.proxies import exec_entries, key, on_uvloop, until
from tests.servers import RedisServer

STRIKES: dict[str, Callable[[redis.Redis], object]] = {
    "FLUSHALL": lambda client: client.flushall(),
    "DEL of a stream": lambda client: client.delete(key("orders")),
    "DEL of stream and mark": lambda client: client.delete(key("orders"), mark_key(key("orders"))),
    "XDEL of the last entry": lambda client: client.xdel(key("orders"), last_id(client)),
}


def last_id(client: redis.Redis) -> str:
    return next((entry_id for entry_id, _ in client.xrevrange(key("orders"), count=1)), "0-1")


@on_uvloop
@pytest.mark.parametrize("strike", STRIKES.values(), ids=STRIKES)
@pytest.mark.parametrize("behind", [0, 25], ids=["read", "not read"])
async def test_a_strike(
    redis_server: RedisServer,
    tmp_path: Path,
    strike: Callable[[redis.Redis], object],
    behind: int,
) -> None:
    """Redis loses something, all read or not: what is shipped again is not taken again, what was
    not read is taken, and what follows too."""
    row = Row(tmp_path, redis_server)
    async with row.publishing() as session:
        put(session, "orders", "fills", count=60)
        await session.drained()
        row.read()
        place = row.sink.places["orders"].id
        put(session, "orders", "fills", count=behind)
        await session.drained()
        strike(redis_server.client)
        put(session, "orders", "fills", count=10)
        await row.until_taken()
        await session.drained()
        row.read()
    row.sink.check(row.rig)
    assert row.sink.places["orders"].id != place
    assert row.reader.gaps == 0


@on_uvloop
@pytest.mark.parametrize("seconds_ahead", [0, 60], ids=["older dump", "clock a minute behind"])
async def test_an_older_dump(
    make_redis: Callable[..., RedisServer], tmp_path: Path, seconds_ahead: int
) -> None:
    """Redis comes back with an older state, its clock behind that of the former one: the ids are
    lower than the place, and every entry is taken once, in order."""
    server = make_redis()
    row, dump = Row(tmp_path, server), tmp_path / "dump"
    async with row.publishing() as session:
        put(session, "orders", "fills", count=40)
        await session.drained()
        server.client.save()
        shutil.copy(server.folder / "dump.rdb", dump)
        if seconds_ahead:
            top = f"{int((time.time() + seconds_ahead) * 1000)}-0"
            for kind in ("orders", "fills"):
                server.client.execute_command("XSETID", key(kind), top)
        put(session, "orders", "fills", count=40)
        await session.drained()
        row.read()
        place = row.sink.places["orders"].id
        server.kill()
        shutil.copy(dump, server.folder / "dump.rdb")
        server.start()
        put(session, "orders", "fills", count=40)
        await session.drained()
        last = last_id(server.client)
        row.reader.close()
        row.read()
        row.read()
        assert [int(each["seq"]) for each in exec_entries(server.client, "orders")] == list(
            range(1, 121)
        )
    assert (int(last.split("-")[0]) < int(place.split("-")[0])) == bool(seconds_ahead)
    row.sink.check(row.rig)
    assert row.sink.places["orders"].id == last


@on_uvloop
async def test_foreign_entries_in_a_rewound_stream(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """A stream that is put back as it was holds others' entries under their ids: not taken again,
    also when the sink fails in the middle of the second reading."""
    row, client = Row(tmp_path, redis_server), redis_server.client
    async with row.publishing() as session:
        for number in range(40):
            put(session, "orders")
            await session.drained()
            client.xadd(key("orders"), {"n": str(number)})
        row.read()
    kept = redis_server.new_client(decode_responses=False)
    dump = kept.dump(key("orders"))
    client.delete(key("orders"))
    row.read()
    assert dump is not None
    kept.restore(key("orders"), 0, dump)
    client.xdel(key("orders"), row.sink.places["orders"].id)
    client.xadd(key("orders"), {"n": "40"})

    def fail() -> None:
        raise OSError("killed")

    row.reader.step()
    row.sink.on_take = fail
    with pytest.raises(OSError, match="killed"):
        row.read()
    row.sink.on_take = lambda: None
    row.read()
    row.reader.close()

    row.sink.check(row.rig)
    assert [each.fields[1] for each in row.sink.foreign] == [b"%d" % n for n in range(41)]


@on_uvloop
async def test_a_storm(redis_server: RedisServer, tmp_path: Path) -> None:
    """Strikes, trims, restarts of the reader and failures of the sink in any order: every entry is
    taken once, and there is no gap."""
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(10**6)))
    sys.stdout.write(f"SEED={seed}\n")
    chance = random.Random(seed)
    row, client = Row(tmp_path, redis_server, batch_entries_max=8), redis_server.client

    def fail_sometimes() -> None:
        if chance.random() < 0.2:
            raise OSError("no space left")

    row.sink.on_take = row.sink.on_taken = fail_sometimes
    async with row.publishing() as session:
        for _ in range(80):
            match chance.randrange(7):
                case 0:
                    if client.exists(key("orders")):
                        chance.choice(list(STRIKES.values()))(client)
                case 1:
                    client.xtrim(key("orders"), maxlen=chance.randrange(5), approximate=False)
                case 2:
                    row.reader.close()
                    row.reader = row.new_reader()
                case 3:
                    await session.drained()
                case _:
                    put(session, "orders", "fills", count=chance.randrange(30))
            for _ in range(chance.randrange(4)):
                read(row)
        row.sink.on_take = row.sink.on_taken = lambda: None
        await session.drained()
        await row.until_taken()

    for kind in ("orders", "fills"):
        assert sorted(row.sink.texts(kind), key=number) == row.rig.appended[kind]
    assert row.reader.gaps == 0


def read(row: Row) -> None:
    try:
        row.reader.step()
    except OSError:
        return


def number(text: str) -> int:
    return int(text.split()[1])


@on_uvloop
async def test_an_idle_stream_that_is_deleted(redis_server: RedisServer, tmp_path: Path) -> None:
    """Nothing follows: what is shipped again by itself is not taken again, and read through."""
    row, client = Row(tmp_path, redis_server), redis_server.client
    async with row.publishing() as session:
        put(session, "orders", count=48)  # whole pages: the last one is empty
        await session.drained()
        row.read()
        client.flushall()
        row.read()
        await until(lambda: len(exec_entries(client, "orders")) == 48)
        assert row.read() == 0
    row.sink.check(row.rig)
    assert row.sink.places["orders"].id == last_id(client)
