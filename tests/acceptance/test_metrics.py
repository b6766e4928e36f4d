"""acceptance/metrics.py: shortfall, slippage, drawdown, Sharpe."""

import math
import statistics
from decimal import Decimal
from typing import Any

import pytest

from acceptance import metrics
from acceptance.record import Fill, Order

D = Decimal
HOUR = metrics.HOUR_NS


def order(side: str, qty: str, mid: str, end_mid: str, filled: str, symbol: str = "BTC") -> Order:
    return Order(0, symbol, "spot", side, D(qty), D(mid), D(end_mid), D(filled))  # type: ignore[arg-type]


def fill(side: str, qty: str, px: str, mid: str | None, fee: str = "0", symbol: str = "BTC") -> Any:
    return Fill(0, symbol, "spot", side, D(qty), D(px), D(fee), mid and D(mid))  # type: ignore[arg-type]


def test_the_published_case_of_implementation_shortfall() -> None:
    """1000 at 40.00, of which 700 filled at 40.05, fee 17, canceled at 40.08: 76 USD, 19.0 bp."""
    costs = metrics.costs(
        [order("BUY", "1000", "40.00", "40.08", "700")], [fill("BUY", "700", "40.05", "40", "17")]
    )

    assert (costs.is_net_usd, costs.is_net_bps) == (76.0, 19.0)
    assert (costs.is_gross_usd, costs.is_gross_bps) == (59.0, 14.75)


def test_costs_are_positive_on_both_sides() -> None:
    """Selling below the mid costs as much as buying above it."""
    bought = metrics.costs(
        [order("BUY", "10", "100", "1", "10")], [fill("BUY", "10", "101", "100")]
    )
    sold = metrics.costs([order("SELL", "10", "100", "1", "10")], [fill("SELL", "10", "99", "100")])

    assert bought == sold
    assert (bought.is_gross_usd, bought.slippage_bps) == (10.0, 100.0)


def test_an_order_that_was_not_filled_has_its_opportunity_cost() -> None:
    """Nothing traded, and the price ran away by 1 %: 100 bp, no slippage."""
    costs = metrics.costs([order("SELL", "2", "100", "99", "0")], [])

    assert (costs.is_gross_bps, costs.is_net_bps, costs.slippage_bps) == (100.0, 100.0, None)


def test_shortfall_is_from_the_decision_and_slippage_from_the_arrival() -> None:
    """Decided at 100, arrived at 101, filled at 102: 200 bp of shortfall, 99.0099 of slippage."""
    costs = metrics.costs([order("BUY", "1", "100", "1", "1")], [fill("BUY", "1", "102", "101")])

    assert (costs.is_gross_bps, costs.slippage_bps) == (200.0, 99.0099009901)


def test_orders_are_weighted_by_their_value() -> None:
    """Of 100 and 300 USD the larger one's cost counts three times."""
    orders = [order("BUY", "1", "100", "1", "1"), order("BUY", "3", "100", "1", "3")]
    fills = [fill("BUY", "1", "100", "100"), fill("BUY", "3", "101", "100", "2")]

    costs = metrics.costs(orders, fills)

    assert (costs.is_gross_bps, costs.is_net_bps, costs.slippage_bps) == (75.0, 125.0, 75.0)


def test_each_symbol_has_its_own_metrics() -> None:
    """The total is of all orders, the curve's metrics are of the total only."""
    orders = [order("BUY", "1", "100", "1", "1"), order("BUY", "1", "100", "1", "1", "ETH")]
    fills = [fill("BUY", "1", "101", "100"), fill("BUY", "1", "100", "100", symbol="ETH")]

    by_scope = metrics.of_run(("BTC", "ETH", "SOL"), orders, fills, [(0, D(0)), (1, D(-5))])

    assert {name: row.slippage_bps for name, row in by_scope.items()} == {
        "BTC": 100.0, "ETH": 0.0, "SOL": None, "total": 50.0,
    }  # fmt: skip
    assert (by_scope["total"].max_drawdown, by_scope["BTC"].max_drawdown) == (5.0, None)


def test_slippage_needs_the_mid_of_every_fill() -> None:
    """With one of two mids missing there is no slippage rather than half of one."""
    assert metrics.costs([], [fill("BUY", "1", "1", "1"), fill("BUY", "1", "1", None)]) == (
        metrics.costs([], [])
    )


@pytest.mark.parametrize(
    ("pnl", "deepest"),
    [([0, 5, 3, 9, 2, 4], 7.0), ([-3, -1], 3.0), ([1, 2, 3], 0.0), ([0, -1, 10, 5, 8, 4], 6.0)],
)
def test_the_drawdown_is_the_deepest_fall_from_the_highest(pnl: list[int], deepest: float) -> None:
    """The curve begins at zero, so a run that only loses has fallen from there."""
    assert metrics.max_drawdown([(ts, D(value)) for ts, value in enumerate(pnl)]) == deepest


def test_sharpe_is_of_full_hours() -> None:
    """Mean over deviation of hourly changes, times the root of 8760; other samples do not count."""
    pnl = [D(value) for value in ("0", "1.5", "1", "4", "3.25")]
    curve = [(hour * HOUR, value) for hour, value in enumerate(pnl)]
    between = [(ts + 60 * 10**9, D(99)) for ts, _ in curve]
    changes = [1.5, -0.5, 3, -0.75]

    value = metrics.sharpe(sorted(curve + between))

    expected = statistics.mean(changes) / statistics.stdev(changes) * math.sqrt(8760)
    assert value == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("pnl", [[], [1], [1, 2], [1, 2, 3]])
def test_sharpe_of_too_little_is_not_defined(pnl: list[int]) -> None:
    """Under two changes, or changes that are all the same, have no deviation."""
    assert metrics.sharpe([(hour * HOUR, D(value)) for hour, value in enumerate(pnl)]) is None


def test_metrics_have_twelve_digits() -> None:
    """What differs behind the twelfth digit is the same number, and minus zero is zero."""
    assert metrics.rounded(D(2) / 3) == 0.666666666667
    assert metrics.rounded(123456.78901234567) == 123456.789012
    assert math.copysign(1, metrics.rounded(D("-0.0"))) == 1
