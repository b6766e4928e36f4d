"""The thread that waits for the disk."""

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bridge.disk import Disk
from bridge.journal import Journal, Limits
from bridge.journal_directory import RESERVE
from tests.bridge.journals import opened, put, put_many
from tests.bridge.processes import eventually
from tests.proxies import until

SECONDS_MAX = 10.0
LIMITS = Limits(segment_bytes=65_536)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = opened(tmp_path, limits=LIMITS)
    yield journal
    journal.close()


class Told:
    """Counts what `on_synced` is told, and waits for it."""

    def __init__(self) -> None:
        self.times = 0
        self.event = asyncio.Event()

    def __call__(self) -> None:
        self.times += 1
        self.event.set()

    async def wait(self) -> None:
        async with asyncio.timeout(SECONDS_MAX):
            await self.event.wait()
        self.event.clear()


@pytest.fixture
async def told() -> AsyncIterator[Told]:
    yield Told()


async def test_made_durable(journal: Journal, told: Told) -> None:
    """What is written is made durable, and then told, on the loop."""
    disk = Disk(journal, told)
    put_many(journal, 5)
    disk.sync_soon()
    await told.wait()
    assert (journal.synced, journal.needs_sync) == (5, False)
    disk.close()


async def test_the_loop_goes_on(
    journal: Journal, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop does not wait; what comes meanwhile is asked for once, and made durable next."""
    release, calls, fdatasync = threading.Event(), [], os.fdatasync

    def slow(descriptor: int) -> None:
        calls.append(threading.current_thread())
        release.wait(SECONDS_MAX)
        fdatasync(descriptor)

    monkeypatch.setattr(os, "fdatasync", slow)
    disk = Disk(journal, told)
    for _ in range(3):
        put_many(journal, 2)
        disk.sync_soon()
        await until(lambda: calls)
    assert journal.synced == 0
    release.set()
    await told.wait()
    disk.sync_soon()
    await told.wait()
    assert (journal.synced, len(calls)) == (6, 2)
    assert threading.current_thread() not in calls
    disk.close()


async def test_nothing_to_do(journal: Journal, told: Told) -> None:
    """With nothing written it does not go to the disk, and tells nothing."""
    journal.make_reserve()
    disk = Disk(journal, told)
    disk.sync_soon()
    disk.close()
    await asyncio.sleep(0)
    assert told.times == 0


async def test_the_reserve_is_made(journal: Journal, told: Told) -> None:
    """A reserve that is due is made on that thread too."""
    disk = Disk(journal, told)
    while not journal.reserve_is_due:
        put(journal, bytes(1000))
    while journal.needs_sync or journal.reserve_is_due:
        disk.sync_soon()
        await told.wait()
    assert (journal.directory / RESERVE).exists()
    disk.close()


async def test_the_reserve_is_made_under_load(journal: Journal) -> None:
    """It is made before the present segment is full, also when there is always more to sync."""
    done = asyncio.Event()

    def on_synced() -> None:
        put(journal, bytes(500))
        if (journal.directory / RESERVE).exists() or len(journal.segments) > 1:
            done.set()
        else:
            disk.sync_soon()

    disk = Disk(journal, on_synced)
    put(journal, bytes(500))
    disk.sync_soon()
    async with asyncio.timeout(SECONDS_MAX):
        await done.wait()
    assert len(journal.segments) == 1
    disk.close()


async def test_a_failure_is_told_by_the_journal(
    journal: Journal, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails is told by the journal, once, and not asked again."""
    failures: list[str] = []
    journal.on_failure = failures.append

    def failing(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", failing)
    disk = Disk(journal, told)
    put_many(journal, 5)
    disk.sync_soon()
    await told.wait()
    for _ in range(3):
        disk.sync_soon()
    await asyncio.sleep(0)
    assert (len(failures), journal.synced, told.times) == (1, 0, 1)
    disk.close()


async def test_an_unknown_fault_is_not_silent(journal: Journal, told: Told) -> None:
    """Work that ends in a way nobody foresaw is a failure of the journal, not a silence."""

    def failing() -> None:
        raise sqlite3.OperationalError("database or disk is full")

    journal.on_drop = failing
    journal.limits = Limits(segment_bytes=65_536, bytes_max=65_536 * 2, retain_ns=0)
    disk = Disk(journal, told)
    while len(journal.segments) < 2 and journal.failure is None:
        put_many(journal, 100)
        journal.sync()
    journal.acknowledge(journal.producer, "orders", journal.seqs["orders"])
    while not journal.reserve_is_due and journal.failure is None:
        put_many(journal, 20)
        journal.sync()
    disk.sync_soon()
    if journal.failure is None:
        await told.wait()
    assert (journal.directory / RESERVE).exists() or journal.failure is not None
    disk.close()


async def test_close_waits(journal: Journal, told: Told) -> None:
    """What is under way is finished before close returns."""
    disk = Disk(journal, told)
    put_many(journal, 5)
    disk.sync_soon()
    disk.close()
    assert journal.synced == 5


@pytest.mark.parametrize("has_closed", [True, False])
def test_a_loop_that_has_ended(journal: Journal, has_closed: bool) -> None:
    """A disk whose loop has ended meanwhile, or will never turn again, goes on with the next."""
    disk = Disk(journal, lambda: None)
    first = asyncio.new_event_loop()

    async def ask() -> None:
        put_many(journal, 3)
        disk.sync_soon()

    async def ask_until_durable() -> None:
        put_many(journal, 3)
        async with asyncio.timeout(SECONDS_MAX):
            while journal.needs_sync:
                disk.sync_soon()
                await asyncio.sleep(0.001)

    first.run_until_complete(ask())
    if has_closed:
        first.close()
    eventually(lambda: journal.synced == 3, "what the first loop asked for")
    asyncio.run(ask_until_durable())
    assert journal.synced == 6
    disk.close()
    first.close()
