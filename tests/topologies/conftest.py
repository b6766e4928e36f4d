"""Fixtures for the ways in which people run Redis."""

from collections.abc import Iterator

import pytest

from tests.topologies.cluster import ClusterServers


@pytest.fixture(scope="session")
def _shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterServers]:
    protected = ("--requirepass", "pw", "--masterauth", "pw")
    with ClusterServers(tmp_path_factory.mktemp("cluster"), *protected) as cluster:
        yield cluster


@pytest.fixture
def cluster(_shared_cluster: ClusterServers) -> Iterator[ClusterServers]:
    """A Cluster of six with a password, whole and empty. What a test does to it is mended."""
    _shared_cluster.flush()
    yield _shared_cluster
    _shared_cluster.mend()
