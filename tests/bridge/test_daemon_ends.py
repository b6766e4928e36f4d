"""Ends of the daemon: nobody reads what it says, its terminal goes away, its last words count."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from bridge import exits
from bridge.embedded_redis import find_redis_server
from tests.bridge.processes import Daemon, Ended
from tests.servers import RedisServer, server_or_exit

BUSY = ("--strategy", "tests.bridge.strategies:Busy")
ORDERS, FILLS = "demo:exec:orders", "demo:exec:fills"
QUOTES = "demo:market.raw.crypto.BTCUSDT"
HASH = "demo:metrics:nautilus_bridge"
# With a buffer, as Python is usually run: it is flushed once more when the interpreter ends.
BUFFERED = {"PYTHONUNBUFFERED": ""}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    binary = server_or_exit(find_redis_server())
    server = RedisServer(binary, tmp_path_factory.mktemp("redis"))
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def hung_up(server: RedisServer, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """How a busy daemon ended whose terminal was closed."""
    folder = tmp_path_factory.mktemp("daemon")
    with Daemon(folder, *BUSY, replay__dataset=str(dataset), redis__url=server.url) as daemon:
        daemon.until_running()
        daemon.until(lambda: server.client.xlen(FILLS) >= 5, "fills")
        return daemon.stop(signal.SIGHUP)


@pytest.fixture
def full_pipe() -> Iterator[int]:
    """The writing end of a pipe that is full and has a reader that does not read."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    yield writer
    os.close(writer)
    os.close(reader)


def test_hanging_up_ends_it_cleanly(hung_up: Ended) -> None:
    """SIGHUP is an end like SIGTERM: 0, and everything is published."""
    assert (hung_up.code, hung_up.complaint) == (exits.DONE, "")
    assert hung_up.out.endswith("\nstopped; everything is published\n")


def test_the_last_hash_agrees_with_the_streams(hung_up: Ended, server: RedisServer) -> None:
    """The hash of metrics is written a last time, behind the last entry."""
    fields = server.client.hgetall(HASH)

    assert hung_up.code == exits.DONE
    assert int(fields["nautilus_bridge_orders_published"]) == server.client.xlen(ORDERS) > 0
    assert int(fields["nautilus_bridge_fills_published"]) == server.client.xlen(FILLS) > 0
    assert int(fields["nautilus_bridge_exec_backlog"]) == 0


def test_nobody_reads_a_full_pipe(
    start: Callable[..., Daemon], make_redis: Callable[..., RedisServer], full_pipe: int
) -> None:
    """A stopped terminal or pager holds up neither the publishing nor the end."""
    server = make_redis()
    daemon = start(*BUSY, stdout=full_pipe, redis__url=server.url, **BUFFERED)
    daemon.until_logged("node.running")
    for key in (QUOTES, ORDERS):
        before = server.client.xlen(key)
        daemon.until(lambda key=key, before=before: server.client.xlen(key) > before + 5, key)
    first = _reported_ns(server.client)
    daemon.until(lambda: _reported_ns(server.client) > first, "another report")

    ended = daemon.stop(signal.SIGTERM)

    assert (ended.code, ended.complaint) == (exits.DONE, "")
    fields = server.client.hgetall(HASH)
    assert int(fields["nautilus_bridge_orders_published"]) == server.client.xlen(ORDERS)


def _reported_ns(client: redis.Redis) -> int:
    return int(client.hget(HASH, "ts_ns") or 0)


def test_a_call_that_hangs_does_not_hold_the_end_up(start: Callable[..., Daemon]) -> None:
    """The end is forced then, with the failure's code and its words, and no server is left."""
    daemon = start(source__factory="tests.bridge.sources:hanging")

    ended = daemon.ended()

    assert ended.code == exits.RESTART
    assert "this source has failed" in ended.err
    [pid] = [line["pid"] for line in daemon.logged if line["event"] == "redis.embedded_started"]
    assert not Path(f"/proc/{pid}").exists()
