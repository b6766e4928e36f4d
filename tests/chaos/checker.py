"""What was emitted against what stands in the streams: lost, doubled, reordered. Pure.

An event counts once a handler had returned for it, that is, once it stands in the record. Entries
are compared by content, what the writer numbered by (producer, seq) as well.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tests.chaos.record import FIELDS, Event, Found, Values

# Entries of what the bridge itself did: numbered, and in no record.
CONTROL: Final = "control"
ENDS: Final = ("rejected", "canceled", "expired")
FILLED: Final = ("partially_filled", "filled")
NOTES_MAX: Final = 20

type Records = Sequence[Sequence[Event]]
type Streams = Mapping[str, Sequence[Found]]
# (kind, producer) -> numbers that will never come, as an `exec:control` entry has said.
type Holes = Mapping[tuple[str, str], Collection[int]]


class Verdict(NamedTuple):
    """What a comparison came to; all but `events`, `entries` and `in_hand` must be 0.

    `lost` are entries of recorded events that are in no stream, `gaps` numbers that are missing,
    `invented` entries that nobody emitted, or with another content. `in_hand` are events that a
    killed process had written down without returning to its engine.
    """

    events: int = 0
    entries: int = 0
    lost: int = 0
    doubled: int = 0
    reordered: int = 0
    gaps: int = 0
    invented: int = 0
    in_hand: int = 0
    notes: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not any((self.lost, self.doubled, self.reordered, self.gaps, self.invented))

    def __add__(self, other: object) -> "Verdict":
        """Return the sum of two comparisons."""
        assert isinstance(other, Verdict)
        return Verdict(*[a + b for a, b in zip(self, other, strict=True)])


class Place(NamedTuple):
    """Where an expected entry stands: in which record, and where in it."""

    record: int
    index: int
    event: Event


@dataclass
class Matched:
    """Which entries of the streams are which of the record."""

    # By kind and content: where it was told, and no entry is found for it yet.
    waiting: dict[str, dict[Values, deque[Place]]] = field(default_factory=dict)
    known: dict[str, set[Values]] = field(default_factory=dict)
    unknown: list[tuple[str, Found]] = field(default_factory=list)
    # By record, life and producer: the first and the last jseq.
    spans: dict[tuple[int, int, str], tuple[int, int]] = field(default_factory=dict)
    doubled: int = 0
    reordered: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def missing(self) -> list[tuple[str, Values, Place]]:
        """Everything that was told and is in no stream."""
        return [
            (kind, values, place)
            for kind, by_values in self.waiting.items()
            for values, places in by_values.items()
            for place in places
        ]


def check(
    records: Records,
    streams: Streams,
    *,
    holes: Holes | None = None,
    excused: Collection[str] = (),
    in_hand_max: int = 0,
    once: bool = False,
) -> Verdict:
    """Compare. `excused` are ids of events that may be missing.

    `in_hand_max` is how many processes were killed: each may leave one event behind that is in the
    streams and not in the record. With `once` a fill, or an end of an order, that is told again is
    expected the first time only.
    """
    matched = match(records, streams, once=once)
    lost = [each for each in matched.missing if each[2].event.id not in excused]
    notes = [f"lost from {kind}: {values}" for kind, values, _ in lost] + matched.notes
    in_hand, invented = _judge_unknown(matched, in_hand_max, notes)
    return Verdict(
        events=sum([len(record) for record in records]),
        entries=sum([len(entries) for entries in streams.values()]),
        lost=len(lost),
        doubled=matched.doubled,
        reordered=matched.reordered,
        gaps=_count_gaps(streams, holes or {}, notes),
        invented=invented,
        in_hand=in_hand,
        notes=tuple(notes[:NOTES_MAX]),
    )


def missing(records: Records, streams: Streams) -> set[str]:
    """Return the ids of the events that are not, or not as a whole, in the streams."""
    return {place.event.id for _, _, place in match(records, streams).missing}


def holes(control: Sequence[Found], kinds: Mapping[str, str]) -> dict[tuple[str, str], set[int]]:
    """Return the numbers that `exec:control` says will never come; `kinds` by stream name."""
    named: dict[tuple[str, str], set[int]] = defaultdict(set)
    for entry in control:
        cause, reason = entry.values
        if cause == "base":
            stream, producer, span = reason.split(" ")
            first, last = map(int, span.split("-"))
            named[kinds[stream], producer] |= set(range(first, last + 1))
    return named


def match(records: Records, streams: Streams, *, once: bool = False) -> Matched:
    """Find each entry of the streams in the records."""
    matched = Matched()
    for kind in FIELDS:
        matched.known[kind] = {
            values
            for record in records
            for event in record
            for told, values in event.entries
            if told == kind
        }
    _expect(matched, records, _in_hand_identities(matched, streams) if once else None)
    for kind, entries in streams.items():
        if kind != CONTROL:
            _match_stream(matched, kind, entries)
    return matched


def _expect(matched: Matched, records: Records, identities: set[str] | None) -> None:
    """Fill in what must be there: with `identities`, of what is told again only the first."""
    waiting: dict[str, dict[Values, deque[Place]]] = defaultdict(lambda: defaultdict(deque))
    for number, record in enumerate(records):
        for index, event in enumerate(record):
            told = zip(event.entries, _identities(event.entries), strict=True)
            for (kind, values), identity in told:
                if identities is not None and identity in identities:
                    continue
                if identities is not None and identity:
                    identities.add(identity)
                waiting[kind][values].append(Place(number, index, event))
    matched.waiting = waiting


def _match_stream(matched: Matched, kind: str, entries: Sequence[Found]) -> None:
    waiting = matched.waiting.get(kind, {})
    seen: set[tuple[str, int]] = set()
    strange: set[Values] = set()
    last_index: dict[tuple[int, int], int] = {}
    last_seq: dict[str, int] = {}
    for entry in entries:
        number = (entry.producer, entry.seq)
        places = waiting.get(entry.values)
        is_again = entry.producer != "" and number in seen
        seen.add(number)
        is_again |= not places and (entry.values in matched.known[kind] or entry.values in strange)
        if is_again:
            matched.doubled += 1
            matched.notes.append(f"doubled in {kind}: {entry}")
        is_early = entry.seq < last_seq.get(entry.producer, 0)
        last_seq[entry.producer] = max(entry.seq, last_seq.get(entry.producer, 0))
        if places:
            place = places.popleft()
            order = (place.record, place.event.thread)
            is_early = is_early or place.index < last_index.get(order, 0)
            last_index[order] = max(place.index, last_index.get(order, 0))
            _stretch(matched, place, entry)
        elif not is_again:
            strange.add(entry.values)
            matched.unknown.append((kind, entry))
        if is_early and not is_again:
            matched.reordered += 1
            matched.notes.append(f"too late in {kind}: {entry}")


def _stretch(matched: Matched, place: Place, entry: Found) -> None:
    key = (place.record, place.event.life, entry.producer)
    first, last = matched.spans.get(key, (entry.jseq, entry.jseq))
    matched.spans[key] = (min(first, entry.jseq), max(last, entry.jseq))


def _judge_unknown(matched: Matched, in_hand_max: int, notes: list[str]) -> tuple[int, int]:
    """Tell events in hand, one between two lives of a producer, from entries nobody emitted."""
    clusters: dict[tuple[str, int], list[tuple[str, Found]]] = defaultdict(list)
    invented: list[tuple[str, Found]] = []
    for kind, entry in matched.unknown:
        spans = [span for key, span in matched.spans.items() if key[2] == entry.producer]
        if not entry.producer or any(first < entry.jseq < last for first, last in spans):
            invented.append((kind, entry))
        else:
            gap = sum([last < entry.jseq for _, last in spans])
            clusters[entry.producer, gap].append((kind, entry))
    in_hand = 0
    for cluster in clusters.values():
        if in_hand < in_hand_max and len({_event_of(*each) for each in cluster}) == 1:
            in_hand += 1
        else:
            invented += cluster
    notes += [f"nobody emitted in {kind}: {entry}" for kind, entry in invented]
    return in_hand, len(invented)


def _event_of(kind: str, entry: Found) -> str:
    """Return what the entries of one event have in common."""
    fields = dict(zip(FIELDS[kind], entry.values, strict=True))
    return fields.get("event_id", f"{kind} {fields['ts_ns']}")


def _count_gaps(streams: Streams, named: Holes, notes: list[str]) -> int:
    gaps = 0
    for kind, entries in streams.items():
        seqs: dict[str, set[int]] = defaultdict(set)
        for entry in entries:
            seqs[entry.producer].add(entry.seq)
        for producer, there in seqs.items():
            if not producer:
                continue
            gone = set(range(1, max(there) + 1)) - there - set(named.get((kind, producer), ()))
            if gone:
                gaps += len(gone)
                notes.append(f"not in {kind} of {producer}: {_shortened(gone)}")
    return gaps


def _shortened(numbers: Collection[int]) -> str:
    shown = sorted(numbers)
    return f"{shown[0]}-{shown[-1]} ({len(shown)})"


# What may be told again.


def _identities(entries: Sequence[tuple[str, Values]]) -> list[str]:
    """Return, for each entry of one event, what is the same when it is told again; or nothing."""
    fill = next((_fill_identity(values) for kind, values in entries if kind == "fills"), "")
    return [_identity(kind, values, fill) for kind, values in entries]


def _identity(kind: str, values: Values, fill: str) -> str:
    if kind == "fills":
        return fill
    if kind != "orders":
        return ""
    order = dict(zip(FIELDS[kind], values, strict=True))
    if order["status"] in FILLED:
        return f"order {fill}" if fill else ""
    if order["status"] not in ENDS or not order["account"]:
        return ""
    order_id = order["venue_order_id"] or order["cl_ord_id"]
    return f"{order['status']} {order['account']} {order['symbol']} {order_id}"


def _fill_identity(values: Values) -> str:
    fill = dict(zip(FIELDS["fills"], values, strict=True))
    return " ".join(
        [fill[name] for name in ("account", "symbol", "venue_order_id", "side", "trade_id")]
    )


def _in_hand_identities(matched: Matched, streams: Streams) -> set[str]:
    """Return the identities of what is in the streams and in no record: it may be told later."""
    events: dict[str, list[tuple[str, Values]]] = defaultdict(list)
    for kind, entry in _strangers(matched, streams):
        events[entry.values[0]].append((kind, entry.values))
    return {each for entries in events.values() for each in _identities(entries) if each}


def _strangers(matched: Matched, streams: Streams) -> Iterator[tuple[str, Found]]:
    for kind in ("fills", "orders"):
        for entry in streams.get(kind, ()):
            if entry.values not in matched.known[kind]:
                yield kind, entry


def tally(verdict: Verdict) -> Counter[str]:
    """Return the figures of a verdict by name, without the notes."""
    return Counter({k: v for k, v in verdict._asdict().items() if k != "notes"})
