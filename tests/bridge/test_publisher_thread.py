"""bridge/publisher.py: its thread in a backtest, which waits and loses nothing."""

import gc
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge import publisher as publisher_module
from bridge.core.contract import EXEC_KINDS
from bridge.core.lanes import LaneFull
from bridge.handlers import Handlers
from bridge.publisher import PublisherThread
from tests.proxies import WAIT_SECONDS_MAX, Rig, check_exec, numbers
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
    backtest.rig.publisher.on_progress = fail
    backtest.rig.append("orders")

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

    def run(producer: str) -> None:
        backtest = Backtest(redis_server.port, producer=producer)
        backtest.thread.start()
        backtest.rig.append("orders")
        assert backtest.stop()

    def descriptors() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the folder is no file tree

    run("T.0.1")
    before, threads = descriptors(), threading.active_count()
    for number in range(20):
        run(f"T.{number}.2")

    # Fewer: what tests before this one had left has ended meanwhile.
    assert descriptors() <= before
    assert threading.active_count() <= threads
