"""What the journal takes on the disk and of the process, and when it gives that back."""

import contextlib
import gc
import time
from functools import partial
from pathlib import Path

import pytest

from bridge import exits
from bridge.core.contract import EXEC_KINDS
from bridge.core.spans import Spans
from bridge.exits import Exit
from bridge.journal import Chapter, Journal, JournalFailed, Limits
from bridge.journal_directory import RESERVE, segment_paths
from bridge.repair import repair
from tests.bridge.journals import (
    count,
    descriptors,
    flip,
    held,
    interrupted,
    last_segment,
    opened,
    put,
    put_many,
    records_of,
)

SEGMENT_BYTES = 16_384
AT_ONCE = Limits(segment_bytes=SEGMENT_BYTES, retain_ns=0)
# Room for four segments.
NARROW = Limits(segment_bytes=SEGMENT_BYTES, bytes_max=4 * SEGMENT_BYTES)


def _acknowledge_all(journal: Journal) -> None:
    """Confirm, as the publisher does: chapters with something in them, and the present one."""
    for kind in EXEC_KINDS:
        for chapter in journal.chapters(kind):
            if chapter.last >= chapter.first or chapter.producer == journal.producer:
                journal.acknowledge(chapter.producer, kind, chapter.last)


def _ends(journal: Journal) -> list[int]:
    """Return the last order in each segment."""
    return [segment.seal.ends["orders"] for segment in journal.segments]


# retain


def test_old_and_confirmed_goes(tmp_path: Path) -> None:
    """Of segments that are old those go that Redis has confirmed to their last number."""
    journal = opened(tmp_path, limits=AT_ONCE)
    put_many(journal, 300)
    first, second, *_ = _ends(journal)
    journal.acknowledge(journal.producer, "orders", second - 1)
    journal.tidy()
    assert journal.chapters("orders") == [Chapter(journal.producer, first + 1, 300)]
    assert len(segment_paths(tmp_path)) == len(journal.segments)
    journal.close()


def test_what_the_readers_lack_stays(tmp_path: Path) -> None:
    """A segment goes when every number that it holds was taken; the last one is not enough."""
    journal = opened(tmp_path, limits=AT_ONCE)
    put_many(journal, 300)
    _acknowledge_all(journal)
    first, second, *_ = _ends(journal)
    taken = Spans([(1, first), (first + 2, 300)])
    journal.is_taken = lambda kind, producer, *run: taken.covers(*run)
    journal.tidy()
    assert journal.chapters("orders") == [Chapter(journal.producer, first + 1, 300)]
    taken.add(first + 1)
    journal.tidy()
    assert journal.chapters("orders")[0].first > second
    journal.close()


def test_what_was_cut_out_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Nobody can take what a repair has cut out: the segment goes without it."""
    journal = opened(tmp_path, limits=AT_ONCE)
    put_many(journal, 30)
    journal.close()
    path = last_segment(tmp_path)
    flip(path, records_of(path)[9].end - 1)
    repair(path)
    journal = opened(tmp_path, limits=AT_ONCE)
    put_many(journal, 1)
    _acknowledge_all(journal)
    taken = Spans([(1, 9), (11, 30)])
    journal.is_taken = lambda kind, producer, *run: taken.covers(*run)
    journal.tidy()
    assert not path.exists()
    journal.close()


def test_old_and_unconfirmed_stays(tmp_path: Path) -> None:
    """However old it is, what Redis has not confirmed stays."""
    journal = opened(tmp_path, limits=AT_ONCE)
    put_many(journal, 300)
    journal.tidy()
    journal.close()
    journal = opened(tmp_path, limits=AT_ONCE)
    journal.tidy()
    assert journal.chapters("orders") == [Chapter(journal.producer, 1, 300)]
    journal.close()


def test_young_and_confirmed_stays(tmp_path: Path) -> None:
    """What Redis has confirmed stays for `retain_ns`: so far Redis may be set back."""
    journal = opened(tmp_path, limits=Limits(segment_bytes=SEGMENT_BYTES, retain_ns=10**12))
    put_many(journal, 300)
    _acknowledge_all(journal)
    journal.tidy()
    assert journal.chapters("orders") == [Chapter(journal.producer, 1, 300)]
    journal.close()


def test_age_is_that_of_the_last_entry(tmp_path: Path) -> None:
    """A segment is as old as the last entry in it, also in a later session."""
    journal = opened(tmp_path)
    put_many(journal, 200)
    journal.close()
    before_ns = time.time_ns()
    journal = opened(tmp_path)
    assert all(0 < each.seal.last_ns <= before_ns for each in journal.segments[:-1])
    journal.close()


def test_taken_back(tmp_path: Path) -> None:
    """What Redis had confirmed and then forgot is not confirmed any more."""
    journal = opened(tmp_path, limits=AT_ONCE)
    put_many(journal, 300)
    _acknowledge_all(journal)
    journal.acknowledge(journal.producer, "orders", 10)
    journal.tidy()
    assert count(journal) == 300
    journal.close()


def test_former_producers_go(tmp_path: Path) -> None:
    """A former producer's segments go, also those that hold nothing of a stream that it had."""
    journal = opened(tmp_path, limits=AT_ONCE)
    former = journal.producer
    put_many(journal, 100, "orders")
    put_many(journal, 200, "fills")
    journal.acknowledge(former, "orders", 100)
    journal.acknowledge(former, "fills", 100)
    journal.tidy()
    assert journal.chapters("orders")[0].first > 100  # no order of it is left
    journal.close()
    journal = opened(tmp_path, "B", AT_ONCE)
    _acknowledge_all(journal)
    journal.tidy()
    assert [segment.producer for segment in journal.segments] == [journal.producer]
    journal.close()


# bytes_max


def test_confirmed_segments_go_early(tmp_path: Path) -> None:
    """At `bytes_max` the oldest confirmed segments go, however young."""
    journal = opened(tmp_path, limits=NARROW)
    for _ in range(100):
        put_many(journal, 10)
        _acknowledge_all(journal)
        if journal.reserve_is_due:
            journal.make_reserve()
        assert journal.disk_bytes <= NARROW.bytes_max
    assert journal.failure is None
    assert journal.chapters("orders")[0].first > 1
    assert journal.seqs["orders"] == 1000
    journal.close()


def test_without_confirmation_it_fails(tmp_path: Path) -> None:
    """With nothing confirmed `bytes_max` is a failure, told once, in the words of the manual."""
    journal = opened(tmp_path, limits=NARROW)
    told: list[str] = []
    journal.on_failure = told.append
    while journal.failure is None:
        put_many(journal, 10)
        if journal.reserve_is_due:
            journal.make_reserve()
    assert told == [
        f"journal.bytes_max ({NARROW.bytes_max}) is reached, and Redis has not confirmed the "
        "oldest segment"
    ]
    assert not journal.reserve_is_due
    assert journal.disk_bytes <= NARROW.bytes_max
    journal.close()


def test_what_the_halt_brings_finds_room(tmp_path: Path) -> None:
    """After that failure entries are still written, some kilobytes at least, and read back."""
    journal = opened(tmp_path, limits=NARROW)
    while journal.failure is None:
        put(journal, bytes(100))
        if journal.reserve_is_due:
            journal.make_reserve()
    before = journal.seqs["orders"]
    put_many(journal, 50)
    journal.sync()
    assert (journal.synced, count(journal)) == (before + 50, before + 50)
    journal.close()


def test_bytes_max_holds_without_a_reserve(tmp_path: Path) -> None:
    """Who outruns the making of reserves is told of `bytes_max` too, a segment later at most."""
    journal = opened(tmp_path, limits=NARROW)
    with contextlib.suppress(JournalFailed):
        put_many(journal, 2000)
    assert "journal.bytes_max" in (journal.failure or "it was not told")
    assert journal.disk_bytes <= NARROW.bytes_max + SEGMENT_BYTES
    journal.close()


# The reserve.


def test_reserve(tmp_path: Path) -> None:
    """It has its place on the disk before it is needed, and becomes the next segment."""
    journal = opened(tmp_path)
    assert journal.reserve_is_due
    journal.make_reserve()
    reserve = tmp_path / RESERVE
    assert not journal.reserve_is_due
    assert reserve.stat().st_blocks * 512 >= SEGMENT_BYTES
    inode = reserve.stat().st_ino
    while len(journal.segments) == 1:
        put_many(journal, 10)
    assert last_segment(tmp_path).stat().st_ino == inode
    journal.close()


def test_a_reserve_made_at_any_moment(tmp_path: Path) -> None:
    """A reserve that another thread makes, at any line of a rotation, is counted once."""
    size = 65_536
    limits = Limits(segment_bytes=size, bytes_max=3 * size)  # the full, the present, the reserve
    for line in range(1, 300):
        journal = opened(tmp_path / str(line), limits=limits)
        put_many(journal, 2, size=25_000)
        is_met = interrupted(partial(put, journal, bytes(25_000)), line, journal.make_reserve)
        put(journal, bytes(25_000))
        if journal.reserve_is_due:
            journal.make_reserve()
        assert journal.failure is None, f"interrupted at line {line}"
        assert len(journal.segments) == 2
        journal.close()
        if not is_met:
            return
    raise AssertionError("a rotation has no end")


def test_disk_bytes(tmp_path: Path) -> None:
    """What it takes on the disk is the sum of segments and reserve."""
    journal = opened(tmp_path)
    put_many(journal, 200)
    journal.make_reserve()
    files = [*segment_paths(tmp_path), tmp_path / RESERVE]
    assert journal.disk_bytes == sum([path.stat().st_size for path in files])
    journal.close()


def test_closed_it_is_small(tmp_path: Path) -> None:
    """Nothing that was only reserved is left when it is closed."""
    journal = opened(tmp_path, limits=Limits())
    journal.make_reserve()
    put_many(journal, 3)
    journal.close()
    assert sum([path.stat().st_size for path in tmp_path.iterdir()]) < 4096


# Descriptors.


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    """Opened and closed, rotated, refused because taken, or damaged: nothing stays open."""
    gc.collect()  # what other tests have left
    before = _open_count()
    for number in range(50):
        journal = opened(tmp_path)
        if number % 10 == 0:
            put_many(journal, 100)
            assert len(held(journal)) == 1
        with pytest.raises(Exit):
            opened(tmp_path)
        journal.close()
    assert _open_count() <= before
    flip(last_segment(tmp_path), 100)
    for _ in range(50):
        with pytest.raises(Exit) as caught:
            opened(tmp_path)
        assert caught.value.code == exits.BAD_DATA
    assert _open_count() <= before


def _open_count() -> int:
    """Return how many descriptors this process has."""
    return len(list(Path("/dev/fd").iterdir()))


def test_close_twice(tmp_path: Path) -> None:
    """A second close is harmless; an append behind it is refused, and writes nothing."""
    journal = opened(tmp_path)
    put_many(journal, 3)
    journal.close()
    journal.close()
    before = last_segment(tmp_path).read_bytes()
    with pytest.raises(JournalFailed):
        put(journal, b"late")
    assert last_segment(tmp_path).read_bytes() == before
    assert descriptors(tmp_path) == []
