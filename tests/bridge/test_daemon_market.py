"""Market data go to a Redis of their own: what happens to it touches nothing else.

One daemon and two servers for most of them: each test breaks something, and repairs it.
"""

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from bridge import exits
from bridge.__main__ import main
from bridge.config import ConfigError, load
from bridge.controller import Keys
from bridge.core.control import MODE_KEY
from bridge.embedded_redis import find_redis_server
from tests.bridge.processes import Daemon, environment, is_dense
from tests.servers import RedisServer, free_port, server_or_exit

FILLS, QUOTES, HASH = "demo:exec:fills", "demo:market.raw.crypto.BTCUSDT", "metrics:nautilus_bridge"
STATE = Keys.of("demo").state
BUSY = ("--strategy", "tests.bridge.strategies:Busy")
PASSWORD = "s3cret"
AWAY = "ok, but not the market data: "


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RedisServer, RedisServer]]:
    """One for execution and control, one for market data."""
    binary = server_or_exit(find_redis_server())
    with contextlib.ExitStack() as stack:
        made = []
        for name in ("exec", "market"):
            options = ("--requirepass", PASSWORD) if name == "market" else ()
            made.append(RedisServer(binary, tmp_path_factory.mktemp(name), *options))
            stack.callback(made[-1].close)
            made[-1].start()
        yield made[0], made[1]


@pytest.fixture
def server(servers: tuple[RedisServer, RedisServer]) -> RedisServer:
    return servers[0]


@pytest.fixture
def market(servers: tuple[RedisServer, RedisServer]) -> RedisServer:
    return servers[1]


@pytest.fixture(scope="module")
def running(
    servers: tuple[RedisServer, RedisServer],
    dataset: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Daemon]:
    urls = {"redis__url": servers[0].url, "redis__market_url": servers[1].url}
    folder = tmp_path_factory.mktemp("daemon")
    with Daemon(folder, *BUSY, replay__dataset=str(dataset), **urls) as daemon:
        yield daemon


@pytest.fixture
def daemon(running: Daemon, servers: tuple[RedisServer, RedisServer]) -> Iterator[Daemon]:
    """The daemon with both its servers before the test, and after it; no fill is lost."""
    server, market = servers
    running.until_running()
    running.until(lambda: running.state == "ok", "the market data's Redis")
    yield running
    running.until(lambda: running.state == "ok", "all is well again")
    until_more(running, market, QUOTES)
    assert is_dense(server.client, FILLS)


def until_more(daemon: Daemon, server: RedisServer, stream: str, *, count: int = 1) -> None:
    """Wait for entries that are new; behind a restart the stream may be as well."""

    def last() -> object:
        with contextlib.suppress(redis.RedisError):
            return [entry for entry, _ in server.client.xrevrange(stream, count=1)]
        return []

    for _ in range(count):
        before = last()
        daemon.until(lambda before=before: last() not in ([], before), f"more in {stream}")


def check_the_rest(daemon: Daemon, server: RedisServer, why: str) -> None:
    """While the market data's Redis is away: it is told, and everything else goes on."""
    daemon.until(lambda: daemon.state.startswith(AWAY) and why in daemon.state, "it as the state")
    daemon.until(lambda: why in str(server.client.hget(STATE, "market_problem")), "it for `status`")
    assert daemon.health() == (200, "")
    assert daemon.metric('nautilus_bridge_connected{lane="exec"}') == 1
    until_more(daemon, server, FILLS, count=3)
    before = server.client.hget(f"demo:{HASH}", "ts_ns")
    daemon.until(lambda: server.client.hget(f"demo:{HASH}", "ts_ns") != before, "the metrics")
    server.client.set(MODE_KEY, "halt")
    daemon.until(lambda: server.client.hget(STATE, "state") == "HALTED", "a halt")
    server.client.set(MODE_KEY, "normal")
    daemon.until(lambda: server.client.hget(STATE, "state") == "ACTIVE", "its end")


def test_each_lane_has_its_redis(daemon: Daemon, server: RedisServer, market: RedisServer) -> None:
    """Market streams are in the one server and nothing else is; the other has all the rest."""
    until_more(daemon, market, QUOTES)
    until_more(daemon, server, FILLS)

    there = {str(key).split(".")[0] for key in market.client.scan_iter(count=1000)}
    assert there == {"demo:market"}
    assert not [*server.client.scan_iter("*market.raw*", count=1000)]
    assert (
        f"Redis {server.url}, market data in redis://:***@127.0.0.1:{market.port}/0" in daemon.out
    )


def test_killed(daemon: Daemon, server: RedisServer, market: RedisServer) -> None:
    """SIGKILL: counted and told, and nothing else; it comes back by itself."""
    market.kill()
    try:
        check_the_rest(daemon, server, "no connection to Redis for the market lane: ")
        assert daemon.metric('nautilus_bridge_connected{lane="market"}') == 0
    finally:
        market.start()


def test_stalls(daemon: Daemon, server: RedisServer, market: RedisServer) -> None:
    """SIGSTOP: what it owes is told of, and nothing waits for it."""
    market.pause()
    try:
        check_the_rest(daemon, server, "Redis has not answered for ")
    finally:
        market.resume()


def test_another_password(daemon: Daemon, server: RedisServer, market: RedisServer) -> None:
    """Its password is changed while it runs: refused, tried again, and taken back."""
    market.client.config_set("requirepass", "another")
    market.client.client_kill_filter(_type="normal", skipme=True)
    try:
        check_the_rest(daemon, server, "WRONGPASS")
    finally:
        market.client.config_set("requirepass", PASSWORD)


def test_full(daemon: Daemon, server: RedisServer, market: RedisServer) -> None:
    """OOM: what it refuses is counted as dropped, and executions go on."""
    market.client.config_set("maxmemory", 1)
    try:
        sample = 'nautilus_bridge_market_dropped_total{kind="quotes",reason="refused"}'
        daemon.until(lambda: daemon.metric(sample) > 0, "market data that are dropped")
        until_more(daemon, server, FILLS, count=3)
        assert daemon.health() == (200, "")
    finally:
        market.client.config_set("maxmemory", 0)


def test_status_tells(
    daemon: Daemon, market: RedisServer, server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m bridge status` has a line of it while it is away."""
    market.kill()
    try:
        daemon.until(lambda: server.client.hget(STATE, "market_problem"), "it in the state")

        assert main(["status", "--url", server.url]) == exits.DONE
    finally:
        market.start()
    told = capsys.readouterr().out
    assert "\n  no market data: no connection to Redis for the market lane: " in told


@pytest.mark.parametrize("there", [True, False], ids=["a wrong password", "nobody"])
def test_at_start(
    start: Callable[..., Daemon], server: RedisServer, market: RedisServer, *, there: bool
) -> None:
    """It starts without, says so, and trades; what it had for there is named as lost at the end."""
    port = market.port if there else free_port()
    url = f"redis://:wr0ng@127.0.0.1:{port}/0"
    alone = {"streams__prefix": "s:", "producer__id": "S-1", "node__trader_id": "S-001"}
    server.client.set(MODE_KEY, "normal")
    daemon = start(*BUSY, redis__url=_database(server, 1), redis__market_url=url, **alone)
    daemon.until_running()
    why = "WRONGPASS" if there else "refused"
    daemon.until(lambda: daemon.state.startswith(AWAY), "it as the state")
    assert why in daemon.state
    assert "wr0ng" not in daemon.out + daemon.err
    daemon.until(lambda: int(daemon.statuses[-1]["fills"]) > 0, "a fill")

    ended = daemon.stop(signal.SIGTERM)

    assert ended.code == exits.DONE
    assert "NOT published, and lost: 0 execution entries, " in ended.out


def _database(server: RedisServer, number: int) -> str:
    return f"redis://127.0.0.1:{server.port}/{number}"


# The setting.


def test_its_password_is_never_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`check-config` names both servers; a URL that is refused does not tell its password."""
    both = {"redis__url": "redis://a", "redis__market_url": f"redis://u:{PASSWORD}@b:7/1"}
    monkeypatch.setattr("os.environ", environment(both))
    assert main(["check-config"]) == exits.DONE
    assert "Redis redis://a, market data in redis://u:***@b:7/1, " in capsys.readouterr().out

    with pytest.raises(ConfigError) as refused:
        load(None, environ={}, overrides={"redis.market_url": f"redis:/u:{PASSWORD}@b"})
    assert str(refused.value).startswith("redis.market_url: ")
    assert PASSWORD not in str(refused.value)


def test_not_beside_the_demos_own() -> None:
    """Without redis.url it is refused: the streams of a demo would have no prefix there."""
    with pytest.raises(ConfigError) as refused:
        load(None, environ={"BRIDGE_REDIS__MARKET_URL": "redis://b"})

    assert str(refused.value).startswith("redis.market_url: without redis.url ")


def test_its_credential(tmp_path: Path) -> None:
    """systemd's `market-password` belongs to it, and to nothing else."""
    (tmp_path / "market-password").write_text("pw\n")
    environ = {
        "BRIDGE_REDIS__URL": "redis://a",
        "BRIDGE_REDIS__MARKET_URL": "redis://bridge-market@b:7",
        "CREDENTIALS_DIRECTORY": str(tmp_path),
    }

    config = load(None, environ=environ)

    assert config.redis.secret_url == "redis://a"
    assert config.redis.secret_market_url == "redis://bridge-market:pw@b:7"
