"""bridge/link.py and bridge/shippers.py against peers that are no Redis: only ids confirm."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from structlog.testing import capture_logs

from bridge.core import resp
from bridge.core.lanes import CHUNK_ENTRIES_MAX
from bridge.core.resp import ReplyParser
from bridge.embedded_redis import HOST
from bridge.link import Target
from bridge.shippers import CHUNKS_PER_TURN_MAX
from tests.proxies import Proxy, Rig, check_exec, exec_entries, numbers, on_uvloop, until
from tests.servers import RedisServer

type Answer = Callable[[Sequence[str]], bytes]

GREETING = {"PING": b"+PONG\r\n", "AUTH": b"+OK\r\n", "MULTI": b"+OK\r\n"}
NO_RECEIPTS = {
    "OK": lambda _: b"+OK\r\n",
    "number": lambda _: b":1\r\n",
    "nothing": lambda _: b"$-1\r\n",
    "empty array": lambda _: b"*0\r\n",
    "echo": lambda words: resp.command(*words),
}
no_receipts = pytest.mark.parametrize("answer", NO_RECEIPTS.values(), ids=NO_RECEIPTS)


@contextlib.asynccontextmanager
async def peer(answer: Answer) -> AsyncIterator[int]:
    """Serve a peer that answers each command with what `answer` makes of its words."""
    tasks: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        commands = ReplyParser()  # a command is an array of bulk strings like any other
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                for words in commands.feed(data):
                    assert isinstance(words, list)
                    writer.write(answer([str(word, "utf-8") for word in words]))
        writer.transport.abort()

    server = await asyncio.start_server(serve, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def greets_then(answer: Answer) -> Answer:
    """Return the answers of a peer that knows how Redis greets, and nothing more of it."""
    probed = {"EXEC": b"*0\r\n"}

    def reply(words: Sequence[str]) -> bytes:
        return (GREETING | probed).get(words[0]) or answer(words)

    return reply


def batch(queued: bytes, executed: bytes) -> Answer:
    """Return the answers of a peer that greets like Redis, and ends a MULTI in its own way."""
    inside = False

    def reply(words: Sequence[str]) -> bytes:
        nonlocal inside
        if words[0] == "XADD":
            inside = True
            return queued
        if words[0] == "EXEC":
            inside, was_inside = False, inside
            return executed if was_inside else b"*0\r\n"
        return GREETING[words[0]]

    return reply


async def until_refused(rig: Rig, times: int = 3) -> None:
    """Wait until so many connections were given up because of what the peer said."""
    await until(lambda: rig.count("redis_errors_total", kind="protocol") >= times)


@on_uvloop
@no_receipts
async def test_a_greeting_needs_its_answers(answer: Answer) -> None:
    """A peer that answers the greeting unlike Redis is no Redis: refused, and asked again."""
    async with peer(answer) as port:
        rig = Rig(port)
        async with rig.running(connected=False):
            await until_refused(rig)
            assert "no connection to Redis" in (rig.publisher.problem or "")

    assert not rig.publisher.exec.link.connects
    assert not rig.publisher.market.link.connects


@on_uvloop
@no_receipts
async def test_an_echo_of_the_password_is_not_told(answer: Answer) -> None:
    """What answers AUTH is shown to nobody: it may be what it was asked."""
    async with peer(answer) as port:
        rig = Rig(Target(port=port, password="s3cret"))
        with capture_logs() as logs:
            async with rig.running(connected=False):
                await until_refused(rig)
                assert "s3cret" not in str(rig.publisher.problem)

    assert logs
    assert "s3cret" not in str(logs)


@on_uvloop
@no_receipts
async def test_one_entry_is_confirmed_by_an_id(answer: Answer) -> None:
    """Whatever else answers an XADD confirms nothing: the entry is kept and sent again."""
    async with peer(greets_then(answer)) as port:
        rig = Rig(port)
        rig.append("orders")
        async with rig.running(connected=False):
            await until_refused(rig)

    assert rig.publisher.unpublished["exec"] == 1
    assert rig.count("exec_published_total", stream="orders") == 0


@on_uvloop
@pytest.mark.parametrize(
    ("queued", "executed"),
    [
        (b"+QUEUED\r\n", b"+OK\r\n"),
        (b"+QUEUED\r\n", b"*-1\r\n"),
        (b"+QUEUED\r\n", b"*0\r\n"),
        (b"+QUEUED\r\n", b"*1\r\n$3\r\n1-1\r\n"),
        (b"+QUEUED\r\n", b"*2\r\n$3\r\n1-1\r\n+OK\r\n"),
        (b"+OK\r\n", b"*2\r\n$3\r\n1-1\r\n$3\r\n1-2\r\n"),
    ],
    ids=["OK", "nil", "none", "one of two", "an id and OK", "not queued"],
)
async def test_a_batch_is_confirmed_by_its_ids(queued: bytes, executed: bytes) -> None:
    """Anything but QUEUED for each entry and as many ids confirms none of them."""
    async with peer(batch(queued, executed)) as port:
        rig = Rig(port)
        rig.append("orders", 2)
        async with rig.running(connected=False):
            await until_refused(rig)

    assert rig.publisher.unpublished["exec"] == 2
    assert rig.count("exec_published_total", stream="orders") == 0


@on_uvloop
@no_receipts
async def test_a_market_event_is_confirmed_by_an_id(answer: Answer) -> None:
    """Whatever else answers it counts as nothing: it is neither published nor dropped."""
    async with peer(greets_then(answer)) as port:
        rig = Rig(port)
        rig.trade(("A", 0))
        async with rig.running(connected=False):
            await until_refused(rig)

    assert rig.publisher.unpublished["market"] == 1
    assert rig.count("market_published_total", kind="trades") == 0
    assert rig.count("events_processed_total", type="trade") == 0


@on_uvloop
@no_receipts
async def test_nothing_is_lost_to_an_impostor(redis_server: RedisServer, answer: Answer) -> None:
    """What was told to another program on Redis's port stands in Redis once that is back."""
    async with peer(greets_then(answer)) as port, Proxy(port) as proxy:
        rig = Rig(proxy.port)
        rig.append("orders", 5)
        rig.trade(("A", 0))
        async with rig.running(connected=False):
            await until_refused(rig)
            proxy.upstream_port = redis_server.port
            proxy.cut()
            await rig.drained()

    check_exec(rig, redis_server.client)
    assert len(exec_entries(redis_server.client, "orders")) == 5
    assert numbers(redis_server.client, "trades", "A") == [0]


@on_uvloop
async def test_multi_is_forbidden_later_on(make_redis: Callable[..., RedisServer]) -> None:
    """The right to MULTI is lost while it runs: a batch goes through once, not at each retry."""
    server = make_redis()
    rig = Rig(server.port)

    async with rig.running():
        rig.append("orders", 3)
        await rig.drained()
        server.client.execute_command("ACL", "SETUSER", "default", "-multi")
        rig.append("orders", 10)
        before = rig.count("redis_errors_total", kind="auth")
        await until(lambda: rig.count("redis_errors_total", kind="auth") >= before + 5)
        assert "multi" in (rig.publisher.problem or "").lower()
        server.client.execute_command("ACL", "SETUSER", "default", "+multi")
        await rig.drained()

    check_exec(rig, server.client)
    assert len(exec_entries(server.client, "orders")) <= 3 + 2 * 10


@on_uvloop
async def test_a_refused_chunk_is_a_part_of_the_turn(redis_server: RedisServer) -> None:
    """Chunks of nothing but bad events are not written, and use the turn up like others."""
    rig = Rig(redis_server.port)
    bad = CHUNKS_PER_TURN_MAX * CHUNK_ENTRIES_MAX

    async with rig.running():
        for _ in range(bad):
            rig.trade(("A", None))
        for number in range(10):
            rig.trade(("A", number))
        shipper = rig.publisher.market

        assert shipper.flush(), "there is more to send in the next turn"
        assert (shipper.in_flight, shipper.silent_seconds) == (0, 0.0)
        assert rig.publisher.unpublished["market"] == 10
        await rig.drained()

    assert numbers(redis_server.client, "trades", "A") == list(range(10))
    assert rig.count("events_refused_total", reason="broken") == bad
