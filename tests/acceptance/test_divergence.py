"""acceptance/divergence.py: the first divergent fill and the class of its cause."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from acceptance import divergence
from acceptance.record import Fill, Record, Settlement
from acceptance.verdict import Divergence
from tests.acceptance.rigs import market, result, with_fill

D = Decimal
SECOND = 10**9
BASE = result()
FILLS: tuple[Fill, ...] = BASE.fills or ()


def first(a: Record, b: Record = BASE) -> Divergence:
    """Return the first divergence, which there is."""
    found = divergence.first(a, b)
    assert found is not None
    return found


def without(*indices: int) -> Record:
    """Return the result without these fills."""
    kept = [fill for index, fill in enumerate(FILLS) if index not in indices]
    return replace(BASE, fills=tuple(kept))


def test_equal_results_do_not_diverge() -> None:
    """In whatever order fills of one time are written."""
    swapped = replace(BASE, fills=(FILLS[1], FILLS[0], *FILLS[2:]))

    assert divergence.first(BASE, BASE) is None
    assert divergence.first(swapped, BASE) is None


SAME_ORDER: list[tuple[dict[str, Any], str, str]] = [
    ({"qty": D("240")}, "size", "quantity 240 and 245.07"),
    ({"qty": D("240"), "px": D(1)}, "size", "quantity 240 and 245.07"),
    ({"px": D("102.02"), "mid": D("102.01")}, "data", "the mid was 102.01 and 102"),
    ({"mid": D("102.01")}, "data", "the mid was 102.01 and 102"),
    ({"px": D("102.02")}, "fill", "price 102.02 and 102.01"),
    ({"fee": D("24.99959071")}, "fee", "fee 24.99959071 and 24.9995907"),
]


@pytest.mark.parametrize(("change", "cause", "why"), SAME_ORDER)
@pytest.mark.parametrize("swapped", [False, True])
def test_the_same_order_filled_otherwise(
    change: dict[str, Any], cause: str, why: str, swapped: bool
) -> None:
    """Another quantity is a size, another mid is data, another price is a fill, then the fee."""
    other = with_fill(BASE, 4, **change)
    assert other.fills is not None

    found = first(BASE, other) if swapped else first(other)

    assert (found.cause, found.ts, found.symbol) == (cause, FILLS[4].ts, "ETH")
    pair = (other.fills[4], FILLS[4])
    assert (found.a, found.b) == (pair[::-1] if swapped else pair)
    if not swapped:
        assert found.why == why


def test_the_first_of_several_is_told_with_its_neighbors() -> None:
    """Both sides come with three fills before and after."""
    later = with_fill(with_fill(BASE, 9, px=D(1)), 5, px=D(1))
    assert later.fills is not None

    found = first(later)

    assert found.a == later.fills[5]
    assert found.around_a == later.fills[2:9]
    assert found.around_b == FILLS[2:9]


@pytest.mark.parametrize("swapped", [False, True])
def test_a_decision_of_one_program_only_is_a_signal(swapped: bool) -> None:
    """Both legs of an order are missing on one side."""
    found = first(BASE, without(4, 5)) if swapped else first(without(4, 5))

    assert found.cause == "signal"
    assert (found.a, found.b) == ((FILLS[4], None) if swapped else (None, FILLS[4]))
    side = "A" if swapped else "B"
    assert found.why == (
        f"only {side} has ETH spot BUY 245.07 at 102.01, 2025-07-01T23:52:05Z; "
        "the other did not decide so"
    )


def test_a_run_that_has_no_more_fills_diverges_at_its_end() -> None:
    """The first fill that it lacks is the divergent one."""
    assert first(replace(BASE, fills=FILLS[:7])).b == FILLS[7]
    assert first(replace(BASE, fills=())).b == FILLS[0]


def test_one_leg_only_is_a_fill() -> None:
    """The other leg of the same order is there."""
    found = first(without(5))

    assert (found.cause, found.b) == ("fill", FILLS[5])
    assert found.why.endswith("the other traded the other leg only")


@pytest.mark.parametrize("late_ns", [1, 50_000_000, 9 * SECOND])
def test_the_same_fill_between_two_decisions_is_the_clock(late_ns: int) -> None:
    """All fills come late by less than an interval; the late one stands for it."""
    shifted = tuple(replace(fill, ts=fill.ts + late_ns) for fill in FILLS)

    found = first(replace(BASE, fills=shifted))

    assert found.cause == "clock"
    assert (found.a, found.b) == (shifted[0], FILLS[0])


def test_a_fill_at_no_decision_is_the_clock() -> None:
    """Even when the other program has nothing like it; unknown parameters tell nothing."""
    odd = replace(FILLS[0], ts=FILLS[0].ts - 40 * SECOND - 1)
    early = replace(BASE, fills=(odd, *FILLS))

    assert first(early).cause == "clock"
    wrong = ("often", "NaN", "sNaN", "Infinity", "-10", "1e999990")
    unknown = [{"interval_seconds": each} for each in (*wrong, "0", "1e-30", "1e-999999")]
    unknown += [{"offset_seconds": each} for each in wrong]
    for params in unknown:
        stranger = replace(BASE, params={"interval_seconds": "10", "offset_seconds": "5"} | params)
        assert first(replace(early, params=None), stranger).cause == "signal"


def test_a_whole_interval_late_is_a_signal() -> None:
    """At another decision time it is another decision."""
    shifted = tuple(replace(fill, ts=fill.ts + 10 * SECOND) for fill in FILLS[4:6])

    assert first(replace(BASE, fills=(*FILLS[:4], *shifted, *FILLS[6:]))).cause == "signal"


def settled(**changes: Any) -> tuple[Settlement, ...]:
    assert BASE.funding is not None
    return tuple(replace(event, **changes) for event in BASE.funding)


def test_funding_alone_is_told_without_a_fill() -> None:
    """All fills agree: the settlement that differs, or lacks, is the divergence."""
    other = first(replace(BASE, funding=settled(amount=D(-5))))
    lacking = first(replace(BASE, funding=()))

    assert (other.cause, other.a, other.symbol) == ("funding", None, "BTC")
    assert other.why == "BTC at 2025-07-02T00:00:00Z paid -5 and 5.0113735"
    for name, said in (("position", "was on"), ("rate", "had rate"), ("mark", "had mark")):
        assert f" {said} 9 and " in first(replace(BASE, funding=settled(**{name: D(9)}))).why
    assert lacking.why == "only B settled BTC at 2025-07-02T00:00:00Z"


def test_a_decision_after_other_funding_is_its_consequence() -> None:
    """A fill of one side only, behind a settlement that differs, is put down to it."""
    assert BASE.funding is not None
    after = next(i for i, fill in enumerate(FILLS) if fill.ts > BASE.funding[0].ts)
    fills = without(after, after + 1).fills

    found = first(replace(BASE, fills=fills, funding=settled(amount=D(-5))))

    assert (found.cause, found.b) == ("funding", FILLS[after])
    before = replace(without(4, 5), funding=settled(amount=D(-5)))
    assert first(before).cause == "signal"


def test_marks_and_counts_come_last() -> None:
    """With equal fills and funding it is the curve, then what the programs count."""
    assert BASE.equity is not None
    ts, pnl = BASE.equity[7]
    marked = replace(BASE, equity=(*BASE.equity[:7], (ts, pnl + 1), *BASE.equity[8:]))
    counted = replace(BASE, run=replace(BASE.run, counts={}))

    assert (first(marked).cause, first(marked).ts) == ("data", ts)
    assert first(counted).cause == "signal"


def test_without_fills_there_is_nothing_to_tell() -> None:
    """A fast result has none."""
    assert divergence.first(replace(BASE, fills=None), BASE) is None


def test_another_market_is_data() -> None:
    """A real run on quotes that differ in one price: the first fill at it shows another mid."""
    changed = [
        event._replace(ask=event.ask + 2)
        if getattr(event, "instrument", "") == "BTC-spot" and event.ask == 105010
        else event
        for event in market()
    ]
    assert changed != market()

    found = first(result(events=changed))

    assert (found.cause, found.symbol, found.why) == ("data", "BTC", "the mid was 105.001 and 105")
