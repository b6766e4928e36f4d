"""Which fills count, in which order, and what they do to which book.

All of it depends on the fills alone, not on when they arrived. A book is that of one account,
venue and symbol. Its fills count in the order of their `Key`; what pays fees in its base currency
stands in the same line.

A provisional fill is one that Nautilus made up from a venue's total. The venue's own fills of that
order, told behind it and not executed later, wait until they reach its quantity; then they count in
its place, and it counts no more. So nothing counts twice.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Final, NamedTuple

from bridge.core.fifo import CONTEXT, Book, Gain
from bridge.core.fills import (
    BookKey,
    Cost,
    Fill,
    cost_of,
    key_of,
    payment_of,
    terms_of,
    trade_of,
)

# More than a producer numbers under one incarnation.
SEQS_MAX: Final = 1 << 63


class State(StrEnum):
    """What became of a fill: it counts; or it waits to replace a provisional one; or it is one that
    was replaced."""

    COUNTED = "counted"
    WAITING = "waiting"
    REPLACED = "replaced"


class Key(NamedTuple):
    """A fill's place in the line.

    `at_ns` is its time, or the latest time of what its teller told before, for this book: a
    teller's fills stay in their order. One of somebody else's stands at its own time. A teller is
    a folder's producer under all its incarnations, `number` counts over them.
    """

    at_ns: int
    teller: str
    number: int
    fill_id: str


@dataclass(slots=True)
class Front:
    """The end of a book's line: what comes on top of it, and what has to go further back.

    `last` is the key of the last one, `told` the last number and time by teller, `open` by
    (order, side) the latest time of the provisional fills that still count. Fills that pay fees
    from the book stand in the line as well; those that do not count do too.
    """

    book: BookKey
    last: Key | None = None
    told: dict[str, tuple[int, int]] = field(default_factory=dict)
    open: dict[tuple[str, str], int] = field(default_factory=dict)

    def next(self, fill: Fill) -> Key | None:
        """Return the key of a fill that comes on top and counts there.

        None: the book must be built again. The fill is late, or may replace a provisional one.
        """
        teller, number = _number_of(fill)
        last, at_ns = self.told.get(teller, (0, 0))
        if teller:
            if number <= last:
                return None
            key = Key(max(at_ns, fill.ts_ns), teller, number, fill.fill_id)
        else:
            key = Key(fill.ts_ns, "", number, fill.fill_id)
        if self.last is not None and key <= self.last:
            return None
        if self.open and not fill.provisional and key_of(fill) == self.book:
            latest = self.open.get((fill.order, fill.side))
            if latest is not None and fill.ts_ns <= latest:
                return None
        return key

    def put(self, key: Key, fill: Fill) -> None:
        """Note that a fill was taken on top."""
        self.last = key
        if key.teller:
            self.told[key.teller] = key.number, key.at_ns
        if fill.provisional and fill.order and key_of(fill) == self.book:
            order = fill.order, fill.side
            self.open[order] = max(fill.ts_ns, self.open.get(order, 0))


@dataclass(slots=True)
class Booked:
    """What all fills of a book come to. `states` names those that do not count."""

    book: Book
    front: Front
    gains: list[Gain]
    costs: list[Cost]
    states: dict[str, State]


def book(
    fills: Sequence[Fill], payments: Sequence[Fill] = (), idle: Container[str] = frozenset()
) -> Booked:
    """Book all fills of one book, in any order.

    `payments` are all fills of other books that pay fees from this one (`pays`), `idle` the ids of
    those among them that do not count in their own. Raises ValueError when fills do not belong to
    one book, or disagree about its terms.
    """
    key, terms = key_of(fills[0]), terms_of(fills[0])
    for fill in fills:
        if key_of(fill) != key or terms_of(fill) != terms:
            raise ValueError(f"{fill.fill_id} has other terms than the book of {key.symbol}")
    booked = Booked(Book(terms), Front(key), [], [], {})
    line = in_order([*fills, *payments])
    for place, fill in line:
        booked.front.put(place, fill)
    paying = {fill.fill_id for fill in payments}
    claims = _claims([fill for _, fill in line if fill.fill_id not in paying])
    booked.front.open = _open(claims)
    instead = {claim.fill.fill_id: claim.own for claim in claims if claim.is_met}
    moved = {own.fill_id for claim in claims for own in claim.own}
    for claim in claims:
        if claim.is_met:
            booked.states[claim.fill.fill_id] = State.REPLACED
        else:
            booked.states.update({own.fill_id: State.WAITING for own in claim.own})
    for _, fill in line:
        if fill.fill_id in paying:
            if fill.fill_id not in idle:
                booked.gains += booked.book.apply(payment_of(fill))
        elif fill.fill_id not in moved:
            for counted in instead.get(fill.fill_id, (fill,)):
                booked.gains += booked.book.apply(trade_of(counted))
                if cost := cost_of(counted):
                    booked.costs.append(cost)
    return booked


def in_order(fills: Sequence[Fill]) -> list[tuple[Key, Fill]]:
    """Return fills in the order in which they count, each with its key."""
    latest: dict[str, int] = {}
    line = []
    for fill in sorted(fills, key=_number_of):
        at_ns, (teller, number) = fill.ts_ns, _number_of(fill)
        if teller:
            at_ns = latest[teller] = max(at_ns, latest.get(teller, 0))
        line.append((Key(at_ns, teller, number, fill.fill_id), fill))
    line.sort(key=_key_of_entry)
    return line


@dataclass(slots=True, eq=False)
class _Claim:
    """A provisional fill: what of it the venue has not told yet, and its own fills so far.

    `tied` are the claims that one of the venue's fills reaches into as well, itself included: they
    are met together.
    """

    fill: Fill
    left: Decimal
    own: list[Fill] = field(default_factory=list)
    tied: list["_Claim"] = field(default_factory=list)

    @property
    def is_met(self) -> bool:
        return all(not claim.left for claim in self.tied)


def _claims(fills: Sequence[Fill]) -> list[_Claim]:
    """Return the provisional ones of a book's fills, given in order, and what stands behind them.

    The venue's own go to the oldest that they may replace; what is left of them, to the next.
    """
    claims: dict[tuple[str, str], list[_Claim]] = {}
    for fill in fills:
        order = fill.order, fill.side
        if fill.provisional:
            claim = _Claim(fill, fill.qty)
            claim.tied.append(claim)
            # Without an order nothing tells which fills are its own: it counts for good.
            claims.setdefault(order if fill.order else (fill.fill_id, ""), []).append(claim)
            continue
        if order not in claims:
            continue
        first, qty = None, fill.qty
        for claim in claims[order]:
            if not qty or not claim.left or fill.ts_ns > claim.fill.ts_ns:
                continue
            taken = min(qty, claim.left)
            qty = CONTEXT.subtract(qty, taken)
            claim.left = CONTEXT.subtract(claim.left, taken)
            if first is None:
                first = claim
                first.own.append(fill)
            elif claim.tied is not first.tied:
                first.tied += claim.tied
                for other in claim.tied:
                    other.tied = first.tied
    return [claim for of_order in claims.values() for claim in of_order]


def _open(claims: Sequence[_Claim]) -> dict[tuple[str, str], int]:
    """Return, by order and side, the latest time of the provisional fills that still count."""
    latest: dict[tuple[str, str], int] = {}
    for claim in claims:
        fill = claim.fill
        if fill.order and not claim.is_met:
            order = fill.order, fill.side
            latest[order] = max(fill.ts_ns, latest.get(order, 0))
    return latest


def _number_of(fill: Fill) -> tuple[str, int]:
    """Return who told a fill, and as which of all that were told so.

    A journal that lost its end goes on under another incarnation, from 1: what it tells then still
    comes behind what it told before.
    """
    teller, _, incarnation = fill.producer.rpartition(".")
    if not teller or not incarnation.isdecimal():
        return fill.producer, fill.seq
    return teller, int(incarnation) * SEQS_MAX + fill.seq


def _key_of_entry(entry: tuple[Key, Fill]) -> Key:
    return entry[0]
