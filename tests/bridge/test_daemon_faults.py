"""Redis fails while the daemon runs: it goes on, says so once, counts it, and loses no execution.

One daemon and one Redis for all of them: each test breaks something, repairs it, and leaves both as
it found them.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.embedded_redis import find_redis_server
from tests.bridge.processes import Daemon, allow, is_dense
from tests.servers import RedisServer, free_port, server_or_exit

ORDERS, FILLS = "demo:exec:orders", "demo:exec:fills"
STREAMS = (ORDERS, FILLS, "demo:exec:positions", "demo:exec:account")
LEASE = "bridge:lease:DEMO-001"
QUOTES = "demo:market.raw.crypto.BTCUSDT"
BUSY = ("--strategy", "tests.bridge.strategies:Busy")
PASSWORD = "s3cret"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that keeps everything over a SIGKILL."""
    server = RedisServer(
        server_or_exit(find_redis_server()),
        tmp_path_factory.mktemp("redis"),
        *("--appendonly", "yes", "--appendfsync", "always", "--requirepass", PASSWORD),
    )
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def running(
    server: RedisServer, dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("daemon")
    with Daemon(folder, *BUSY, replay__dataset=str(dataset), redis__url=server.url) as daemon:
        yield daemon


@pytest.fixture
def daemon(running: Daemon, server: RedisServer) -> Iterator[Daemon]:
    """The daemon, healthy before the test; healthy, and nothing lost, after it."""
    running.until_running()
    yield running
    running.until(lambda: running.health()[0] == 200, "health again")
    before = server.client.xlen(FILLS)
    running.until(lambda: server.client.xlen(FILLS) > before, "fills again")
    for key in STREAMS:
        assert is_dense(server.client, key), key


def _errors(daemon: Daemon, kind: str) -> float:
    return daemon.metric(f'nautilus_bridge_redis_errors_total{{kind="{kind}"}}')


def _until_counted(daemon: Daemon, kind: str, *, more: int) -> None:
    """Wait until so many more errors of a kind are counted."""
    before = _errors(daemon, kind)
    daemon.until(lambda: _errors(daemon, kind) >= before + more, f"errors of kind {kind}")


def test_killed_and_restarted(daemon: Daemon, server: RedisServer) -> None:
    """Redis is gone: 503 with the reason, retried until it is back."""
    server.kill()
    _until_counted(daemon, "connection", more=4)
    status, reason = daemon.health()
    assert status == 503
    assert reason.startswith("no connection to Redis for the exec lane: ")
    daemon.until(lambda: daemon.state.startswith("no connection to Redis"), "it as the state")
    assert daemon.metric('nautilus_bridge_connected{lane="exec"}') == 0
    server.start()
    daemon.until(lambda: daemon.health()[0] == 200, "health")
    assert daemon.metric('nautilus_bridge_reconnects_total{lane="exec"}') == 1
    # EOF, reset, refused: each of them once.
    assert daemon.times_logged("redis.lost", lane="exec", retrying=True) <= 3


def test_stalls(daemon: Daemon, server: RedisServer) -> None:
    """Redis does not answer: entries wait, the status line goes on."""
    server.pause()
    try:
        before = len(daemon.statuses)
        daemon.until(lambda: len(daemon.statuses) >= before + 3, "three status lines")
        daemon.until(lambda: int(daemon.statuses[-1]["exec"]) > 0, "entries that wait")
    finally:
        server.resume()
    daemon.until(lambda: daemon.metric("nautilus_bridge_exec_backlog") == 0, "nothing that waits")


def test_full(daemon: Daemon, server: RedisServer) -> None:
    """OOM: 503 with the streams, said once, counted; it goes on when there is room again."""
    server.client.config_set("maxmemory", 1)
    _until_counted(daemon, "oom", more=6)
    daemon.until(lambda: ORDERS in daemon.health()[1], "503 and the stream")
    server.client.config_set("maxmemory", 0)
    daemon.until_logged("exec.resumed", stream=ORDERS)
    assert daemon.times_logged("exec.refused", stream=ORDERS) == 1


def test_read_only(daemon: Daemon, server: RedisServer) -> None:
    """Demoted to a replica: counted, the connection made anew until it is a primary again."""
    said = daemon.times_logged("exec.refused", stream=ORDERS)
    server.client.replicaof("127.0.0.1", free_port())
    _until_counted(daemon, "readonly", more=6)
    daemon.until(lambda: daemon.health()[0] == 503, "503")
    server.client.replicaof("NO", "ONE")
    daemon.until(lambda: daemon.health()[0] == 200, "health")
    # Another stream may be the one that is refused before the connection is cut.
    assert daemon.times_logged("exec.refused", stream=ORDERS) <= said + 1


def test_flushed(daemon: Daemon, server: RedisServer) -> None:
    """FLUSHALL: all that was published stands there again, each entry once, and so does the lease.
    What is in the journal makes no hole."""
    lease = server.client.get(LEASE)
    before = {key: server.client.xlen(key) for key in STREAMS}
    server.client.flushall()
    allow(server.url)
    for key, count in before.items():
        daemon.until(lambda key=key, count=count: server.client.xlen(key) >= count, key)
    daemon.until(lambda: server.client.get(LEASE) == lease, "the lease")
    causes = {fields["cause"] for _, fields in server.client.xrange("demo:exec:control")}
    assert "base" not in causes


def test_scripts_and_marks_gone(daemon: Daemon, server: RedisServer) -> None:
    """SCRIPT FLUSH, and every mark deleted: nothing is doubled, and it goes on."""
    marks = server.client.keys("bridge:mark:*")
    server.client.script_flush()
    server.client.delete(*marks)
    daemon.until(lambda: set(server.client.keys("bridge:mark:*")) >= set(marks), "its marks")


def test_exec_stream_of_wrong_type(daemon: Daemon, server: RedisServer) -> None:
    """WRONGTYPE on one exec stream: it waits, the others go on."""
    daemon.until(lambda: server.client.exists(FILLS), "the first fill")
    with server.client.pipeline() as at_once:
        at_once.rename(FILLS, "aside").set(FILLS, "a string").execute()
    _until_counted(daemon, "wrongtype", more=2)
    said = (503, f"Redis refuses entries of {FILLS}")
    daemon.until(lambda: daemon.health() == said, "503 and the stream")
    before = server.client.xlen(ORDERS)
    daemon.until(lambda: server.client.xlen(ORDERS) > before, "orders go on")
    daemon.until_logged("exec.refused", stream=FILLS, kept=True)
    server.client.rename("aside", FILLS)
    daemon.until(lambda: daemon.health()[0] == 200, "health")


def test_market_stream_of_wrong_type(daemon: Daemon, server: RedisServer) -> None:
    """WRONGTYPE on one market stream: counted as dropped, said once, the others go on."""
    said = daemon.times_logged("market.refused", stream=QUOTES)  # by a fault of another test
    others = "demo:market.raw.crypto.ETHUSDT"
    daemon.until(lambda: server.client.exists(QUOTES, others) == 2, "the first quotes")
    with server.client.pipeline() as at_once:
        at_once.rename(QUOTES, "aside").set(QUOTES, "a string").execute()
    _until_counted(daemon, "wrongtype", more=3)
    assert daemon.health()[0] == 200
    dropped = 'nautilus_bridge_market_dropped_total{kind="quotes",reason="wrongtype"}'
    assert daemon.metric(dropped) >= 3
    daemon.until(lambda: daemon.times_logged("market.refused", stream=QUOTES) > said, "it said")
    before = server.client.xlen(others)
    daemon.until(lambda: server.client.xlen(others) > before, "the others go on")
    assert daemon.times_logged("market.refused", stream=QUOTES) == said + 1
    server.client.rename("aside", QUOTES)


def test_hash_of_wrong_type(daemon: Daemon, server: RedisServer) -> None:
    """WRONGTYPE on the hash of metrics is said once, and harms nothing."""
    key = "demo:metrics:nautilus_bridge"
    with server.client.pipeline() as at_once:
        at_once.delete(key).set(key, "a string").execute()
    daemon.until_logged("metrics.hash_refused", key=key)
    before = len(daemon.statuses)
    daemon.until(lambda: len(daemon.statuses) > before + 1, "two more reports")
    server.client.delete(key)
    daemon.until(lambda: server.client.type(key) == "hash", "the hash")
    assert daemon.times_logged("metrics.hash_refused") == 1


def test_examples_name_the_server(daemon: Daemon, server: RedisServer) -> None:
    """With redis.url the redis-cli lines name its port, and where the password goes."""
    assert "REDISCLI_AUTH must hold the password" in daemon.out
    assert all(f"-p {server.port} " in " ".join(words) for words in daemon.examples)
    assert all("demo:" in " ".join(words) for words in daemon.examples[:4]), "its streams"


def test_says_no_secret(daemon: Daemon) -> None:
    """The password in redis.url appears nowhere, not after all those faults either."""
    said = daemon.out + daemon.err + daemon.get("/metrics")[1] + daemon.get("/health")[1]
    assert "Redis redis://:***@127.0.0.1:" in daemon.out
    assert PASSWORD not in said
    assert "Traceback" not in said
