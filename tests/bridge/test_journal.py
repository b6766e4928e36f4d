"""The journal at work: what it keeps, what it calls durable, how it is named and kept small."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core.contract import EXEC_KINDS
from bridge.journal import Chapter, Journal, Limits
from tests.bridge.journals import descriptors, held, interrupted, opened, put, put_many

ENTRIES = st.lists(st.tuples(st.sampled_from(EXEC_KINDS), st.binary(max_size=3000)), max_size=40)
# Two of them do not fit into a segment of 8 KiB.
PAYLOADS = (b"a" * 2500, b"b" * 2500)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(sessions=st.lists(ENTRIES, min_size=1, max_size=3))
def test_what_was_appended_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, sessions: list[list[tuple[str, bytes]]]
) -> None:
    """Byte for byte and in order, stream by stream, over segments and sessions."""
    directory = tmp_path_factory.mktemp("journal")
    wanted: dict[str, list[bytes]] = {kind: [] for kind in EXEC_KINDS}
    for entries in sessions:
        journal = opened(directory)
        for kind, payload in entries:
            put(journal, payload, kind)
            wanted[kind].append(payload)
        while_open = {kind: held(journal, kind) for kind in EXEC_KINDS}
        journal.close()
    journal = opened(directory)
    for kind, payloads in wanted.items():
        numbered = dict(enumerate(payloads, start=1))
        assert (
            held(journal, kind)
            == while_open[kind]
            == ({journal.producer: numbered} if numbered else {})
        )
    journal.close()


def test_a_new_journal(tmp_path: Path) -> None:
    """It begins with the first incarnation of the name given, and holds nothing."""
    journal = opened(tmp_path / "deep" / "folder", "desk-1")
    assert journal.producer == f"desk-1.{journal.head.uuid[:8]}.1"
    assert (journal.jseq, journal.synced, set(journal.seqs.values())) == (0, 0, {0})
    assert journal.chapters("orders") == [Chapter(journal.producer, 1, 0)]
    journal.close()


def test_numbers_go_on(tmp_path: Path) -> None:
    """After a clean end numbers go on where they ended, under the same name."""
    journal = opened(tmp_path)
    put_many(journal, 5)
    producer = journal.producer
    journal.close()
    journal = opened(tmp_path)
    assert (journal.producer, journal.jseq, journal.synced) == (producer, 5, 5)
    assert journal.seqs["orders"] == journal.opened["orders"] == 5
    assert put(journal, b"next") == 6
    journal.close()


def test_an_entry_larger_than_a_segment(tmp_path: Path) -> None:
    """An entry that no segment has room for gets one of its size."""
    journal = opened(tmp_path)
    payloads = [b"x", b"y" * 100_000, b"z"]
    for payload in payloads:
        put(journal, payload)
    assert list(held(journal)[journal.producer].values()) == payloads
    journal.close()


# What is durable.


def test_group(tmp_path: Path) -> None:
    """`group`: durable is what `sync` has confirmed, over rotations too."""
    journal = opened(tmp_path)
    put_many(journal, 3)
    assert (journal.synced, journal.needs_sync) == (0, True)
    journal.sync()
    assert (journal.synced, journal.needs_sync) == (3, False)
    put_many(journal, 300)
    assert (journal.synced, journal.jseq) == (3, 303)
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


# What Redis has confirmed.


def test_claims(tmp_path: Path) -> None:
    """A session is claimed from its claim on; the next one is not, and knows what was verified."""
    journal = opened(tmp_path)
    assert (journal.is_claimed, journal.head.verified) == (False, {})
    put_many(journal, 4)
    journal.claim()
    put_many(journal, 3)
    assert journal.is_claimed
    journal.close()
    journal = opened(tmp_path)
    assert not journal.is_claimed
    assert journal.head.verified["orders"] == 7
    put_many(journal, 2)
    journal.close()
    journal = opened(tmp_path)
    assert (journal.seqs["orders"], journal.head.verified["orders"]) == (9, 7)
    journal.close()


def test_a_claim_outlives_its_segment(tmp_path: Path) -> None:
    """A session stays claimed when the segment that the claim stood in is gone."""
    journal = opened(tmp_path, limits=Limits(segment_bytes=16_384, retain_ns=0))
    journal.claim()
    put_many(journal, 300)
    journal.acknowledge(journal.producer, "orders", 150)
    journal.tidy()
    assert journal.chapters("orders")[0].first > 1
    assert journal.is_claimed
    journal.close()
    journal = opened(tmp_path, limits=Limits(segment_bytes=16_384, retain_ns=0))
    assert journal.head.verified.get("orders") == 300
    journal.close()


def test_run_id(tmp_path: Path) -> None:
    """The Redis that was whole is remembered."""
    journal = opened(tmp_path)
    assert journal.run_id is None
    journal.run_id = "4f5e"
    journal.close()
    journal = opened(tmp_path)
    assert journal.run_id == "4f5e"
    journal.close()


def _count_calls(monkeypatch: pytest.MonkeyPatch, name: str) -> list[int]:
    """Return a list that grows with every call of a function of `os`."""
    calls: list[int] = []
    function = getattr(os, name)

    def counting(descriptor: int) -> None:
        calls.append(descriptor)
        function(descriptor)

    monkeypatch.setattr(os, name, counting)
    return calls
