"""What stands between a test and Redis: a proxy that breaks connections, and a rig to publish."""

import asyncio
import contextlib
import functools
import gc
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, Self

import redis
import uvloop

from bridge.core import contract, resp
from bridge.core.contract import EXEC_KINDS, STREAMS, default_names
from bridge.core.lanes import Channel, ExecLane, MarketLane
from bridge.embedded_redis import HOST
from bridge.exec_shipper import ExecShipper
from bridge.link import Target
from bridge.metrics import Metrics
from bridge.publisher import Publisher

WAIT_SECONDS_MAX = 20.0
NAMES = default_names()


def on_uvloop[**P](test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test on uvloop, as the daemon does; what the loop had to swallow fails the test."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        swallowed: list[dict[str, Any]] = []
        with asyncio.Runner(loop_factory=uvloop.new_event_loop, debug=True) as runner:
            runner.get_loop().set_exception_handler(lambda _, said: swallowed.append(said))
            runner.run(test(*args, **kwargs))
            gc.collect()  # a future whose exception nobody asked for speaks when it is collected
        assert not swallowed, swallowed

    return run


async def until(condition: Callable[[], object]) -> None:
    """Wait until `condition` holds; the test fails when it never does."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.001)


class Proxy:
    """A TCP proxy in front of a port of this machine, with switches for what can go wrong.

    `async with Proxy(port) as proxy`; clients connect to `proxy.port`. `upstream_port` may be
    changed, new connections go there.
    """

    def __init__(self, upstream_port: int) -> None:
        self.upstream_port = upstream_port
        self.port = 0
        self.accepted = 0
        self._garbage: bytes | None = None
        self._cut_after: int | None = None
        self._flow = asyncio.Event()
        self._flow.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        self.cut()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()

    def cut(self) -> None:
        """Reset every connection at once."""
        for writer in self._writers:
            writer.transport.abort()

    def cut_next_reply(self, after: int = 0) -> None:
        """Let the next reply of the server through up to that many bytes, then cut it off: the
        server has done what it was asked, and the client does not know."""
        self._cut_after = after

    def garble_next_reply(self, garbage: bytes) -> None:
        """Say something else in place of the server's next reply."""
        self._garbage = garbage

    def hold_replies(self) -> None:
        """Keep what the server says back until `release_replies`."""
        self._flow.clear()

    def release_replies(self) -> None:
        self._flow.set()

    @property
    def is_armed(self) -> bool:
        """Whether the next reply is still to be cut or garbled."""
        return self._cut_after is not None or self._garbage is not None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        writers = {writer}
        self._writers |= writers
        try:
            far_reader, far_writer = await asyncio.open_connection(HOST, self.upstream_port)
            writers.add(far_writer)
            self._writers |= writers
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, far_writer.write))
                group.create_task(_pump(far_reader, functools.partial(self._reply, writer)))
        except (OSError, ExceptionGroup):
            pass  # one end has gone: so does the other
        finally:
            for each in writers:
                each.transport.abort()
            self._writers -= writers
            self._tasks.discard(task)

    async def _reply(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        await self._flow.wait()
        if self._garbage is not None:
            data, self._garbage = self._garbage, None
        if self._cut_after is not None:
            data, self._cut_after = data[: self._cut_after], None
            writer.write(data)
            await writer.drain()
            raise ConnectionAbortedError
        writer.write(data)


async def _pump(
    reader: asyncio.StreamReader, deliver: Callable[[bytes], Awaitable[None] | None]
) -> None:
    while data := await reader.read(65536):
        waiting = deliver(data)
        if waiting is not None:
            await waiting
    raise ConnectionAbortedError


class Rig:
    """A publisher over real lanes, and what was put into them.

    Market events are pairs (symbol, number); a number of None is a bad event.
    """

    def __init__(
        self,
        target: Target | int,
        *,
        producer: str = "T.0.1",
        exec_entries_max: int = 100_000,
        market_entries_max: int = 20_000,
        batch_entries_max: int = 16,
        in_flight_max: int = 4096,
        exec_in_flight_max: int = 4096,
        reply_seconds_max: float = 30.0,
        threaded: bool = False,
    ) -> None:
        self.metrics = Metrics()
        self.appended: dict[str, list[str]] = {kind: [] for kind in EXEC_KINDS}
        self.exec_lane = ExecLane(
            NAMES,
            producer=producer,
            entries_max=exec_entries_max,
            clock_ns=time.monotonic_ns,
            numbering=threading.Lock() if threaded else contextlib.nullcontext(),
        )
        self.market_lane = MarketLane(entries_max=market_entries_max, clock_ns=time.monotonic_ns)
        self.quote = self.market_lane.open(channel("quotes", conflates=True))
        self.trade = self.market_lane.open(channel("trades", conflates=False))
        shipper = ExecShipper(
            self.exec_lane,
            self.metrics,
            scope=self.exec_lane.producer,
            journal=None,
            lease=None,
            batch_entries_max=batch_entries_max,
            in_flight_max=exec_in_flight_max,
        )
        self.publisher = Publisher(
            Target(port=target) if isinstance(target, int) else target,
            shipper,
            self.market_lane,
            self.metrics,
            in_flight_max=in_flight_max,
            backoff_seconds_max=0.05,
            reply_seconds_max=reply_seconds_max,
            threaded=threaded,
        )

    @contextlib.asynccontextmanager
    async def running(self, *, connected: bool = True) -> AsyncIterator[None]:
        """Publish; with `connected` the body begins when both connections stand."""
        task = asyncio.create_task(self.publisher.run())
        try:
            if connected:
                await until(lambda: task.done() or self.publisher.problem is None)
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    def append(self, kind: str, count: int = 1) -> None:
        """Put `count` entries into the exec lane, each telling its number in every field."""
        for _ in range(count):
            text = f"{kind} {len(self.appended[kind])}"
            self.appended[kind].append(text)
            self.exec_lane.append(contract.entry(kind, dict.fromkeys(STREAMS[kind].names, text)))

    def count(self, name: str, **labels: str) -> int:
        """Return the value of a metric."""
        value = self.metrics.registry.get_sample_value(f"nautilus_bridge_{name}", labels)
        assert value is not None, name
        return int(value)

    async def drained(self) -> None:
        """Wait until nothing is left to publish."""
        assert await self.publisher.drain(WAIT_SECONDS_MAX)


def key(kind: str, symbol: str = "") -> str:
    """Return the name of a stream."""
    return NAMES.key(kind, {"asset": "crypto", "symbol": symbol})


def channel(kind: str, *, conflates: bool) -> Channel:
    """Return a channel for events that are pairs (symbol, number)."""

    def stream_of(event: tuple[str, int | None]) -> str:
        return key(kind, event[0])

    def encode(events: Sequence[tuple[str, int | None]]) -> bytes:
        if any(number is None for _, number in events):
            raise ValueError("a bad event")
        return b"".join([resp.command("XADD", stream_of(e), "*", "n", str(e[1])) for e in events])

    return Channel(kind, encode=encode, stream_of=stream_of, conflates=conflates)


def exec_entries(client: redis.Redis, kind: str) -> list[dict[str, str]]:
    """Return all entries of an exec stream as they stand in Redis."""
    return [fields for _, fields in client.xrange(key(kind))]


def check_exec(rig: Rig, client: redis.Redis) -> None:
    """The law of the exec lane: each stream is what was appended, each entry once, in order."""
    for kind, appended in rig.appended.items():
        rows = exec_entries(client, kind)
        assert [int(row["seq"]) for row in rows] == list(range(1, len(appended) + 1)), kind
        names = STREAMS[kind].names
        wanted = [dict.fromkeys(names, text) for text in appended]
        assert [{name: row[name] for name in names} for row in rows] == wanted, kind
        assert {row["producer"] for row in rows} <= {rig.exec_lane.producer}
        jseqs = [int(row["jseq"]) for row in rows]
        assert jseqs == sorted(set(jseqs)), kind


def numbers(client: redis.Redis, kind: str, symbol: str) -> list[int]:
    """Return the numbers of the market events in a stream, in order."""
    return [int(fields["n"]) for _, fields in client.xrange(key(kind, symbol))]


def check_market(rig: Rig, client: redis.Redis, offered: dict[str, int]) -> None:
    """The law of the market lane: of `offered` numbers, from 0, of trades of each symbol, what is
    missing has been counted."""
    missing = sum(
        len(set(range(count)) - set(numbers(client, "trades", symbol)))
        for symbol, count in offered.items()
    )
    counted = sum(
        rig.count("market_dropped_total", kind="trades", reason=reason)
        for reason in ("full", "refused", "wrongtype")
    )
    assert missing <= counted, f"{missing - counted} trades are missing and were not counted"
    assert rig.count("events_processed_total", type="trade") == sum(offered.values())
