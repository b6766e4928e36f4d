"""acceptance/consistency.py: what a result says twice."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from acceptance import tolerance
from acceptance.compare import compare
from acceptance.record import Data, Record
from tests.acceptance.rigs import END, result, with_fill, with_totals

D = Decimal
BASE = result()
PORT = replace(BASE, program="nautilus")
TOLERANCES = tolerance.load()


def data_with(**changes: Any) -> Record:
    return replace(PORT, data=replace(PORT.data, **changes))


CONTRADICTIONS: list[tuple[Callable[[], Record], str]] = [
    (lambda: with_totals(PORT, "BTC", net=D(1)), "totals.BTC: net is 1, its parts make -339.459"),
    (lambda: with_totals(PORT, "total", turnover=D(1)), "totals.total: turnover is 1, the symbols"),
    (lambda: with_fill(PORT, 0, fee=D(1)), "totals.BTC: fees is 363.44685326, fills make"),
    (lambda: with_fill(PORT, 0, qty=D(1)), "totals.BTC: spot_position is 331.83, fills make"),
    (lambda: with_fill(PORT, 0, ts=END + 1), "fills: ts 1751415000000000001 is outside of the run"),
    (lambda: with_fill(PORT, 0, symbol="XRP"), "fills: XRP at 1751413865000000000 is not in data"),
    (lambda: with_fill(PORT, 9, ts=BASE.data.start_ns), "goes back in time"),
    (lambda: replace(PORT, funding=()), "funding is 5.0113735, funding events make 0"),
    (lambda: replace(PORT, equity=BASE.equity[:-1]),  # type: ignore[index]
     "equity: has none where 2025-07-02T00:10:00Z is due; expected a sample at each full minute"),
    (lambda: replace(PORT, equity=BASE.equity[-1:]),  # type: ignore[index]
     "equity: has 2025-07-02T00:10:00Z where 2025-07-01T23:51:00Z is due"),
    (lambda: replace(PORT, equity=((0, D(-9)), *BASE.equity)),  # type: ignore[misc]
     "equity: has 1970-01-01T00:00:00Z where"),
    (lambda: replace(PORT, days=BASE.days[1:]),  # type: ignore[index]
     "days: has 2025-07-02T00:10:00Z where 2025-07-02T00:00:00Z is due; expected a sample at each "
     "full UTC day"),
    (lambda: replace(PORT, funding=(BASE.funding[0], *BASE.funding)),  # type: ignore[index,misc]
     "funding: BTC is settled 2 times at 2025-07-02T00:00:00Z"),
    (lambda: replace(PORT, equity=(*BASE.equity[:-1], (END, D(0)))),  # type: ignore[index]
     "equity: ends at 0, totals.total.net is -534.889"),
    (lambda: replace(PORT, equity=BASE.equity[::-1]), "equity: has 2025-07-02T00:10"),  # type: ignore[index]
    (lambda: replace(PORT, days=BASE.days[:1]), "days: has none where 2025-07-02T00:10"),  # type: ignore[index]
    (lambda: replace(PORT, days=((END, BASE.days[0][1]),)),  # type: ignore[index]
     "days: the last one of BTC differs from totals.BTC"),
    (lambda: replace(PORT, orders=BASE.orders[1:]), "run.orders is 30, the file has 29"),  # type: ignore[index]
    (lambda: replace(PORT, orders=(replace(BASE.orders[0], filled=D(1)), *BASE.orders[1:])),  # type: ignore[index]
     "orders: BTC spot BUY filled differ from the fills by -249.5"),
    (lambda: replace(PORT, orders=(replace(BASE.orders[0], qty=D(1)), *BASE.orders[1:])),  # type: ignore[index]
     "orders: at 1751413865000000000 250.5 of 1 filled"),
    (lambda: replace(PORT, metrics={"total": replace(BASE.metrics["total"], slippage_bps=0.0)}),  # type: ignore[index]
     "metrics.total: slippage_bps is 0.0, its parts make 0.9341260"),
    (lambda: replace(PORT, totals={"total": BASE.totals["total"]}),  # type: ignore[index]
     "totals: has ['total'], expected ['BTC', 'ETH', 'total']"),
    (lambda: data_with(symbols=("BTC", "ETH", "total")), "expected one or more, each once"),
    (lambda: data_with(end_ns=0), "data.end_ns 0 is not after"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("made", "reason"), CONTRADICTIONS, ids=[each for _, each in CONTRADICTIONS]
)
def test_a_result_that_contradicts_itself_is_no_evidence(
    made: Callable[[], Record], reason: str
) -> None:
    """Sums are checked exactly: what a result says twice must agree."""
    comparison = compare(made(), BASE, TOLERANCES)

    assert comparison.verdict == "cannot judge"
    assert any(
        each.startswith("A (nautilus) contradicts itself: ") and reason in each
        for each in comparison.reasons
    )


def test_a_price_must_follow_from_fills_that_end_flat() -> None:
    """Of a leg without a position at the end the price PnL is known, and another one is refused."""
    flat = result_flat()
    assert flat.totals is not None
    row = flat.totals["BTC"]

    changed = with_totals(flat, "BTC", price_spot=row.price_spot + 1, price_perp=row.price_perp - 1)

    problems = "\n".join(compare(changed, flat, TOLERANCES).reasons)
    assert "totals.BTC: price_spot is" in problems and "fills make" in problems


def result_flat() -> Record:
    """Return the part of the small result up to where BTC is flat, as a user might state it."""
    fills = tuple(fill for fill in BASE.fills or () if fill.symbol == "BTC")[:8]
    spot = sum(
        (f.px * f.qty * (1 if f.side == "SELL" else -1) for f in fills if f.leg == "spot"), D(0)
    )
    perp = sum(
        (f.px * f.qty * (1 if f.side == "SELL" else -1) for f in fills if f.leg == "perp"), D(0)
    )
    fees = sum((f.fee for f in fills), D(0))
    row = replace(
        BASE.totals["BTC"],  # type: ignore[index]
        price_spot=spot,
        price_perp=perp,
        funding=D(0),
        fees=fees,
        net=spot + perp - fees,
        turnover=sum((f.px * f.qty for f in fills), D(0)),
        spot_position=D(0),
        perp_position=D(0),
    )
    total = replace(row, spot_position=None, perp_position=None, dust=None)
    data = Data(BASE.data.start_ns, END, ("BTC",))
    return Record(1, "ours", "basis_carry", data, totals={"BTC": row, "total": total}, fills=fills)
