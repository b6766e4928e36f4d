"""bridge/exec_shipper.py over a journal while the server fails: no memory, stalls, kills, types."""

from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge.core.scripts import mark_key
from bridge.lease import Lease
from tests.bridge.journal_rig import Gate, JournalRig
from tests.proxies import Proxy, exec_entries, key, on_uvloop, until
from tests.servers import RedisServer

KINDS = ("orders", "fills", "control")

type MakeRedis = Callable[..., RedisServer]


@on_uvloop
async def test_no_memory_between_batches_in_flight(make_redis: MakeRedis, tmp_path: Path) -> None:
    """One of several batches in flight finds no memory: those behind it do not overtake it."""
    server, rig, in_flight = make_redis(), JournalRig(tmp_path), []
    async with Gate(server.port) as gate, rig.running(gate.port) as session:
        session.append("orders", 5)
        await session.drained()
        struck = gate.batches + 3

        def before(number: int) -> None:
            server.client.config_set("maxmemory", 1 if number == struck else 0)
            if number == struck:
                in_flight.append(session.publisher.exec.in_flight)

        gate.before_batch = before
        session.append("orders", 100)
        await until(lambda: in_flight)
        await session.drained()

    assert in_flight[0] > 10, "more than one batch was in flight"
    rig.check(server.client)


@on_uvloop
async def test_no_memory_at_the_end_of_a_producer(make_redis: MakeRedis, tmp_path: Path) -> None:
    """The last batch of a former producer is refused: the present one's do not overtake it."""
    server, rig = make_redis(), JournalRig(tmp_path)
    rig.offline(lambda each: each.append("orders", 15))
    rig.producer_id = "U"
    rig.offline(lambda each: each.append("orders", 50))
    async with Gate(server.port) as gate:

        def before(number: int) -> None:
            server.client.config_set("maxmemory", 1 if number == 2 else 0)

        gate.before_batch = before
        async with rig.running(gate.port) as session:
            await until(lambda: gate.batches > 2)
            await session.drained()

    rig.check(server.client)


@on_uvloop
async def test_no_memory_for_a_while(make_redis: MakeRedis, tmp_path: Path) -> None:
    """Everything waits, is told once, and goes on by itself."""
    server, rig = make_redis(), JournalRig(tmp_path)
    with capture_logs() as logs:
        async with rig.running(server.port) as session:
            session.append("orders", 5)
            await session.drained()
            server.client.config_set("maxmemory", 1)
            session.append("orders", 50)
            await session.until_refused("orders")
            await until(lambda: session.count("redis_errors_total", kind="oom") >= 6)
            assert session.publisher.unpublished["exec"] == 50
            server.client.config_set("maxmemory", 0)
            session.append("orders", 5)
            await session.drained()
            assert session.publisher.problem is None

    rig.check(server.client)
    assert [each["event"] for each in logs if each["log_level"] == "error"] == ["exec.refused"]
    assert [each["event"] for each in logs].count("exec.resumed") == 1


@on_uvloop
async def test_no_memory_at_the_start(make_redis: MakeRedis, tmp_path: Path) -> None:
    """A Redis that has no memory when the bridge connects gets everything once it has."""
    server, rig = make_redis(), JournalRig(tmp_path)
    server.client.config_set("maxmemory", 1)
    async with rig.running(server.port, connected=False) as session:
        session.append("orders", 20)
        await until(lambda: session.count("redis_errors_total", kind="oom") >= 2)
        server.client.config_set("maxmemory", 0)
        await session.drained()

    rig.check(server.client)


@on_uvloop
@pytest.mark.parametrize("reply_seconds_max", [30, 1], ids=["waits", "connects again"])
async def test_a_server_that_stalls(
    make_redis: MakeRedis, tmp_path: Path, reply_seconds_max: int
) -> None:
    """What was sent to a stalled server, on one connection or on two, is there once."""
    server = make_redis()
    settings = {"reply_timeout_seconds": reply_seconds_max, "reconnect_seconds_max": 0.05}
    rig = JournalRig(tmp_path, redis=settings)
    async with rig.running(server.port) as session:
        session.append("orders", 20)
        await session.drained()
        server.pause()
        session.append("orders", 50)
        if reply_seconds_max == 1:
            await until(lambda: not session.publisher.exec.link.is_up)
        else:
            await until(lambda: "not answered" in (session.publisher.problem or ""))
        session.append("orders", 50)
        server.resume()
        await session.drained()

    rig.check(server.client)


@on_uvloop
@pytest.mark.parametrize("name", [key("orders"), mark_key(key("orders"))])
async def test_a_key_of_another_type_stops_one_stream(
    redis_server: RedisServer, tmp_path: Path, name: str
) -> None:
    """Only the stream whose key, or whose mark, somebody else has taken waits; it heals."""
    rig, client = JournalRig(tmp_path), redis_server.client
    async with rig.running(redis_server.port) as session:
        for kind in KINDS:
            session.append(kind, 15)
        await session.drained()
        client.rename(name, "aside")
        client.set(name, "somebody's")
        for kind in KINDS:
            session.append(kind, 15)
        await session.until_refused("orders")
        await until(lambda: session.publisher.unpublished["exec"] == 15)
        assert len(exec_entries(client, "fills")) == len(exec_entries(client, "control")) == 30
        client.rename("aside", name)
        await session.drained()
        assert session.publisher.problem is None

    rig.check(client)


@on_uvloop
async def test_a_stream_of_another_type_at_the_start(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """One stream that cannot be claimed does not keep the others from starting."""
    rig, client = JournalRig(tmp_path), redis_server.client
    client.set(key("orders"), "somebody's")
    async with rig.running(redis_server.port, connected=False) as session:
        for kind in KINDS:
            session.append(kind, 15)
        await session.until_refused("orders")
        await until(lambda: session.publisher.unpublished["exec"] == 15)
        client.delete(key("orders"))
        await session.drained()

    rig.check(client)


@on_uvloop
async def test_an_idle_stream_that_healed_is_no_problem(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """Once an idle stream can be claimed again, nothing is told of it any more."""
    rig, client = JournalRig(tmp_path), redis_server.client
    async with Proxy(redis_server.port) as proxy, rig.running(proxy.port) as session:
        session.append("orders", 5)
        await session.drained()
        client.rename(key("orders"), "aside")
        client.set(key("orders"), "somebody's")
        await session.until_refused("orders")
        client.rename("aside", key("orders"))
        await until(lambda: session.publisher.problem is None)
        proxy.hold_replies()  # the next check of its mark takes a while
        shipments = session.publisher.exec.shipments.values()
        await until(lambda: not all(each.is_open for each in shipments))
        assert session.publisher.problem is None
        proxy.release_replies()


@on_uvloop
async def test_a_killed_server(make_redis: MakeRedis, tmp_path: Path) -> None:
    """SIGKILL with batches in flight, again and again: what its file has lost comes again."""
    server, rig = make_redis("--appendonly", "yes"), JournalRig(tmp_path)
    async with rig.running(server.port) as session:
        for number in range(5):
            session.append("orders", 200)
            session.append("fills", 50)
            await until(lambda: session.publisher.exec.in_flight or not session.lane.backlog)
            server.kill()
            session.append("orders", 20)
            server.start(until_loaded=number % 2 == 0)
            await session.drained()

    rig.check(server.client)


@on_uvloop
async def test_a_restarted_server_without_a_file(make_redis: MakeRedis, tmp_path: Path) -> None:
    """A server that keeps nothing gets all that the journal holds."""
    server, rig = make_redis(), JournalRig(tmp_path)
    async with rig.running(server.port) as session:
        session.append("orders", 50)
        await session.drained()
        server.kill()
        session.append("orders", 50)
        server.start()
        await session.drained()

    rig.check(server.client)


@on_uvloop
@pytest.mark.parametrize("garbage", [b":1\r\n", b"*0\r\n", b"+OK\r\n", b"$-1\r\n"], ids=str)
@pytest.mark.parametrize("holds_lease", [True, False], ids=["lease", "mark"])
async def test_garbage_in_answer_to_a_check(
    redis_server: RedisServer, tmp_path: Path, garbage: bytes, holds_lease: bool
) -> None:
    """What is no answer to a question about lease or marks ends the connection, not the bridge."""
    rig, lease = JournalRig(tmp_path), Lease.make(["lease"], seconds=10, uuid="journal")
    lease.take(redis_server.client, takeover=False)
    async with (
        Proxy(redis_server.port) as proxy,
        rig.running(proxy.port, lease=lease if holds_lease else None) as session,
    ):
        session.append("orders", 5)
        await session.drained()
        proxy.garble_next_reply(garbage)
        await until(lambda: session.task.done() or session.publisher.exec.link.connects > 1)
        assert not session.task.done(), session.task.exception()
        session.append("orders", 5)
        await session.drained()

    rig.check(redis_server.client)
