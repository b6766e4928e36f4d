"""Rows of what an entry takes: in Redis, and on the disk.

`python -m tests.bench.run --only exec_lane bus exec_bytes market_bytes --output
tests/bench/sizes.json`, then `python -m tests.readme`, renews the README's tables of sizes.
"""

import asyncio
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import uvloop
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.model.data import TradeTick
from nautilus_trader.model.enums import AggressorSide
from nautilus_trader.model.identifiers import InstrumentId, TradeId
from nautilus_trader.model.objects import Price, Quantity

from bridge import journal_command
from bridge.core.contract import EXEC_KINDS, default_names
from bridge.settings import JournalSettings
from tests.bench.books import Kept
from tests.bench.machine import CHUNK, Bench, Round
from tests.bench.orders import entries
from tests.bench.recording import Recorder
from tests.bench.rig import (
    MAXLEN,
    PRICE_PAIRS,
    RING_CHUNKS,
    ROW,
    SIZES,
    START_NS,
    STREAM,
    Emit,
    Rig,
    engine,
    ring,
)
from tests.bench.steady import MIB
from tests.bench.throughput import Flooder
from tests.servers import RedisServer

# A run whose figures the README prints.
RESULTS: Final = Path(__file__).with_name("sizes.json")
EXEC_ENTRIES: Final = 102_400
TRADES_STREAM: Final = "market.raw.trades.BTCUSDT"
TRADES_TOPIC: Final = "data.trades.BINANCE_SPOT.BTCUSDT"
FIRST_TRADE: Final = 5_129_774_000
PER_SECOND: Final = (10, 100, 1_000)
DAY_SECONDS: Final = 86_400
GB: Final = 10**9
INSTRUMENTS: Final = 100


# The rows.


def exec_bytes(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield the bytes of an execution entry in Redis; in the detail those on the disk.

    What is recorded are orders with two fills each, their positions and balances: all figures are
    per entry of that mix.
    """
    count = bench.entries(EXEC_ENTRIES)
    for number in range(rounds):
        with ExitStack() as stack:
            server = stack.enter_context(bench.server())
            recorder = Recorder(stack, server)
            recorder.runner.run(recorder.flood(list(itertools.islice(entries(), count))))
            kept, streams = Kept(server, server.folder / "state"), _exec_streams(server)
            for kind, key in streams.items():
                ((_, last),) = server.client.xrevrange(key, count=1)
                kept.ends[kind, last["producer"]] = int(last["seq"])
            state = bench.folder / f"sizes-{number}"
            for name in ("archive", "ledger"):
                kept.fed(name, state)
            places = kept.places(state)
            detail = {
                "journal": sum(
                    [
                        line.segment.seal.end
                        for line in journal_command.examine(recorder.folder)
                        if line.segment is not None
                    ]
                ),
                "archive": _disk_bytes(places.archive),
                "ledger": _disk_bytes(places.ledger.parent, f"{places.ledger.name}*"),
            }
            in_redis = sum([_memory_bytes(server, key) for key in streams.values()])
            fills = server.client.xlen(streams["fills"])
            per_entry = {name: size / count for name, size in detail.items()}
            yield Round(
                in_redis / count,
                per_entry | {"fills_share": fills / count},
                lost=count - sum(kept.ends.values()),
            )


def market_bytes(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield the bytes of a quote in Redis, in a stream of `market.maxlen`; in the detail those of
    a trade, and the MiB of each stream."""
    count = bench.entries(2 * MAXLEN)
    for _ in range(rounds):
        with ExitStack() as stack:
            server = stack.enter_context(bench.server())
            made = stack.enter_context(engine())
            runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
            rig = Rig(server)
            emits = (rig.bus(made), _trades_of(made))
            for emit, chunks in zip(emits, (ring(), _trades()), strict=True):
                runner.run(_flooded(rig, emit, chunks, count))
            sizes = {key: _memory_bytes(server, key) for key in (STREAM, TRADES_STREAM)}
            quote, trade = [size / server.client.xlen(key) for key, size in sizes.items()]
            quotes_mib, trades_mib = [size / MIB for size in sizes.values()]
            yield Round(quote, {"trade": trade, "quotes_mib": quotes_mib, "trades_mib": trades_mib})


async def _flooded(rig: Rig, emit: Emit, chunks: Sequence[Sequence[Any]], count: int) -> None:
    async with rig.running():
        await Flooder(rig, emit, chunks).run(count)


def _trades_of(made: BacktestEngine) -> Emit:
    """Return what publishes trades on the engine's bus."""
    publish = made.kernel.msgbus.publish

    def emit(chunk: Sequence[Any]) -> None:
        for trade in chunk:
            publish(TRADES_TOPIC, trade)

    return emit


def _trades() -> list[list[TradeTick]]:
    """Return ready trades in chunks, as a ring of quotes is."""
    instrument = InstrumentId.from_str(ROW.id)

    def trade(number: int) -> TradeTick:
        price = Price.from_str(f"{50_000 + number % PRICE_PAIRS / 100:.2f}")
        size = Quantity.from_str(f"{(1 + number % SIZES) / 1_000:.5f}")
        side = AggressorSide.BUYER if number % 2 else AggressorSide.SELLER
        at_ns = START_NS + number
        return TradeTick(
            instrument, price, size, side, TradeId(str(FIRST_TRADE + number)), at_ns, at_ns
        )

    numbers = itertools.count()
    return [[trade(next(numbers)) for _ in range(CHUNK)] for _ in range(RING_CHUNKS)]


def _exec_streams(server: RedisServer) -> dict[str, str]:
    keys = {kind: default_names().key(kind) for kind in EXEC_KINDS}
    return {kind: key for kind, key in keys.items() if server.client.exists(key)}


def _memory_bytes(server: RedisServer, key: str) -> int:
    size = server.client.memory_usage(key, samples=0)
    assert size is not None, key
    return int(size)


def _disk_bytes(folder: Path, pattern: str = "**/*") -> int:
    return sum([path.stat().st_size for path in folder.glob(pattern) if path.is_file()])


# The tables of the README.


def tables(results: Path = RESULTS) -> str:
    """Return as Markdown what an entry takes, and what that makes in a day."""
    rows = {row["name"]: row for row in json.loads(results.read_text())["rows"]}
    return "\n".join([*_per_entry(rows), "", *_per_day(rows["exec_bytes"]), "", *_market(rows)])


def _per_entry(rows: Mapping[str, Any]) -> Iterator[str]:
    per_s = {name: f"{rows[name]['detail']['per_s']:,.0f}" for name in ("exec_lane", "bus")}
    market = rows["market_bytes"]
    exec_sizes = " | ".join([f"{size:.0f} B" for size in _sizes(rows["exec_bytes"])])
    yield "| lane | entries/s, flat out | Redis | journal | archive | ledger |"
    yield "|---|---:|---:|---:|---:|---:|"
    yield f"| exec | {per_s['exec_lane']} | {exec_sizes} |"
    yield f"| market: quotes | {per_s['bus']} | {market['median']:.0f} B | - | - | - |"
    yield f"| market: trades | | {market['detail']['trade']:.0f} B | - | - | - |"


def _per_day(row: Mapping[str, Any]) -> Iterator[str]:
    redis, journal, archive, ledger = _sizes(row)
    yield "| a day of exec entries/s | Redis | journal | archive | ledger | journal reaches back |"
    yield "|---:|---:|---:|---:|---:|---:|"
    for rate in PER_SECOND:
        count = rate * DAY_SECONDS
        sizes = [f"{size * count / GB:,.2f} GB" for size in (redis, journal, archive, ledger)]
        settings = JournalSettings()
        days = min(settings.retain / DAY_SECONDS, settings.bytes_max / (journal * count))
        yield f"| {rate:,} | {' | '.join(sizes)} | {days:.2f} days |"


def _market(rows: Mapping[str, Any]) -> Iterator[str]:
    sizes = rows["market_bytes"]["detail"]
    all_gib = INSTRUMENTS * (sizes["quotes_mib"] + sizes["trades_mib"]) / 1024
    yield "| market streams, at any rate | Redis |"
    yield "|---|---:|"
    yield f"| the quotes of an instrument, {MAXLEN:,} entries | {sizes['quotes_mib']:.1f} MiB |"
    yield f"| its trades, as many | {sizes['trades_mib']:.1f} MiB |"
    yield f"| quotes and trades of {INSTRUMENTS} instruments | {all_gib:.2f} GiB |"


def _sizes(row: Mapping[str, Any]) -> list[float]:
    """Return the bytes of an execution entry in Redis, journal, archive and ledger."""
    return [row["median"], *[row["detail"][name] for name in ("journal", "archive", "ledger")]]
