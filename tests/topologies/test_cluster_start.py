"""bridge/preflight.py before a Cluster: what it needs is there, or the reason says what is not."""

from collections.abc import Callable

import pytest

from bridge import config, exits
from bridge.core import contract
from bridge.core.contract import default_names
from bridge.core.control import SHADOW_FLAG
from bridge.embedded_redis import HOST
from bridge.exits import Exit
from bridge.lease import Lease
from bridge.preflight import prepare_redis, release
from tests.servers import RedisServer, free_port
from tests.topologies.cluster import ClusterServers


def prepared(url: str, lease: Lease | None = None) -> bool:
    settings = config.load(None, environ={}, overrides={"redis.url": url})
    return prepare_redis(url, settings, default_names(), lease=lease)


def refused(url: str, lease: Lease | None = None) -> tuple[int, str]:
    """Return the exit code and the words to which `url` leads."""
    with pytest.raises(Exit) as caught:
        prepared(url, lease)
    return caught.value.code, str(caught.value)


def lease(seconds: float = 60.0) -> Lease:
    """Return a lease whose keys lie on all nodes."""
    return Lease.make([f"bridge:lease:{n}" for n in range(9)], seconds=seconds, uuid="u")


def test_contract_flag_and_leases(cluster: ClusterServers) -> None:
    """The contract is written, each lease taken where it lies, the flag read; and given back."""
    ours = lease()
    assert not prepared(cluster.url, ours)
    assert cluster.client.exists(contract.CONTRACT_KEY)
    assert [cluster.client.get(key) for key in ours.keys] == [ours.value] * 9
    assert len({cluster.primary_of(key) for key in ours.keys}) == 3
    code, said = refused(cluster.url, lease())
    assert code == exits.TAKEN
    assert "is held by another bridge" in said
    release(cluster.url, ours)
    cluster.client.set(SHADOW_FLAG, "1")
    assert prepared(cluster.url, lease())


def test_nobody_is_there() -> None:
    """Where none of the nodes answers it says so, as of any Redis."""
    code, said = refused(f"redis+cluster://{HOST}:{free_port()}")
    assert code == exits.UNAVAILABLE
    assert "start Redis there" in said


def test_a_wrong_password(cluster: ClusterServers) -> None:
    """Credentials are refused as those of any Redis, and not repeated."""
    code, said = refused(f"redis+cluster://:s3cret@{HOST}:{cluster.nodes[0].port}")
    assert code == exits.REFUSED
    assert "s3cret" not in said


def test_a_single_server(redis_server: RedisServer) -> None:
    """A Redis that is no Cluster cannot be one by its URL."""
    code, said = refused(f"redis+cluster://{HOST}:{redis_server.port}")
    assert code == exits.CONFIGURATION
    assert "write redis://" in said


def test_a_node_by_itself(cluster: ClusterServers) -> None:
    """The URL of a single server does not do for a node of a Cluster: keys lie on others."""
    code, said = refused(f"redis://:pw@{HOST}:{cluster.primaries[0].port}", lease())
    assert code == exits.CONFIGURATION
    assert "write redis+cluster://" in said


def test_a_cluster_that_is_not_whole(make_redis: Callable[..., RedisServer]) -> None:
    """A Cluster whose slots nobody serves yet takes nothing; what is missing is said."""
    node = make_redis("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    code, said = refused(f"redis+cluster://{HOST}:{node.port}")
    assert code == exits.UNAVAILABLE
    assert "until each of its slots has a primary" in said
