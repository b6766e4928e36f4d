"""The daemon on a Redis with Sentinel: it trades on, halts, and is asked, over a failover.

Lost, doubled and reordered entries are counted by the row `sentinel` of `make chaos`.
"""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from acceptance import fills_redis
from bridge import exits
from bridge.controller import Keys
from bridge.core.control import MODE_KEY
from bridge.embedded_redis import HOST
from tests.acceptance.fills_rig import bare, base, publish
from tests.chaos import sentinel_faults
from tests.chaos.rig import Pace, Rig, TradingDaemon, refused_with
from tests.topologies.sentinel import SentinelServers

ROLE = sentinel_faults.ROLE
STATE = Keys.of(ROLE).state
HALTS = 5
# The bar of `halt_gate` is 5 ms at its p99, on a machine that does nothing else.
HALT_SECONDS_MAX = 0.5


@pytest.fixture(scope="module")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelServers]:
    with SentinelServers(tmp_path_factory.mktemp("sentinel"), "--appendonly", "yes") as servers:
        yield servers


@pytest.fixture
def servers(_shared: SentinelServers) -> SentinelServers:
    """A primary, two replicas, three Sentinels, all of which run; nothing is in them."""
    _shared.join()
    _shared.mend()
    _shared.until_whole()
    _shared.client.flushall()
    return _shared


@pytest.fixture
def rig(servers: SentinelServers, tmp_path: Path) -> Iterator[Rig]:
    """What runs daemons, and compares what they emitted with what is in Redis."""
    rig = Rig("sentinel", tmp_path, seed=8, pace=Pace(strikes=1, seconds=1.0))
    rig.server, rig.url = servers, servers.url  # type: ignore[assignment]
    with rig.stack:
        yield rig


def states(servers: SentinelServers, daemon: TradingDaemon, wanted: str) -> None:
    """Wait until the primary of the moment shows a state."""
    daemon.until(lambda: servers.client.hget(STATE, "state") == wanted, f"the state {wanted}")


def test_a_halt_that_the_next_primary_misses(rig: Rig, servers: SentinelServers) -> None:
    """A halt that was shown holds over a failover to a primary that never heard of it: it is told
    there again, and stays until somebody halts that one and has it trade again."""
    daemon = rig.start().until_running()
    former, latch = servers.primary, Keys.of(ROLE).latch
    servers.part()
    servers.client.set(MODE_KEY, "halt")
    states(servers, daemon, "HALTED")
    halt_id = servers.client.get(latch)

    former.kill()
    servers.until_replaced(former)
    daemon.until(lambda: servers.client.get(latch) == halt_id, "the halt is told there")

    assert servers.client.get(MODE_KEY) is None
    states(servers, daemon, "HALTED")
    servers.client.set(MODE_KEY, "normal")
    daemon.until(lambda: servers.client.hget(STATE, "mode") == "normal", "the mode is seen")
    assert servers.client.hget(STATE, "state") == "HALTED"
    servers.client.set(MODE_KEY, "halt")
    daemon.until(lambda: servers.client.hget(STATE, "mode") == "halt", "the mode is seen")
    servers.client.set(MODE_KEY, "normal")
    states(servers, daemon, "ACTIVE")
    rig.finish(daemon)
    assert rig.verdict().is_clean


def test_a_halt_behind_a_failover(rig: Rig, servers: SentinelServers) -> None:
    """It halts at once where the primary is now; nobody has told the former one yet."""
    daemon = rig.start().until_running()
    servers.fail_over()
    rig.until_flowing(daemon)

    seconds = [sentinel_faults.halted(servers, daemon) for _ in range(HALTS)]

    assert min(seconds) < HALT_SECONDS_MAX, seconds
    rig.finish(daemon)
    assert rig.verdict().is_clean


@pytest.mark.slow
def test_a_halt_at_the_former_primary(rig: Rig, servers: SentinelServers) -> None:
    """Whoever halts there, before a Sentinel has told it, halts; the halt outlives what was set."""
    daemon = rig.start().until_running()
    former = servers.primary
    servers.fail_over()
    daemon.until_logged("redis.connected", lane="control", connects=2)

    former.client.set(MODE_KEY, "halt")
    states(servers, daemon, "HALTED")
    daemon.until_logged("control.former", redis=f"{HOST}:{former.port}")
    daemon.until(lambda: former.is_replica_of(servers.primary), "it is told")

    assert former.client.get(MODE_KEY) is None
    assert servers.client.hget(STATE, "state") == "HALTED"
    rig.finish(daemon)
    assert rig.verdict().is_clean


def test_a_primary_that_is_cut_off(rig: Rig, servers: SentinelServers) -> None:
    """A primary that may not write without replicas, and has none, closes the gates; nothing is
    lost when it has them again."""
    daemon = rig.start(control__link_timeout_seconds="0.5").until_running()
    servers.client.config_set("min-replicas-to-write", 1)
    try:
        rig.until_flowing(daemon)
        servers.part()
        daemon.until_logged("control.state", state="DISABLED", was="ACTIVE", cause="link")
        servers.join()
        daemon.until(lambda: daemon.times_logged("control.state", state="ACTIVE") > 1, "it trades")
        rig.finish(daemon)
    finally:
        for server in servers.servers:
            server.client.config_set("min-replicas-to-write", 0)
    assert rig.verdict().is_clean


@pytest.mark.slow
def test_commands(rig: Rig, servers: SentinelServers) -> None:
    """All that asks Redis does so by the Sentinels, behind a failover, too; a second daemon is
    refused by the lease, which has moved along."""
    daemon = rig.start().until_running()
    rig.until_moving(daemon)
    former = servers.primary
    former.kill()
    servers.until_replaced(former)
    rig.until_flowing(daemon)

    assert f"-p {former.port} " in daemon.out
    assert "demo  ACTIVE" in rig.command("status")
    assert "features:nautilus_shadow_exec is on" in rig.command("flags")
    assert "nothing would lose data" in rig.command("doctor")
    assert "demo is HALTED" in rig.command("halt", "--reason", "a look")
    assert "demo is ACTIVE" in rig.command("resume")
    assert "they agree" in rig.command("audit")
    assert "sentinel_password=***" in rig.command("check-config")
    second = rig.start(state="other")
    refused_with(second.ended(), exits.TAKEN, "is held by another bridge")
    rig.finish(daemon)
    assert rig.verdict().is_clean


def test_the_sentinels_are_away(rig: Rig, servers: SentinelServers) -> None:
    """Without Sentinels the daemon works on; when its primary goes as well, its health says both,
    and it is there again when that one is."""
    daemon = rig.start().until_running()
    rig.until_moving(daemon)
    for sentinel in servers.sentinels:
        sentinel.kill()
    rig.until_flowing(daemon)
    assert daemon.health()[0] == 200

    servers.primary.kill()
    daemon.until(lambda: "no Sentinel names" in daemon.health()[1], "health tells of Sentinels")
    assert f"it was at 127.0.0.1:{servers.primary.port}" in daemon.health()[1]
    servers.primary.start()
    rig.finish(daemon)
    assert rig.verdict().is_clean


def test_no_password_is_told(rig: Rig, servers: SentinelServers) -> None:
    """Neither log nor banner nor health has a password, of Redis or of the Sentinels."""
    daemon = rig.start().until_running()
    servers.primary.kill()
    daemon.until_logged("redis.lost")
    health = json.dumps(daemon.health())
    servers.mend()
    rig.finish(daemon)

    said = [daemon.out, daemon.err, health]
    for text, secret in itertools.product(said, ("of@redis", "of%40redis", "of/sentinel", "of%2F")):
        assert secret not in text


def test_its_fills_for_acceptance(servers: SentinelServers) -> None:
    """`acceptance from-redis` reads the primary that the Sentinels name."""
    fills = base().fills or ()
    publish(servers.client, fills, "shadow:")
    place = fills_redis.address(servers.url, "shadow:")

    assert fills_redis.read(place, tell=str) == bare(*fills)
