"""The row of the table whose market data go to a Redis of their own, which fails."""

import time

import redis

from bridge.core.contract import MARKET_KINDS
from bridge.embedded_redis import find_redis_server
from tests.chaos import books
from tests.chaos.checker import Verdict
from tests.chaos.reader_faults import ARCHIVE_BYTES, HASTY
from tests.chaos.rig import NAMES, PREFIX, Rig, TradingDaemon
from tests.chaos.sentinel_faults import halted
from tests.chaos.servers import ChaosServer
from tests.servers import server_or_exit

KILLED, STALLED, REFUSES, FULL = FAULTS = (
    "SIGKILL of the market data's Redis",
    "it stalls",
    "it has another password",
    "it is full",
)
PASSWORD = "s3cret"
# From the SET to closed gates, with executions and the checker on the same two CPUs.
HALT_SECONDS_MAX = 5.0


def market_struck(rig: Rig) -> Verdict:
    """Whatever happens to it, executions go on, a halt takes hold, and the books are right."""
    folder = rig.folder / "market"
    folder.mkdir()
    binary = server_or_exit(find_redis_server())
    market = ChaosServer(binary, folder, "--requirepass", PASSWORD)
    rig.stack.callback(market.close)
    market.start()
    given = HASTY | {"archive__segment_bytes": str(ARCHIVE_BYTES)}
    given |= {"redis__reply_timeout_seconds": "2"}
    daemon = rig.start(redis__market_url=market.url, **given).until_running()
    for fault in rig.striking(*FAULTS):
        until_published(daemon, market)
        _break(market, fault)
        rig.wait(0, rig.pace.seconds)
        rig.until_flowing(daemon)
        assert daemon.health()[0] == 200, daemon.health()
        seconds = halted(rig.server, daemon)
        assert seconds < HALT_SECONDS_MAX, f"{fault}: a halt took {seconds:.1f} s"
        _repair(market, fault)
    until_published(daemon, market)
    assert not [*rig.server.client.scan_iter(f"{PREFIX}market.*", count=1000)]
    books.until_read(rig)
    rig.finish(daemon)
    return books.verdict(rig)


def until_published(daemon: TradingDaemon, market: ChaosServer) -> None:
    """Wait for market data of now."""
    keys = [NAMES.prefix + NAMES.templates[kind].partition("{")[0] for kind in MARKET_KINDS]
    since_ms = time.time_ns() // 1_000_000

    def flows() -> bool:
        try:
            found = [*market.client.scan_iter(f"{PREFIX}market.*", count=1000)]
            last = [market.client.xrevrange(key, count=1) for key in found]
        except redis.RedisError:
            return False
        assert all(key.startswith(tuple(keys)) for key in found), found
        return any(int(entry[0][0].partition("-")[0]) > since_ms for entry in last if entry)

    daemon.until(flows, "market data")


def _break(market: ChaosServer, fault: str) -> None:
    if fault == KILLED:
        market.kill()
    elif fault == STALLED:
        market.pause()
    elif fault == REFUSES:
        market.client.config_set("requirepass", "another")
        market.client.client_kill_filter(_type="normal", skipme=True)
    else:
        market.client.config_set("maxmemory", 1)


def _repair(market: ChaosServer, fault: str) -> None:
    if fault == KILLED:
        market.start()
    elif fault == STALLED:
        market.resume()
    elif fault == REFUSES:
        market.client.config_set("requirepass", PASSWORD)
    else:
        market.client.config_set("maxmemory", 0)
