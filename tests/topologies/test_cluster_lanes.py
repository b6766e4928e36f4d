"""The lanes over a real Cluster: nothing is lost, doubled or reordered, whatever its nodes do."""

import asyncio

import pytest

from bridge import endpoints
from bridge.core import scripts
from bridge.core.contract import EXEC_KINDS
from bridge.core.slots import slot_of
from tests.proxies import Rig, check_exec, check_market, key, numbers, on_uvloop, until
from tests.topologies.cluster import ClusterNode, ClusterServers

SYMBOLS = [f"SYM{number}" for number in range(12)]


def refusals(node: ClusterNode, code: str) -> int:
    """Return how often a node has answered with an error."""
    return int(node.info("errorstats").get(f"errorstat_{code}", {"count": 0})["count"])


class ClusterRig(Rig):
    """A publisher to a Cluster, and the numbers of the trades that were offered."""

    def __init__(self, cluster: ClusterServers) -> None:
        super().__init__(endpoints.parse(cluster.url))
        self.offered = dict.fromkeys(SYMBOLS, 0)

    def append_all(self, count: int = 3) -> None:
        """Append to every exec stream, and offer a trade of every symbol."""
        for kind in EXEC_KINDS:
            self.append(kind, count)
        for symbol in SYMBOLS:
            self.trade((symbol, self.offered[symbol]))
            self.offered[symbol] += 1

    async def until_refused(self, node: ClusterNode, code: str) -> None:
        """Append until that node has refused something."""
        before = refusals(node, code)
        while refusals(node, code) == before:
            self.append_all()
            await asyncio.sleep(0.005)


@on_uvloop
async def test_streams_of_all_nodes(cluster: ClusterServers) -> None:
    """Exec and market streams that lie on different nodes: each whole, and in its order."""
    rig = ClusterRig(cluster)
    async with rig.running():
        for _ in range(50):
            rig.append_all()
            await asyncio.sleep(0)
        await rig.drained()
    check_exec(rig, cluster.client)
    for symbol in SYMBOLS:
        assert numbers(cluster.client, "trades", symbol) == list(range(50))
    assert len({cluster.primary_of(key("trades", symbol)) for symbol in SYMBOLS}) == 3
    assert len({cluster.primary_of(key(kind)) for kind in EXEC_KINDS}) > 1


@pytest.mark.parametrize("mark_first", [False, True])
@on_uvloop
async def test_a_slot_moves_under_an_exec_stream(cluster: ClusterServers, mark_first: bool) -> None:
    """Stream and mark move one after the other, while both are written: TRYAGAIN, ASK and MOVED
    are answered, and the stream is whole."""
    rig, stream = ClusterRig(cluster), key("orders")
    source = cluster.primary_of(stream)
    to = cluster.other_than(source)
    keys = [stream, scripts.mark_key(stream)]
    order = keys[::-1] if mark_first else keys
    async with rig.running():
        rig.append_all()
        await rig.drained()
        with cluster.migrating(slot_of(stream.encode()), source, to):
            rig.append_all()
            await rig.drained()
            for name, code in zip(order, ("TRYAGAIN", "ASK"), strict=True):
                cluster.move(name, source, to)
                await rig.until_refused(source, code)
        await rig.until_refused(source, "MOVED")
        await rig.drained()
        assert cluster.primary_of(stream) is to
    assert to.client.xlen(stream) == len(rig.appended["orders"])
    assert rig.count("redis_errors_total", kind="moved") > 0
    check_exec(rig, cluster.client)
    check_market(rig, cluster.client, rig.offered)
    with cluster.migrating(slot_of(stream.encode()), to, source):
        pass


@on_uvloop
async def test_part_of_the_cluster_is_lost(cluster: ClusterServers) -> None:
    """A primary and its replica are away: CLUSTERDOWN, the bridge is unhealthy; then healthy again
    by itself, and whole."""
    rig = ClusterRig(cluster)
    lost = cluster.primary_of(key("orders"))
    others = [each for each in cluster.primaries if each is not lost]
    replica = cluster.replica_of(lost)
    async with rig.running():
        rig.append_all()
        await rig.drained()
        lost.pause()
        replica.pause()
        await until(lambda: all(each.state["cluster_state"] == "fail" for each in others))
        await rig.until_refused(others[0], "CLUSTERDOWN")
        await until(lambda: rig.publisher.problem is not None)
        lost.resume()
        replica.resume()
        await until(lambda: rig.publisher.problem is None)
        rig.append_all()
        await rig.drained()
    check_exec(rig, cluster.client)
    check_market(rig, cluster.client, rig.offered)


@on_uvloop
async def test_a_silent_primary_is_replaced(cluster: ClusterServers) -> None:
    """A primary that stalls is left for its replica without waiting for it; what it takes when it
    wakes, too late, is in no stream."""
    rig, stalled = ClusterRig(cluster), cluster.primary_of(key("orders"))
    async with rig.running():
        rig.append_all()
        await rig.drained()
        stalled.ask("WAIT", 1, 0)
        stalled.pause()
        rig.append_all()
        await rig.drained()
        assert cluster.primary_of(key("orders")) is not stalled
        stalled.resume()
        cluster.until_whole()
        rig.append_all()
        await rig.drained()
    check_exec(rig, cluster.client)


@on_uvloop
async def test_append_only_files_of_all_nodes(cluster: ClusterServers) -> None:
    """Behind a failover every primary rewrites its append-only file before anything is shipped."""
    rig, demoted = ClusterRig(cluster), cluster.primary_of(key("orders"))
    logging = [each for each in cluster.nodes if each is not demoted]
    for node in logging:
        node.ask("CONFIG", "SET", "appendonly", "yes")
    try:
        async with rig.running():
            await until(lambda: not any(map(is_rewriting, logging)))
            before = {each: each.info("persistence")["aof_rewrites"] for each in logging}
            cluster.demote(demoted)
            await rig.until_refused(demoted, "MOVED")
            await rig.drained()
            for node in cluster.primaries:
                assert node.info("persistence")["aof_rewrites"] == before[node] + 1
    finally:
        for node in logging:
            node.ask("CONFIG", "SET", "appendonly", "no")
    check_exec(rig, cluster.client)


def is_rewriting(node: ClusterNode) -> bool:
    """Return whether a node rewrites its append-only file, or is about to."""
    info = node.info("persistence")
    return bool(info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"])
