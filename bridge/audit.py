"""Do journal, Redis, ledger and archive agree, entry by entry?

Each entry is compared by (producer, seq, content). The journal is read first: what it holds then is
what the others are asked for, so that the audit may run beside a bridge that trades. A place may
hold less than the others where that is how it is kept: the journal and Redis forget what is old.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from bridge.reading import Item, digest_of

# The order in which an entry travels.
PLACES: Final = ("journal", "redis", "ledger", "archive")
LEDGER_KINDS: Final = ("fills", "exec_funding")

# (kind, producer)
type Key = tuple[str, str]
type Numbers = np.ndarray[tuple[int], np.dtype[np.uint64]]
type Mask = np.ndarray[tuple[int], np.dtype[np.bool_]]


class Column:
    """What one place holds of one producer in one stream: a digest by seq, 0 where there is none.

    `doubled` are numbers that were there twice with one content, `differing` with two.
    """

    def __init__(self) -> None:
        self._digests = array("Q")
        self.doubled: list[int] = []
        self.differing: list[int] = []

    def put(self, seq: int, digest: bytes) -> None:
        """Note an entry."""
        number, digests = int.from_bytes(digest) or 1, self._digests
        missing = seq - 1 - len(digests)
        if missing >= 0:
            digests.frombytes(bytes(missing * digests.itemsize))
            digests.append(number)
        elif not digests[seq - 1]:
            digests[seq - 1] = number
        elif digests[seq - 1] == number:
            self.doubled.append(seq)
        else:
            self.differing.append(seq)

    def upto(self, last: int) -> Numbers:
        """Return the digests of 1 to `last`."""
        found = np.zeros(last, dtype=np.uint64)
        held = np.frombuffer(self._digests, dtype=np.uint64)[:last]
        found[: len(held)] = held
        return found


@dataclass
class Count:
    """Some of the numbers of a stream: how many, and the first."""

    number: int = 0
    first: int = 0

    @classmethod
    def of(cls, mask: Mask) -> "Count":
        """Return the count of what is true; numbers begin with 1."""
        number = int(np.count_nonzero(mask))
        return cls(number, int(np.argmax(mask)) + 1 if number else 0)

    def __str__(self) -> str:
        return f"{self.number} (first {self.first})" if self.number else "-"


class Row(NamedTuple):
    """One producer in one stream: what each place holds of it, None where it is not asked.

    `first` is the lowest number that any place has, `last` the highest that is asked for. `gaps`
    are nowhere and not named by `exec:control`; `mismatches` have two contents, or stand twice.
    """

    kind: str
    producer: str
    first: int
    last: int
    held: Mapping[str, int | None]
    gaps: Count
    mismatches: Count
    doubled: Count
    unshipped: Count
    missing: Count
    unbooked: Count
    unarchived: Count

    @property
    def agrees(self) -> bool:
        """Whether nothing is wrong with it."""
        return not any(each.number for each in self if isinstance(each, Count))


@dataclass
class Evidence:
    """What was read: columns by place and key, the last numbers asked for, marks of Redis.

    `named` are the numbers that `exec:control` says will never come, `foreign` entries of others by
    place and kind. `newer` came while it was read.
    """

    ends: dict[Key, int] = field(default_factory=dict)
    columns: dict[str, dict[Key, Column]] = field(default_factory=dict)
    marks: dict[Key, int] = field(default_factory=dict)
    named: dict[Key, set[int]] = field(default_factory=dict)
    foreign: dict[tuple[str, str], int] = field(default_factory=dict)
    newer: int = 0

    def open(self, place: str) -> None:
        """Note that a place is asked, even when it holds nothing."""
        self.columns.setdefault(place, {})

    def begin(self, items: Iterable[Item]) -> None:
        """Take the journal: how far it reaches is asked of the others."""
        self.open("journal")
        for item in items:
            key = item.kind, item.producer
            self.ends[key] = max(self.ends.get(key, 0), item.seq)
            self._put("journal", key, item.seq, digest_of(item.fields))

    def ask(self, key: Key, last: int) -> None:
        """Ask for what the journal does not hold (any more): all up to `last`."""
        self.ends.setdefault(key, last)

    def take(self, place: str, items: Iterable[Item], kinds: Mapping[str, str]) -> Iterator[int]:
        """Take what a place holds; yield now and then how many so far. `kinds` by stream name."""
        self.open(place)
        count = 0
        for count, item in enumerate(items, start=1):
            if item.producer:
                self.note(place, (item.kind, item.producer), item.seq, digest_of(item.fields))
                if item.kind == "control":
                    self._name(item, kinds)
            else:
                key = place, item.kind
                self.foreign[key] = self.foreign.get(key, 0) + 1
            if not count % 10_000:
                yield count
        yield count

    def note(self, place: str, key: Key, seq: int, digest: bytes) -> None:
        """Note one entry, unless it is newer than the audit."""
        if seq <= self.ends.get(key, 0):
            self._put(place, key, seq, digest)
        else:
            self.newer += 1

    def rows(self) -> list[Row]:
        """Return the verdict, a row for each producer and stream."""
        return [self._row(key, last) for key, last in sorted(self.ends.items()) if last]

    def _put(self, place: str, key: Key, seq: int, digest: bytes) -> None:
        columns = self.columns[place]
        column = columns.get(key)
        if column is None:
            column = columns[key] = Column()
        column.put(seq, digest)

    def _name(self, item: Item, kinds: Mapping[str, str]) -> None:
        """Note the numbers that a hole names: `<stream> <producer> <first>-<last>`."""
        told = dict(zip(item.fields[::2], item.fields[1::2], strict=True))
        if told.get(b"cause") != b"base":
            return
        stream, producer, span = told[b"reason"].decode().rsplit(" ", 2)
        first, _, last = span.partition("-")
        key = kinds.get(stream, stream), producer
        upto = min(int(last), self.ends.get(key, 0))
        self.named.setdefault(key, set()).update(range(int(first), upto + 1))

    def _row(self, key: Key, last: int) -> Row:
        kind, producer = key
        held = {
            place: columns.get(key, Column())
            for place, columns in self.columns.items()
            if place != "ledger" or kind in LEDGER_KINDS
        }
        digests = {place: column.upto(last) for place, column in held.items()}
        there = {place: each != 0 for place, each in digests.items()}
        anywhere = np.logical_or.reduce(list(there.values()))
        first = int(np.argmax(anywhere)) + 1
        excused = ~anywhere
        excused[first - 1 :] = False
        for number in self.named.get(key, ()):
            excused[number - 1] = True
        return Row(
            kind,
            producer,
            first,
            last,
            {place: int(there[place].sum()) if place in there else None for place in PLACES},
            gaps=Count.of(~anywhere & ~excused),
            mismatches=Count.of(_differ(list(digests.values())) | _at(held, "differing", last)),
            doubled=Count.of(_at(held, "doubled", last)),
            **self._lacks(key, there, anywhere, last),
        )

    def _lacks(
        self,
        key: Key,
        there: Mapping[str, Mask],
        anywhere: Mask,
        last: int,
    ) -> dict[str, Count]:
        """Return what a place should hold, and does not."""
        mark = min(self.marks.get(key, 0), last)
        unshipped = anywhere.copy()
        unshipped[:mark] = False
        unshipped &= ~there["redis"]
        # The oldest go first when a stream is trimmed: only what lies behind others is missing.
        missing = anywhere & ~there["redis"]
        missing[mark:] = False
        missing[: int(np.argmax(there["redis"]))] = False
        if not there["redis"].any():
            missing[:] = False

        def lacking(place: str) -> Count:
            return Count.of(anywhere & ~there[place]) if place in there else Count()

        return {
            "unshipped": Count.of(unshipped),
            "missing": Count.of(missing),
            "unbooked": lacking("ledger"),
            "unarchived": lacking("archive"),
        }


def _differ(columns: list[Numbers]) -> Mask:
    """Return where two places hold two contents."""
    known = columns[0].copy()
    differ = np.zeros(len(known), dtype=np.bool_)
    for column in columns[1:]:
        differ |= (known != 0) & (column != 0) & (known != column)
        known = np.where(known == 0, column, known)
    return differ


def _at(held: Mapping[str, Column], what: str, last: int) -> Mask:
    mask = np.zeros(last, dtype=np.bool_)
    for column in held.values():
        for seq in getattr(column, what):
            mask[seq - 1] = True
    return mask
