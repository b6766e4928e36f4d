"""`python -m bridge status` and its kin before a state that is none, and a Redis that is slow."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import pytest

from bridge import exits
from bridge.__main__ import main
from tests.bridge.processes import environment
from tests.proxies import on_uvloop
from tests.servers import RedisServer

STATE = "bridge:state:shadow"
VAIN = ("--timeout", "0.1")
NAMES = ("state", "reason", "flag", "mode", "latched", "pid", "done_ns")

type Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    """Return `call(*words)`: the command's exit code, and what it says on stdout and stderr."""
    monkeypatch.setattr("os.environ", environment({"redis__url": redis_server.url}))
    return lambda *words: (main(words), *capsys.readouterr())


def leave(server: RedisServer, role: str = "shadow", **fields: str) -> None:
    """Leave a state as if a bridge ran, with these fields."""
    shown = dict.fromkeys(NAMES, "") | {"heartbeat_ns": str(time.time_ns())} | fields
    server.client.hset(f"bridge:state:{role}", mapping=shown)


def without_reason(server: RedisServer) -> None:
    leave(server)
    server.client.hdel(STATE, "reason")


WRONG: dict[str, tuple[Callable[[RedisServer], object], str]] = {
    "no time": (lambda s: leave(s, heartbeat_ns="abc"), "its heartbeat_ns 'abc' is no time"),
    "too long": (lambda s: leave(s, heartbeat_ns="9" * 5000), "is no time in ns"),
    "a far future": (
        lambda s: leave(s, heartbeat_ns=str(time.time_ns() + 60 * 10**9)),
        "s ahead of this machine's clock",
    ),
    "no reason": (without_reason, "it has no reason"),
    "no hash": (lambda s: s.client.set(STATE, "x"), "it holds no hash"),
}


@pytest.mark.parametrize("words", [("status",), ("halt", "--reason", "x", *VAIN), ("resume",)])
@pytest.mark.parametrize(("spoil", "problem"), WRONG.values(), ids=WRONG)
def test_a_state_that_cannot_be_read(
    redis_server: RedisServer,
    call: Call,
    words: tuple[str, ...],
    spoil: Callable[[RedisServer], object],
    problem: str,
) -> None:
    """It is of no bridge that answers: 69, the key, what is wrong with it and what to do."""
    spoil(redis_server)
    code, out, err = call(*words, "--role", "shadow")
    assert (code, out) == (exits.UNAVAILABLE, "")
    assert f"{STATE} is no state that can be read: " in err
    assert problem in err
    assert f"RENAME {STATE} " in err
    assert redis_server.client.exists("bridge:halt:shadow") == (words[0] == "halt")


def test_a_state_beside_one_that_answers(redis_server: RedisServer, call: Call) -> None:
    """A state that cannot be read hides no other."""
    leave(redis_server, "live", state="ACTIVE")
    redis_server.client.set(STATE, "x")
    code, out, _ = call("status")
    assert code == exits.DONE
    assert out.startswith("live  ACTIVE\n")
    assert f"shadow  not known: {STATE} is no state that can be read" in out


def test_a_clock_slightly_ahead(redis_server: RedisServer, call: Call) -> None:
    """A heartbeat a second ahead is of a bridge that answers: clocks differ."""
    leave(redis_server, state="ACTIVE", heartbeat_ns=str(time.time_ns() + 10**9))
    assert call("status")[0] == exits.DONE


def test_a_halt_that_is_refused(make_redis: Callable[..., RedisServer], call: Call) -> None:
    """A Redis that is full has not taken the halt: that is certain, and said."""
    server = make_redis("--maxmemory", "1")
    code, _, err = call("halt", "--reason", "x", "--url", server.url)
    assert code == exits.UNAVAILABLE
    assert "the halt was NOT asked for, that is certain" in err
    assert "NOT certain" not in err
    assert not server.client.exists("bridge:halt:demo")


@contextlib.asynccontextmanager
async def slow(port: int) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Yield the URL of a proxy to that port, and what it has passed on: each is one answer."""
    passed: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        writers.extend((writer, far_writer))
        while data := await reader.read(65536):
            far_writer.write(data)
            passed.append(await far_reader.read(65536))
            writer.write(passed[-1])

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        try:
            yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", passed
        finally:
            for each in writers:
                each.close()


@on_uvloop
async def test_status_is_one_round_trip(redis_server: RedisServer, call: Call) -> None:
    """Whatever it asks of all roles is one question: a slow path is taken once."""
    leave(redis_server, state="ACTIVE")
    async with slow(redis_server.port) as (url, passed):
        code, _, err = await asyncio.to_thread(call, "status", "--url", url)
    assert (code, err) == (exits.DONE, "")
    assert len(passed) == 1


@pytest.mark.timeout(10)
@on_uvloop
async def test_status_of_an_answer_that_drips(call: Call) -> None:
    """An answer that never ends, a byte at a time, is given up once the time is over: 69."""
    ended = asyncio.Event()

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(b"*2\r\n$3\r\nfoo\r\n$1000000\r\n")
            while not writer.transport.is_closing():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.close()
        ended.set()

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
        code, out, err = await asyncio.to_thread(call, "status", "--url", url, *VAIN)
        await ended.wait()  # it has hung up
    assert (code, out) == (exits.UNAVAILABLE, "")
    assert err.startswith(f"redis.url: {url}: no answer within 0.1 s: ")
