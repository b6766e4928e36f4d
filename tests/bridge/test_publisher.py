"""bridge/publisher.py: when it flushes, what it says about itself, and its thread in a backtest."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge import config, exits
from bridge import publisher as publisher_module
from bridge.core import resp
from bridge.core.lanes import Channel, Refused
from bridge.exits import Exit
from bridge.records import Records
from tests.proxies import Rig, check_exec, key, numbers, on_uvloop, until
from tests.servers import RedisServer, free_port

type MakeRedis = Callable[..., RedisServer]


def fail() -> None:
    raise ZeroDivisionError("a fault of ours")


@on_uvloop
async def test_one_flush_per_loop_turn(redis_server: RedisServer) -> None:
    """What is appended within one turn of the loop leaves as one batch."""
    rig = Rig(redis_server.port, batch_entries_max=100)

    async with rig.running():
        rig.append("orders", 30)
        await rig.drained()

    assert rig.count("publish_latency_seconds_count", lane="exec") == 1


@on_uvloop
async def test_lanes_have_connections_of_their_own(redis_server: RedisServer) -> None:
    """There is one connection a lane, and the gauges show both."""
    before = _client_ids(redis_server)
    rig = Rig(redis_server.port)
    assert rig.count("connected", lane="exec") == rig.count("connected", lane="market") == 0

    async with rig.running():
        assert rig.count("connected", lane="exec") == rig.count("connected", lane="market") == 1
        assert len(_client_ids(redis_server) - before) == 2

    assert rig.count("connected", lane="exec") == rig.count("connected", lane="market") == 0


def _client_ids(server: RedisServer) -> set[str]:
    return {each["id"] for each in server.client.client_list()}


@on_uvloop
async def test_drain_of_nothing(redis_server: RedisServer) -> None:
    """With nothing to publish a drain is done at once, connected or not."""
    rig = Rig(free_port())

    async with rig.running(connected=False):
        assert await rig.publisher.drain(0)


@on_uvloop
async def test_drain_gives_up(redis_server: RedisServer) -> None:
    """A drain that takes too long says so; what is left is told by lane."""
    rig = Rig(free_port())
    rig.append("orders", 2)
    rig.append("account")
    rig.trade(("A", 1))

    async with rig.running(connected=False):
        assert not await rig.publisher.drain(0.05)

    assert rig.publisher.unpublished == {"exec": 3, "market": 1}
    assert (rig.count("exec_backlog"), rig.count("market_backlog")) == (3, 1)


@on_uvloop
async def test_drain_of_bad_events(redis_server: RedisServer) -> None:
    """A drain is done when the last events turn out bad: no reply will ever tell of them."""
    rig = Rig(redis_server.port)

    async with rig.running():
        rig.trade(("A", None))
        await rig.drained()

    assert rig.publisher.unpublished == {"exec": 0, "market": 0}


@on_uvloop
async def test_bad_events_are_named(redis_server: RedisServer) -> None:
    """Bad events are counted by reason and said once a kind and reason; the others arrive."""
    rig = Rig(redis_server.port)

    def encode(events: Sequence[int]) -> bytes:
        if any(number < 0 for number in events):
            raise Refused("collision", "two instruments, one stream")
        return b"".join([resp.command("XADD", key("bars", "A"), "*", "n", n) for n in events])

    offer = rig.market_lane.open(
        Channel("bars", encode=encode, stream_of=lambda _: "A", conflates=False)
    )
    with capture_logs() as logs:
        async with rig.running():
            for number in (1, -2, 3, -4):
                offer(number)
                rig.trade(("A", None))
            await rig.drained()

    assert numbers(redis_server.client, "bars", "A") == [1, 3]
    assert rig.count("events_refused_total", reason="collision") == 2
    assert rig.count("events_refused_total", reason="broken") == 4
    said = [(log["kind"], log["reason"]) for log in logs if log["event"] == "event.refused"]
    assert sorted(said) == [("bars", "collision"), ("trades", "broken")]
    assert {log.get("problem") for log in logs} >= {
        "Refused: two instruments, one stream",
        "ValueError: a bad event",
    }


@on_uvloop
async def test_problem_tells_the_lane_and_the_cause(make_redis: MakeRedis) -> None:
    """Without a connection the problem names lane and cause; with both there is none."""
    server = make_redis()
    rig = Rig(server.port)
    before = rig.publisher.problem

    async with rig.running():
        assert rig.publisher.problem is None
        server.kill()
        await until(lambda: "refused" in (rig.publisher.problem or ""))

    assert before == "no connection to Redis for the exec lane: not connected yet"


@on_uvloop
async def test_what_was_not_confirmed_stays(make_redis: MakeRedis) -> None:
    """A publisher that is cancelled in mid-flow keeps what is open, and may run again."""
    server = make_redis()
    rig = Rig(server.port)

    async with rig.running():
        server.pause()
        rig.append("orders", 20)
        for number in range(300):
            rig.trade(("A", number))
        await until(lambda: rig.publisher.market.in_flight and rig.publisher.exec.in_flight)
    assert rig.publisher.unpublished == {"exec": 20, "market": 300}
    assert (rig.publisher.market.in_flight, rig.publisher.exec.in_flight) == (0, 0)
    server.resume()
    async with rig.running():
        await rig.drained()

    check_exec(rig, server.client)
    assert set(numbers(server.client, "trades", "A")) == set(range(300))


@on_uvloop
async def test_late_events_are_kept(redis_server: RedisServer) -> None:
    """After its end an append neither fails nor is lost."""
    rig = Rig(redis_server.port)
    async with rig.running():
        pass

    rig.append("fills")
    rig.quote(("A", 1))

    assert rig.publisher.unpublished == {"exec": 1, "market": 1}


@on_uvloop
async def test_a_fault_ends_it(redis_server: RedisServer) -> None:
    """A fault of ours is no outage: `run` raises it."""
    rig = Rig(redis_server.port)
    rig.publisher.on_progress = fail

    with pytest.raises(ExceptionGroup) as caught:
        async with rig.running():
            rig.append("orders")
            await until(lambda: rig.publisher.problem is not None)

    assert caught.group_contains(ZeroDivisionError)


async def test_many_wakes_are_one_flush(redis_server: RedisServer) -> None:
    """However often it is woken within a turn, one flush is scheduled."""
    rig, flushes = Rig(redis_server.port), []
    rig.publisher.exec.flush = lambda: flushes.append(1)  # type: ignore[method-assign]

    async with rig.running():
        await asyncio.sleep(0)
        flushes.clear()
        for _ in range(10):
            rig.publisher.wake()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    assert flushes == [1]


async def test_a_silent_redis_is_a_problem(
    make_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Redis that owes an answer is told; then its connection is given up, and nothing is lost."""
    monkeypatch.setattr(publisher_module, "WATCH_SECONDS", 0.01)
    monkeypatch.setattr(publisher_module, "SILENT_SECONDS_MAX", 0.05)
    server = make_redis()
    rig = Rig(server.port, reply_seconds_max=0.5)
    async with rig.running():
        server.pause()
        rig.append("fills", 3)
        await until(lambda: "has not answered for" in (rig.publisher.problem or ""))
        await until(lambda: "no connection" in (rig.publisher.problem or ""))
        server.resume()
        await rig.drained()
        await until(lambda: rig.publisher.problem is None)

    check_exec(rig, server.client)


@on_uvloop
async def test_a_failed_journal_is_latched_and_told(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """Whichever thread finds it: the latch is set, and who trades is told on the loop (exit 74)."""
    settings = config.load(None, environ={}, overrides={"state.directory": str(tmp_path)})
    records = Records.open(settings, "T")
    rig, told = Rig(redis_server.port), []
    rig.publisher.guard(records)
    rig.exec_lane.on_failure = lambda error: told.append((error, threading.current_thread()))

    async with rig.running():
        await asyncio.to_thread(records.journal.on_failure, "the disk is full")
        await until(lambda: told)
    halt = records.latch.load().halt
    records.close()

    ((error, thread),) = told
    assert isinstance(error, Exit) and error.code == exits.CANNOT_RECORD
    assert thread is threading.current_thread()
    assert halt is not None
    assert (halt.cause, halt.reason) == ("journal", "the journal failed: the disk is full")


@on_uvloop
async def test_the_journal_is_measured(redis_server: RedisServer, tmp_path: Path) -> None:
    """Gauges tell how much disk it takes, and how many entries are not durable yet."""
    settings = config.load(None, environ={}, overrides={"state.directory": str(tmp_path)})
    records = Records.open(settings, "T")
    rig = Rig(redis_server.port)
    rig.publisher.guard(records)
    records.journal.append(0, 1, 1, 2, bytes(16), b"$1\r\na\r\n$1\r\nb\r\n")

    assert rig.count("journal_unsynced") == 1
    records.journal.sync()
    assert rig.count("journal_unsynced") == 0
    files = (tmp_path / "journal").iterdir()
    sizes = [path.stat().st_size for path in files if path.name.endswith(("seg", "reserve"))]
    assert rig.count("journal_bytes") == sum(sizes) > 0
    records.close()
