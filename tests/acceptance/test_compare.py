"""acceptance/compare.py: the verdict, and what cannot be judged."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from acceptance import tolerance
from acceptance.compare import Comparison, Gate, compare
from acceptance.record import Data, Record
from tests.acceptance.rigs import END, result, with_fill, with_totals

D = Decimal
TOLERANCES = tolerance.load()
BASE = result()
PORT = replace(BASE, program="nautilus")


def judged(a: Record, b: Record = BASE, **more: Any) -> Comparison:
    return compare(a, b, TOLERANCES, **more)


def test_equal_results_pass() -> None:
    """Every gate of both tiers is judged, on every symbol and on the total, and passes."""
    comparison = judged(PORT)

    assert (comparison.verdict, comparison.exit_code, comparison.reasons) == ("pass", 0, ())
    assert all(gate.passed for gate in comparison.gates)
    assert {(gate.name, gate.scope) for gate in comparison.gates} >= {
        (name, scope) for name in ("pnl", "is_net", "fills") for scope in ("BTC", "ETH", "total")
    }
    assert {gate.name for gate in comparison.gates} == set(tolerance.GATES)
    assert comparison.divergence is None


def test_the_contract_tier_has_the_published_gates_only() -> None:
    """Asked for the contract, the strict gates are not there."""
    gates = judged(PORT, tier="contract").gates

    assert {gate.name for gate in gates} == {"pnl", "is_gross", "is_net", "slippage"}


def test_two_calls_say_the_same() -> None:
    """A comparison is a function of its two results."""
    assert judged(PORT) == judged(PORT)


def without(*parts: str) -> Record:
    return replace(PORT, **dict.fromkeys(parts))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("own", "gates"),
    [
        (without("equity", "metrics"), ["equity", "max_drawdown", "sharpe"]),
        (without("equity"), ["equity", "sharpe"]),  # which so short a run does not have
        (without("totals"), ["pnl", "positions", "turnover"]),
        (without("fills"), ["fills", "fill_fees"]),
        (without("fills", "metrics"), ["is_gross", "is_net", "slippage", "fills", "fill_fees"]),
        (replace(PORT, data=replace(PORT.data, last_ts=None)), ["inputs"]),
        (replace(PORT, run=replace(PORT.run, last_ts=None)), ["inputs"]),
        (replace(PORT, run=replace(PORT.run, rejected=None)), ["inputs"]),
        (replace(PORT, data=replace(PORT.data, events=None)), ["events"]),
        (without("instruments"), ["inputs"]),
        (without("days"), ["fees_by_day", "funding_by_day", "basis_pnl_by_day"]),
        (without("orders", "metrics"), ["is_gross", "is_net"]),
        (without("funding"), ["funding_events", "funding_amounts"]),
        (replace(PORT, run=replace(PORT.run, events=None)), ["events"]),
        (replace(PORT, run=replace(PORT.run, denied=None)), ["inputs"]),
        (replace(PORT, data=replace(PORT.data, sha256=None)), ["inputs"]),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_what_a_result_leaves_out_is_not_judged_and_never_passes(
    own: Record, gates: list[str], swapped: bool
) -> None:
    """The gates that need it are named; with them unseen the strict tier cannot be judged."""
    comparison = judged(*((BASE, own) if swapped else (own, BASE)))

    assert (comparison.verdict, comparison.exit_code) == ("cannot judge", 2)
    unseen = {gate.name: gate for gate in comparison.gates if gate.passed is None}
    assert list(unseen) == gates
    assert all("does not state" in gate.why for gate in unseen.values())
    assert f"{gates[0]} " in comparison.reasons[0] and "not judged" in comparison.reasons[0]


@pytest.mark.parametrize("swapped", [False, True])
def test_what_only_our_programs_count_may_be_left_out(swapped: bool) -> None:
    """Without counts the gate is shown as not judged, and the others decide."""
    own = replace(PORT, run=replace(PORT.run, counts={}))

    comparison = judged(*((BASE, own) if swapped else (own, BASE)))

    assert (comparison.verdict, comparison.reasons) == ("pass", ())
    assert [gate.name for gate in comparison.gates if gate.passed is None] == ["counts"]


def test_a_result_need_not_state_its_parameters() -> None:
    """Where only one states them there is nothing to be compared: other ones show in the fills."""
    assert judged(without("params"), BASE).verdict == "pass"


def test_the_contract_needs_less() -> None:
    """Days, counts, funding events and the hash of the data are not needed for the contract."""
    own = replace(without("days", "funding", "equity"), data=replace(BASE.data, sha256=None))

    assert judged(own, tier="contract").verdict == "pass"


def test_a_failure_outweighs_what_was_not_seen() -> None:
    """With one gate failed and another unseen it is a failure."""
    worse = with_fill(without("days", "totals", "orders", "metrics"), 0, px=D("101.02"))

    assert judged(replace(worse, equity=None)).verdict == "fail"


def test_a_failed_comparison_names_gates_and_divergence() -> None:
    """The reasons have gate, scope, measured and allowed; the first divergent fill is there."""
    changed = with_fill(PORT, 0, reason=None, px=D("101.02"))
    comparison = judged(replace(changed, totals=None, metrics=None, days=None, equity=None))

    assert comparison.verdict == "fail" and comparison.exit_code == 1
    assert "fills BTC is 2 fills, allowed 0: 19 in both, 1 in A only, 1 in B only" in (
        comparison.reasons
    )
    assert comparison.divergence is not None
    assert comparison.divergence.a == changed.fills[0]  # type: ignore[index]


def test_extra_gates_count() -> None:
    """A gate that the caller brings, such as the golden one, fails it like any other."""
    bad = Gate("golden", "strict", "total", "parts", 2.0, 0.0, False, "fills, net")

    assert judged(PORT, extra=(bad,)).reasons == ("golden total is 2 parts, allowed 0: fills, net",)


def run_with(**changes: Any) -> Record:
    return replace(PORT, run=replace(PORT.run, **changes))


def data_with(**changes: Any) -> Record:
    return replace(PORT, data=replace(PORT.data, **changes))


EMPTY = Record(
    1, "ours", "basis_carry", Data(PORT.data.start_ns, END, ("BTC", "ETH")), fills=(), orders=()
)
UNJUDGEABLE = [
    (EMPTY, "A (ours) is empty: no events or no fills"),
    (replace(PORT, mock=True), "A (nautilus) ran on mock data"),
    (run_with(last_ts=BASE.run.last_ts - 1),  # type: ignore[operator]
     "A (nautilus) stopped early: its last event is of 2025-07-02T00:09:43.999999999Z, the data "
     "go to 2025-07-02T00:09:44Z"),
    (run_with(last_ts=None, events=241), "stopped early: it processed 241 of 242 events"),
    (run_with(denied=1), "had 1 denied orders: its PnL is not the strategy's"),
    (run_with(rejected=3), "had 3 rejected orders"),
    (run_with(fills=29), "contradicts itself: run.fills is 29, the file has 30"),
    (data_with(sha256="1" * 64), "data differ: sha256 111111111111... and 000000000000..."),
    (data_with(start_ns=BASE.data.start_ns - 1), "windows differ: start_ns is"),
    (replace(PORT, strategy="grid"), "strategies differ: grid and basis_carry"),
    (replace(PORT, params={**BASE.params, "equity": "1"}),  # type: ignore[dict-item]
     "params differ: equity is 1 and 500000"),
    (replace(PORT, params={k: v for k, v in BASE.params.items() if k != "equity"}),  # type: ignore[union-attr]
     "params differ: equity is None and 500000"),
    (replace(PORT, instruments=BASE.instruments[:3]),  # type: ignore[index]
     "instruments differ: ETH-perp"),
]  # fmt: skip


@pytest.mark.parametrize(("bad", "reason"), UNJUDGEABLE, ids=[each for _, each in UNJUDGEABLE])
@pytest.mark.parametrize("swapped", [False, True])
def test_what_cannot_be_judged_is_neither_pass_nor_fail(
    bad: Record, reason: str, swapped: bool
) -> None:
    """Whichever side it is on, the exit code is 2, the reason is told, and no gate is."""
    comparison = judged(*((BASE, bad) if swapped else (bad, BASE)))

    assert (comparison.verdict, comparison.exit_code, comparison.gates) == ("cannot judge", 2, ())
    if not swapped:
        assert reason in "\n".join(comparison.reasons)


def test_other_symbols_are_not_compared() -> None:
    """A result of BTC alone says nothing about one of BTC and ETH."""
    single = replace(EMPTY, data=replace(EMPTY.data, symbols=("BTC",)), fills=BASE.fills[:2])  # type: ignore[index]

    assert "symbols differ: BTC and BTC, ETH" in judged(single).reasons


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
     "equity: the last sample is not at the end"),
    (lambda: replace(PORT, equity=(*BASE.equity[:-1], (END, D(0)))),  # type: ignore[index]
     "equity: ends at 0, totals.total.net is -534.889"),
    (lambda: replace(PORT, equity=BASE.equity[::-1]), "equity: not in order"),  # type: ignore[index]
    (lambda: replace(PORT, days=BASE.days[:1]), "days: the last sample is not at"),  # type: ignore[index]
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
    comparison = judged(made())

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
