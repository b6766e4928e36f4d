"""bridge/exec_shipper.py over a journal: faults of all kinds at random; SEED repeats a run."""

import asyncio
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.core.scripts import mark_key
from tests.bridge.journal_rig import Gate, JournalRig, Session
from tests.proxies import Proxy, key, on_uvloop, until
from tests.servers import RedisServer

pytestmark = pytest.mark.slow

KINDS = ("orders", "fills", "control")
RANDOM_SECONDS = 10.0


class Storm:
    """Strikes at random, between two batches; `calm` takes back what keeps Redis from being whole.

    The proxy cuts connections; behind it the gate tells when a batch is next. Each season has but a
    few kinds of strikes: one that makes Redis forget all would hide what another one has done.
    """

    def __init__(
        self, chance: random.Random, server: RedisServer, proxy: Proxy, gate: Gate
    ) -> None:
        self.chance = chance
        self.server = server
        self.proxy = proxy
        self.gate = gate
        self.strikes = (
            self.flush, self.delete, self.unmark, self.forget, self.cut, self.cut_reply,
            self.starve, self.hiccup, self.stall, self.kill, self.occupy,
        )  # fmt: skip
        self.season = list(self.strikes)
        self.batches_left = 0
        self.is_short = False
        gate.before_batch = self.on_batch

    def turn(self) -> None:
        """Begin another season."""
        self.season = self.chance.sample(self.strikes, 3)

    def gather(self) -> None:
        """Strike before one of the next batches."""
        self.batches_left = self.chance.randrange(1, 20)

    def on_batch(self, _: int) -> None:
        if self.is_short:
            self.relieve()
        self.batches_left -= 1
        if self.batches_left == 0:
            self.strike()

    def strike(self) -> None:
        """Strike once or twice. A server that has no memory, or is stalled, does nothing more."""
        self.batches_left = 0
        chosen = self.chance.sample(self.season, self.chance.choice((1, 1, 2)))
        last = (self.starve, self.hiccup, self.stall)
        chosen.sort(key=lambda strike: last.index(strike) if strike in last else -1)
        for strike in chosen:
            strike()
        sys.stdout.write(", ".join([strike.__name__ for strike in chosen]) + "\n")

    def calm(self) -> None:
        if self.batches_left > 0:
            self.strike()
        self.server.resume()
        self.relieve()
        client = self.server.client
        for stream in map(key, KINDS):
            if client.exists(f"aside:{stream}"):
                client.rename(f"aside:{stream}", stream)

    @property
    def stream(self) -> str:
        """The stream that the latest batch goes to."""
        return self.gate.stream or key("orders")

    def flush(self) -> None:
        self.server.client.flushall()

    def delete(self) -> None:
        self.server.client.delete(self.stream)

    def unmark(self) -> None:
        self.server.client.delete(mark_key(self.stream))

    def forget(self) -> None:
        self.server.client.script_flush()

    def cut(self) -> None:
        self.proxy.cut()

    def cut_reply(self) -> None:
        self.proxy.cut_next_reply(self.chance.randrange(10))

    def starve(self) -> None:
        self.server.client.config_set("maxmemory", 1)

    def hiccup(self) -> None:
        """Have no memory for one batch: the next one finds some."""
        self.starve()
        self.is_short = True

    def relieve(self) -> None:
        self.is_short = False
        self.server.client.config_set("maxmemory", 0)

    def stall(self) -> None:
        self.server.pause()

    def kill(self) -> None:
        self.server.kill()
        self.server.start()

    def occupy(self) -> None:
        """Put another type in a stream's place; the stream itself comes back by `calm`."""
        stream, client = self.stream, self.server.client
        if client.exists(stream):
            client.rename(stream, f"aside:{stream}")
            client.set(stream, "somebody's")


@on_uvloop
async def test_whatever_strikes(make_redis: Callable[..., RedisServer], tmp_path: Path) -> None:
    """Faults of all kinds, mixed at random, while entries are appended: each is there once."""
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(10**6)))
    sys.stdout.write(f"SEED={seed}\n")
    chance = random.Random(seed)
    server = make_redis("--appendonly", "yes")
    rig = JournalRig(tmp_path, exec={"in_flight_max": 60, "batch_entries_max": 3})
    async with Gate(server.port) as gate, Proxy(gate.port) as proxy:
        storm, loop = Storm(chance, server, proxy, gate), asyncio.get_running_loop()
        ends = loop.time() + RANDOM_SECONDS
        while loop.time() < ends:
            storm.turn()
            async with rig.running(proxy.port, connected=False) as session:
                for _ in range(chance.randrange(5, 25)):
                    await gust(chance, session, storm)
                if chance.random() < 0.7:  # else it ends with something on its way
                    await until_whole(session, server)
                    rig.check(server.client)
        async with rig.running(proxy.port) as session:
            await until_whole(session, server)

    rig.check(server.client)


async def gust(chance: random.Random, session: Session, storm: Storm) -> None:
    """Append for a while, and be struck meanwhile, or at the end of it."""
    storm.gather()
    for _ in range(chance.randrange(1, 5)):
        session.append(chance.choice(KINDS), chance.randrange(1, 40))
        await asyncio.sleep(chance.choice((0, 0, 0.002, 0.02)))
    storm.calm()


async def until_whole(session: Session, server: RedisServer) -> None:
    """Wait until Redis has everything: what an idle stream has lost is only seen at a check."""
    await session.drained()
    appended, client = session.rig.appended, server.client
    await until(lambda: all(client.xlen(key(kind)) >= len(appended[kind]) for kind in KINDS))
    await session.drained()
