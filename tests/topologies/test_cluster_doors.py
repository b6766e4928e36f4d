"""bridge/cluster_link.py: whom it asks who the primaries are, and whom it believes."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge import cluster_link, endpoints
from bridge.cluster_link import ClusterLink
from bridge.core.resp import Reply
from bridge.target import Target
from tests.bridge.links import Owner
from tests.proxies import on_uvloop, until
from tests.topologies.cluster import ClusterNode, ClusterServers

type Told = tuple[int | None, Reply]
type Change = Callable[[Target, Told], Told]


@contextlib.contextmanager
def told(patch: pytest.MonkeyPatch, change: Change) -> Iterator[list[Target]]:
    """Have what nodes tell changed; yield who was asked."""
    asked, real = list[Target](), cluster_link._asked

    async def changed(door: Target) -> Told:
        asked.append(door)
        return change(door, await real(door))

    with patch.context() as within:
        within.setattr(cluster_link, "_asked", changed)
        yield asked


def link_of(cluster: ClusterServers) -> ClusterLink:
    link = Owner(endpoints.parse(cluster.url)).link
    assert isinstance(link, ClusterLink)
    return link


@on_uvloop
async def test_each_is_asked_in_turn(
    cluster: ClusterServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every primary and every node of the URL: two that know nothing new do not hide the rest."""
    link = link_of(cluster)
    every = {each.port for each in (*cluster.primaries, cluster.nodes[0], cluster.nodes[-1])}
    with told(monkeypatch, lambda _, said: said) as asked:
        for _ in range(2 * len(every)):
            await link._read_map()
    assert {each.port for each in asked} == every
    assert {each.port for each in asked[-len(every) :]} == every


@on_uvloop
async def test_who_is_cut_off_is_not_believed(
    cluster: ClusterServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that knows of an older election than others have told of does not count; where all of
    them do, the Cluster was made anew."""
    link, epochs = link_of(cluster), [7, 6, 7]

    def numbered(_: Target, said: Told) -> Told:
        return epochs.pop(0) if epochs else 3, said[1]

    with told(monkeypatch, numbered) as asked:
        await link._read_map()
        with pytest.raises(ConnectionError, match="its epoch is 6, that of others is 7"):
            await link._read_map()
        await link._read_map()
        del asked[:]
        doors = len(link._doors)
        for _ in range(doors):
            with pytest.raises(ConnectionError, match="its epoch is 3"):
                await link._read_map()
        await link._read_map()
    assert len({each.port for each in asked}) == doors


@on_uvloop
async def test_a_user_that_may_not_ask_for_the_epoch(cluster: ClusterServers) -> None:
    """Without the right to CLUSTER INFO each node is believed."""
    for node in cluster.nodes:
        node.ask("ACL", "SETUSER", "u", "on", ">p", "~*", "&*", "+@all", "-cluster|info")
    door = Target(port=cluster.nodes[0].port, username="u", password="p")
    epoch, answer = await cluster_link._asked(door)
    assert epoch is None
    assert isinstance(answer, list)


@on_uvloop
async def test_nobody_can_be_asked(
    cluster: ClusterServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections that stand are kept; that nobody tells any more who the primaries are is said
    once, and so long as it lasts."""
    monkeypatch.setattr(cluster_link, "FOLLOW_SECONDS", 0.01)
    endpoint = endpoints.parse(cluster.url)
    owner = Owner(endpoint)
    refuses = False

    def refused(_: Target, said: Told) -> Told:
        if refuses:
            raise ConnectionError("WRONGPASS")
        return said

    with told(monkeypatch, refused), capture_logs() as logs:
        async with owner.running():
            await until(lambda: owner.ups == 1)
            refuses = True
            await until(lambda: bool(endpoint.problem))
            assert endpoint.problem == "no node tells who the primaries are: WRONGPASS"
            assert owner.link.is_up
            refuses = False
            await until(lambda: not endpoint.problem)
    assert [each["event"] for each in logs].count("cluster.silent") == 1


@on_uvloop
async def test_two_that_were_replaced_and_do_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most primaries were replaced, heard nothing of it and go on answering: a link finds the
    others by those that have heard."""
    monkeypatch.setattr(cluster_link, "FOLLOW_SECONDS", 0.05)
    with ClusterServers(tmp_path) as cluster:
        await _replaced(cluster)


async def _replaced(cluster: ClusterServers) -> None:
    primaries = sorted(cluster.primaries, key=lambda node: node.port)
    replicas = [cluster.replica_of(each) for each in primaries]
    deaf = primaries[:2]
    owner = Owner(endpoints.parse(cluster.url))
    async with owner.running():
        await until(lambda: owner.ups == 1)
        await asyncio.to_thread(take_over, deaf, replicas)
        wanted = {replicas[0].port, replicas[1].port, primaries[2].port}
        assert isinstance(owner.link, ClusterLink)
        link = owner.link
        await until(lambda: {each.port for each in link._targets} == wanted and link.is_up)


def take_over(deaf: list[ClusterNode], replicas: list[ClusterNode]) -> None:
    for primary in deaf:
        for replica in replicas:
            primary.ask("CLUSTER", "FORGET", replica.id)
    for replica in replicas[: len(deaf)]:
        replica.ask("CLUSTER", "FAILOVER", "TAKEOVER")
