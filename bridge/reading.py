"""What a reader of the exec streams hands on, and who takes it: the ledger and the archive."""

import struct
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple, Protocol

from bridge.core.spans import Spans

DIGEST_BYTES: Final = 8
LENGTH: Final = struct.Struct("<Q")
# A longer number is nobody's: Redis scripts count in doubles, SQLite in 64 bits.
SEQ_DIGITS_MAX: Final = 15

# (kind, producer) -> the numbers that were taken.
type Taken = Mapping[tuple[str, str], Spans]


class Item(NamedTuple):
    """One entry of an exec stream.

    `kind` is one of contract.EXEC_KINDS. `id` is the entry's stream id, empty when it comes from
    the journal or the archive. `producer` is empty, and `seq` 0, for an entry of somebody else's.
    `fields` are names and values in turn, as Redis holds them.
    """

    kind: str
    id: str
    producer: str
    seq: int
    fields: Sequence[bytes]


class Place(NamedTuple):
    """How far a stream was read: the id of an entry, and what stands there (`digest_of`).

    A hint: it holds only so long as the stream still has this entry under this id.
    """

    id: str
    digest: bytes


class Dead(NamedTuple):
    """An entry that a sink could not use, and why."""

    kind: str
    id: str
    error: str
    fields: Sequence[bytes]


class Sink(Protocol):
    """Who takes entries, each once. All of it is called from one thread."""

    @property
    def name(self) -> str:
        """The word for it in the log."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of streams that it takes."""

    @property
    def taken(self) -> Taken:
        """What was taken, by (kind, producer); the truth of the cursor."""

    @property
    def places(self) -> Mapping[str, Place]:
        """By kind, where to go on reading."""

    def new_ones(self, foreign: Sequence[Item]) -> Sequence[Item]:
        """Return those of somebody else's entries that were not taken yet, in their order."""

    def take(self, items: Sequence[Item], places: Mapping[str, Place]) -> Sequence[Dead]:
        """Take entries, and note the places, durably and all or nothing.

        Returns those that cannot be used; they count as taken. Raises OSError, sqlite3.Error.
        """


class History(Protocol):
    """Where entries can be had that Redis has no more: the journal, the archive."""

    def find(self, kind: str, producer: str, first: int, last: int) -> Iterable[Item]:
        """Yield what there is of these numbers, rising. Raises OSError."""


def digest_of(fields: Sequence[bytes]) -> bytes:
    """Return the 8 bytes by which the content of an entry is compared."""
    text = b"\0".join(fields)
    if text.count(b"\0") == len(fields) - 1:  # what nearly always happens: it tells them apart
        return blake2b(text, digest_size=DIGEST_BYTES).digest()
    lengths = [LENGTH.pack(len(field)) for field in fields]
    text = b"".join([*lengths, *fields])
    return blake2b(text, digest_size=DIGEST_BYTES, person=b"lengths").digest()


def item_of(kind: str, entry_id: str, fields: Sequence[bytes]) -> Item:
    """Return an entry as an item: ours when it ends with a producer and its number."""
    if len(fields) >= 8 and fields[-8] == b"producer" and fields[-6] == b"seq":
        producer, seq = fields[-7], fields[-5]
        if producer and seq.isdigit() and len(seq) <= SEQ_DIGITS_MAX and int(seq) > 0:
            return Item(kind, entry_id, producer.decode(errors="replace"), int(seq), fields)
    return Item(kind, entry_id, "", 0, fields)
