"""Readers of the journal: from any number on, as far as asked, and on when there is more."""

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core import contract, resp
from bridge.core.contract import EXEC_KINDS, STREAMS
from bridge.journal import Journal
from bridge.journal_reader import Reader
from bridge.segments import Damaged
from tests.bridge.journals import descriptors, flip, opened, put, put_many, records_of

ENTRIES = 250


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = opened(tmp_path)
    yield journal
    journal.close()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journal]:
    """250 entries, of all streams in turn, over several segments; not to be written to."""
    journal = opened(tmp_path_factory.mktemp("journal"))
    for number in range(ENTRIES):
        put(journal, bytes([number]) * 100, EXEC_KINDS[number % len(EXEC_KINDS)])
    assert len(journal.segments) > 2
    yield journal
    journal.close()


def _reader(journal: Journal, kind: str = "orders") -> Reader:
    return Reader(journal, journal.producer, kind)


def _seqs(reader: Reader, seq: int, entries_max: int = 1000, upto: int | None = None) -> list[int]:
    return [each.seq for each in reader.read(seq, entries_max, upto)]


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(EXEC_KINDS),
    steps=st.lists(
        st.tuples(
            st.one_of(st.none(), st.integers(1, 60)),
            st.integers(1, 60),
            st.one_of(st.none(), st.integers(0, ENTRIES)),
        ),
        max_size=8,
    ),
)
def test_any_sequence_of_reads(
    mixed: Journal, kind: str, steps: list[tuple[int | None, int, int | None]]
) -> None:
    """Each read yields the entries from its number on, so many, none beyond its bound."""
    reader, place = _reader(mixed, kind), EXEC_KINDS.index(kind)
    jseqs = range(place + 1, ENTRIES + 1, len(EXEC_KINDS))
    everything = list(enumerate(jseqs, start=1))
    behind = 1
    for start, entries_max, upto in steps:
        behind = behind if start is None else start  # None: where the last one ended
        kept = reader.read(behind, entries_max, upto)
        allowed = [each for each in everything if upto is None or each[1] <= upto]
        wanted = [each for each in allowed if each[0] >= behind][:entries_max]
        assert [(each.seq, each.jseq) for each in kept] == wanted
        for each in kept:
            assert each.data.startswith(bytes([each.jseq - 1]) * 100)
        behind += len(kept)


def test_the_tail(journal: Journal) -> None:
    """An entry is read as it is sent: its bytes, then producer, seq, jseq and version."""
    names = STREAMS["account"].names
    values = tuple([f"value of {name}" for name in names])
    put(journal, b"first", "orders")
    put(journal, resp.pairs_encoder(names)(values), "account")
    [kept] = _reader(journal, "account").read(1, 1, None)
    tail = {"producer": journal.producer, "seq": "1", "jseq": "2", "v": str(contract.VERSION)}
    assert resp.pairs(kept.data) == dict(zip(names, values, strict=True)) | tail
    assert (kept.seq, kept.jseq, kept.width, kept.appended_ns) == (1, 2, 2, 0)


def test_waits_at_the_end(journal: Journal) -> None:
    """A reader at the end goes on when there is more, in this segment and in those behind it."""
    reader, seen = _reader(journal), 0
    assert _seqs(reader, 1) == []
    for count in (1, 3, 0, 40, 200, 1):
        put_many(journal, count)
        put_many(journal, 2, "fills")
        assert _seqs(reader, seen + 1) == list(range(seen + 1, seen + count + 1))
        seen += count
    assert len(journal.segments) > 2


def test_waits_at_the_bound(journal: Journal) -> None:
    """What was beyond the bound comes once the bound has moved, and not twice."""
    put_many(journal, 10)
    reader = _reader(journal)
    assert _seqs(reader, 1, 1000, 4) == [1, 2, 3, 4]
    assert _seqs(reader, 5, 1000, 4) == []
    assert _seqs(reader, 5, 1000, 7) == [5, 6, 7]
    assert _seqs(reader, 8, 2, None) == [8, 9]
    assert _seqs(reader, 8, 2, None) == [8, 9]


def test_beyond_the_end(journal: Journal) -> None:
    """A number that was not given yet yields nothing, and the entry once it was."""
    put_many(journal, 3)
    reader = _reader(journal)
    assert _seqs(reader, 6) == []
    put_many(journal, 4)
    assert _seqs(reader, 6) == [6, 7]


def test_a_hole(tmp_path: Path) -> None:
    """A read ends at a hole; the next one, at the lost number, yields the one behind it."""
    journal = opened(tmp_path)
    put_many(journal, 250)
    gone = journal.segments[1]
    first, last = gone.head.seqs["orders"] + 1, gone.seal.ends["orders"]
    journal.close()
    gone.path.unlink()
    journal = opened(tmp_path)
    reader = _reader(journal)
    assert _seqs(reader, 1) == list(range(1, first))
    assert _seqs(reader, first) == list(range(last + 1, 251))
    assert _seqs(reader, first, 2) == [last + 1, last + 2]
    assert _seqs(reader, last + 3, 1) == [last + 3]
    journal.close()


def test_a_hole_behind_the_bound(tmp_path: Path) -> None:
    """What lies behind a hole is kept back by the bound as everything else is."""
    journal = opened(tmp_path)
    put_many(journal, 250)
    gone = journal.segments[0]
    last = gone.seal.ends["orders"]
    journal.close()
    gone.path.unlink()
    journal = opened(tmp_path)
    reader = _reader(journal)
    assert _seqs(reader, 1, 1000, last) == []
    assert _seqs(reader, 1, 1000, last + 1) == [last + 1]
    journal.close()


def test_former_producers(tmp_path: Path) -> None:
    """A reader stays within the entries of its producer."""
    for producer_id, count in (("A", 3), ("B", 150), ("C", 2)):
        journal = opened(tmp_path, producer_id)
        put_many(journal, count)
        journal.close()
    journal = opened(tmp_path, "C")
    chapters = journal.chapters("orders")
    found = [_seqs(Reader(journal, each.producer, "orders"), 1) for each in chapters]
    assert found == [[1, 2, 3], list(range(1, 151)), [1, 2]]
    journal.close()


def test_what_rots_later(journal: Journal) -> None:
    """Damage that came after the start is told with its place, behind the entries before it."""
    put_many(journal, 250)
    path = journal.segments[1].path
    offset = records_of(path)[4].end
    flip(path, offset + 30)
    reader = _reader(journal)
    with pytest.raises(Damaged) as caught:
        for start in itertools.count(1):
            assert _seqs(reader, start, 1) == [start]
    assert (caught.value.path, caught.value.offset) == (path, offset)
    assert start == journal.segments[1].head.seqs["orders"] + 6


def test_beside_a_writer(journal: Journal) -> None:
    """A reader in another thread finds everything, in order, while segments fill and change."""
    reader, found, count = _reader(journal), 0, 3000
    payloads: list[bytes] = []
    writer = threading.Thread(target=lambda: payloads.extend(put_many(journal, count)))
    writer.start()
    kept = []
    while found < count:
        is_writing = writer.is_alive()
        more = reader.read(found + 1, 50, None)
        kept += more
        found += len(more)
        assert more or is_writing
    writer.join()
    assert [each.seq for each in kept] == list(range(1, count + 1))
    assert all(one.data.startswith(two) for one, two in zip(kept, payloads, strict=True))


def test_no_descriptor_is_left(journal: Journal) -> None:
    """Readers that jump about, end in the middle, and are gone, leave no descriptor."""
    put_many(journal, 250)
    before = len(descriptors(journal.directory))
    for start in range(1, 250):
        reader = _reader(journal)
        reader.read(start, 3, None)
        reader.read(251 - start, 3, None)
    del reader
    assert len(descriptors(journal.directory)) == before
