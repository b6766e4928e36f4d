"""acceptance/compare.py: the verdict, and what cannot be judged."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from acceptance import tolerance
from acceptance.compare import Comparison, Gate, compare
from acceptance.record import Data, Record
from tests.acceptance.rigs import END, START, result, with_fill, zeros

D = Decimal
TOLERANCES = tolerance.load()
BASE = result()
PORT = replace(BASE, program="nautilus")


NO_FILLS = ["is_gross", "is_net", "slippage", "fills", "fill_fees", "fill_mids"]


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
        (without("fills"), ["fills", "fill_fees", "fill_mids"]),
        (with_fill(without("metrics"), 3, mid=None), ["slippage", "fill_mids"]),
        (without("fills", "metrics"), NO_FILLS),
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


@pytest.mark.parametrize(("name", "nothing"), [("counts", {}), ("orders", None)])
@pytest.mark.parametrize("swapped", [False, True])
def test_what_only_our_programs_count_may_be_left_out(
    name: str, nothing: object, swapped: bool
) -> None:
    """Without counts the gate is shown as not judged, and the others decide."""
    own = replace(PORT, run=replace(PORT.run, **{name: nothing}))  # type: ignore[arg-type]

    comparison = judged(*((BASE, own) if swapped else (own, BASE)))

    assert (comparison.verdict, comparison.reasons) == ("pass", ())
    assert [gate.name for gate in comparison.gates if gate.passed is None] == [name]


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
    (replace(EMPTY, fills=None, totals=dict.fromkeys(("BTC", "ETH", "total"), zeros())),
     "A (ours) is empty: no events or no fills"),
    (replace(PORT, mock=True), "A (nautilus) ran on mock data"),
    (run_with(last_ts=BASE.run.last_ts - 1),  # type: ignore[operator]
     "A (nautilus) stopped early: its last event is of 2025-07-02T00:09:43.999999999Z, the data "
     "go to 2025-07-02T00:09:44Z"),
    (run_with(last_ts=None, events=241), "did not process what it was fed: 241 of 242 events"),
    (run_with(events=243), "did not process what it was fed: 243 of 242 events"),
    (run_with(last_ts=END), "contradicts itself: run.last_ts 1751415000000000000 is outside of"),
    (data_with(last_ts=PORT.data.start_ns - 1),
     "contradicts itself: data.last_ts 1751413799999999999 is outside of the run"),
    (replace(data_with(events=7), run=replace(PORT.run, events=7)),
     "data differ: events is 7 and 242"),
    (replace(data_with(last_ts=START), run=replace(PORT.run, last_ts=START)),
     f"data differ: last_ts is {START} and 17514149"),
    (replace(PORT, instruments=()), "contradicts itself: instruments: there is none"),
    (replace(PORT, instruments=BASE.instruments[1:]),  # type: ignore[index]
     "contradicts itself: instruments: BTC spot, which has fills, is not there"),
    (replace(PORT, instruments=BASE.instruments * 2),  # type: ignore[operator]
     "contradicts itself: instruments: BTC spot is there 2 times"),
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
