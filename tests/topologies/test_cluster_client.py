"""bridge/cluster_client.py: commands of redis-py, each at the node that serves its key."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from acceptance import fills_redis
from bridge.cluster_client import ClusterClient, key_of, node_of, nodes_of
from bridge.core import resp, scripts
from bridge.core.contract import EXEC_KINDS, default_names
from bridge.core.slots import slot_of
from bridge.embedded_redis import HOST
from bridge.preflight import client_of, raw_client_of
from bridge.reader_link import START, ReaderLink, question
from tests.acceptance.fills_rig import bare, base, publish
from tests.servers import RedisServer, free_port
from tests.topologies.cluster import ClusterServers

KEYS = [f"key{number}" for number in range(12)]
STREAMS = [default_names().key(kind) for kind in EXEC_KINDS]


@pytest.fixture
def client(cluster: ClusterServers) -> Iterator[redis.Redis]:
    client = client_of(cluster.url)
    yield client
    client.close()


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("GET", "k"), "k"),
        (("XINFO", "STREAM", "k"), "k"),
        (("XINFO STREAM", "k"), "k"),
        (("MEMORY", "USAGE", b"k"), b"k"),
        (("EVALSHA", "digest", 2, "k", "l", "argument"), "k"),
        (("SCRIPT LOAD", "return 1"), None),
        (("INFO", "server"), None),
    ],
)
def test_the_key_of_a_command(words: tuple[Any, ...], key: str | bytes | None) -> None:
    """It stands where Redis says; what has none goes to every node."""
    assert key_of(words) == key


def test_keys_of_all_nodes(cluster: ClusterServers, client: redis.Redis) -> None:
    """What is written is found, wherever it lies, also by a client that takes answers raw."""
    assert len({cluster.primary_of(key) for key in KEYS}) == 3
    for key in KEYS:
        client.set(key, f"of {key}")
        client.hset(f"{key}:hash", mapping={"a": "1"})
    assert [cluster.client.get(key) for key in KEYS] == [f"of {key}" for key in KEYS]
    assert [client.get(key) for key in KEYS] == [f"of {key}".encode() for key in KEYS]
    assert client.hgetall(f"{KEYS[0]}:hash") == {b"a": b"1"}
    raw = raw_client_of(cluster.url)
    assert [raw.hgetall(f"{key}:hash") for key in KEYS] == [[b"a", b"1"]] * len(KEYS)
    raw.close()


def test_scripts_are_known_everywhere(cluster: ClusterServers, client: redis.Redis) -> None:
    """What is loaded can be called for any key."""
    digest = client.script_load("return KEYS[1]")
    assert [client.evalsha(digest, 1, key) for key in KEYS] == [key.encode() for key in KEYS]
    assert len(nodes_of(client)) == 3
    assert all(node.script_exists(digest) == [True] for node in nodes_of(client))


def test_a_slot_that_moves(cluster: ClusterServers, client: redis.Redis) -> None:
    """It follows a key while its slot moves, and behind that; each write is done once."""
    key = KEYS[0]
    source = cluster.primary_of(key)
    to = cluster.other_than(source)
    client.incr(key)
    with cluster.migrating(slot_of(key.encode()), source, to):
        client.incr(key)
        cluster.move(key, source, to)
        client.incr(key)
    assert client.incr(key) == 4
    assert node_of(client, key).connection_pool.connection_kwargs["port"] == to.port
    assert client.get(key) == b"4"
    assert to.client.get(key) == "4"


def test_a_primary_that_is_replaced(cluster: ClusterServers, client: redis.Redis) -> None:
    """The command that finds it dead has failed; the others, and the next, find where to go."""
    key = KEYS[0]
    client.set(key, "1")
    primary = cluster.primary_of(key)
    primary.ask("WAIT", 1, 0)
    primary.kill()
    with pytest.raises(redis.exceptions.ConnectionError):
        client.get(key)
    cluster.until_replaced(primary)
    assert client.get(key) == b"1"


def test_nobody_answers() -> None:
    """No node: an error of redis-py, as of any other Redis."""
    client = client_of(f"redis+cluster://{HOST}:{free_port()}")
    with pytest.raises(redis.exceptions.ConnectionError):
        client.get("key")
    client.close()


def test_one_server(redis_server: RedisServer) -> None:
    """Any other Redis has one node, which has all keys."""
    client = client_of(redis_server.url)
    assert not isinstance(client, ClusterClient)
    assert [*nodes_of(client), node_of(client, "key")] == [client] * 2
    client.close()


def test_a_reader_asks_all_nodes(cluster: ClusterServers) -> None:
    """The answers of streams on several nodes come in the order of the questions; behind a slot
    that has moved they are asked for again."""
    assert len({cluster.primary_of(key) for key in STREAMS}) > 1
    for key in STREAMS:
        cluster.client.xadd(key, {"stream": key})
        cluster.client.hset(scripts.mark_key(key), "producer", key)
    link = ReaderLink(cluster.url, "test")
    questions = [question(key, START, 10) for key in STREAMS]

    def told() -> list[str]:
        answers = link.ask(questions, 2)
        assert [mark[1].decode() for mark in answers[::2]] == STREAMS
        return [page[0][1][0][1][1].decode() for page in answers[1::2]]

    assert told() == STREAMS
    key = STREAMS[0]
    source = cluster.primary_of(key)
    to = cluster.other_than(source)
    with cluster.migrating(slot_of(key.encode()), source, to):
        for each in (key, scripts.mark_key(key)):
            cluster.move(each, source, to)
    with pytest.raises(redis.exceptions.ConnectionError, match="moved"):
        told()
    cluster.until_whole()  # a replica that is asked for the map may not have heard of it yet
    assert told() == STREAMS
    assert link.ask([resp.command("XLEN", STREAMS[-1])]) == [1]
    link.close()


def test_its_fills_for_acceptance(cluster: ClusterServers) -> None:
    """`acceptance from-redis` reads a stream on whichever node it lies."""
    fills = base().fills or ()
    for prefix in ("a:", "b:", "c:"):
        publish(cluster.client, fills, prefix)
        found = fills_redis.read(fills_redis.address(f"{cluster.url}?prefix={prefix}"), tell=str)
        assert found == bare(*fills)
