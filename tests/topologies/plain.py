"""One redis-server as people run it: with a password, on a unix socket, with a database of one's
own; and what is asked of the bridge on every such server."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import redis

from bridge.controller import Keys
from bridge.core.control import MODE_KEY
from bridge.embedded_redis import find_redis_server
from tests.chaos.checker import Verdict
from tests.chaos.rig import Pace, Rig, TradingDaemon
from tests.chaos.servers import EVERYSEC, ChaosServer
from tests.servers import server_or_exit

PASSWORD = "it's a #secret@home/1"
PASSWORD_QUOTED = "it%27s%20a%20%23secret%40home%2F1"
DATABASE = 5
HALTS = 5
ROLE = "demo"

type Make = Callable[[Path], ChaosServer]


def binary() -> Path:
    """Return the redis-server of the tests."""
    return server_or_exit(find_redis_server())


def with_password(folder: Path) -> ChaosServer:
    """A server that wants a password, with characters that a URL has to quote."""
    return Secret(binary(), folder, *EVERYSEC, "--requirepass", PASSWORD)


def on_a_socket(folder: Path) -> ChaosServer:
    """A server that the bridge reaches by a unix socket."""
    path = str(folder / "redis.sock")
    return OnSocket(binary(), folder, *EVERYSEC, "--unixsocket", path, "--unixsocketperm", "700")


def with_a_database(folder: Path) -> ChaosServer:
    """A server in which the bridge has a database of its own."""
    return Numbered(binary(), folder, *EVERYSEC)


class Secret(ChaosServer):
    """Its URL holds the password."""

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD_QUOTED}@127.0.0.1:{self.port}/0"


class OnSocket(ChaosServer):
    """Its URL is the path of a socket."""

    @property
    def url(self) -> str:
        return f"unix://{self.folder}/redis.sock?db=0"


class Numbered(ChaosServer):
    """Its URL, and the clients of the tests, are of one database."""

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/{DATABASE}"

    def new_client(self, **options: Any) -> redis.Redis:
        """As of any server, in that database."""
        return super().new_client(**{"db": DATABASE, **options})


class PlacedRig(Rig):
    """A rig whose server is the one that `make` returns."""

    def __init__(self, make: Make, folder: Path, *, seed: int) -> None:
        super().__init__(make.__name__, folder, seed=seed, pace=Pace(strikes=1, seconds=1.5))
        self.server = make(folder / "redis")


class Struck(NamedTuple):
    """What came of a run: the comparison, how long halts took until they were shown, and how often
    the daemon said that Redis refuses something."""

    verdict: Verdict
    halt_seconds: float
    refusals: int


def strike(make: Make, folder: Path, *, seed: int) -> Struck:
    """Kill the server under the daemon, then the daemon; halt it; compare all that was emitted."""
    with PlacedRig(make, folder, seed=seed) as rig:
        daemon = rig.start().until_running()
        rig.until_moving(daemon)
        rig.server.kill()
        rig.wait()
        rig.server.start()
        rig.until_flowing(daemon)
        rig.kill(daemon)
        daemon = rig.start().until_running()
        rig.until_moving(daemon)
        halt_seconds = statistics.median([_halted(rig, daemon) for _ in range(HALTS)])
        rig.finish(daemon)
        refusals = daemon.err.count("NOPERM") + daemon.err.count("no permissions")
        return Struck(rig.verdict(), halt_seconds, refusals)


def _halted(rig: PlacedRig, daemon: TradingDaemon) -> float:
    """Return how long after a SET of `mode` the gates were closed; have them opened again."""
    client, key = rig.server.client, Keys.of(ROLE).state
    began_ns = time.time_ns()
    client.set(MODE_KEY, "halt")
    daemon.until(lambda: client.hget(key, "state") == "HALTED", "a halt")
    gate_ns = int(str(client.hget(key, "gate_ns")))
    client.set(MODE_KEY, "normal")
    daemon.until(lambda: client.hget(key, "state") == "ACTIVE", "the end of a halt")
    return (gate_ns - began_ns) / 1e9
