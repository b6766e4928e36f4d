"""Rows of the exec lane: what it costs that an event is on the disk before it leaves."""

import asyncio
import contextlib
import gc
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import uvloop

from bridge import records
from bridge.assembly import make_publisher
from bridge.core import contract, resp
from bridge.core.contract import EXEC_KINDS, STREAMS, VERSION, Entry, default_names
from bridge.journal import Journal, Limits
from bridge.journal_directory import preallocate
from bridge.metrics import Metrics
from bridge.segments import BODY, FRAME
from bridge.settings import Config, StateSettings
from tests.bench.machine import CHUNK, Bench, Round
from tests.bench.reference import Reference
from tests.bench.rig import publishing
from tests.bench.rivals import PIPELINE, Fields, client_of
from tests.servers import RedisServer

TRADER = "BENCH-001"
ACCOUNT = "BINANCE_FUTURES-USDT_FUTURE-master"
INSTRUMENT = "BTCUSDT-PERP.BINANCE_FUTURES"
APPEND_ENTRIES = 10_240  # they fit into one segment
LANE_ENTRIES = 20_480
LANE_SECONDS_MAX = 120.0
# Entries appended and not yet acknowledged: what memory keeps of one stream by default.
LANE_WINDOW = 4_096
LATENCY_SECONDS = 3.0
LATENCY_RATE = 100.0
SYNCED_BYTES = 1_024
ACKNOWLEDGED_SECONDS_MAX = 10.0


# What is recorded: orders from their beginning to their end, as the tap hands them over.


def entries(count: int, first: int = 0) -> list[Entry]:
    """Return the first `count` entries of the orders from number `first` on."""
    lives = map(_life, itertools.count(first))
    return list(itertools.islice(itertools.chain.from_iterable(lives), count))


def _life(number: int) -> tuple[Entry, ...]:
    return (
        _order(number, "initialized"),
        _order(number, "submitted"),
        _order(number, "accepted"),
        _fill(number, 1),
        _order(number, "partially_filled", fill=1),
        _fill(number, 2),
        _order(number, "filled", fill=2),
    )


def _order(number: int, status: str, *, fill: int = 0) -> Entry:
    values = {
        "status": status,
        "qty": "0.02000",
        "tif": "GTC",
        "reason": "",
        "order_type": "LIMIT",
        "filled_qty": f"0.0{fill}000",
    }
    once = f"order|{_fill_id(number, fill)}" if fill else ""
    return contract.entry("orders", values | _common(number, status), once=once)


def _fill(number: int, fill: int) -> Entry:
    values = {
        "fill_id": _fill_id(number, fill),
        "qty": "0.01000",
        "fee": "0.30002750",
        "base_ccy": "BTC",
        "quote_ccy": "USDT",
        "multiplier": "1",
        "inverse": "0",
        "fee_ccy": "USDT",
        "fee_quote": "0.30002750",
        "liquidity": "MAKER",
        "trade_id": _trade_id(number, fill),
        "position_id": f"{INSTRUMENT}-CARRY-001",
        "provisional": "0",
    }
    once = f"fill|{_fill_id(number, fill)}"
    return contract.entry("fills", values | _common(number, f"fill {fill}"), once=once)


def _common(number: int, what: str) -> dict[str, str]:
    return {
        "venue": "BINANCE",
        "cl_ord_id": f"O-20261120-093015-001-000-{number}",
        "symbol": "BTCUSDT-PERP",
        "side": "BUY",
        "price": f"{60_000 + number % 997}.50",
        "ts_ns": str(1_795_166_000_000_000_000 + number),
        "account": ACCOUNT,
        "venue_order_id": _venue_order_id(number),
        "strategy_id": "CARRY-001",
        "trader_id": TRADER,
        "recon": "0",
        "event_id": contract.identity(f"{number} {what}").hex(),
    }


def _fill_id(number: int, fill: int) -> str:
    parts = (ACCOUNT, INSTRUMENT, _venue_order_id(number), "BUY", _trade_id(number, fill))
    return "|".join(parts)


def _venue_order_id(number: int) -> str:
    return str(8_389_765_000 + number)


def _trade_id(number: int, fill: int) -> str:
    return str(5_129_774_000 + 2 * number + fill)


# The journal by itself.


class PlainFile:
    """What the journal is compared with: a file in its folder, preallocated as a segment is."""

    def __init__(self, folder: Path) -> None:
        path = folder / "plain"
        preallocate(path, Limits().segment_bytes)
        self.descriptor = os.open(path, os.O_RDWR)

    def close(self) -> None:
        """Close it; the bench's folder goes with all that is in it."""
        os.close(self.descriptor)

    def sync_seconds(self) -> float:
        """Return how long the disk takes to confirm a kilobyte that was just written."""
        os.write(self.descriptor, bytes(SYNCED_BYTES))
        start = time.perf_counter()
        os.fdatasync(self.descriptor)
        return time.perf_counter() - start


def journal_append(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield the CPU of an append of an encoded fill, over that of a bare write of its bytes."""
    _append_round(bench, "warm")
    for number in range(rounds):
        yield _append_round(bench, str(number))


def _append_round(bench: Bench, name: str) -> Round:
    (fill,) = [each for each in _life(0)[:4] if each.kind == "fills"]
    payload = resp.pairs_encoder(STREAMS["fills"].names)(fill.values)
    kind, width = EXEC_KINDS.index("fills"), 2 * len(fill.values)
    record = bytes(FRAME.size + BODY.size + len(payload))
    folder = bench.folder / f"append-{name}"
    with (
        contextlib.closing(Journal.open(folder, TRADER, Limits())) as journal,
        contextlib.closing(PlainFile(folder)) as plain,
    ):

        def append(seqs: range) -> None:
            for seq in seqs:
                journal.append(kind, seq, seq, width, fill.once, payload)

        def write(seqs: range) -> None:
            for _ in seqs:
                os.write(plain.descriptor, record)

        ours, bare = [], []
        for first in range(1, bench.entries(APPEND_ENTRIES), CHUNK):  # by turns, chunk by chunk
            seqs = range(first, first + CHUNK)
            ours.append(_cpu_seconds(append, seqs))
            bare.append(_cpu_seconds(write, seqs))
    append_us, write_us = [statistics.median(each) / CHUNK * 1e6 for each in (ours, bare)]
    detail = {"append_us": append_us, "write_us": write_us, "bytes": len(record)}
    return Round(append_us / write_us, detail)


def _cpu_seconds(work: Callable[[range], None], seqs: range) -> float:
    start = time.thread_time_ns()
    work(seqs)
    return (time.thread_time_ns() - start) / 1e9


# The lane as the daemon runs it: journal, index of fills, script.


class Recorder:
    """A publisher behind a journal, on one server, ready to be measured again and again."""

    def __init__(self, stack: ExitStack, server: RedisServer) -> None:
        config = Config(state=StateSettings(directory=server.folder / "state"))
        self.runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        kept = stack.enter_context(records.opened(config, TRADER))
        self.folder = kept.journal.directory
        self._publisher = make_publisher(
            config, default_names(), Metrics(), url=server.url, producer_id=TRADER, records=kept
        )
        self._lane = self._publisher.exec.lane
        stack.callback(self._publisher.exec.close)
        gc.collect()
        gc.freeze()  # as the daemon does once its node runs
        stack.callback(gc.unfreeze)

    async def flood(self, ready: Sequence[Entry]) -> float:
        """Return the seconds per entry, as fast as they are acknowledged."""
        lane, left, done = self._lane, iter(ready), asyncio.Event()

        def feed() -> None:
            for entry in itertools.islice(left, max(0, LANE_WINDOW - lane.backlog)):
                lane.append(entry)
            if not lane.backlog:
                done.set()

        async with publishing(self._publisher), asyncio.timeout(LANE_SECONDS_MAX):
            self._publisher.on_progress = feed
            start = time.perf_counter()
            feed()
            await done.wait()
            return (time.perf_counter() - start) / len(ready)

    async def latencies(
        self, ready: Sequence[Entry], references: Sequence[Callable[[], float]]
    ) -> list[float]:
        """Return the median seconds from append to acknowledgement, then those of `references`.

        They are called half way between two entries: from the same rest, when nothing is under way.
        """
        taken = []
        async with publishing(self._publisher):
            start = time.perf_counter()
            for number, entry in enumerate(ready):
                await _until(start + number / LATENCY_RATE)
                latency = await self._acknowledged(entry)
                await _until(start + (number + 0.5) / LATENCY_RATE)
                taken.append((latency, *[each() for each in references]))
        return [statistics.median(column) for column in zip(*taken, strict=True)]

    async def _acknowledged(self, entry: Entry) -> float:
        """Return the seconds from the append of an entry to its acknowledgement."""
        lane = self._lane
        ended: asyncio.Future[float] = asyncio.get_running_loop().create_future()

        def note() -> None:
            if not lane.backlog and not ended.done():
                ended.set_result(time.perf_counter())

        self._publisher.on_progress = note
        begun = time.perf_counter()
        lane.append(entry)
        async with asyncio.timeout(ACKNOWLEDGED_SECONDS_MAX):
            return await ended - begun


async def _until(seconds: float) -> None:
    await asyncio.sleep(seconds - time.perf_counter())


def exec_lane(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield journal and script to acknowledged, over redis-py in pipelines of 100, no journal."""
    count = bench.entries(LANE_ENTRIES)
    orders = itertools.count(step=count)
    with ExitStack() as stack:
        server = stack.enter_context(bench.server())
        recorder = Recorder(stack, server)

        def ours() -> float:
            return recorder.runner.run(recorder.flood(entries(count, next(orders))))

        def rival() -> float:
            ready = [_with_tail(*each) for each in enumerate(entries(count, next(orders)), start=1)]
            return recorder.runner.run(_pipelines(server, ready))

        ours()
        rival()
        for _ in range(rounds):
            before = ours()
            theirs = rival()
            seconds = (before + ours()) / 2
            yield Round(theirs / seconds, {"per_s": 1 / seconds, "rival_per_s": 1 / theirs})


async def _pipelines(server: RedisServer, ready: Sequence[tuple[str, Fields]]) -> float:
    async with client_of(server) as client:
        start = time.perf_counter()
        for part in itertools.batched(ready, PIPELINE):
            async with client.pipeline(transaction=False) as pipeline:
                for stream, fields in part:
                    pipeline.xadd(stream, fields)
                await pipeline.execute()
        return (time.perf_counter() - start) / len(ready)


def _with_tail(number: int, entry: Entry) -> tuple[str, Fields]:
    """Return the rival's stream and the fields that ours has too."""
    tail = (f"{TRADER}.00000000.1", str(number), str(number), str(VERSION))
    return f"rival:{entry.kind}", contract.to_dict(entry.kind, entry.values + tail)


def exec_latency(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield the median latency at 100/s, over one fdatasync and one PING, by turns with them."""
    count = max(5, round(bench.seconds(LATENCY_SECONDS) * LATENCY_RATE))
    with ExitStack() as stack:
        server = stack.enter_context(bench.server())
        recorder = Recorder(stack, server)
        raw = stack.enter_context(contextlib.closing(Reference(server, [])))
        plain = stack.enter_context(contextlib.closing(PlainFile(recorder.folder)))
        references = (plain.sync_seconds, lambda: raw.ping_seconds(1))
        for number in range(rounds + 1):
            ready = entries(count, number * count)
            latency, sync, ping = recorder.runner.run(recorder.latencies(ready, references))
            if number:  # the first one warms
                detail = {"p50_us": latency * 1e6, "sync_us": sync * 1e6, "ping_us": ping * 1e6}
                yield Round(latency / (sync + ping), detail)
