"""strategies/basis_carry/legacy.py: why it enters and exits."""

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from tests.strategies.basis_carry_market import (
    FLAT,
    HELD,
    HOUR,
    RICH,
    SECOND,
    START,
    basis,
    decision,
    exits,
    fills,
    pair,
    rate,
    show,
    steps,
    trade,
    walk,
)

D = Decimal
PAYS = 0.0001  # per eight hours: 0.1095 a year
FINE = pair(spot={"tick": "0.0000000001"}, perp={"tick": "0.0000000000001"})


def entered(result: Any) -> list[tuple[int, str]]:
    """Return the entries: number of the decision, reason."""
    return [(number, reason) for number, side, _, reason in fills(result) if side == "BUY"]


@pytest.mark.parametrize(
    ("perp", "enters"),
    [
        ("100.05", True),
        ("100.0499999999999", True),  # 4.99999999999 bp, which is 5 when rounded to 9 decimals
        ("100.049999999994", False),  # 4.9999999994 bp
        ("100.0499", False),
    ],
)
def test_a_rich_basis_enters_at_the_threshold(perp: str, enters: bool) -> None:
    """At the threshold it enters; what is compared is rounded to nine decimals."""
    result = trade(show(START, perp=perp, table=FINE), table=FINE, end=decision(1))

    assert entered(result) == [(0, "rich_basis")] * enters


@pytest.mark.parametrize(
    ("value", "hours", "enters"),
    [
        (PAYS, 8, True),
        (PAYS - 1e-13, 8, True),  # 0.10949999999989, which is 0.1095 when rounded to 9 decimals
        (PAYS - 1e-12, 8, False),
        (PAYS / 2, 4, True),
        (PAYS / 2, 8, False),
    ],
)
def test_high_funding_enters_at_the_threshold(value: float, hours: int, enters: bool) -> None:
    """The last rate, taken as a year's, enters at the threshold."""
    result = trade([rate(START, value, hours=hours)], steps(FLAT), entry_funding_annual=0.1095)

    assert entered(result) == [(0, "high_funding")] * enters


def test_the_basis_goes_before_the_funding() -> None:
    """Where both would enter, the reason is the basis."""
    assert entered(trade([rate(START, PAYS)], steps(RICH))) == [(0, "rich_basis")]


def test_a_rate_is_known_from_its_settlement_on() -> None:
    """A decision sees a rate published at its own time, and never a later one."""
    market = walk(FLAT, 3)

    result = trade(market, [rate(decision(1), PAYS)])

    assert entered(result) == [(1, "high_funding")]
    assert entered(trade(market, [rate(decision(1) + 1, PAYS)])) == []


def test_the_initial_rate_holds_until_the_first_is_published() -> None:
    """Before any settlement the rate is 0, or what the parameters say."""
    assert entered(trade(steps(FLAT), initial_rate=PAYS)) == [(0, "high_funding")]
    assert entered(trade(steps(FLAT), initial_rate=PAYS / 2, initial_interval_hours=4)) != []
    assert entered(trade([rate(START, 0.0)], steps(FLAT), initial_rate=PAYS)) == []


def test_the_basis_is_that_of_the_mids() -> None:
    """Wide spreads do not change the signal."""
    assert entered(trade(steps(RICH | {"spread": "0.5"}))) == [(0, "rich_basis")]


@pytest.mark.parametrize(("bps", "leaves"), [("1", True), ("1.1", False)])
def test_a_reverted_basis_exits_at_the_threshold(bps: str, leaves: bool) -> None:
    """What came in on the basis goes out when it is at or below the exit threshold."""
    result = trade(steps(RICH, basis(bps), FLAT if leaves else HELD))

    assert exits(result) == [(1, "basis_reverted")] * leaves


def test_a_reverted_basis_does_not_exit_what_came_for_the_funding() -> None:
    """Each entry has its own exit: a low basis is no reason to give up a paying position."""
    result = trade([rate(START, PAYS)], walk(FLAT, 9))

    assert (entered(result), result.exits) == ([(0, "high_funding")], Counter())


@pytest.mark.parametrize(("annual", "leaves"), [(0.05, True), (0.0500001, False)])
def test_faded_funding_exits_at_the_threshold(annual: float, leaves: bool) -> None:
    """What came in for the funding goes out when it is at or below the exit threshold."""
    faded = rate(START + 10 * SECOND, annual * 8 / 8760)

    result = trade([rate(START, PAYS), faded], walk(FLAT, 3), end=START + HOUR)

    assert exits(result) == [(1, "funding_faded")] * leaves


def test_faded_funding_does_not_exit_what_came_for_the_basis() -> None:
    """A low rate is no reason to give up a position that waits for the basis."""
    assert trade([rate(START, 0.0)], steps(RICH, HELD, HELD)).exits == Counter()


@pytest.mark.parametrize(("bps", "leaves"), [("20", True), ("19.9", False)])
def test_a_diverged_hedge_exits_at_the_threshold(bps: str, leaves: bool) -> None:
    """A basis that rose by the threshold since the entry decision exits."""
    result = trade(steps(RICH, HELD, basis(bps), HELD))

    assert exits(result) == [(2, "hedge_divergence")] * leaves


def test_only_the_difference_of_the_basis_is_rounded() -> None:
    """The entry's basis is kept as it was: two halves of the last decimal make no whole one."""
    # 5.0000000004 + 15 bp - 0.0000000008: the difference is 14.9999999992, rounded 14.999999999.
    below = show(START, perp="100.050000000004", table=FINE)
    result = trade(below, show(decision(1), perp="100.199999999996", table=FINE), table=FINE)
    assert result.exits["hedge_divergence"] == 0

    # The difference is 14.9999999996, rounded 15; of rounded bases it would be 14.999999999.
    below = show(START, perp="100.050000000006", table=FINE)  # 5.0000000006 -> 5.000000001
    result = trade(below, show(decision(1), perp="100.200000000002", table=FINE), table=FINE)
    assert result.exits["hedge_divergence"] == 1


# 500 bought at 100: a loss of 0.6 % is 300.
@pytest.mark.parametrize(
    ("perp", "settled", "leaves"),
    [
        ("100.65", [], True),
        ("100.649", [], False),
        ("100.649", [-0.00001], True),  # half a USDT of funding paid makes up for it
        ("100.65", [0.00001], False),
    ],
)
def test_a_stop_loss_counts_both_legs_and_the_funding(
    perp: str, settled: list[float], leaves: bool
) -> None:
    """At a loss of the threshold it exits: both legs at mid, with funding, without fees."""
    records = [rate(START + 10 * SECOND, value) for value in settled]

    result = trade(
        steps(RICH, {"perp": perp, "spread": "0"}, HELD), records, hedge_divergence_bps=100
    )

    assert exits(result) == [(1, "stop_loss")] * leaves


def test_a_stop_loss_is_valued_at_the_mids() -> None:
    """A spread that opens after the entry is no loss."""
    result = trade(steps(RICH, RICH | {"spread": "5"}))

    assert result.exits == Counter()


def test_a_stop_loss_is_measured_by_what_was_bought_so_far() -> None:
    """With a tenth filled, a tenth of the loss is enough."""
    moved = {"perp": "100.65", "spot_size": "0"}

    result = trade(steps(RICH | {"spot_size": "50"}, moved, HELD, HELD), hedge_divergence_bps=100)

    assert exits(result) == [(1, "stop_loss")]


def test_without_a_fill_there_is_no_stop_loss() -> None:
    """An entry that found nothing to buy has no cost to lose; other exits end it."""
    empty = {"spot_size": "0"}

    result = trade(steps(RICH | empty, basis("70") | empty, HELD))

    assert (result.exits, result.unfilled) == (Counter(), Counter(hedge_divergence=1))
    assert result.round_trips == []


@pytest.mark.parametrize(("seconds", "number"), [(30, 3), (30.000000001, 4)])
def test_it_leaves_at_the_age_of_the_timeout(seconds: float, number: int) -> None:
    """The age counts from the first entry decision and exits when it is reached."""
    markets = [RICH | {"spot_size": "100"}, RICH, HELD, HELD, HELD, HELD]

    result = trade(steps(*markets), timeout_hours=f"{D(str(seconds)) / 3600:.20f}")

    assert exits(result) == [(number, "timeout")]


@pytest.mark.parametrize(("late_ns", "number"), [(0, 2), (1, 3)])
def test_the_last_minutes_are_for_exits(late_ns: int, number: int) -> None:
    """From the first instant of the last ten minutes everything is given up."""
    end = decision(2) + 600 * SECOND + late_ns

    result = trade(walk(RICH, 6), end=end, end_of_run_minutes=10)

    assert exits(result) == [(number, "end_of_run")]


def test_nothing_is_entered_in_the_last_minutes() -> None:
    """A signal in the last ten minutes, their first instant included, is let go."""
    end = decision(2) + 600 * SECOND

    late = trade(steps(FLAT, FLAT, RICH, RICH), end=end, end_of_run_minutes=10)
    early = trade(steps(FLAT, RICH), end=end, end_of_run_minutes=10)

    assert (late.fills, entered(early)) == ([], [(1, "rich_basis")])


MANY = 1000
ALL_AT_ONCE: dict[str, object] = {
    "timeout_hours": "0.002",
    "hedge_divergence_bps": 15,
    "stop_loss_pct": "0.006",
    "end_of_run_minutes": 10,
}
LATE = decision(1) + 600 * SECOND
LATER = LATE + HOUR


@pytest.mark.parametrize(
    ("off", "end", "reason"),
    [
        ({}, LATE, "stop_loss"),
        ({"stop_loss_pct": 1}, LATE, "hedge_divergence"),
        ({"stop_loss_pct": 1, "hedge_divergence_bps": MANY}, LATE, "timeout"),
        (
            {"stop_loss_pct": 1, "hedge_divergence_bps": MANY, "timeout_hours": 8},
            LATE,
            "end_of_run",
        ),
        ({"hedge_divergence_bps": MANY}, LATER, "stop_loss"),
    ],
)
def test_exits_have_an_order(off: dict[str, object], end: int, reason: str) -> None:
    """Of several exits that fire at once the first counts: loss, divergence, timeout, end."""
    result = trade(steps(RICH, basis("75"), HELD), end=end, **ALL_AT_ONCE | off)

    assert exits(result) == [(1, reason)]


@pytest.mark.parametrize(
    ("off", "reason"),
    [
        ({}, "stop_loss"),
        ({"stop_loss_pct": 1}, "hedge_divergence"),
        ({"stop_loss_pct": 1, "hedge_divergence_bps": MANY}, "funding_faded"),
        (
            {"stop_loss_pct": 1, "hedge_divergence_bps": MANY, "exit_funding_annual": -1},
            "timeout",
        ),
    ],
)
def test_faded_funding_has_its_place_in_the_order(off: dict[str, object], reason: str) -> None:
    """It comes behind loss and divergence, and before timeout and end."""
    records = [rate(START, PAYS), rate(START + 10 * SECOND, 0.0)]

    result = trade(records, steps(FLAT, basis("75"), HELD), end=LATE, **ALL_AT_ONCE | off)

    assert entered(result) == [(0, "high_funding")]
    assert exits(result) == [(1, reason)]


@pytest.mark.parametrize(
    ("off", "reason"),
    [
        ({}, "stop_loss"),
        ({"stop_loss_pct": 1}, "basis_reverted"),
        ({"stop_loss_pct": 1, "exit_basis_bps": -1}, "timeout"),
    ],
)
def test_a_reverted_basis_has_its_place_in_the_order(off: dict[str, object], reason: str) -> None:
    """It comes behind a loss, here by funding paid, and before timeout and end."""
    paid = rate(START + 10 * SECOND, -0.02)

    result = trade([paid], steps(RICH, FLAT, HELD), end=LATE, **ALL_AT_ONCE | off)

    assert exits(result) == [(1, reason)]
