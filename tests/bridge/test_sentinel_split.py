"""bridge/sentinel.py where Sentinels do not agree, or say what cannot be."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from bridge import endpoints
from bridge.core import resp
from bridge.embedded_redis import HOST
from bridge.sentinel import NotLocated, Sentinel
from bridge.target import Target
from tests.bridge.links import Owner
from tests.proxies import on_uvloop, until
from tests.servers import RedisServer, free_port

OLD, NEW = 7001, 7002


class Witness:
    """A Sentinel that says what it is told to; `epoch` None: it may not tell the epoch."""

    def __init__(self, port: int, epoch: int | None = 1, host: bytes = b"127.0.0.1") -> None:
        self.names = (host, str(port).encode())
        self.epoch = epoch
        self.is_away = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while not self.is_away and (data := await reader.read(4096)):
                writer.write(self._answer(data))
        writer.transport.abort()

    def _answer(self, data: bytes) -> bytes:
        said = b""
        if b"PING" in data:
            said += b"+PONG\r\n"
        if b"$6\r\nMASTER" in data:
            said += b"-NOPERM no\r\n" if self.epoch is None else _told(self.epoch)
        if b"GET-MASTER-ADDR-BY-NAME" in data:
            said += b"*2\r\n" + b"".join([b"$%d\r\n%s\r\n" % (len(w), w) for w in self.names])
        return said


def _told(epoch: int) -> bytes:
    return b"*4" + resp.command("name", "svc", "config-epoch", str(epoch))[2:]


@contextlib.asynccontextmanager
async def watched(*witnesses: Witness) -> AsyncIterator[Sentinel]:
    """Yield what a URL with these Sentinels leads to."""
    async with contextlib.AsyncExitStack() as stack:
        ports = []
        for each in witnesses:
            server = await asyncio.start_server(each.serve, HOST, 0)
            stack.callback(server.close)
            ports.append(server.sockets[0].getsockname()[1])
        hosts = ",".join([f"{HOST}:{port}" for port in ports])
        endpoint = endpoints.parse(f"redis+sentinel://{hosts}/svc")
        assert isinstance(endpoint, Sentinel)
        yield endpoint


@pytest.mark.parametrize("position", [0, 1, 2])
@on_uvloop
async def test_one_that_is_cut_off(position: int) -> None:
    """The latest election counts, whichever Sentinel still names who was primary before it."""
    witnesses = [Witness(OLD) for _ in range(3)]
    async with watched(*witnesses) as endpoint:
        assert (await endpoint.locate()).port == OLD
        for number, each in enumerate(witnesses):
            if number != position:
                each.names, each.epoch = (HOST.encode(), str(NEW).encode()), 2
        assert (await endpoint.locate()).port == NEW
        assert not endpoint.problem


@on_uvloop
async def test_too_few_answer() -> None:
    """A minority is believed when it knows of a later election; else the primary stays where most
    have said that it is. Either is told."""
    witnesses = [Witness(OLD, 2), Witness(OLD, 2), Witness(NEW, 1)]
    async with watched(*witnesses) as endpoint:
        assert (await endpoint.locate()).port == OLD
        witnesses[0].is_away = witnesses[1].is_away = True
        assert (await endpoint.locate()).port == OLD
        assert "only 1 of 3 Sentinels name the primary of svc" in endpoint.problem
        assert f"it was at {HOST}:{OLD}" in endpoint.problem
        witnesses[2].epoch = 3
        assert (await endpoint.locate()).port == NEW
        assert endpoint.problem


@pytest.mark.parametrize("epoch", [None, 7])
@on_uvloop
async def test_of_one_election(epoch: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where elections do not decide, and where Sentinels may not tell them, most of them do."""
    for name in ("ANSWER_SECONDS_MAX", "LATE_SECONDS_MAX"):  # all are heard, on a slow machine too
        monkeypatch.setattr(f"bridge.sentinel.{name}", 20.0)
    witnesses = [Witness(OLD, epoch), Witness(NEW, epoch), Witness(NEW, epoch)]
    async with watched(*witnesses) as endpoint:
        assert (await endpoint.locate()).port == NEW


@pytest.mark.parametrize(
    ("port", "host", "words"),
    [
        (999_999, b"127.0.0.1", "port"),
        (0, b"127.0.0.1", "port"),
        (6379, b"\xff\xfe", "host"),
        (6379, b"", "host"),
        (6379, b"a\0b", "host"),
        (6379, b"x" * 64 + b".example", "host"),
    ],
)
@on_uvloop
async def test_what_cannot_be(port: int, host: bytes, words: str) -> None:
    """An address that cannot be one counts as no answer, asked either way."""
    async with watched(Witness(port, 9, host)) as endpoint:
        with pytest.raises(NotLocated, match=f"whose {words} cannot be one"):
            await endpoint.locate()
        with pytest.raises(NotLocated, match=f"whose {words} cannot be one"):
            await asyncio.to_thread(endpoint.locate_now)


@pytest.mark.parametrize("target", [Target(HOST, 999_999), Target("x" * 64 + ".example", 6379)])
@on_uvloop
async def test_a_server_that_cannot_be(target: Target) -> None:
    """A link to an address that cannot be one goes on trying, and tells why it is down."""
    owner = Owner(target)
    async with owner.running() as link:
        await until(lambda: owner.errors["protocol"] > 1)
        assert target.where in str(link.problem)


@on_uvloop
async def test_a_follower_that_fails(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link that cannot follow its primary any more gives the connection up, and makes another."""
    monkeypatch.setattr("bridge.link.FOLLOW_SECONDS", 0.01)
    witness = Witness(redis_server.port)
    async with watched(witness) as endpoint:
        owner = Owner(endpoint)
        elsewhere: Callable[[], object] = owner.link._elsewhere
        fails = [OverflowError("a fault")]

        async def fail_once() -> object:
            if fails:
                raise fails.pop()
            return await elsewhere()

        monkeypatch.setattr(owner.link, "_elsewhere", fail_once)
        async with owner.running():
            await until(lambda: owner.ups == 2)
        assert owner.downs == 2
        assert not fails


def test_one_named_twice() -> None:
    """A Sentinel that stands twice in a URL is one."""
    hosts = f"{HOST}:{free_port()}"
    endpoint = endpoints.parse(f"redis+sentinel://{hosts},{hosts}/svc")
    assert endpoint.where == f"{hosts}/svc"
