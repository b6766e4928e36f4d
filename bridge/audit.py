"""Do journal, Redis, ledger and archive agree, entry by entry?

Each entry is compared by (producer, seq, content), up to the last number that any of them knew when
the audit began: it may run beside a bridge that trades. A place may hold less than the others where
that is how it is kept: the journal and Redis forget what is old.
"""

import re
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from bridge.core.spans import Spans
from bridge.reading import SEQ_DIGITS_MAX, Item, digest_of

# The order in which an entry travels.
PLACES: Final = ("journal", "redis", "ledger", "archive")
LEDGER_KINDS: Final = ("fills", "exec_funding")
PROGRESS_ENTRIES: Final = 10_000
# What `contract.hole` says.
HOLE: Final = re.compile(rb"(\S+) (\S+) (\d+)-(\d+)")

# (kind, producer)
type Key = tuple[str, str]
type Numbers = np.ndarray[tuple[int], np.dtype[np.uint64]]
type Mask = np.ndarray[tuple[int], np.dtype[np.bool_]]


class Held(NamedTuple):
    """What one place holds of one producer in one stream: numbers that rise, a digest for each.

    `doubled` are numbers that were there twice with one content, `differing` with two.
    """

    numbers: Numbers
    digests: Numbers
    doubled: Numbers
    differing: Numbers


class Column:
    """Numbers and digests as a place yields them, in any order; a number may be any."""

    def __init__(self) -> None:
        self._seqs = array("Q")
        self._digests = array("Q")

    def put(self, seq: int, digest: bytes) -> None:
        """Note an entry."""
        self._seqs.append(seq)
        self._digests.append(int.from_bytes(digest))

    def held(self) -> Held:
        """Return what was put, in order."""
        seqs = np.frombuffer(self._seqs, dtype=np.uint64)
        digests = np.frombuffer(self._digests, dtype=np.uint64)
        order = np.lexsort((digests, seqs))
        seqs, digests = seqs[order], digests[order]
        again, same = seqs[1:] == seqs[:-1], digests[1:] == digests[:-1]
        is_first = np.ones(len(seqs), dtype=np.bool_)
        is_first[1:] = ~again
        return Held(
            seqs[is_first],
            digests[is_first],
            doubled=np.unique(seqs[1:][again & same]),
            differing=np.unique(seqs[1:][again & ~same]),
        )


@dataclass
class Count:
    """Some of the numbers of a stream: how many, and the first."""

    number: int = 0
    first: int = 0

    @classmethod
    def of(cls, numbers: Numbers) -> "Count":
        """Return the count of numbers that rise."""
        return cls(len(numbers), int(numbers[0])) if len(numbers) else cls()

    def __str__(self) -> str:
        return f"{self.number} (first {self.first})" if self.number else "-"


class Row(NamedTuple):
    """One producer in one stream: what each place holds of it, None where it is not asked.

    `first` is the lowest number that any place has, `last` the highest that is asked for. `gaps`
    are nowhere and not named by `exec:control`; `mismatches` have two contents. `unshipped` are in
    the journal and not in Redis yet; `missing` were there once, and are not the oldest of it.
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

    `kinds` are those of the streams, by name. `named` are the numbers that `exec:control` says will
    never come, `foreign` entries of others by place and kind. `newer` came while it was read.
    """

    kinds: Mapping[str, str] = field(default_factory=dict)
    ends: dict[Key, int] = field(default_factory=dict)
    columns: dict[str, dict[Key, Column]] = field(default_factory=dict)
    marks: dict[Key, int] = field(default_factory=dict)
    named: dict[Key, Spans] = field(default_factory=dict)
    foreign: dict[tuple[str, str], int] = field(default_factory=dict)
    newer: int = 0

    def open(self, place: str) -> None:
        """Note that a place is asked, even when it holds nothing."""
        self.columns.setdefault(place, {})

    def begin(self, items: Iterable[Item]) -> Iterator[int]:
        """Take the journal; how far it reaches is asked of the others. As `take`."""
        return self.take("journal", self._asking(items))

    def ask(self, key: Key, last: int) -> None:
        """Ask every place for all up to `last`."""
        self.ends[key] = max(self.ends.get(key, 0), last)

    def take(self, place: str, items: Iterable[Item]) -> Iterator[int]:
        """Take what a place holds; yield now and then, and at its end, how many so far."""
        self.open(place)
        count = 0
        for count, item in enumerate(items, start=1):
            if item.producer:
                self.note(place, (item.kind, item.producer), item.seq, digest_of(item.fields))
                if item.kind == "control":
                    self._name(item)
            else:
                key = place, item.kind
                self.foreign[key] = self.foreign.get(key, 0) + 1
            if not count % PROGRESS_ENTRIES:
                yield count
        yield count

    def note(self, place: str, key: Key, seq: int, digest: bytes) -> None:
        """Note one entry, unless it is newer than the audit."""
        if seq > self.ends.get(key, 0):
            self.newer += 1
            return
        columns = self.columns[place]
        column = columns.get(key)
        if column is None:
            column = columns[key] = Column()
        column.put(seq, digest)

    def rows(self) -> list[Row]:
        """Return the verdict, a row for each producer and stream."""
        return [self._row(key, last) for key, last in sorted(self.ends.items()) if last]

    def _asking(self, items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            self.ask((item.kind, item.producer), item.seq)
            yield item

    def _name(self, item: Item) -> None:
        """Note the numbers that a hole names."""
        told = dict(zip(item.fields[::2], item.fields[1::2], strict=False))
        hole = HOLE.fullmatch(told.get(b"reason", b"")) if told.get(b"cause") == b"base" else None
        if hole is None or len(hole[4]) > SEQ_DIGITS_MAX or int(hole[3]) > int(hole[4]):
            return
        stream, producer = [text.decode(errors="replace") for text in hole.group(1, 2)]
        spans = self.named.setdefault((self.kinds.get(stream, stream), producer), Spans())
        spans.add(int(hole[3]), int(hole[4]))

    def _row(self, key: Key, last: int) -> Row:
        kind, producer = key
        held = {
            place: columns.get(key, Column()).held()
            for place, columns in self.columns.items()
            if place != "ledger" or kind in LEDGER_KINDS
        }
        numbers = _union([each.numbers for each in held.values()])
        there = {place: np.isin(numbers, each.numbers) for place, each in held.items()}
        differing = [numbers[_differ(numbers, list(held.values()))]]
        if len(numbers):
            first = int(numbers[0])
        else:  # what is nowhere is lost, if somebody should have kept it
            first = 1 if {"ledger", "archive"} & there.keys() else last + 1
        return Row(
            kind,
            producer,
            first,
            last,
            {place: len(held[place].numbers) if place in held else None for place in PLACES},
            gaps=self._gaps(key, numbers, first, last),
            mismatches=Count.of(_union(differing + [each.differing for each in held.values()])),
            doubled=Count.of(_union([each.doubled for each in held.values()])),
            **self._lacks(key, numbers, there),
        )

    def _gaps(self, key: Key, numbers: Numbers, first: int, last: int) -> Count:
        """Return what is nowhere between `first` and `last`, and was not named."""
        bounds = np.array([first - 1, last + 1], dtype=np.uint64)
        ends = np.concatenate([bounds[:1], numbers, bounds[1:]])
        before = np.flatnonzero(np.diff(ends) > 1)
        gaps = Count()
        for begin, end in zip(ends[before].tolist(), ends[before + 1].tolist(), strict=True):
            for a, b in _without(begin + 1, end - 1, self.named.get(key, ())):
                gaps = Count(gaps.number + b - a + 1, gaps.first or a)
        return gaps

    def _lacks(self, key: Key, numbers: Numbers, there: Mapping[str, Mask]) -> dict[str, Count]:
        """Return what a place should hold, and does not."""
        nowhere = np.zeros(len(numbers), dtype=np.bool_)
        lacks = {place: ~mask for place, mask in there.items()}
        # Only what is in the journal can still be shipped.
        unshipped = lacks.get("redis", nowhere) & there.get("journal", nowhere)
        unshipped &= numbers > self.marks.get(key, 0)
        # The oldest go first when a stream is trimmed: only what lies behind others is missing.
        missing = lacks.get("redis", nowhere) & ~unshipped & ~self._are_named(key, numbers)
        in_redis = np.flatnonzero(~lacks.get("redis", ~nowhere))
        missing[: in_redis[0] if len(in_redis) else None] = False
        return {
            "unshipped": Count.of(numbers[unshipped]),
            "missing": Count.of(numbers[missing]),
            "unbooked": Count.of(numbers[lacks.get("ledger", nowhere)]),
            "unarchived": Count.of(numbers[lacks.get("archive", nowhere)]),
        }

    def _are_named(self, key: Key, numbers: Numbers) -> Mask:
        named = np.zeros(len(numbers), dtype=np.bool_)
        for first, last in self.named.get(key, ()):
            named |= (numbers >= first) & (numbers <= last)
        return named


def _union(columns: list[Numbers]) -> Numbers:
    """Return the numbers of columns that rise; faster than np.unique, which hashes."""
    found = np.sort(np.concatenate(columns), kind="stable")
    is_first = np.ones(len(found), dtype=np.bool_)
    is_first[1:] = found[1:] != found[:-1]
    return found[is_first]


def _differ(numbers: Numbers, columns: list[Held]) -> Mask:
    """Return where two places hold two contents."""
    known = np.zeros(len(numbers), dtype=np.uint64)
    is_known, differ = np.zeros((2, len(numbers)), dtype=np.bool_)
    for column in columns:
        at = np.searchsorted(numbers, column.numbers)
        differ[at] |= is_known[at] & (known[at] != column.digests)
        known[at], is_known[at] = column.digests, True
    return differ


def _without(first: int, last: int, named: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the runs from `first` to `last` without those that were named, which rise."""
    for begin, end in named:
        if begin > last:
            break
        if end >= first:
            if begin > first:
                yield first, begin - 1
            first = end + 1
    if first <= last:
        yield first, last
