"""bridge/cluster_link.py over a real Cluster: to who writes it is one connection."""

import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
from structlog.testing import capture_logs

from bridge import endpoints
from bridge.cluster_link import ClusterLink, Wires, link_to
from bridge.core import resp, slots
from bridge.core.resp import ProtocolError, Push, Reply, ReplyError
from bridge.embedded_redis import HOST
from bridge.link import Connection, Link
from tests.bridge.links import Owner, peer
from tests.proxies import on_uvloop, until
from tests.servers import RedisServer, free_port
from tests.topologies.cluster import ClusterNode, ClusterServers
from tests.topologies.tls import certificates


def one_key_each(cluster: ClusterServers) -> dict[ClusterNode, str]:
    """Return a key for each primary."""
    keys: dict[ClusterNode, str] = {}
    for number in range(100):
        keys.setdefault(cluster.primary_of(f"key{number}"), f"key{number}")
    assert len(keys) == 3
    return keys


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[Owner]:
    """Yield an owner whose link to all nodes is up."""
    owner = Owner(endpoints.parse(url))
    async with owner.running():
        await until(lambda: owner.ups)
        yield owner


@on_uvloop
async def test_a_command_goes_where_its_key_is(cluster: ClusterServers) -> None:
    """Commands of all three nodes in one write: each is done, and answered in its turn."""
    keys = list(one_key_each(cluster).values()) * 3
    async with connected(cluster.url) as owner:
        owner.link.write(b"".join([resp.command("INCR", key) for key in keys]))
        await until(lambda: len(owner.replies) == len(keys))
    assert owner.replies == [1] * 3 + [2] * 3 + [3] * 3


@on_uvloop
async def test_answers_come_in_the_order_of_the_commands(cluster: ClusterServers) -> None:
    """What other nodes have answered waits for the node that was asked before them."""
    slow, *others = one_key_each(cluster).items()
    async with connected(cluster.url) as owner:
        slow[0].pause()
        owner.link.write(b"".join([resp.command("SET", k, k) for _, k in (slow, *others)]))
        owner.link.write(b"".join([resp.command("GET", k) for _, k in (slow, *others)]))
        await until(lambda: all(each.client.get(k) == k for each, k in others))
        assert owner.replies == []
        slow[0].resume()
        await until(lambda: len(owner.replies) == 6)
    said = [slow[1].encode(), *[k.encode() for _, k in others]]
    assert owner.replies == [b"OK", b"OK", b"OK", *said]


@on_uvloop
async def test_what_has_no_key_goes_to_every_node(cluster: ClusterServers) -> None:
    """A script is loaded everywhere and answered once; of INFO all nodes' texts are the answer."""
    script = "return 7"
    async with connected(cluster.url) as owner:
        name = await owner.ask("SCRIPT", "LOAD", script)
        info = await owner.ask("INFO", "server")
    assert isinstance(name, bytes)
    assert isinstance(info, bytes)
    primaries = cluster.primaries
    assert [each.client.script_exists(name.decode()) for each in primaries] == [[True]] * 3
    assert info.count(b"run_id:") == 3
    for each in primaries:
        assert f"run_id:{each.info('server')['run_id']}".encode() in info


@on_uvloop
async def test_one_node_s_error_is_the_answer(cluster: ClusterServers) -> None:
    """Where one of the nodes refuses what all are asked, that is what is heard."""
    refusing = cluster.primaries[1]
    async with connected(cluster.url) as owner:
        refusing.client.execute_command("ACL", "SETUSER", "default", "-time")
        try:
            answer = await owner.ask("TIME")
        finally:
            refusing.client.execute_command("ACL", "SETUSER", "default", "+time")
        assert isinstance(answer, ReplyError)
        assert answer.code == "NOPERM"
        assert isinstance(await owner.ask("TIME"), list)


@on_uvloop
async def test_each_node_s_pushes_are_heard(cluster: ClusterServers) -> None:
    """What a node says unasked comes at once, between the answers to what was asked."""
    keys = one_key_each(cluster)
    async with connected(cluster.url) as owner:
        await owner.ask("HELLO", "3")
        assert await owner.ask("CLIENT", "TRACKING", "ON", "BCAST") == b"OK"
        owner.replies.clear()
        for node, key in keys.items():
            node.client.set(key, "1")
        await until(lambda: len(owner.replies) == 3)
        news, owner.replies[:] = list(owner.replies), []
        assert all(isinstance(each, Push) for each in news)
        assert {each[1][0].decode() for each in news} == set(keys.values())
        assert await owner.ask("GET", next(iter(keys.values()))) == b"1"


@on_uvloop
async def test_down_with_one_node_up_with_all(cluster: ClusterServers) -> None:
    """One connection of three that ends takes the link down, once; it comes back with all."""
    async with connected(cluster.url) as owner:
        for number, node in enumerate(cluster.primaries, start=1):
            node.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await until(lambda n=number: owner.ups == n + 1)
            assert owner.downs == number
        keys = one_key_each(cluster)
        assert [await owner.ask("SET", key, "1") for key in keys.values()] == [b"OK"] * 3


@on_uvloop
async def test_dropped(cluster: ClusterServers) -> None:
    """A link that is dropped comes back, and what was in flight is not answered any more."""
    keys = one_key_each(cluster)
    async with connected(cluster.url) as owner:
        owner.link.write(b"".join([resp.command("GET", key) for key in keys.values()]))
        owner.link.drop()
        await until(lambda: owner.ups == 2)
        assert owner.replies == []


@on_uvloop
async def test_any_node_leads_to_all(cluster: ClusterServers) -> None:
    """Of the nodes that the URL names one that answers is enough, be it a replica."""
    replica = next(each for each in cluster.nodes if not each.is_primary)
    hosts = f"{HOST}:{free_port()},{HOST}:{replica.port}"
    async with connected(f"redis+cluster://:pw@{hosts}") as owner:
        for key in one_key_each(cluster).values():
            assert await owner.ask("SET", key, "1") == b"OK"


type Make = Callable[..., RedisServer]


@pytest.fixture
def lone(make_redis: Make) -> Make:
    """Return `lone(*options)`: a node that belongs to no Cluster, and serves no slot yet."""
    node = ("--cluster-enabled", "yes", "--cluster-port")
    return lambda *options: make_redis(*node, str(free_port()), *options)


@pytest.mark.parametrize(
    ("options", "door", "host"),
    [
        (("ip", "--cluster-announce-ip", HOST), "localhost", HOST),
        (("hostname", "--cluster-announce-hostname", "localhost"), HOST, "localhost"),
        (("unknown-endpoint",), "localhost", "localhost"),
    ],
    ids=["address", "name", "unknown"],
)
@on_uvloop
async def test_what_nodes_call_themselves(
    lone: Make, options: tuple[str, ...], door: str, host: str
) -> None:
    """A node is sought where the others say that it is; where they do not, where it was asked."""
    node = lone("--cluster-preferred-endpoint-type", *options)
    node.client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, slots.SLOTS - 1)
    async with connected(f"redis+cluster://{door}:{node.port}") as owner:
        assert [each.where for each in owner.link._targets] == [f"{host}:{node.port}"]


@on_uvloop
async def test_over_tls(lone: Make) -> None:
    """The port that a node names to who speaks TLS is its TLS port; each connection is one."""
    pairs, port = certificates(), str(free_port())
    files = ("--tls-cert-file", str(pairs.server.certificate), "--tls-key-file")
    node = lone(
        *(*files, str(pairs.server.key), "--tls-ca-cert-file", str(pairs.ca.certificate)),
        *("--tls-port", port, "--tls-cluster", "yes", "--tls-auth-clients", "no"),
        *("--cluster-announce-ip", HOST),
    )
    node.client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, slots.SLOTS - 1)
    url = f"rediss+cluster://{HOST}:{port}?ssl_ca_certs={pairs.ca.certificate}"
    async with connected(url) as owner:
        assert [each.where for each in owner.link._targets] == [f"{HOST}:{port}"]
        assert b"run_id:" in await owner.ask("INFO", "server")


@on_uvloop
async def test_a_node_without_a_name(lone: Make) -> None:
    """Nodes that are to be called by names, and have none: what to set is told."""
    node = lone("--cluster-preferred-endpoint-type", "hostname")
    node.client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, slots.SLOTS - 1)
    owner = Owner(endpoints.parse(f"redis+cluster://{HOST}:{node.port}"))
    async with owner.running():
        await until(lambda: owner.errors["connection"])
        assert "cluster-announce-hostname" in str(owner.link.problem)


@on_uvloop
async def test_a_cluster_without_slots(lone: Make) -> None:
    """A node that serves no slot is no Cluster: the link stays down and says why."""
    node = lone()
    owner = Owner(endpoints.parse(f"redis+cluster://{HOST}:{node.port}"))
    async with owner.running():
        await until(lambda: "slots" in str(owner.link.problem))
    assert owner.link.problem == (
        f"ConnectionError: {HOST}:{node.port}: 16384 of 16384 slots have no primary"
    )
    assert not owner.ups


@on_uvloop
async def test_a_server_that_is_no_cluster(redis_server: RedisServer) -> None:
    """A single server says that it is none; the link tells it on."""
    owner = Owner(endpoints.parse(f"redis+cluster://{HOST}:{redis_server.port}"))
    with capture_logs() as logs:
        async with owner.running():
            await until(lambda: owner.errors["other"] > 1)
    assert "cluster support disabled" in str(owner.link.problem)
    assert len([each for each in logs if each["event"] == "redis.lost"]) == 1


@on_uvloop
async def test_a_node_that_is_away_is_named() -> None:
    """What stands in the way of the link is told with the address of the node."""
    port = free_port()
    owner = Owner(endpoints.parse(f"redis+cluster://{HOST}:{port}"))
    async with owner.running():
        await until(lambda: owner.errors["connection"])
        assert f"ConnectionError: {HOST}:{port}: " in str(owner.link.problem)


@on_uvloop
async def test_a_silent_node_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes connections and says nothing is not waited for, and named."""
    monkeypatch.setattr("bridge.cluster_link.NODE_SECONDS_MAX", 0.05)
    async with peer(b"") as port:
        owner = Owner(endpoints.parse(f"redis+cluster://{HOST}:{port}"))
        async with owner.running():
            await until(lambda: owner.errors["connection"])
            wanted = f"TimeoutError: {HOST}:{port}: no answer within 0.05 s"
            assert owner.link.problem == wanted


@on_uvloop
async def test_a_wrong_password(cluster: ClusterServers) -> None:
    """Refused credentials count as such, and are not repeated."""
    port = cluster.nodes[0].port
    owner = Owner(endpoints.parse(f"redis+cluster://:s3cret@{HOST}:{port}"))
    async with owner.running():
        await until(lambda: owner.errors["auth"])
    assert "WRONGPASS" in str(owner.link.problem)
    assert "s3cret" not in str(owner.link.problem)


async def test_more_answers_than_questions() -> None:
    """An answer that no command of that node asked for is no Redis's, whatever others owe."""
    wires = Wires(slots.SlotMap((slots.Node("", 1), slots.Node("", 2)), [0] * slots.SLOTS))
    heard: list[Reply] = []
    wires.on_replies = heard.extend
    ends = [_end() for _ in range(2)]
    for each in ends:
        wires.add(each)
    wires.write(resp.command("GET", "a"))
    with pytest.raises(ProtocolError, match="not asked"):
        ends[1].on_replies([b"1"])
    ends[0].on_replies([b"2"])
    assert heard == [b"2"]
    for each in (*ends, wires):
        each.forget()


def test_which_link() -> None:
    """A Cluster gets the link that routes; all else the plain one, which knows nothing of slots."""
    assert type(_link("redis+cluster://h")) is ClusterLink
    assert type(_link("redis://h")) is Link


def _link(url: str) -> Link:
    callbacks = dict.fromkeys(("prepare", "on_up", "on_replies", "on_down", "on_error"), print)
    return link_to(endpoints.parse(url), name="exec", backoff_seconds_max=1.0, **callbacks)


def _end() -> Connection:
    return Connection(lambda _: None)
