"""Ledger and archive whose files are removed, moved or replaced while they are open."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge import readers
from bridge.ledger import Ledger
from bridge.readers import Readers
from tests.bridge.archives import arcs, assert_whole, entries, feed, kept, opened, snapshot
from tests.bridge.fills import STREAMS, fill
from tests.bridge.kept import Kept
from tests.bridge.processes import eventually
from tests.servers import RedisServer


def _replace(path: Path) -> None:
    """Put a copy in the place of a file: the same bytes in another file."""
    copy = path.with_suffix(".copy")
    shutil.copy(path, copy)
    copy.rename(path)


def _remove_all(directory: Path) -> None:
    shutil.rmtree(directory)


def _move(directory: Path) -> None:
    directory.rename(directory.with_name("moved"))


def _restore(directory: Path) -> None:
    """Put a copy of the folder in its place."""
    _move(directory)
    shutil.copytree(directory.with_name("moved"), directory)


def _remove_segment(directory: Path) -> None:
    arcs(directory)[-1].unlink()


def _replace_segment(directory: Path) -> None:
    _replace(arcs(directory)[-1])


def _remove_lock(directory: Path) -> None:
    (directory / "lock").unlink()


def _replace_lock(directory: Path) -> None:
    _replace(directory / "lock")


@pytest.mark.parametrize(
    "change",
    [
        *(_remove_all, _move, _restore, _remove_segment),
        *(_replace_segment, _remove_lock, _replace_lock),
    ],
)
@pytest.mark.parametrize("segment_bytes", [1 << 20, 1], ids=["goes on", "seals"])
def test_an_archive_that_is_open(
    tmp_path: Path, change: Callable[[Path], None], segment_bytes: int
) -> None:
    """Nothing is taken into what is not there any more; opened again, it takes what is missing."""
    directory = tmp_path / "archive"
    archive = opened(directory, segment_bytes=segment_bytes)
    feed(archive, entries(1, 5))
    change(directory)
    before = snapshot(directory) if directory.exists() else {}
    for _ in range(2):
        with pytest.raises(OSError, match=r"No such file|replaced"):
            feed(archive, entries(6, 8))
    assert archive.last == 5
    archive.close()
    assert (snapshot(directory) if directory.exists() else {}) == before
    archive = opened(directory)
    feed(archive, entries(1, 8))
    archive.close()
    assert kept(directory) == entries(1, 8)
    assert_whole(directory)


def test_an_archive_replaced_between_two_segments(tmp_path: Path) -> None:
    """No segment is begun in the folder of another archive."""
    directory = tmp_path / "archive"
    archive = opened(directory, segment_bytes=1, on_head=lambda _: _restore(directory))
    for _ in range(2):
        with pytest.raises(OSError, match="replaced"):
            feed(archive, entries(1, 5))
    assert not arcs(directory)[1:]
    archive.close()


@pytest.mark.parametrize("name", ["ledger.db", "ledger.db-wal", "ledger.db.lock"])
@pytest.mark.parametrize("change", [Path.unlink, _replace])
def test_a_ledger_that_is_open(tmp_path: Path, name: str, change: Callable[[Path], None]) -> None:
    """It takes nothing when one of its files is not the one that it opened."""
    ledger = Ledger.open(tmp_path / "ledger.db", STREAMS)
    ledger.take([fill(1)], {})
    change(tmp_path / name)
    for _ in range(2):
        with pytest.raises(OSError, match=r"No such file|replaced"):
            ledger.take([fill(2)], {})
    assert ledger.counts().fills == 1
    ledger.close()


def test_a_ledger_removed_in_the_midst(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that was committed to a file that is not there any more does not count."""
    ledger = Ledger.open(tmp_path / "ledger.db", STREAMS)
    book = ledger._book

    def removing(items: object) -> object:
        (tmp_path / "ledger.db").unlink()
        return book(items)  # type: ignore[arg-type]

    monkeypatch.setattr(ledger, "_book", removing)
    with pytest.raises(FileNotFoundError):
        ledger.take([fill(1)], {})
    ledger.close()


def test_both_while_they_read(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removed while the bridge runs, both are made anew and hold all; until then none counts."""
    monkeypatch.setattr(readers, "RETRY_SECONDS", 0.01)
    rig = Kept(tmp_path / "state", redis_server)
    both = Readers(rig.places, rig.metrics)
    both.start()
    try:
        rig.trade(4)
        first = rig.producer
        eventually(lambda: both.is_taken("fills", first, 1, 4), "the first fills")
        shutil.rmtree(rig.places.archive)
        for path in rig.places.ledger.parent.glob("ledger.db*"):
            path.unlink(missing_ok=True)  # SQLite removes its own when it is closed
        rig.trade(3)
        eventually(lambda: both.is_taken("fills", rig.producer, 5, 7), "more fills")
    finally:
        both.stop(60.0)
    assert rig.producer == first
    assert rig.wrong() == {}
    assert rig.audit().as_dict()["agree"]
