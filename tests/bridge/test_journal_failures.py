"""A disk that fails: it is told once, what fits is still written, and nothing is promised."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge import exits
from bridge.exits import Exit
from bridge.journal import Journal, JournalFailed, Limits
from tests.bridge.journals import (
    LIMITS,
    count,
    descriptors,
    fill_up,
    held,
    in_a_child,
    last_segment,
    opened,
    put,
    put_many,
    tmpfs,
)

MIB = 1 << 20
ALWAYS = Limits(fsync="always", segment_bytes=16_384)
# Room for 15 segments of 64 KiB and a little more.
WIDE = Limits(segment_bytes=65_536)

# In a process of its own: lets files grow to so many bytes once the journal is open, appends until
# it is refused three times, and tells what it was told.
LIMITED = """
import json, resource, sys
from pathlib import Path
from bridge.journal import JournalFailed
from tests.bridge.journals import opened, put

journal = opened(Path(sys.argv[1]))
if sys.argv[3] == "reserve":
    journal.make_reserve()
told, written, refused = [], 0, []
journal.on_failure = told.append
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
while len(refused) < 3:
    before = (journal.seqs["orders"], journal.jseq)
    try:
        put(journal, f"{written:100}".encode())
        written += 1
    except JournalFailed as error:
        refused.append(str(error))
        assert (journal.seqs["orders"], journal.jseq) == before
journal.close()
print(json.dumps({"told": told, "written": written, "refused": refused}))
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one mebibyte."""
    with tmpfs(tmp_path / "disk", MIB) as folder:
        yield folder


class Broken:
    """A journal whose present segment is on a disk that takes writes and confirms none.

    That is /dev/null: fdatasync fails there. `mend` puts the file back.
    """

    def __init__(self, journal: Journal) -> None:
        inode = last_segment(journal.directory).stat().st_ino
        [self._fd] = [
            each for each in descriptors(journal.directory) if os.fstat(each).st_ino == inode
        ]
        self._file = os.dup(self._fd)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, self._fd)
        os.close(null)

    def mend(self) -> None:
        os.dup2(self._file, self._fd)
        os.close(self._file)


# fdatasync


def test_a_sync_that_fails(tmp_path: Path) -> None:
    """It is a failure that is told once, and nothing of it counts as durable."""
    journal = opened(tmp_path)
    told: list[str] = []
    journal.on_failure = told.append
    put_many(journal, 3)
    journal.sync()
    disk = Broken(journal)
    put_many(journal, 2)
    for _ in range(2):
        with pytest.raises(JournalFailed, match="the disk did not confirm what was written"):
            journal.sync()
    assert (journal.synced, journal.needs_sync, journal.reserve_is_due) == (3, False, False)
    assert told == [journal.failure]
    disk.mend()
    journal.close()


@pytest.mark.parametrize("limits", [LIMITS, ALWAYS])
def test_it_is_never_tried_again(tmp_path: Path, limits: Limits) -> None:
    """A disk that confirms later has forgotten what it had failed to write: nothing is durable."""
    journal = opened(tmp_path, limits=limits)
    put_many(journal, 3)
    journal.sync()
    disk = Broken(journal)
    with pytest.raises(JournalFailed):
        put(journal, b"lost")
        journal.sync()
    disk.mend()
    with pytest.raises(JournalFailed):
        put(journal, b"behind it")
        journal.sync()
    assert journal.synced == 3
    journal.close()


def test_no_number_twice_when_a_sync_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`always`: an entry that was refused because the disk did not confirm leaves no number behind.

    Whatever an append returned for afterwards is what a reader finds under that number.
    """
    journal = opened(tmp_path, limits=ALWAYS)
    put_many(journal, 3)
    _fail_once(monkeypatch, "fdatasync")
    accepted: dict[int, bytes] = {}
    for payload in (b"refused", b"next", b"last"):
        number = 4 + len(accepted)  # as the lane counts: what is refused has no number
        with contextlib.suppress(JournalFailed):
            journal.append(0, number, number, 2, b"", payload)
            accepted[number] = payload
    journal.close()
    journal = opened(tmp_path)
    [found] = held(journal).values()
    assert {seq: found.get(seq) for seq in accepted} == accepted
    assert b"refused" not in found.values()
    records = [each for segment in journal.segments for each in segment.records()]
    assert len({each.seq for each in records}) == len(records)
    journal.close()


# A file that may not grow.


@pytest.mark.parametrize("reserve", ["reserve", "none"])
@pytest.mark.parametrize("file_bytes", [600, 2000, 9000, 12_000])
def test_files_may_not_grow(tmp_path: Path, file_bytes: int, reserve: str) -> None:
    """A write that fails: told once; what finds room is written; the rest is refused."""
    directory = tmp_path / "journal"
    said = json.loads(in_a_child(LIMITED, directory, file_bytes, reserve))
    assert len(said["told"]) == 1
    assert len(said["refused"]) == 3
    journal = opened(directory)
    [found] = held(journal).values() or [{}]
    assert [int(each) for each in found.values()] == list(range(said["written"]))
    assert list(found) == list(range(1, said["written"] + 1))
    journal.close()


def test_the_reserve_takes_what_failed(tmp_path: Path) -> None:
    """The entry whose write failed goes into the reserve: it is not refused."""
    directory = tmp_path / "journal"
    with_reserve = json.loads(in_a_child(LIMITED, directory, 2000, "reserve"))
    without = json.loads(in_a_child(LIMITED, tmp_path / "other", 2000, "none"))
    assert with_reserve["written"] > without["written"] > 0


# A disk that is full.


def test_no_room_for_the_reserve(small_disk: Path) -> None:
    """It is told, once, while there is room in the present segment; that room is used."""
    journal = opened(small_disk / "journal", limits=WIDE)
    told: list[str] = []
    journal.on_failure = told.append
    fill_up(small_disk)
    journal.make_reserve()
    assert told == [journal.failure]
    assert "no room for another segment" in told[0]
    written = _until_refused(journal)
    assert written > 300
    assert len(told) == 1
    journal.sync()
    assert journal.synced == written
    journal.close()
    (small_disk / "ballast").unlink()
    journal = opened(small_disk / "journal", limits=WIDE)
    assert count(journal) == written
    assert put(journal, b"there is room again") == written + 1
    journal.close()


def test_full_at_a_rotation(small_disk: Path) -> None:
    """Whoever meets the full disk only when a segment is used up is refused, and has no number."""
    journal = opened(small_disk / "journal", limits=WIDE)
    told: list[str] = []
    journal.on_failure = told.append
    fill_up(small_disk)
    written = _until_refused(journal)
    for _ in range(3):  # and again, also when what there is has been synced between
        with pytest.raises(JournalFailed):
            put(journal, bytes(100))
        journal.sync()
    assert (journal.seqs["orders"], journal.jseq, journal.synced) == (written, written, written)
    assert len(told) == 1
    journal.close()
    assert descriptors(small_disk / "journal") == []


def test_no_other_file_is_touched(small_disk: Path) -> None:
    """A failed rotation closes no descriptor that it still writes to: the next would be another's.

    A file opened afterwards stays open, and stays as it is.
    """
    journal = opened(small_disk / "journal", limits=WIDE)
    fill_up(small_disk)
    _until_refused(journal)
    journal.sync()
    other = os.open(small_disk.parent / "other", os.O_RDWR | os.O_CREAT)
    os.write(other, b"x" * 100_000)
    for _ in range(2):
        with pytest.raises(JournalFailed):
            put(journal, bytes(100))
        journal.sync()
    journal.close()
    assert os.fstat(other).st_size == 100_000
    assert os.pread(other, 200_000, 0) == b"x" * 100_000
    os.close(other)


def test_opens_on_a_full_disk_with_74(small_disk: Path) -> None:
    """A start without room ends with 74, the folder and what to do; the entries stay."""
    directory = small_disk / "journal"
    journal = opened(directory, limits=WIDE)
    put_many(journal, 100)
    journal.close()
    ballast = fill_up(small_disk)
    for _ in range(3):
        with pytest.raises(Exit) as caught:
            opened(directory, limits=WIDE)
        assert caught.value.code == exits.CANNOT_RECORD
        assert str(caught.value).startswith(f"journal.directory: {directory} cannot be written: ")
        assert "make room there" in str(caught.value)
    ballast.unlink()
    journal = opened(directory, limits=WIDE)
    assert count(journal) == 100
    journal.close()


def test_renumbering_without_room(small_disk: Path) -> None:
    """Renumbering that finds no room is a failure, and all entries stay as they were."""
    journal = opened(small_disk / "journal", limits=WIDE)
    put_many(journal, 900)
    fill_up(small_disk)
    before = held(journal)
    with pytest.raises(JournalFailed, match="no room to number entries again"):
        journal.renumber({}, 2)
    journal.close()
    (small_disk / "ballast").unlink()
    journal = opened(small_disk / "journal", limits=WIDE)
    assert held(journal) == before
    journal.close()


def _until_refused(journal: Journal) -> int:
    """Append until there is no room left; return how many entries were taken."""
    with pytest.raises(JournalFailed):
        put_many(journal, 10_000)
    return journal.jseq


def _fail_once(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Have the next call of a function of `os` fail, and those behind it succeed: as Linux does."""
    function: Any = getattr(os, name)

    def failing(*_: object) -> None:
        monkeypatch.setattr(os, name, function)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, name, failing)
