"""Several bridges over journals of their own, and one whose lanes another thread fills."""

import asyncio
import contextlib
import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge import exits
from bridge.exits import Exit
from bridge.lease import Lease
from bridge.publisher import PublisherThread
from tests.bridge.journal_rig import JournalRig, Session, check_numbers
from tests.proxies import WAIT_SECONDS_MAX, exec_entries, key, on_uvloop, until
from tests.servers import RedisServer

LEASE = "bridge:lease:T"


def lease() -> Lease:
    return Lease.make([LEASE], seconds=10, uuid="journal")


def of(server: RedisServer, producer: str) -> list[str]:
    """Return the texts of one producer's orders."""
    rows = exec_entries(server.client, "orders")
    return [row["status"] for row in rows if row["producer"] == producer]


@on_uvloop
@pytest.mark.parametrize("is_busy", [True, False], ids=["busy", "idle"])
async def test_a_takeover_ends_the_other_bridge(
    redis_server: RedisServer, tmp_path: Path, is_busy: bool
) -> None:
    """The first ends with 76; what it had journaled is there, then or after its next start."""
    first, second = JournalRig(tmp_path / "a"), JournalRig(tmp_path / "b")
    client, leases = redis_server.client, (lease(), lease())
    leases[0].take(client, takeover=False)
    with pytest.raises(Exit) as caught:
        async with first.running(redis_server.port, lease=leases[0]) as loser:
            loser.append("orders", 20)
            await loser.drained()
            leases[1].take(client, takeover=True)
            async with second.running(redis_server.port, lease=leases[1]) as winner:
                await until(
                    lambda: [
                        loser.append("orders", int(is_busy)),
                        winner.append("orders"),
                        loser.task.done(),
                    ][-1]
                )
                loser.append("orders", 5)
                await winner.drained()

    assert caught.value.code == exits.FENCED == 76
    assert of(redis_server, winner.producer) == second.appended["orders"]
    leases[1].release(client)
    leases[0].take(client, takeover=False)
    async with first.running(redis_server.port, lease=leases[0]) as session:
        session.append("orders", 5)
        await session.drained()
        assert session.producer == loser.producer
    assert of(redis_server, loser.producer) == first.appended["orders"]
    check_numbers(client)


@on_uvloop
async def test_bridges_of_different_names_share_the_streams(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """Two producers and a foreign writer on one stream do not disturb each other."""
    first = JournalRig(tmp_path / "a", producer_id="A")
    second = JournalRig(tmp_path / "b", producer_id="B")
    client = redis_server.client
    async with first.running(redis_server.port) as one, second.running(redis_server.port) as other:
        for number in range(50):
            one.append("orders", 7)
            client.xadd(key("orders"), {"producer": "", "status": "foreign", "n": number})
            other.append("orders", 5)
            await until(lambda: not (one.publisher.exec.backlog and other.publisher.exec.backlog))
            if number == 25:
                client.script_flush()
        await one.drained()
        await other.drained()

    assert of(redis_server, one.producer) == first.appended["orders"]
    assert of(redis_server, other.producer) == second.appended["orders"]
    assert len(of(redis_server, "")) == 50


@contextlib.contextmanager
def threaded(rig: JournalRig, port: int) -> Iterator[Session]:
    """Publish on a thread of its own, as a backtest does; at the end everything is in Redis."""
    session = Session(rig, port, None, threaded=True)
    thread = PublisherThread(session.publisher)
    thread.start()
    try:
        yield session
        assert thread.stop(WAIT_SECONDS_MAX), session.publisher.problem
    finally:
        session.close()


def test_a_backtest_waits_for_room(redis_server: RedisServer, tmp_path: Path) -> None:
    """More entries than memory holds: whoever appends waits, and nothing is lost."""
    rig = JournalRig(tmp_path, exec={"in_flight_max": 64, "batch_entries_max": 10})
    for _ in range(2):
        with threaded(rig, redis_server.port) as session:
            for kind in ("orders", "fills", "control") * 100:
                session.append(kind, 10)
                held = [len(stream.window) for stream in session.lane.streams.values()]
                assert sum(held) <= 64

    rig.check(redis_server.client)


def test_a_backtest_survives_redis(redis_server: RedisServer, tmp_path: Path) -> None:
    """Flushed, scripts forgotten, connections killed while it runs: each entry is there once."""
    rig = JournalRig(tmp_path, exec={"in_flight_max": 256, "batch_entries_max": 10})
    client = redis_server.client
    strikes = itertools.cycle(
        (
            client.flushall,
            client.script_flush,
            lambda: client.client_kill_filter(_type="normal", skipme=True),
        )
    )
    with threaded(rig, redis_server.port) as session:
        for number in range(300):
            session.append("orders", 10)
            session.append("fills", 3)
            if number % 25 == 24:
                next(strikes)()
        session.append("fills", 1)

    rig.check(client)


@on_uvloop
async def test_an_end_while_the_disk_is_slow(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal is closed while its thread waits for the disk, as an attached bridge does it:
    that is no failure, and the next start may trade."""
    fdatasync, begun, goes_on = os.fdatasync, threading.Event(), threading.Event()

    def slow(descriptor: int) -> None:
        begun.set()
        goes_on.wait(WAIT_SECONDS_MAX)
        fdatasync(descriptor)

    rig = JournalRig(tmp_path)
    session = Session(rig, redis_server.port, None)
    task = asyncio.create_task(session.publisher.run())
    await until(lambda: session.publisher.problem is None)
    monkeypatch.setattr(os, "fdatasync", slow)
    session.append("orders", 5)
    await until(begun.is_set)
    task.cancel()
    await asyncio.wait({task})
    closing = asyncio.create_task(asyncio.to_thread(session.records.close))
    await asyncio.wait({closing}, timeout=0.5)  # whether it waits for the disk or not
    goes_on.set()
    await closing
    session.publisher.exec.close()

    assert session.records.latch.load().halt is None
    async with rig.running(redis_server.port) as session:
        await session.drained()
    rig.check(redis_server.client)
