"""The index of fills: it knows what was recorded before, after any end, and nothing else."""

import os
import sqlite3
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import pytest
import structlog

from bridge.fill_index import NAME, FillIndex
from bridge.journal import Journal, Limits
from tests.bridge.journals import fill_up, in_a_child, killed, opened, put, records_of, tmpfs

PAGE_BYTES = 4096

# In a process of its own: adds so many keys, and prints by how many kilobytes it grew beyond what
# the first quarter took.
GROWTH = """
import resource, sys
from pathlib import Path
from hashlib import blake2b
from bridge.fill_index import FillIndex
from tests.bridge.journals import opened

folder, count = Path(sys.argv[1]), int(sys.argv[2])
fills = FillIndex(folder, opened(folder / "journal"))
for number in range(count):
    once = blake2b(str(number).encode(), digest_size=16).digest()
    assert once not in fills
    fills.add(once)
    if number == count // 4:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
fills.close()
print((after - before) // (1 if sys.platform == "linux" else 1024))
"""


def _once(number: int) -> bytes:
    return blake2b(str(number).encode(), digest_size=16).digest()


def _record(journal: Journal, fills: FillIndex, *numbers: int) -> None:
    """Record a fill for each number, as the lane does."""
    for number in numbers:
        put(journal, f"fill {number}".encode(), "fills", _once(number))
        fills.add(_once(number))


def _known(fills: FillIndex, numbers: range) -> list[int]:
    return [number for number in numbers if _once(number) in fills]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = opened(tmp_path / "journal")
    yield journal
    journal.close()


def test_at_once(tmp_path: Path, journal: Journal) -> None:
    """What was added is known at once, and nothing else; adding twice is harmless."""
    fills = FillIndex(tmp_path, journal)
    assert _known(fills, range(10)) == []
    _record(journal, fills, 1, 3, 3, 5)
    assert _known(fills, range(10)) == [1, 3, 5]
    fills.close()


def test_after_a_close(tmp_path: Path) -> None:
    """It is known in the next session, also when the journal has forgotten it."""
    for number in range(3):
        journal = opened(tmp_path / str(number))  # another journal each time
        fills = FillIndex(tmp_path, journal)
        assert _known(fills, range(10)) == list(range(number))
        _record(journal, fills, number)
        fills.close()
        journal.close()


@pytest.mark.parametrize("size", [1, 200])
def test_after_a_kill(tmp_path: Path, size: int) -> None:
    """What was not committed is taken from the journal, over several segments and sessions."""
    for start in range(0, 3 * size, size):
        journal = opened(tmp_path / "journal")
        fills = FillIndex(tmp_path, journal)
        assert _known(fills, range(1000)) == list(range(start))
        _record(journal, fills, *range(start, start + size))
        _killed(fills, journal)


def test_after_a_kill_beside_a_new_journal(tmp_path: Path) -> None:
    """A journal that begins anew in the same place is read from its beginning."""
    for number in range(5):
        journal = opened(tmp_path / "journal")
        fills = FillIndex(tmp_path, journal)
        _record(journal, fills, number)
        fills.close()
        journal.close()
    for path in (tmp_path / "journal").iterdir():
        path.unlink()
    journal = opened(tmp_path / "journal")
    fills = FillIndex(tmp_path, journal)
    _record(journal, fills, 5, 6)
    _killed(fills, journal)
    journal = opened(tmp_path / "journal")
    fills = FillIndex(tmp_path, journal)
    assert _known(fills, range(10)) == list(range(7))
    fills.close()
    journal.close()


def test_before_its_segment_is_dropped(tmp_path: Path) -> None:
    """What the journal gives up is on the disk by then: a kill right behind it costs nothing."""
    limits = Limits(segment_bytes=16_384, retain_ns=0)
    journal = opened(tmp_path / "journal", limits=limits)
    fills = FillIndex(tmp_path, journal)
    _record(journal, fills, *range(500))
    journal.acknowledge(journal.producer, "fills", 500)
    journal.tidy()
    assert len(journal.segments) == 1
    _killed(fills, journal)
    journal = opened(tmp_path / "journal", limits=limits)
    fills = FillIndex(tmp_path, journal)
    assert _known(fills, range(600)) == list(range(500))
    fills.close()
    journal.close()


def test_what_the_power_took(tmp_path: Path) -> None:
    """An entry that a power cut took out of the journal is not known: it has to be taken again."""
    journal = opened(tmp_path / "journal")
    fills = FillIndex(tmp_path, journal)
    _record(journal, fills, 1)
    journal.sync()
    _record(journal, fills, 2)
    fills.commit()
    path = journal.segments[-1].path
    _killed(fills, journal)
    os.truncate(path, records_of(path)[0].end + 5)
    journal = opened(tmp_path / "journal")
    fills = FillIndex(tmp_path, journal)
    assert _known(fills, range(5)) == [1]
    fills.close()
    journal.close()


# A file that was damaged.


@pytest.mark.parametrize("damage", ["noise", "empty", "text"])
def test_rebuilt(tmp_path: Path, journal: Journal, damage: str) -> None:
    """A file that is no index is replaced by what the journal holds, with a warning."""
    fills = FillIndex(tmp_path, journal)
    _record(journal, fills, *range(300))
    fills.close()
    data = {"noise": os.urandom(9000), "empty": b"", "text": b"SQLite format 3\0 or not"}[damage]
    (tmp_path / NAME).write_bytes(data)
    with structlog.testing.capture_logs() as logged:
        fills = FillIndex(tmp_path, journal)
    assert _known(fills, range(400)) == list(range(300))
    if damage != "empty":
        [warning] = [each for each in logged if each["event"] == "fill_index.rebuilt"]
        assert warning["effect"] == "fills older than the journal are not known any more"
    fills.close()


def test_any_damaged_page(tmp_path: Path) -> None:
    """Whatever page of it is damaged: no event meets an error, and what the journal holds is known.

    The first pages are read at the start, the others only when they are needed.
    """
    journal = opened(tmp_path / "journal")
    fills = FillIndex(tmp_path, journal)
    _record(journal, fills, *range(2000))
    for _ in range(2):  # the second session needs nothing of what the first one wrote
        fills.close()
        journal.close()
        journal = opened(tmp_path / "journal")
        fills = FillIndex(tmp_path, journal)
    fills.close()
    whole = (tmp_path / NAME).read_bytes()
    for start in range(0, len(whole), PAGE_BYTES):
        damaged = bytearray(whole)
        damaged[start : start + PAGE_BYTES] = os.urandom(PAGE_BYTES)
        (tmp_path / NAME).write_bytes(damaged)
        fills = FillIndex(tmp_path, journal)
        assert len(_known(fills, range(2000))) == 2000, f"page {start // PAGE_BYTES}"
        fills.add(_once(5000))
        assert _once(5000) in fills
        fills.close()
    journal.close()


def test_the_file_is_in_use(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that somebody else holds is not damaged: it is never thrown away."""
    monkeypatch.setattr("bridge.fill_index.BUSY_SECONDS_MAX", 0.1)
    fills = FillIndex(tmp_path, journal)
    fills.add(_once(1))  # older than the journal
    fills.close()
    _record_only(journal, 2)
    other = sqlite3.connect(tmp_path / NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError):
        FillIndex(tmp_path, journal)
    other.close()
    fills = FillIndex(tmp_path, journal)
    assert _known(fills, range(5)) == [1, 2]
    fills.close()


def test_somebody_looks_on(tmp_path: Path, journal: Journal) -> None:
    """Who has read the file, and has it open still, does not keep a bridge from starting."""
    fills = FillIndex(tmp_path, journal)
    _record(journal, fills, 1)
    fills.close()
    other = sqlite3.connect(tmp_path / NAME)
    assert other.execute("SELECT count(*) FROM known").fetchone() == (1,)
    fills = FillIndex(tmp_path, journal)
    _record(journal, fills, 2)
    assert _known(fills, range(5)) == [1, 2]
    fills.close()
    assert other.execute("SELECT count(*) FROM known").fetchone() == (2,)
    other.close()


# Room.


def test_a_full_disk(tmp_path: Path, journal: Journal) -> None:
    """On a full disk everything that was added stays known, and what comes is known too."""
    with tmpfs(tmp_path / "disk", 1 << 20) as disk:
        fills = FillIndex(disk, journal)
        _record(journal, fills, *range(1000))
        fill_up(disk)
        for number in range(1000, 1020):
            _record(journal, fills, number)
            _committed(fills)
        assert len(_known(fills, range(1020))) == 1020
        (disk / "ballast").unlink()
        _record(journal, fills, 1020)
        _committed(fills)
        assert len(_known(fills, range(1021))) == 1021
        fills.close()


def test_a_full_disk_does_not_hold_the_journal_up(tmp_path: Path) -> None:
    """An index that cannot be written neither stops the journal's rotation nor goes untold."""
    limits = Limits(segment_bytes=16_384, bytes_max=4 * 16_384)
    journal = opened(tmp_path / "journal", limits=limits)
    with tmpfs(tmp_path / "disk", 1 << 20) as disk:
        fills = FillIndex(disk, journal)
        _record(journal, fills, *range(100))
        fill_up(disk)
        for number in range(100, 1000):
            journal.acknowledge(journal.producer, "fills", number - 1)
            put(journal, bytes(100), "fills", _once(number))
            if journal.reserve_is_due:
                journal.make_reserve()
        assert journal.failure is not None or journal.seqs["fills"] == 1000
        (disk / "ballast").unlink()
        fills.close()
    journal.close()


def test_memory_stays_flat(tmp_path: Path) -> None:
    """Two hundred thousand identities take no more memory than fifty thousand do."""
    assert int(in_a_child(GROWTH, tmp_path, 200_000)) < 4096


def _record_only(journal: Journal, number: int) -> None:
    put(journal, b"fill", "fills", _once(number))


def _committed(fills: FillIndex) -> None:
    """Commit, if the disk lets us, as happens once a second."""
    try:
        fills.commit()
    except sqlite3.Error:
        return


def _killed(fills: FillIndex, journal: Journal) -> None:
    """End as SIGKILL does: nothing is committed."""
    fills._database.rollback()
    fills._database.close()
    killed(journal)
