"""Both lanes against peers that are no Redis: only a receipt confirms."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from structlog.testing import capture_logs

from bridge.core import resp, scripts
from bridge.core.resp import ReplyParser
from bridge.embedded_redis import HOST
from bridge.link import Target
from tests.proxies import Proxy, Rig, check_exec, exec_entries, numbers, on_uvloop, until
from tests.servers import RedisServer

type Answer = Callable[[Sequence[str]], bytes]

GREETING = {"PING": b"+PONG\r\n", "AUTH": b"+OK\r\n"}
CLAIMING = {"INFO": b"$8\r\nrun_id:1\r\n", "SCRIPT": b"+what is its name?\r\n"}
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
    return lambda words: GREETING.get(words[0]) or answer(words)


def claims_then(answer: Answer) -> Answer:
    """Return the answers of a peer that also lets streams be claimed, as empty ones."""
    claim = scripts.digest(scripts.CLAIM)

    def reply(words: Sequence[str]) -> bytes:
        if words[0] == "EVALSHA" and words[1] == claim:
            return b"*1\r\n$6\r\nabsent\r\n"
        return (GREETING | CLAIMING).get(words[0]) or answer(words)

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
async def test_a_claim_needs_its_answers(answer: Answer) -> None:
    """A peer that greets like Redis and knows no claim is none: the exec lane sends it nothing."""
    async with peer(greets_then(answer)) as port:
        rig = Rig(port)
        rig.append("orders")
        async with rig.running(connected=False):
            await until_refused(rig)

    assert not rig.publisher.exec.link.connects
    assert rig.publisher.unpublished["exec"] == 1


@on_uvloop
@pytest.mark.parametrize(
    "answer",
    [*NO_RECEIPTS.values(), lambda _: b":0\r\n", lambda _: b"$1\r\n2\r\n"],
    ids=[*NO_RECEIPTS, "zero", "text"],
)
async def test_a_batch_is_confirmed_by_its_last_number(answer: Answer) -> None:
    """Anything but an integer, as high as the batch's last number, confirms none of it."""
    async with peer(claims_then(answer)) as port:
        rig = Rig(port)
        rig.append("orders", 2)
        async with rig.running(connected=False):
            await until(lambda: rig.publisher.exec.link.connects >= 3)

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
            await until(lambda: rig.publisher.market.link.connects >= 3)

    assert rig.publisher.unpublished["market"] == 1
    assert rig.count("market_published_total", kind="trades") == 0
    assert rig.count("events_processed_total", type="trade") == 0


@on_uvloop
@no_receipts
async def test_nothing_is_lost_to_an_impostor(redis_server: RedisServer, answer: Answer) -> None:
    """What was told to another program on Redis's port stands in Redis once that is back."""
    async with peer(claims_then(answer)) as port, Proxy(port) as proxy:
        rig = Rig(proxy.port)
        rig.append("orders", 5)
        rig.trade(("A", 0))
        async with rig.running(connected=False):
            await until(lambda: rig.publisher.exec.link.connects >= 3)
            proxy.upstream_port = redis_server.port
            proxy.cut()
            await rig.drained()

    check_exec(rig, redis_server.client)
    assert len(exec_entries(redis_server.client, "orders")) == 5
    assert numbers(redis_server.client, "trades", "A") == [0]
