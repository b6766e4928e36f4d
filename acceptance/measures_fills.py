"""What the gates of fills and settlements measure; see `measures`."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from decimal import ROUND_HALF_EVEN, Decimal

from acceptance.measures import (
    MONEY,
    FillKey,
    Measured,
    NotJudged,
    Side,
    fill_key,
    time_text,
)
from acceptance.shape import Fill, Settlement, text_of


def fills(a: Side, b: Side, scope: str) -> Measured:
    """Return how many fills only one of them has."""
    ours, theirs = (Counter(map(fill_key, side.fills(scope))) for side in (a, b))
    more, less = (ours - theirs).total(), (theirs - ours).total()
    common = (ours & theirs).total()
    return Measured(float(more + less), f"{common} in both, {more} in A only, {less} in B only")


def fill_fees(a: Side, b: Side, scope: str) -> Measured:
    """Return the largest difference of fees between equal fills."""
    pairs = _equal(a.fills(scope), b.fills(scope), lambda fill: fill.fee)
    worst, key = max([(abs(fee - other), key) for key, fee, other in pairs], default=(0, None))
    return Measured(float(worst), f"worst: {_where(key)}" if key and worst else "")


def fill_mids(a: Side, b: Side, scope: str) -> Measured:
    """Return how many of the equal fills were made at other mids, so in another market."""

    def mid(fill: Fill) -> Decimal:
        assert fill.mid is not None
        return fill.mid

    for side in (a, b):
        for fill in side.fills(scope):
            side.part(fill.mid, "the mid of every fill")
    pairs = _equal(a.fills(scope), b.fills(scope), mid)
    apart = sorted(pair for pair in pairs if pair[1] != pair[2])
    why = ""
    if apart:
        key, one, other = apart[0]
        why = f"first: {_where(key)}: {text_of(one)} and {text_of(other)}"
    return Measured(float(len(apart)), why)


def _equal(
    ours: Sequence[Fill], theirs: Sequence[Fill], value: Callable[[Fill], Decimal]
) -> list[tuple[FillKey, Decimal, Decimal]]:
    """Return what equal fills have for a value. Raises NotJudged when no fill is in both."""
    mine, other = _by_key(ours, value), _by_key(theirs, value)
    both = mine.keys() & other.keys()
    if not both and (ours or theirs):
        raise NotJudged("no fill is in both")
    return [(key, *pair) for key in both for pair in zip(mine[key], other[key], strict=False)]


def _by_key(
    fills: Sequence[Fill], value: Callable[[Fill], Decimal]
) -> dict[FillKey, list[Decimal]]:
    values: dict[FillKey, list[Decimal]] = {}
    for fill in sorted(fills, key=value):
        values.setdefault(fill_key(fill), []).append(value(fill))
    return values


def _where(key: FillKey) -> str:
    return f"{key[1]} {key[2]} {key[3]} {text_of(key[4])} at {time_text(key[0])}"


def funding_events(a: Side, b: Side, scope: str) -> Measured:
    """Return how many settlements only one of them has, or has of another position or price."""
    ours, theirs = a.funding(scope), b.funding(scope)
    apart = [*_apart(ours, theirs)]
    why = f"{len(ours.keys() & theirs.keys())} in both"
    return Measured(float(len(apart)), f"{why}; first {apart[0]}" if apart else why)


def _apart(
    ours: dict[tuple[int, str], Settlement], theirs: dict[tuple[int, str], Settlement]
) -> Iterator[str]:
    for at in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(at), theirs.get(at)
        where = f"{at[1]} at {time_text(at[0])}"
        if mine is None or other is None:
            yield f"in {'A' if mine else 'B'} only: {where}"
            continue
        for name in ("position", "rate", "mark"):
            one, two = getattr(mine, name), getattr(other, name)
            if one != two:
                yield f"that differs: {where}: {name} {text_of(one)} and {text_of(two)}"
                break


def funding_amounts(a: Side, b: Side, scope: str) -> Measured:
    """Return the largest difference of amounts between settlements of both, or of an amount from
    what its own position, mark and rate make (spec 1.6)."""
    ours, theirs = a.funding(scope), b.funding(scope)
    both = ours.keys() & theirs.keys()
    if not both:
        if ours or theirs:
            raise NotJudged("no settlement is in both")
        return Measured(0.0, "no settlements")
    off = [(ours[at].amount, theirs[at].amount, at, "A and B") for at in both]
    for side, rows in ((a, ours), (b, theirs)):
        off += [
            (rows[at].amount, _due(rows[at]), at, f"{side.name} and -position*mark*rate")
            for at in both
        ]
    one, other, at, of = max(off, key=lambda each: (abs(each[0] - each[1]), each[2]))
    amounts = f"{text_of(one)} and {text_of(other)} ({of})"
    return Measured(float(abs(one - other)), f"worst: {at[1]} at {time_text(at[0])}: {amounts}")


def _due(row: Settlement) -> Decimal:
    return (-row.position * row.mark * row.rate).quantize(MONEY, ROUND_HALF_EVEN)
