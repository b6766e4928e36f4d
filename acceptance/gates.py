"""Every gate of a tier, judged on every scope."""

from collections.abc import Mapping, Sequence
from decimal import localcontext
from typing import Final

from acceptance import measures, measures_fills
from acceptance.consistency import measured
from acceptance.measures import Measure, NotJudged, Side
from acceptance.shape import EXACT, TOTAL, Record
from acceptance.tolerance import Tolerance
from acceptance.verdict import Gate, Tier

EACH: Final = ("symbol", TOTAL)
MEASURES: Final[Mapping[str, tuple[Sequence[str], Measure]]] = {
    "pnl": (EACH, measures.pnl),
    "is_gross": (EACH, measures.metric("is_gross_bps", "orders and fills, or its shortfall")),
    "is_net": (EACH, measures.metric("is_net_bps", "orders and fills, or its shortfall")),
    "slippage": (EACH, measures.metric("slippage_bps", "the mid of every fill, or its slippage")),
    "fills": (EACH, measures_fills.fills),
    "fill_fees": (EACH, measures_fills.fill_fees),
    "fill_mids": (EACH, measures_fills.fill_mids),
    "funding_events": (EACH, measures_fills.funding_events),
    "funding_amounts": (EACH, measures_fills.funding_amounts),
    "fees_by_day": (EACH, measures.by_day("fees", lambda row: row.fees)),
    "funding_by_day": (EACH, measures.by_day("funding", lambda row: row.funding)),
    "basis_pnl_by_day": (
        EACH, measures.by_day("price PnL", lambda row: row.price_spot + row.price_perp)
    ),
    "positions": (("symbol",), measures.positions),
    "equity": ((TOTAL,), measures.equity),
    "max_drawdown": ((TOTAL,), measures.metric("max_drawdown", "equity", relative=True)),
    "sharpe": ((TOTAL,), measures.metric("sharpe", "equity")),
    "turnover": (EACH, measures.turnover),
    "events": ((TOTAL,), measures.events),
    "orders": ((TOTAL,), measures.orders),
    "counts": ((TOTAL,), measures.counts),
    "inputs": ((TOTAL,), measures.inputs),
}  # fmt: skip


def judge(
    a: Record, b: Record, tolerances: Mapping[str, Tolerance], tier: Tier
) -> tuple[Gate, ...]:
    """Return every gate of a tier on every scope; the strict tier includes the contract's.

    Both records must be of the same symbols and each consistent with itself.
    """
    with localcontext(EXACT):
        sides = Side("A", a, measured(a)), Side("B", b, measured(b))
        return tuple(
            _gate(tolerances[name], scope, measure, sides)
            for name, (scopes, measure) in MEASURES.items()
            if tier == "strict" or tolerances[name].tier == "contract"
            for scope in (*(a.data.symbols if "symbol" in scopes else ()), TOTAL)
            if scope != TOTAL or TOTAL in scopes
        )


def _gate(tolerance: Tolerance, scope: str, measure: Measure, sides: tuple[Side, Side]) -> Gate:
    value, passed = None, None
    try:
        value, why = measure(*sides, scope)
        passed = value is not None and tolerance.holds(value)
    except NotJudged as error:
        why = str(error)
    why = "; ".join(filter(None, (why, tolerance.note)))
    return Gate(
        tolerance.name, tolerance.tier, scope, tolerance.unit, value, tolerance.limit, passed, why
    )
