"""bridge/history.py: the journal's entries as Redis holds them, beside whoever writes there."""

import random
import threading
from pathlib import Path

import pytest

from bridge.core import contract
from bridge.core.contract import EXEC_KINDS, STREAMS
from bridge.history import JournalHistory
from bridge.journal import Journal, Limits
from bridge.reading import Item, digest_of, item_of
from bridge.segments import Segment
from tests.bridge.journal_rig import JournalRig
from tests.bridge.journals import (
    LIMITS,
    erase,
    flip,
    killed,
    opened,
    records_of,
    restore,
    snapshot,
)
from tests.bridge.reading import STREAMS as KEYS
from tests.bridge.reading import put
from tests.proxies import on_uvloop
from tests.servers import RedisServer

PRODUCER = "A"


def add(journal: Journal, count: int, kind: str = "orders") -> None:
    """Append so many entries of one field, which tells their number."""
    for _ in range(count):
        seq = journal.seqs[kind] + 1
        text = b"%s %d" % (kind.encode(), seq)
        payload = b"$1\r\nn\r\n$%d\r\n%s\r\n" % (len(text), text)
        journal.append(EXEC_KINDS.index(kind), seq, journal.jseq + 1, 2, b"", payload)


def seqs(items: object) -> list[int]:
    return [item.seq for item in items]  # type: ignore[attr-defined]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """A claimed journal of 1,000 orders and 500 fills in several segments, still open."""
    journal = opened(tmp_path)
    journal.claim()
    for _ in range(100):
        add(journal, 10)
        add(journal, 5, "fills")
    assert len(journal.segments) > 4
    return journal


@on_uvloop
async def test_entries_are_those_that_redis_holds(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """Every entry of every kind has the fields, and the digest, that it has in Redis."""
    rig = JournalRig(tmp_path, journal={"segment_bytes": 1 << 16})
    odd = ["", "Ü\r\n$3\r\n", "x" * (1 << 20), "\0", "*1\r\n"]
    for _ in range(2):
        async with rig.running(redis_server.port) as session:
            put(session, *EXEC_KINDS, count=40)
            for text in odd:
                names = STREAMS["fills"].names
                session.lane.append(contract.entry("fills", dict.fromkeys(names, text)))
            await session.drained()
    client = redis_server.new_client(decode_responses=False)
    history, held = JournalHistory(rig.directory), {}
    for kind in EXEC_KINDS:
        rows = client.execute_command("XRANGE", KEYS[kind], "-", "+", NEVER_DECODE=True)
        pages = [
            item_of(kind, entry_id.decode(), [word for pair in fields.items() for word in pair])
            for entry_id, fields in rows
        ]
        held[kind] = [(each.producer, each.seq, digest_of(each.fields)) for each in pages]
        found = list(history.find(kind, session.producer, 1, 10**9))
        assert [(each.producer, each.seq, digest_of(each.fields)) for each in found] == held[kind]
    walked = list(history.walk())
    for kind, rows in held.items():
        mine = [each for each in walked if each.kind == kind]
        assert [(each.producer, each.seq, digest_of(each.fields)) for each in mine] == rows
    jseqs = [int(each.fields[-3]) for each in walked]
    assert jseqs == list(range(1, len(walked) + 1))
    assert history.problems == {}


@pytest.mark.parametrize("span", [(1, 1000), (1, 1), (400, 650), (999, 2000), (1001, 2000)])
def test_a_part_is_found(journal: Journal, span: tuple[int, int]) -> None:
    """Of the numbers that are asked for, those that are there come, rising, each time."""
    history = JournalHistory(journal.directory)
    wanted = list(range(span[0], min(span[1], 1000) + 1))
    for _ in range(2):
        assert seqs(history.find("orders", journal.producer, *span)) == wanted
    assert seqs(history.find("orders", "B", *span)) == []
    assert seqs(history.find("account", journal.producer, *span)) == []


def test_one_after_the_other(journal: Journal) -> None:
    """Numbers in any order are found, also when the last finding ended in the middle."""
    history, chance = JournalHistory(journal.directory), random.Random(1)
    for _ in range(300):
        first = chance.randrange(1, 1001)
        found = history.find("orders", journal.producer, first, first + chance.randrange(3))
        assert next(found).seq == first
        if chance.random() < 0.5:
            list(found)


def test_no_folder(tmp_path: Path) -> None:
    """Where there is no journal there is nothing, and none is made."""
    history = JournalHistory(tmp_path / "none")
    assert list(history.find("orders", "A", 1, 9)) == list(history.walk()) == []
    assert not (tmp_path / "none").exists()


def test_it_only_reads(journal: Journal) -> None:
    """No file is changed, made or removed, whatever is found."""
    killed(journal)
    flip(journal.segments[1].path, 5000)
    (journal.directory / "0000000099.seg").write_bytes(bytes(100))
    before = {path: path.read_bytes() for path in journal.directory.iterdir()}
    history = JournalHistory(journal.directory)
    list(history.find("orders", journal.producer, 1, 1000))
    list(history.walk())
    assert {path: path.read_bytes() for path in journal.directory.iterdir()} == before
    assert list(history.problems) == [journal.segments[1].path], "an empty file is none"


def test_what_is_appended_later_is_found(journal: Journal) -> None:
    """An open segment grows, is sealed and followed: one history finds it all."""
    history = JournalHistory(journal.directory)
    for count in range(1000, 1600, 40):
        assert seqs(history.find("orders", journal.producer, count - 9, 10**9))[-1] == count
        add(journal, 40)
    journal.close()
    assert seqs(history.find("orders", journal.producer, 1, 10**9)) == list(range(1, 1601))


def test_beside_a_writer(tmp_path: Path) -> None:
    """While a bridge appends, what it appended before a finding began is found, in full."""
    journal, stopped = opened(tmp_path, limits=Limits(segment_bytes=65_536)), threading.Event()
    journal.claim()

    def write() -> None:
        while not stopped.is_set() and journal.seqs["orders"] < 20_000:
            add(journal, 10)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        history, turns = JournalHistory(tmp_path), 0
        while thread.is_alive() or turns < 3:
            turns += 1
            last = journal.seqs["orders"]
            first = max(1, last - 500)
            found = seqs(history.find("orders", journal.producer, first, 10**9))
            assert found == list(range(first, first + len(found)))
            assert found[-1:] >= [last][: bool(found)] and len(found) >= last - first
    finally:
        stopped.set()
        thread.join()
    assert seqs(history.walk()) == list(range(1, journal.seqs["orders"] + 1))
    assert history.problems == {}
    journal.close()


def test_segments_that_go_meanwhile(journal: Journal) -> None:
    """Retention removes a segment that is about to be read: what is left is found."""
    history = JournalHistory(journal.directory)
    found = history.find("orders", journal.producer, 1, 1000)
    first = next(found)
    gone = Segment.load(journal.segments[2].path)
    gone.path.unlink()
    left = [first.seq, *seqs(found)]
    lost = range(gone.head.seqs["orders"] + 1, gone.seal.ends["orders"] + 1)
    assert left == [seq for seq in range(1, 1001) if seq not in lost]


def test_segments_that_were_replaced(tmp_path: Path) -> None:
    """Entries that were numbered again come under their new name only, also when a kill has left
    the former segments there."""
    with_claim = opened(tmp_path)
    with_claim.claim()
    add(with_claim, 10)
    with_claim.close()
    journal = opened(tmp_path)
    former = journal.producer
    add(journal, 300)
    before = snapshot(tmp_path)
    journal.renumber({"orders": 10}, 2)
    journal.claim()
    after = snapshot(tmp_path)
    restore(tmp_path, before | after)
    assert set(before) - set(after), "a kill before they were removed"
    history = JournalHistory(tmp_path)
    assert seqs(history.find("orders", former, 1, 1000)) == list(range(1, 11))
    assert seqs(history.find("orders", journal.producer, 1, 1000)) == list(range(1, 301))
    assert [each.producer for each in history.walk()] == [former] * 10 + [journal.producer] * 300


def test_numbers_that_are_not_claimed(tmp_path: Path) -> None:
    """Numbers that Redis has not confirmed to be ours are not given out; from the claim on they
    are. A walk has them in any case."""
    journal = opened(tmp_path)
    journal.claim()
    add(journal, 200)
    journal.close()
    journal = opened(tmp_path)
    add(journal, 200)
    history = JournalHistory(tmp_path)
    assert seqs(history.find("orders", journal.producer, 100, 400)) == list(range(100, 201))
    assert len(list(history.walk())) == 400
    journal.claim()
    assert seqs(history.find("orders", journal.producer, 100, 400)) == list(range(100, 401))


@pytest.mark.parametrize("is_closed", [True, False], ids=["sealed", "left open"])
@pytest.mark.parametrize("damage", ["flipped", "erased"])
def test_damage_is_stepped_over(journal: Journal, is_closed: bool, damage: str) -> None:
    """All but the damaged record is found, and the damage is told."""
    path = journal.segments[-1].path if not is_closed else journal.segments[1].path
    journal.close() if is_closed else killed(journal)
    records = records_of(path)
    victim = next(place for place, each in enumerate(records) if each.kind == 0 and place > 5)
    begin, end = records[victim - 1].end, records[victim].end
    if damage == "flipped":
        flip(path, end - 1)
    else:
        erase(path, begin, end)
    history = JournalHistory(journal.directory)
    lost = records[victim].seq
    found = seqs(history.find("orders", journal.producer, 1, 1000))
    assert found == [seq for seq in range(1, 1001) if seq != lost]
    assert seqs(history.find("orders", journal.producer, lost - 1, lost)) == [lost - 1]
    assert list(history.problems) == [path]


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_torn_tail(journal: Journal, cut: int) -> None:
    """The last record was half written: all before it is found, and nothing is wrong."""
    path, end = journal.segments[-1].path, journal.segments[-1].seal.end
    killed(journal)
    erase(path, end - cut, end)
    history = JournalHistory(journal.directory)
    found = seqs(history.find("orders", journal.producer, 1, 1000))
    assert found == list(range(1, len(found) + 1)) and len(found) >= 990
    assert history.problems == {}


def test_a_folder_that_was_set_back(journal: Journal) -> None:
    """A folder that was replaced by an older state of itself is read as it is now."""
    history, older = JournalHistory(journal.directory), snapshot(journal.directory)
    count = journal.seqs["orders"]
    add(journal, 200)
    last = [*history.find("orders", journal.producer, count + 100, 10**9)][-1]
    assert isinstance(last, Item)
    killed(journal)
    restore(journal.directory, older)
    assert seqs(history.find("orders", journal.producer, 1, 10**9)) == list(range(1, count + 1))
    assert LIMITS.segment_bytes < sum(map(len, older.values()))
