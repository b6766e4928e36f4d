"""bridge/former.py, and the watcher over it: who halts at a primary that others have replaced, and
that has not been told, is heard."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge import former, link
from bridge.core.control import MODE_KEY, State
from bridge.embedded_redis import HOST
from bridge.former import FormerPrimary, Left, Said
from bridge.link import Connection
from bridge.target import Target
from tests.bridge.test_sentinel_split import Witness
from tests.bridge.watching import FLAG, HALT, LATCH, STATE, Rig
from tests.proxies import on_uvloop, until
from tests.servers import RedisServer

type Make = Callable[..., RedisServer]


class Listening:
    """A listener, and what it has heard: of whom, and what."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, Said]] = []
        self.former = FormerPrimary(lambda target, said: self.heard.append((target.port, said)))

    def leave(self, server: RedisServer, mode: bytes | None = None) -> None:
        """Leave a server whose `mode` was this."""
        self.former.leave(Left(target_of(server), {MODE_KEY: mode}))

    async def ended(self) -> None:
        """Wait until nobody is asked any more."""
        await until(lambda: self.former._left is None)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.former.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})
        assert task.cancelled(), task.exception()


async def compared(listener: FormerPrimary) -> None:
    """Wait until what was asked from now on has been compared with what was said before."""
    for _ in range(2):
        said = listener._said
        await until(lambda said=said: listener._said is not said)


def target_of(server: RedisServer) -> Target:
    return Target(port=server.port, proves_role=True)


def connections(server: RedisServer) -> int:
    """Return how many others but the one that asks are connected."""
    return len(server.client.client_list()) - 1


@on_uvloop
async def test_what_changes(redis_server: RedisServer) -> None:
    """Each change is heard once: of when it was left, and of later."""
    its = Listening()
    redis_server.client.set(MODE_KEY, "halt")
    async with its.running():
        its.leave(redis_server)
        await compared(its.former)
        redis_server.client.delete(MODE_KEY)
        await compared(its.former)
    port = redis_server.port
    assert its.heard == [(port, {MODE_KEY: b"halt"}), (port, {MODE_KEY: None})]


@on_uvloop
async def test_what_was_known(redis_server: RedisServer) -> None:
    """What was read there before it was left is not heard again."""
    its = Listening()
    redis_server.client.set(MODE_KEY, "halt")
    async with its.running():
        its.leave(redis_server, b"halt")
        await compared(its.former)
    assert not its.heard


@on_uvloop
async def test_once_it_is_told(make_redis: Make) -> None:
    """One that has become a replica is left alone: what it holds then is what it is told."""
    first, second = make_redis(), make_redis("--repl-diskless-sync-delay", "0")
    second.client.set(MODE_KEY, "halt")
    its = Listening()
    async with its.running():
        its.leave(first)
        await compared(its.former)
        first.client.replicaof(HOST, second.port)
        await its.ended()
        await until(lambda: first.client.get(MODE_KEY) == "halt")
        its.leave(first)
        await its.ended()
    assert not its.heard


@on_uvloop
async def test_one_that_hangs_up(redis_server: RedisServer) -> None:
    """It is asked on behind a connection that breaks; what changes meanwhile is heard."""
    its = Listening()
    async with its.running():
        its.leave(redis_server)
        await compared(its.former)
        both = redis_server.client.pipeline().set(MODE_KEY, "halt")
        both.client_kill_filter(_type="normal", skipme=True).execute()
        await until(lambda: its.heard)
    assert its.heard == [(redis_server.port, {MODE_KEY: b"halt"})]


@on_uvloop
async def test_one_that_hangs(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not answer any more is asked again, over another connection."""
    attempts = Counter[int]()

    async def connect(target: Target) -> Connection:
        attempts[target.port] += 1
        return await link.connect(target)

    monkeypatch.setattr(former, "connect", connect)
    monkeypatch.setattr(former, "ANSWER_SECONDS_MAX", 0.05)
    its = Listening()
    async with its.running():
        its.leave(redis_server)
        await compared(its.former)
        known = attempts.total()
        redis_server.pause()
        try:
            await until(lambda: attempts.total() > known)
        finally:
            redis_server.resume()
        redis_server.client.set(MODE_KEY, "halt")
        await until(lambda: its.heard)


@on_uvloop
async def test_one_that_died(make_redis: Make) -> None:
    """What it comes back with may be old, and is not heard; what changes then is."""
    server = make_redis()
    server.client.set(MODE_KEY, "halt")
    server.client.save()
    server.client.delete(MODE_KEY)
    its = Listening()
    async with its.running():
        its.leave(server)
        await compared(its.former)
        server.kill()
        await until(lambda: its.former._said == {})
        server.start()
        assert server.client.get(MODE_KEY) == "halt"
        await compared(its.former)
        assert not its.heard
        server.client.set(MODE_KEY, "HALT")
        await until(lambda: its.heard)


@on_uvloop
async def test_one_that_stays_away(make_redis: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of which nothing is heard for long is asked no more, until it is left again."""
    monkeypatch.setattr(former, "SILENT_SECONDS_MAX", 0.3)
    server, its = make_redis(), Listening()
    async with its.running():
        server.kill()
        its.leave(server)
        await its.ended()
        server.start()
        its.leave(server)
        await compared(its.former)


@on_uvloop
async def test_the_next_one(make_redis: Make) -> None:
    """The one that was left last is asked, and the one before no more."""
    first, second = make_redis(), make_redis()
    its = Listening()
    async with its.running():
        its.leave(first)
        await compared(its.former)
        its.leave(second)
        await until(lambda: connections(second) == 1 and connections(first) == 0)
        second.client.set(MODE_KEY, "halt")
        await until(lambda: its.heard)
    assert its.heard == [(second.port, {MODE_KEY: b"halt"})]
    assert connections(second) == 0


# The watcher.


@contextlib.asynccontextmanager
async def watching(
    folder: Path, first: RedisServer, second: RedisServer
) -> AsyncIterator[Callable[[], Awaitable[Rig]]]:
    """Watch the first of two servers that take writes; the flag is on in both. What is yielded has
    the only Sentinel name the second, and waits until that one is watched, and the first asked."""
    for each in (first, second):
        each.client.set(FLAG, "1")
    witness = Witness(first.port)
    async with await asyncio.start_server(witness.serve, HOST, 0) as sentinel:
        port = sentinel.sockets[0].getsockname()[1]
        rig = Rig(first, folder, url=f"redis+sentinel://{HOST}:{port}/svc")

        async def move() -> Rig:
            witness.names, witness.epoch = (HOST.encode(), str(second.port).encode()), 2
            rig.client = second.client
            await until(lambda: rig.watcher._former._heard_at)
            await rig.until(rig.state)
            return rig

        async with rig.watching():
            await rig.until(State.ACTIVE)
            yield move


@pytest.mark.parametrize(("key", "word"), [(MODE_KEY, "halt"), (HALT, "an-id a look")])
@on_uvloop
async def test_who_halts_there(make_redis: Make, tmp_path: Path, key: str, word: str) -> None:
    """Who halts at the former primary halts; the new one is told, and the halt stays."""
    first, second = make_redis(), make_redis()
    with capture_logs() as logs:
        async with watching(tmp_path, first, second) as move:
            rig = await move()
            first.client.set(key, word)
            await rig.until(State.HALTED)
            await until(lambda: second.client.get(LATCH) == rig.kept.id)
            second.client.set(MODE_KEY, "auto")
            await until(lambda: rig.shown["mode"] == "auto")
            assert rig.state is State.HALTED
    told = [each for each in logs if each["event"] == "control.former"]
    assert [(each["redis"], each["changed"]) for each in told] == [(f"{HOST}:{first.port}", [key])]


@on_uvloop
async def test_who_allows_there(make_redis: Make, tmp_path: Path) -> None:
    """A halt that was ended behind the failover is not begun again by what still stands at a former
    primary that hung meanwhile, nor is one ended there."""
    first, second = make_redis(), make_redis()
    async with watching(tmp_path, first, second) as move:
        first.client.set(MODE_KEY, "halt")
        await until(lambda: first.client.hget(STATE, "state") == "HALTED")
        first.pause()
        rig = await move()
        rig.set(MODE_KEY, "halt")
        await until(lambda: rig.shown["mode"] == "halt")
        rig.set(MODE_KEY, "normal")
        await rig.until(State.ACTIVE)
        first.resume()
        await compared(rig.watcher._former)
        assert rig.state is State.ACTIVE
        await rig.halted()
        first.client.set(MODE_KEY, "normal")
        await compared(rig.watcher._former)
        await rig.idle()
        assert rig.state is State.HALTED
