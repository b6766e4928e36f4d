"""What the journal calls durable, and when: only what the disk has confirmed."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bridge.journal import Journal, Limits
from tests.bridge.journals import (
    descriptors,
    held,
    interrupted,
    killed,
    opened,
    put,
    put_many,
)

# Two of them do not fit into a segment of 8 KiB.
PAYLOADS = (b"a" * 2500, b"b" * 2500)


def test_group(tmp_path: Path) -> None:
    """`group`: durable is what `sync` has confirmed, over rotations too."""
    journal = opened(tmp_path)
    put_many(journal, 3)
    assert (journal.synced, journal.needs_sync) == (0, True)
    journal.sync()
    assert (journal.synced, journal.needs_sync) == (3, False)
    put_many(journal, 300)
    assert 3 <= journal.synced < journal.jseq == 303  # a segment is durable when it is full
    journal.sync()
    assert journal.synced == 303
    journal.close()


def test_always(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`always`: every append has been confirmed by the disk when it returns."""
    journal = opened(tmp_path, limits=Limits(fsync="always", segment_bytes=16_384))
    calls = _count_calls(monkeypatch, "fdatasync")
    for number in range(1, 201):
        put(journal, bytes(150))
        assert journal.synced == number
        assert len(calls) >= number
    assert not journal.needs_sync
    journal.close()


def test_never(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`never`: nothing waits for the disk, and it is not asked."""
    journal = opened(tmp_path, limits=Limits(fsync="never", segment_bytes=16_384))
    calls = _count_calls(monkeypatch, "fdatasync")
    put_many(journal, 200)
    assert (journal.synced, journal.needs_sync, calls) == (200, False, [])
    journal.close()


@pytest.mark.parametrize("fsync", ["always", "group", "never"])
def test_full_segments_are_given_back(tmp_path: Path, fsync: Any) -> None:
    """A descriptor is not kept for every segment that was filled."""
    journal = opened(tmp_path, limits=Limits(fsync=fsync, segment_bytes=8192))
    for _ in range(25):
        put_many(journal, 2, size=1500)
        if journal.needs_sync:
            journal.sync()
    assert len(journal.segments) > 15
    assert len(descriptors(tmp_path)) < 10
    journal.close()


class Disk:
    """What the disk was asked to confirm: the inodes, in order, of files and of folders."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.confirmed: list[int] = []
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, name, self._noting(getattr(os, name)))

    def _noting(self, function: Callable[[int], None]) -> Callable[[int], None]:
        def noting(descriptor: int) -> None:
            function(descriptor)
            self.confirmed.append(os.fstat(descriptor).st_ino)

        return noting


@pytest.mark.parametrize("fsync", ["always", "group"])
def test_the_name_of_a_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: Any) -> None:
    """An entry in a new segment is durable once the segment's name is: else nobody finds it."""
    journal = opened(tmp_path, limits=Limits(fsync=fsync, segment_bytes=8192))
    put(journal, PAYLOADS[0])
    disk = Disk(monkeypatch)
    put(journal, PAYLOADS[1])
    if fsync == "group":
        journal.sync()
    assert (journal.synced, len(journal.segments)) == (2, 2)
    assert tmp_path.stat().st_ino in disk.confirmed
    journal.close()


def test_what_a_killed_process_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Durable at the start is what the disk has confirmed since: a killed process may not have."""
    journal = opened(tmp_path)
    put_many(journal, 300)
    left = {each.path.stat().st_ino for each in journal.segments}
    killed(journal)
    disk = Disk(monkeypatch)
    journal = opened(tmp_path)
    assert journal.synced == 300
    assert left <= set(disk.confirmed)
    journal.close()


def _fill(journal: Journal) -> None:
    put(journal, PAYLOADS[1])


def _renumber(journal: Journal) -> None:
    journal.renumber({}, 2)
    put(journal, PAYLOADS[1])


@pytest.mark.parametrize("work", [_fill, _renumber])
def test_sync_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Callable[[Journal], None]
) -> None:
    """A sync in another thread, at any line of other work, calls durable only what it has synced.

    That work is to go on in the next segment, or to number everything again.
    """
    durable: dict[int, bytes] = {}
    fdatasync = os.fdatasync

    def noting(descriptor: int) -> None:
        durable[os.fstat(descriptor).st_ino] = os.pread(descriptor, 1 << 16, 0)
        fdatasync(descriptor)

    monkeypatch.setattr(os, "fdatasync", noting)
    for line in range(1, 500):
        journal = opened(tmp_path / str(line), limits=Limits(segment_bytes=8192))
        put(journal, PAYLOADS[0])
        durable.clear()
        is_met = interrupted(partial(work, journal), line, journal.sync)
        everything = b"".join(durable.values())
        confirmed = sum([payload in everything for payload in PAYLOADS])
        assert journal.synced <= confirmed, f"interrupted at line {line}"
        journal.close()
        if not is_met:
            return
    raise AssertionError("it has no end")


@pytest.mark.parametrize("fsync", ["always", "group", "never"])
def test_a_segment_is_used_up_at_any_moment_of_a_sync(tmp_path: Path, fsync: Any) -> None:
    """Whoever goes on in the next segment, at any line of a sync, does not make that fail."""
    for line in range(1, 100):
        journal = opened(tmp_path / str(line), limits=Limits(fsync=fsync, segment_bytes=8192))
        put(journal, PAYLOADS[0])
        is_met = interrupted(journal.sync, line, partial(_fill, journal))
        assert journal.failure is None, f"interrupted at line {line}"
        journal.sync()
        assert journal.synced == len(journal.segments) == 1 + is_met
        assert list(held(journal)[journal.producer].values()) == list(PAYLOADS[: 1 + is_met])
        journal.close()
        if not is_met:
            return
    raise AssertionError("a sync has no end")


def _count_calls(monkeypatch: pytest.MonkeyPatch, name: str) -> list[int]:
    """Return a list that grows with every call of a function of `os`."""
    calls: list[int] = []
    function = getattr(os, name)

    def counting(descriptor: int) -> None:
        calls.append(descriptor)
        function(descriptor)

    monkeypatch.setattr(os, name, counting)
    return calls
