"""Handlers that a user registers for entries: called behind the events, one after the other."""

import asyncio
import inspect
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from bridge.core import contract
from bridge.metrics import Metrics

log = structlog.get_logger("nautilus_bridge.handlers")

# Calls that wait; a live node drops the oldest beyond it, counted as errors, a backtest waits.
CALLS_MAX: Final = 10_000

type Handler = Callable[[dict[str, str]], Awaitable[None] | None]


class Handlers:
    """Plain or async callables by kind of stream; `run` calls them on its loop.

    One that raises is logged and counted, and harms nothing.
    """

    def __init__(self, metrics: Metrics, kinds: tuple[str, ...]) -> None:
        self.by_kind: dict[str, list[Handler]] = {kind: [] for kind in kinds}
        self.waits = False
        self._metrics = metrics
        self._calls: deque[tuple[Handler, dict[str, str]]] = deque()
        self._room = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._more = asyncio.Event()
        self._idle = asyncio.Event()
        self._armed = False
        self._dropping = False

    def offer(self, kind: str, values: tuple[str, ...]) -> None:
        """Queue the calls for an entry, `values` with its tail. Runs in the trading loop."""
        for handler in self.by_kind.get(kind, ()):
            if len(self._calls) >= CALLS_MAX:
                self._make_room()
            self._calls.append((handler, contract.to_dict(kind, values)))
            loop = self._loop
            if loop is not None and not self._armed:
                self._armed = True
                loop.call_soon_threadsafe(self._more.set)

    async def run(self) -> None:
        """Call until cancelled."""
        self._loop = asyncio.get_running_loop()
        try:
            while True:
                self._armed = False
                self._more.clear()
                while self._calls:
                    self._idle.clear()
                    await self._call(*self._calls.popleft())
                    self._room.set()
                    await asyncio.sleep(0)  # what trades on this loop comes first
                    if _is_cancelled():  # whatever the handler made of it
                        raise asyncio.CancelledError
                self._dropping = False
                self._idle.set()
                await self._more.wait()
        finally:
            self._loop = None
            self.waits = False  # for room that nobody would make any more
            self._room.set()

    async def drain(self) -> None:
        """Wait until every queued call has returned."""
        while self._calls or not self._idle.is_set():
            self._idle.clear()
            self._more.set()
            await self._idle.wait()

    async def _call(self, handler: Handler, fields: dict[str, str]) -> None:
        try:
            result = handler(fields)
            if inspect.isawaitable(result):
                await result
        except (Exception, asyncio.CancelledError):
            if _is_cancelled():
                return
            self._metrics.handler_errors.inc()
            log.exception("handler.raised", handler=getattr(handler, "__qualname__", repr(handler)))

    def _make_room(self) -> None:
        if not self.waits:
            self._calls.popleft()
            self._metrics.handler_errors.inc()
            if not self._dropping:
                self._dropping = True
                log.error("handler.too_slow", limit=CALLS_MAX, dropping="the oldest calls")
            return
        while self.waits and len(self._calls) >= CALLS_MAX:
            self._room.clear()
            if len(self._calls) >= CALLS_MAX:
                self._room.wait(1.0)


def _is_cancelled() -> bool:
    """Whether `run` itself is to end, and not something that a handler waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
