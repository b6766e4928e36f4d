"""Rows of control: how fast a flag is seen, a halt holds, and what the guard costs."""

import asyncio
import contextlib
import gc
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import redis.asyncio
import uvloop
from nautilus_trader.model.events import OrderEvent

from bridge.controller import Controller, Keys
from bridge.core.contract import default_names
from bridge.core.control import SHADOW_FLAG, State
from bridge.core.lanes import ExecLane
from bridge.core.limits import Limits
from bridge.latch import LatchFile
from bridge.link import Target
from bridge.metrics import Metrics
from bridge.settings import Config
from bridge.source import Action, HaltAccount
from bridge.watcher import Watcher
from integrations.nautilus.guard import Guard
from tests.bench.machine import Bench, Round
from tests.bench.reference import Reference
from tests.bench.strategies import RESTING_ORDERS, Submitting
from tests.bridge.processes import Daemon, eventually
from tests.integrations.nautilus import engines
from tests.servers import RedisServer

FLAG_CHANGES = 200
POLL_SECONDS = 0.01
GATE_HALTS = 200
DONE_HALTS = 100
MARKET_RATE = 20_000
SUBMITS = 200
RESTING = 500
ORDERS = "demo:exec:orders"
WIDE = replace(Config().limits_in_force, max_order_rate=Decimal(100_000))


class Noting:
    """A source that notes when its gates open and close."""

    symbols = ()
    is_running = True

    def __init__(self) -> None:
        self.on_breach: Any = None
        self.applied: dict[State, float] = {}

    def apply(self, state: State, reason: str) -> None:
        """Note the time."""
        self.applied[state] = time.perf_counter()

    def limit(self, limits: Limits) -> None:
        """Nothing to limit."""

    async def halt(self, action: Action) -> HaltAccount:
        """Nothing to cancel."""
        return HaltAccount(0, 0, 0)

    async def run(self) -> None:
        """Nothing to run."""

    async def stop(self) -> None:
        """Nothing to stop."""


def flag_seen(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield the median seconds from a SET to its effect, as a fraction of those of a 10 ms poll."""
    with ExitStack() as stack:
        server = stack.enter_context(bench.server())
        raw = Reference(server, [])
        stack.callback(raw.close)
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        for number in range(rounds):
            folder = bench.folder / f"latch-{number}-{time.monotonic_ns()}"
            folder.mkdir()
            ours, polled = runner.run(_flag_changes(bench, server, folder))
            ping = raw.ping_seconds()
            yield Round(
                ours / polled,
                {"p50_ms": ours * 1e3, "poll_p50_ms": polled * 1e3, "ping_us": ping * 1e6},
            )


async def _flag_changes(bench: Bench, server: RedisServer, folder: Path) -> tuple[float, float]:
    """Return the median seconds until a change of the flag is seen, and until a poll sees it."""
    source, metrics, config = Noting(), Metrics(), Config()
    lane = ExecLane(
        default_names(), producer="B.0.1", entries_max=100_000, clock_ns=time.monotonic_ns
    )
    controller = Controller(config, LatchFile(folder), lane, metrics, source, executes=True)
    target = Target.from_url(server.url)
    watcher = Watcher(
        target, "demo", controller, metrics, config.control, symbols=(), backoff_seconds_max=1.0
    )
    polled: dict[bytes | None, float] = {}
    tasks = [
        asyncio.create_task(watcher.run()),
        asyncio.create_task(_poll(server, polled)),
    ]
    await controller.known.wait()
    ours, theirs = [], []
    for number in range(max(4, round(FLAG_CHANGES * bench.scale))):
        value = b"1" if number % 2 == 0 else b"0"
        state = State.ACTIVE if value == b"1" else State.DISABLED
        source.applied.clear()
        polled.clear()
        set_at = await asyncio.to_thread(_set, server, value)
        await engines.until(
            lambda state=state, value=value: state in source.applied and value in polled,
            "the change",
        )
        ours.append(source.applied[state] - set_at)
        theirs.append(polled[value] - set_at)
        await asyncio.sleep(0.003 + 0.007 * (number % 10) / 10)  # anywhere between two polls
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return statistics.median(ours), statistics.median(theirs)


def _set(server: RedisServer, value: bytes) -> float:
    at = time.perf_counter()
    server.client.set(SHADOW_FLAG, value)
    return at


async def _poll(server: RedisServer, seen: dict[bytes | None, float]) -> None:
    client = redis.asyncio.Redis(port=server.port)
    while True:
        value = await client.get(SHADOW_FLAG)
        seen.setdefault(value, time.perf_counter())
        await asyncio.sleep(POLL_SECONDS)


def halt_gate(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield the 99th percentile, in ms, from `set mode halt` in this process to closed gates in a
    daemon through which 20,000 market events a second flow."""
    count = max(3, round(GATE_HALTS * bench.scale))
    with _daemon(bench, "tests.bridge.strategies:Idle") as (daemon, server):
        for _ in range(rounds):
            began, events = time.monotonic(), _events(daemon)
            taken = [_halt(server) for _ in range(count)]
            flow = (_events(daemon) - events) / (time.monotonic() - began)
            yield _percentiles(taken, server, {"events_per_s": flow})


def halt_done(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield the 99th percentile, in ms, from `set mode halt` to the last of 100 canceled orders in
    exec:orders, while 20,000 market events a second flow."""
    count = max(2, round(DONE_HALTS * bench.scale))
    with _daemon(bench, "tests.bench.strategies:Resting") as (_, server):
        last = "0-0"
        for _ in range(rounds):
            taken = []
            for _ in range(count):
                last = _await_statuses(server, last, "accepted")
                set_at_ms = time.time() * 1000
                _halt(server)
                last = _await_statuses(server, last, "canceled")
                taken.append(int(last.partition("-")[0]) - set_at_ms)
            yield _percentiles([each / 1e3 for each in taken], server, {})


@contextlib.contextmanager
def _daemon(bench: Bench, strategy: str) -> Iterator[tuple[Daemon, RedisServer]]:
    folder = bench.folder / f"daemon-{time.monotonic_ns()}"
    folder.mkdir()
    with bench.server() as server:
        given = {
            "redis__url": server.url,
            "replay__rate": str(MARKET_RATE),
            "limits__max_order_rate": "100000",
        }
        with Daemon(folder, "--strategy", strategy, **given) as daemon:
            daemon.until_running()
            _await(server, State.ACTIVE)
            yield daemon, server


def _halt(server: RedisServer) -> float:
    """Halt, return the seconds until the gates were closed, and go on."""
    set_at_ns = time.time_ns()
    server.client.set("mode", "halt")
    state = _await(server, State.HALTED)
    server.client.set("mode", "normal")
    _await(server, State.ACTIVE)
    return (int(state["gate_ns"]) - set_at_ns) / 1e9


def _await(server: RedisServer, state: State) -> dict[str, str]:
    key = Keys.of("demo").state

    def shown() -> dict[str, str] | None:
        found = server.client.hgetall(key)
        return found if found.get("state") == state else None

    return eventually(shown, state)


def _await_statuses(server: RedisServer, behind: str, status: str) -> str:
    """Wait until a hundred orders have a status behind an id; return the id of the last."""
    found: list[str] = []

    def enough() -> bool:
        nonlocal behind
        for id_, fields in server.client.xrange(ORDERS, min=f"({behind}"):
            behind = id_
            if fields["status"] == status:
                found.append(id_)
        return len(found) >= RESTING_ORDERS

    eventually(enough, f"{RESTING_ORDERS} {status}", seconds_max=30)
    return found[-1]


def _events(daemon: Daemon) -> float:
    return daemon.metric('nautilus_bridge_events_processed_total{type="quote"}') + daemon.metric(
        'nautilus_bridge_events_processed_total{type="trade"}'
    )


def _percentiles(taken: list[float], server: RedisServer, more: dict[str, float]) -> Round:
    taken = sorted(taken)
    p99 = taken[max(0, round(len(taken) * 0.99) - 1)]
    raw = Reference(server, [])
    ping = raw.ping_seconds()
    raw.close()
    detail = {"p50_ms": statistics.median(taken) * 1e3, "max_ms": taken[-1] * 1e3}
    return Round(p99 * 1e3, detail | more | {"ping_us": ping * 1e6})


class TimedGuard(Guard):
    """A guard that knows how long it took."""

    seconds = 0.0

    def _passes_on(self, command: Any, **how: bool) -> bool:
        began = time.thread_time()
        passes = super()._passes_on(command, **how)
        self.seconds += time.thread_time() - began
        return passes

    def _on_order(self, event: OrderEvent) -> None:
        began = time.thread_time()
        super()._on_order(event)
        self.seconds += time.thread_time() - began


def guard_cost(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield the CPU time of an order through a node with the guard, over that without."""
    count = max(5, round(SUBMITS * bench.scale))

    async def measure(guard: type[Guard] | None) -> float:
        async with _node(guard) as (strategy, _):
            return await _submit(strategy, count)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for _ in range(rounds):
            with_, without = runner.run(measure(Guard)), runner.run(measure(None))
            yield Round(with_ / without, {"with_us": with_ * 1e6, "without_us": without * 1e6})


def guard_growth(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield what the guard itself takes for an order beside 500 resting ones, over what it takes
    for one of the first: all gates, and the events of the order."""
    count = max(5, round(SUBMITS * bench.scale))
    resting = max(5, round(RESTING * bench.scale))

    async def measure() -> tuple[float, float]:
        async with _node(TimedGuard) as (strategy, guard):
            await _submit(strategy, count)
            alone = guard.seconds / count
            await _submit(strategy, resting)
            before = guard.seconds
            await _submit(strategy, count)
            return alone, (guard.seconds - before) / count

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for _ in range(rounds):
            alone, beside = runner.run(measure())
            yield Round(beside / alone, {"alone_us": alone * 1e6, "beside_us": beside * 1e6})


@contextlib.asynccontextmanager
async def _node(kind: type[Guard] | None) -> AsyncIterator[tuple[Submitting, Any]]:
    """Yield the strategy of a node that runs, and its guard, open; None: without one."""
    strategy = Submitting()
    node = engines.make_node(strategy, rate=50)
    guard = None if kind is None else kind(node.kernel, Metrics(), WIDE)
    async with engines.running(node):
        if guard is not None:
            for client in node.kernel.exec_engine._clients.values():
                guard.attach(client)
            guard.open_book()
            guard.set(State.ACTIVE, "")
        await engines.until(lambda: strategy.quoted, "quotes")
        yield strategy, guard
    for task in asyncio.all_tasks():
        if task.get_coro().__qualname__ == "ActorExecutor._worker":
            task.cancel()  # Nautilus leaves it behind


async def _submit(strategy: Submitting, count: int) -> float:
    """Submit so many orders and wait until all stand; return the CPU seconds of each."""
    orders = [strategy.resting_order() for _ in range(count)]
    gc.collect()
    gc.disable()
    began = time.process_time()
    for order in orders:
        strategy.submit_order(order)
    while orders[-1].is_active_local:  # noqa: ASYNC110 - of an engine, which sets no Event
        await asyncio.sleep(0)
    taken = time.process_time() - began
    gc.enable()
    await engines.until(lambda: not orders[-1].is_inflight, "the last answer")
    assert all(order.is_open for order in orders), str(orders[-1].last_event)
    return taken / count
