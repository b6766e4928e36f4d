"""bridge/reader.py and what Redis has no more: filled from histories, in order, or counted."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from structlog.testing import capture_logs

from bridge import reader
from bridge.core.scripts import mark_key
from bridge.reader import Reader
from bridge.reading import Item, item_of
from bridge.segments import Segment
from tests.bridge.reading import STREAMS, MemorySink, Row, put
from tests.bridge.test_exec_journal_holes import SMALL, fill
from tests.proxies import key, on_uvloop, until
from tests.servers import RedisServer


class Shelf:
    """A history in memory. `asked` are the numbers that were looked for."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.asked: list[tuple[str, int, int]] = []

    def find(self, kind: str, producer: str, first: int, last: int) -> Iterator[Item]:
        self.asked.append((kind, first, last))
        for item in self.items:
            if (item.kind, item.producer) == (kind, producer) and first <= item.seq <= last:
                yield item._replace(id="")


def _numbered(producer: str, seq: int) -> list[bytes]:
    tail = {"n": "x", "producer": producer, "seq": str(seq), "jseq": str(seq), "v": "1"}
    return [text.encode() for pair in tail.items() for text in pair]


@on_uvloop
@pytest.mark.parametrize("left", [7, 0], ids=["trimmed", "trimmed to nothing"])
@pytest.mark.parametrize("following", [0, 5], ids=["nothing follows", "more follows"])
async def test_a_stream_trimmed_while_away(
    redis_server: RedisServer, tmp_path: Path, left: int, following: int
) -> None:
    """What was trimmed before it was read comes from the journal, in its place."""
    row, client = Row(tmp_path, redis_server, journal=SMALL), redis_server.client
    async with row.publishing() as session:
        put(session, "orders", "fills", count=20)
        await session.drained()
        row.read()
        for _ in range(20):
            put(session, "orders", "fills", count=30)
            await session.drained()
        client.xtrim(key("orders"), maxlen=left, approximate=False)
        put(session, "orders", count=following)
        await session.drained()
        row.read()
        assert row.reader.lag == 0
    row.sink.check(row.rig)
    assert row.reader.gaps == 0


@on_uvloop
async def test_a_new_sink_reads_a_trimmed_stream(redis_server: RedisServer, tmp_path: Path) -> None:
    """A sink that begins late gets what was trimmed long ago from the journal first."""
    row = Row(tmp_path, redis_server)
    async with row.publishing() as session:
        put(session, "orders", count=100)
        await session.drained()
        redis_server.client.xtrim(key("orders"), maxlen=10, approximate=False)
        row.read()
    row.sink.check(row.rig)
    assert [bool(each.id) for each in row.sink.items] == [False] * 90 + [True] * 10


@on_uvloop
async def test_a_gap_is_counted_once(redis_server: RedisServer, tmp_path: Path) -> None:
    """What no history has is counted and told once, by numbers, and does not stop what follows."""
    row, client = Row(tmp_path, redis_server, histories=[]), redis_server.client
    with capture_logs() as logs:
        async with row.publishing() as session:
            put(session, "orders", count=10)
            await session.drained()
            row.read()
            put(session, "orders", count=30)
            await session.drained()
            client.xtrim(key("orders"), maxlen=0, approximate=False)
            row.read()
            assert row.reader.gaps == 30
            client.client_kill_filter(_type="normal", skipme=True)
            with contextlib.suppress(redis.RedisError):
                row.reader.step()
            row.read()
            assert row.reader.gaps == 30
            put(session, "orders", count=5)
            await session.drained()
            for _ in range(3):
                row.read()
            assert row.reader.gaps == 30
    row.reader.close()
    assert row.sink.seqs("orders") == [*range(1, 11), *range(41, 46)]
    gaps = [each for each in logs if each["event"] == "reader.gap"]
    assert [(each["first"], each["last"]) for each in gaps] == [(11, 40)]


@on_uvloop
async def test_a_gap_that_comes_after_all(redis_server: RedisServer, tmp_path: Path) -> None:
    """A stream that is shipped again brings what was missing: it is taken, and is a gap no more."""
    row, client = Row(tmp_path, redis_server, histories=[]), redis_server.client
    async with row.publishing() as session:
        put(session, "orders", count=50)
        await session.drained()
        client.xtrim(key("orders"), maxlen=10, approximate=False)
        row.read()
        assert (row.reader.gaps, row.sink.seqs("orders")) == (40, list(range(41, 51)))
        client.flushall()
        await until(lambda: client.xlen(key("orders")) == 50)
        row.read()
        assert row.reader.gaps == 0
    assert row.sink.seqs("orders") == [*range(41, 51), *range(1, 41)]


@on_uvloop
async def test_a_history_that_has_it_later(redis_server: RedisServer, tmp_path: Path) -> None:
    """A restarted reader looks for its gaps again, once a minute, and in every history."""
    first, second = Shelf(), Shelf()
    row = Row(tmp_path, redis_server, histories=[first, second])
    journal = Row(tmp_path, redis_server).histories[0]
    async with row.publishing() as session:
        put(session, "orders", count=50)
        await session.drained()
        redis_server.client.xtrim(key("orders"), maxlen=10, approximate=False)
        row.read()
        row.read()
        assert first.asked == second.asked
        asked = len(first.asked)
        kept = list(journal.find("orders", session.producer, 1, 50))
    assert row.reader.gaps == 40
    first.items, second.items = kept[:25], kept[20:38]
    row.read()
    assert len(first.asked) == asked, "not asked again at each step"
    row.reader = row.new_reader()
    row.read()
    assert row.sink.seqs("orders") == [*range(41, 51), *range(1, 39)]
    assert row.reader.gaps == 2
    row.reader.close()


def test_a_long_search(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search that takes too long goes on in the next step, behind what was looked for; and it is
    a minute from its end to the next one."""
    shelf = Shelf()
    row = Row(tmp_path, redis_server, histories=[shelf])
    for kind in ("orders", "fills"):
        for seq in range(2, 9, 2):
            row.sink.taken[kind, "P"].add(seq)
    row.reader.elsewhere = lambda: {("fills", "Q"): 5, ("fills", "P"): 8}
    found = item_of("fills", "", _numbered("P", 3))
    monkeypatch.setattr(reader, "SEARCH_SECONDS_MAX", 0.0)
    holes = [
        *[("fills", seq, seq) for seq in (1, 3, 5, 7)],
        ("fills", 1, 5),
        *[("orders", seq, seq) for seq in (1, 3, 5, 7)],
    ]
    for count in range(1, len(holes) + 1):
        row.reader.step()
        assert shelf.asked == holes[:count]
        shelf.items = [found]
    for _ in range(3):
        row.reader.step()
    assert shelf.asked == holes
    assert row.sink.seqs("fills") == [3]
    assert row.reader.gaps == 3 + 5 + 4
    monkeypatch.setattr(reader, "GAP_SECONDS", 0.0)
    row.reader = row.new_reader()
    for _ in range(2 * len(holes)):
        row.reader.step()
    left = [hole for hole in holes if hole not in (("fills", 3, 3), ("fills", 1, 5))]
    assert shelf.asked[len(holes) :][: 2 * len(left)] == 2 * left
    row.reader.close()


@on_uvloop
async def test_many_small_gaps(redis_server: RedisServer, tmp_path: Path) -> None:
    """Entries that were deleted one by one come from the journal, each in its place."""
    row, client = Row(tmp_path, redis_server, batch_entries_max=64), redis_server.client
    async with row.publishing() as session:
        put(session, "orders", "fills", count=300)
        await session.drained()
        client.xdel(key("orders"), *[entry_id for entry_id, _ in client.xrange(key("orders"))[::3]])
        row.read()
    row.sink.check(row.rig)
    assert row.sink.seqs("orders") == list(range(1, 301))


@on_uvloop
async def test_a_base_hole(redis_server: RedisServer, tmp_path: Path) -> None:
    """The journal lost its oldest segment and Redis everything: those numbers are the gap."""
    row = Row(tmp_path, redis_server, journal=SMALL)
    await fill(row.rig, redis_server)
    last = Segment.load(row.rig.segments[0]).seal.ends["orders"]
    row.rig.segments[0].unlink()
    redis_server.client.flushall()
    async with row.publishing() as session:
        await session.drained()
        with capture_logs() as logs:
            row.read()
    gaps = [each for each in logs if each["event"] == "reader.gap"]
    assert [(each["first"], each["last"]) for each in gaps] == [(1, last)]
    assert row.sink.seqs("orders") == list(range(last + 1, 1001))
    assert row.reader.gaps == last


@on_uvloop
async def test_a_renumbered_producer(redis_server: RedisServer, tmp_path: Path) -> None:
    """Two copies of a journal gave the same numbers: each entry is taken once, under the name that
    it was published with, and the journal does not give the numbers that were given anew."""
    row, client = Row(tmp_path, redis_server), redis_server.client
    async with row.publishing() as session:
        put(session, "orders", count=20)
        await session.drained()
        row.read()
        former = session.producer
    saved = {path: path.read_bytes() for path in row.rig.segments}
    async with row.publishing() as session:
        put(session, "orders", count=20)
        await session.drained()
    other = row.rig.appended["orders"][20:]
    for path in row.rig.segments:
        path.unlink()
    for path, data in saved.items():
        path.write_bytes(data)
    row.rig.appended["orders"] = [f"orders {number}" for number in range(100, 120)]
    row.rig.offline(lambda session: put(session, "orders", count=20))
    client.xtrim(key("orders"), maxlen=0, approximate=False)
    row.read()
    assert row.reader.gaps == 20, "unclaimed numbers are not taken for those Redis had"
    async with row.publishing() as session:
        await session.drained()
        row.read()
        assert session.producer != former
    taken = [each for each in row.sink.items if each.producer == session.producer]
    assert [each.fields[1].decode() for each in taken] == row.rig.appended["orders"][20:]
    assert len(other) == row.reader.gaps == 20


@on_uvloop
async def test_what_others_copy(redis_server: RedisServer) -> None:
    """Somebody copies our entries, some twice: each number is taken once, and only what is missing
    below another is a gap. The tokens of who may write are no numbers."""
    sink, client = MemorySink(), redis_server.client
    client.hset(mark_key(key("orders")), "owner:T", "1234567890123456")
    client.hset(mark_key(key("fills")), "owner:T", "12345678")
    for number in (1, 2, 2, 5, 1, 5, 4):
        tail = {"producer": "P", "seq": str(number), "jseq": str(number), "v": "1"}
        client.xadd(key("orders"), {"n": "x", **tail})
    reader = Reader(redis_server.url, sink, STREAMS)
    reader.step()
    reader.close()
    assert (sink.seqs("orders"), reader.gaps) == ([1, 2, 5, 4], 1)
