"""bridge/reader.py: each entry once and in order, whatever the sink, others and the keys do."""

import os
import random
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge.reader import Reader
from bridge.reading import Dead, Item
from tests.bridge.reading import STREAMS, MemorySink, Row, put
from tests.proxies import Rig, exec_entries, key, on_uvloop, until
from tests.servers import RedisServer

KINDS = ("orders", "fills", "control")


@on_uvloop
async def test_every_entry_is_taken_once_in_order(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """What is published of every kind is taken, each entry as Redis holds it, over two sessions
    and a restart of the reader."""
    row = Row(tmp_path, redis_server)
    for _ in range(2):
        async with row.publishing() as session:
            put(session, *row.sink.kinds, count=50)
            await session.drained()
            row.read()
        row.reader = row.new_reader()

    row.sink.check(row.rig)
    for kind in row.sink.kinds:
        held = [list(each.values()) for each in exec_entries(redis_server.client, kind)]
        found = [each for each in row.sink.items if each.kind == kind]
        assert [[word.decode() for word in each.fields[1::2]] for each in found] == held
    assert (row.reader.gaps, row.reader.lag) == (0, 0)


@on_uvloop
async def test_kinds_are_merged_by_id(redis_server: RedisServer, tmp_path: Path) -> None:
    """Entries of all streams come in the order of their ids."""
    row = Row(tmp_path, redis_server, batch_entries_max=1000)
    async with row.publishing() as session:
        for kind in ("orders", "fills", "orders", "control", "fills"):
            session.append(kind)
            await session.drained()
            await until(lambda: session.publisher.unpublished["exec"] == 0)
    assert row.read() == 5

    ids = [tuple(map(int, each.id.split("-"))) for each in row.sink.items]
    assert ids == sorted(ids)
    assert row.sink.takes == 1


@on_uvloop
@pytest.mark.parametrize("when", ["before", "behind"])
async def test_a_sink_that_fails(redis_server: RedisServer, tmp_path: Path, when: str) -> None:
    """A sink that fails, before or behind its commit, loses nothing and takes nothing twice."""
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(10**6)))
    sys.stdout.write(f"SEED={seed}\n")
    chance = random.Random(seed)
    row = Row(tmp_path, redis_server)
    failed = 0

    def fail() -> None:
        nonlocal failed
        if chance.random() < 0.3:
            failed += 1
            raise OSError("no space left")

    async with row.publishing() as session:
        put(session, *KINDS, count=300)
        await session.drained()
    if when == "before":
        row.sink.on_take = fail
    else:
        row.sink.on_taken = fail
    while row.reader.is_due:
        try:
            row.reader.step()
        except OSError:
            if chance.random() < 0.5:
                row.reader.close()
                row.reader = row.new_reader()
    assert failed
    row.reader.close()
    row.sink.check(row.rig)


@on_uvloop
async def test_a_foreign_writer(redis_server: RedisServer, tmp_path: Path) -> None:
    """What others write is taken too, each once, in its place, also when the stream is read
    again."""
    row, client = Row(tmp_path, redis_server), redis_server.client
    async with row.publishing() as session:
        for number in range(20):
            put(session, "fills", count=3)
            await session.drained()
            client.xadd(key("fills"), {"n": str(number), "producer": "", "seq": "x"})
            if number % 3 == 0:
                row.read()
        row.read()
        assert row.sink.asked == []
        client.xdel(key("fills"), row.sink.places["fills"].id)
        client.xadd(key("fills"), {"n": "20"})
        row.read()
        row.read()

    row.sink.check(row.rig)
    assert [each.fields[1] for each in row.sink.foreign] == [b"%d" % n for n in range(21)]
    assert len(row.sink.asked) == 20


@on_uvloop
async def test_a_number_that_nobody_gives(redis_server: RedisServer, tmp_path: Path) -> None:
    """An entry that pretends to a number of thousands of digits is somebody else's."""
    row = Row(tmp_path, redis_server)
    tail = {"producer": "T", "seq": "9" * 5000, "jseq": "1", "v": "1"}
    redis_server.client.xadd(key("fills"), {"a": "b", **tail})
    row.read()
    assert [each.seq for each in row.sink.foreign] == [0]
    assert row.reader.gaps == 0
    row.reader.close()


@on_uvloop
async def test_a_stream_that_is_none(redis_server: RedisServer, tmp_path: Path) -> None:
    """A key of another type stops its own kind only, is told once, and is read when it is right."""
    row, client = Row(tmp_path, redis_server), redis_server.client
    with capture_logs() as logs:
        async with row.publishing() as session:
            client.set(key("orders"), "not a stream")
            put(session, "orders", "fills", count=30)
            await until(lambda: len(exec_entries(client, "fills")) == 30)
            for _ in range(5):
                row.reader.step()
            assert row.sink.texts("fills") == row.rig.appended["fills"]
            assert row.sink.texts("orders") == []
            assert "WRONGTYPE" in (row.reader.problem or "")
            client.delete(key("orders"))
            await row.until_taken()
    row.sink.check(row.rig)
    assert row.reader.problem is None
    assert [each["event"] for each in logs].count("reader.refused") == 1


@on_uvloop
async def test_two_producers_take_turns(redis_server: RedisServer) -> None:
    """Two publishers write to the same streams: each one's numbers are taken once, in order."""
    sink, rigs = MemorySink(), [Rig(redis_server.port, producer=f"{name}.0.1") for name in "AB"]
    reader = Reader(redis_server.url, sink, STREAMS, batch_entries_max=7)
    async with rigs[0].running(), rigs[1].running():
        for turn in range(20):
            rigs[turn % 2].append("fills", turn)
            await rigs[turn % 2].drained()
            reader.step()
        while reader.is_due:
            reader.step()
    reader.close()
    for rig in rigs:
        producer = rig.exec_lane.producer
        found = [each.fields[1].decode() for each in sink.items if each.producer == producer]
        assert found == rig.appended["fills"]


@on_uvloop
async def test_entries_of_a_mebibyte(redis_server: RedisServer, tmp_path: Path) -> None:
    """Large entries come too, a few at a time."""
    row, client = Row(tmp_path, redis_server, batch_entries_max=256), redis_server.client
    sizes: list[int] = []
    row.sink.on_taken = lambda: sizes.append(len(row.sink.items) - sum(sizes))
    for number in range(24):
        client.xadd(key("orders"), {"text": f"{number}" + "x" * (1 << 20)})
    row.read()
    assert len(row.sink.items) == 24
    assert sizes[1] <= 4, "behind the first page it knows how large they are"
    row.reader.close()


@on_uvloop
async def test_what_cannot_be_used_goes_to_dead(redis_server: RedisServer, tmp_path: Path) -> None:
    """A poisonous entry is published with its id and error, told once, and counts as taken."""
    row, client = Row(tmp_path, redis_server), redis_server.client
    buried: list[Dead] = []

    def is_bad(item: Item) -> bool:
        return item.kind == "fills" and item.seq % 10 == 0

    row.sink.is_bad, row.reader.on_buried = is_bad, buried.extend
    with capture_logs() as logs:
        async with row.publishing() as session:
            put(session, "orders", "fills", count=50)
            await session.drained()
            row.read()
    row.sink.check(row.rig)
    dead = [fields for _, fields in client.xrange(f"{key('fills')}:dead")]
    assert [each["seq"] for each in dead] == ["10", "20", "30", "40", "50"]
    assert {each["error"] for each in dead} == {"price: bad"}
    ids = [entry_id for entry_id, fields in client.xrange(key("fills")) if is_ten(fields)]
    assert [each["id"] for each in dead] == ids == [each.id for each in buried]
    assert row.reader.dead == 5
    assert [each["event"] for each in logs].count("reader.dead") == 1


def is_ten(fields: dict[str, str]) -> bool:
    return int(fields["seq"]) % 10 == 0
