"""bridge/market_shipper.py against real faults of Redis: what is missing has been counted."""

from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from bridge.core.lanes import CHUNK_ENTRIES_MAX
from bridge.market_shipper import CHUNKS_PER_TURN_MAX
from tests.proxies import Proxy, Rig, check_market, key, numbers, on_uvloop, until
from tests.refusals import Refuse, refusals, refuse_by_memory
from tests.servers import RedisServer, free_port

type MakeRedis = Callable[..., RedisServer]


@on_uvloop
async def test_entries_arrive(redis_server: RedisServer) -> None:
    """Market events arrive once, in order per stream; the metrics count what stands in Redis."""
    rig = Rig(redis_server.port)

    async with rig.running():
        for number in range(1000):
            rig.quote(("A", number))
            rig.trade(("AB"[number % 2], number // 2))
        await rig.drained()

    assert numbers(redis_server.client, "quotes", "A") == list(range(1000))
    check_market(rig, redis_server.client, {"A": 500, "B": 500})
    for kind in ("quotes", "trades"):
        assert rig.count("market_published_total", kind=kind) == 1000
    assert rig.count("market_backlog") == rig.count("in_flight", lane="market") == 0


@on_uvloop
@refusals
async def test_goes_on_after_a_refusal(make_redis: MakeRedis, refuse: Refuse, kind: str) -> None:
    """What Redis refuses is dropped and counted; what comes later arrives."""
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
    check_market(rig, server.client, {"A": 601})
    dropped = rig.count("market_dropped_total", kind="trades", reason="refused")
    assert dropped == 601 - len(kept) <= rig.count("redis_errors_total", kind=kind)
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
    """A server that became a replica is left: its name may mean another one now."""
    old, new = make_redis(), make_redis()
    async with Proxy(old.port) as proxy:
        rig = Rig(proxy.port)
        async with rig.running():
            old.client.replicaof("127.0.0.1", free_port())
            proxy.upstream_port = new.port
            rig.trade(("A", 0))
            await until(lambda: rig.count("reconnects_total", lane="market") == 1)
            rig.trade(("A", 1))
            await rig.drained()

    assert numbers(new.client, "trades", "A")[-1] == 1


@on_uvloop
async def test_a_stream_of_the_wrong_type_loses_its_own(redis_server: RedisServer) -> None:
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
        for number in range(5000):
            rig.trade(("A", number))
        await until(lambda: rig.publisher.market.in_flight >= 2000)
        assert rig.publisher.market.in_flight < 2000 + CHUNK_ENTRIES_MAX
        assert rig.publisher.unpublished["market"] == 5000
        server.resume()
        await rig.drained()

    assert numbers(server.client, "trades", "A") == list(range(5000))
    assert rig.count("reconnects_total", lane="market") == 0


@on_uvloop
async def test_is_bounded_while_redis_is_away(make_redis: MakeRedis) -> None:
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
    check_market(rig, server.client, {"A": 1000})
    quotes = numbers(server.client, "quotes", "A") + numbers(server.client, "quotes", "B")
    assert {998, 999} <= set(quotes)
    assert rig.count("market_conflated_total", kind="quotes") == 1000 - len(quotes)


@on_uvloop
async def test_killed_clients_come_back(make_redis: MakeRedis) -> None:
    """CLIENT KILL in mid-flow loses nothing that is not counted."""
    server = make_redis()
    rig = Rig(server.port, in_flight_max=256)
    offered = 0

    async with rig.running():
        for round_ in range(5):
            for _ in range(600):
                rig.trade(("A", offered))
                offered += 1
            await until(lambda: rig.publisher.market.in_flight > 0)
            server.client.client_kill_filter(_type="normal", skipme=True)
            await until(lambda n=round_: rig.count("reconnects_total", lane="market") > n)
        await rig.drained()

    check_market(rig, server.client, {"A": offered})
    assert rig.count("market_dropped_total", kind="trades", reason="refused") == 0


@on_uvloop
async def test_goes_again_after_a_lost_reply(redis_server: RedisServer) -> None:
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
    check_market(rig, redis_server.client, {"A": 100})
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
            rig.trade(("A", 1))
            await rig.drained()

    assert numbers(redis_server.client, "trades", "A")[-1] == 1


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
