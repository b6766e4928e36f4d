"""bridge/handlers.py: a user's callables see every entry in order, and can harm nothing."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from bridge import handlers as handlers_module
from bridge.core.contract import STREAMS
from bridge.handlers import Handlers
from bridge.metrics import Metrics
from tests.proxies import on_uvloop, until

CALLS_MAX = 5


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> Handlers:
    """Handlers for orders and fills, none registered yet, with a short queue."""
    monkeypatch.setattr(handlers_module, "CALLS_MAX", CALLS_MAX)
    return Handlers(Metrics(), ("orders", "fills"))


def offer(handlers: Handlers, number: int, kind: str = "orders") -> None:
    handlers.offer(kind, (str(number),) * len(STREAMS[kind].fields))


def errors(handlers: Handlers) -> float | None:
    registry = handlers._metrics.registry
    return registry.get_sample_value("nautilus_bridge_handler_errors_total")


@contextlib.asynccontextmanager
async def running(handlers: Handlers) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(handlers.run())
    try:
        yield task
    finally:
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=10)
        assert done, "does not end"
    assert task.cancelled()


async def test_every_field_by_name(handlers: Handlers) -> None:
    """A handler gets the fields of the entry, in wire order and with the tail."""
    seen: list[dict[str, str]] = []
    handlers.by_kind["fills"].append(seen.append)
    values = tuple(f"<{name}>" for name in STREAMS["fills"].fields)

    async with running(handlers):
        handlers.offer("fills", values)
        await handlers.drain()

    assert [list(fields.items()) for fields in seen] == [
        list(zip(STREAMS["fills"].fields, values, strict=True))
    ]


@on_uvloop
async def test_calls_keep_their_order() -> None:
    """Plain and async handlers of two kinds run one after the other, in the order of entries."""
    handlers, seen = Handlers(Metrics(), ("orders", "fills")), []

    async def slowly(fields: dict[str, str]) -> None:
        await asyncio.sleep(0)
        seen.append(("async", fields["venue"]))

    handlers.by_kind["orders"] += [slowly, lambda fields: seen.append(("plain", fields["venue"]))]
    handlers.by_kind["fills"].append(lambda fields: seen.append(("fill", fields["venue"])))
    async with running(handlers):
        for number in range(50):
            offer(handlers, number)
            offer(handlers, number, "fills")
        await handlers.drain()

    assert seen == [(who, str(n)) for n in range(50) for who in ("async", "plain", "fill")]


async def test_what_came_before_the_start_is_called(handlers: Handlers) -> None:
    """Entries that are offered before `run` are not forgotten."""
    seen: list[str] = []
    handlers.by_kind["orders"].append(lambda fields: seen.append(fields["venue"]))
    offer(handlers, 1)

    async with running(handlers):
        await handlers.drain()

    assert seen == ["1"]


async def test_each_handler_has_fields_of_its_own(handlers: Handlers) -> None:
    """A handler that changes its dictionary does not change it for the next."""
    seen: list[str] = []
    handlers.by_kind["orders"] += [
        lambda fields: fields.clear(),
        lambda fields: seen.append(fields["venue"]),
    ]

    async with running(handlers):
        offer(handlers, 1)
        await handlers.drain()

    assert seen == ["1"]


async def test_kinds_without_a_handler_cost_nothing(handlers: Handlers) -> None:
    """Entries that nobody asked for are not queued, whatever their kind."""
    for number in range(CALLS_MAX + 1):
        offer(handlers, number)
        offer(handlers, number, "positions")

    assert errors(handlers) == 0


async def raise_plainly(_: dict[str, str]) -> None:
    raise ValueError("a fault of the user")


def raise_at_once(_: dict[str, str]) -> None:
    raise ValueError("a fault of the user")


async def wait_for_what_is_cancelled(_: dict[str, str]) -> None:
    task = asyncio.create_task(asyncio.sleep(60))
    task.cancel()
    await task


@pytest.mark.parametrize(
    "bad", [raise_plainly, raise_at_once, wait_for_what_is_cancelled], ids=lambda bad: bad.__name__
)
@on_uvloop
async def test_a_handler_that_raises_harms_nothing(bad: handlers_module.Handler) -> None:
    """It is counted and logged by name at each call; the other handlers are called all the same."""
    handlers, seen = Handlers(Metrics(), ("orders",)), []
    handlers.by_kind["orders"] += [bad, lambda fields: seen.append(fields["venue"])]

    with capture_logs() as logs:
        async with running(handlers) as task:
            for number in range(3):
                offer(handlers, number)
            await until(lambda: task.done() or len(seen) == 3)

    assert seen == ["0", "1", "2"]
    assert errors(handlers) == 3
    assert [(log["event"], log["handler"]) for log in logs] == [
        ("handler.raised", bad.__name__)  # type: ignore[attr-defined]
    ] * 3


async def swallow(entered: asyncio.Event) -> None:
    entered.set()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()


async def replace(entered: asyncio.Event) -> None:
    entered.set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise RuntimeError("something else") from None


async def obey(entered: asyncio.Event) -> None:
    entered.set()
    await asyncio.Event().wait()


@pytest.mark.parametrize("way", [obey, swallow, replace], ids=lambda way: way.__name__)
@on_uvloop
async def test_cancelling_ends_it(way: object) -> None:
    """`run` ends when it is cancelled, whatever the handler that is at work makes of it."""
    handlers, entered = Handlers(Metrics(), ("orders",)), asyncio.Event()
    handlers.by_kind["orders"].append(lambda _: way(entered))  # type: ignore[operator]

    async with running(handlers):
        offer(handlers, 1)
        await entered.wait()

    assert errors(handlers) == 0


async def test_live_drops_the_oldest(handlers: Handlers) -> None:
    """Calls beyond the limit push the oldest out, each counted, all together said once."""
    seen: list[str] = []
    handlers.by_kind["orders"].append(lambda fields: seen.append(fields["venue"]))

    with capture_logs() as logs:
        for number in range(CALLS_MAX + 3):
            offer(handlers, number)
        async with running(handlers):
            await handlers.drain()

    assert seen == [str(number) for number in range(3, CALLS_MAX + 3)]
    assert errors(handlers) == 3
    assert [log["event"] for log in logs] == ["handler.too_slow"]


async def test_backtest_waits_for_room(handlers: Handlers) -> None:
    """Where `waits` is set another thread is held up, and no call is dropped."""
    seen: list[str] = []
    gate = asyncio.Event()

    async def handler(fields: dict[str, str]) -> None:
        await gate.wait()
        seen.append(fields["venue"])

    handlers.waits = True
    handlers.by_kind["orders"].append(handler)
    offered: list[int] = []

    def engine() -> None:
        for number in range(10 * CALLS_MAX):
            offer(handlers, number)
            offered.append(number)

    thread = threading.Thread(target=engine)
    async with running(handlers):
        thread.start()
        await until(lambda: len(offered) >= CALLS_MAX)
        assert len(offered) <= CALLS_MAX + 1, "those that wait, and the one at work"
        gate.set()
        await until(lambda: not thread.is_alive())
        await handlers.drain()

    assert seen == [str(number) for number in range(10 * CALLS_MAX)]
    assert errors(handlers) == 0


async def test_nobody_waits_for_ever(handlers: Handlers) -> None:
    """When `run` has ended a backtest goes on: nobody would make room any more."""
    handlers.waits = True
    handlers.by_kind["orders"].append(lambda _: None)
    async with running(handlers):
        await handlers.drain()

    for number in range(CALLS_MAX + 2):
        offer(handlers, number)

    assert errors(handlers) == 2


async def test_drain_waits_for_the_call_at_work(handlers: Handlers) -> None:
    """A drain is done when the last call has returned, not when it has begun."""
    gate, entered, seen = asyncio.Event(), asyncio.Event(), []

    async def handler(_: dict[str, str]) -> None:
        entered.set()
        await gate.wait()
        seen.append(1)

    handlers.by_kind["orders"].append(handler)
    async with running(handlers):
        offer(handlers, 1)
        await entered.wait()
        drain = asyncio.create_task(handlers.drain())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not drain.done()
        gate.set()
        await drain

    assert seen == [1]


async def test_no_call_is_lost_between_threads() -> None:
    """One thread offers while the loop calls: every call is made, in order."""
    handlers, seen = Handlers(Metrics(), ("orders",)), []
    handlers.by_kind["orders"].append(lambda fields: seen.append(int(fields["venue"])))
    thread = threading.Thread(target=lambda: [offer(handlers, n) for n in range(5000)])

    async with running(handlers):
        thread.start()
        await until(lambda: len(seen) == 5000)
        thread.join()

    assert seen == list(range(5000))
