"""What was emitted against what stands in the streams: lost, doubled, reordered. Pure.

An event counts once a handler had returned for it, that is, once it stands in the record. Entries
are compared by content, what the writer numbered by (producer, seq) as well.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from tests.chaos.matching import Matched, Records, Span, Streams, match
from tests.chaos.record import FIELDS, Found

NOTES_MAX: Final = 20

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
    matched.notes += [f"lost from {kind}: {values}" for kind, values, _ in lost]
    in_hand, invented = _judge_unknown(matched, in_hand_max)
    return Verdict(
        events=sum([len(record) for record in records]),
        entries=sum([len(entries) for entries in streams.values()]),
        lost=len(lost),
        doubled=matched.doubled,
        reordered=matched.reordered,
        gaps=_count_gaps(streams, holes or {}, matched.notes),
        invented=invented,
        in_hand=in_hand,
        notes=tuple(matched.notes[:NOTES_MAX]),
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


def _judge_unknown(matched: Matched, in_hand_max: int) -> tuple[int, int]:
    """Tell events in hand, one between two lives of a producer, from entries nobody emitted.

    Returns how many of either there are. What is like an event of the record, in a stream whose
    entries have no id, and was not in hand is a double.
    """
    clusters: dict[tuple[str, Span], list[tuple[str, Found]]] = defaultdict(list)
    wrong: list[tuple[str, Found]] = []
    for kind, entry in matched.unknown:
        span = matched.before(entry)
        if span is None:
            wrong.append((kind, entry))
        else:
            clusters[entry.producer, span].append((kind, entry))
    in_hand = 0
    for cluster in clusters.values():
        if in_hand < in_hand_max and len({_event_of(*each) for each in cluster}) == 1:
            in_hand += 1
        else:
            wrong += cluster
    invented = [each for each in wrong if each[1].values not in matched.known[each[0]]]
    matched.notes += [f"nobody emitted in {kind}: {entry}" for kind, entry in invented]
    for kind, entry in wrong:
        if entry.values in matched.known[kind]:
            matched.double(kind, entry)
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
