"""A watcher and a controller over a source that notes what it is told, as the daemon wires them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import redis

from bridge import config, endpoints
from bridge.controller import Controller
from bridge.core.control import FLAG_OF_ROLE, MODE_KEY, Halt, State
from bridge.core.lanes import ExecLane
from bridge.core.limits import Limits
from bridge.latch import LatchFile
from bridge.metrics import Metrics
from bridge.source import Action, HaltAccount
from bridge.watcher import Watcher
from tests.proxies import NAMES, until
from tests.servers import RedisServer

SYMBOL = "BTCUSDT"
LATCH, HALT, RESUME = (f"bridge:{name}:demo" for name in ("latch", "halt", "resume"))
STATE = "bridge:state:demo"
FLAG = FLAG_OF_ROLE["demo"]
QUIET = {"control.poll_seconds": "60", "control.link_timeout_seconds": "3600"}
QUICK = {"control.poll_seconds": "60", "control.link_timeout_seconds": "0.3"}


class Desk:
    """A source that trades nothing. A halt ends when `ends` is set, with `account`."""

    def __init__(self, symbols: Sequence[str] = (SYMBOL,)) -> None:
        self.on_breach: Callable[[str], None] = _unset
        self.symbols = symbols
        self.applied: list[tuple[State, str]] = []
        self.limits: list[Limits] = []
        self.actions: list[Action] = []
        self.account = HaltAccount(3, 2, 1)
        self.ends = asyncio.Event()
        self.ends.set()

    async def run(self) -> None:
        """Nothing to run."""

    async def stop(self) -> None:
        """Nothing to stop."""

    def apply(self, state: State, reason: str) -> None:
        self.applied.append((state, reason))

    def limit(self, limits: Limits) -> None:
        self.limits.append(limits)

    async def halt(self, action: Action) -> HaltAccount:
        self.actions.append(action)
        await self.ends.wait()
        return self.account

    @property
    def is_running(self) -> bool:
        return True

    @property
    def states(self) -> list[State]:
        return [state for state, _ in self.applied]


class Rig:
    """A controller over `folder`, watching `server`; another one over the same is a restart."""

    def __init__(
        self,
        server: RedisServer,
        folder: Path,
        settings: Mapping[str, str] = QUIET,
        *,
        url: str | None = None,
        executes: bool = True,
    ) -> None:
        url = url or server.url
        given = {"redis.url": url, **settings}
        self.config = config.load(None, environ={}, overrides=given)
        self.client: redis.Redis = server.client
        self.desk = Desk()
        self.metrics = Metrics()
        self.lane = ExecLane(NAMES, producer="T", entries_max=100_000, clock_ns=time.monotonic_ns)
        self.entries: list[dict[str, str]] = []
        self.lane.on_entry = self._note
        self.file = LatchFile(folder)
        self.controller = Controller(
            self.config, self.file, self.lane, self.metrics, self.desk, executes=executes
        )
        self.keys = self.controller.keys
        self.watcher = Watcher(
            endpoints.parse(url),
            self.config.role,
            self.controller,
            self.metrics,
            self.config.control,
            symbols=self.desk.symbols,
            backoff_seconds_max=0.05,
        )

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch; the body begins when Redis was read. Raises what the watcher ends with."""
        task = asyncio.create_task(self.watcher.run())
        try:
            await until(lambda: task.done() or self.controller.known.is_set())
            if not task.done():
                yield
        finally:
            if self.controller.failure.done():
                await asyncio.wait({task})
            task.cancel()
            await asyncio.wait({task})
            halting = self.controller._halting
            if halting is not None:
                halting.cancel()
                await asyncio.wait({halting})
        if not task.cancelled():
            task.result()

    @property
    def state(self) -> State:
        """The state in force."""
        return self.controller.decision.state

    @property
    def kept(self) -> Halt:
        """The halt on the disk."""
        halt = self.file.load().halt
        assert halt is not None
        return halt

    @property
    def shown(self) -> dict[str, str]:
        """The state as it stands in Redis."""
        shown: dict[str, str] = self.client.hgetall(self.keys.state)
        return shown

    async def until(self, state: State) -> None:
        """Wait for a state, and until Redis shows it."""
        await until(lambda: self.state is state)
        await until(lambda: self.shown.get("state") == state.value)

    async def halted(self) -> str:
        """Halt by `mode`, as an operator does; return the id when Redis shows it."""
        self.set(MODE_KEY, "halt")
        await self.until(State.HALTED)
        return self.shown["latched"]

    async def idle(self) -> None:
        """Wait until Redis has answered all, and was not asked again for a while."""
        watcher = self.watcher
        await until(lambda: not watcher._due and watcher._clock() - watcher._asked_at > 0.05)

    def set(self, key: str, value: str) -> None:
        self.client.set(key, value)

    def _note(self, kind: str, values: tuple[str, ...]) -> None:
        names = (*self.lane.streams[kind].names, "producer", "seq", "jseq", "v")
        self.entries.append(dict(zip(names, values, strict=True)))


def _unset(_: Any) -> None:
    raise AssertionError("nobody has set it")
