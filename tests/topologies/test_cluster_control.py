"""bridge/watcher.py over a real Cluster: flags, mode and limits lie on different nodes."""

from pathlib import Path

import pytest

from bridge.core.control import MODE_KEY, State
from bridge.core.slots import slot_of
from tests.bridge.watching import FLAG, LATCH, QUICK, QUIET, Rig
from tests.proxies import on_uvloop, until
from tests.topologies.cluster import ClusterServers

ACTIVE, DISABLED, HALTED = State.ACTIVE, State.DISABLED, State.HALTED
LIMIT = "risk:max_position"


@pytest.fixture
def servers(cluster: ClusterServers) -> ClusterServers:
    """A Cluster that lets trade; each of these keys lies on another node."""
    cluster.client.set(FLAG, "1")
    cluster.client.set(MODE_KEY, "normal")
    cluster.client.set(LIMIT, "100")
    nodes = {cluster.primary_of(key) for key in (FLAG, MODE_KEY, LIMIT)}
    assert len(nodes) == 3
    for node in nodes:
        node.ask("WAIT", 1, 0)  # its replica has it, too
    return cluster


@on_uvloop
async def test_changes_on_every_node_are_pushed(
    servers: ClusterServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit, a flag and a halt, each on another node: seen by its push, with no poll in time."""
    monkeypatch.setattr("bridge.watcher.BEAT_SECONDS", 60)
    rig = Rig(servers, tmp_path, QUIET)
    async with rig.watching():
        assert rig.watcher.via == "tracking"
        await rig.until(ACTIVE)
        servers.client.set(LIMIT, "77")
        await until(lambda: str(rig.desk.limits[-1].max_position) == "77")
        servers.client.set(FLAG, "0")
        await rig.until(DISABLED)
        servers.client.set(FLAG, "1")
        await rig.until(ACTIVE)
        await rig.halted()
        servers.client.set(MODE_KEY, "normal")
        await rig.until(ACTIVE)


@on_uvloop
async def test_where_nothing_is_pushed(servers: ClusterServers, tmp_path: Path) -> None:
    """A user who may not track polls every 10 ms: some nodes may tell events, and others not."""
    for node in servers.nodes:
        node.ask("CONFIG", "SET", "notify-keyspace-events", "KEA")
        node.ask("ACL", "SETUSER", "u", "on", ">p", "~*", "&*", "+@all", "-client|tracking")
    rig = Rig(servers, tmp_path, QUIET, url=servers.url.replace(":pw@", "u:p@"))
    try:
        async with rig.watching():
            assert rig.watcher.via == "poll"
            await rig.until(ACTIVE)
            await rig.halted()
    finally:
        for node in servers.nodes:
            node.ask("ACL", "DELUSER", "u")
            node.ask("CONFIG", "SET", "notify-keyspace-events", "")


@pytest.mark.parametrize("key", [FLAG, MODE_KEY, LIMIT])
@on_uvloop
async def test_one_node_away(servers: ClusterServers, tmp_path: Path, key: str) -> None:
    """Whichever node is silent, the gates close behind the timeout; they open when it is back."""
    rig, node = Rig(servers, tmp_path, QUICK), servers.primary_of(key)
    async with rig.watching():
        await rig.until(ACTIVE)
        node.pause()
        await until(lambda: rig.state is DISABLED)
        assert "no write accepted by Redis for 0.3 s" in rig.controller.decision.reason
        node.resume()
        await rig.until(ACTIVE)


@on_uvloop
async def test_a_killed_node_is_replaced(servers: ClusterServers, tmp_path: Path) -> None:
    """The node of the mode dies: closed behind the timeout, open again over its replica; the halt
    that is set there then is pushed."""
    rig, node = Rig(servers, tmp_path, QUICK), servers.primary_of(MODE_KEY)
    async with rig.watching():
        await rig.until(ACTIVE)
        node.kill()
        await until(lambda: rig.state is DISABLED)
        await until(lambda: rig.state is ACTIVE)
        assert servers.primary_of(MODE_KEY) is not node
        await rig.halted()


@on_uvloop
async def test_a_halt_that_a_failover_forgets(servers: ClusterServers, tmp_path: Path) -> None:
    """A halt that was shown holds when the node of `mode` fails over to a replica that never heard
    of it, wherever other keys of the halt would lie: it is told there again."""
    slot = slot_of(LATCH.encode())
    primary = servers.primary_of(MODE_KEY)
    with servers.migrating(slot, servers.primary_of(LATCH), servers.other_than(primary)):
        pass
    rig = Rig(servers, tmp_path, QUICK)
    async with rig.watching():
        await rig.until(ACTIVE)
        replica = servers.part(primary)
        halt_id = await rig.halted()
        await until(lambda: rig.kept.is_sighted)
        primary.kill()
        await until(lambda: servers.primary_of(MODE_KEY) is replica)
        await until(lambda: replica.client.get(rig.keys.latch) == halt_id)
        assert servers.client.get(MODE_KEY) == "normal"
        await rig.until(HALTED)
    with servers.migrating(slot, servers.primary_of(LATCH), replica):
        pass


@on_uvloop
async def test_the_slot_of_the_mode_moves(
    servers: ClusterServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A halt on the node to which the key has moved is heard there, and read there."""
    monkeypatch.setattr("bridge.watcher.BEAT_SECONDS", 60)
    rig, slot = Rig(servers, tmp_path, QUIET), slot_of(MODE_KEY.encode())
    source = servers.primary_of(MODE_KEY)
    to = servers.other_than(source)
    async with rig.watching():
        await rig.until(ACTIVE)
        with servers.migrating(slot, source, to):
            servers.move(MODE_KEY, source, to)
        await rig.halted()
    with servers.migrating(slot, to, source):
        pass
