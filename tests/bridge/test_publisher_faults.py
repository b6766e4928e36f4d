"""bridge/publisher.py: both lanes together, whatever happens to Redis between them.

The law of the exec lane, in every fault: each stream is what was appended, once and in order. The
law of the market lane: what is missing has been counted.
"""

import asyncio
import os
import random
from collections.abc import Callable

import pytest

from bridge.core import scripts
from bridge.core.contract import EXEC_KINDS
from tests.proxies import Proxy, Rig, check_exec, check_market, key, on_uvloop, until
from tests.refusals import REFUSALS
from tests.servers import RedisServer

type MakeRedis = Callable[..., RedisServer]


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
            self._forget,
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

    async def _forget(self) -> None:
        marks = [scripts.mark_key(key(kind)) for kind in EXEC_KINDS]
        self._server.client.delete(self.random.choice(marks))
        self._server.client.script_flush()

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
    """Any sequence of faults: no execution entry lost or doubled, no uncounted market loss."""
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
    check_market(rig, server.client, offered)
