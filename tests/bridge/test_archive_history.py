"""The archive as a history: what it has is found, and what it has not costs no reading."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge import archive_history, archive_segments
from bridge.archive_history import ArchiveHistory
from tests.bridge.archives import PRODUCER, arcs, entries, feed, fill, opened


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the segments that were read, one for each time."""
    found: list[int] = []
    read = archive_segments.read

    def counting(directory: Path, number: int, tally: Any) -> Iterator[Any]:
        found.append(number)
        return read(directory, number, tally)

    monkeypatch.setattr(archive_segments, "read", counting)
    return found


def test_holes_are_looked_for_without_reading(tmp_path: Path, reads: list[int]) -> None:
    """For any number of holes, of any producers, the open segment is read once."""
    archive = opened(tmp_path, segment_bytes=1 << 20)
    feed(archive, [*entries(1, 10), *entries(21, 30)])
    history = ArchiveHistory(tmp_path)
    for _ in range(50):
        assert not list(history.find("fills", PRODUCER, 11, 20))
        assert not list(history.find("fills", PRODUCER, 31, 10**9))
        assert not list(history.find("orders", PRODUCER, 1, 30))
        assert not list(history.find("fills", "B", 1, 30))
    assert reads == [1]
    for first, last in ((10, 11), (20, 21), (9, 22)):
        found = [item.seq for item in history.find("fills", PRODUCER, first, last)]
        assert found == [seq for seq in range(first, last + 1) if not 11 <= seq <= 20]
    archive.close()


def test_what_comes_later_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it knows is read again after some seconds, and when it is asked for the last numbers."""
    history = ArchiveHistory(tmp_path / "archive")
    wanted = ("fills", PRODUCER, 1, 9)
    assert not list(history.find(*wanted))
    archive = opened(tmp_path / "archive")
    feed(archive, entries(1, 5))
    assert not list(history.find(*wanted))
    assert history.lasts() == {("fills", PRODUCER): 5}
    assert list(history.find(*wanted)) == entries(1, 5)
    monkeypatch.setattr(archive_history, "KNOWN_SECONDS", 0.0)
    history = ArchiveHistory(tmp_path / "archive")
    for seq in (6, 7):
        feed(archive, entries(seq, seq))
        assert list(history.find("fills", PRODUCER, seq, 9)) == entries(seq, seq)
    archive.close()


def test_a_damaged_archive_is_no_history(tmp_path: Path) -> None:
    """The ledger does not wait for its repair: it gets what stands before it, or nothing."""
    fill(tmp_path)
    path = arcs(tmp_path)[1]
    path.chmod(0o644)
    path.write_bytes(b"x" + path.read_bytes())
    found = list(ArchiveHistory(tmp_path).find("fills", PRODUCER, 1, 99))
    assert found == entries(1, len(found))
    assert found
    arcs(tmp_path)[-1].write_text("x\n")
    history = ArchiveHistory(tmp_path)
    assert not list(history.find("fills", PRODUCER, 1, 99))
    assert history.lasts() == {}
