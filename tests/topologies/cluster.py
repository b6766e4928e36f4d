"""A real Redis Cluster on this machine: three primaries, each with a replica, made in seconds."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Self

import redis

from bridge.core.slots import SLOTS, slot_of
from bridge.embedded_redis import HOST, find_redis_server
from tests.servers import RedisServer, free_port, server_or_exit

PRIMARIES: Final = 3
SECONDS_MAX: Final = 30.0
POLL_SECONDS: Final = 0.01
KEYS_MAX: Final = 100
FAILOVER_SECONDS_MAX: Final = 6.0
# A primary that says nothing for so long is replaced. Redis's own default is fifteen times that.
NODE_TIMEOUT_MILLISECONDS: Final = 1000


class ClusterNode(RedisServer):
    """One of the six."""

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir()
        self.bus_port = free_port()
        super().__init__(
            server_or_exit(find_redis_server()),
            folder,
            *("--cluster-enabled", "yes", "--cluster-port", str(self.bus_port)),
            *("--cluster-node-timeout", str(NODE_TIMEOUT_MILLISECONDS)),
            *("--repl-diskless-sync-delay", "0", "--repl-backlog-size", "16mb"),
            *options,
        )

    @property
    def id(self) -> str:
        return str(self.ask("CLUSTER", "MYID"))

    @property
    def is_primary(self) -> bool:
        """Whether it answers, and is no replica."""
        with contextlib.suppress(redis.RedisError):
            return bool(self.ask("ROLE")[0] == "master")
        return False

    @property
    def has_ended(self) -> bool:
        """Whether it was killed, or ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def ask(self, *words: str | int) -> Any:
        """Send it a command; return the answer as it came, with text for bytes."""
        return self.client.execute_command(*words)

    def info(self, section: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.info(section)
        return found

    @property
    def state(self) -> dict[str, str]:
        """What CLUSTER INFO says."""
        lines = self.ask("CLUSTER", "INFO").splitlines()
        return dict(line.split(":", 1) for line in lines)


class ClusterServers:
    """Six servers that are one Cluster. Use as a context manager; `options` are each server's."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.nodes = [
            ClusterNode(folder / f"node-{number}", *options) for number in range(2 * PRIMARIES)
        ]
        self._client: redis.RedisCluster | None = None

    def __enter__(self) -> Self:
        try:
            for node in self.nodes:
                node.start()
            self._join()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all of them; repeating is harmless."""
        if self._client is not None:
            self._client.close()
            self._client = None
        for node in self.nodes:
            node.close()

    @property
    def url(self) -> str:
        """Of the Cluster, by two of its nodes."""
        password = self.nodes[0].password
        user = "" if password is None else f":{password}@"
        first, *_, last = self.nodes
        return f"redis+cluster://{user}{HOST}:{first.port},{HOST}:{last.port}"

    @property
    def client(self) -> redis.RedisCluster:
        """A client that answers with text; the same one at each call."""
        if self._client is None:
            self._client = redis.RedisCluster(
                startup_nodes=[redis.cluster.ClusterNode(HOST, each.port) for each in self.nodes],
                decode_responses=True,
                password=self.nodes[0].password,
                socket_timeout=1.0,
            )
        return self._client

    # Who serves what.

    @property
    def primaries(self) -> list[ClusterNode]:
        """Those that are primaries at present, in the order in which they were started."""
        return [each for each in self.nodes if each.is_primary]

    def primary_of(self, key: str) -> ClusterNode:
        """Return who serves a key."""
        slot, ports = slot_of(key.encode()), {each.port: each for each in self.nodes}
        for node in self.nodes:
            with contextlib.suppress(redis.RedisError):
                for first, last, port in _owners(node):
                    if first <= slot <= last:
                        return ports[port]
        raise AssertionError(f"nobody serves {key}")

    def replica_of(self, primary: ClusterNode) -> ClusterNode:
        """Return the replica of a primary."""
        for node in self.nodes:
            with contextlib.suppress(redis.RedisError):
                role = node.ask("ROLE")
                if role[0] == "slave" and role[2] == primary.port:
                    return node
        raise AssertionError(f"{primary.port} has no replica")

    def other_than(self, primary: ClusterNode) -> ClusterNode:
        """Return another primary."""
        return next(each for each in self.primaries if each is not primary)

    # What happens to it.

    def until_whole(self) -> None:
        """Wait until all serve and agree on who serves what, and each primary has its replica."""
        self._until(self._is_whole, "the Cluster is whole")

    def until_replaced(self, node: ClusterNode) -> None:
        """Wait until the others have another primary in the place of this one, and agree on it."""
        self._until(lambda: self._is_replaced(node), f"{node.port} is replaced")

    def demote(self, primary: ClusterNode) -> None:
        """Have a primary and its replica change places, as an operator does; wait until they have.

        Redis gives up after five seconds when the replica has but begun to follow.
        """
        replica = self.replica_of(primary)
        again_at = 0.0

        def is_replaced() -> bool:
            nonlocal again_at
            if self._is_replaced(primary):
                return True
            if time.monotonic() > again_at:
                again_at = time.monotonic() + FAILOVER_SECONDS_MAX
                replica.ask("CLUSTER", "FAILOVER")
            return False

        self._until(is_replaced, f"{primary.port} is replaced")

    def part(self, primary: ClusterNode) -> ClusterNode:
        """Cut a primary's replica off it: what it is told from now on it is told alone.

        Returns the replica.
        """
        replica = self.replica_of(primary)
        replica.ask("CONFIG", "SET", "masterauth", "another")
        primary.ask("CLIENT", "KILL", "TYPE", "replica")
        self._until(lambda: primary.info("replication")["connected_slaves"] == 0, "it is alone")
        return replica

    def join(self) -> None:
        """Let all replicas in again, whoever is the primary by now."""
        for node in self.nodes:
            node.ask("CONFIG", "SET", "masterauth", node.password or "")

    def mend(self) -> None:
        """Have all run again, and wait until they are whole."""
        for node in self.nodes:
            if node.has_ended:
                node.start()
            node.resume()
        self.join()
        self.until_whole()

    def flush(self) -> None:
        """Empty every primary."""
        for node in self.primaries:
            node.client.flushall()

    @contextlib.contextmanager
    def migrating(self, slot: int, source: ClusterNode, to: ClusterNode) -> Iterator[None]:
        """Move a slot: in the body keys can be moved, see `move`; then the rest of them are."""
        theirs = {node: node.id for node in (source, to)}
        to.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", theirs[source])
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", theirs[to])
        yield
        for key in source.ask("CLUSTER", "GETKEYSINSLOT", slot, KEYS_MAX):
            self.move(key, source, to)
        for node in (to, *[each for each in self.primaries if each is not to]):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", theirs[to])

    def move(self, key: str, source: ClusterNode, to: ClusterNode) -> None:
        """Move a key of a slot that is being moved."""
        password = () if to.password is None else ("AUTH", to.password)
        source.ask("MIGRATE", HOST, to.port, key, 0, 5000, *password)

    # Its beginning.

    def _join(self) -> None:
        first, *others = self.nodes
        primaries, replicas = self.nodes[:PRIMARIES], self.nodes[PRIMARIES:]
        share = -(-SLOTS // PRIMARIES)
        for number, node in enumerate(primaries):
            begin, end = number * share, min(SLOTS, (number + 1) * share) - 1
            node.ask("CLUSTER", "ADDSLOTSRANGE", begin, end)
        for number, node in enumerate(self.nodes, start=1):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number)
        for node in others:
            first.ask("CLUSTER", "MEET", HOST, node.port, node.bus_port)
        self._until(self._knows_all, "all know all")
        for primary, replica in zip(primaries, replicas, strict=True):
            replica.ask("CLUSTER", "REPLICATE", primary.id)
        self.until_whole()

    def _is_whole(self) -> bool:
        agreed = [_owners(each) for each in self.nodes]
        return agreed == agreed[:1] * len(agreed) and all(map(_serves, self.nodes))

    def _is_replaced(self, node: ClusterNode) -> bool:
        return all(
            each.state["cluster_state"] == "ok"
            and node.port not in [port for _, _, port in _owners(each)]
            for each in self.nodes
            if each is not node
        )

    def _knows_all(self) -> bool:
        wanted = str(len(self.nodes))
        return all(each.state["cluster_known_nodes"] == wanted for each in self.nodes)

    def _until(self, probe: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + SECONDS_MAX
        while True:
            with contextlib.suppress(redis.RedisError):
                if probe():
                    return
            assert time.monotonic() < deadline, f"not within {SECONDS_MAX:.0f} s: {what}"
            time.sleep(POLL_SECONDS)


def _serves(node: ClusterNode) -> bool:
    if node.state["cluster_state"] != "ok":
        return False
    info = node.info("replication")
    if info["role"] == "master":
        return info["connected_slaves"] == 1 and info["slave0"]["state"] == "online"
    return info["master_link_status"] == "up"


def _owners(node: ClusterNode) -> list[tuple[int, int, int]]:
    """Return the slots' ranges, and the port of who serves each, as a node knows them."""
    said = node.ask("CLUSTER", "SLOTS")
    return sorted((first, last, owner[1]) for first, last, owner, *_ in said)
