"""The self-test behind `bridge.py --test`: Redis must hold exactly what was emitted, in order."""

import asyncio
import importlib.util
import json
from pathlib import Path
from typing import Any, Final

import redis

from bridge import endpoints, exits
from bridge.assembly import make_publisher
from bridge.core import contract
from bridge.core.contract import Entry
from bridge.embedded_redis import EmbeddedRedis, EmbeddedRedisError
from bridge.exits import Exit
from bridge.metrics import Metrics
from bridge.settings import Config

RECORDED: Final = Path(__file__).with_name("recorded_entries.json")
PORT: Final = 6420
DRAIN_SECONDS_MAX: Final = 10.0

type Emitted = dict[str, list[dict[str, str]]]


def run() -> int:
    """Emit, publish to an embedded Redis, compare, say what was found; return the exit code.

    Raises Exit when no embedded Redis can be had.
    """
    with_nautilus = importlib.util.find_spec("nautilus_trader") is not None
    try:
        with EmbeddedRedis(PORT) as server:
            _say(f"embedded Redis: {server.kind} on port {server.port}")
            if with_nautilus:
                _say("nautilus_trader is installed: real events from a BacktestEngine")
                from integrations.nautilus import selftest_engine

                emitted, prefix = selftest_engine.emit(server.url)
            else:
                _say("nautilus_trader is not installed: recorded events")
                emitted, prefix = asyncio.run(emit_recorded(server.url)), ""
            with endpoints.sync_client(server.url, decode_responses=True) as client:
                problems = compare(client, emitted, prefix)
    except EmbeddedRedisError as error:
        raise Exit(exits.UNAVAILABLE, str(error)) from None
    for problem in problems:
        _say(problem)
    _say("FAILED" if problems else "passed: every entry is in Redis, once, in order")
    return exits.FAILED if problems else exits.DONE


def compare(client: "redis.Redis", emitted: Emitted, prefix: str) -> list[str]:
    """Return what differs between what was emitted and what the streams hold, a line each."""
    problems = []
    for kind, expected in emitted.items():
        key = contract.default_names(prefix).key(kind)
        rows: Any = client.xrange(key)
        found = [fields for _, fields in rows]
        _say(f"  {key}: {len(expected)} emitted, {len(found)} in Redis")
        if not expected:
            problems.append(f"{key}: nothing was emitted, so nothing was tested")
        elif found != list(expected):
            pairs = zip(expected, found, strict=False)
            shorter = min(len(expected), len(found))
            first = next((i for i, (a, b) in enumerate(pairs) if a != b), shorter)
            problems.append(f"{key}: the first difference is at entry {first}")
    return problems


async def emit_recorded(url: str) -> Emitted:
    """Publish the recorded entries through the lanes; return them by kind."""
    entries = [Entry(kind, tuple(values)) for kind, values in json.loads(RECORDED.read_text())]
    publisher = make_publisher(
        Config(), contract.default_names(), Metrics(), url=url, producer_id="RECORDED-001"
    )
    lane = publisher.exec.lane
    emitted: Emitted = {entry.kind: [] for entry in entries}

    def keep(kind: str, values: tuple[str, ...]) -> None:
        emitted[kind].append(contract.to_dict(kind, values))

    lane.on_entry = keep
    running = asyncio.create_task(publisher.run())
    for entry in entries:
        lane.append(entry)
    await publisher.drain(DRAIN_SECONDS_MAX)
    running.cancel()
    await asyncio.wait({running})
    return emitted


def _say(line: str) -> None:
    print(line, flush=True)
