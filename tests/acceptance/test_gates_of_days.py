"""acceptance/measures.py: settlements, days, positions, the curve, events, counts."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from acceptance.record import Record, Run, Settlement
from tests.acceptance.rigs import gate, result, stated, with_totals, zeros

D = Decimal
DAY = 86_400 * 10**9
BASE = result()


def settled(*amounts: str, first: int = 0) -> Record:
    events = tuple(
        Settlement(first + ts, "BTC", -D(amount), D(1), D(1), D(amount))
        for ts, amount in enumerate(amounts)
    )
    return replace(stated(), funding=events)


def test_each_settlement_is_compared() -> None:
    """A missing one fails even when its amount is zero; amounts within a millionth pass."""
    assert gate("funding_events", settled("0", "1"), settled("0")).passed is False
    assert gate("funding_events", settled("0"), settled("0", "1")).passed is False
    assert gate("funding_events", settled("0"), settled("0")).passed is True
    assert gate("funding_amounts", settled("1", "2.000001"), settled("1", "2")).passed is True
    assert gate("funding_amounts", settled("1", "2.0000011"), settled("1", "2")).passed is False
    # Errors that cancel are two errors.
    assert gate("funding_amounts", settled("1.1", "1.9"), settled("1", "2")).measured == 0.1
    assert gate("funding_amounts", settled("1"), settled("1", first=5)).passed is None


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(
    ("name", "told"), [("position", "-1 and 2"), ("rate", "1 and 2"), ("mark", "1 and 2")]
)
def test_a_settlement_is_on_one_position_at_one_rate_and_mark(
    name: str, told: str, swapped: bool
) -> None:
    """With equal amounts it is another settlement all the same, and its amount does not follow."""
    good = settled("1", "1")
    assert good.funding is not None
    odd = replace(good, funding=(good.funding[0], replace(good.funding[1], **{name: D(2)})))
    pair = (odd, good) if swapped else (good, odd)

    events, amounts = (gate(f"funding_{what}", *pair) for what in ("events", "amounts"))

    assert (events.measured, events.passed) == (1, False)
    there, back = told.split(" and ")
    told = f"{back} and {there}" if swapped else told
    assert events.why == (
        f"2 in both; first that differs: BTC at 1970-01-01T00:00:00.000000001Z: {name} {told}"
    )
    assert amounts.passed is False
    assert f"({'A' if swapped else 'B'} and -position*mark*rate)" in amounts.why


def test_both_may_not_have_the_same_wrong_amount() -> None:
    """Equal settlements whose amounts have the wrong sign, or are a millionth off, fail."""
    right = settled("0.3")
    assert right.funding is not None
    for amount, passed in (("-0.3", False), ("0.3000011", False), ("0.30000001", True)):
        wrong = replace(right, funding=(replace(right.funding[0], amount=D(amount)),))
        assert gate("funding_amounts", wrong, wrong).passed is passed


def with_days(*rows: dict[str, Any]) -> Record:
    """Return a result whose days end with these totals of BTC, after a sample at the start."""
    days = [(ts * DAY, {"BTC": zeros(**row)}) for ts, row in enumerate(({}, *rows))]
    return replace(stated(), days=tuple(days))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("fees_by_day", "fees"),
        ("funding_by_day", "funding"),
        ("basis_pnl_by_day", "price_spot"),
        ("basis_pnl_by_day", "price_perp"),
    ],
)
def test_every_day_counts_by_itself(name: str, key: str) -> None:
    """What cancels over the run fails on its days; the worst day is named."""
    a = with_days({key: "10"}, {key: "31"}, {key: "40"})
    b = with_days({key: "10"}, {key: "30"}, {key: "40"})

    found = gate(name, a, b)

    assert (found.measured, found.passed) == (pytest.approx(1 / 10), False)
    assert "day to 1970-01-04T00:00:00Z: 9 and 10 USDT" in found.why
    near = with_days({key: "10.00001"}, {key: "30.00001"}, {key: "40.00001"})
    assert gate(name, near, b).passed is True
    assert gate(name, a, b, "BTC").passed is False


def test_the_days_of_a_symbol_are_its_own() -> None:
    """What differs in ETH fails there and in the total, not in BTC."""
    assert BASE.days is not None
    (start, before), (end, rows) = BASE.days
    more = replace(rows["ETH"], fees=rows["ETH"].fees + 1)
    other = replace(BASE, days=((start, before), (end, {**rows, "ETH": more})))

    passed = [gate("fees_by_day", other, BASE, scope).passed for scope in ("BTC", "ETH", "total")]

    assert passed == [True, False, False]


def test_days_that_end_otherwise_fail() -> None:
    """Days with other times cannot be held against each other; the sample at the start may lack."""
    b = with_days({"fees": 1}, {"fees": 2})
    assert b.days is not None

    assert gate("fees_by_day", with_days({"fees": 1}), b).passed is False
    assert gate("fees_by_day", replace(b, days=b.days[1:]), b).passed is True


@pytest.mark.parametrize("leg", ["spot_position", "perp_position"])
def test_positions_at_the_end_are_exact(leg: str) -> None:
    """A hundred-millionth of a coin is another position."""
    other = with_totals(BASE, "ETH", **{leg: D("223.19000001")})

    assert gate("positions", other, BASE, "ETH").passed is False
    assert gate("positions", other, BASE, "BTC").passed is True


def curve(*pnl: str) -> Record:
    points = tuple((ts * 60 * 10**9, D(value)) for ts, value in enumerate(("0", *pnl)))
    return replace(stated(), equity=points, params={"max_gross": "0.2", "equity": "5000"})


@pytest.mark.parametrize(
    ("ours", "theirs", "measured"),
    [
        (["10", "20.5"], ["10", "20"], 0.05),  # of 1000, which is more than the PnL
        (["10", "20.51"], ["10", "20"], 0.051),
        (["-4001", "0"], ["-4000", "0"], 0.025),  # of the PnL at that time
        (["-4000", "1"], ["-4000", "0"], 0.1),
    ],
)
def test_the_curve_deviates_little_of_the_larger_of_pnl_and_gross(
    ours: list[str], theirs: list[str], measured: float
) -> None:
    """At each sample, of max(|PnL|, max_gross * equity) then; the largest counts."""
    found = gate("equity", curve(*ours), curve(*theirs))

    assert (found.measured, found.passed) == (pytest.approx(measured), measured <= 0.05)


@pytest.mark.parametrize(("ours", "passed"), [("100.05", True), ("100.06", False)])
def test_without_a_gross_the_curve_is_held_against_the_pnl_alone(ours: str, passed: bool) -> None:
    """A strategy that states no max_gross and equity gets no room from them."""
    a, b = (replace(curve(points), params={}) for points in (ours, "100"))

    assert gate("equity", a, b).passed is passed


def test_curves_of_other_times_fail() -> None:
    """A sample more or less is no equal curve; the sample at the start may lack."""
    b = curve("1", "2")
    assert b.equity is not None

    assert gate("equity", curve("1"), b).passed is False
    assert gate("equity", replace(b, equity=b.equity[1:]), b).passed is True


@pytest.mark.parametrize("gross", ["NaN", "sNaN", "Infinity", "-1", "0", "1e999999", "much"])
def test_a_gross_that_is_no_number_is_no_room(gross: str) -> None:
    """The curve is not judged against it."""
    a, b = curve("1000"), curve("1")
    a, b = replace(a, params=None), replace(b, params={"max_gross": gross, "equity": "5000"})

    found = gate("equity", a, b)

    assert (found.passed, found.why) == (
        None, "max_gross and equity of params are no numbers above 0"
    )  # fmt: skip


def test_turnover_is_equal_to_a_billionth() -> None:
    """Relative to the larger one."""
    b = stated(turnover="1000000000")

    assert gate("turnover", stated(turnover="1000000001"), b).passed is True
    assert gate("turnover", stated(turnover="1000000002"), b).passed is False


@pytest.mark.parametrize(
    ("fed", "processed", "off"), [(9, 9, 0), (9, 8, 1), (9, 10, 1), (7, 9, 2), (7, 7, 2)]
)
def test_all_events_are_processed(fed: int, processed: int, off: int) -> None:
    """What was fed and what was processed is the same number, in both programs."""

    def made(fed: int, processed: int) -> Record:
        base = stated()
        return replace(base, data=replace(base.data, events=fed), run=Run(events=processed))

    found = gate("events", made(fed, processed), made(9, 9))

    assert (found.measured, found.passed) == (off, off == 0)


def test_orders_without_fills_are_counted() -> None:
    """As many orders were sent, where both say how many."""

    def made(orders: int | None) -> Record:
        return replace(stated(), run=Run(orders=orders))

    assert gate("orders", made(3), made(3)).passed is True
    assert (gate("orders", made(4), made(3)).measured, gate("orders", made(4), made(3)).why) == (
        1,
        "4 and 3",
    )
    assert gate("orders", made(None), made(3)).passed is None


def test_counts_are_equal_name_by_name() -> None:
    """A count that is missing is zero; which differ, and how, is told."""

    def made(**counts: int) -> Record:
        return replace(stated(), run=Run(counts=counts))

    found = gate("counts", made(decisions=3, exits=1), made(decisions=4, exits=1, late=2))

    assert (found.measured, found.why) == (2, "decisions 3 and 4, late 0 and 2")
    assert gate("counts", made(decisions=3, late=0), made(decisions=3)).passed is True
    assert gate("counts", made(decisions=3, late=1), made(decisions=3)).passed is False
