"""Three comparisons written by hand, for what shows them: a pass, a fail, and neither."""

from dataclasses import replace
from decimal import Decimal

from acceptance.shape import Data, Fill, Instrument, Record, Run, Totals
from acceptance.verdict import Comparison, Divergence, Gate

MINUTE = 60_000_000_000
START = 1_751_328_000_000_000_000
D = Decimal


def totals(*parts: str) -> Totals:
    """Return totals of price on spot and perp, funding, fees and turnover."""
    spot, perp, funding, fees, turnover = map(D, parts)
    return Totals(spot, perp, funding, fees, spot + perp + funding - fees, turnover)


def fill(minute: int, leg: str, side: str, qty: str, px: str) -> Fill:
    """Return a fill of BTC at five seconds past a minute, with a fee of 10 bp."""
    ts, fee = START + minute * MINUTE + 5_000_000_000, D(qty) * D(px) / 1000
    known = ts, "BTC", leg, side, D(qty), D(px), fee, D(px) - 1
    return Fill(*known, "rich_basis")  # type: ignore[arg-type]


A = Record(
    schema=1,
    program="nautilus",
    strategy="basis_carry",
    data=Data(START, START + 4 * MINUTE, ("BTC", "ETH"), "ab" * 32, 1234, START + 3 * MINUTE),
    instruments=(
        Instrument("BTC.S", "BTC", "spot", D("0.01"), D("0.001"), D(5), D("0.001")),
        Instrument("BTC.P", "BTC", "perp", D("0.1"), D("0.001"), D(100), D("0.0005")),
    ),
    params={"entry_basis_bps": "5", "exit_basis_bps": "1"},
    run=Run(1234, START + 3 * MINUTE, 4, 4, 0, 0, {"decisions": 24}),
    totals={
        "BTC": totals("12.5", "-3.25", "1.00000004", "30.5", "20000"),
        "ETH": totals("-1", "0.5", "0", "0.125", "1234567.891"),
        "total": totals("11.5", "-2.75", "1.00000004", "30.625", "1254567.891"),
    },
    equity=tuple((START + n * MINUTE, D(pnl)) for n, pnl in enumerate((0, "5.5", "-7", -20, -21))),
)
B = replace(
    A,
    program="legacy",
    totals=(A.totals or {}) | {"ETH": totals("-1", "0.25", "0", "0.125", "1234000")},
    equity=tuple((START + n * MINUTE, D(pnl)) for n, pnl in enumerate((0, "5.5", "-7", -19, -21))),
)
PASSED = tuple(
    Gate(name, "contract", scope, unit, measured, allowed, True, f"detail of {scope}")
    for name, unit, measured, allowed in (("pnl", "%", 4e-8, 0.05), ("slippage", "bp", 0.0, 1.0))
    for scope in ("BTC", "ETH", "total")
)
FAILED = (
    Gate("fills", "strict", "BTC", "fills", 2.0, 0.0, False, "1 in both, 1 in A only, 1 in B only"),
    Gate("equity", "strict", "total", "%", None, 0.05, False, "not sampled at the same times"),
)
UNSEEN = Gate("counts", "strict", "total", "counts", None, 0.0, None, "A does not state counts")
AROUND = fill(0, "spot", "BUY", "0.5", "107000.01")
DIVERGENCE = Divergence(
    "clock",
    START + MINUTE + 5_000_000_000,
    "BTC",
    "the other has it 60 s later",
    fill(1, "perp", "SELL", "0.5", "107055.5"),
    fill(2, "perp", "SELL", "0.5", "107055.5"),
    (AROUND, fill(1, "perp", "SELL", "0.5", "107055.5")),
    (AROUND, fill(2, "perp", "SELL", "0.5", "107055.5")),
)

passing = Comparison(A, replace(A, program="legacy"), "contract", "pass", (), PASSED)
failing = Comparison(
    A, B, "strict", "fail", ("fills BTC is 2 fills",), (*PASSED, *FAILED, UNSEEN), DIVERGENCE
)
unjudged = Comparison(
    replace(A, mock=True), B, "strict", "cannot judge", ("A (nautilus) ran on mock data",), ()
)
