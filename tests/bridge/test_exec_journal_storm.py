"""bridge/exec_shipper.py over a journal: faults of all kinds at random; SEED repeats a run."""

import asyncio
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

from bridge.core.scripts import mark_key
from tests.bridge.journal_rig import JournalRig, Session
from tests.proxies import Proxy, exec_entries, key, on_uvloop, until
from tests.servers import RedisServer

KINDS = ("orders", "fills", "control")
RANDOM_SECONDS = 10.0


class Storm:
    """Strikes at random; `calm` takes back whatever would keep Redis from being whole."""

    def __init__(self, chance: random.Random, server: RedisServer, proxy: Proxy) -> None:
        self.chance = chance
        self.server = server
        self.proxy = proxy
        self.strikes = (
            self.flush, self.delete, self.unmark, self.forget, self.cut, self.cut_reply,
            self.starve, self.stall, self.kill, self.occupy,
        )  # fmt: skip

    def strike(self) -> str:
        """Strike once or twice; return by what. A stalled server answers nothing more."""
        chosen = self.chance.sample(self.strikes, self.chance.choice((1, 1, 2)))
        chosen.sort(key=lambda strike: (strike == self.starve) + 2 * (strike == self.stall))
        for strike in chosen:
            strike()
        return ", ".join([strike.__name__ for strike in chosen])

    def calm(self) -> None:
        self.server.resume()
        client = self.server.client
        client.config_set("maxmemory", 0)
        for kind in KINDS:
            if client.exists(f"aside:{kind}"):
                client.rename(f"aside:{kind}", key(kind))

    def flush(self) -> None:
        self.server.client.flushall()

    def delete(self) -> None:
        self.server.client.delete(key(self.chance.choice(KINDS)))

    def unmark(self) -> None:
        self.server.client.delete(mark_key(key(self.chance.choice(KINDS))))

    def forget(self) -> None:
        self.server.client.script_flush()

    def cut(self) -> None:
        self.proxy.cut()

    def cut_reply(self) -> None:
        self.proxy.cut_next_reply(self.chance.randrange(10))

    def starve(self) -> None:
        self.server.client.config_set("maxmemory", 1)

    def stall(self) -> None:
        self.server.pause()

    def kill(self) -> None:
        self.server.kill()
        self.server.start()

    def occupy(self) -> None:
        """Put another type in a stream's place; the stream itself comes back by `calm`."""
        kind, client = self.chance.choice(KINDS), self.server.client
        if client.exists(key(kind)):
            client.rename(key(kind), f"aside:{kind}")
            client.set(key(kind), "somebody's")


@on_uvloop
async def test_whatever_strikes(make_redis: Callable[..., RedisServer], tmp_path: Path) -> None:
    """Faults of all kinds, mixed at random, while entries are appended: each is there once."""
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(10**6)))
    sys.stdout.write(f"SEED={seed}\n")
    chance = random.Random(seed)
    server = make_redis("--appendonly", "yes")
    rig = JournalRig(tmp_path, exec={"in_flight_max": 64, "batch_entries_max": 10})
    async with Proxy(server.port) as proxy:
        storm, loop = Storm(chance, server, proxy), asyncio.get_running_loop()
        ends = loop.time() + RANDOM_SECONDS
        while loop.time() < ends:
            async with rig.running(proxy.port, connected=False) as session:
                for _ in range(chance.randrange(1, 12)):
                    await gust(chance, session, storm)
        async with rig.running(proxy.port) as session:
            await session.drained()
            await until(lambda: not missing(rig, server))

    rig.check(server.client)


async def gust(chance: random.Random, session: Session, storm: Storm) -> None:
    """Append a while, strike in the middle of it, calm down again."""
    for _ in range(chance.randrange(1, 6)):
        session.append(chance.choice(KINDS), chance.randrange(1, 60))
        await asyncio.sleep(chance.choice((0, 0, 0.002, 0.02)))
    sys.stdout.write(f"{storm.strike()}\n")
    for _ in range(chance.randrange(1, 6)):
        session.append(chance.choice(KINDS), chance.randrange(1, 30))
        await asyncio.sleep(chance.choice((0, 0.002, 0.1)))
    storm.calm()


def missing(rig: JournalRig, server: RedisServer) -> bool:
    """Whether something that was appended is not in Redis: an idle stream is looked at later."""
    return any(len(exec_entries(server.client, kind)) < len(rig.appended[kind]) for kind in KINDS)
