"""bridge/claims.py: numbers that somebody else may have given, servers that were restarted."""

import errno
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from fakeredis import TcpFakeServer
from structlog.testing import capture_logs

from bridge import exits
from bridge.core.contract import EXEC_KINDS
from bridge.embedded_redis import HOST
from bridge.exits import Exit
from bridge.segments import CLAIM, Segment
from tests.bridge.journal_rig import Gate, JournalRig
from tests.proxies import Proxy, exec_entries, on_uvloop, until
from tests.servers import RedisServer

type MakeRedis = Callable[..., RedisServer]


def copied(folder: Path) -> dict[str, bytes]:
    """Return what the files of a journal hold."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def restore(folder: Path, files: dict[str, bytes]) -> None:
    """Set a journal back in place, as a restored backup or snapshot of the disk does."""
    for path in folder.iterdir():
        if path.name not in files:
            path.unlink()
    for name, data in files.items():
        with (folder / name).open("r+b" if (folder / name).exists() else "wb") as file:
            file.truncate(len(data))
            file.write(data)


def cut(path: Path, keep: Callable[[int, int], bool], extra_bytes: int = 0) -> None:
    """Cut a segment behind the records that `keep`, told kind and seq, wants: as a power loss."""
    segment = Segment.load(path)
    ends = [record.end for record in segment.records() if keep(record.kind, record.seq)]
    size = max([segment.start, *ends]) + extra_bytes
    with path.open("r+b") as file:
        file.truncate(size)


# Numbers that somebody else has given.


@on_uvloop
@pytest.mark.parametrize("early", [0, 9], ids=["appended later", "appended before Redis is there"])
async def test_a_journal_set_back_begins_anew(
    redis_server: RedisServer, tmp_path: Path, early: int
) -> None:
    """An older copy gives numbers that Redis knows: what is new comes under a new producer."""
    rig, producers = JournalRig(tmp_path), []
    for count in (20, 15):
        async with rig.running(redis_server.port) as session:
            producers.append(session.producer)
            session.append("orders", count)
            session.append("fills", 10)
            await session.drained()
        if count == 20:
            older = copied(rig.directory)
    restore(rig.directory, older)
    async with rig.running(redis_server.port, connected=not early) as session:
        session.append("orders", early)
        session.append("control", 3)
        await until(lambda: session.publisher.problem is None)
        session.append("orders", 7)
        session.append("fills", 7)
        await session.drained()
        producers.append(session.producer)

    rig.check(redis_server.client)
    assert producers[0] == producers[1] != producers[2]


@on_uvloop
@pytest.mark.parametrize("early", [7, 30], ids=["before what is left", "beside what is left"])
@pytest.mark.parametrize("left", [0, 3])
async def test_a_journal_set_back_behind_a_trimmed_stream(
    redis_server: RedisServer, tmp_path: Path, early: int, left: int
) -> None:
    """Redis no longer holds what to compare with: what is new is not taken for what was trimmed."""
    rig, client = JournalRig(tmp_path), redis_server.client
    for count in (20, 15):
        async with rig.running(redis_server.port) as session:
            session.append("orders", count)
            await session.drained()
        if count == 20:
            older = copied(rig.directory)
    client.xtrim("exec:orders", maxlen=left, approximate=False)
    restore(rig.directory, older)
    async with rig.running(redis_server.port, connected=False) as session:
        session.append("orders", early)
        await session.drained()
        session.append("orders", 5)
        await session.drained()

    texts = [row["status"] for row in exec_entries(client, "orders")]
    assert texts == rig.appended["orders"][35 - left :]


@on_uvloop
async def test_a_journal_set_back_once_goes_on(redis_server: RedisServer, tmp_path: Path) -> None:
    """The session behind it keeps the new producer, and nothing comes again."""
    rig, producers = JournalRig(tmp_path), []
    for number in range(4):
        async with rig.running(redis_server.port) as session:
            session.append("orders", 15)
            await session.drained()
            producers.append(session.producer)
        if number == 0:
            older = copied(rig.directory)
        if number == 1:
            restore(rig.directory, older)

    rig.check(redis_server.client)
    assert producers[0] == producers[1] != producers[2] == producers[3]


@on_uvloop
async def test_a_journal_set_back_twice(redis_server: RedisServer, tmp_path: Path) -> None:
    """The same copy restored again: a producer that Redis has seen is not taken again."""
    rig, producers = JournalRig(tmp_path), []
    async with rig.running(redis_server.port) as session:
        session.append("orders", 15)
        await session.drained()
    older = copied(rig.directory)
    for _ in range(4):
        async with rig.running(redis_server.port) as session:
            session.append("orders", 15)
            session.append("fills", 2)
            await session.drained()
            producers.append(session.producer)
        restore(rig.directory, older)

    rig.check(redis_server.client)
    assert len(set(producers)) == 4


@on_uvloop
@pytest.mark.parametrize("extra_bytes", [0, 11], ids=["between records", "in a record"])
@pytest.mark.parametrize("keep", [0, 10, 249])
async def test_a_journal_that_lost_its_tail(
    redis_server: RedisServer, tmp_path: Path, keep: int, extra_bytes: int
) -> None:
    """The disk has less than Redis: what Redis has stays, what is new is not taken for it."""
    rig = JournalRig(tmp_path)
    async with rig.running(redis_server.port) as session:
        session.append("orders", 250)
        await session.drained()
        former = session.producer
    cut(rig.segments[-1], lambda kind, seq: kind == CLAIM or seq <= keep, extra_bytes)
    async with rig.running(redis_server.port, connected=False) as session:
        session.append("orders", 7)
        await session.drained()
        session.append("orders", 7)
        await session.drained()
        assert session.producer != former

    rig.check(redis_server.client)


@on_uvloop
@pytest.mark.parametrize("count", [10, 450])
@pytest.mark.parametrize("extra", [0, 5])
async def test_a_false_alarm_doubles_nothing(
    redis_server: RedisServer, tmp_path: Path, count: int, extra: int
) -> None:
    """That Redis had them is lost from the journal, the entries are not: all goes on as before."""
    rig = JournalRig(tmp_path)
    async with rig.running(redis_server.port, connected=False) as session:
        session.append("orders", count)
        session.append("fills", count)
        await session.drained()
        former = session.producer
    cut(rig.segments[-1], lambda kind, _: kind != CLAIM)
    async with rig.running(redis_server.port, connected=False) as session:
        session.append("orders", extra)
        await session.drained()
        assert session.producer == former

    rig.check(redis_server.client)


@on_uvloop
async def test_a_false_alarm_in_a_trimmed_stream(redis_server: RedisServer, tmp_path: Path) -> None:
    """The same, where Redis no longer holds the oldest of them: what it holds is not doubled."""
    rig, client = JournalRig(tmp_path), redis_server.client
    async with rig.running(redis_server.port, connected=False) as session:
        session.append("orders", 50)
        await session.drained()
    cut(rig.segments[-1], lambda kind, _: kind != CLAIM)
    client.xtrim("exec:orders", maxlen=20, approximate=False)
    async with rig.running(redis_server.port, connected=False) as session:
        session.append("orders", 5)
        await session.drained()

    texts = [row["status"] for row in exec_entries(client, "orders")]
    assert len(texts) == len(set(texts))
    assert texts[-5:] == rig.appended["orders"][-5:]


@on_uvloop
async def test_one_stream_of_another_type_while_numbers_are_checked(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """A journal behind Redis, and one stream that is none: the others are published."""
    rig, client = JournalRig(tmp_path), redis_server.client
    async with rig.running(redis_server.port) as session:
        session.append("fills", 15)
        session.append("orders", 15)
        await session.drained()
    cut(rig.segments[-1], lambda kind, seq: kind != EXEC_KINDS.index("orders") or seq <= 10)
    client.rename("exec:orders", "aside")
    client.set("exec:orders", "somebody's")
    async with rig.running(redis_server.port, connected=False) as session:
        session.append("orders", 5)
        session.append("fills", 5)
        await until(lambda: len(exec_entries(client, "fills")) == 20)
        client.rename("aside", "exec:orders")
        await session.drained()

    rig.check(client)


# Servers that were restarted.


@on_uvloop
async def test_a_restarted_server_rewrites_its_file(make_redis: MakeRedis, tmp_path: Path) -> None:
    """Before the first batch, once for each start of the server that the journal has not seen."""
    server, rig = make_redis("--appendonly", "yes"), JournalRig(tmp_path)
    rewrites, client = [], server.client
    async with Gate(server.port) as gate:
        for restart in (False, False, True, False):
            if restart:
                server.kill()
                server.start()
            before = len(gate.commands)
            async with rig.running(gate.port) as session:
                session.append("orders", 5)
                await session.drained()
                assert session.journal.run_id == client.info("server")["run_id"]
            since = gate.commands[before:]
            rewrites.append(since.count(b"BGREWRITEAOF"))
            if rewrites[-1]:
                assert since.index(b"BGREWRITEAOF") < since.index(b"EVALSHA")
            assert client.info("persistence")["aof_rewrite_in_progress"] == 0

    assert rewrites == [1, 0, 1, 0]
    rig.check(client)


@on_uvloop
async def test_a_server_restarted_meanwhile_rewrites_its_file(
    make_redis: MakeRedis, tmp_path: Path
) -> None:
    """A restart in the middle of a session counts like one before it."""
    server, rig = make_redis("--appendonly", "yes"), JournalRig(tmp_path)
    async with Gate(server.port) as gate, rig.running(gate.port) as session:
        session.append("orders", 5)
        await session.drained()
        session.publisher.exec.link.drop()
        session.append("orders", 5)
        await session.drained()
        assert gate.commands.count(b"BGREWRITEAOF") == 1
        server.kill()
        server.start()
        session.append("orders", 5)
        await session.drained()

    assert gate.commands.count(b"BGREWRITEAOF") == 2
    rig.check(server.client)


@on_uvloop
async def test_a_server_without_a_file_rewrites_nothing(
    make_redis: MakeRedis, tmp_path: Path
) -> None:
    """Where there is no append-only file, the server is remembered all the same."""
    server, rig = make_redis(), JournalRig(tmp_path)
    async with Gate(server.port) as gate, rig.running(gate.port) as session:
        assert session.journal.run_id == server.client.info("server")["run_id"]

    assert b"BGREWRITEAOF" not in gate.commands


@on_uvloop
@pytest.mark.parametrize("forbidden", ["info", "bgrewriteaof"])
async def test_a_server_that_may_not_be_asked(
    make_redis: MakeRedis, tmp_path: Path, forbidden: str
) -> None:
    """Without the right to INFO or BGREWRITEAOF it warns, and goes on."""
    server, rig = make_redis("--appendonly", "yes"), JournalRig(tmp_path)
    server.client.execute_command(
        "ACL", "SETUSER", "bridge", "on", ">pw", "~*", "&*", "+@all", f"-{forbidden}"
    )
    with capture_logs() as logs:
        async with rig.running(server.port, user="bridge:pw@") as session:
            session.append("orders", 5)
            await session.drained()

    rig.check(server.client)
    [warning] = [each for each in logs if each["event"] == "redis.unchecked"]
    assert warning["log_level"] == "warning"
    assert forbidden in warning["problem"]
    assert re.search("INFO and BGREWRITEAOF", warning["remedy"])


def test_a_fresh_journal_knows_no_server(tmp_path: Path) -> None:
    """What was never connected remembers nothing."""
    with JournalRig(tmp_path).journal() as journal:
        assert journal.run_id is None


@on_uvloop
async def test_a_journal_that_fails_while_it_is_claimed(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk does not take that the numbers are ours: it ends, and says that it cannot record."""
    rig = JournalRig(tmp_path)
    with pytest.raises(Exit) as caught:
        async with Proxy(1) as proxy, rig.running(proxy.port, connected=False) as session:
            monkeypatch.setattr(os, "fdatasync", no_disk)
            proxy.upstream_port = redis_server.port
            await until(session.task.done)
            monkeypatch.undo()

    assert caught.value.code == exits.CANNOT_RECORD == 74


def no_disk(_: int) -> None:
    raise OSError(errno.EIO, "no disk")


@on_uvloop
async def test_fakeredis_stands_in(tmp_path: Path) -> None:
    """Where no redis-server can be had: it knows no INFO, and hangs up at each error."""
    rig = JournalRig(tmp_path)
    with TcpFakeServer((HOST, 0)) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        port = server.server_address[1]
        async with rig.running(port, connected=False) as session:
            session.append("orders", 25)
            drained = await session.publisher.drain(5.0)
        with redis.Redis(HOST, port, protocol=2, decode_responses=True) as client:
            found = exec_entries(client, "orders")
        server.shutdown()
        thread.join()

    assert drained, session.publisher.problem
    assert [row["status"] for row in found] == rig.appended["orders"]
