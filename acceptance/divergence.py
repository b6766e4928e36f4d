"""Where two results first part, and what kind of cause that has."""

from collections.abc import Sequence
from decimal import Decimal
from itertools import zip_longest
from typing import Final

from acceptance.measures import fill_key, time_text
from acceptance.shape import Fill, Record, text_of
from acceptance.verdict import Cause, Divergence

AROUND: Final = 3  # fills shown on each side
FEE_DIGITS: Final = Decimal("1e-8")
INTERVAL_NS: Final = 10**10  # between decisions, when the parameters do not say it
SECONDS_MAX: Final = 10**10  # that fit into int64 ns

SETTLED: Final = {"amount": "paid", "position": "was on", "rate": "had rate", "mark": "had mark"}


def first(a: Record, b: Record) -> Divergence | None:
    """Return the first divergent fill, or else the first divergent settlement, mark or count.

    None when nothing differs, or when a result does not state its fills. Causes: `fee`, `size`,
    `fill` (price, or one leg only) and `data` (another mid) are differences of the same fill;
    `clock` is the same fill at a time between two decisions, `funding` follows on a settlement
    that differs, and `signal` is a decision that only one program made.
    """
    if a.fills is None or b.fills is None:
        return None
    ours, theirs = _ordered(a.fills), _ordered(b.fills)
    for index, (fill, other) in enumerate(zip_longest(ours, theirs)):
        if fill is None or other is None or _differ(fill, other):
            return _explain(a, b, ours, theirs, index)
    return _funding(a, b) or _rest(a, b)


def _ordered(fills: Sequence[Fill]) -> list[Fill]:
    """Return the fills by time; of the same time by symbol, spot before perp."""
    return sorted(fills, key=lambda f: (f.ts, f.symbol, f.leg != "spot", f.side, f.qty, f.px))


def _differ(fill: Fill, other: Fill) -> bool:
    return (
        fill_key(fill) != fill_key(other)
        or abs(fill.fee - other.fee) >= FEE_DIGITS
        or (fill.mid != other.mid and None not in (fill.mid, other.mid))
    )


def _explain(
    a: Record, b: Record, ours: Sequence[Fill], theirs: Sequence[Fill], index: int
) -> Divergence:
    mine, other = (rows[index] if index < len(rows) else None for rows in (ours, theirs))
    cause: Cause
    if mine and other and _place(mine) == _place(other):
        cause, why = _same_order(mine, other)
    else:
        # The earlier one is alone: the other side's fill at this index is of a later order.
        alone_in_a = other is None or (mine is not None and _place(mine) < _place(other))
        alone, rest = (mine, theirs) if alone_in_a else (other, ours)
        assert alone is not None
        cause, why, match = _one_side(a, b, alone, rest)
        why = f"only {'A' if alone_in_a else 'B'} has {_text(alone)}; {why}"
        mine, other = (alone, match) if alone_in_a else (match, alone)
    shown = [row for row in (mine, other) if row]
    return Divergence(
        cause,
        min(fill.ts for fill in shown),
        shown[0].symbol,
        why,
        mine,
        other,
        *(tuple(rows[max(0, index - AROUND) : index + AROUND + 1]) for rows in (ours, theirs)),
    )


def _place(fill: Fill) -> tuple[int, str, bool, str]:
    return fill.ts, fill.symbol, fill.leg != "spot", fill.side


def _same_order(mine: Fill, other: Fill) -> tuple[Cause, str]:
    if mine.qty != other.qty:
        return "size", f"quantity {text_of(mine.qty)} and {text_of(other.qty)}"
    if mine.mid is not None and other.mid is not None and mine.mid != other.mid:
        return "data", f"the mid was {text_of(mine.mid)} and {text_of(other.mid)}"
    if mine.px != other.px:
        return "fill", f"price {text_of(mine.px)} and {text_of(other.px)}"
    return "fee", f"fee {text_of(mine.fee)} and {text_of(other.fee)}"


def _one_side(
    a: Record, b: Record, alone: Fill, rest: Sequence[Fill]
) -> tuple[Cause, str, Fill | None]:
    """Return the cause of a fill that one side has alone, and what the other has for it, if so."""
    same = (alone.symbol, alone.leg, alone.side)
    interval = _ns(b, "interval_seconds") or INTERVAL_NS
    late = next(
        (
            fill
            for fill in rest
            if (fill.symbol, fill.leg, fill.side) == same and abs(fill.ts - alone.ts) < interval
        ),
        None,
    )
    if late and late.ts != alone.ts:
        seconds = text_of(Decimal(late.ts - alone.ts) / 10**9)
        return "clock", f"the other has it {seconds} s later, between two decisions", late
    if _between_decisions(b, alone):
        return "clock", "no decision is due then", None
    if any((fill.ts, fill.symbol) == (alone.ts, alone.symbol) for fill in rest):
        return "fill", "the other traded the other leg only", None
    settled = _funding(a, b)
    if settled and settled.ts <= alone.ts:
        return "funding", f"after funding that differs: {settled.why}", None
    return "signal", "the other did not decide so", None


def _between_decisions(record: Record, fill: Fill) -> bool:
    """Return whether the parameters say when decisions are due, and the fill is at no such time."""
    interval, offset = _ns(record, "interval_seconds"), _ns(record, "offset_seconds")
    if not interval or offset is None:
        return False
    return bool((fill.ts - record.data.start_ns - offset) % interval)


def _ns(record: Record, name: str) -> int | None:
    """Return a duration of the parameters; None when it is none that a run can have."""
    try:
        seconds = Decimal((record.params or {})[name])
        return round(seconds * 10**9) if 0 <= seconds < SECONDS_MAX else None
    except (KeyError, ArithmeticError):
        return None


def _funding(a: Record, b: Record) -> Divergence | None:
    """Return the first settlement that differs."""
    ours, theirs = ({(e.ts, e.symbol): e for e in record.funding or ()} for record in (a, b))
    for key in sorted(ours.keys() | theirs.keys()):
        mine, other = (events.get(key) for events in (ours, theirs))
        if mine is None or other is None:
            why = f"only {'A' if mine else 'B'} settled {key[1]} at {time_text(key[0])}"
            return Divergence("funding", *key, why)
        for name, said in SETTLED.items():
            one, two = getattr(mine, name), getattr(other, name)
            if one != two:
                why = f"{key[1]} at {time_text(key[0])} {said} {text_of(one)} and {text_of(two)}"
                return Divergence("funding", *key, why)
    return None


def _rest(a: Record, b: Record) -> Divergence | None:
    """Return what differs although all fills and settlements are equal: marks, or counts."""
    ours, theirs = dict(a.equity or ()), dict(b.equity or ())
    for ts in sorted(ours.keys() & theirs.keys()):
        if ours[ts] != theirs[ts]:
            marked = f"{text_of(ours[ts])} and {text_of(theirs[ts])} USDT at {time_text(ts)}"
            return Divergence("data", ts, "total", f"all fills agree; what is held is {marked}")
    if a.run.counts != b.run.counts:
        why = "all fills and funding agree; the programs count their decisions differently"
        return Divergence("signal", a.data.end_ns, "total", why)
    return None


def _text(fill: Fill) -> str:
    what = f"{fill.symbol} {fill.leg} {fill.side} {text_of(fill.qty)} at {text_of(fill.px)}"
    return f"{what}, {time_text(fill.ts)}"
