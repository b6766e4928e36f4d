"""bridge/shippers.py: both lanes against every fault of Redis that can be had for real.

The law of the exec lane, in every fault: each stream without its repeats is what was appended, in
order. The law of the market lane: what is missing has been counted.
"""

import asyncio
import os
import random
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from bridge.core.contract import EXEC_KINDS
from bridge.core.lanes import CHUNK_ENTRIES_MAX
from bridge.link import Target
from tests.proxies import (
    Proxy,
    Rig,
    check_exec,
    exec_entries,
    key,
    numbers,
    on_uvloop,
    until,
)
from tests.servers import RedisServer, free_port

type MakeRedis = Callable[..., RedisServer]


def refuse_by_memory(server: RedisServer) -> Callable[[], None]:
    server.client.config_set("maxmemory", "1")
    return lambda: server.client.config_set("maxmemory", "0")


def refuse_as_replica(server: RedisServer) -> Callable[[], None]:
    server.client.replicaof("127.0.0.1", free_port())
    return lambda: server.client.replicaof("NO", "ONE")


def refuse_without_replicas(server: RedisServer) -> Callable[[], None]:
    server.client.config_set("min-replicas-to-write", "1")
    return lambda: server.client.config_set("min-replicas-to-write", "0")


def refuse_the_user(server: RedisServer) -> Callable[[], None]:
    server.client.execute_command("ACL", "SETUSER", "default", "-xadd")
    return lambda: server.client.execute_command("ACL", "SETUSER", "default", "+xadd")


REFUSALS = {
    "oom": (refuse_by_memory, "oom"),
    "replica": (refuse_as_replica, "readonly"),
    "no replicas": (refuse_without_replicas, "readonly"),
    "acl": (refuse_the_user, "auth"),
}
refusals = pytest.mark.parametrize(("refuse", "kind"), REFUSALS.values(), ids=REFUSALS)


def repeats(rig: Rig, server: RedisServer, kind: str = "orders") -> int:
    """Return how many entries of an exec stream stand there more than once."""
    return len(exec_entries(server.client, kind)) - len(rig.appended[kind])


def check_market(rig: Rig, server: RedisServer, offered: dict[str, int]) -> None:
    """`offered` numbers, from 0, of trades of each symbol: what is missing has been counted."""
    missing = sum(
        len(set(range(count)) - set(numbers(server.client, "trades", symbol)))
        for symbol, count in offered.items()
    )
    counted = sum(
        rig.count("market_dropped_total", kind="trades", reason=reason)
        for reason in ("full", "refused", "wrongtype")
    )
    assert missing <= counted, f"{missing - counted} trades are missing and were not counted"
    assert rig.count("events_processed_total", type="trade") == sum(offered.values())


@on_uvloop
async def test_exec_entries_arrive(redis_server: RedisServer) -> None:
    """Entries of all streams arrive once, in order; the metrics count what stands in Redis."""
    rig = Rig(redis_server.port)
    for _ in range(50):
        for kind in EXEC_KINDS:
            rig.append(kind)

    async with rig.running():
        await rig.drained()

    check_exec(rig, redis_server.client)
    for kind in EXEC_KINDS:
        assert repeats(rig, redis_server, kind) == 0
        assert rig.count("exec_published_total", stream=kind) == 50
    assert rig.count("orders_published_total") == rig.count("fills_published_total") == 50
    assert rig.count("exec_backlog") == rig.count("in_flight", lane="exec") == 0
    assert rig.count("publish_latency_seconds_count", lane="exec") == 5 * -(-50 // 16)


@on_uvloop
async def test_market_entries_arrive(redis_server: RedisServer) -> None:
    """Market events arrive once, in order per stream; the metrics count what stands in Redis."""
    rig = Rig(redis_server.port)

    async with rig.running():
        for number in range(1000):
            rig.quote(("A", number))
            rig.trade(("AB"[number % 2], number // 2))
        await rig.drained()

    assert numbers(redis_server.client, "quotes", "A") == list(range(1000))
    check_market(rig, redis_server, {"A": 500, "B": 500})
    for kind in ("quotes", "trades"):
        assert rig.count("market_published_total", kind=kind) == 1000
    assert rig.count("market_backlog") == rig.count("in_flight", lane="market") == 0


@on_uvloop
@refusals
async def test_exec_waits_while_refused(
    make_redis: MakeRedis, refuse: Callable[[RedisServer], Callable[[], None]], kind: str
) -> None:
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
            assert rig.publisher.problem is None or kind == "readonly"

    check_exec(rig, server.client)
    assert problem is not None and "exec:orders" in problem
    refused = sorted(log["stream"] for log in logs if log["event"] == "exec.refused")
    assert refused == ["exec:fills", "exec:orders"]
    assert [log["event"] for log in logs].count("exec.resumed") == 2
    assert repeats(rig, server) == repeats(rig, server, "fills") == 0


@on_uvloop
@refusals
async def test_market_goes_on_after_a_refusal(
    make_redis: MakeRedis, refuse: Callable[[RedisServer], Callable[[], None]], kind: str
) -> None:
    """What Redis refuses of the market lane is dropped and counted; what comes later arrives."""
    server = make_redis()
    rig = Rig(server.port, in_flight_max=256)
    with capture_logs() as logs:
        async with rig.running():
            allow = refuse(server)
            for number in range(600):
                rig.trade(("A", number))
            await until(lambda: rig.count("redis_errors_total", kind=kind) >= 256)
            allow()
            await rig.drained()
            rig.trade(("A", 600))
            await rig.drained()

    kept = numbers(server.client, "trades", "A")
    assert kept == sorted(kept) and kept[-1] == 600
    check_market(rig, server, {"A": 601})
    dropped = rig.count("market_dropped_total", kind="trades", reason="refused")
    assert dropped == rig.count("redis_errors_total", kind=kind) == 601 - len(kept)
    assert rig.count("market_published_total", kind="trades") == len(kept)
    assert [log["event"] for log in logs if "market." in log["event"]] == [
        "market.refused",
        "market.resumed",
    ]


@on_uvloop
async def test_every_refusal_is_said_anew(make_redis: MakeRedis) -> None:
    """A second time without memory is said like the first: they are two changes of state."""
    server = make_redis()
    rig = Rig(server.port)
    with capture_logs() as logs:
        async with rig.running():
            for _ in range(2):
                allow = refuse_by_memory(server)
                rig.trade(("A", 0))
                await rig.drained()
                allow()
                rig.trade(("A", 1))
                await rig.drained()

    assert [log["event"] for log in logs if "market." in log["event"]] == [
        "market.refused",
        "market.resumed",
    ] * 2


@on_uvloop
async def test_readonly_leads_to_the_new_primary(make_redis: MakeRedis) -> None:
    """A server that became a replica is left on both lanes: its name may mean another one now."""
    old, new = make_redis(), make_redis()
    async with Proxy(old.port) as proxy:
        rig = Rig(proxy.port)
        async with rig.running():
            rig.append("orders", 5)
            await rig.drained()
            old.client.replicaof("127.0.0.1", free_port())
            proxy.upstream_port = new.port
            rig.append("orders", 5)
            rig.trade(("A", 0))
            await until(lambda: rig.exec_lane.backlog == 0)
            await until(lambda: rig.count("reconnects_total", lane="market") == 1)
            rig.trade(("A", 1))
            await rig.drained()

    assert [row["seq"] for row in exec_entries(new.client, "orders")] == ["6", "7", "8", "9", "10"]
    assert numbers(new.client, "trades", "A")[-1] == 1


@on_uvloop
async def test_a_stream_of_the_wrong_type_stops_no_other(make_redis: MakeRedis) -> None:
    """Only the stream whose key is something else waits, and resumes in order without that key."""
    server = make_redis()
    rig = Rig(server.port)
    server.client.set(key("orders"), "not a stream")

    async with rig.running():
        for _ in range(40):
            rig.append("orders")
            rig.append("fills")
        await until(lambda: rig.count("exec_published_total", stream="fills") == 40)
        await until(lambda: rig.count("redis_errors_total", kind="wrongtype") >= 3)
        assert rig.publisher.problem == "Redis refuses entries of exec:orders"
        assert rig.publisher.unpublished == {"exec": 40, "market": 0}
        server.client.delete(key("orders"))
        await rig.drained()
        assert rig.publisher.problem is None

    check_exec(rig, server.client)
    assert repeats(rig, server) == 0


@on_uvloop
async def test_a_market_stream_of_the_wrong_type_loses_its_own(redis_server: RedisServer) -> None:
    """Entries of such a stream are dropped, counted as `wrongtype`, said once; others arrive."""
    rig = Rig(redis_server.port)
    redis_server.client.set(key("trades", "A"), "not a stream")

    with capture_logs() as logs:
        async with rig.running():
            for number in range(300):
                rig.trade(("A", number))
                rig.trade(("B", number))
            await rig.drained()

    assert numbers(redis_server.client, "trades", "B") == list(range(300))
    assert rig.count("market_dropped_total", kind="trades", reason="wrongtype") == 300
    assert rig.count("market_published_total", kind="trades") == 300
    said = [log["stream"] for log in logs if log["event"] == "market.refused"]
    assert said == [key("trades", "A")]


@on_uvloop
async def test_a_stalled_server_is_waited_for(make_redis: MakeRedis) -> None:
    """A stopped server costs nothing but time, and no more than the cap is in flight."""
    server = make_redis()
    rig = Rig(server.port, in_flight_max=2000)

    async with rig.running():
        server.pause()
        rig.append("orders", 100)
        for number in range(5000):
            rig.trade(("A", number))
        await until(lambda: rig.publisher.market.in_flight >= 2000)
        await until(lambda: rig.exec_lane.in_flight > 0)
        assert rig.publisher.market.in_flight < 2000 + CHUNK_ENTRIES_MAX
        assert rig.exec_lane.in_flight <= 16
        assert rig.publisher.unpublished == {"exec": 100, "market": 5000}
        server.resume()
        await rig.drained()

    check_exec(rig, server.client)
    assert numbers(server.client, "trades", "A") == list(range(5000))
    assert rig.count("reconnects_total", lane="exec") == repeats(rig, server) == 0


@on_uvloop
async def test_market_is_bounded_while_redis_is_away(make_redis: MakeRedis) -> None:
    """An outage conflates quotes and drops old trades, all counted; the latest arrive."""
    server = make_redis()
    server.kill()
    rig = Rig(server.port, market_entries_max=100)

    async with rig.running(connected=False):
        for number in range(1000):
            rig.quote(("AB"[number % 2], number))
            rig.trade(("A", number))
        assert rig.publisher.unpublished["market"] <= 2 * 101
        server.start()
        await rig.drained()

    kept = numbers(server.client, "trades", "A")
    assert kept == list(range(1000 - len(kept), 1000))
    check_market(rig, server, {"A": 1000})
    quotes = numbers(server.client, "quotes", "A") + numbers(server.client, "quotes", "B")
    assert {998, 999} <= set(quotes)
    assert rig.count("market_conflated_total", kind="quotes") == 1000 - len(quotes)


@on_uvloop
async def test_killed_clients_come_back(make_redis: MakeRedis) -> None:
    """CLIENT KILL in mid-flow loses and reorders nothing."""
    server = make_redis()
    rig = Rig(server.port, in_flight_max=256)
    offered = 0

    async with rig.running():
        for round_ in range(5):
            rig.append("orders", 50)
            for _ in range(600):
                rig.trade(("A", offered))
                offered += 1
            await until(lambda: rig.publisher.market.in_flight > 0)
            server.client.client_kill_filter(_type="normal", skipme=True)
            await until(lambda n=round_: rig.count("reconnects_total", lane="market") > n)
        await rig.drained()

    check_exec(rig, server.client)
    check_market(rig, server, {"A": offered})
    assert rig.count("market_dropped_total", kind="trades", reason="refused") == 0


@on_uvloop
async def test_a_killed_server_comes_back(make_redis: MakeRedis) -> None:
    """SIGKILL and restart of a server that keeps what it confirms: nothing is lost."""
    server = make_redis("--appendonly", "yes", "--appendfsync", "always")
    rig = Rig(server.port)

    async with rig.running():
        for round_ in range(3):
            rig.append("orders", 200)
            rig.append("fills", 30)
            await until(
                lambda n=round_: rig.count("exec_published_total", stream="orders") > 200 * n
            )
            server.kill()
            rig.append("orders", 10)
            await until(lambda: rig.publisher.problem is not None)
            server.start()
        await rig.drained()

    check_exec(rig, server.client)
    assert rig.count("exec_published_total", stream="orders") == 630


@on_uvloop
@pytest.mark.parametrize("count", [1, 10])
@pytest.mark.parametrize("after", [0, 1, 6, 30])
async def test_a_lost_reply_repeats(redis_server: RedisServer, count: int, after: int) -> None:
    """Written but not confirmed goes again: entries stand twice with equal numbers, in order."""
    async with Proxy(redis_server.port) as proxy:
        rig = Rig(proxy.port)
        async with rig.running():
            proxy.cut_next_reply(after if count > 1 else min(after, 5))
            rig.append("orders", count)
            await until(lambda: not proxy.is_armed)
            rig.append("orders", 3)
            await rig.drained()

    check_exec(rig, redis_server.client)
    assert repeats(rig, redis_server) == count
    assert rig.count("reconnects_total", lane="exec") == 1
    assert rig.count("exec_published_total", stream="orders") == count + 3


@on_uvloop
async def test_market_goes_again_after_a_lost_reply(redis_server: RedisServer) -> None:
    """Confirmed entries of a chunk do not go again, the others do, each event is counted once."""
    async with Proxy(redis_server.port) as proxy:
        rig = Rig(proxy.port)
        async with rig.running():
            proxy.cut_next_reply(after=10 * len("$15\r\n1700000000000-0\r\n") + 7)
            for number in range(100):
                rig.trade(("A", number))
            await until(lambda: not proxy.is_armed)
            await rig.drained()

    assert numbers(redis_server.client, "trades", "A") == [*range(100), *range(10, 100)]
    check_market(rig, redis_server, {"A": 100})
    assert rig.count("market_published_total", kind="trades") == 100


@on_uvloop
@pytest.mark.parametrize("garbage", [b"?\r\n", b"+OK\r\n" * 50])
async def test_garbage_costs_a_connection(redis_server: RedisServer, garbage: bytes) -> None:
    """Answers that make no sense, or that nobody asked for, cost a connection and nothing else."""
    async with Proxy(redis_server.port) as proxy:
        rig = Rig(proxy.port)
        async with rig.running():
            proxy.garble_next_reply(garbage)
            rig.trade(("A", 0))
            await until(lambda: rig.count("redis_errors_total", kind="protocol") == 1)
            rig.append("orders", 2)
            rig.trade(("A", 1))
            await rig.drained()

    check_exec(rig, redis_server.client)
    assert numbers(redis_server.client, "trades", "A")[-1] == 1


@on_uvloop
async def test_exec_does_not_wait_behind_a_flood(redis_server: RedisServer) -> None:
    """An order appended behind thousands of trades is confirmed while they still wait."""
    rig = Rig(redis_server.port, in_flight_max=256)

    async with rig.running():
        for number in range(15_000):
            rig.trade(("A", number))
        rig.append("orders")
        await until(lambda: rig.exec_lane.backlog == 0)

        assert rig.publisher.unpublished["market"] > 10_000
        await rig.drained()


@on_uvloop
async def test_a_user_without_multi_writes_nothing_twice(make_redis: MakeRedis) -> None:
    """A user who may XADD but not MULTI is refused as a whole: no batch is added at each retry."""
    server = make_redis()
    server.client.acl_setuser(
        "bridge",
        enabled=True,
        passwords=["+pw"],
        keys=["*"],
        commands=["+xadd", "+ping"],
    )
    rig = Rig(Target(port=server.port, username="bridge", password="pw"))

    async with rig.running(connected=False):
        rig.append("orders", 5)
        await until(lambda: rig.count("redis_errors_total", kind="auth") >= 3)
        assert "multi" in (rig.publisher.problem or "")
        server.client.execute_command("ACL", "SETUSER", "bridge", "+multi", "+exec")
        await rig.drained()

    check_exec(rig, server.client)
    assert repeats(rig, server) == 0


class Chaos:
    """Random faults over one server behind one proxy; heals what it broke."""

    def __init__(self, seed: int, server: RedisServer, proxy: Proxy) -> None:
        self.random = random.Random(seed)
        self._server = server
        self._proxy = proxy

    async def strike(self) -> None:
        """Break something for a while."""
        faults = (
            self._cut,
            self._lose,
            self._kill_clients,
            self._restart,
            self._stall,
            self._refuse,
        )
        await self.random.choice(faults)()

    async def linger(self) -> None:
        """Let the loop turn a random number of times."""
        for _ in range(self.random.randrange(40)):
            await asyncio.sleep(0)

    async def _cut(self) -> None:
        self._proxy.cut()

    async def _lose(self) -> None:
        self._proxy.cut_next_reply(self.random.randrange(200))

    async def _kill_clients(self) -> None:
        self._server.client.client_kill_filter(_type="normal", skipme=True)

    async def _restart(self) -> None:
        self._server.kill()
        await self.linger()
        self._server.start()

    async def _stall(self) -> None:
        self._server.pause()
        await self.linger()
        self._server.resume()

    async def _refuse(self) -> None:
        refuse, _ = self.random.choice(list(REFUSALS.values()))
        allow = refuse(self._server)
        await self.linger()
        allow()


@pytest.mark.parametrize("round_", range(3))
@on_uvloop
async def test_laws_hold_in_chaos(make_redis: MakeRedis, round_: int) -> None:
    """Any sequence of faults: no execution entry lost or out of order, no uncounted market loss."""
    seed = int(os.environ.get("CHAOS_SEED", random.randrange(2**32)))
    print(f"CHAOS_SEED={seed}")  # noqa: T201 - shown when the test fails
    server = make_redis("--appendonly", "yes", "--appendfsync", "always")
    async with Proxy(server.port) as proxy:
        chaos = Chaos(seed, server, proxy)
        rig = Rig(proxy.port, in_flight_max=300, batch_entries_max=chaos.random.choice([1, 7, 100]))
        offered = dict.fromkeys("ABC", 0)
        async with rig.running():
            for _ in range(15):
                for _ in range(chaos.random.randrange(60)):
                    rig.append(chaos.random.choice(EXEC_KINDS))
                    symbol = chaos.random.choice("ABC")
                    rig.trade((symbol, offered[symbol]))
                    offered[symbol] += 1
                await chaos.linger()
                await chaos.strike()
            await rig.drained()

    check_exec(rig, server.client)
    check_market(rig, server, offered)
