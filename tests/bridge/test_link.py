"""bridge/link.py: one connection that comes back, whatever becomes of Redis."""

import asyncio
import contextlib
import gc
import os
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge.core import resp
from bridge.core.resp import ProtocolError, Reply
from bridge.embedded_redis import HOST, find_redis_server
from bridge.link import Connection, Target
from tests.bridge.links import Owner, peer
from tests.proxies import Proxy, on_uvloop, until
from tests.servers import RedisServer, free_port, server_or_exit

type MakeRedis = Callable[..., RedisServer]


async def prepare_for_ever() -> None:
    await asyncio.Event().wait()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the folder is no file tree


@on_uvloop
async def test_connects(redis_server: RedisServer) -> None:
    """Once up, what is written is answered and nothing is wrong."""
    owner = Owner(Target(port=redis_server.port))
    assert owner.link.problem == "not connected yet"

    async with owner.running() as link:
        await until(lambda: link.is_up)

        assert await owner.ask("PING") == b"PONG"
        assert (link.problem, link.connects, owner.ups, owner.downs) == (None, 1, 1, 0)

    assert (link.is_up, owner.downs, owner.errors) == (False, 1, Counter())


async def test_connects_over_a_unix_socket(make_redis: MakeRedis, tmp_path: Path) -> None:
    """A unix:// target is as good as a TCP one."""
    path = str(tmp_path / "s")
    make_redis("--unixsocket", path)
    owner = Owner(Target(path=path))

    async with owner.running() as link:
        await until(lambda: link.is_up)
        assert await owner.ask("PING") == b"PONG"


@pytest.mark.parametrize("user", [None, "bridge"])
async def test_authenticates_and_selects(make_redis: MakeRedis, user: str | None) -> None:
    """User, password and database are used, also with characters that URLs must quote."""
    server = make_redis("--requirepass", "p@ss:wörd")
    server.client.acl_setuser(
        "bridge", enabled=True, passwords=["+s3cret"], keys=["*"], categories=["+@all"]
    )
    password = "p@ss:wörd" if user is None else "s3cret"
    owner = Owner(Target(port=server.port, username=user, password=password, db=3))

    async with owner.running() as link:
        await until(lambda: link.is_up)
        assert await owner.ask("ACL", "WHOAMI") == (user or "default").encode()
        await owner.ask("SET", "k", "v")

    assert server.new_client(db=3).get("k") == "v"


@pytest.mark.parametrize(
    ("target", "kind", "said"),
    [
        ({"password": "wrong"}, "auth", "WRONGPASS"),
        ({"username": "nobody", "password": "secret"}, "auth", "WRONGPASS"),
        ({}, "auth", "NOAUTH"),
        ({"password": "secret", "db": 99}, "other", "DB index is out of range"),
    ],
)
async def test_a_refused_greeting_is_retried(
    make_redis: MakeRedis, target: dict[str, object], kind: str, said: str
) -> None:
    """A wrong password or database is counted at each try, logged once, and never up."""
    server = make_redis("--requirepass", "secret")
    owner = Owner(Target(port=server.port, **target))  # type: ignore[arg-type]

    with capture_logs() as logs:
        async with owner.running() as link:
            await until(lambda: owner.errors[kind] >= 3)
            assert link.problem is not None
            assert said in link.problem

    assert set(owner.errors) == {kind}
    assert owner.ups == owner.downs == 0
    assert [(log["event"], log["kind"], log["lane"]) for log in logs] == [
        ("redis.lost", kind, "exec")
    ]
    assert "secret" not in str(logs)


async def test_a_corrected_password_ends_the_trouble(make_redis: MakeRedis) -> None:
    """The link gets in by itself as soon as Redis accepts it."""
    server = make_redis("--requirepass", "new")
    owner = Owner(Target(port=server.port, password="old"))

    async with owner.running() as link:
        await until(lambda: owner.errors["auth"] >= 1)
        server.client.config_set("requirepass", "old")
        await until(lambda: link.is_up)


async def test_a_full_server_says_why(make_redis: MakeRedis) -> None:
    """A server that says what is wrong and hangs up at once is quoted; and, as the text depends on
    how far it came, each text is logged once."""
    server = make_redis("--maxclients", "10")
    owner = Owner(Target(port=server.port, password="any"))

    with contextlib.ExitStack() as crowd, capture_logs() as logs:
        for _ in range(10):
            crowd.enter_context(socket.create_connection((HOST, server.port)))
        async with owner.running():
            await until(lambda: owner.errors["other"] >= 3)

    problems = [log["problem"] for log in logs]
    assert any("max number of clients" in problem for problem in problems)
    assert len(problems) == len(set(problems))


@on_uvloop
async def test_a_refused_connection_is_retried(make_redis: MakeRedis) -> None:
    """Nobody listens: counted at each try, logged once; up when somebody does."""
    server = make_redis()
    server.kill()
    owner = Owner(Target(port=server.port))

    with capture_logs() as logs:
        async with owner.running() as link:
            await until(lambda: owner.errors["connection"] >= 5)
            server.start()
            await until(lambda: link.is_up)

    assert [log["event"] for log in logs] == ["redis.lost", "redis.connected"]
    assert logs[0]["redis"] == f"127.0.0.1:{server.port}"


@on_uvloop
async def test_a_restarted_server_is_found_again(make_redis: MakeRedis) -> None:
    """A killed server is noticed at once; the link is back soon after it."""
    server = make_redis()
    owner = Owner(Target(port=server.port))

    async with owner.running() as link:
        await until(lambda: link.is_up)
        server.kill()
        await until(lambda: not link.is_up)
        assert owner.downs == 1
        server.start()
        await until(lambda: link.is_up)
        assert await owner.ask("PING") == b"PONG"

    assert (link.connects, owner.ups, owner.downs) == (2, 2, 2)


async def test_loading_is_waited_for(make_redis: MakeRedis) -> None:
    """A server that still loads its data counts as `loading`, and is used once it is done."""
    server = make_redis("--appendonly", "yes", "--appendfsync", "no")
    pipeline = server.client.pipeline(transaction=False)
    for _ in range(10_000):
        pipeline.incr("count")
    pipeline.execute()
    server.terminate()
    slowly = ("--appendonly", "yes", "--key-load-delay", "300")
    slow = RedisServer(server_or_exit(find_redis_server()), server.folder, *slowly)

    try:
        slow.start(until_loaded=False)
        owner = Owner(Target(port=slow.port))
        async with owner.running() as link:
            await until(lambda: owner.errors["loading"] >= 2)
            assert "LOADING" in (link.problem or "")
            slow.client.config_set("key-load-delay", 0)
            await until(lambda: link.is_up)
            assert await owner.ask("GET", "count") == b"10000"
    finally:
        slow.close()


@pytest.mark.parametrize(
    "says", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x03\x00\x02\r\n", b"$x\r\n"]
)
async def test_garbage_is_retried(says: bytes) -> None:
    """A peer that is no Redis counts as `protocol`, and is tried again."""
    async with peer(says) as port:
        owner = Owner(Target(port=port))
        async with owner.running():
            await until(lambda: owner.errors["protocol"] >= 3)

    assert owner.ups == 0


@on_uvloop
async def test_garbage_later_on(redis_server: RedisServer) -> None:
    """A connection that turns to garbage is replaced by a new one."""
    async with Proxy(redis_server.port) as proxy:
        owner = Owner(Target(port=proxy.port))
        async with owner.running() as link:
            await until(lambda: link.is_up)
            proxy.garble_next_reply(b"\0\0\r\n")
            link.write(resp.command("PING"))
            await until(lambda: link.connects == 2)
            assert await owner.ask("PING") == b"PONG"

    assert owner.errors == Counter(protocol=1)


async def test_connections_that_do_not_stand(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where each connection ends as soon as it is up, the pauses grow as where none comes about;
    each problem is logged at once, and once, and that it is up again when it stands. Then the
    pauses begin anew."""
    monkeypatch.setattr("bridge.link.STEADY_SECONDS", 0.1)
    sleep, pauses = asyncio.sleep, list[float]()

    async def noting(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(seconds)

    errors: list[Exception] = [ConnectionResetError("one")] * 4 + [ProtocolError("two")]
    owner = Owner(Target(port=redis_server.port))

    def end() -> None:
        if errors and owner.link._connection is not None:
            owner.link._connection.end(errors.pop(0))

    monkeypatch.setattr(owner.link, "_on_up", end)
    monkeypatch.setattr(owner.link, "_backoff_seconds_max", 0.08)
    with capture_logs() as logs:
        async with owner.running() as link:
            monkeypatch.setattr("asyncio.sleep", noting)
            await until(lambda: link.connects == 6)
            assert [log["event"] for log in logs] == ["redis.connected", "redis.lost", "redis.lost"]
            await until(lambda: len(logs) == 4)
            link.drop()
            await until(lambda: link.connects == 7)

    assert [s for s in pauses if s >= 0.01] == [0.01, 0.02, 0.04, 0.08, 0.08, 0.01]
    assert [log.get("problem") for log in logs] == [
        None,
        "ConnectionResetError: one",
        "ProtocolError: two",
        None,
        "ConnectionResetError: Redis closed the connection",
        None,
    ]


@on_uvloop
async def test_drop(redis_server: RedisServer) -> None:
    """`drop` gives a new connection; the server is not harmed by it."""
    owner = Owner(Target(port=redis_server.port))

    async with owner.running() as link:
        await until(lambda: link.is_up)
        mine = await owner.ask("CLIENT", "ID")
        link.drop()
        await until(lambda: link.connects == 2)

        assert await owner.ask("CLIENT", "ID") != mine


async def test_drop_without_a_connection() -> None:
    """Dropping what is not there is harmless."""
    Owner(Target(port=free_port())).link.drop()


@on_uvloop
async def test_writing_never_fails(make_redis: MakeRedis) -> None:
    """At every moment of a loss a write is sent or discarded, and never raises."""
    server = make_redis()
    owner = Owner(Target(port=server.port))
    owner.link.write(b"before")

    async with owner.running() as link:
        await until(lambda: link.is_up)
        for lose in (link.drop, server.kill):
            lose()
            while link.is_up:
                link.write(resp.command("PING"))
                await asyncio.sleep(0)
            link.write(resp.command("PING"))
            if lose == link.drop:
                await until(lambda: link.is_up)

    link.write(b"after")


async def test_a_fault_of_the_owner_ends_the_link(redis_server: RedisServer) -> None:
    """An exception that is no outage is raised by `run`, not retried and not swallowed."""
    owner = Owner(Target(port=redis_server.port))

    def fail(_: Sequence[Reply]) -> None:
        raise ZeroDivisionError

    owner.link._on_replies = fail
    task = asyncio.create_task(owner.link.run())
    await until(lambda: owner.link.is_up)
    owner.link.write(resp.command("PING"))

    with pytest.raises(ZeroDivisionError):
        await task
    assert not owner.link.is_up


@on_uvloop
async def test_nothing_is_left_behind(redis_server: RedisServer) -> None:
    """Fifty openings and closings, in whatever phase, leave no descriptor and no task."""
    closed_port = free_port()

    async def open_and_close(round_: int) -> None:
        port = closed_port if round_ % 5 == 4 else redis_server.port
        owner = Owner(Target(port=port), prepare_for_ever if round_ % 3 == 2 else None)
        async with owner.running() as link:
            if round_ % 3 == 2:
                await asyncio.sleep(0.001 * (round_ % 7))
            elif round_ % 5 == 3:
                await until(lambda: link.is_up)
                link.drop()
            elif round_ % 5 == 2:
                await until(lambda: link.is_up)
            else:
                for _ in range(round_ % 7):
                    await asyncio.sleep(0)

    await open_and_close(2)
    gc.collect()
    before = descriptors()
    for round_ in range(50):
        await open_and_close(round_)
    await until(lambda: descriptors() <= before)

    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_connection_ends_once() -> None:
    """The first reason of an end is the one that is told."""
    connection = Connection(lambda _: None)

    connection.data_received(b"?\r\n")
    connection.connection_lost(ConnectionResetError())

    with pytest.raises(ProtocolError):
        await connection.closed
