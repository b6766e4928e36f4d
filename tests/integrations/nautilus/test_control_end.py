"""From redis-cli to the venue: a real Redis, a real node, a client that counts its submits."""

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from bridge import endpoints
from bridge.controller import Controller, Keys
from bridge.core.control import LIVE_FLAG, MODE_KEY, State
from bridge.embedded_redis import find_redis_server
from bridge.latch import LatchFile
from bridge.watcher import Watcher
from tests.integrations.nautilus.control_rig import Rig, make, run
from tests.integrations.nautilus.engines import until
from tests.servers import RedisServer, server_or_exit

SETTINGS = {"control.link_timeout_seconds": 1.0, "control.poll_seconds": 0.05}
CLI = str(server_or_exit(find_redis_server()).with_name("redis-cli"))
STATE = Keys.of("live").state
ATTEMPTS = 5


class Desk:
    """A node that is watched over: `rig`, its `controller`, and the Redis that it obeys."""

    def __init__(self, rig: Rig, controller: Controller, server: RedisServer) -> None:
        self.rig = rig
        self.controller = controller
        self.server = server

    def cli(self, *words: str) -> None:
        """Type a redis-cli line."""
        command = [CLI, "-p", str(self.server.port), *words]
        subprocess.run(command, check=True, capture_output=True, timeout=10)

    async def until(self, state: State) -> None:
        await until(lambda: self.controller.decision.state is state, state)

    async def reached(self) -> int:
        """Have the strategy try a few orders; return how many of them reached the client."""
        before = len(self.rig.client.submits)
        orders = [self.rig.limit() for _ in range(ATTEMPTS)]
        self.rig.submit(*orders)
        await until(lambda: not any(order.is_active_local for order in orders), "their answers")
        return len(self.rig.client.submits) - before


@contextlib.asynccontextmanager
async def watched(folder: Path, server: RedisServer, state: Path) -> AsyncIterator[Desk]:
    """Run a live node with the stand-in, and the watcher of its role; its flag is on."""
    server.client.set(LIVE_FLAG, "1")
    rig = make(folder, role="live", **SETTINGS)
    config = rig.source._config
    controller = Controller(
        config, LatchFile(state), rig.lane, rig.metrics, rig.source, executes=True
    )
    watcher = Watcher(
        endpoints.parse(server.url),
        "live",
        controller,
        rig.metrics,
        config.control,
        symbols=rig.source.symbols,
        backoff_seconds_max=0.05,
    )
    watching = asyncio.create_task(watcher.run())
    try:
        await until(controller.known.is_set, "the first read")
        async with run(rig):
            await rig.quote()
            yield Desk(rig, controller, server)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def restore(server: RedisServer, dump: Path) -> None:
    """Set Redis back to a dump."""
    server.kill()
    shutil.copy(dump, server.folder / "dump.rdb")
    server.start()


WAYS: list[tuple[str, Callable[[Desk], Any]]] = [
    ("0", lambda desk: desk.cli("set", LIVE_FLAG, "0")),
    ("missing", lambda desk: desk.cli("del", LIVE_FLAG)),
    ("garbage", lambda desk: desk.cli("set", LIVE_FLAG, "perhaps")),
    ("wrong type", lambda desk: (desk.cli("del", LIVE_FLAG), desk.cli("lpush", LIVE_FLAG, "1"))),
    ("flushed", lambda desk: desk.cli("flushall")),
    ("killed", lambda desk: desk.server.kill()),
    ("paused", lambda desk: desk.server.pause()),
    ("a replica", lambda desk: desk.cli("replicaof", "127.0.0.1", "1")),
]


@pytest.mark.parametrize(("what", "close"), WAYS, ids=[what for what, _ in WAYS])
async def test_nothing_reaches_the_venue(folder, make_redis, tmp_path, what, close):
    """The flag on: orders arrive. Then it goes, or Redis does: none does, and what rested ends."""
    server = make_redis()
    async with watched(folder, server, tmp_path) as desk:
        await desk.until(State.ACTIVE)
        assert await desk.reached() == ATTEMPTS

        close(desk)
        await desk.until(State.DISABLED)

        assert await desk.reached() == 0
        await until(lambda: not desk.rig.guard.out.live, "the end of what rested")
        if what == "paused":
            server.resume()


async def test_off_and_on_again(folder, make_redis, tmp_path):
    """1, 0, 1: orders arrive, do not, and arrive again."""
    async with watched(folder, make_redis(), tmp_path) as desk:
        for value, state, count in (("0", State.DISABLED, 0), ("1", State.ACTIVE, ATTEMPTS)) * 2:
            desk.cli("set", LIVE_FLAG, value)
            await desk.until(state)
            assert await desk.reached() == count


async def test_a_redis_that_is_set_back(folder, make_redis, tmp_path):
    """A halt holds when Redis is restored from before it, with the flag on and `mode` normal."""
    server = make_redis()
    server.client.mset({LIVE_FLAG: "1", MODE_KEY: "normal"})
    server.client.save()
    dump = Path(shutil.copy(server.folder / "dump.rdb", tmp_path / "before.rdb"))
    async with watched(folder, server, tmp_path) as desk:
        desk.cli("set", "mode", "halt")
        await desk.until(State.HALTED)
        restore(server, dump)
        await until(lambda: server.client.hget(STATE, "latched"), "the bridge's answer")

        assert server.client.get(MODE_KEY) == "normal"
        assert desk.controller.decision.state is State.HALTED
        assert await desk.reached() == 0

        desk.cli("set", "mode", "halt")
        await until(lambda: server.client.hget(STATE, "mode") == "halt", "its sight")
        desk.cli("set", "mode", "normal")
        await desk.until(State.ACTIVE)
        assert await desk.reached() == ATTEMPTS


async def test_redis_dies_right_behind_the_set(folder, make_redis, tmp_path):
    """Seen or not: nothing is sent, and it is a halt at the latest when Redis is back."""
    server = make_redis("--appendonly", "yes", "--appendfsync", "always")
    async with watched(folder, server, tmp_path) as desk:
        desk.cli("set", "mode", "halt")
        server.kill()
        await until(
            lambda: desk.controller.decision.state in (State.HALTED, State.DISABLED),
            "a closed gate",
        )
        assert await desk.reached() == 0
        server.start()
        await desk.until(State.HALTED)
        assert await desk.reached() == 0


async def test_a_restart_stays_halted(folder, make_redis, tmp_path):
    """Another process over the same folder sends nothing, although Redis knows of no halt."""
    server = make_redis()
    async with watched(folder, server, tmp_path) as desk:
        desk.cli("set", "mode", "halt")
        await until(lambda: LatchFile(tmp_path).load().halt, "the latch")
    server.client.flushall()
    async with watched(folder, server, tmp_path) as desk:
        assert desk.controller.decision.state is State.HALTED
        assert await desk.reached() == 0
