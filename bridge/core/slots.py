"""The slots of a Redis Cluster: of a key, of a command, and which node serves which.

After the Redis Cluster specification: a key's slot is the CRC16 (XMODEM) of its hash tag, else of
the key, modulo 16,384. Pure: no socket, no clock.
"""

from binascii import crc_hqx
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from bridge.core.resp import ProtocolError, Reply

SLOTS: Final = 16_384
# Of those the lanes send, the ones that belong to no key: every node gets them.
KEYLESS: Final = frozenset(
    {b"BGREWRITEAOF", b"CLIENT", b"HELLO", b"INFO", b"PING", b"SCRIPT", b"TIME"}
)
# Behind these comes a script and the number of its keys, then the first of them.
SCRIPTED: Final = frozenset({b"EVAL", b"EVALSHA"})

NO_MAP: Final = "Redis answered CLUSTER SLOTS with what is no such answer"


class Node(NamedTuple):
    """Where a primary listens. An empty host is that of the node which was asked."""

    host: str
    port: int


class SlotMap(NamedTuple):
    """The primaries, and for each slot the place of its own among them."""

    nodes: tuple[Node, ...]
    places: Sequence[int]


def slot_of(key: bytes) -> int:
    """Return the slot of a key: that of what stands in its first braces, when that is not empty."""
    begin = key.find(b"{") + 1
    end = key.find(b"}", begin) if begin else -1
    return crc_hqx(key[begin:end] if end > begin else key, 0) % SLOTS


def commands(data: bytes) -> Iterator[tuple[bytes | None, bytes]]:
    """Yield the key that decides where a command goes, None for every node, and its bytes.

    `data` are whole commands, one behind the other, as `resp` makes them; or one call of a script
    alone, whose many words nobody needs to look at.
    """
    at, size, find = 0, len(data), data.index
    while at < size:
        begin, end = at, find(b"\r\n", at)
        left, at = int(data[at + 1 : end]), end + 2
        words: list[bytes] = []
        wanted = 2
        while left and len(words) < wanted:
            end = find(b"\r\n", at)
            at, start = end + 4 + int(data[at + 1 : end]), end + 2
            words.append(data[start : at - 2])
            left -= 1
            if words[0] in SCRIPTED:
                wanted = 4
        if wanted == 4:
            yield words[-1], data
            return
        for _ in range(left):  # most of what an entry is made of: only its end matters
            end = find(b"\r\n", at)
            at = end + 4 + int(data[at + 1 : end])
        yield (None if words[0] in KEYLESS else words[-1]), data[begin:at]


def slot_map(reply: Reply) -> SlotMap:
    """Return what `CLUSTER SLOTS` says.

    Raises ProtocolError for what is no such answer, ValueError when a slot has no primary, or one
    whose address is not told.
    """
    if not isinstance(reply, list):
        raise ProtocolError(NO_MAP)
    spans = [_span(each) for each in reply]
    nodes = tuple(sorted({node for _, _, node in spans}))
    places = [-1] * SLOTS
    for first, last, node in spans:
        places[first : last + 1] = [nodes.index(node)] * (last + 1 - first)
    if -1 in places:
        raise ValueError(f"{places.count(-1)} of {SLOTS} slots have no primary")
    return SlotMap(nodes, places)


def _span(reply: Reply) -> tuple[int, int, Node]:
    """Return the first slot of a range, its last, and their primary."""
    match reply:
        case [int() as first, int() as last, [host, int() as port, *_], *_] if (
            0 <= first <= last < SLOTS and (host is None or isinstance(host, bytes))
        ):
            name = (host or b"").decode(errors="replace")
        case _:
            raise ProtocolError(NO_MAP)
    if name == "?":
        raise ValueError("a node has no name: set its cluster-announce-hostname")
    return first, last, Node(name, port)
