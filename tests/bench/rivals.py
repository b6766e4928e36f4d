"""Rows that compare with other ways to get the same quotes into a Redis stream."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager

import redis.asyncio
import uvloop
from nautilus_trader.config import DatabaseConfig, MessageBusConfig
from nautilus_trader.model.data import QuoteTick
from redis.backoff import NoBackoff
from redis.retry import Retry

from bridge.embedded_redis import HOST
from integrations.nautilus.market import exact_mid
from tests.bench.machine import CHUNK, Bench, Round
from tests.bench.rig import MAXLEN, STREAM, TOPIC, Rig, engine, publishes, ring
from tests.bench.throughput import FLOOD_ENTRIES, Flooded
from tests.servers import RedisServer

NATIVE_ENTRIES = 50_000
NATIVE_BUFFER_MS = 100
NATIVE_SECONDS_MAX = 120.0
NATIVE_STREAM = f"trader-BENCH-001:stream:{TOPIC}"
PIPELINE = 100
PIPELINE_ENTRIES = 20_000
XADD_ENTRIES = 4_000
FIELDS = 10_000

type Fields = Mapping[str, str]
type Send = Callable[[redis.asyncio.Redis, list[Fields]], Awaitable[None]]


def native_buffered(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield bus -> acknowledged over Nautilus's own Redis backing, till its entries are there."""
    entries = bench.entries(NATIVE_ENTRIES)
    with bench.server() as server:
        bus = MessageBusConfig(
            database=DatabaseConfig(type="redis", host=HOST, port=server.port),
            encoding="json",
            buffer_interval_ms=NATIVE_BUFFER_MS,
        )
        with engine(bus) as made:
            emit = publishes(made)
            chunks = list(itertools.islice(itertools.cycle(ring()), entries // CHUNK))

            def native() -> float:
                server.client.delete(NATIVE_STREAM)
                start = time.perf_counter()
                for chunk in chunks:
                    emit(chunk)
                _wait_landed(server, entries)
                return (time.perf_counter() - start) / entries

            yield from _against(bench, server, rounds, native)


def _wait_landed(server: RedisServer, entries: int) -> None:
    """Return when the stream holds them all. Raises TimeoutError: the backing gives up silently."""
    deadline = time.monotonic() + NATIVE_SECONDS_MAX
    while (landed := server.client.xlen(NATIVE_STREAM)) < entries:
        if time.monotonic() > deadline:
            raise TimeoutError(f"Nautilus's backing brought {landed} of {entries} entries")
        time.sleep(0.001)


def redis_py_pipeline(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield bus -> acknowledged over redis-py's asyncio client in pipelines of 100."""
    yield from _redis_py(bench, rounds, PIPELINE_ENTRIES, _send_pipelines)


def redis_py_xadd(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield bus -> acknowledged over redis-py's asyncio client, one awaited call an entry."""
    yield from _redis_py(bench, rounds, XADD_ENTRIES, _send_singly)


async def _send_pipelines(client: redis.asyncio.Redis, entries: list[Fields]) -> None:
    for part in itertools.batched(entries, PIPELINE):
        async with client.pipeline(transaction=False) as pipeline:
            for fields in part:
                pipeline.xadd(STREAM, fields, maxlen=MAXLEN, approximate=True)
            await pipeline.execute()


async def _send_singly(client: redis.asyncio.Redis, entries: list[Fields]) -> None:
    for fields in entries:
        await client.xadd(STREAM, fields, maxlen=MAXLEN, approximate=True)


def _redis_py(bench: Bench, rounds: int, count: int, send: Send) -> Iterator[Round]:
    """Compare with `send`, which is given its entries as ready fields: redis-py's cost only."""
    entries = bench.entries(count)
    quotes = itertools.islice(itertools.chain.from_iterable(ring()), FIELDS)
    ready = [_fields(quote) for quote in quotes]
    fields = list(itertools.islice(itertools.cycle(ready), entries))
    with bench.server() as server, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:

        async def run() -> float:
            async with client_of(server) as client:
                start = time.perf_counter()
                await send(client, fields)
                return (time.perf_counter() - start) / entries

        yield from _against(bench, server, rounds, lambda: runner.run(run()))


@asynccontextmanager
async def client_of(server: RedisServer) -> AsyncIterator[redis.asyncio.Redis]:
    """Yield redis-py's asyncio client, connected; it never retries."""
    client = redis.asyncio.Redis(host=HOST, port=server.port, retry=Retry(NoBackoff(), 0))
    await client.ping()
    try:
        yield client
    finally:
        await client.aclose()


def _fields(quote: QuoteTick) -> Fields:
    _, bid, ask, bid_size, ask_size, ts_ns = str(quote).rsplit(",", 5)
    return {
        "bid_px": bid,
        "bid_sz": bid_size,
        "ask_px": ask,
        "ask_sz": ask_size,
        "mid": exact_mid(bid, ask),
        "ts_ns": ts_ns,
        "venue": "BINANCE",
    }


def _against(
    bench: Bench, server: RedisServer, rounds: int, rival: Callable[[], float]
) -> Iterator[Round]:
    """Yield the rival's seconds per entry over ours from the bus, on the same server."""
    entries = bench.entries(FLOOD_ENTRIES)
    with ExitStack() as stack:
        made = stack.enter_context(engine())
        flooded = Flooded(server, Rig.bus, made)
        stack.callback(flooded.close)
        flooded.run(entries)
        rival()
        for _ in range(rounds):
            before = flooded.run(entries).seconds
            theirs = rival()
            ours = (before + flooded.run(entries).seconds) / 2
            yield Round(theirs / ours, {"per_s": 1 / ours, "rival_per_s": 1 / theirs})
