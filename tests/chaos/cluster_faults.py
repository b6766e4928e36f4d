"""The row of the table whose faults strike a Redis Cluster."""

import time

from bridge.core import scripts
from bridge.core.slots import slot_of
from tests.chaos.checker import Verdict
from tests.chaos.rig import KEYS, Rig
from tests.chaos.sentinel_faults import halted
from tests.topologies.cluster import ClusterNode, ClusterServers

KILLED, BEHIND, STALLED, DEMOTED, MOVED, LOST = FAULTS = (
    "SIGKILL of a primary",
    "SIGKILL of a primary whose replica is behind",
    "a primary stalls until it is replaced",
    "a primary changes places with its replica",
    "a stream's slot moves",
    "a primary and its replica are silent",
)


def cluster_struck(rig: Rig) -> Verdict:
    """The node of an exec stream fails over, its slot moves, a part of the Cluster is lost."""
    with ClusterServers(rig.folder) as cluster:
        rig.server, rig.url = cluster, cluster.url
        daemon = rig.start().until_running()
        for fault in rig.striking(*FAULTS):
            rig.until_flowing(daemon)
            stream = rig.chance.choice([KEYS[kind] for kind in ("orders", "fills", "account")])
            primary = cluster.primary_of(stream)
            if fault in (KILLED, BEHIND):
                _fail_over(rig, cluster, primary, behind=fault == BEHIND)
            elif fault == STALLED:
                primary.pause()
                cluster.until_replaced(primary)
                rig.until_flowing(daemon)
                primary.resume()
            elif fault == DEMOTED:
                cluster.demote(primary)
            elif fault == MOVED:
                _move(rig, cluster, stream, primary)
            else:
                _lose(rig, cluster, primary)
            cluster.until_whole()
            rig.until_flowing(daemon)
            halted(cluster, daemon)
        rig.finish(daemon)
        return rig.verdict()


def _fail_over(rig: Rig, cluster: ClusterServers, primary: ClusterNode, *, behind: bool) -> None:
    """Kill a primary; behind: what it has taken last never reaches its replica."""
    if behind:
        cluster.part(primary)
        rig.wait()
    primary.kill()
    cluster.until_replaced(primary)
    rig.wait()
    primary.start()
    cluster.join()


def _move(rig: Rig, cluster: ClusterServers, stream: str, source: ClusterNode) -> None:
    to, keys = cluster.other_than(source), [stream, scripts.mark_key(stream)]
    rig.chance.shuffle(keys)
    with cluster.migrating(slot_of(stream.encode()), source, to):
        for key in keys:
            rig.wait(0, 0.3)
            cluster.move(key, source, to)
        rig.wait(0, 0.3)


def _lose(rig: Rig, cluster: ClusterServers, primary: ClusterNode) -> None:
    """Stall a primary and its replica until the others serve nothing any more."""
    away = (primary, cluster.replica_of(primary))
    others = [each for each in cluster.nodes if each not in away]
    for node in away:
        node.pause()
    rig.until(lambda: all(each.state["cluster_state"] == "fail" for each in others), "it is down")
    time.sleep(rig.chance.uniform(0, rig.pace.seconds))
    for node in away:
        node.resume()
