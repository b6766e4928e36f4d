"""bridge/exec_shipper.py, without a journal: it goes on right behind what Redis has."""

from collections.abc import Callable

import pytest
import redis
from structlog.testing import capture_logs

from bridge import exits
from bridge.core import scripts
from bridge.core.contract import EXEC_KINDS
from bridge.exits import Exit
from tests.proxies import Proxy, Rig, check_exec, exec_entries, key, on_uvloop, until
from tests.servers import RedisServer, free_port

type MakeRedis = Callable[..., RedisServer]

MARK = scripts.mark_key(key("orders"))
OWNER = "owner:T.0.1"


@on_uvloop
@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize("after", [0, 1, 3])
async def test_a_lost_reply_doubles_nothing(
    redis_server: RedisServer, count: int, after: int
) -> None:
    """What is written but not confirmed does not go again: the mark tells that it is there."""
    async with Proxy(redis_server.port) as proxy:
        rig = Rig(proxy.port)
        async with rig.running():
            proxy.cut_next_reply(after)
            rig.append("orders", count)
            await until(lambda: not proxy.is_armed)
            rig.append("orders", 3)
            await rig.drained()

    check_exec(rig, redis_server.client)
    assert rig.count("reconnects_total", lane="exec") == 1


@on_uvloop
async def test_a_lost_reply_and_a_lost_mark_double_nothing(redis_server: RedisServer) -> None:
    """The very first batch is there, its receipt and its mark are lost: the stream tells."""
    async with Proxy(redis_server.port) as proxy:
        rig = Rig(proxy.port)
        async with rig.running():
            proxy.cut_next_reply()
            rig.append("orders", 5)
            await until(lambda: not proxy.is_armed)
            redis_server.client.delete(MARK)
            await rig.drained()

    check_exec(rig, redis_server.client)


@on_uvloop
async def test_what_a_claim_confirms_is_counted(redis_server: RedisServer) -> None:
    """Entries whose receipt was lost count as published once the mark tells that they are there."""
    async with Proxy(redis_server.port) as proxy:
        rig = Rig(proxy.port)
        async with rig.running():
            proxy.cut_next_reply()
            rig.append("orders", 40)
            await until(lambda: not proxy.is_armed)
            await rig.drained()

    check_exec(rig, redis_server.client)
    assert rig.count("exec_published_total", stream="orders") == 40
    assert rig.count("orders_published_total") == 40


@on_uvloop
@pytest.mark.parametrize("garbage", [b"?\r\n", b":1\r\n" * 50, b"-OOM what?\r\n"])
async def test_a_false_answer_doubles_nothing(redis_server: RedisServer, garbage: bytes) -> None:
    """An answer that makes no sense, or that is not true, costs a claim and nothing else."""
    async with Proxy(redis_server.port) as proxy:
        rig = Rig(proxy.port)
        async with rig.running():
            proxy.garble_next_reply(garbage)
            rig.append("orders", 1)
            await until(lambda: not proxy.is_armed)
            rig.append("orders", 2)
            await rig.drained()

    check_exec(rig, redis_server.client)


FORGETTING = {
    "owner gone": ("UNCLAIMED", lambda client: client.hdel(MARK, OWNER)),
    "another owner": ("FENCED", lambda client: client.hset(MARK, OWNER, "another")),
    "mark of the producer gone": ("GAP", lambda client: client.hdel(MARK, "T.0.1")),
    "mark gone": ("UNCLAIMED", lambda client: client.delete(MARK)),
    "scripts gone": ("NOSCRIPT", lambda client: client.script_flush()),
}


@on_uvloop
@pytest.mark.parametrize(("code", "forget"), FORGETTING.values(), ids=FORGETTING)
async def test_a_refused_batch_claims_again(
    redis_server: RedisServer, code: str, forget: Callable[..., None]
) -> None:
    """Whatever a script misses, with batches in flight: the stream goes on behind what it holds."""
    rig = Rig(redis_server.port)

    with capture_logs() as logs:
        async with rig.running():
            for _ in range(2):
                rig.append("orders", 5)
                await rig.drained()
                forget(redis_server.client)
                rig.append("orders", 40)
                await rig.drained()

    check_exec(rig, redis_server.client)
    said = {str(log["why"]).partition(" ")[0] for log in logs if log["event"] == "exec.resuming"}
    assert said == {code}
    assert exec_entries(redis_server.client, "control") == []


def begin_again(client: redis.Redis) -> None:
    """Delete the stream and have somebody else write one of the same name."""
    client.delete(key("orders"))
    for number in range(100):
        client.xadd(key("orders"), {"status": "foreign", "seq": number, "producer": "another"})


@on_uvloop
@pytest.mark.parametrize(
    "forget",
    [lambda client: client.flushall(), lambda client: client.delete(key("orders")), begin_again],
    ids=["FLUSHALL", "DEL of the stream", "begun by another"],
)
async def test_what_memory_holds_arrives_again(
    redis_server: RedisServer, forget: Callable[..., None]
) -> None:
    """With batches in flight Redis forgets: the rest arrives, the hole stands in exec:control."""
    rig = Rig(redis_server.port)

    async with rig.running():
        rig.append("orders", 5)
        await rig.drained()
        forget(redis_server.client)
        rig.append("orders", 40)
        await rig.drained()

    entries = exec_entries(redis_server.client, "orders")
    orders = [row for row in entries if row["producer"] == "T.0.1"]
    assert [row["status"] for row in orders] == rig.appended["orders"][5:]
    assert [int(row["seq"]) for row in orders] == list(range(6, 46))
    (told,) = exec_entries(redis_server.client, "control")
    assert (told["cause"], told["reason"]) == ("base", "exec:orders T.0.1 1-5")
    assert rig.count("exec_holes_total") == 5


@on_uvloop
async def test_every_hole_is_told(redis_server: RedisServer) -> None:
    """Whatever is flushed again and again: the numbers that are missing are those that are told."""
    rig = Rig(redis_server.port)

    async with rig.running():
        for _ in range(4):
            for kind in EXEC_KINDS:
                rig.append(kind, 20)
            await until(lambda: rig.exec_lane.backlog < 60)
            redis_server.client.flushall()
        for kind in EXEC_KINDS:
            rig.append(kind, 1)
        await rig.drained()

    told: dict[str, set[int]] = {}
    for row in exec_entries(redis_server.client, "control"):
        if row["cause"] == "base":
            stream, _, span = row["reason"].split()
            first, last = map(int, span.split("-"))
            told.setdefault(stream, set()).update(range(first, last + 1))
    for kind, stream in rig.exec_lane.streams.items():
        there = [int(row["seq"]) for row in exec_entries(redis_server.client, kind)]
        assert there == sorted(set(there))
        assert set(range(1, stream.seq + 1)) - set(there) <= told.get(stream.key, set())


@on_uvloop
async def test_idle_streams_are_looked_after(redis_server: RedisServer) -> None:
    """A mark that vanishes while nothing is sent is set anew, from the stream's own entries."""
    rig = Rig(redis_server.port)

    async with rig.running():
        rig.append("orders", 5)
        await rig.drained()
        mark = redis_server.client.hget(MARK, "T.0.1")
        redis_server.client.delete(MARK)
        await until(lambda: redis_server.client.hget(MARK, "T.0.1"))

    assert redis_server.client.hget(MARK, "T.0.1") == mark
    check_exec(rig, redis_server.client)


@on_uvloop
async def test_numbers_that_were_never_given_end_it(redis_server: RedisServer) -> None:
    """A mark beyond what this process has numbered: somebody else has its name, exit 76."""
    rig, told = Rig(redis_server.port), []
    rig.exec_lane.on_failure = told.append

    with pytest.raises(Exit, match=r"exec:orders holds numbers of T\.0\.1") as ended:
        async with rig.running():
            rig.append("orders")
            await rig.drained()
            redis_server.client.hset(MARK, "T.0.1", "7 0-0 0")
            await until(lambda: told)

    assert ended.value.code == exits.FENCED
    assert told == [ended.value]


@on_uvloop
async def test_readonly_leads_to_the_new_primary(make_redis: MakeRedis) -> None:
    """A server that became a replica is left: its name may mean another one now. What that one
    does not have is told as a hole."""
    old, new = make_redis(), make_redis()
    async with Proxy(old.port) as proxy:
        rig = Rig(proxy.port)
        async with rig.running():
            rig.append("orders", 5)
            await rig.drained()
            old.client.replicaof("127.0.0.1", free_port())
            proxy.upstream_port = new.port
            rig.append("orders", 5)
            await until(lambda: rig.exec_lane.backlog == 0)

    assert [row["seq"] for row in exec_entries(new.client, "orders")] == ["6", "7", "8", "9", "10"]
    (told,) = exec_entries(new.client, "control")
    assert told["reason"] == "exec:orders T.0.1 1-5"


@on_uvloop
async def test_killed_clients_come_back(make_redis: MakeRedis) -> None:
    """CLIENT KILL in mid-flow loses, doubles and reorders nothing."""
    server = make_redis()
    rig = Rig(server.port)

    async with rig.running():
        for round_ in range(5):
            rig.append("orders", 200)
            await until(lambda: rig.publisher.exec.in_flight > 0)
            server.client.client_kill_filter(_type="normal", skipme=True)
            await until(lambda n=round_: rig.count("reconnects_total", lane="exec") > n)
        await rig.drained()

    check_exec(rig, server.client)


@on_uvloop
async def test_a_killed_server_comes_back(make_redis: MakeRedis) -> None:
    """SIGKILL and restart of a server that keeps what it confirms: nothing is lost or doubled."""
    server = make_redis("--appendonly", "yes", "--appendfsync", "always")
    rig = Rig(server.port)

    async with rig.running():
        for round_ in range(3):
            rig.append("orders", 200)
            rig.append("fills", 30)
            await until(lambda n=round_: rig.exec_lane.streams["orders"].acknowledged > 210 * n)
            server.kill()
            rig.append("orders", 10)
            await until(lambda: rig.publisher.problem is not None)
            server.start()
        await rig.drained()

    check_exec(rig, server.client)
