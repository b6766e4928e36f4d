"""A link to a whole Redis Cluster: each command goes to the node that serves its key.

To who writes it is one connection: replies come in the order of the commands, and it is down when
any primary is away. A redirection of a write is never followed: what it answers has failed, the
lane goes on behind its mark, and the map is read again.
"""

import asyncio
import functools
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import structlog

from bridge.core import resp, slots
from bridge.core.resp import ProtocolError, Push, Reply, ReplyError
from bridge.core.slots import SlotMap
from bridge.endpoints import Cluster, Endpoint
from bridge.link import FOLLOW_SECONDS, OUTAGE, Connection, Link, RedisRefused, connect
from bridge.target import Target

log = structlog.get_logger("nautilus_bridge.cluster")

# Who is away, and does not even say so, must not keep us long from asking who is in its place.
NODE_SECONDS_MAX: Final = 1.0
EVERY: Final = -1
QUESTIONS: Final = (("CLUSTER", "INFO"), ("CLUSTER", "SLOTS"))


def link_to(endpoint: Endpoint, **settings: Any) -> Link:
    """Return the link that an endpoint needs. `settings` are those of Link."""
    if isinstance(endpoint, Cluster):
        return ClusterLink(endpoint, **settings)
    return Link(endpoint, **settings)


class ClusterLink(Link):
    """A Link whose connection is one to every primary. Settings are those of Link."""

    def __init__(self, cluster: Cluster, **settings: Any) -> None:
        super().__init__(cluster, **settings)
        self._cluster = cluster
        # Whom to ask for the map: each in turn, those first that were heard of last.
        self._doors = deque(cluster.seeds)
        self._targets: tuple[Target, ...] = ()
        self._epoch = 0
        self._outdated = self._silent = 0  # how many in a row

    async def _connect(self) -> Connection:
        found, self._targets = await self._read_map()
        self._connection = wires = Wires(found)
        for target in self._targets:
            wires.add(await _enter(target))
        return wires

    def seek(self, key: str, refusal: Reply) -> bool:
        """Send ASKING and GET where ASK leads; return whether that is known. To read a key there
        is safe, when it has moved, and when there is none."""
        wires = self._connection
        if not isinstance(wires, Wires) or not isinstance(refusal, ReplyError):
            return False
        code, _, address = (refusal.message.split() + [""] * 3)[:3]
        return code == "ASK" and wires.seek(key, address)

    def one_of_each_node(self, keys: Sequence[str]) -> list[str]:
        """Return of the keys that lie on the same node the first."""
        wires = self._connection
        if not isinstance(wires, Wires):
            return []
        return [*{wires.place_of(key): key for key in reversed(keys)}.values()]

    async def _follow(self, connection: Connection) -> None:
        """End a connection when another node has it that others are the primaries now.

        One that was replaced may be cut off: silent, or with answers as ever.
        """
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            try:
                _, targets = await self._read_map()
            except OUTAGE as error:
                self._note_silence(error)
                continue
            self._silent, self._cluster.problem = 0, ""
            if targets != self._targets:
                names = ", ".join([each.where for each in targets])
                connection.end(ConnectionResetError(f"the primaries are {names} now"))

    def _note_silence(self, error: Exception) -> None:
        """Tell that nobody says who the primaries are, once each has been asked in vain."""
        self._silent += 1
        if self._silent == len(self._doors):
            said = self._cluster.without_secrets(str(error))
            self._cluster.problem = f"no node tells who the primaries are: {said}"
            log.warning("cluster.silent", lane=self.name, problem=self._cluster.problem)

    async def _read_map(self) -> tuple[SlotMap, tuple[Target, ...]]:
        """Return the slots, and how to get into each of their nodes. Raises one of OUTAGE."""
        door = self._doors[0]
        self._doors.rotate(-1)
        epoch, answer = await _asked(door)
        self._believe(door, epoch)
        try:
            found = slots.slot_map(answer)
        except ValueError as error:
            raise ConnectionError(f"{door.where}: {error}") from None
        targets = tuple([_at(door, node) for node in found.nodes])
        known = dict.fromkeys((*targets, *self._cluster.seeds))
        fresh = [each for each in known if each not in self._doors]
        self._doors = deque([*fresh, *[each for each in self._doors if each in known]])
        return found, targets

    def _believe(self, door: Target, epoch: int | None) -> None:
        """Raise ConnectionError for what a node says that knows of an older election than others:
        it is cut off from them. A Cluster in which all do was made anew."""
        if epoch is None or epoch >= self._epoch or self._outdated >= len(self._doors):
            self._epoch, self._outdated = self._epoch if epoch is None else epoch, 0
            return
        self._outdated += 1
        raise ConnectionError(
            f"{door.where}: its epoch is {epoch}, that of others is {self._epoch}: it is cut off"
        )


async def _asked(door: Target) -> tuple[int | None, Reply]:
    """Return the epoch that a node knows of, None where it may not be asked, then what it answers
    to CLUSTER SLOTS: that is not older. Raises one of OUTAGE."""
    connection = await _enter(door)
    try:
        async with asyncio.timeout(NODE_SECONDS_MAX):
            info, places = await connection.ask(QUESTIONS)
    except (OSError, ProtocolError):  # a TimeoutError, too
        raise ConnectionError(f"{door.where}: it does not tell CLUSTER SLOTS") from None
    finally:
        connection.forget()
    if isinstance(places, ReplyError):
        raise RedisRefused(places, door.without_secrets(places.message))
    text = info.decode(errors="replace") if isinstance(info, bytes) else ""
    epoch = re.search(r"^cluster_current_epoch:(\d{1,20})\r?$", text, re.MULTILINE)
    return (int(epoch[1]) if epoch else None), places


async def _enter(target: Target) -> Connection:
    """Do as `connect` does, in less time; an error names the node."""
    try:
        async with asyncio.timeout(NODE_SECONDS_MAX):
            return await connect(target)
    except TimeoutError:
        raise TimeoutError(f"{target.where}: no answer within {NODE_SECONDS_MAX:g} s") from None
    except OSError as error:
        raise ConnectionError(f"{target.where}: {error}") from None


def _at(door: Target, node: slots.Node) -> Target:
    """Return how to get into a node of which another one has told."""
    return replace(door, host=node.host or door.host, port=node.port)


class Wires(Connection):
    """A connection to each primary, as one: it ends with the first of them that ends."""

    def __init__(self, found: SlotMap) -> None:
        super().__init__(_unset)
        self._nodes = [f"{node.host}:{node.port}" for node in found.nodes]
        self._places = found.places
        self._wires: list[Connection] = []
        # Who owes what, oldest first: the place of a node, or EVERY.
        self._due: deque[int] = deque()
        self._answers: list[deque[Reply]] = []
        self._owed: list[int] = []

    def place_of(self, key: str) -> int:
        """Return the place of the node that serves a key."""
        return self._places[slots.slot_of(key.encode())]

    def seek(self, key: str, address: str) -> bool:
        """Send ASKING and GET to the node at an address; return whether there is one."""
        if address not in self._nodes:
            return False
        place = self._nodes.index(address)
        self._due.extend((place, place))
        self._owed[place] += 2
        self._wires[place].write(resp.command("ASKING") + resp.command("GET", key))
        return True

    def add(self, wire: Connection) -> None:
        """Take the connection to the next node of the map."""
        wire.on_replies = functools.partial(self._take, len(self._wires))
        self._wires.append(wire)
        self._answers.append(deque())
        self._owed.append(0)
        wire.closed.add_done_callback(self._ended)

    def write(self, data: bytes) -> None:
        """Send each command to where its key is, one without a key to every node."""
        if self.closed.done():
            return
        parts: list[list[bytes]] = [[] for _ in self._wires]
        for key, command in slots.commands(data):
            place = EVERY if key is None else self._places[slots.slot_of(key)]
            self._due.append(place)
            for part in parts if place == EVERY else (parts[place],):
                part.append(command)
        for place, part in enumerate(parts):
            if part:
                self._owed[place] += len(part)
                self._wires[place].write(b"".join(part))

    def drop(self) -> None:
        """Cut all of it at once."""
        for wire in self._wires:
            wire.drop()

    def _ended(self, closed: asyncio.Future[None]) -> None:
        error = None if closed.cancelled() else closed.exception()
        if isinstance(error, Exception):
            self.end(error)

    def _take(self, place: int, replies: Sequence[Reply]) -> None:
        """Hand on what is next in the order of the commands; news at once."""
        if Push in map(type, replies):
            self.on_replies([each for each in replies if isinstance(each, Push)])
            replies = [each for each in replies if not isinstance(each, Push)]
        self._owed[place] -= len(replies)
        if self._owed[place] < 0:
            raise ProtocolError("Redis answered what was not asked")
        self._answers[place].extend(replies)
        due, answers, ready = self._due, self._answers, list[Reply]()
        while due:
            if due[0] == EVERY:
                if not all(answers):
                    break
                ready.append(_one_of([each.popleft() for each in answers]))
            elif answers[due[0]]:
                ready.append(answers[due[0]].popleft())
            else:
                break
            due.popleft()
        if ready:
            self.on_replies(ready)


def _one_of(answers: Sequence[Reply]) -> Reply:
    """Return what all nodes have answered as one: an error, if there is one; texts that differ,
    as those of INFO, one behind the other."""
    for answer in answers:
        if isinstance(answer, ReplyError):
            return answer
    texts = [each for each in answers if isinstance(each, bytes)]
    return b"".join(dict.fromkeys(texts)) if len(texts) == len(answers) else answers[0]


def _unset(_: Sequence[Reply]) -> None:
    """Nobody reads yet, and nothing was asked."""
