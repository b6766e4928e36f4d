"""`python -m bridge doctor` where market data have a Redis of their own."""

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge import exits
from bridge.core.control import SHADOW_FLAG
from bridge.doctor import Level
from tests.bridge.doctors import KEPT, Seen, as_user, seen
from tests.bridge.processes import Daemon, environment, eventually
from tests.servers import RedisServer, free_port
from tests.topologies.acl import WithUsers, started

type Make = Callable[..., RedisServer]
type See = Callable[[str], Seen]

QUOTES = "demo:market.raw.crypto.BTCUSDT"


@pytest.fixture
def server(make_redis: Make) -> RedisServer:
    """The Redis of everything else, with nothing wrong."""
    return make_redis(*KEPT)


@pytest.fixture
def see(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> See:
    """Return `see(market_url)`: what doctor says."""

    def call(url: str) -> Seen:
        both = {"redis__url": server.url, "redis__market_url": url}
        monkeypatch.setattr("os.environ", environment(both))
        return seen(capsys.readouterr)

    return call


@pytest.fixture
def users(tmp_path: Path) -> Iterator[WithUsers]:
    """A server with the users of ops/redis/bridge.acl."""
    (tmp_path / "redis").mkdir()
    with started(tmp_path / "redis") as made:
        yield made


def test_one_that_keeps_nothing(see: See, make_redis: Make) -> None:
    """It need not keep anything: nothing is wrong. Streams are counted where they are."""
    market = make_redis("--maxmemory-policy", "allkeys-lru")
    for number in range(3):
        market.client.xadd(QUOTES, {"a": str(number)})

    said = see(market.url)

    assert said.is_clean
    assert said.told["market streams"].startswith("1, ")
    assert said.told["market role"] == "primary, accepts writes; replicas: 0"


def test_it_is_away(see: See) -> None:
    """Named by its own setting; it would lose market data, and the rest is judged: exit 1."""
    said = see(f"redis://:pw@127.0.0.1:{free_port()}/0")

    assert said.code == exits.FAILED
    assert said.error == ""
    assert said.worst == {"market redis": Level.LOSE}
    assert said.of("market redis").what.startswith("redis.market_url: redis://:***@127.0.0.1:")
    assert "permissions" in said.told


def test_another_password(see: See, make_redis: Make) -> None:
    """What to do is to correct this setting, and not redis.url."""
    market = make_redis("--requirepass", "right")

    said = see(f"redis://:wr0ng@127.0.0.1:{market.port}/0")

    assert said.code == exits.FAILED
    remedy = said.of("market redis").remedy
    assert remedy == "correct user and password in redis.market_url, or the user's ACL"


def test_a_right_that_lacks(see: See, make_redis: Make) -> None:
    """Who may not write is told how to; done as it is written, that is enough."""
    market = make_redis()
    url = as_user(market, "poor", "~*", "&*", "+@all", "-xadd")

    said = see(url)
    assert said.of("market permissions").what == "the user poor may not: XADD"
    market.client.execute_command(*shlex.split(said.of("market permissions").remedy))

    assert see(url).is_clean


def test_the_users_of_the_file(
    see: See, users: WithUsers, server: RedisServer, start: Callable[..., Daemon]
) -> None:
    """As bridge-market all is well, to doctor and to a daemon, which then is denied nothing."""
    url = users.url_of("bridge-market")
    assert see(url).is_clean
    server.client.set(SHADOW_FLAG, "1")
    users.forget_denials()

    daemon = start(redis__url=server.url, redis__market_url=url).until_running()

    eventually(lambda: users.client.xlen(QUOTES), "a quote")
    assert daemon.stop().code == exits.DONE
    assert users.denials() == []


def test_no_rights_to_market_data(
    make_redis: Make,
    server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Who writes market data elsewhere needs no right to them in the Redis of the rest."""
    keys = ("demo:exec:*", "demo:bridge:*", "demo:metrics:*", "bridge:*", "mode", "[fr]*:*")
    url = as_user(server, "rest", "&*", "+@all", *[f"~{key}" for key in keys])
    both = {"redis__url": url, "redis__market_url": make_redis().url}
    monkeypatch.setattr("os.environ", environment(both))

    assert seen(capsys.readouterr).is_clean
