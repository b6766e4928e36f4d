"""The file format: what was written is read back, and what nobody wrote is told from it."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core.contract import EXEC_KINDS
from bridge.journal import Limits
from bridge.segments import BODY, FRAME, MARK, Damaged, Head, Record, Segment, parse
from tests.bridge.journals import (
    erase,
    flip,
    killed,
    last_segment,
    opened,
    put,
    put_many,
    records_of,
)

ENTRIES = st.lists(
    st.tuples(
        st.sampled_from(EXEC_KINDS), st.binary(max_size=300), st.binary(min_size=16, max_size=16)
    ),
    max_size=30,
)


@pytest.fixture
def unsealed(tmp_path: Path) -> Path:
    """A segment that a killed process left; every record but the last tells of the one before."""
    journal = opened(tmp_path, limits=Limits(fsync="always", segment_bytes=8192))
    put_many(journal, 8, size=40)
    killed(journal)
    return last_segment(tmp_path)


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """The same, closed."""
    journal = opened(tmp_path)
    put_many(journal, 8, size=40)
    journal.close()
    return last_segment(tmp_path)


@settings(derandomize=True, max_examples=50, deadline=None)
@given(entries=ENTRIES)
def test_records_come_back(tmp_path_factory: pytest.TempPathFactory, entries: list) -> None:
    """Every field of a record is read as it was written, from an open and from a sealed file."""
    directory = tmp_path_factory.mktemp("journal")
    journal = opened(directory)
    for kind, payload, once in entries:
        put(journal, payload, kind, once)
    path = last_segment(directory)
    while_open = records_of(path)
    journal.close()
    assert while_open == records_of(path)
    found = [(EXEC_KINDS[each.kind], each.payload, each.once) for each in while_open]
    assert found == entries
    assert [each.jseq for each in while_open] == list(range(1, len(entries) + 1))


def test_head_comes_back(sealed: Path) -> None:
    """A head is read as it was written, with the offset of the first record."""
    head, start = Head.read(sealed)
    assert head.encode() == sealed.read_bytes()[:start]
    assert (head.producer, head.kinds) == (f"A.{head.uuid[:8]}.1", EXEC_KINDS)


@pytest.mark.parametrize("behind", ["nothing", "zeros", "noise"])
def test_cut_anywhere(unsealed: Path, behind: str) -> None:
    """A file cut at any byte behind its head holds the whole records before, and none behind, and
    tells whether more than zeros is left."""
    data, first = unsealed.read_bytes(), records_of(unsealed)
    start = Segment.load(unsealed).start
    filler = {"nothing": b"", "zeros": bytes(200), "noise": b"\x5a" * 200}[behind]
    for cut in range(start, first[-1].end + 1):
        written = data[:cut] + filler
        unsealed.write_bytes(written)
        segment = Segment.load(unsealed)
        # What follows the cut may be, by chance, the byte that was cut off.
        whole = [each for each in first if written[: each.end] == data[: each.end]]
        assert list(segment.records()) == whole
        assert not segment.is_sealed
        torn = written[whole[-1].end if whole else start :]
        assert (segment.torn_bytes == 0) == (not any(torn))


def test_cut_in_the_head(unsealed: Path) -> None:
    """A file that ends within its head is damaged from its first byte on."""
    data, start = unsealed.read_bytes(), Segment.load(unsealed).start
    for cut in range(1, start):
        unsealed.write_bytes(data[:cut])
        with pytest.raises(Damaged) as caught:
            Segment.load(unsealed)
        assert caught.value.offset == 0


def test_any_byte_of_a_sealed_file(sealed: Path) -> None:
    """A changed byte in any record of a sealed file is damage, from the start of that record on."""
    for record, start in _with_starts(sealed):
        for offset in range(start, record.end):
            flip(sealed, offset)
            with pytest.raises(Damaged) as caught:
                Segment.load(sealed)
            assert (caught.value.path, caught.value.offset) == (sealed, start)
            flip(sealed, offset)


def test_any_byte_of_what_was_durable(unsealed: Path) -> None:
    """So is one in an open file, where a record behind it tells that it had been durable."""
    for record, start in _with_starts(unsealed)[:-1]:
        for offset in range(start, record.end):
            flip(unsealed, offset)
            with pytest.raises(Damaged) as caught:
                Segment.load(unsealed)
            assert caught.value.offset == start
            flip(unsealed, offset)


def test_any_byte_of_the_head(sealed: Path) -> None:
    """A changed byte in the head is damage from the first byte on."""
    for offset in range(Segment.load(sealed).start):
        flip(sealed, offset)
        with pytest.raises(Damaged, match="damaged at byte 0"):
            Segment.load(sealed)
        flip(sealed, offset)


def test_any_byte_of_the_trailer(sealed: Path) -> None:
    """A changed byte in the trailer costs no record."""
    records = records_of(sealed)
    for offset in range(records[-1].end, sealed.stat().st_size):
        flip(sealed, offset)
        assert records_of(sealed) == records
        flip(sealed, offset)


@pytest.mark.parametrize("whole", [5, 10])
def test_a_hole_in_what_nobody_had_promised(tmp_path: Path, whole: int) -> None:
    """A hole that no record behind it calls durable is a torn tail, and all behind it goes."""
    journal = opened(tmp_path)
    put_many(journal, 5)
    journal.sync()
    put_many(journal, 20)
    killed(journal)
    path = last_segment(tmp_path)
    records = records_of(path)
    erase(path, records[whole - 1].end, records[whole].end)
    segment = Segment.load(path)
    assert list(segment.records()) == records[:whole]
    assert segment.torn_bytes > 0


@pytest.mark.parametrize("size", [4096, 131_072, 600_000])
def test_a_large_hole_in_what_was_durable(tmp_path: Path, size: int) -> None:
    """A hole is damage however large it is, when a record behind it tells that it was durable."""
    journal = opened(tmp_path, limits=Limits(segment_bytes=1 << 20))
    for _ in range(50):
        put_many(journal, 100)
        journal.sync()
    killed(journal)
    path = last_segment(tmp_path)
    erase(path, 50_000, 50_000 + size)
    with pytest.raises(Damaged):
        Segment.load(path)


def test_damage_that_comes_later(sealed: Path) -> None:
    """What becomes unreadable after the file was checked is told when it is read."""
    segment = Segment.load(sealed)
    start = records_of(sealed)[3].end
    flip(sealed, start + 20)
    with pytest.raises(Damaged) as caught:
        list(segment.records())
    assert caught.value.offset == start


def test_going_on_from_an_offset(sealed: Path) -> None:
    """Reading from the end of a record yields the one behind it."""
    records = records_of(sealed)
    assert list(Segment.load(sealed).records(records[4].end)) == records[5:]


def test_a_record_larger_than_what_is_read_at_once(tmp_path: Path) -> None:
    """Records of megabytes are read, also between small ones."""
    journal = opened(tmp_path)
    payloads = [b"small", b"a" * 3_000_000, b"small too", b"b" * 300_000]
    for payload in payloads:
        put(journal, payload)
    found = [record.payload for segment in journal.segments for record in segment.records()]
    journal.close()
    assert found == payloads


@settings(derandomize=True, max_examples=200, deadline=None)
@given(data=st.binary(max_size=200), at=st.integers(0, 200))
def test_noise_is_no_record(data: bytes, at: int) -> None:
    """Bytes that nobody wrote are no record."""
    assert parse(data, at) is None


def test_the_smallest_record() -> None:
    """A frame that is shorter than a record's fixed part is no record, whatever its checksum."""
    assert parse(FRAME.pack(MARK, 0, 0), 0) is None
    assert parse(FRAME.pack(MARK, BODY.size - 1, 0) + bytes(BODY.size), 0) is None


@pytest.mark.timeout(20)
def test_the_end_of_a_large_file(tmp_path: Path) -> None:
    """The end of a file of the default size is found while someone waits for it."""
    journal = opened(tmp_path, limits=Limits())
    put_many(journal, 1000)
    journal.sync()
    killed(journal)
    assert len(records_of(last_segment(tmp_path))) == 1000


def _with_starts(path: Path) -> list[tuple[Record, int]]:
    records = records_of(path)
    starts = [Segment.load(path).start, *[each.end for each in records]]
    return list(zip(records, starts, strict=False))
