"""The row of the table whose Redis is a primary that Sentinels watch over."""

import contextlib
import time
from typing import Final

import redis

from bridge.controller import Keys
from bridge.core.control import MODE_KEY
from tests.chaos import books
from tests.chaos.checker import Verdict
from tests.chaos.reader_faults import AHEAD_MS, ARCHIVE_BYTES, HASTY
from tests.chaos.rig import KEYS, Rig, TradingDaemon
from tests.chaos.servers import EVERYSEC
from tests.topologies.sentinel import SentinelServers, WatchedServer

ROLE: Final = "demo"
KILL: Final = "SIGKILL of the primary"
COMMAND: Final = "SENTINEL FAILOVER"
STALL: Final = "primary stalled until it is replaced"
TAIL: Final = "promoted without the tail"
CLOCK: Final = "promoted without the tail, its clock 5 s behind"
ALONE: Final = "restarted while no Sentinel runs"


def failed_over(rig: Rig) -> Verdict:
    """The primary fails, and another one takes its place, which may lack what came last."""
    folder = rig.folder / "sentinel"
    folder.mkdir()
    servers = rig.stack.enter_context(SentinelServers(folder, *EVERYSEC))
    rig.server.close()
    rig.server, rig.url = servers, servers.url  # type: ignore[assignment]
    settings = HASTY | {"archive__segment_bytes": str(ARCHIVE_BYTES)}
    daemon = rig.start(**settings).until_running()
    for fault in rig.striking(KILL, COMMAND, STALL, TAIL, CLOCK, ALONE):
        servers.until_whole()
        rig.until_moving(daemon)
        _strike(rig, servers, daemon, fault)
        rig.until_flowing(daemon)
        if rig.chance.random() < 0.5:
            halted(servers, daemon)
    books.until_read(rig)
    rig.finish(daemon)
    return books.verdict(rig)


def halted(servers: SentinelServers, daemon: TradingDaemon) -> float:
    """Halt it, and have it trade again; return the seconds from the SET to closed gates."""
    client, key = servers.client, Keys.of(ROLE).state
    began_ns = time.time_ns()
    client.set(MODE_KEY, "halt")
    daemon.until(lambda: client.hget(key, "state") == "HALTED", "a halt")
    gate_ns = int(str(client.hget(key, "gate_ns")))
    client.set(MODE_KEY, "normal")
    daemon.until(lambda: client.hget(key, "state") == "ACTIVE", "the end of a halt")
    return (gate_ns - began_ns) / 1e9


def _strike(rig: Rig, servers: SentinelServers, daemon: TradingDaemon, fault: str) -> None:
    primary = servers.primary
    if fault in (COMMAND, STALL):
        if fault == COMMAND:
            servers.fail_over()
        else:
            primary.pause()
            servers.until_replaced(primary)
            primary.resume()
        if rig.chance.random() < 0.5:  # else it takes writes until a Sentinel tells it, for long
            primary.follow(servers.primary)
    elif fault == ALONE:
        for sentinel in servers.sentinels:
            sentinel.kill()
        primary.kill()
        rig.wait()
        primary.start()
        rig.until_flowing(daemon)
        for sentinel in servers.sentinels:
            sentinel.start()
    else:
        if fault != KILL:
            servers.part()
            if fault == CLOCK:
                advance(primary)
            length = primary.client.xlen(KEYS["orders"])
            daemon.until(lambda: primary.client.xlen(KEYS["orders"]) > length, "a tail")
        primary.kill()
        servers.until_replaced(primary)
        servers.join()
        servers.start_as_replica(primary)


def advance(server: WatchedServer) -> None:
    """Have its streams go on with the ids of a clock that is ahead of all others."""
    ahead = f"{time.time_ns() // 1_000_000 + AHEAD_MS}-0"
    for key in KEYS.values():
        with contextlib.suppress(redis.exceptions.ResponseError):  # there is no such stream
            server.client.execute_command("XSETID", key, ahead)
