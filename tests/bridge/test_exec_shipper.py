"""bridge/exec_shipper.py, without a journal: what Redis takes, refuses, or takes later."""

from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from bridge.core import scripts
from bridge.core.contract import EXEC_KINDS
from bridge.core.lanes import LaneFull
from bridge.link import Target
from tests.proxies import Rig, check_exec, exec_entries, key, on_uvloop, until
from tests.refusals import Refuse, refusals
from tests.servers import RedisServer

type MakeRedis = Callable[..., RedisServer]


@on_uvloop
async def test_entries_arrive(redis_server: RedisServer) -> None:
    """Entries of all streams arrive once, in order; the metrics count what stands in Redis."""
    rig = Rig(redis_server.port)
    for _ in range(50):
        for kind in EXEC_KINDS:
            rig.append(kind)

    async with rig.running():
        await rig.drained()

    check_exec(rig, redis_server.client)
    for kind in EXEC_KINDS:
        assert rig.count("exec_published_total", stream=kind) == 50
    assert rig.count("orders_published_total") == rig.count("fills_published_total") == 50
    assert rig.count("exec_backlog") == rig.count("in_flight", lane="exec") == 0
    batches = len(EXEC_KINDS) * -(-50 // 16)
    assert rig.count("publish_latency_seconds_count", lane="exec") == batches


@on_uvloop
async def test_others_may_write_the_same_streams(redis_server: RedisServer) -> None:
    """Two bridges and a foreign writer share a stream: each one's entries stand there in order."""
    ours, theirs = Rig(redis_server.port), Rig(redis_server.port, producer="U.0.1")

    async with ours.running(), theirs.running():
        for number in range(30):
            ours.append("orders", 5)
            redis_server.client.xadd(key("orders"), {"foreign": number})
            theirs.append("orders", 5)
            await until(lambda n=number: ours.exec_lane.streams["orders"].acknowledged > 5 * n)
        await ours.drained()
        await theirs.drained()

    rows = exec_entries(redis_server.client, "orders")
    for rig in (ours, theirs):
        mine = [row for row in rows if row.get("producer") == rig.exec_lane.producer]
        assert [row["status"] for row in mine] == rig.appended["orders"]
        assert [int(row["seq"]) for row in mine] == list(range(1, 151))
    assert [int(row["foreign"]) for row in rows if "foreign" in row] == list(range(30))


@on_uvloop
@pytest.mark.parametrize("trim", [0, 3])
async def test_a_stream_may_be_trimmed(redis_server: RedisServer, trim: int) -> None:
    """An operator who trims a stream, even to nothing, makes no hole and has nothing repeated."""
    rig = Rig(redis_server.port)

    async with rig.running():
        rig.append("orders", 10)
        await rig.drained()
        redis_server.client.xtrim(key("orders"), maxlen=trim, approximate=False)
        rig.append("orders", 5)
        await rig.drained()

    rows = exec_entries(redis_server.client, "orders")
    assert [int(row["seq"]) for row in rows] == list(range(11 - trim, 16))
    assert exec_entries(redis_server.client, "control") == []


@on_uvloop
@refusals
async def test_waits_while_refused(make_redis: MakeRedis, refuse: Refuse, kind: str) -> None:
    """A Redis that takes no writes: counted, said once a stream, kept, resumed in order."""
    server = make_redis()
    rig = Rig(server.port)
    with capture_logs() as logs:
        async with rig.running():
            rig.append("orders", 3)
            await rig.drained()
            allow = refuse(server)
            rig.append("orders", 40)
            rig.append("fills")
            await until(lambda: rig.count("redis_errors_total", kind=kind) >= 5)
            await until(lambda: rig.publisher.exec.problem is not None)
            problem = rig.publisher.exec.problem
            allow()
            await rig.drained()
            await until(lambda: rig.publisher.problem is None)

    check_exec(rig, server.client)
    assert problem is not None and "exec:orders" in problem
    refused = [log["stream"] for log in logs if log["event"] == "exec.refused"]
    assert len(set(refused)) == len(refused)
    resumed = {log["stream"] for log in logs if log["event"] == "exec.resumed"}
    assert {"exec:orders", "exec:fills"} <= resumed & set(refused)


@on_uvloop
async def test_a_script_without_rights_writes_nothing(make_redis: MakeRedis) -> None:
    """A user who may run scripts but not XADD is refused before anything is written."""
    server = make_redis()
    rig = Rig(server.port)

    async with rig.running():
        server.client.execute_command("ACL", "SETUSER", "default", "-xadd")
        rig.append("orders", 40)
        await until(lambda: rig.publisher.exec.problem is not None)
        assert rig.exec_lane.backlog == 40
        server.client.execute_command("ACL", "SETUSER", "default", "+xadd")
        await rig.drained()

    check_exec(rig, server.client)


@on_uvloop
async def test_a_user_without_scripts_is_told_so(make_redis: MakeRedis) -> None:
    """A user who may XADD but run no script gets no connection, until the right is given."""
    server = make_redis()
    server.client.acl_setuser(
        "bridge", enabled=True, passwords=["+pw"], keys=["*"], commands=["+xadd", "+ping"]
    )
    rig = Rig(Target(port=server.port, username="bridge", password="pw"))

    async with rig.running(connected=False):
        rig.append("orders", 5)
        await until(lambda: rig.count("redis_errors_total", kind="auth") >= 3)
        assert "script" in (rig.publisher.problem or "")
        assert not server.client.exists(key("orders"))
        rights = ("+script", "+evalsha", "+type", "+xinfo", "+hget", "+hmget", "+hset")
        server.client.execute_command("ACL", "SETUSER", "bridge", *rights)
        await rig.drained()

    check_exec(rig, server.client)


@on_uvloop
@pytest.mark.parametrize("wrong", [key("orders"), scripts.mark_key(key("orders"))])
async def test_a_key_of_the_wrong_type_stops_no_other(make_redis: MakeRedis, wrong: str) -> None:
    """Only the stream whose key or mark is something else waits, and resumes without that key."""
    server = make_redis()
    rig = Rig(server.port)
    server.client.set(wrong, "not ours")

    async with rig.running(connected=False):
        for _ in range(40):
            rig.append("orders")
            rig.append("fills")
        await until(lambda: rig.count("exec_published_total", stream="fills") == 40)
        await until(lambda: rig.count("redis_errors_total", kind="wrongtype") >= 3)
        assert rig.publisher.exec.problem == "Redis refuses entries of exec:orders"
        assert rig.publisher.unpublished == {"exec": 40, "market": 0}
        assert server.client.get(wrong) == "not ours"
        server.client.delete(wrong)
        await rig.drained()
        assert rig.publisher.problem is None

    check_exec(rig, server.client)


@on_uvloop
async def test_a_stalled_server_is_waited_for(make_redis: MakeRedis) -> None:
    """A stopped server costs nothing but time; of each stream no more than the cap is in flight."""
    server = make_redis()
    rig = Rig(server.port, exec_in_flight_max=50)

    async with rig.running():
        server.pause()
        rig.append("orders", 100)
        rig.append("fills", 10)
        shipper = rig.publisher.exec
        await until(lambda: shipper.in_flight == 60)
        assert len(shipper.shipments["orders"].in_flight) == 4, "several batches, of 16 and less"
        assert rig.publisher.unpublished["exec"] == 110
        server.resume()
        await rig.drained()

    check_exec(rig, server.client)
    assert rig.count("reconnects_total", lane="exec") == 0


@on_uvloop
async def test_what_a_full_lane_lost_is_told(make_redis: MakeRedis) -> None:
    """Entries beyond `exec.entries_max` are a hole: told in exec:control, and passed."""
    server = make_redis()
    server.kill()
    rig = Rig(server.port, exec_entries_max=5)

    with capture_logs() as logs:
        async with rig.running(connected=False):
            rig.append("orders", 5)
            for _ in range(2):
                with pytest.raises(LaneFull):
                    rig.append("orders")
            server.start()
            await rig.drained()
            rig.append("orders", 3)
            await rig.drained()

    orders = exec_entries(server.client, "orders")
    assert [int(row["seq"]) for row in orders] == [1, 2, 3, 4, 5, 8, 9, 10]
    (told,) = exec_entries(server.client, "control")
    assert (told["cause"], told["reason"]) == ("base", "exec:orders T.0.1 6-7")
    assert rig.count("exec_holes_total") == 2
    assert [log["last"] for log in logs if log["event"] == "exec.hole"] == [7]
