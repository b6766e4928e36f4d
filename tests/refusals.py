"""Ways in which a real Redis takes no writes for a while."""

from collections.abc import Callable

import pytest

from tests.servers import RedisServer, free_port

type Refuse = Callable[[RedisServer], Callable[[], None]]


def refuse_by_memory(server: RedisServer) -> Callable[[], None]:
    """Take no writes for want of memory; return what ends that."""
    server.client.config_set("maxmemory", "1")
    return lambda: server.client.config_set("maxmemory", "0")


def refuse_as_replica(server: RedisServer) -> Callable[[], None]:
    """Become a replica, of nobody; return what ends that."""
    server.client.replicaof("127.0.0.1", free_port())
    return lambda: server.client.replicaof("NO", "ONE")


def refuse_without_replicas(server: RedisServer) -> Callable[[], None]:
    """Want replicas that are not there; return what ends that."""
    server.client.config_set("min-replicas-to-write", "1")
    return lambda: server.client.config_set("min-replicas-to-write", "0")


def refuse_the_user(server: RedisServer) -> Callable[[], None]:
    """Forbid the commands by which entries are written; return what ends that."""
    server.client.execute_command("ACL", "SETUSER", "default", "-evalsha", "-xadd")
    return lambda: server.client.execute_command("ACL", "SETUSER", "default", "+evalsha", "+xadd")


# Of what kind the errors are: a label value of the metric.
REFUSALS: dict[str, tuple[Refuse, str]] = {
    "oom": (refuse_by_memory, "oom"),
    "replica": (refuse_as_replica, "readonly"),
    "no replicas": (refuse_without_replicas, "readonly"),
    "acl": (refuse_the_user, "auth"),
}
refusals = pytest.mark.parametrize(("refuse", "kind"), REFUSALS.values(), ids=REFUSALS)
