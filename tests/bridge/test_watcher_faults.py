"""bridge/watcher.py over a Redis that refuses, dies, stalls or is demoted: not open by default."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge.core.control import MODE_KEY, State
from bridge.core.resp import ReplyParser
from tests.bridge.watching import FLAG, QUICK, QUIET, Rig
from tests.proxies import Proxy, on_uvloop, until
from tests.servers import RedisServer

type Make = Callable[..., RedisServer]
ACTIVE, REDUCING, DISABLED, HALTED = State.ACTIVE, State.REDUCING, State.DISABLED, State.HALTED
REFUSED = b"-ERR unknown command\r\n"
# What a Redis without pushes and without keys says, where it is not a number.
ANSWERS = {b"PING": b"+PONG\r\n", b"GET": b"$-1\r\n", b"CLIENT": REFUSED, b"SUBSCRIBE": REFUSED}
EVENTS = ("--notify-keyspace-events", "KEA")


@pytest.fixture
def server(make_redis: Make) -> RedisServer:
    """A server whose flag is on, and which keeps that when it is killed."""
    server = make_redis()
    server.client.mset({FLAG: "1", MODE_KEY: "normal"})
    server.client.save()
    return server


def limited(server: RedisServer, *rules: str, db: int = 0) -> str:
    """Return the URL of a user who may do everything, but for these rules."""
    words = ("ACL", "SETUSER", "u", "on", ">p", "~*", "&*", "+@all", *rules)
    server.new_client(protocol=2).execute_command(*words)  # it may have no HELLO
    return f"redis://u:p@127.0.0.1:{server.port}/{db}"


def gets(server: RedisServer) -> int:
    """Return how many GETs a server has answered."""
    count: int = server.client.info("commandstats").get("cmdstat_get", {"calls": 0})["calls"]
    return count


def connections(server: RedisServer) -> int:
    """Return how many connections a server has seen."""
    count: int = server.client.info("stats")["total_connections_received"]
    return count


@pytest.mark.parametrize("db", [0, 1])
@pytest.mark.parametrize(
    ("rules", "options", "via"),
    [
        ((), (), "tracking"),
        (("-client",), EVENTS, "keyspace"),
        (("-client",), (), "poll"),
        (("-client",), ("--notify-keyspace-events", "Kx"), "poll"),
        (("-client", "-subscribe"), EVENTS, "poll"),
        (("-client", "resetchannels"), EVENTS, "poll"),
        (("-client", "resetkeys", "~mode", "~features:*", "~risk:*", "~bridge:state:*",
          "%R~bridge:*"), EVENTS, "poll"),
        ((), (*EVENTS, "--rename-command", "HELLO", ""), "poll"),
    ],
)  # fmt: skip
@on_uvloop
async def test_fallbacks(
    make_redis: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rules: tuple[str, ...],
    options: tuple[str, ...],
    via: str,
    db: int,
) -> None:
    """Where Redis refuses to track it is keyspace events, where it has none a poll of 10 ms; which
    it is is logged. A change is seen all the same."""
    monkeypatch.setattr("bridge.watcher.BEAT_SECONDS", 60)
    server = make_redis(*options)
    client = server.new_client(db=db, protocol=2)
    client.set(FLAG, "1")
    with capture_logs() as logs:
        rig = Rig(server, tmp_path, url=limited(server, *rules, db=db))
        async with rig.watching():
            assert rig.state is ACTIVE
            client.set(MODE_KEY, "reduce")
            await until(lambda: rig.state is REDUCING)
            client.delete(FLAG)
            await until(lambda: rig.state is DISABLED)
            await until(lambda: client.hget(rig.keys.state, "state") == "DISABLED")
            await until(lambda: rig.watcher._link.connects == 1)
    [said] = [each for each in logs if each["event"] == "control.watching"]
    assert said["via"] == via
    assert (said["poll_seconds"] == 0.01) == (via == "poll")
    assert rig.metrics.snapshot(0)["nautilus_bridge_control_pushed"] == str(int(via != "poll"))


@on_uvloop
async def test_killed(server: RedisServer, tmp_path: Path) -> None:
    """A dead Redis closes the gates; what it says when it is back is in force."""
    server.client.set(FLAG, "0")
    server.client.save()
    server.client.set(FLAG, "1")
    rig = Rig(server, tmp_path, QUICK)
    async with rig.watching():
        await rig.until(ACTIVE)
        server.kill()
        await until(lambda: rig.state is DISABLED)
        assert rig.controller.decision.cause == "link"
        assert rig.controller.decision.reason.startswith("no write accepted by Redis for 0.3 s: ")
        server.start()
        await until(lambda: rig.controller.decision.cause == "flag")
        await until(lambda: rig.shown.get("cause") == "flag")
        rig.set(FLAG, "1")
        await rig.until(ACTIVE)


@on_uvloop
async def test_stalled(server: RedisServer, tmp_path: Path) -> None:
    """A Redis that answers nothing closes the gates; when it goes on they open, once."""
    rig = Rig(server, tmp_path, QUICK)
    async with rig.watching():
        await rig.until(ACTIVE)
        server.pause()
        await until(lambda: rig.state is DISABLED)
        assert rig.controller.decision.reason.endswith(": it does not answer")
        server.resume()
        await rig.until(ACTIVE)
        assert rig.watcher._link.connects == 1
        assert rig.desk.states == [DISABLED, ACTIVE, DISABLED, ACTIVE]


@on_uvloop
async def test_silent_for_long(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection on which nothing comes any more is replaced by another."""
    monkeypatch.setattr("bridge.watcher.SILENT_SECONDS_MAX", 0.2)
    async with Proxy(server.port) as proxy:
        rig = Rig(server, tmp_path, QUICK, url=f"redis://127.0.0.1:{proxy.port}/0")
        async with rig.watching():
            await rig.until(ACTIVE)
            proxy.hold_replies()
            await until(lambda: rig.state is DISABLED)
            await until(lambda: proxy.accepted > 1)
            proxy.release_replies()
            await rig.until(ACTIVE)


@pytest.mark.parametrize("is_read", [True, False])
@on_uvloop
async def test_a_late_answer_proves_nothing(
    server: RedisServer, tmp_path: Path, *, is_read: bool
) -> None:
    """What was on its way for longer than Redis may be away, a read or the answer to a write,
    opens no gate: the flag may have gone off meanwhile."""
    async with Proxy(server.port) as proxy:
        rig = Rig(server, tmp_path, QUICK, url=f"redis://127.0.0.1:{proxy.port}/0")
        async with rig.watching():
            await rig.until(ACTIVE)
            await until(lambda: not rig.watcher._due)
            count = len(rig.desk.states)
            proxy.hold_replies()
            if is_read:
                before = gets(server)
                rig.watcher._ask_soon()
                await until(lambda: gets(server) - before >= len(rig.watcher._keys))
            else:
                rig.watcher._write(proves=True)
            late_at = time.monotonic() + 0.31
            rig.set(FLAG, "0")
            await until(lambda: rig.state is DISABLED and time.monotonic() > late_at)
            proxy.release_replies()
            await until(lambda: rig.controller.decision.cause == "flag")
            assert ACTIVE not in rig.desk.states[count:]


@on_uvloop
async def test_demoted(server: RedisServer, make_redis: Make, tmp_path: Path) -> None:
    """A Redis that was made a replica accepts no write: the gates close, it is left time and again
    without a flood of lines, and they open when it is a primary again."""
    primary = make_redis()
    rig = Rig(server, tmp_path, QUICK)
    with capture_logs() as logs:
        async with rig.watching():
            await rig.until(ACTIVE)
            server.client.replicaof("127.0.0.1", primary.port)
            await until(lambda: rig.state is DISABLED)
            reason = rig.controller.decision.reason
            assert "READONLY" in reason or "LOADING" in reason or "MASTERDOWN" in reason
            before = connections(server)
            await until(lambda: connections(server) > before + 12)
            server.client.replicaof("NO", "ONE")
            rig.set(FLAG, "1")
            await rig.until(ACTIVE)
    assert sum([each["event"] == "redis.lost" for each in logs]) <= 4
    assert sum([each["event"] == "redis.connected" for each in logs]) <= 2


@on_uvloop
async def test_out_of_memory(server: RedisServer, tmp_path: Path) -> None:
    """A Redis that is full accepts no write: the gates close; it is told once."""
    rig = Rig(server, tmp_path, QUICK)
    with capture_logs() as logs:
        async with rig.watching():
            await rig.until(ACTIVE)
            server.client.config_set("maxmemory", "1")
            await until(lambda: rig.state is DISABLED)
            assert "OOM" in rig.controller.decision.reason
            server.client.config_set("maxmemory", "0")
            await rig.until(ACTIVE)
    assert sum([each["event"] == "control.refused" for each in logs]) == 1
    assert rig.metrics.redis_errors["oom"]._value.get() == 1


@pytest.mark.parametrize("command", ["get", "hset"])
@on_uvloop
async def test_denied(server: RedisServer, tmp_path: Path, command: str) -> None:
    """A right that is taken away closes the gates with that reason; given back it opens them."""
    rig = Rig(server, tmp_path, QUICK, url=limited(server))
    async with rig.watching():
        await rig.until(ACTIVE)
        limited(server, f"-{command}")
        await until(lambda: rig.state is DISABLED)
        assert "NOPERM" in rig.controller.decision.reason
        if command == "get":  # it may be written
            await until(lambda: "NOPERM" in rig.shown["reason"])
        limited(server)
        await rig.until(ACTIVE)


@on_uvloop
async def test_denied_from_the_start(server: RedisServer, tmp_path: Path) -> None:
    """Flags that may not be read: nothing opens, it is never known what holds, and the log says
    why."""
    rig = Rig(server, tmp_path, QUICK, url=limited(server, "-get"))
    with capture_logs() as logs:
        task = asyncio.create_task(rig.watcher.run())
        await until(lambda: any(each["event"] == "control.refused" for each in logs))
        await until(lambda: rig.shown.get("state") == "DISABLED")
        task.cancel()
        await asyncio.wait({task})
    assert not rig.controller.known.is_set()
    assert rig.desk.states == [DISABLED]


@pytest.mark.parametrize("is_seen", [False, True])
@on_uvloop
async def test_dies_behind_a_halt(make_redis: Make, tmp_path: Path, *, is_seen: bool) -> None:
    """Redis dies right after `set mode halt`, seen or not: nothing opens any more, and it is
    HALTED at the latest when Redis is back."""
    server = make_redis("--appendonly", "yes", "--appendfsync", "always")
    server.client.set(FLAG, "1")
    async with Proxy(server.port) as proxy:
        rig = Rig(server, tmp_path, QUICK, url=f"redis://127.0.0.1:{proxy.port}/0")
        async with rig.watching():
            await rig.until(ACTIVE)
            count = len(rig.desk.states)
            if not is_seen:
                proxy.hold_replies()
            rig.set(MODE_KEY, "halt")
            if is_seen:
                await until(lambda: rig.state is HALTED)
            server.kill()
            await until(lambda: rig.state is not ACTIVE)
            assert rig.state is (HALTED if is_seen else DISABLED)
            proxy.release_replies()
            server.start()
            await rig.until(HALTED)
            assert ACTIVE not in rig.desk.states[count:]
            assert rig.client.get(rig.keys.latch) == rig.shown["latched"] != ""


@on_uvloop
async def test_killed_again_and_again(server: RedisServer, tmp_path: Path) -> None:
    """Cut connections are made again, and the next change is seen."""
    async with Proxy(server.port) as proxy:
        rig = Rig(server, tmp_path, QUIET, url=f"redis://127.0.0.1:{proxy.port}/0")
        async with rig.watching():
            for number in range(10):
                proxy.cut()
                word = ("reduce", "normal")[number % 2]
                rig.set(MODE_KEY, word)
                await until(lambda word=word: rig.shown["mode"] == word)


@pytest.mark.parametrize("garbage", [b"+OK\r\n" * 50, b"nonsense\r\n", b">1\r\n+x\r\n$-1\r\n"])
@on_uvloop
async def test_garbage(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, garbage: bytes
) -> None:
    """What is not said by a Redis, or was not asked, ends the connection and opens nothing."""
    monkeypatch.setattr("bridge.watcher.SILENT_SECONDS_MAX", 0.2)
    async with Proxy(server.port) as proxy:
        rig = Rig(server, tmp_path, QUICK, url=f"redis://127.0.0.1:{proxy.port}/0")
        async with rig.watching():
            await rig.until(ACTIVE)
            await rig.idle()
            proxy.garble_next_reply(garbage)
            rig.watcher._write(proves=True)  # the answer to a read might say "halt"
            await until(lambda: proxy.accepted > 1)
            rig.set(MODE_KEY, "reduce")
            await rig.until(REDUCING)


@pytest.mark.parametrize("disliked", [b"HELLO", b"CLIENT", b"SUBSCRIBE"])
@on_uvloop
async def test_hangs_up(server: RedisServer, tmp_path: Path, disliked: bytes) -> None:
    """A server that hangs up on what it does not know is not asked for that for ever."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = ReplyParser()
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                for name, *_ in parser.feed(data):
                    asked.append(name)
                    if name == disliked:
                        return
                    writer.write(ANSWERS.get(name, b":1\r\n"))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as fake:
        port = fake.sockets[0].getsockname()[1]
        rig = Rig(server, tmp_path, QUICK, url=f"redis://127.0.0.1:{port}/0")
        async with rig.watching():
            await until(lambda: rig.controller.decision.cause == "flag")
    assert rig.watcher.via == "poll"
    assert asked.count(disliked) == 3
