"""strategies/basis_carry/legacy.py: fees, funding, PnL, the equity curve, the end."""

from collections import Counter
from decimal import Decimal, getcontext, localcontext

import pytest

from strategies.basis_carry.legacy import Fill, RoundTrip, Settlement
from tests.strategies.basis_carry_market import (
    END,
    FLAT,
    HELD,
    HOUR,
    MIDNIGHT,
    MINUTE,
    RICH,
    SECOND,
    START,
    basis,
    decision,
    pair,
    rate,
    show,
    steps,
    trade,
    wild,
)

D = Decimal


def test_a_fill_says_all_about_its_order() -> None:
    """Time, leg, side, quantity, price, fee, the mid of its own instrument, and why."""
    result = trade(steps(RICH | {"spread": "0.02"}), max_notional=1000.1)

    assert result.fills == [
        Fill(decision(0), "BTC", "spot", "BUY", D(10), D("100.01"), D("1.0001"), D(100),
             "rich_basis"),
        Fill(decision(0), "BTC", "perp", "SELL", D(10), D("100.04"), D("0.5002"), D("100.05"),
             "rich_basis"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("lots", "fee"),
    [
        (1, "0.00000050"),  # 0.505 millionths: 50.5 of the last decimal, a tie, to the even 50
        (3, "0.00000152"),  # 151.5
        (5, "0.00000252"),  # 252.5
        (2, "0.00000101"),
    ],
)
def test_a_fee_at_a_tie_goes_to_the_even_digit(lots: int, fee: str) -> None:
    """Fees have eight decimals, rounded half to even."""
    numbers = {"tick": "0.01", "lot": "0.001", "min_notional": "0", "fee": "0.0005"}
    table = pair(spot=numbers, perp=numbers)
    quotes = show(decision(0), spot="1.01", perp="1.01", table=table)

    result = trade(
        quotes, table=table, entry_basis_bps=0, exit_basis_bps=-1, min_notional=0,
        max_notional=D("0.00101") * lots,
    )  # fmt: skip

    assert [(fill.qty, fill.fee) for fill in result.fills] == [(D(lots) / 1000, D(fee))] * 2


SETTLED = MIDNIGHT + 8 * HOUR
AROUND: dict[str, object] = {"funding_guard_seconds": 0, "interval_seconds": 0.5}


def around(opened_ns: int, closed_ns: int) -> list[Settlement]:
    """Return the settlements of a position that is opened and closed this long after one."""
    start = SETTLED + min(opened_ns, closed_ns, 0) - SECOND
    record = rate(SETTLED, 0.0001)
    quotes = [
        *show(SETTLED + opened_ns, **RICH),
        *show(SETTLED + closed_ns, **FLAT),
    ]
    result = trade(
        quotes, [record], start=start, end=SETTLED + closed_ns + SECOND, offset_seconds=0, **AROUND
    )
    assert [fill.ts for fill in result.fills[::2]] == [SETTLED + opened_ns, SETTLED + closed_ns]
    return result.settlements


@pytest.mark.parametrize(
    ("opened", "closed", "paid"),
    [(-2, 2, True), (-2, 0, True), (-2, -0.5, False), (0, 2, False), (0.5, 2, False)],
)
def test_the_position_just_before_a_settlement_counts(
    opened: float, closed: float, paid: bool
) -> None:
    """Closed at that time it is still paid for; opened at that time, or after it, it is not."""
    assert len(around(int(opened * SECOND), int(closed * SECOND))) == paid


@pytest.mark.parametrize(
    ("value", "amount"),
    [(0.0001, "5"), (-0.0001, "-5"), (0.00012345, "6.1725"), (0.0, "0")],
)
def test_a_short_perp_receives_a_positive_rate(value: float, amount: str) -> None:
    """500 short on a mark of 100: longs pay shorts when the rate is positive."""
    result = trade(steps(RICH, HELD), [rate(START + 10 * SECOND, value, mark=100.0)])

    assert result.settlements == [
        Settlement(START + 10 * SECOND, "BTC", D(-500), D(repr(value)), D("100.0"), D(amount))
    ]
    assert result.symbols["BTC"].funding == D(amount)
    assert str(result.settlements[0].amount)[0] == amount[0]  # and no negative zero


@pytest.mark.parametrize(
    ("mark", "amount"),
    [
        (0.00001, "0"),
        (0.00003, "2E-8"),
        (0.00005, "2E-8"),
        (0.1, "5E-5"),
        (0.30000000000000004, None),
    ],
)
def test_funding_is_exact_and_rounded_once(mark: float, amount: str | None) -> None:
    """Rate and mark are the shortest decimals of their floats; the amount has eight decimals."""
    result = trade(
        steps(RICH, HELD), [rate(START + 10 * SECOND, 0.000001, mark=mark)], max_notional=50_000
    )

    exact = D(repr(mark)) * D("0.000001") * 500
    assert result.settlements[0].mark == D(repr(mark))
    assert result.settlements[0].amount == (D(amount) if amount else exact.quantize(D("1e-8")))


def test_without_a_position_nothing_is_settled() -> None:
    """A rate that finds the symbol flat is published only."""
    result = trade([rate(START, 0.00001)], steps(FLAT), [rate(decision(3), 0.00001)])

    assert (result.settlements, result.events) == ([], 4)


def test_each_symbol_has_its_own_funding() -> None:
    """A rate of ETH leaves a position in BTC alone."""
    result = trade(
        steps(RICH, HELD), [rate(START + 10 * SECOND, 0.01, "ETH")], table=pair() + pair("ETH")
    )

    assert result.settlements == []


def test_a_round_trip_adds_up() -> None:
    """Its times, its reasons, and what it brought: price, funding and fees apart."""
    markets = steps(RICH, HELD, FLAT, FLAT)

    result = trade(markets, [rate(START + 10 * SECOND, 0.0001)], max_notional=1000)

    assert result.round_trips == [
        RoundTrip(
            "BTC", decision(0), "rich_basis", decision(2), "basis_reverted", decision(3),
            quantity=D(10), price=D("0.5"), funding=D("0.1"), fees=D("3.00025"),
        )
    ]  # fmt: skip
    assert result.exits == Counter(basis_reverted=1)


def test_a_symbol_adds_up() -> None:
    """Each leg's price PnL, funding and fees make the net; both legs make the turnover."""
    result = trade(
        steps(RICH, {"spot": "101", "perp": "101", "spread": "0.02"}),
        [rate(START + 10 * SECOND, 0.0001)],
        max_notional=1000,
    )

    totals = result.symbols["BTC"]
    assert totals.price_spot == D("9.9")  # bought at 100, sold at 100.99
    assert totals.price_perp == D("-9.6")  # sold at 100.05, bought at 101.01
    assert totals.funding == D("0.1")
    assert totals.fees == D("1") + D("0.50025") + D("1.0099") + D("0.50505")
    assert totals.net == D("9.9") - D("9.6") + D("0.1") - D("3.0152")
    assert totals.turnover == D("1000") + D("1000.5") + D("1009.9") + D("1010.1")
    assert (totals.spot_position, totals.perp_position, totals.dust) == (0, 0, 0)


def test_what_is_left_at_the_end_is_marked_to_mid() -> None:
    """With nothing shown to sell to, the position stays and is worth its last mids, however old."""
    stuck = {"spot": "102", "perp": "101", "spread": "0.5", "perp_size": "0"}
    end = decision(4) + 600 * SECOND

    result = trade(steps(RICH, stuck), end=end, end_of_run_minutes=10, max_notional=1000)

    totals = result.symbols["BTC"]
    assert (totals.spot_position, totals.perp_position) == (10, -10)
    assert (totals.price_spot, totals.price_perp) == (20, D("-9.5"))
    assert (len(result.fills), result.round_trips) == (2, [])
    assert result.exits == Counter(basis_reverted=1)


@pytest.mark.parametrize("seed", range(8))
def test_the_net_is_exactly_the_sum_of_its_parts(seed: int) -> None:
    """In a wild market, to the last digit: from the fills, from the totals, from the curve."""
    table, quotes, changes = wild(seed)
    records = [rate(START + n * MINUTE, (-1) ** n * 0.00012345 * n, "BTC") for n in range(40)]

    result = trade(quotes, records, table=table, **changes)

    assert any(totals.spot_position for totals in result.symbols.values()) or seed
    total = D(0)
    with localcontext(prec=60):
        for symbol, totals in result.symbols.items():
            own = [fill for fill in result.fills if fill.symbol == symbol]
            prices = {
                leg: sum(
                    ((f.px * f.qty * (1 if f.side == "SELL" else -1)) for f in own if f.leg == leg),
                    D(0),
                )
                for leg in ("spot", "perp")
            }
            for leg, held in (("spot", totals.spot_position), ("perp", totals.perp_position)):
                last = [quote for quote in quotes if quote.instrument == f"{symbol}-{leg}"][-1]
                prices[leg] += held * (D(last.bid + last.ask) / 2000)
            funding = sum((s.amount for s in result.settlements if s.symbol == symbol), D(0))
            fees = sum((fill.fee for fill in own), D(0))
            assert (totals.price_spot, totals.price_perp) == (prices["spot"], prices["perp"])
            assert (totals.funding, totals.fees) == (funding, fees)
            assert totals.net == prices["spot"] + prices["perp"] + funding - fees
            total += totals.net
        assert result.equity[-1] == (END, total)


def test_the_equity_is_noted_at_every_full_minute_and_at_the_end() -> None:
    """From the start on, and once at the end, whether that is a full minute or not."""
    whole = trade(steps(RICH), end=START + 3 * MINUTE)
    part = trade(steps(RICH), start=START - SECOND, end=START + 90 * SECOND)

    assert [ts - START for ts, _ in whole.equity] == [0, MINUTE, 2 * MINUTE, 3 * MINUTE]
    assert [ts - START for ts, _ in part.equity] == [0, MINUTE, 90 * SECOND]


@pytest.mark.parametrize(("late_ns", "pnl"), [(0, "8.49975"), (1, "-1.50025")])
def test_a_sample_has_seen_what_happened_at_its_time(late_ns: int, pnl: str) -> None:
    """10 spot that rise by 1 at a full minute: a sample of that minute sees it, fees included."""
    quotes = [*steps(RICH), show(START + MINUTE + late_ns, spot="101")[0]]

    result = trade(quotes, max_notional=1000)

    assert result.equity[0] == (START, 0)
    assert result.equity[1] == (START + MINUTE, D(pnl))


def test_a_sample_has_seen_the_decision_of_its_time() -> None:
    """With decisions on the minute, the fees of the trade are in that minute's sample."""
    result = trade(show(START, **RICH), offset_seconds=0, max_notional=1000)

    assert result.equity[0] == (START, D("-1.50025"))


def test_a_sample_sees_the_funding_of_its_time() -> None:
    """A settlement at a full minute is in that minute's sample."""
    quotes = steps(RICH, *[HELD] * 5)

    result = trade(quotes, [rate(START + MINUTE, 0.0001)], max_notional=1000)

    # Bought 10 spot, sold 10 perp 0.02 above what it is worth now, fees 1.50025, funding 0.1.
    assert result.equity[1] == (START + MINUTE, D("0.2") - D("1.50025") + D("0.1"))


def test_it_counts_quotes_and_settlements_inside_the_run() -> None:
    """What was fed is every quote and every rate, and the last time is the last one's."""
    result = trade(steps(FLAT, FLAT), [rate(START, 0.0), rate(decision(2), 0.0)])

    assert (result.events, result.last_ts) == (6, decision(2))


def test_the_callers_decimal_context_does_not_matter() -> None:
    """A caller that computes with few digits gets the same books, and its context back."""
    table, quotes, changes = wild(3)
    whole = trade(quotes, table=table, **changes)

    with localcontext(prec=6):
        few = trade(quotes, table=table, **changes)
        assert getcontext().prec == 6

    assert few == whole


def test_prices_of_any_size_stay_exact() -> None:
    """A coin of eight decimals and one of none keep every digit of what they cost."""
    numbers = {"tick": "0.00000001", "lot": "1", "min_notional": "1"}
    table = pair(spot=numbers, perp=numbers | {"lot": "1000"})
    quotes = show(decision(0), spot="0.00001234", perp="0.00001235", table=table,
                  spot_size="9000000000", perp_size="9000000000")  # fmt: skip

    result = trade(quotes, table=table)

    assert [(fill.qty, fill.px) for fill in result.fills] == [
        (D("4051863000"), D("0.00001234")), (D("4051863000"), D("0.00001235")),
    ]  # fmt: skip
    assert result.symbols["BTC"].turnover == D("4051863000") * D("0.00002469")
    assert result.symbols["BTC"].price_spot == 0


def test_a_basis_that_only_rises_loses_what_it_rose() -> None:
    """The sign of the trade: long spot and short perp lose on a rising basis."""
    result = trade(steps(RICH, basis("10")), max_notional=1000)

    assert result.symbols["BTC"].price_spot + result.symbols["BTC"].price_perp == D("-0.5")


def test_every_full_day_has_its_totals() -> None:
    """At each midnight, and at the end, there is what each symbol had brought by then."""
    start, end = MIDNIGHT + 23 * HOUR, MIDNIGHT + 25 * HOUR
    quotes = [
        *show(start + HOUR // 2, **RICH),
        *show(start + HOUR, spot="101"),
        *show(end - HOUR // 2, spot="101", perp="101"),
    ]

    result = trade(quotes, start=start, end=end, max_notional=1000)

    assert [ts for ts, _ in result.days] == [MIDNIGHT + 24 * HOUR, end]
    midnight, last = (symbols["BTC"] for _, symbols in result.days)
    assert (midnight.price_spot, midnight.fees, midnight.spot_position) == (10, D("1.50025"), 10)
    assert last == result.symbols["BTC"]
    assert (last.price_spot, last.spot_position) == (10, 0)
