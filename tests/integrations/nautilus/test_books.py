"""The books of a run: PnL from fills and settlements alone, exact."""

from decimal import Decimal

import pytest

from integrations.nautilus.books import Books, Fill, Order, Sample, Settlement, reckon

DAY = 86_400_000_000_000
D = Decimal


def fill(ts: int, leg: str, side: str, qty: str, px: str, fee: str = "0") -> Fill:
    """Return a fill of BTC."""
    return Fill(ts, "BTC", leg, side, D(qty), D(px), D(fee), D(px), "")


def sample(ts: int, spot: str, perp: str) -> Sample:
    """Return mids of BTC."""
    return Sample(ts, {"BTC": {"spot": D(spot), "perp": D(perp)}})


def test_a_round_trip_by_hand() -> None:
    """Bought at 100 and sold short at 101, closed at 110 and 109.5, paid funding and fees."""
    fills = [
        fill(1, "spot", "BUY", "2", "100", "0.2"),
        fill(1, "perp", "SELL", "2", "101", "0.1"),
        fill(5, "spot", "SELL", "2", "110", "0.22"),
        fill(5, "perp", "BUY", "2", "109.5", "0.11"),
    ]
    paid = [Settlement(3, "BTC", D(-2), D("0.0001"), D(105), D("0.021"))]
    equity, days = reckon(fills, paid, [sample(2, "104", "104.5"), sample(9, "1", "1")], ["BTC"])
    assert equity == [
        (2, D("8") - D("7") - D("0.3")),
        (9, D("20") - D("17") + D("0.021") - D("0.63")),
    ]
    [(ts, totals)] = days
    assert (ts, totals["BTC"]) == (
        9,
        (D(20), D(-17), D("0.021"), D("0.63"), D("2.391"), D(841), D(0), D(0), None),
    )


def test_a_sample_counts_what_is_of_its_time() -> None:
    """A fill and a settlement at T are in the sample of T, what is later is not."""
    fills = [fill(5, "spot", "BUY", "1", "100"), fill(6, "spot", "BUY", "1", "100")]
    paid = [Settlement(5, "BTC", D(1), D(1), D(1), D("-0.5")), Settlement(6, "BTC", *[D(1)] * 4)]
    equity, _ = reckon(fills, paid, [sample(4, "90", "1"), sample(5, "90", "1")], ["BTC"])
    assert equity == [(4, D(0)), (5, D("-10.5"))]


def test_full_days_and_the_end_have_totals() -> None:
    """A sample at midnight UTC and the last one."""
    samples = [sample(ts, "1", "1") for ts in (0, DAY - 1, DAY, DAY + 5, DAY + 6)]
    _, days = reckon([], [], samples, ["BTC"])
    assert [ts for ts, _ in days] == [0, DAY, DAY + 6]


def test_no_digit_is_lost() -> None:
    """Products of more than 28 digits are exact, whatever the thread's decimal context is."""
    fills = [fill(1, "spot", "BUY", "12345678901.12345678", "98765432109.87654321")]
    equity, _ = reckon(fills, [], [sample(1, "98765432109.87654322", "1")], ["BTC"])
    assert equity == [(1, D("123.4567890112345678"))]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fed": 0, "events": 0}, "no quote"),
        ({"events": 9}, "stopped early: 9 of 10"),
        ({"denied": 1}, "1 orders were denied"),
        ({"rejected": 2}, "2 orders were rejected"),
        ({"fills": []}, "nothing was traded"),
    ],
)
def test_why_a_run_cannot_be_judged(changes: dict, said: str) -> None:
    """Empty, stopped early, refused orders, no trade: each is named; else there is no problem."""
    good = {"fed": 10, "events": 10, "fills": [fill(1, "spot", "BUY", "1", "1")]}
    assert Books(**good).problems == []
    [problem] = Books(**good | changes).problems
    assert said in problem


def test_orders_and_fills_have_the_fields_that_others_read() -> None:
    """What `acceptance` takes by name."""
    assert Order._fields == ("ts", "symbol", "leg", "side", "qty", "mid", "end_mid", "filled")
    assert Fill._fields[:7] == ("ts", "symbol", "leg", "side", "qty", "px", "fee")
