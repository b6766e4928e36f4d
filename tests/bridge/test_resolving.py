"""bridge/resolving.py and who connects by it: a name whose server is silent harms nobody else."""

import asyncio
import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import uvloop

from bridge import endpoints, resolving
from bridge.embedded_redis import HOST
from bridge.link import Target
from bridge.resolving import addresses, connected
from bridge.sentinel import Sentinel
from tests.bridge.links import Owner
from tests.bridge.test_sentinel_split import OLD, Witness
from tests.proxies import on_uvloop, until
from tests.servers import RedisServer, free_port
from tests.topologies.plain import binary
from tests.topologies.tls import WithTls, certificates

HANG_SECONDS_MAX = 30.0
CERTIFIED = "redis.example.org"


class NameServer:
    """Stands in for the resolver of the system: `answers` by name; what is in `hanging` is not
    answered before `release`."""

    def __init__(self) -> None:
        self.answers = {HOST: [HOST]}
        self.hanging: set[str] = set()
        self.asked: Counter[str] = Counter()
        self._released = threading.Event()
        self._ask = socket.getaddrinfo

    def __call__(self, host: str, *rest: Any, **options: Any) -> list[Any]:
        self.asked[host] += 1
        if host in self.hanging:
            self._released.wait(HANG_SECONDS_MAX)
        if host not in self.answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [found for each in self.answers[host] for found in self._ask(each, *rest, **options)]

    def release(self) -> None:
        """Answer what hangs, now and later."""
        self._released.set()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    server = NameServer()
    monkeypatch.setattr(resolving, "_known", {})
    monkeypatch.setattr(resolving, "_lookups", {})
    monkeypatch.setattr(socket, "getaddrinfo", server)
    before = set(threading.enumerate())
    yield server
    server.release()
    for thread in set(threading.enumerate()) - before:
        thread.join(HANG_SECONDS_MAX)


@pytest.fixture
def no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that was known before is waited for, however slow the machine is."""
    monkeypatch.setattr(resolving, "MOMENT_SECONDS", HANG_SECONDS_MAX)


def test_an_address(names: NameServer) -> None:
    """What is an address is not looked up."""
    for host in ("127.0.0.1", "::1", "fe80::1%lo"):
        assert asyncio.run(addresses(host)) == (host,)
    assert not names.asked


@on_uvloop
async def test_a_name(names: NameServer, no_hurry: None) -> None:
    """A name is looked up each time it is asked for, and is all its addresses."""
    names.answers["a"] = ["127.0.0.2", "::1"]
    assert await addresses("a") == ("127.0.0.2", "::1")
    names.answers["a"] = ["127.0.0.3"]
    assert await addresses("a") == ("127.0.0.3",)


@on_uvloop
async def test_no_name(names: NameServer, no_hurry: None) -> None:
    """What is not known is told in the resolver's words, known before or not; then it is asked
    again."""
    for _ in range(2):
        with pytest.raises(socket.gaierror, match="Name or service not known"):
            await addresses("a")
        names.answers["a"] = [HOST]
        assert await addresses("a") == (HOST,)
        del names.answers["a"]


async def _waits(host: str, waits: threading.Event) -> Sequence[str]:
    """Return the addresses of a host; `waits` is set when they have been asked for."""
    found = asyncio.ensure_future(addresses(host))
    await asyncio.sleep(0)
    waits.set()
    return await found


@on_uvloop
async def test_one_that_hangs(names: NameServer) -> None:
    """Many wait in vain for one name, of several loops, some for a while only: it is asked for
    once, and others are answered meanwhile."""
    names.hanging.add("slow")
    names.answers |= {"slow": [HOST], "fast": [HOST]}
    for _ in range(10):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(addresses("slow"), 0.001)
    here = [asyncio.ensure_future(addresses("slow")) for _ in range(10)]
    waits_there = threading.Event()
    there = asyncio.ensure_future(asyncio.to_thread(asyncio.run, _waits("slow", waits_there)))
    await until(waits_there.is_set)
    await until(lambda: names.asked["slow"])

    assert await addresses("fast") == (HOST,)
    assert not any(task.done() for task in (*here, there))
    names.release()
    assert set(await asyncio.gather(*here, there)) == {(HOST,)}
    assert names.asked == Counter(slow=1, fast=1)


@on_uvloop
async def test_one_that_hangs_later(names: NameServer) -> None:
    """A name that was known is where it was while its server is silent, then where it is now."""
    names.answers["a"] = ["127.0.0.2"]
    await addresses("a")
    names.hanging.add("a")
    names.answers["a"] = ["127.0.0.3"]

    assert await addresses("a") == ("127.0.0.2",)
    assert await addresses("a") == ("127.0.0.2",)
    assert names.asked["a"] == 2
    names.release()
    await until(lambda: not resolving._lookups)
    names.hanging.clear()
    assert await addresses("a") == ("127.0.0.3",)


@on_uvloop
async def test_no_thread_left(names: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started, that is an outage like others, and over when one can."""
    names.answers["a"] = [HOST]

    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OSError, match="a cannot be looked up: can't start new thread"):
            await addresses("a")
    assert await addresses("a") == (HOST,)


async def _fails(address: str) -> str:
    raise ConnectionRefusedError(f"{address} refuses")


@on_uvloop
async def test_each_address_in_turn(names: NameServer) -> None:
    """The first address that takes the connection gets it."""
    names.answers["a"] = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]

    async def connect(address: str) -> str:
        return await _fails(address) if address == "127.0.0.2" else address

    assert await connected("a", connect) == "127.0.0.3"


@on_uvloop
async def test_no_address_at_all(names: NameServer) -> None:
    """Where all fail in the same way it is told as it is; else, what each of them says."""
    names.answers["a"] = ["127.0.0.2", "127.0.0.3"]
    with pytest.raises(OSError, match=r"127\.0\.0\.2 refuses, 127\.0\.0\.3 refuses"):
        await connected("a", _fails)

    async def fail_alike(_: str) -> str:
        raise ConnectionRefusedError("refused")

    with pytest.raises(ConnectionRefusedError, match=r"^refused$"):
        await connected("a", fail_alike)


@on_uvloop
async def test_a_link_beside_one_that_hangs(names: NameServer, redis_server: RedisServer) -> None:
    """Links to names that are not answered do not keep another one from coming back, not though it
    has a name, too, and that is not answered any more either."""
    names.answers["redis"] = [HOST]
    names.hanging |= {f"market{n}" for n in range(8)}
    market = [Owner(Target(name, redis_server.port)) for name in names.hanging]
    owner = Owner(Target("redis", redis_server.port))
    async with contextlib.AsyncExitStack() as stack:
        for each in market:
            await stack.enter_async_context(each.running())
        await until(lambda: names.hanging <= names.asked.keys())
        link = await stack.enter_async_context(owner.running())
        await until(lambda: link.is_up)
        names.hanging.add("redis")
        link.drop()
        await until(lambda: link.connects == 2)
        assert await owner.ask("PING") == b"PONG"
        assert not any(each.ups for each in market)


@pytest.mark.parametrize(
    ("name", "words"), [("a", "Connection refused"), ("b", "Name or service not known")]
)
@on_uvloop
async def test_a_link_says_why(names: NameServer, name: str, words: str) -> None:
    """A name that is none, or leads to where nobody listens, is told as it was."""
    names.answers["a"] = [HOST]
    owner = Owner(Target(name, free_port()))
    async with owner.running() as link:
        await until(lambda: owner.errors["connection"] > 1)
        assert words in str(link.problem)


def test_a_sentinel_that_hangs(names: NameServer) -> None:
    """Who asks where the primary is gets the answer of most Sentinels while the name of one of
    them hangs, and does not wait for it afterwards either."""
    names.hanging.add("s0")
    names.answers |= {"s0": [HOST], "s1": [HOST], "s2": [HOST]}

    async def ask() -> None:
        async with contextlib.AsyncExitStack() as stack:
            ports = []
            for _ in range(3):
                server = await asyncio.start_server(Witness(OLD).serve, HOST, 0)
                stack.callback(server.close)
                ports.append(server.sockets[0].getsockname()[1])
            hosts = ",".join([f"s{number}:{port}" for number, port in enumerate(ports)])
            endpoint = endpoints.parse(f"redis+sentinel://{hosts}/svc")
            assert isinstance(endpoint, Sentinel)
            for _ in range(2):
                assert (await asyncio.to_thread(endpoint.locate_now)).port == OLD
                assert (await endpoint.locate()).port == OLD
                assert not endpoint.problem

    asyncio.run(ask())
    assert names.asked["s0"] == 1
    assert "s0" in resolving._lookups  # it still hangs


def test_a_certificate_is_that_of_the_name(names: NameServer, tmp_path: Path) -> None:
    """The server has to show a certificate of the name that was looked up, not of its address."""
    names.answers |= {CERTIFIED: [HOST], "other.example.org": [HOST]}
    server = WithTls(binary(), tmp_path, certificates().elsewhere)

    async def ask(host: str) -> str:
        owner = Owner(endpoints.parse_single(server.url_with(host=host)))
        async with owner.running() as link:
            await until(lambda: link.is_up or owner.errors["connection"] > 1)
            return link.problem or "it is up"

    try:
        server.start()
        assert uvloop.run(ask(CERTIFIED)) == "it is up"
        for host in (HOST, "other.example.org"):
            assert f"certificate is not valid for '{host}'" in uvloop.run(ask(host))
    finally:
        server.close()
