"""A redis-py client of a whole Redis Cluster: each command goes to the primary that serves its key.

redis-py's own repeats what a pipeline may have done already, raises what is no RedisError, and asks
for rights that the bridge does without.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import redis
from redis.commands import CoreCommands
from redis.event import EventDispatcher

from bridge.core import slots
from bridge.core.resp import ProtocolError
from bridge.target import Target

# Each node; who is away, and does not even say so, must not delay a failover for long.
MAP_SECONDS_MAX: Final = 1.0
# A command that says its key behind its second word; EVAL: behind the script and a number.
SUBCOMMANDS: Final = frozenset({"XINFO", "MEMORY"})


class ClusterClient(CoreCommands):
    """The commands of redis.Redis on single keys; what has no key goes to every primary.

    `seeds` are nodes to ask who serves what, `options` those of redis.Redis. It follows a key that
    has moved, and repeats nothing else. `response_callbacks` are those of all nodes.
    """

    def __init__(self, seeds: Sequence[Target], **options: Any) -> None:
        self._event_dispatcher = EventDispatcher()  # the commands want one
        self.response_callbacks = redis.Redis(**options).response_callbacks
        self._options = options
        self._doors = deque(seeds)
        self._seeds = tuple(seeds)
        self._made: dict[tuple[str, int], redis.Redis] = {}
        self._nodes: list[redis.Redis] = []
        self._places: Sequence[int] = ()

    def get_connection_kwargs(self) -> dict[str, Any]:
        """Return the options of each connection, as redis.Redis does."""
        return self._options

    def execute_command(self, *words: Any, **options: Any) -> Any:
        """Return what Redis answers; what has no key is answered by the first node.

        Raises redis.RedisError.
        """
        key = key_of(words)
        nodes = self.nodes if key is None else [self.node_of(key)]
        try:
            first, *_ = [_run(node, words, options) for node in nodes]
            return first
        except redis.exceptions.AskError as error:  # MOVED is one, too
            self._forget()
            host = error.host or nodes[0].connection_pool.connection_kwargs["host"]
            with self._node(host, error.port).pipeline(transaction=False) as pipe:
                _run(pipe, ("ASKING",), {})
                _run(pipe, words, options)
                return pipe.execute()[1]
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
            self._forget()
            raise

    @property
    def nodes(self) -> Sequence[redis.Redis]:
        """A client of each primary. Raises redis.RedisError when they cannot be told."""
        if not self._nodes:
            self._read_map()
        return self._nodes

    def node_of(self, key: str | bytes) -> redis.Redis:
        """Return a client of the primary that serves a key. Raises redis.RedisError."""
        nodes = self.nodes
        return nodes[self._places[slots.slot_of(key.encode() if isinstance(key, str) else key)]]

    def close(self) -> None:
        """Hang up everywhere."""
        for client in self._made.values():
            client.close()

    def _forget(self) -> None:
        """Have the nodes asked again who serves what."""
        self._nodes = []

    def _read_map(self) -> None:
        problem: Exception | None = None
        for _ in range(len(self._doors)):
            door = self._doors[0]
            self._doors.rotate(-1)
            try:
                found = slots.slot_map(self._asked(door))
            except ValueError as error:
                problem = problem or redis.exceptions.ClusterDownError(str(error))
            except ProtocolError as error:
                problem = problem or redis.InvalidResponse(str(error))
            except redis.RedisError as error:
                problem = problem or error
            else:
                targets = [
                    replace(door, host=node.host or door.host, port=node.port)
                    for node in found.nodes
                ]
                self._nodes = [self._node(each.host, each.port) for each in targets]
                self._places = found.places
                seeds = [each for each in self._seeds if each not in targets]
                self._doors = deque((*targets, *seeds))
                return
        assert problem is not None
        raise problem

    def _asked(self, door: Target) -> Any:
        """Return what a node says of the slots."""
        raw = {"protocol": 2, "decode_responses": False}
        seconds = dict.fromkeys(("socket_timeout", "socket_connect_timeout"), MAP_SECONDS_MAX)
        where = {"host": door.host, "port": door.port}
        with redis.Redis(**{**self._options, **where, **raw, **seconds}) as client:
            client.response_callbacks.clear()
            return _run(client, ("CLUSTER", "SLOTS"), {})

    def _node(self, host: str, port: int) -> redis.Redis:
        if (host, port) not in self._made:
            client = redis.Redis(**{**self._options, "host": host, "port": port})
            client.response_callbacks = self.response_callbacks
            self._made[host, port] = client
        return self._made[host, port]


def key_of(words: Sequence[Any]) -> str | bytes | None:
    """Return the key that decides where a command goes, None when every primary gets it."""
    name, *more = str(words[0]).upper().split()
    if name.encode() in slots.KEYLESS:
        return None
    place = 3 if name.encode() in slots.SCRIPTED else 1 + (name in SUBCOMMANDS and not more)
    key: str | bytes = words[place]
    return key


def nodes_of(client: redis.Redis) -> Sequence[redis.Redis]:
    """Return clients of the servers that together hold the keys. Raises redis.RedisError."""
    return client.nodes if isinstance(client, ClusterClient) else [client]


def node_of(client: redis.Redis, key: str | bytes) -> redis.Redis:
    """Return a client of the server that holds a key. Raises redis.RedisError."""
    return client.node_of(key) if isinstance(client, ClusterClient) else client


def _run(client: redis.Redis, words: Sequence[Any], options: dict[str, Any]) -> Any:
    return client.execute_command(*words, **options)  # type: ignore[no-untyped-call]
