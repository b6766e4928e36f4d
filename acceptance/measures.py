"""What each gate measures: two results and a scope in, one number out.

`b` is the reference (the legacy program), `a` what is held against it. Decimals are compared as
decimals; only the quotient that meets the limit is a float.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, NamedTuple

from acceptance.shape import TOTAL, Fill, Metrics, Record, Settlement, Totals, text_of

ZERO: Final = Decimal(0)
CALENDAR_SECONDS: Final = 60_000_000_000  # from 1970 to the years 68 and 3871, and no further
MONEY: Final = Decimal("1e-8")  # the last decimal of an amount
BP: Final = Decimal("0.0001")
DAY_NS: Final = 86_400_000_000_000

type Measure = Callable[[Side, Side, str], Measured]
type FillKey = tuple[int, str, str, str, Decimal, Decimal]


class NotJudged(Exception):
    """A gate that cannot be judged; the message says what is missing."""


class Measured(NamedTuple):
    """A value in the unit of its gate, None when it is beyond any number; and what it is about."""

    value: float | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two results: `name` is A or B."""

    name: str
    record: Record
    metrics: Mapping[str, Metrics]

    def part[T](self, part: T | None, what: str) -> T:
        """Return a part of the result. Raises NotJudged when the result does not have it."""
        if part is None:
            raise NotJudged(f"{self.name} ({self.record.program}) does not state {what}")
        return part

    def totals(self, scope: str) -> Totals:
        return self.part(self.record.totals, "totals")[scope]

    def fills(self, scope: str) -> list[Fill]:
        rows = self.part(self.record.fills, "fills")
        return [fill for fill in rows if scope in (TOTAL, fill.symbol)]

    def funding(self, scope: str) -> dict[tuple[int, str], Settlement]:
        rows = self.part(self.record.funding, "funding events")
        return {(row.ts, row.symbol): row for row in rows if scope in (TOTAL, row.symbol)}

    def idle(self, scope: str) -> bool:
        """Return whether it is known that nothing was traded."""
        if self.record.fills is not None:
            return not self.fills(scope)
        return self.record.totals is not None and not self.totals(scope).turnover


def fill_key(fill: Fill) -> FillKey:
    """Return what must be equal in both programs; the fee has a gate of its own."""
    return fill.ts, fill.symbol, fill.leg, fill.side, fill.qty, fill.px


def time_text(ts: int) -> str:
    """Return a time as text, to the nanosecond; as a number where the calendar has no such day."""
    seconds, rest = divmod(ts, 10**9)
    if abs(seconds) > CALENDAR_SECONDS:
        return f"{ts} ns"
    fraction = f".{rest:09}".rstrip("0") if rest else ""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z"


# The contract.


def pnl(a: Side, b: Side, scope: str) -> Measured:
    """Return the difference of net PnL in percent of b's, or of its parts where that is small."""
    ours, theirs = a.totals(scope), b.totals(scope)
    difference, base, of = ours.net - theirs.net, abs(theirs.net), "net PnL"
    if base < theirs.turnover * BP:
        basis = theirs.price_spot + theirs.price_perp
        base, of = abs(basis) + abs(theirs.funding) + abs(theirs.fees), "|basis|+|funding|+fees"
    why = f"{text_of(difference)} USDT of {text_of(base)} ({of})"
    if not difference:
        return Measured(0.0, why)
    return Measured(float(abs(difference) / base * 100) if base else None, why)


def metric(name: str, what: str, *, relative: bool = False) -> Measure:
    """Return a measure of a metric's difference; `relative` in percent of b's."""

    def measure(a: Side, b: Side, scope: str) -> Measured:
        ours, theirs = (getattr(side.metrics[scope], name) for side in (a, b))
        if ours is None and theirs is None and a.idle(scope) and b.idle(scope):
            return Measured(0.0, "nothing was traded")
        if name == "sharpe" and ours is None and theirs is None and a.record.equity:
            b.part(b.record.equity, what)
            return Measured(0.0, "not defined: the hours are too few, or all equal")
        for side, value in ((a, ours), (b, theirs)):
            if value is None and side.idle(scope):
                return Measured(None, f"{side.name} traded nothing")
            side.part(value, what)
        difference = abs(ours - theirs)
        if relative and difference:
            difference = difference / abs(theirs) * 100 if theirs else None
        return Measured(difference, f"{ours:.6f} and {theirs:.6f}")

    return measure


# The strict tier: days, positions, curve.


def by_day(what: str, value: Callable[[Totals], Decimal]) -> Measure:
    """Return a measure of the largest relative difference of what a day brought."""

    def measure(a: Side, b: Side, scope: str) -> Measured:
        ours, theirs = (_daily(side, scope, value) for side in (a, b))
        if ours.keys() != theirs.keys():
            return Measured(None, "the days do not end at the same times")
        worst, day = max((_relative(ours[ts], theirs[ts]), ts) for ts in ours)
        amounts = f"{text_of(ours[day])} and {text_of(theirs[day])} USDT"
        return Measured(worst, f"worst: {what} of the day to {time_text(day)}: {amounts}")

    return measure


def _daily(side: Side, scope: str, value: Callable[[Totals], Decimal]) -> dict[int, Decimal]:
    """Return what each day brought, by the time of its end."""
    before, changes = ZERO, {}
    for ts, rows in side.part(side.record.days, "days"):
        now = sum((value(row) for name, row in rows.items() if scope in (TOTAL, name)), ZERO)
        if ts > side.record.data.start_ns:
            changes[ts] = now - before
        before = now
    return changes


def positions(a: Side, b: Side, scope: str) -> Measured:
    """Return the larger difference of the positions at the end."""
    ours, theirs = a.totals(scope), b.totals(scope)
    worst, texts = ZERO, []
    for name in ("spot_position", "perp_position"):
        mine, other = (
            side.part(getattr(row, name), name) for side, row in ((a, ours), (b, theirs))
        )
        worst = max(worst, abs(mine - other))
        texts.append(f"{text_of(mine)} and {text_of(other)}")
    return Measured(float(worst), f"spot {texts[0]}, perp {texts[1]}")


def equity(a: Side, b: Side, scope: str) -> Measured:
    """Return the largest difference of the curves, in percent of max(|PnL|, G).

    G is max_gross * equity of the parameters, 0 where they do not state it.
    """
    ours, theirs = (
        {ts: pnl for ts, pnl in side.part(side.record.equity, "equity")
         if ts > side.record.data.start_ns}
        for side in (a, b)
    )  # fmt: skip
    if ours.keys() != theirs.keys():
        return Measured(None, "the curves are not sampled at the same times")
    least = max(_gross(a, b), MONEY)
    worst, ts = max((abs(ours[ts] - pnl) / max(abs(pnl), least), ts) for ts, pnl in theirs.items())
    apart = text_of(ours[ts] - theirs[ts])
    return Measured(float(worst * 100), f"worst: {apart} USDT at {time_text(ts)}")


def _gross(a: Side, b: Side) -> Decimal:
    """Return max_gross * equity, 0 where they are not stated."""
    # Where both state parameters they are equal, or nothing would be judged.
    params = b.record.params or a.record.params or {}
    if "max_gross" not in params or "equity" not in params:
        return ZERO
    try:
        factors = Decimal(params["max_gross"]), Decimal(params["equity"])
        if all(each.is_finite() and each > 0 for each in factors):
            return factors[0] * factors[1]
    except ArithmeticError:
        pass
    raise NotJudged("max_gross and equity of params are no numbers above 0")


def turnover(a: Side, b: Side, scope: str) -> Measured:
    """Return the relative difference of turnover."""
    ours, theirs = a.totals(scope).turnover, b.totals(scope).turnover
    return Measured(_relative(ours, theirs), f"{text_of(ours)} and {text_of(theirs)} USDT")


def _relative(ours: Decimal, theirs: Decimal) -> float:
    """Return the difference as a fraction of the larger."""
    if ours == theirs:
        return 0.0
    return float(abs(ours - theirs) / max(abs(ours), abs(theirs)))


# The strict tier: what the programs were fed, and what they say they did.


def events(a: Side, b: Side, scope: str) -> Measured:
    """Return how far apart the numbers of events fed and processed are."""
    counts = [
        side.part(count, "how many events were fed and processed")
        for side in (a, b)
        for count in (side.record.data.events, side.record.run.events)
    ]
    texts = "fed {} and processed {} in A, {} and {} in B".format(*counts)
    return Measured(float(max(counts) - min(counts)), texts)


def counts(a: Side, b: Side, scope: str) -> Measured:
    """Return how many counts of decisions, skips and exits differ; one that lacks is 0."""
    ours, theirs = (side.part(side.record.run.counts or None, "counts") for side in (a, b))
    apart = [
        f"{name} {ours.get(name, 0)} and {theirs.get(name, 0)}"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name, 0) != theirs.get(name, 0)
    ]
    return Measured(float(len(apart)), ", ".join(apart))


def orders(a: Side, b: Side, scope: str) -> Measured:
    """Return how far apart the numbers of orders are, with those that were not filled."""
    ours, theirs = (side.part(side.record.run.orders, "run.orders") for side in (a, b))
    return Measured(float(abs(ours - theirs)), f"{ours} and {theirs}")


def inputs(a: Side, b: Side, scope: str) -> Measured:
    """Nothing to measure: what both state is equal, or they would not have been compared."""
    for side in (a, b):
        record = side.record
        side.part(record.data.sha256, "data.sha256")
        side.part(record.instruments, "instruments")
        side.part(record.run.denied, "run.denied")
        side.part(record.run.rejected, "run.rejected")
        side.part(record.data.last_ts, "data.last_ts")
        side.part(record.run.last_ts, "run.last_ts")
    return Measured(0.0)
