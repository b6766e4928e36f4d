"""bridge/reader.py and its connection: cut, refused, loading, of a replica, of no Redis at all."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from structlog.testing import capture_logs

from bridge.reading import Item
from tests.bridge.links import peer
from tests.bridge.processes import eventually, loading
from tests.bridge.reading import Row, put
from tests.proxies import Proxy, key, on_uvloop
from tests.servers import RedisServer


@on_uvloop
@pytest.mark.parametrize("after", [0, 1, 3000, 60_000])
async def test_a_connection_cut_in_a_reply(
    redis_server: RedisServer, tmp_path: Path, after: int
) -> None:
    """The connection is cut in the middle of a page: nothing is lost, nothing taken twice."""
    async with Proxy(redis_server.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        row = Row(tmp_path, redis_server, url=url, batch_entries_max=64)
        async with row.publishing() as session:
            put(session, "orders", "fills", count=200)
            await session.drained()
        failed = 0
        for turn in range(20):
            if turn % 3 == 1:
                proxy.cut_next_reply(after)
            try:
                await asyncio.to_thread(row.reader.step)
            except redis.RedisError:
                failed += 1
        assert failed > 3
        row.reader.close()
    row.sink.check(row.rig)


@on_uvloop
async def test_a_peer_that_is_no_redis(tmp_path: Path, redis_server: RedisServer) -> None:
    """What answers something else is reported as Redis failing, never as a fault of the sink."""
    async with peer(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        row = Row(tmp_path, redis_server, url=f"redis://127.0.0.1:{port}/0")
        with pytest.raises(redis.RedisError):
            await asyncio.to_thread(row.reader.step)
    async with peer(b"+OK\r\n" * 20) as port:
        row = Row(tmp_path, redis_server, url=f"redis://127.0.0.1:{port}/0")
        with pytest.raises(redis.RedisError):
            await asyncio.to_thread(row.reader.step)
    assert row.sink.takes == 0


class Running:
    """A reader that runs in a thread."""

    def __init__(self, row: Row) -> None:
        self.row, self.stopped = row, threading.Event()
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Running":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self.row.reader.run(self.stopped, 0.01)
        except OSError as error:
            self.failure = error


async def publish(row: Row, count: int = 50) -> None:
    async with row.publishing() as session:
        put(session, "orders", "fills", count=count)
        await session.drained()


@on_uvloop
async def test_it_runs_on_over_restarts(
    make_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    """A server that dies is waited for, told once, and read on, emptied as it is."""
    server = make_redis()
    row = Row(tmp_path, server)
    lags: list[int] = []
    row.reader.on_step = lambda: lags.append(row.reader.lag)
    with capture_logs() as logs, Running(row):
        for turn in range(3):
            await publish(row)
            wanted = 50 * (turn + 1)
            eventually(lambda n=wanted: len(row.sink.texts("fills")) == n, "all fills")
            server.kill()
            eventually(lambda: row.reader.problem, "that it is told")
            server.start()
            eventually(lambda: row.reader.problem is None, "a connection")
    row.sink.check(row.rig)
    waiting = [each for each in logs if each["event"] == "reader.waiting"]
    assert 3 <= len(waiting) <= 9
    assert lags[-1] == 0


@on_uvloop
async def test_a_sink_that_fails_ends_the_run(redis_server: RedisServer, tmp_path: Path) -> None:
    """What the sink raises comes out of `run`, and another run goes on behind what was taken."""
    row = Row(tmp_path, redis_server)
    await publish(row)

    def fail() -> None:
        if row.sink.takes == 3:
            raise OSError("no space left")

    row.sink.on_take = fail
    with Running(row) as first:
        eventually(lambda: first.failure, "its failure")
    with Running(row):
        eventually(lambda: len(row.sink.texts("fills")) == 50, "all fills")
    row.sink.check(row.rig)


@on_uvloop
async def test_a_replica(make_redis: Callable[..., RedisServer], tmp_path: Path) -> None:
    """A replica is read like a primary; what cannot be used is published when it may write."""
    primary = make_redis("--repl-diskless-sync-delay", "0")
    replica = make_redis("--replicaof", f"127.0.0.1 {primary.port}")
    row = Row(tmp_path, primary, url=replica.url)
    row.sink.is_bad = is_first
    await publish(row)
    eventually(lambda: replica.client.xlen(key("fills")) == 50, "replication")
    with Running(row):
        eventually(lambda: len(row.sink.texts("fills")) == 50, "all fills")
        assert not replica.client.exists(f"{key('fills')}:dead")
        replica.client.replicaof("no", "one")
        eventually(lambda: replica.client.xlen(f"{key('fills')}:dead") == 1, "the dead one")
    row.sink.check(row.rig)


def is_first(item: Item) -> bool:
    return item.kind == "fills" and item.seq == 1


@on_uvloop
async def test_a_server_that_loads(make_redis: Callable[..., RedisServer], tmp_path: Path) -> None:
    """LOADING is waited for; a sink is not disturbed by it."""
    server = loading(make_redis, seconds=5)
    row = Row(tmp_path, server)
    with Running(row):
        eventually(lambda: "loading" in (row.reader.problem or "").lower(), "that it loads")
        server.client.config_set("key-load-delay", 0)
        eventually(lambda: row.reader.problem is None, "that it has loaded")
        await publish(row)
        eventually(lambda: len(row.sink.texts("fills")) == 50, "all fills")
    row.sink.check(row.rig)


@on_uvloop
async def test_a_stream_that_may_not_be_read(redis_server: RedisServer, tmp_path: Path) -> None:
    """An ACL that forbids one stream stops that one only."""
    client = redis_server.client
    client.execute_command(
        "ACL",
        "SETUSER",
        "narrow",
        "on",
        ">secret",
        "+@all",
        "~*",
        "(-@all)",
        "resetkeys",
        *[f"~*{word}*" for word in ("fills", "positions", "account", "funding", "control")],
    )
    try:
        url = redis_server.url.replace("redis://", "redis://narrow:secret@")
        row = Row(tmp_path, redis_server, url=url)
        await publish(row)
        row.read()
        assert row.sink.texts("fills") == row.rig.appended["fills"]
        assert row.sink.texts("orders") == []
        assert "orders" in (row.reader.problem or "")
        assert "secret" not in (row.reader.problem or "")
        row.reader.close()
    finally:
        client.execute_command("ACL", "DELUSER", "narrow")
