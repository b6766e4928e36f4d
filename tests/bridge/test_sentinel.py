"""bridge/sentinel.py and the link over it: where the primary is, and what comes of not knowing."""

import json
import socket
import time
from collections.abc import Iterator

import pytest
import redis

from bridge import config, endpoints, exits
from bridge.__main__ import main
from bridge.core.contract import default_names
from bridge.embedded_redis import HOST
from bridge.exits import Exit
from bridge.preflight import prepare_redis
from bridge.reader_link import ReaderLink
from bridge.sentinel import NotLocated, Sentinel, SentinelRefused
from tests.bridge.links import Owner
from tests.proxies import on_uvloop, until
from tests.servers import free_port
from tests.topologies.sentinel import (
    DOWN_AFTER_MS,
    PASSWORD,
    SENTINEL_PASSWORD,
    SERVICE,
    SentinelServers,
)

PING = b"*1\r\n$4\r\nPING\r\n"


@pytest.fixture(scope="module")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelServers]:
    with SentinelServers(tmp_path_factory.mktemp("one"), replicas=1, sentinels=1) as servers:
        yield servers


@pytest.fixture
def servers(_shared: SentinelServers) -> SentinelServers:
    """A primary, a replica and a Sentinel, all of which run."""
    _shared.mend()
    _shared.until_whole()
    return _shared


def sentinel_of(servers: SentinelServers, url: str = "") -> Sentinel:
    """Return what a URL leads to; nothing is known of it yet."""
    endpoints.parse.cache_clear()
    endpoint = endpoints.parse(url or servers.url)
    assert isinstance(endpoint, Sentinel)
    return endpoint


def written(server: redis.Redis) -> bool:
    """Return whether a key is there, and remove it."""
    return bool(server.delete("key"))


@on_uvloop
async def test_a_killed_primary(servers: SentinelServers) -> None:
    """A link whose primary is killed is up again on the one that is promoted, as soon as there is
    one, and writes there."""
    owner = Owner(sentinel_of(servers))
    former, other = servers.primary, servers.replicas[0]
    async with owner.running() as link:
        await until(lambda: link.is_up)
        former.kill()
        await until(lambda: owner.downs)
        await until(lambda: link.is_up)
        assert await owner.ask("SET", "key", "1") == b"OK"

    assert written(other.client)


@on_uvloop
async def test_a_primary_that_is_replaced(servers: SentinelServers) -> None:
    """A link leaves a primary that is replaced, though that one goes on taking writes."""
    owner = Owner(sentinel_of(servers))
    former = servers.primary
    async with owner.running() as link:
        await until(lambda: link.is_up)
        servers.fail_over()
        await until(lambda: owner.downs)
        assert former.is_primary
        await until(lambda: link.is_up)
        assert await owner.ask("SET", "key", "1") == b"OK"

    assert written(servers.client)
    assert not written(former.client)


@on_uvloop
async def test_a_stalled_primary(servers: SentinelServers) -> None:
    """A link leaves a primary that says nothing any more once another one is in its place."""
    owner = Owner(sentinel_of(servers))
    former = servers.primary
    async with owner.running() as link:
        await until(lambda: link.is_up)
        former.pause()
        try:
            await until(lambda: owner.downs)
            await until(lambda: link.is_up)
        finally:
            former.resume()


@on_uvloop
async def test_a_replica_is_no_primary(servers: SentinelServers) -> None:
    """A link does not come up on a server that says that it is a replica, whoever has named it;
    it does once that one is a primary again."""
    servers.sentinels[0].ask("SET", SERVICE, "down-after-milliseconds", "60000")
    former, other = servers.primary, servers.replicas[0]
    owner = Owner(sentinel_of(servers))
    former.follow(other)
    try:
        async with owner.running() as link:
            await until(lambda: owner.errors["readonly"])
            assert not owner.ups
            assert "READONLY" in str(link.problem)
            former.client.replicaof("NO", "ONE")
            await until(lambda: link.is_up)
    finally:
        former.client.replicaof("NO", "ONE")
        servers.sentinels[0].ask("SET", SERVICE, "down-after-milliseconds", str(DOWN_AFTER_MS))


@on_uvloop
async def test_no_sentinel_any_more(servers: SentinelServers) -> None:
    """Without Sentinels the primary is where it was: a link comes up there again, and while it
    does not, it tells of the Sentinels, too, but not their password."""
    owner = Owner(sentinel_of(servers))
    async with owner.running() as link:
        await until(lambda: link.is_up)
        servers.sentinels[0].kill()
        servers.primary.kill()
        await until(lambda: "no Sentinel names the primary" in str(link.problem))
        assert f"it was at {HOST}:{servers.primary.port}" in str(link.problem)
        servers.primary.start()
        await until(lambda: link.is_up)
        servers.sentinels[0].start()
        await until(lambda: not owner.link._endpoint.problem)


@on_uvloop
async def test_the_sentinel_that_answers(servers: SentinelServers) -> None:
    """All Sentinels are asked; one that answers is enough where nothing was known before. That it
    is not most of them is told."""
    dead = free_port()
    url = servers.url.replace(f"@{HOST}", f"@{HOST}:{dead},{HOST}")
    endpoint = sentinel_of(servers, url)

    assert (await endpoint.locate()).port == servers.primary.port
    assert endpoint.locate_now().port == servers.primary.port
    assert "only 1 of 2 Sentinels name the primary" in endpoint.problem
    assert f"{HOST}:{dead}: Connection refused" in endpoint.problem
    assert endpoint.where == f"{HOST}:{dead},{HOST}:{servers.sentinels[0].port}/{SERVICE}"


def test_a_sentinel_that_is_silent(servers: SentinelServers) -> None:
    """One that takes connections and says nothing is passed over."""
    with socket.create_server((HOST, 0)) as silent:
        url = servers.url.replace(f"@{HOST}", f"@{HOST}:{silent.getsockname()[1]},{HOST}")
        endpoint = sentinel_of(servers, url)
        assert endpoint.locate_now().port == servers.primary.port
        assert f"{HOST}:{silent.getsockname()[1]}: no answer" in endpoint.problem


def test_what_a_moment_ago_was_told(servers: SentinelServers) -> None:
    """What is known may be of use for a while: then nobody is asked."""
    endpoint = sentinel_of(servers)
    found = endpoint.locate_now()
    servers.sentinels[0].kill()

    assert endpoint.locate_now(60.0) == found
    assert not endpoint.problem
    assert endpoint.locate_now() == found
    assert "no Sentinel names the primary" in endpoint.problem


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ((f"/{SERVICE}", "/other"), exits.UNAVAILABLE, "it knows no service other"),
        (("sentinel_password=of", "sentinel_password=no"), exits.REFUSED, "sentinel_password"),
        (("?sentinel_password=of%2Fsentinel", ""), exits.REFUSED, "sentinel_password"),
        (("of%40redis", "wrong"), exits.REFUSED, "correct user and password in redis.url"),
    ],
    ids=["service", "password of the Sentinel", "no password for it", "password of Redis"],
)
def test_what_a_start_says(
    servers: SentinelServers, change: tuple[str, str], code: int, words: str
) -> None:
    """A start that fails says what is wrong with the URL, without the passwords in it."""
    url = servers.url.replace(*change)
    sentinel_of(servers, url)
    settings = config.load(None, environ={}, overrides={"redis.url": url})

    with pytest.raises(Exit) as caught:
        prepare_redis(url, settings, default_names())

    assert (caught.value.code, words in str(caught.value)) == (code, True), caught.value
    for secret in (PASSWORD, SENTINEL_PASSWORD, "of%40redis", "of%2Fsentinel"):
        assert secret not in str(caught.value)


def test_a_user_that_may_not_ask_for_the_role(
    servers: SentinelServers, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each lane asks for it at each connect: a start without that right is refused, and doctor
    names it."""
    servers.client.acl_setuser("bare", True, passwords=["+pw"], keys=["*"], commands=["+@all"])
    servers.client.acl_setuser("bare", True, commands=["-role"])
    url = f"redis+sentinel://bare:pw@{servers.url.rpartition('@')[2]}"
    sentinel_of(servers, url)
    settings = config.load(None, environ={}, overrides={"redis.url": url})

    with pytest.raises(Exit) as caught:
        prepare_redis(url, settings, default_names())
    assert caught.value.code == exits.REFUSED
    assert main(["doctor", "--json", "--url", url]) == exits.FAILED

    found = json.loads(capsys.readouterr().out)["findings"]
    (rights,) = [each for each in found if each["name"] == "permissions"]
    assert "+role" in rights["remedy"]


def test_no_sentinel_at_all() -> None:
    """A start without any Sentinel ends with what each of them said."""
    url = f"redis+sentinel://{HOST}:{free_port()}/{SERVICE}"
    settings = config.load(None, environ={}, overrides={"redis.url": url})

    with pytest.raises(Exit) as caught:
        prepare_redis(url, settings, default_names())

    assert caught.value.code == exits.UNAVAILABLE
    assert "Connection refused" in str(caught.value)
    assert "start a Sentinel there" in str(caught.value)


def test_the_kinds_of_not_knowing() -> None:
    """Who catches what redis-py raises catches that nobody knows the primary, too."""
    assert issubclass(SentinelRefused, NotLocated)
    assert issubclass(NotLocated, redis.exceptions.ConnectionError)


@on_uvloop
async def test_clients_follow(servers: SentinelServers) -> None:
    """redis-py's clients of the URL find the primary, the next one as well, in the database of the
    URL; what fails meanwhile fails at once."""
    url = servers.url.replace(f"/{SERVICE}", f"/{SERVICE}/3")
    sentinel_of(servers, url)
    former = servers.primary
    client, other = endpoints.sync_client(url), endpoints.async_client(url)
    try:
        client.set("key", "1")
        assert await other.get("key") == b"1"
        assert former.new_client(db=3).get("key") == "1"
        former.kill()
        with pytest.raises(redis.exceptions.ConnectionError):
            client.get("key")
        with pytest.raises(redis.exceptions.ConnectionError):
            await other.get("key")
        servers.until_replaced(former)
        client.set("key", "2")
        assert await other.get("key") == b"2"
    finally:
        client.close()
        await other.aclose()


def test_a_reader_follows(servers: SentinelServers) -> None:
    """A reader leaves a primary that is replaced, though that one goes on answering."""
    link = ReaderLink(servers.url, "ledger")
    sentinel_of(servers)
    former = servers.primary
    try:
        assert link.ask([PING]) == [b"PONG"]
        servers.fail_over()
        deadline = time.monotonic() + 10.0
        while link.ask([PING]) and [w.port for w in link._connections.values()] == [former.port]:
            assert time.monotonic() < deadline, "it stays"
    finally:
        link.close()
