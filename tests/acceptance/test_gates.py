"""acceptance/gates.py and measures.py: what each gate measures."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from acceptance import gates
from acceptance.record import Fill, Metrics, Record, Totals
from acceptance.tolerance import Tolerance
from tests.acceptance.rigs import TOLERANCES, gate, result, stated, with_fill

D = Decimal
BASE = result()


PNL = [
    # net of a and b, the rest of b, measured
    (100.05, 100, {"turnover": 1000}, 0.05, True),
    (100.0501, 100, {"turnover": 1000}, 0.0501, False),
    (-99.95, -100, {"turnover": 1000}, 0.05, True),
    (99, 100, {"turnover": 1_000_000}, 1.0, False),  # exactly 1 bp: the net is what counts
    (0.5, 0.4, {"turnover": 1_000_000, "fees": 100, "funding": -60, "price_spot": -40}, 0.05, True),
    (0.5, 0.4, {"turnover": 1_000_000, "fees": 10, "price_spot": 5, "price_perp": -5}, 1.0, False),
    (0, 0, {}, 0.0, True),
    (0.1, 0, {}, None, False),  # of nothing
]


@pytest.mark.parametrize(("net_a", "net_b", "rest", "measured", "passed"), PNL)
def test_pnl_is_measured_against_the_legacys(
    net_a: float, net_b: float, rest: dict[str, int], measured: float | None, passed: bool
) -> None:
    """Of its net; below 1 bp of turnover, of |basis PnL| + |funding| + fees; and in USDT."""
    a, b = stated(net=str(net_a)), stated(net=str(net_b), **rest)

    found = gate("pnl", a, b)

    assert (found.measured, found.passed) == (
        pytest.approx(measured) if measured else measured,
        passed,
    )
    difference = D(str(net_a)) - D(str(net_b))
    assert f"{gates.measures.text_of(difference)} USDT of" in found.why
    assert gate("pnl", a, b, "BTC").passed is passed


def with_metrics(**values: float | None) -> Record:
    base = stated(turnover=1)
    metrics = Metrics(**values)  # type: ignore[arg-type]
    return replace(base, metrics={"BTC": metrics, "total": metrics})


@pytest.mark.parametrize(
    ("name", "key", "one", "other", "measured", "passed"),
    [
        ("is_gross", "is_gross_bps", 1.5, 1.0, 0.5, True),
        ("is_net", "is_net_bps", 1.0, 1.5000001, 0.5000001, False),
        ("slippage", "slippage_bps", -0.5, 0.5, 1.0, True),
        ("slippage", "slippage_bps", -0.51, 0.5, 1.01, False),
        ("max_drawdown", "max_drawdown", 1000.5, 1000.0, 0.05, True),
        ("max_drawdown", "max_drawdown", 1000.6, 1000.0, 0.06, False),
        ("max_drawdown", "max_drawdown", 1.0, 0.0, None, False),
        ("sharpe", "sharpe", -50.0, -50.0000005, 5e-7, True),
        ("sharpe", "sharpe", -50.0, -50.00001, 1e-5, False),
    ],
)
def test_metrics_are_compared_as_they_are(
    name: str, key: str, one: float, other: float, measured: float | None, passed: bool
) -> None:
    """Basis points and ratios by difference, the drawdown in percent of the legacy's."""
    found = gate(name, with_metrics(**{key: one}), with_metrics(**{key: other}))

    expected = measured if measured is None else pytest.approx(measured)
    assert (found.measured, found.passed) == (expected, passed)


def test_a_metric_that_is_no_number_does_not_pass() -> None:
    """NaN on either side, or on both, is a failure."""
    bad, good = with_metrics(slippage_bps=float("nan")), with_metrics(slippage_bps=1.0)

    for a, b in ((bad, good), (good, bad), (bad, bad)):
        assert gate("slippage", a, b).passed is False


def test_a_symbol_that_only_one_program_traded_fails() -> None:
    """Shortfall and slippage of nothing are no numbers; nothing on both sides is equal."""
    idle = result_of("BTC")
    both = result()

    assert gate("slippage", idle, both, "ETH").passed is False
    assert gate("is_net", both, idle, "ETH").passed is False
    assert gate("slippage", idle, idle, "ETH").passed is True
    assert "nothing was traded" in gate("is_net", idle, idle, "ETH").why


def result_of(symbol: str) -> Record:
    """Return the small result with the fills and orders of one symbol only."""
    keep: dict[str, Any] = {
        name: tuple(row for row in getattr(BASE, name) if row.symbol == symbol)
        for name in ("fills", "orders", "funding")
    }
    return replace(BASE, metrics=None, **keep)


FILL_CHANGES: list[dict[str, Any]] = [
    {"ts": BASE.data.start_ns},
    {"symbol": "ETH"},
    {"leg": "perp"},
    {"side": "SELL"},
    {"qty": D("250.51")},
    {"px": D("101.011")},
]


@pytest.mark.parametrize("change", FILL_CHANGES, ids=[next(iter(each)) for each in FILL_CHANGES])
def test_fills_are_equal_in_all_but_fee_mid_and_reason(change: dict[str, Any]) -> None:
    """Time, symbol, leg, side, quantity and price count; each difference is a fill on each side."""
    found = gate("fills", with_fill(BASE, 0, **change), BASE)

    assert (found.measured, found.passed) == (2, False)
    assert found.why == "29 in both, 1 in A only, 1 in B only"
    same = with_fill(BASE, 0, fee=D(9), mid=D(1), reason="other")
    assert gate("fills", same, BASE).passed is True


def test_equal_fills_have_equal_mids() -> None:
    """A mid of another market counts, and is named; a fill without one is not judged."""
    assert BASE.fills is not None
    other = with_fill(BASE, 2, mid=BASE.fills[2].px)

    found = gate("fill_mids", other, BASE)

    assert (found.measured, found.passed) == (1, False)
    assert found.why == "first: BTC spot BUY 244.5 at 2025-07-01T23:51:15Z: 101.01 and 101"
    assert gate("fill_mids", other, BASE, "ETH").passed is True
    for a, b in ((with_fill(BASE, 2, mid=None), BASE), (BASE, with_fill(BASE, 2, mid=None))):
        assert gate("fill_mids", a, b).passed is None
        assert "does not state the mid of every fill" in gate("fill_mids", a, b).why


def test_a_fill_that_is_there_twice_counts_twice() -> None:
    """Fills are counted, not only looked up; their order is not compared."""
    assert BASE.fills is not None
    twice = replace(BASE, fills=(BASE.fills[0], *BASE.fills))

    assert gate("fills", twice, BASE).measured == 1
    assert gate("fills", replace(BASE, fills=BASE.fills[::-1]), BASE).measured == 0


@pytest.mark.parametrize(("off", "passed"), [("0.00000001", False), ("0.000000009", True)])
def test_fees_differ_by_less_than_their_last_decimal(off: str, passed: bool) -> None:
    """One hundred-millionth is a fee rounded otherwise; the worst fill is named."""
    assert BASE.fills is not None
    off_by_one = with_fill(BASE, 2, fee=BASE.fills[2].fee + D(off))

    found = gate("fill_fees", off_by_one, BASE)

    assert (found.measured, found.passed) == (float(off), passed)
    assert found.why == "worst: BTC spot BUY 244.5 at 2025-07-01T23:51:15Z"


def test_fees_of_no_common_fill_are_not_judged() -> None:
    """Where every fill differs there is no fee to compare; without any fill they are equal."""
    assert BASE.fills is not None
    one: tuple[Fill, ...] = BASE.fills[:1]
    a, b = replace(BASE, fills=one), replace(BASE, fills=BASE.fills[1:2])

    assert (gate("fill_fees", a, b).passed, gate("fills", a, b).passed) == (None, False)
    nothing = replace(BASE, fills=())
    assert gate("fill_fees", nothing, nothing).passed is True


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda row: replace(row, net=row.net + 1), "pnl"),
        (lambda row: replace(row, spot_position=row.spot_position + 1), "positions"),
    ],
)
def test_a_symbol_fails_where_the_total_does_not(
    change: Callable[[Totals], Totals], name: str
) -> None:
    """Gates are judged on every symbol: what two symbols make up for shows."""
    assert BASE.totals is not None
    shifted = replace(BASE, totals=BASE.totals | {"ETH": change(BASE.totals["ETH"])})

    assert gate(name, shifted, BASE, "ETH").passed is False
    assert gate(name, shifted, BASE, "BTC").passed is True


def test_a_strategys_own_limit_is_the_one_that_holds() -> None:
    """The gate says what was allowed, from the tolerances that it is given."""
    wide = TOLERANCES | {"pnl": Tolerance("pnl", "contract", "%", 5.0, True, "wide", "wider")}

    found = gates.judge(stated(net=104), stated(net=100, turnover=1), wide, "contract")

    pnl = [each for each in found if each.name == "pnl"]
    assert [(each.allowed, each.passed) for each in pnl] == [(5, True)] * 2
    assert all(each.why.endswith("(net PnL); wider") for each in pnl)
