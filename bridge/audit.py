"""Do journal, Redis, ledger and archive agree, entry by entry?

Each entry is compared by (producer, seq, content), up to the last number that any of them knew when
the audit began: it may run beside a bridge that trades. A place may hold less than the others where
that is how it is kept: the journal and Redis forget what is old. The ledger keeps the fields of
what it booked: by these it is compared as well.
"""

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from bridge.archive_tally import id_key
from bridge.audit_columns import Column, Mask, Numbers, differ, union
from bridge.core.contract import STREAMS
from bridge.core.spans import Spans
from bridge.reading import SEQ_DIGITS_MAX, Item, digest_of

# The order in which an entry travels.
PLACES: Final = ("journal", "redis", "ledger", "archive")
LEDGER_KINDS: Final = ("fills", "exec_funding")
FIELDS: Final = {kind: [name.encode() for name in STREAMS[kind].names] for kind in LEDGER_KINDS}
PROGRESS_ENTRIES: Final = 10_000
# What `contract.hole` says.
HOLE: Final = re.compile(rb"(\S+) (\S+) (\d+)-(\d+)")

# (kind, producer)
type Key = tuple[str, str]


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

    `first` is 1 where ledger or archive should have all, else the lowest number that any place has;
    `last` is the highest that is asked for. `gaps` are nowhere and not named by `exec:control`;
    `mismatches` have two contents. `unshipped` are in the journal and not in Redis yet; `missing`
    were there once, and are not the oldest of it.
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

    `kinds` are those of the streams, by name. `last_ids` are, by kind, the last ids that Redis had
    given when the audit began. `kept` has the digests of the fields that the ledger keeps, as the
    places in `kept_by` have them; those of somebody else's entries by the digest of the whole.
    `named` are the numbers that a producer says in `exec:control` will never come, `foreign`
    entries of others by place and kind. `newer` came while it was read.
    """

    kinds: Mapping[str, str] = field(default_factory=dict)
    last_ids: dict[str, str] = field(default_factory=dict)
    kept_by: Container[str] = PLACES
    ends: dict[Key, int] = field(default_factory=dict)
    columns: dict[str, dict[Key, Column]] = field(default_factory=dict)
    kept: dict[str, dict[Key, Column]] = field(default_factory=dict)
    marks: dict[Key, int] = field(default_factory=dict)
    named: dict[Key, Spans] = field(default_factory=dict)
    foreign: dict[tuple[str, str], int] = field(default_factory=dict)
    newer: int = 0

    def open(self, place: str) -> None:
        """Note that a place is asked, even when it holds nothing."""
        self.columns.setdefault(place, {})
        self.kept.setdefault(place, {})

    def begin(self, items: Iterable[Item]) -> Iterator[int]:
        """Take the journal; how far it reaches is asked of the others. As `take`."""
        return self.take("journal", self._asking(items))

    def ask(self, key: Key, last: int) -> None:
        """Ask every place for all up to `last`."""
        self.ends[key] = max(self.ends.get(key, 0), last)

    def take(self, place: str, items: Iterable[Item]) -> Iterator[int]:
        """Take what a place holds; yield now and then, and at its end, how many so far."""
        self.open(place)
        fields_by_kind = FIELDS if place in self.kept_by else {}
        count = 0
        for count, item in enumerate(items, start=1):
            fields = item.fields
            names = fields_by_kind.get(item.kind)
            values = () if names is None else _values_of(fields, names)
            key = item.kind, item.producer
            self.note(place, key, item.seq, item.id, digest_of(fields), values)
            if not item.producer:
                where = place, item.kind
                self.foreign[where] = self.foreign.get(where, 0) + 1
            elif item.kind == "control":
                self._name(item)
            if not count % PROGRESS_ENTRIES:
                yield count
        yield count

    def note(
        self,
        place: str,
        key: Key,
        seq: int,
        entry_id: str,
        digest: bytes,
        values: Sequence[bytes] = (),
    ) -> None:
        """Note one entry, unless it is newer than the audit; `values` are what a ledger keeps."""
        kind, producer = key
        if not producer:
            seq = int.from_bytes(digest)  # by this number it is known everywhere
        else:
            if seq > self.ends.get(key, 0):
                if self._is_newer(kind, entry_id):
                    self.newer += 1
                    return
                self.ends[key] = seq
            _column(self.columns[place], key).put(seq, digest)
        if values:
            _column(self.kept[place], key).put(seq, digest_of(values))

    def rows(self) -> list[Row]:
        """Return the verdict, a row for each producer and stream."""
        return [self._row(key, last) for key, last in sorted(self.ends.items()) if last]

    def changed_foreign(self) -> dict[str, int]:
        """Return, by kind, how many entries of somebody else's are not in the ledger as others have
        them."""
        changed = {}
        for kind in LEDGER_KINDS:
            columns = [each[kind, ""].held() for each in self.kept.values() if (kind, "") in each]
            if columns:
                numbers = union([each.numbers for each in columns])
                changed[kind] = int(np.count_nonzero(differ(numbers, columns)))
        return changed

    def _is_newer(self, kind: str, entry_id: str) -> bool:
        """Return whether an entry with a number that is not asked for came after the audit began.

        What a reader took without an id it took meanwhile: the numbers it had are asked for.
        """
        return not entry_id or id_key(entry_id) > id_key(self.last_ids.get(kind, ""))

    def _asking(self, items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            self.ask((item.kind, item.producer), item.seq)
            yield item

    def _name(self, item: Item) -> None:
        """Note the numbers that a hole names: nobody may name those of others."""
        told = dict(zip(item.fields[::2], item.fields[1::2], strict=False))
        hole = HOLE.fullmatch(told.get(b"reason", b"")) if told.get(b"cause") == b"base" else None
        if hole is None or len(hole[4]) > SEQ_DIGITS_MAX or int(hole[3]) > int(hole[4]):
            return
        stream, producer = [text.decode(errors="replace") for text in hole.group(1, 2)]
        if _stem(producer) != _stem(item.producer):
            return
        spans = self.named.setdefault((self.kinds.get(stream, stream), producer), Spans())
        spans.add(int(hole[3]), int(hole[4]))

    def _row(self, key: Key, last: int) -> Row:
        kind, producer = key
        held = {
            place: columns.get(key, Column()).held()
            for place, columns in self.columns.items()
            if place != "ledger" or kind in LEDGER_KINDS
        }
        numbers = union([each.numbers for each in held.values()])
        there = {place: np.isin(numbers, each.numbers) for place, each in held.items()}
        kept = [each[key].held() for each in self.kept.values() if key in each]
        differing = [numbers[differ(numbers, columns)] for columns in ([*held.values()], kept)]
        if {"ledger", "archive"} & there.keys():
            first = 1  # what is nowhere is lost: somebody should have kept it
        else:
            first = int(numbers[0]) if len(numbers) else last + 1
        return Row(
            kind,
            producer,
            first,
            last,
            {place: len(held[place].numbers) if place in held else None for place in PLACES},
            gaps=self._gaps(key, numbers, first, last),
            mismatches=Count.of(union(differing + [each.differing for each in held.values()])),
            doubled=Count.of(union([each.doubled for each in held.values()])),
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


def _column(columns: dict[Key, Column], key: Key) -> Column:
    """Return the column of a key, made where there is none."""
    column = columns.get(key)
    if column is None:
        column = columns[key] = Column()
    return column


def _values_of(fields: Sequence[bytes], names: Sequence[bytes]) -> Sequence[bytes]:
    """Return what a ledger keeps of an entry: the values of the fields that the contract names."""
    if fields[:-8:2] == names:
        return fields[1:-8:2]
    told = dict(zip(fields[::2], fields[1::2], strict=False))
    return [told.get(name, b"") for name in names]


def _stem(producer: str) -> str:
    """Return a producer's name without its incarnation, all of it where it has none."""
    stem, _, incarnation = producer.rpartition(".")
    return stem if stem and incarnation.isdecimal() else producer


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
