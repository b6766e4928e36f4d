"""The archive after a crash at any byte and any step: it goes on, and holds every entry once."""

import errno
import itertools
import os
import random
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.archive import Archive
from bridge.exits import Exit
from bridge.reading import Item
from tests.bridge import journals
from tests.bridge.archives import (
    arcs,
    assert_whole,
    entries,
    entry,
    failing,
    feed,
    foreign,
    kept,
    manifests,
    opened,
    restore,
    snapshot,
)
from tests.bridge.journals import CHANGES, fill_up, killed_at, tmpfs

SEED = 20261120
BATCHES = [
    [foreign("7-1"), *entries(1, 3)],
    [*entries(4, 5), foreign("1005-1"), *entries(1, 2, "orders")],
    [*entries(6, 7), foreign("1007-1", "orders")],
    [*entries(8, 9), entry(10)],
]
ITEMS = [item for batch in BATCHES for item in batch]
# Two batches fill a segment.
OPTIONS: dict[str, Any] = {"segment_bytes": 1_100}


@pytest.fixture
def every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `killed_at` count every call by which an archive touches files."""
    monkeypatch.setattr(journals, "CHANGES", (*CHANGES, "open", "close", "chmod"))


def assert_goes_on(directory: Path, acked: int) -> None:
    """What `take` had returned for is there; with all fed once more, everything is, once."""
    archive = opened(directory, **OPTIONS)
    there = kept(directory)
    assert there == ITEMS[: len(there)]
    assert len(there) >= acked
    for item in there:
        assert not item.producer or item.seq in archive.taken[item.kind, item.producer]
    for batch in BATCHES:
        feed(archive, batch)
    archive.close()
    assert kept(directory) == ITEMS
    assert_whole(directory, [archive.root])
    for path in manifests(directory):
        for sealed in (path, path.with_suffix(".arc")):
            assert stat.S_IMODE(sealed.stat().st_mode) == 0o444


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("rest", [b"", b"\0"], ids=["cut", "zeros"])
def test_cut_at_every_byte(tmp_path: Path, rest: bytes) -> None:
    """The last write ends at any byte, the head's too; behind it is nothing, or a block's zeros."""
    archive = opened(tmp_path, **OPTIONS)
    for batch in BATCHES[:3]:
        feed(archive, batch)
    archive.close()
    files, path = snapshot(tmp_path), arcs(tmp_path)[-1]
    assert len(files) > 3
    data, begun = files[path], sum([len(batch) for batch in BATCHES[:2]])
    ends = list(itertools.accumulate([len(line) for line in lines_of(path)]))
    for cut in range(len(data)):
        restore(tmp_path, files | {path: data[:cut] + rest * (len(data) - cut)})
        archive = opened(tmp_path, **OPTIONS)
        whole = max(sum([end <= cut for end in ends]) - 1, 0)
        assert kept(tmp_path) == ITEMS[: begun + whole]
        feed(archive, [*BATCHES[1], *BATCHES[2]])
        archive.close()
        assert kept(tmp_path) == ITEMS[: begun + len(BATCHES[2])], f"cut at byte {cut}"
        assert_whole(tmp_path, [archive.root])


@pytest.mark.parametrize("size", [0, 1, 100, 10_000])
def test_a_manifest_begun(tmp_path: Path, size: int) -> None:
    """A manifest that was being written beside, however much of it, does not count."""
    archive = opened(tmp_path)
    feed(archive, BATCHES[0])
    archive.close()
    (tmp_path / "0000000001.json.new").write_bytes(b"{" * size)
    assert_goes_on(tmp_path, len(BATCHES[0]))


def writing(directory: Path, acks: int) -> Callable[[], None]:
    """Return what takes all batches, and tells of each through a descriptor."""

    def work() -> None:
        archive = opened(directory, **OPTIONS)
        for batch in BATCHES:
            feed(archive, batch)
            os.write(acks, b"." * len(batch))
        archive.close()

    return work


def acked_until_killed(directory: Path, call: int) -> tuple[bool, int]:
    """Kill a writer at its nth call; return whether it was, and what it had been acknowledged."""
    reader, writer = os.pipe()
    try:
        was_killed = killed_at(call, writing(directory, writer))
        os.close(writer)
        return was_killed, len(os.read(reader, 1_000))
    finally:
        os.close(reader)


@pytest.mark.parametrize("seed", [SEED])
def test_killed_at_every_step(tmp_path: Path, every_call: None, seed: int) -> None:
    """A kill at any change of a file, a write by half; and another one as it goes on from there."""
    chance = random.Random(seed)
    for call in itertools.count(1):
        directory = tmp_path / str(call)
        directory.mkdir()
        was_killed, acked = acked_until_killed(directory, call)
        if not was_killed:
            break
        again = chance.randrange(1, 15)
        _, later = acked_until_killed(directory, again)
        assert_goes_on(directory, max(acked, later))
    assert acked == len(ITEMS)
    assert manifests(directory), "it sealed no segment"
    assert call > 30


@pytest.fixture
def broken_call(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Return `fail(n)`: the nth call from now on that changes a file fails, a write by half."""
    left = [0]
    for name in ("pwrite", "fdatasync", "fsync", "rename", "chmod", "ftruncate", "open"):
        monkeypatch.setattr(os, name, failing(name, getattr(os, name), left))

    def fail(call: int) -> None:
        left[0] = call

    yield fail
    left[0] = 0


def test_an_error_at_every_step(tmp_path: Path, broken_call: Callable[[int], None]) -> None:
    """Whatever call fails, the batch is taken or it is not, and the next call goes on."""
    failures = 0
    for call in itertools.count(1):
        directory = tmp_path / str(call)
        archive = opened(directory, **OPTIONS)
        has_failed, taken = False, 0
        broken_call(call)
        for batch in BATCHES:
            try:
                feed(archive, batch)
            except OSError:
                has_failed = True
                assert kept(directory)[:taken] == ITEMS[:taken]
                assert archive.last == taken, "part of a batch counts"
                feed(archive, batch)
            taken += len(batch)
        broken_call(0)
        archive.close()
        assert kept(directory) == ITEMS
        assert_goes_on(directory, len(ITEMS))
        if not has_failed:
            break
        failures += 1
    assert failures > 12


def test_an_error_and_then_a_kill(tmp_path: Path, broken_call: Callable[[int], None]) -> None:
    """After a write that failed, and a cut that failed too, what is left counts nowhere."""
    archive = opened(tmp_path)
    feed(archive, BATCHES[0])
    long = [entry(seq, text="x" * 5_000) for seq in (4, 5)]
    left = arcs(tmp_path)[-1].stat().st_size
    with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError):
        patch.setattr(os, "ftruncate", failing("ftruncate", os.ftruncate, [1]))
        broken_call(1)
        feed(archive, long)
    assert arcs(tmp_path)[-1].stat().st_size > left + 5_000
    feed(archive, BATCHES[1])
    journals.let_go(tmp_path)
    assert_goes_on(tmp_path, len(BATCHES[0]) + len(BATCHES[1]))


def test_an_open_that_fails_lets_go(tmp_path: Path, broken_call: Callable[[int], None]) -> None:
    """Whatever call of `open` fails, at first or again, no descriptor and no lock is left."""
    for is_new in (True, False):
        for call in itertools.count(1):
            directory = tmp_path / f"{is_new}{call}"
            if not is_new:
                opened(directory).close()
            broken_call(call)
            try:
                opened(directory).close()
                break
            except OSError:
                broken_call(0)
                assert not directory.exists() or not journals.descriptors(directory)
                assert_goes_on(directory, 0)
        assert call > 2
        broken_call(0)


def test_a_full_disk(tmp_path: Path) -> None:
    """While there is no room nothing is taken, and what was is whole; with room it goes on."""
    with tmpfs(tmp_path / "disk", 256 << 10) as disk:
        archive, refused = opened(disk / "archive", segment_bytes=4_000), 0
        taken: list[Item] = []
        for first in range(1, 120, 6):
            batch = [entry(seq, text="x" * 600) for seq in range(first, first + 6)]
            ballast = fill_up(disk)
            try:
                feed(archive, batch)
            except OSError as error:
                assert error.errno == errno.ENOSPC
                refused += 1
                assert kept(disk / "archive") == taken
                assert_whole(disk / "archive")
                ballast.unlink()
                feed(archive, batch)
            else:
                ballast.unlink()
            taken += batch
        assert refused > 10
        assert len(manifests(disk / "archive")) > 10
        archive.close()
        assert kept(disk / "archive") == taken
        assert_whole(disk / "archive", [archive.root])


def test_a_refused_open_leaves_a_torn_line(tmp_path: Path) -> None:
    """Who is refused does not cut off either: the writer may be in the midst of that line."""
    archive = opened(tmp_path)
    feed(archive, BATCHES[0])
    with arcs(tmp_path)[-1].open("ab") as file:
        file.write(b'{"n":')
    before = snapshot(tmp_path)
    with pytest.raises(Exit):
        opened(tmp_path)
    with pytest.raises(Exit):
        Archive.open(tmp_path, {"fills": "others"})
    assert snapshot(tmp_path) == before
    archive.close()
