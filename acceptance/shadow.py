"""A shadow's fills against those of a live run or a backtest of the same strategy.

Fills of one symbol and leg that follow each other closely on the same side are one decision, in
however many clips it was carried out. Decisions are paired by symbol, leg, side and time.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final, NamedTuple

from acceptance.metrics import BPS, costs, rounded
from acceptance.shape import Fill, Instrument, Metrics, Order, text_of
from acceptance.verdict import Verdict

SECOND_NS: Final = 1_000_000_000
LATE_TOLERANCES: Final = 10  # so many tolerances apart, two decisions are still the same one
MATCHED, QUANTITY, LATE, EARLY = "matched", "quantity", "late", "early"
MISSING, EXTRA = "missing", "extra"
VERDICTS: Final = (MATCHED, QUANTITY, LATE, EARLY, MISSING, EXTRA)

type Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Decision:
    """Fills that carry out one decision; there is at least one. `qty` is not scaled."""

    fills: tuple[Fill, ...]

    @property
    def key(self) -> Key:
        """Return symbol, leg and side."""
        first = self.fills[0]
        return first.symbol, first.leg, first.side

    @property
    def ts(self) -> int:
        """Return when it began to fill."""
        return self.fills[0].ts

    @property
    def qty(self) -> Decimal:
        """Return what was filled."""
        return sum((fill.qty for fill in self.fills), Decimal(0))

    @property
    def px(self) -> Decimal:
        """Return the average price."""
        return sum((fill.qty * fill.px for fill in self.fills), Decimal(0)) / self.qty


@dataclass(frozen=True, slots=True)
class Row:
    """One decision of either or of both. `qty` of the shadow is divided by the size fraction.

    Costs are in bp, positive when they cost: `slippage` against the mid at each fill, `shortfall`
    with fees against the mid at the first one, `worse` the shadow's price against the reference's.
    None where there is no mid, or no counterpart.
    """

    verdict: str
    ts: int
    symbol: str
    leg: str
    side: str
    shadow_qty: Decimal | None
    reference_qty: Decimal | None
    delay_ns: int | None
    worse_bps: float | None
    shadow_slippage_bps: float | None
    reference_slippage_bps: float | None
    shadow_shortfall_bps: float | None
    reference_shortfall_bps: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return it with exact numbers as text."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {
            name: text_of(value) if isinstance(value, Decimal) else value
            for name, value in values.items()
        }


@dataclass(frozen=True, slots=True)
class Shadowing:
    """What the comparison found: `rows` by time; `reasons` why it cannot judge."""

    rows: tuple[Row, ...]
    reasons: tuple[str, ...]
    size_fraction: Decimal
    tolerance_ns: int

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of decisions by verdict."""
        found = Counter(row.verdict for row in self.rows)
        return {verdict: found[verdict] for verdict in VERDICTS}

    @property
    def divergence(self) -> Row | None:
        """Return the first decision that is not the same in both."""
        return next((row for row in self.rows if row.verdict != MATCHED), None)

    @property
    def verdict(self) -> Verdict:
        """Return pass, fail or cannot judge."""
        if self.reasons:
            return "cannot judge"
        return "fail" if self.divergence else "pass"

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        first = self.divergence
        return {
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "size_fraction": text_of(self.size_fraction),
            "tolerance_ns": self.tolerance_ns,
            "decisions": self.counts,
            "first_divergence": first.as_dict() if first else None,
            "orders": [row.as_dict() for row in self.rows],
        }


class Allowed(NamedTuple):
    """What decisions may differ by; `quantity` is a fraction of the reference's."""

    size_fraction: Decimal
    time_ns: int
    quantity: Decimal


def compare(
    shadow: Sequence[Fill],
    reference: Sequence[Fill],
    *,
    size_fraction: Decimal,
    tolerance_ns: int,
    tolerance_percent: Decimal,
    instruments: Iterable[Instrument] = (),
) -> Shadowing:
    """Return how the shadow's decisions differ from the reference's.

    Decisions of both are the same up to `tolerance_ns` apart, late or early up to ten times that.
    Quantities are the same up to `tolerance_percent` of the reference's, or to one lot of the
    shadow, divided by `size_fraction`.
    """
    allowed = Allowed(size_fraction, tolerance_ns, tolerance_percent / 100)
    reasons = [
        f"no fill in the {name} between --from and --to"
        for name, fills in (("shadow", shadow), ("reference", reference))
        if not fills
    ]
    lots = _lots(instruments, [*shadow, *reference])
    ours = _by_key(shadow, tolerance_ns)
    theirs = _by_key(reference, tolerance_ns)
    rows = []
    for key in ours.keys() | theirs.keys():
        near, ours_left, theirs_left = _paired(ours.get(key, []), theirs.get(key, []), tolerance_ns)
        far, ours_left, theirs_left = _paired(
            ours_left, theirs_left, LATE_TOLERANCES * tolerance_ns
        )
        alone = [(each, None) for each in ours_left], [(None, each) for each in theirs_left]
        for ours_one, theirs_one in itertools.chain(near, far, *alone):
            rows.append(_row(ours_one, theirs_one, allowed, lots[key[0]]))
    rows.sort(key=lambda row: (row.ts, row.symbol, row.leg, row.side))
    return Shadowing(tuple(rows), tuple(reasons), size_fraction, tolerance_ns)


def window(fills: Iterable[Fill], from_ns: int | None, to_ns: int | None) -> list[Fill]:
    """Return the fills of `[from_ns, to_ns)`; None is no bound."""
    return [
        fill
        for fill in fills
        if (from_ns is None or fill.ts >= from_ns) and (to_ns is None or fill.ts < to_ns)
    ]


def _lots(instruments: Iterable[Instrument], fills: Sequence[Fill]) -> dict[str, Decimal]:
    """Return by symbol the lot of what is traded; without instruments, the unit of the last digit
    that a quantity is written with."""
    lots: dict[str, Decimal] = {}
    for each in instruments:
        lots[each.symbol] = max(each.lot, lots.get(each.symbol, each.lot))
    units: dict[str, Decimal] = {}
    for fill in fills:
        unit = Decimal(1).scaleb(int(fill.qty.normalize().as_tuple().exponent))
        units[fill.symbol] = min(unit, units.get(fill.symbol, unit))
    return units | lots


def _by_key(fills: Sequence[Fill], gap_ns: int) -> dict[Key, list[Decision]]:
    """Return the decisions by symbol, leg and side, each by time."""
    runs: dict[tuple[str, str], list[list[Fill]]] = {}
    for fill in sorted(fills, key=lambda fill: fill.ts):
        legs = runs.setdefault((fill.symbol, fill.leg), [])
        if not legs or legs[-1][-1].side != fill.side or fill.ts - legs[-1][-1].ts > gap_ns:
            legs.append([])
        legs[-1].append(fill)
    decisions: dict[Key, list[Decision]] = {}
    for run in itertools.chain.from_iterable(runs.values()):
        decision = Decision(tuple(run))
        decisions.setdefault(decision.key, []).append(decision)
    return decisions


def _paired(
    ours: Sequence[Decision], theirs: Sequence[Decision], within_ns: int
) -> tuple[list[tuple[Decision, Decision]], list[Decision], list[Decision]]:
    """Return the pairs at most `within_ns` apart, the earliest first, and what is left of both."""
    pairs, alone, others = [], [], []
    i = j = 0
    while i < len(ours) and j < len(theirs):
        delay = ours[i].ts - theirs[j].ts
        if abs(delay) <= within_ns:
            pairs.append((ours[i], theirs[j]))
            i, j = i + 1, j + 1
        elif delay < 0:
            alone.append(ours[i])
            i += 1
        else:
            others.append(theirs[j])
            j += 1
    return pairs, [*alone, *ours[i:]], [*others, *theirs[j:]]


def _row(
    ours: Decision | None,
    theirs: Decision | None,
    allowed: Allowed,
    lot: Decimal,
) -> Row:
    one = ours or theirs
    assert one is not None
    symbol, leg, side = one.key
    delay = worse = None
    verdict = EXTRA if theirs is None else MISSING
    if ours and theirs:
        delay = ours.ts - theirs.ts
        sign = 1 if side == "BUY" else -1
        worse = rounded(sign * (ours.px / theirs.px - 1) * BPS)
        verdict = MATCHED
        room = max(lot / allowed.size_fraction, theirs.qty * allowed.quantity)
        if abs(delay) > allowed.time_ns:
            verdict = LATE if delay > 0 else EARLY
        elif abs(ours.qty / allowed.size_fraction - theirs.qty) > room:
            verdict = QUANTITY
    # A shadow without mids of its own saw the same market as the reference.
    ours_costs = _costs(ours, theirs.fills[0].mid if theirs else None)
    theirs_costs = _costs(theirs, None)
    return Row(
        verdict=verdict,
        ts=one.ts if theirs is None else min(one.ts, theirs.ts),
        symbol=symbol,
        leg=leg,
        side=side,
        shadow_qty=ours.qty / allowed.size_fraction if ours else None,
        reference_qty=theirs.qty if theirs else None,
        delay_ns=delay,
        worse_bps=worse,
        shadow_slippage_bps=ours_costs.slippage_bps,
        reference_slippage_bps=theirs_costs.slippage_bps,
        shadow_shortfall_bps=ours_costs.is_net_bps,
        reference_shortfall_bps=theirs_costs.is_net_bps,
    )


def _costs(decision: Decision | None, mid: Decimal | None) -> Metrics:
    """Return what a decision cost, as one order; `mid` is that of fills which have none."""
    if decision is None:
        return Metrics()
    fills = [replace(fill, mid=fill.mid or mid) for fill in decision.fills]
    first = fills[0].mid
    if first is None:
        return Metrics()
    order = Order(decision.ts, *decision.key, decision.qty, first, first, decision.qty)  # type: ignore[arg-type]
    return costs([order], fills)
