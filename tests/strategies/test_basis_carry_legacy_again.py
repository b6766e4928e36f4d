"""strategies/basis_carry/legacy.py: how a position goes on, and when the next may follow."""

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from tests.strategies.basis_carry_market import (
    FLAT,
    HELD,
    RICH,
    START,
    basis,
    decision,
    exits,
    fills,
    rate,
    steps,
    trade,
    walk,
)

D = Decimal
PAYS = 0.0001  # per eight hours: 0.1095 a year
MANY = 1000


def entered(result: Any) -> list[tuple[int, str]]:
    """Return the entries: number of the decision, reason."""
    return [(number, reason) for number, side, _, reason in fills(result) if side == "BUY"]


def test_an_entry_goes_on_when_its_signal_is_gone() -> None:
    """What was decided is bought to the full quantity, unless an exit fires."""
    slow = {"spot_size": "200"}

    result = trade(steps(RICH | slow, HELD | slow, HELD | slow, HELD | slow))

    assert fills(result) == [
        (0, "BUY", 200, "rich_basis"),
        (1, "BUY", 200, "rich_basis"),
        (2, "BUY", 100, "rich_basis"),
    ]


def test_an_exit_stops_a_half_done_entry() -> None:
    """Once an exit fired nothing more is bought."""
    slow = {"spot_size": "200"}

    result = trade(steps(RICH | slow, FLAT | slow, RICH | slow))

    assert fills(result) == [(0, "BUY", 200, "rich_basis"), (1, "SELL", 200, "basis_reverted")]


def test_an_exit_holds_and_keeps_its_reason() -> None:
    """It goes on until flat, whatever the signals do, even when a stronger reason comes up."""
    slow = {"spot_size": "200"}

    result = trade(steps(RICH, FLAT | slow, RICH | slow, basis("75", **slow), HELD))

    assert fills(result)[1:] == [
        (1, "SELL", 200, "basis_reverted"),
        (2, "SELL", 200, "basis_reverted"),
        (3, "SELL", 100, "basis_reverted"),
    ]
    assert (result.exits, exits(result)) == (Counter(basis_reverted=1), [(1, "basis_reverted")])
    assert result.round_trips[0].flat_ts == decision(4)


@pytest.mark.parametrize(("seconds", "number"), [(60, 8), (60.000000001, 9), (0, 2)])
def test_the_cooldown_counts_from_the_first_flat_decision(seconds: float, number: int) -> None:
    """Sold at number 1 and found flat at number 2, it may enter 60 s after that, not before."""
    result = trade(steps(RICH, FLAT), walk(RICH, 12, first=2), cooldown_seconds=seconds)

    assert entered(result) == [(0, "rich_basis"), (number, "rich_basis")]


def test_an_entry_without_a_fill_cools_down_as_well() -> None:
    """Its exit fires, the next decision finds it flat, and the cooldown runs."""
    empty = {"spot_size": "0"}

    result = trade(steps(RICH | empty, FLAT), walk(RICH, 12, first=2))

    assert entered(result) == [(8, "rich_basis")]
    assert result.unfilled == Counter(basis_reverted=1)


DISARMING = [
    ("stop_loss", {"hedge_divergence_bps": MANY}, basis("75")),
    ("hedge_divergence", {}, basis("25")),
    ("timeout", {"timeout_hours": "0.002"}, RICH),
]


@pytest.mark.parametrize(("reason", "changes", "market"), DISARMING)
def test_after_a_bad_exit_the_basis_must_come_down_first(
    reason: str, changes: dict[str, object], market: dict[str, Any]
) -> None:
    """Disarmed, it lets a rich basis go until a decision has seen it at its exit threshold."""
    again = [RICH] * 12
    held = steps(RICH, market, *again)
    above = steps(RICH, market, *again[:6], basis("1.1"), *again[:6])
    down = steps(RICH, market, *again[:6], basis("1"), *again[:6])

    assert trade(held, **changes).exits == Counter({reason: 1})
    assert entered(trade(held, **changes)) == [(0, "rich_basis")]
    assert entered(trade(above, **changes)) == [(0, "rich_basis")]
    assert entered(trade(down, **changes))[:2] == [(0, "rich_basis"), (9, "rich_basis")]


def test_a_good_exit_leaves_it_armed() -> None:
    """After a reverted basis the next rich one is taken, without any further fall."""
    result = trade(steps(RICH, FLAT), walk(RICH, 9, first=2), exit_basis_bps=1)

    assert len(entered(result)) == 2


def test_both_reasons_are_disarmed_and_armed_apart() -> None:
    """A bad exit disarms the funding too, and a low basis arms the basis only."""
    records = [rate(START, PAYS)]
    market = steps(RICH, basis("25"), *[FLAT] * 8)

    result = trade(records, market, walk(RICH, 11, first=10))

    assert entered(result) == [(0, "rich_basis"), (10, "rich_basis")]
    low = [rate(decision(3), 0.0), rate(decision(5), PAYS)]
    result = trade(records, low, market)
    assert entered(result) == [(0, "rich_basis"), (8, "high_funding")]


@pytest.mark.parametrize(("annual", "armed"), [(0.05, True), (0.0500001, False)])
def test_the_funding_is_armed_at_its_exit_threshold(annual: float, armed: bool) -> None:
    """A decision that sees the rate at or below the exit threshold arms it."""
    records = [
        rate(START, PAYS),
        rate(decision(3) - 1, annual * 8 / 8760),
        rate(decision(4) - 1, PAYS),
    ]

    result = trade(records, steps(RICH, basis("25"), *[HELD] * 8))

    assert (8, "high_funding") in entered(result) or not armed
    assert len(entered(result)) == 1 + armed


@pytest.mark.parametrize("low", [2, 3, 5])
def test_arming_does_not_wait_for_flat_or_cool(low: int) -> None:
    """A fall while it exits or cools down counts."""
    slow = {"spot_size": "250"}
    markets = [RICH, basis("25", **slow), basis("25", **slow), *[RICH] * 8]
    markets[low] = FLAT | {"spot_size": "250"}

    result = trade(steps(*markets), end=decision(11))

    assert fills(result)[1:3] == [
        (1, "SELL", 250, "hedge_divergence"),
        (2, "SELL", 250, "hedge_divergence"),
    ]
    assert entered(result)[1:] == [(9, "rich_basis")]


def test_the_decision_that_fires_does_not_arm() -> None:
    """A basis that is low as the exit fires, and not after it, leaves the basis disarmed."""
    records = [rate(START, PAYS), rate(decision(2), 0.06 * 8 / 8760)]
    markets = [FLAT, FLAT, *[HELD] * 7, *[RICH] * 3]

    result = trade(records, steps(*markets), timeout_hours="0.002")

    assert exits(result) == [(1, "timeout")]
    assert entered(result) == [(0, "high_funding")]
