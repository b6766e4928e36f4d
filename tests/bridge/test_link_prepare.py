"""bridge/link.py: what must be arranged on a connection before the link is up."""

import asyncio
from collections import Counter

import pytest
from structlog.testing import capture_logs

from bridge.core.resp import ReplyError
from bridge.link import RedisRefused, Target
from tests.bridge.links import Owner, peer
from tests.proxies import Proxy, on_uvloop, until
from tests.servers import RedisServer, free_port


@on_uvloop
async def test_it_may_ask_and_wait(redis_server: RedisServer) -> None:
    """What is written while it is prepared is answered; the link is up when that is over."""
    states = []

    async def prepare() -> None:
        states.append(owner.link.is_up)
        answer = await owner.ask("ECHO", "ready?")
        states.append((owner.link.is_up, owner.ups, answer))

    owner = Owner(Target(port=redis_server.port), prepare)
    async with owner.running() as link:
        await until(lambda: link.is_up)

    assert states == [False, (False, 0, b"ready?")]
    assert (owner.ups, owner.downs) == (1, 1)


@on_uvloop
async def test_a_refusal_is_retried(redis_server: RedisServer) -> None:
    """What Redis refuses is counted by its kind, said once, and tried on a new connection; each
    of them is told to be gone."""
    tries = 0

    async def prepare() -> None:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise RedisRefused(ReplyError("NOPERM", "NOPERM this user has no permissions"))

    owner = Owner(Target(port=redis_server.port), prepare)
    with capture_logs() as logs:
        async with owner.running() as link:
            await until(lambda: tries == 2)
            assert link.problem == "RedisRefused: NOPERM this user has no permissions"
            assert not link.is_up
            await until(lambda: link.is_up)
            assert (owner.ups, owner.downs, link.connects) == (1, 3, 1)

    assert owner.errors == Counter(auth=3)
    assert [log["event"] for log in logs] == ["redis.lost", "redis.connected"]


@on_uvloop
async def test_it_ends_with_its_connection(redis_server: RedisServer) -> None:
    """A connection that is lost meanwhile cancels what prepares it; the next one is prepared."""
    begun, ended = [], []

    async def prepare() -> None:
        begun.append(owner.link)
        try:
            if len(begun) == 1:
                await asyncio.Event().wait()
        finally:
            ended.append(owner.link)

    async with Proxy(redis_server.port) as proxy:
        owner = Owner(Target(port=proxy.port), prepare)
        async with owner.running() as link:
            await until(lambda: begun)
            proxy.cut()
            await until(lambda: link.is_up)

    assert len(begun) == len(ended) == 2
    assert owner.errors == Counter(connection=1)


@on_uvloop
async def test_a_refusal_and_a_loss_at_once(redis_server: RedisServer) -> None:
    """Whatever is told of the two, no exception is left behind that nobody has asked for."""
    tries = 0

    async def prepare() -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            owner.link.drop()
            raise RedisRefused(ReplyError("OOM", "OOM command not allowed"))

    owner = Owner(Target(port=redis_server.port), prepare)
    async with owner.running() as link:
        await until(lambda: link.is_up)

    assert sum(owner.errors.values()) == 1


@on_uvloop
async def test_a_fault_of_it_ends_the_link(redis_server: RedisServer) -> None:
    """An exception that is no outage is raised by `run`."""

    async def prepare() -> None:
        raise ZeroDivisionError

    owner = Owner(Target(port=redis_server.port), prepare)

    with pytest.raises(ZeroDivisionError):
        await owner.link.run()
    assert (owner.link.is_up, owner.ups, owner.downs) == (False, 0, 1)


@on_uvloop
async def test_fail_ends_the_link(redis_server: RedisServer) -> None:
    """`run` raises what `fail` was given, first things first; the link is down then."""
    owner = Owner(Target(port=redis_server.port))
    task = asyncio.create_task(owner.link.run())
    await until(lambda: owner.link.is_up)

    owner.link.fail(ZeroDivisionError("first"))
    owner.link.fail(ZeroDivisionError("second"))

    with pytest.raises(ZeroDivisionError, match="first"):
        await task
    assert (owner.link.is_up, owner.downs) == (False, 1)


async def test_fail_without_a_connection() -> None:
    """With nothing to end it is harmless."""
    Owner(Target(port=free_port())).link.fail(ZeroDivisionError())


@on_uvloop
@pytest.mark.parametrize(
    "said",
    ["ERR unknown command 'AUTH', with args beginning with: 's3cret'", "ERR what is s3cret?"],
)
async def test_a_refusal_tells_no_password(said: str) -> None:
    """A peer that says the password back: neither /health nor the log shows it."""
    async with peer(f"-{said}\r\n".encode() * 2) as port:
        owner = Owner(Target(port=port, password="s3cret"))
        with capture_logs() as logs:
            async with owner.running() as link:
                await until(lambda: owner.errors["other"] >= 2)
                assert (link.problem or "").startswith("RedisRefused: ERR ")
                assert "s3cret" not in (link.problem or "")

    assert logs
    assert "s3cret" not in str(logs)
