"""Rows that flood: how many entries a second, and how much CPU for each."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import uvloop
from nautilus_trader.backtest.engine import BacktestEngine

from integrations.nautilus.market import Trim
from tests.bench.machine import CHUNK, Bench, Round
from tests.bench.reference import Reference, encode
from tests.bench.rig import MAXLEN, WINDOW, Emit, Rig, engine, ring
from tests.servers import RedisServer

FLOOD_ENTRIES = 200_000
FLOOD_SECONDS_MAX = 120.0

type Open = Callable[[Rig, BacktestEngine], Emit]


class Flood(NamedTuple):
    """What one entry cost: wall clock, and CPU of the publishing thread."""

    seconds: float
    cpu_seconds: float


class Flooder:
    """Sends quotes as fast as they are acknowledged; each acknowledgement calls for more."""

    def __init__(self, rig: Rig, emit: Emit, chunks: Sequence[Sequence[object]]) -> None:
        self._rig = rig
        self._emit = emit
        self._chunks = itertools.cycle(chunks)
        self._left = 0
        self._done = asyncio.Event()
        rig.publisher.on_progress = self._feed

    async def run(self, entries: int) -> Flood:
        """Return what each of `entries` cost, from the first event to the last reply."""
        self._left = entries
        self._done.clear()
        start, cpu_start = time.perf_counter(), time.thread_time()
        self._feed()
        async with asyncio.timeout(FLOOD_SECONDS_MAX):
            await self._done.wait()
        seconds, cpu_seconds = time.perf_counter() - start, time.thread_time() - cpu_start
        return Flood(seconds / entries, cpu_seconds / entries)

    def _feed(self) -> None:
        unacknowledged = self._rig.unacknowledged
        while self._left and unacknowledged <= WINDOW - CHUNK:
            self._emit(next(self._chunks))
            self._left -= CHUNK
            unacknowledged += CHUNK
        if not unacknowledged:
            self._done.set()


class Flooded:
    """One producer on one server, ready to be measured again and again."""

    def __init__(
        self, server: RedisServer, opens: Open, made: BacktestEngine, *, instruments: int = 1
    ) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._rig = Rig(server)
        self._emit = opens(self._rig, made)
        self._chunks = ring(instruments)

    def close(self) -> None:
        """End the loop."""
        self._runner.close()

    def run(self, entries: int) -> Flood:
        """Return what an entry cost."""
        return self._runner.run(self._run(entries))

    async def _run(self, entries: int) -> Flood:
        async with self._rig.running():
            return await Flooder(self._rig, self._emit, self._chunks).run(entries)


def sink(rig: Rig, made: BacktestEngine, *, every: int | None = None) -> Emit:
    """Ready quotes into the lane; `every` entries one trims, by default as the product does."""
    return rig.sink(made, Trim(MAXLEN) if every is None else Trim(MAXLEN, every=every))


def against_ref(bench: Bench, rounds: int, *, opens: Open) -> Iterator[Round]:
    """Yield the producer's rate as a multiple of REF's, measured before and after it."""
    entries = bench.entries(FLOOD_ENTRIES)
    with ExitStack() as stack:
        server = stack.enter_context(bench.server())
        made = stack.enter_context(engine())
        flooded = Flooded(server, opens, made)
        stack.callback(flooded.close)
        reference = Reference(server, encode(ring()))
        stack.callback(reference.close)
        reference.blast(entries)  # the stream at its full length, the code warm
        flooded.run(entries)
        for _ in range(rounds):
            before = reference.blast(entries)
            seconds = flooded.run(entries).seconds
            ref = (before + reference.blast(entries)) / 2
            yield Round(ref / seconds, {"per_s": 1 / seconds, "ref_per_s": 1 / ref})


def streams_1000(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield the client's CPU per entry with 1000 streams, over that with one stream."""
    entries = bench.entries(FLOOD_ENTRIES)
    count = max(2, round(1_000 * min(1.0, bench.scale * 10)))
    with ExitStack() as stack:
        servers, floods = [], []
        for instruments in (1, count):
            server = stack.enter_context(bench.server())
            made = stack.enter_context(engine(instruments=instruments))
            flooded = Flooded(server, sink, made, instruments=instruments)
            stack.callback(flooded.close)
            flooded.run(entries)
            servers.append(server)
            floods.append(flooded)
        for _ in range(rounds):
            (one, many), (server_one, server_many) = zip(
                *map(partial(_cpu, entries), servers, floods), strict=True
            )
            detail = {
                "us_1": one * 1e6,
                "us_1000": many * 1e6,
                "server_ratio": server_many / server_one,
            }
            yield Round(many / one, detail)


def _cpu(entries: int, server: RedisServer, flooded: Flooded) -> tuple[float, float]:
    """Return the CPU seconds per entry of client and server."""
    before = _server_cpu_seconds(server)
    client = flooded.run(entries).cpu_seconds
    return client, (_server_cpu_seconds(server) - before) / entries


def _server_cpu_seconds(server: RedisServer) -> float:
    used = server.client.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])
