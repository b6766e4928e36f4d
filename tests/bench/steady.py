"""Rows at a steady rate: latency and memory."""

import asyncio
import os
import resource
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import uvloop

from bridge.publisher import Publisher
from tests.bench.machine import Bench, Round
from tests.bench.reference import Reference
from tests.bench.rig import ROW, Emit, QuoteMaker, Rig, engine
from tests.servers import RedisServer

# How often the source looks what is due, as the replay does.
TICK_SECONDS = 0.001
LATENCY_SECONDS = 2.0
WARM_SECONDS = 0.3
TIMER_SECONDS = 0.010
MEMORY_EVENTS = 1_000_000
MEMORY_RATE = 100_000
MIB = 1 << 20

type GoOn = Callable[[int, float], bool]


class TimerPublisher(Publisher):
    """What the flush of each loop turn is compared with: a flush every 10 ms."""

    def wake(self) -> None:
        """Arrange a flush 10 ms from now, however often it is called before that."""
        if not self._armed and self._loop is not None:
            self._armed = True
            self._loop.call_later(TIMER_SECONDS, self._flush)


class Source:
    """Makes a fresh quote each time one is due, whatever became of the ones before."""

    def __init__(self, emit: Emit) -> None:
        self.count = 0
        self._emit = emit
        self._make = QuoteMaker(ROW.id)

    async def run(self, rate: float, go_on: GoOn, note: Callable[[], None] | None = None) -> None:
        """Publish `rate` quotes a second while `go_on(count, seconds)` holds.

        `note` is called before each.
        """
        start, first = time.perf_counter(), self.count
        while go_on(self.count - first, elapsed := time.perf_counter() - start):
            for _ in range(int(elapsed * rate) - (self.count - first)):
                if note is not None:
                    note()
                self._emit((self._make(self.count),))
                self.count += 1
            await asyncio.sleep(TICK_SECONDS)


class Steady:
    """A tapped bus and its publisher, measured at a steady rate again and again."""

    def __init__(
        self, stack: ExitStack, server: RedisServer, publisher: type[Publisher] = Publisher
    ) -> None:
        self._runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        self._rig = Rig(server, publisher)
        self._source = Source(self._rig.bus(stack.enter_context(engine())))

    def run[T](self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns."""
        return self._runner.run(work)

    async def latency(self, rate: float, seconds: float) -> float:
        """Return the median seconds from publish to acknowledgement, each event by itself."""
        rig, source = self._rig, self._source
        made_at: deque[float] = deque()
        taken: list[float] = []

        def on_progress() -> None:
            now = time.perf_counter()
            acknowledged = len(made_at) - rig.unacknowledged
            taken.extend([now - made_at.popleft() for _ in range(acknowledged)])

        async with rig.running():
            await source.run(rate, lambda _, elapsed: elapsed < WARM_SECONDS)
            await rig.drained()
            rig.publisher.on_progress = on_progress
            await source.run(
                rate,
                lambda _, elapsed: elapsed < seconds,
                note=lambda: made_at.append(time.perf_counter()),
            )
            await rig.drained()
            rig.publisher.on_progress = None
        return statistics.median(taken)

    async def growth(self, rate: float, events: int) -> int:
        """Return by how many bytes the process grew over so many events."""
        async with self._rig.running():
            await self._source.run(rate, lambda _, elapsed: elapsed < WARM_SECONDS)
            before = rss_bytes()
            await self._source.run(rate, lambda count, _: count < events)
            return rss_bytes() - before


def latency_10k(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield the median latency at 10k/s as a multiple of a bare PING's, before and after it."""
    seconds = bench.seconds(LATENCY_SECONDS)
    with ExitStack() as stack:
        server = stack.enter_context(bench.server())
        steady = Steady(stack, server)
        raw = Reference(server, [])
        stack.callback(raw.close)
        for _ in range(rounds):
            before = raw.ping_seconds()
            latency = steady.run(steady.latency(10_000, seconds))
            ping = (before + raw.ping_seconds()) / 2
            yield Round(latency / ping, {"p50_us": latency * 1e6, "ping_us": ping * 1e6})


def latency_50k(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield the median latency at 50k/s as a fraction of the one with a 10 ms timer flush."""
    seconds = bench.seconds(LATENCY_SECONDS)
    with ExitStack() as stack:
        server = stack.enter_context(bench.server())
        turn, timer = Steady(stack, server), Steady(stack, server, TimerPublisher)
        for _ in range(rounds):
            ours = turn.run(turn.latency(50_000, seconds))
            theirs = timer.run(timer.latency(50_000, seconds))
            yield Round(ours / theirs, {"p50_us": ours * 1e6, "timer_p50_us": theirs * 1e6})


def memory_1m(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield by how many MiB this process grows over a million events, at 100k/s."""
    events = bench.entries(MEMORY_EVENTS)
    with ExitStack() as stack:
        steady = Steady(stack, stack.enter_context(bench.server()))
        steady.run(steady.growth(MEMORY_RATE, events // 4))  # everything was used once
        for _ in range(rounds):
            grown = steady.run(steady.growth(MEMORY_RATE, events))
            yield Round(grown / MIB, {"rss_mib": rss_bytes() / MIB})


def rss_bytes() -> int:
    """Return this process's resident memory; where the system tells only its peak, that."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")
