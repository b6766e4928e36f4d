"""bridge/watcher.py while a Cluster moves slots, and where a node of it was replaced unseen."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge import endpoints
from bridge.controller import Keys
from bridge.core.control import MODE_KEY, State
from bridge.core.slots import slot_of
from tests.bridge.links import Owner
from tests.bridge.watching import FLAG, HALT, QUICK, QUIET, Rig
from tests.proxies import on_uvloop, until
from tests.topologies.cluster import ClusterServers

ACTIVE, REDUCING, DISABLED, HALTED = State.ACTIVE, State.REDUCING, State.DISABLED, State.HALTED
LIMIT, UNSET = "risk:max_position", "risk:max_order_rate"


@pytest.fixture
def servers(cluster: ClusterServers) -> ClusterServers:
    """A Cluster that lets trade."""
    cluster.client.set(FLAG, "1")
    cluster.client.set(MODE_KEY, "normal")
    cluster.client.set(LIMIT, "77")
    return cluster


@contextlib.contextmanager
def moving(servers: ClusterServers, key: str, *, moves: bool = True) -> Iterator[None]:
    """Move the slot of a key, the key before the body; then all of it back again."""
    source, slot = servers.primary_of(key), slot_of(key.encode())
    to = servers.other_than(source)
    with servers.migrating(slot, source, to):
        if moves:
            servers.move(key, source, to)
        yield
    servers.until_whole()
    with servers.migrating(slot, to, source):
        pass


@pytest.mark.parametrize(
    ("key", "word", "state"),
    [
        (MODE_KEY, "halt", HALTED),
        (HALT, "h1 enough", HALTED),
        (FLAG, "0", DISABLED),
        (MODE_KEY, "reduce", REDUCING),
    ],
)
@on_uvloop
async def test_while_another_slot_moves(
    servers: ClusterServers, tmp_path: Path, key: str, word: str, state: State
) -> None:
    """What stops or restrains trading is acted on though another key, which nobody has set, cannot
    be read; a halt is latched."""
    rig = Rig(servers, tmp_path, QUIET)
    async with rig.watching():
        await rig.until(ACTIVE)
        with moving(servers, UNSET, moves=False):
            rig.set(key, word)
            await rig.until(state)
            if state is HALTED:
                assert rig.kept.id == rig.shown["latched"]
                rig.set(MODE_KEY, "normal")
                await until(lambda: rig.shown["mode"] == "normal" or key is MODE_KEY)
                assert rig.state is HALTED


@pytest.mark.parametrize(
    ("key", "word", "state"),
    [
        (MODE_KEY, "halt", HALTED),
        (MODE_KEY, "reduce", REDUCING),
        (HALT, "h1 enough", HALTED),
        (FLAG, "0", DISABLED),
    ],
)
@on_uvloop
async def test_where_a_key_moves_to(
    servers: ClusterServers, tmp_path: Path, key: str, word: str, state: State
) -> None:
    """A key whose slot moves is read where it moves to: what is set there is acted on."""
    rig = Rig(servers, tmp_path, QUIET)
    async with rig.watching():
        await rig.until(ACTIVE)
        with moving(servers, key, moves=key is not HALT):
            rig.set(key, word)
            await rig.until(state)
            assert "moves" not in rig.controller.decision.reason


@on_uvloop
async def test_nothing_opens_meanwhile(servers: ClusterServers, tmp_path: Path) -> None:
    """What would let trade again waits until all keys can be read."""
    servers.client.set(FLAG, "0")
    servers.client.set(MODE_KEY, "reduce")
    rig = Rig(servers, tmp_path, QUIET)
    async with rig.watching():
        await rig.until(DISABLED)
        with moving(servers, UNSET, moves=False):
            rig.set(FLAG, "1")
            rig.set(MODE_KEY, "normal")
            reads = rig.watcher._asked_at
            rig.controller.on_change()
            await until(lambda: rig.watcher._asked_at > reads)
            await rig.idle()
            assert (rig.state, rig.controller._inputs.flag) == (DISABLED, False)
            assert rig.controller._inputs.mode.value == "reduce"
        await rig.until(ACTIVE)


@pytest.mark.parametrize("key", [MODE_KEY, FLAG, HALT])
@on_uvloop
async def test_where_it_cannot_be_read_at_all(
    servers: ClusterServers, tmp_path: Path, key: str
) -> None:
    """What halts, and cannot be read on either side, closes the gates at once; limits stay what
    they were. They open when the slot has arrived."""
    for node in servers.nodes:
        node.ask("ACL", "SETUSER", "u", "on", ">p", "~*", "&*", "+@all", "-asking")
    rig = Rig(servers, tmp_path, QUIET, url=servers.url.replace(":pw@", "u:p@"))
    try:
        async with rig.watching():
            await rig.until(ACTIVE)
            with moving(servers, LIMIT):
                rig.controller.on_change()
                await rig.idle()
                assert str(rig.desk.limits[-1].max_position) == "77"
                assert rig.state is ACTIVE
            await until(lambda: rig.watcher._link.is_up)
            with moving(servers, key, moves=key is not HALT):
                rig.controller.on_change()
                await until(lambda: rig.state is DISABLED)
                assert key in rig.controller.decision.reason
            await rig.until(ACTIVE)
    finally:
        for node in servers.nodes:
            node.ask("ACL", "DELUSER", "u")


@pytest.mark.parametrize("key", [MODE_KEY, FLAG, LIMIT])
@on_uvloop
async def test_each_node_takes_writes(servers: ClusterServers, tmp_path: Path, key: str) -> None:
    """A node that lets read what it has, but takes no writes, closes the gates behind the timeout,
    though the state lies on another node."""
    node = servers.primary_of(key)
    rig = Rig(servers, tmp_path, QUICK)
    async with rig.watching():
        await rig.until(ACTIVE)
        node.ask("CONFIG", "SET", "min-replicas-to-write", "5")
        try:
            await until(lambda: rig.state is DISABLED)
        finally:
            node.ask("CONFIG", "SET", "min-replicas-to-write", "0")
        await rig.until(ACTIVE)


def test_the_state_lies_elsewhere(servers: ClusterServers) -> None:
    """The state of this role is on another node than the mode: its write alone proves nothing."""
    state = Keys.of("demo", servers.url).state
    assert servers.primary_of(state) is not servers.primary_of(MODE_KEY)


@on_uvloop
async def test_an_idle_link_leaves_who_was_replaced(
    cluster: ClusterServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link asks another node who the primaries are, also while it waits for no answer."""
    monkeypatch.setattr("bridge.cluster_link.FOLLOW_SECONDS", 0.05)
    owner = Owner(endpoints.parse(cluster.url))
    async with owner.running():
        await until(lambda: owner.ups == 1)
        old = cluster.primaries[0]
        cluster.demote(old)
        await until(lambda: owner.downs)
        await until(lambda: old.port not in [each.port for each in owner.link._targets])
        await until(lambda: owner.link.is_up)
