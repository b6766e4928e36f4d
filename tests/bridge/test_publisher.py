"""bridge/publisher.py: when it flushes, what it says about itself, and its thread in a backtest."""

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge import publisher as publisher_module
from bridge.core import resp
from bridge.core.contract import EXEC_KINDS
from bridge.core.lanes import Channel, LaneFull, Refused
from bridge.handlers import Handlers
from bridge.publisher import PublisherThread
from tests.proxies import WAIT_SECONDS_MAX, Rig, check_exec, key, numbers, on_uvloop, until
from tests.servers import RedisServer, free_port

type MakeRedis = Callable[..., RedisServer]


def wait_until(condition: Callable[[], object]) -> None:
    """Wait, without a loop, until `condition` holds."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


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
    before = len(redis_server.client.client_list())
    rig = Rig(redis_server.port)
    assert rig.count("connected", lane="exec") == rig.count("connected", lane="market") == 0

    async with rig.running():
        assert rig.count("connected", lane="exec") == rig.count("connected", lane="market") == 1
        assert len(redis_server.client.client_list()) == before + 2

    assert rig.count("connected", lane="exec") == rig.count("connected", lane="market") == 0


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
        await until(lambda: rig.publisher.market.in_flight and rig.exec_lane.in_flight)
    assert rig.publisher.unpublished == {"exec": 20, "market": 300}
    assert (rig.publisher.market.in_flight, rig.exec_lane.in_flight) == (0, 0)
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


class Backtest:
    """A rig whose publisher has a thread of its own; the test's thread is the engine's."""

    def __init__(self, port: int, **options: Any) -> None:
        self.rig = Rig(port, threaded=True, **options)
        self.thread = PublisherThread(self.rig.publisher)

    def stop(self, seconds_max: float = WAIT_SECONDS_MAX) -> bool:
        return self.thread.stop(seconds_max)


@pytest.mark.parametrize("entries_max", [2, 50])
def test_backtest_loses_nothing(redis_server: RedisServer, entries_max: int) -> None:
    """With tiny lanes a backtest waits, and every event arrives, none conflated or dropped."""
    backtest = Backtest(
        redis_server.port, exec_entries_max=entries_max, market_entries_max=entries_max
    )
    backtest.thread.start()
    rig = backtest.rig

    for number in range(1500):
        rig.quote(("A", number))
        rig.trade(("A", number))
        if number % 5 == 0:
            rig.append(EXEC_KINDS[number % 3])
    assert backtest.stop()

    check_exec(rig, redis_server.client)
    for kind in ("quotes", "trades"):
        assert numbers(redis_server.client, kind, "A") == list(range(1500))
        assert rig.count("market_conflated_total", kind=kind) == 0
        assert rig.count("market_dropped_total", kind=kind, reason="full") == 0
        assert rig.count("market_published_total", kind=kind) == 1500


def test_backtest_waits_while_redis_is_away(
    make_redis: MakeRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full lane holds the engine up, says so, and lets it go on when Redis is back."""
    monkeypatch.setattr(publisher_module, "WAIT_LOG_SECONDS", 0.01)
    server = make_redis()
    server.kill()
    backtest = Backtest(server.port, exec_entries_max=10)
    backtest.thread.start()
    engine = threading.Thread(target=backtest.rig.append, args=("orders", 500))

    with capture_logs() as logs:
        engine.start()
        wait_until(lambda: [log for log in logs if log["event"] == "backtest.waiting"])
        assert backtest.rig.exec_lane.backlog == 10
        server.start()
        engine.join(WAIT_SECONDS_MAX)
    assert not engine.is_alive()
    assert backtest.stop()

    check_exec(backtest.rig, server.client)


def test_backtest_tells_what_was_left(redis_server: RedisServer) -> None:
    """A stop without Redis comes back in time, and says that not all is confirmed."""
    backtest = Backtest(free_port())
    backtest.thread.start()
    backtest.rig.append("orders", 3)

    assert not backtest.stop(0.05)
    assert backtest.rig.publisher.unpublished == {"exec": 3, "market": 0}


def test_backtest_stops_twice(redis_server: RedisServer) -> None:
    """A second stop is harmless."""
    backtest = Backtest(redis_server.port)
    backtest.thread.start()

    assert backtest.stop()
    assert backtest.stop()


def test_backtest_failure_surfaces(redis_server: RedisServer) -> None:
    """A fault of the publisher holds no engine up, and is raised by `stop`."""
    backtest = Backtest(redis_server.port, exec_entries_max=5, market_entries_max=5)
    backtest.rig.publisher.on_progress = fail
    backtest.thread.start()

    with pytest.raises(LaneFull):
        backtest.rig.append("orders", 10_000)
    for number in range(100):
        backtest.rig.trade(("A", number))
    assert backtest.rig.market_lane.backlog <= 6

    with pytest.raises(ExceptionGroup) as caught:
        backtest.stop()
    assert caught.group_contains(ZeroDivisionError)


def test_backtest_failure_at_the_end_surfaces(redis_server: RedisServer) -> None:
    """A fault while `stop` publishes what is left is raised by `stop` as well."""
    backtest = Backtest(redis_server.port)
    backtest.thread.start()
    wait_until(lambda: backtest.rig.publisher.problem is None)
    redis_server.client.client_pause(100)
    backtest.rig.append("orders")
    backtest.rig.publisher.on_progress = fail

    with pytest.raises(ExceptionGroup) as caught:
        backtest.stop()
    assert caught.group_contains(ZeroDivisionError)


def test_backtest_calls_every_handler(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Handlers see each entry in order, although their queue is far smaller than the run."""
    monkeypatch.setattr("bridge.handlers.CALLS_MAX", 3)
    backtest = Backtest(redis_server.port)
    rig, seen = backtest.rig, []
    handlers = Handlers(rig.metrics, ("orders",))
    handlers.waits = True
    handlers.by_kind["orders"].append(lambda fields: seen.append(fields["seq"]))
    rig.publisher.handlers, rig.exec_lane.on_entry = handlers, handlers.offer
    backtest.thread.start()

    rig.append("orders", 300)
    assert backtest.stop()

    assert seen == [str(seq) for seq in range(1, 301)]
    assert rig.count("handler_errors_total") == 0


def test_backtest_leaves_nothing_behind(redis_server: RedisServer) -> None:
    """Runs one after the other leave no thread and no descriptor."""

    def run() -> None:
        backtest = Backtest(redis_server.port)
        backtest.thread.start()
        backtest.rig.append("orders")
        assert backtest.stop()

    def descriptors() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the folder is no file tree

    run()
    before = (descriptors(), threading.active_count())
    for _ in range(20):
        run()

    assert (descriptors(), threading.active_count()) == before


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
        assert rig.publisher.problem is None

    check_exec(rig, server.client)
