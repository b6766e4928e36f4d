"""Which entry of the streams is which of the records. Pure."""

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tests.chaos.record import FIELDS, Event, Found, Values

# Entries of what the bridge itself did: numbered, and in no record.
CONTROL: Final = "control"
ENDS: Final = ("rejected", "canceled", "expired")
FILLED: Final = ("partially_filled", "filled")
# Kinds whose entries carry the id of their event.
NAMED: Final = tuple([kind for kind, names in FIELDS.items() if "event_id" in names])

# The first and the last jseq of what a life has emitted under one producer.
type Span = tuple[int, int]
type Records = Sequence[Sequence[Event]]
type Streams = Mapping[str, Sequence[Found]]


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
    # By record, life and producer.
    spans: dict[tuple[int, int, str], Span] = field(default_factory=dict)
    # By record: the life that was ended as an operator would, with nothing in hand.
    last_lives: dict[int, int] = field(default_factory=dict)
    doubled: int = 0
    reordered: int = 0
    notes: list[str] = field(default_factory=list)

    def double(self, kind: str, entry: Found) -> None:
        """Count an entry that is there too often."""
        self.doubled += 1
        self.notes.append(f"doubled in {kind}: {entry}")

    def stretch(self, place: Place, entry: Found) -> None:
        """Note that an entry belongs to a life."""
        key = (place.record, place.event.life, entry.producer)
        first, last = self.spans.get(key, (entry.jseq, entry.jseq))
        self.spans[key] = (min(first, entry.jseq), max(last, entry.jseq))

    def before(self, entry: Found) -> Span | None:
        """Return the life, as its span, behind which an entry may have been in hand.

        (0, 0) where it stands before all lives of its producer; None when it was in nobody's hand.
        """
        lives = {key: span for key, span in self.spans.items() if key[2] == entry.producer}
        if not entry.producer or any(first < entry.jseq < last for first, last in lives.values()):
            return None
        ended = [(span, key) for key, span in lives.items() if span[1] < entry.jseq]
        if not ended:
            return (0, 0)
        span, (number, life, _) = max(ended, key=lambda each: each[0][1])
        return None if life == self.last_lives[number] else span

    @property
    def missing(self) -> list[tuple[str, Values, Place]]:
        """Everything that was told and is in no stream."""
        return [
            (kind, values, place)
            for kind, by_values in self.waiting.items()
            for values, places in by_values.items()
            for place in places
        ]


def match(records: Records, streams: Streams, *, once: bool = False) -> Matched:
    """Find each entry of the streams in the records."""
    matched = Matched()
    matched.last_lives = {n: record[-1].life for n, record in enumerate(records) if record}
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
    numbers: dict[tuple[str, int], Values] = {}
    strange: set[Values] = set()
    order = _Order()
    for entry in entries:
        number = (entry.producer, entry.seq)
        is_repeat = entry.producer != "" and number in numbers
        if is_repeat:
            matched.double(kind, entry)
            if numbers[number] == entry.values:
                continue
        numbers[number] = entry.values
        places = waiting.get(entry.values)
        place = places.popleft() if places else None
        is_late = order.is_late(entry, place)
        if is_late and not is_repeat:
            matched.reordered += 1
            matched.notes.append(f"too late in {kind}: {entry}")
        if place is not None:
            matched.stretch(place, entry)
        elif entry.values in strange or (kind in NAMED and entry.values in matched.known[kind]):
            matched.double(kind, entry)
        else:
            strange.add(entry.values)
            matched.unknown.append((kind, entry))


class _Order:
    """How far a stream is: each record's thread, and each producer, has an order of its own."""

    def __init__(self) -> None:
        self._indices: dict[tuple[int, int], int] = {}
        self._seqs: dict[str, int] = {}

    def is_late(self, entry: Found, place: Place | None) -> bool:
        """Return whether something that follows this entry stands before it."""
        last_seq = self._seqs.get(entry.producer, 0)
        self._seqs[entry.producer] = max(entry.seq, last_seq)
        is_late = entry.seq < last_seq
        if place is not None:
            key = (place.record, place.event.thread)
            last_index = self._indices.get(key, 0)
            self._indices[key] = max(place.index, last_index)
            is_late |= place.index < last_index
        return is_late


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
