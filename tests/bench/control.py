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

from bridge import endpoints
from bridge.controller import Controller, Keys
from bridge.core.contract import default_names
from bridge.core.control import SHADOW_FLAG, State
from bridge.core.lanes import ExecLane
from bridge.core.limits import Limits
from bridge.latch import LatchFile
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
TURNS = 3
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
    target = endpoints.parse(server.url)
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
    """Yield a daemon and its Redis. Nothing is pinned here, this process neither: the figures are
    absolute, and the system places three processes on two CPUs better than we do."""
    folder = bench.folder / f"daemon-{time.monotonic_ns()}"
    folder.mkdir()
    with bench.cpus.on_both(), ExitStack() as stack:
        server = RedisServer(bench.binary, folder)
        stack.callback(server.close)
        server.start()
        given = {
            "redis__url": server.url,
            "replay__rate": str(MARKET_RATE),
            "limits__max_order_rate": "100000",
        }
        daemon = stack.enter_context(Daemon(folder, "--strategy", strategy, **given))
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
    """A guard that knows how long it took, at its gates and for the events of an order."""

    def __init__(self, *parts: Any, **more: Any) -> None:
        self.gates: list[float] = []
        self.events: list[float] = []
        super().__init__(*parts, **more)

    def _passes_on(self, command: Any, **how: bool) -> bool:
        began = time.thread_time()
        passes = super()._passes_on(command, **how)
        self.gates.append(time.thread_time() - began)
        return passes

    def _on_order(self, event: OrderEvent) -> None:
        began = time.thread_time()
        super()._on_order(event)
        self.events.append(time.thread_time() - began)

    def taken(self) -> float:
        """Return the seconds that a usual order takes, of those since the last call."""
        seconds = 3 * statistics.median(self.gates) + 3 * statistics.median(self.events)
        self.gates.clear()
        self.events.clear()
        return seconds


def guard_cost(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield the CPU time of an order through a node with the guard, over that without."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for _ in range(rounds):
            with_, without = _compared(bench, runner, resting=0)
            yield Round(with_ / without, {"with_us": with_ * 1e6, "without_us": without * 1e6})


def guard_growth(bench: Bench, rounds: int) -> Iterator[Round]:
    """Yield the same beside 500 resting orders, over what it is beside none; in the detail what
    the guard itself takes, gates and events."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for _ in range(rounds):
            with_, without = _compared(bench, runner, resting=0)
            with_n, without_n = _compared(bench, runner, resting=RESTING)
            alone, beside = runner.run(_own_seconds(bench))
            detail = {"alone": with_ / without, "beside": with_n / without_n}
            own = {"guard_us": alone * 1e6, "guard_beside_us": beside * 1e6}
            yield Round(detail["beside"] / detail["alone"], detail | own)


def _compared(bench: Bench, runner: asyncio.Runner, *, resting: int) -> tuple[float, float]:
    """Return the CPU seconds of an order with the guard, and without.

    The least of several measurements in turn: what is more was somebody else's.
    """

    async def measure(guard: type[Guard] | None) -> float:
        async with _node(guard) as (strategy, _):
            if resting:
                await _submit(strategy, _count(bench, resting))
            return await _submit(strategy, _count(bench, SUBMITS))

    pairs = [(runner.run(measure(Guard)), runner.run(measure(None))) for _ in range(TURNS)]
    with_, without = map(min, zip(*pairs, strict=True))
    return with_, without


async def _own_seconds(bench: Bench) -> tuple[float, float]:
    """Return what the guard itself takes for a usual order, beside none and beside 500."""
    async with _node(TimedGuard) as (strategy, guard):
        await _submit(strategy, _count(bench, SUBMITS))
        alone = guard.taken()
        await _submit(strategy, _count(bench, RESTING))
        guard.taken()
        await _submit(strategy, _count(bench, SUBMITS))
        return alone, guard.taken()


def _count(bench: Bench, full: int) -> int:
    return max(5, round(full * bench.scale))


@contextlib.asynccontextmanager
async def _node(kind: type[Guard] | None) -> AsyncIterator[tuple[Submitting, Any]]:
    """Yield the strategy of a node that runs, and its guard, open; None: without one."""
    strategy = Submitting()
    node = engines.make_node(strategy, rate=50)
    guard = None if kind is None else kind(node.kernel, Metrics(), WIDE, on_failure=_raise)
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


def _raise(error: Exception) -> None:
    raise error
