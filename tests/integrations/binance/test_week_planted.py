"""Each planted case stands where it should and decides something: other rules, other trades."""

from datetime import UTC, datetime
from decimal import ROUND_HALF_DOWN, ROUND_HALF_UP, Decimal

import numpy as np
import pytest

from integrations.binance.planted import GAPS, HOUR, MINUTE, SECOND, SHOWS_NOTHING, at
from integrations.binance.planted_scripts import DECISION, SCRIPTS
from strategies.basis_carry.legacy import Fill, Result
from tests.integrations.binance.weeks import PERP, SPOT, SYMBOLS, WEEK, trade

IN, OUT = "BUY rich_basis", "SELL basis_reverted"
EXPECTED = {
    "thresholds": [
        f"03:02:45 {IN}",
        f"03:04:15 {OUT}",
        f"03:05:25 {IN}",
        "03:06:55 SELL hedge_divergence",
        f"03:10:05 {IN}",
        f"03:12:05 {OUT}",
    ],
    "times": [
        f"10:03:25 {IN}",
        f"10:04:05 {OUT}",
        f"10:06:05 {IN}",
        f"10:06:55 {OUT}",
        f"10:09:05 {IN}",
        f"10:09:35 {OUT}",
    ],
    "touches": [
        f"12:04:35 {IN}",
        f"12:04:45 {IN}",
        f"12:04:55 {IN}",
        f"12:05:05 {IN}",
        f"12:05:35 {OUT}",
        f"12:06:15 {OUT}",
    ],
    "exit before a settlement": [f"07:55:15 {IN}", f"07:58:45 {OUT}"],
    "entry before a settlement": [f"07:58:55 {IN}", "08:01:25 SELL stop_loss"],
    "jump": [
        f"11:02:15 {IN}",
        "11:03:25 SELL stop_loss",
        f"11:06:05 {IN}",
        "11:06:45 SELL stop_loss",
    ],
    "armed early": [
        f"18:32:15 {IN}",
        "18:32:55 SELL hedge_divergence",
        "18:33:05 SELL hedge_divergence",
        "18:33:15 SELL hedge_divergence",
        "18:33:25 SELL hedge_divergence",
        f"18:34:55 {IN}",
        "18:35:35 SELL hedge_divergence",
        f"18:36:45 {IN}",
        f"18:37:15 {OUT}",
    ],
    "gap": [f"09:59:45 {IN}", f"09:59:55 {IN}"],
    "reverted or timeout": [f"01:02:15 {IN}"],
    "reverted or timeout, exit": [f"09:03:45 {IN}", f"09:03:55 {OUT}"],
    "timeout of high funding": [f"08:03:15 {IN}", f"08:04:15 {OUT}"],
    "end of run": [f"23:42:15 {IN}"],
}


@pytest.fixture(scope="module")
def result(july) -> Result:
    return trade(july)


def during(july, name: str, **params: object) -> list[str]:
    """Return the spot's fills in a run over a script, whose end is like any other time."""
    script = SCRIPTS[name]
    begin = script.start - 5 * SECOND
    end = begin + sum(step.times for step in script.steps) * DECISION
    result = trade(july, begin, end, **{"end_of_run_minutes": 0} | params)
    return [said(fill) for fill in spot(result, script.symbol)]


def spot(result: Result, symbol: str) -> list[Fill]:
    return [fill for fill in result.fills if (fill.symbol, fill.leg) == (symbol, "spot")]


def said(fill: Fill) -> str:
    clock = datetime.fromtimestamp(fill.ts // 10**9, UTC)
    return f"{clock:%H:%M:%S} {fill.side} {fill.reason}"


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_traded_as_planned(july, name):
    """A run over the script alone trades when, and for the reasons, that it was made for."""
    assert during(july, name) == EXPECTED[name]


@pytest.mark.parametrize(
    ("name", "params", "otherwise"),
    [
        ("thresholds", {"entry_basis_bps": 5.000000001}, 0),
        ("thresholds", {"exit_basis_bps": 0.999999999}, 1),
        ("thresholds", {"cooldown_seconds": "60.000000001"}, 2),
        ("thresholds", {"hedge_divergence_bps": 15.000000001}, 3),
        ("times", {"max_quote_age_seconds": "29.999999999"}, 0),
        ("times", {"max_quote_age_seconds": "30.000001"}, 0),
        ("exit before a settlement", {"funding_guard_seconds": 0}, 2),
        ("entry before a settlement", {"funding_guard_seconds": 0}, 1),
        ("jump", {"stop_loss_pct": "0.01"}, 1),
        ("jump", {"stop_loss_pct": "0.006000001"}, 3),
        ("reverted or timeout", {"entry_basis_bps": 6.01, "exit_basis_bps": 6.01}, 0),
    ],
)
def test_a_rule_that_is_a_little_other_trades_otherwise(july, name, params, otherwise):
    """From the fill of this number on, and not before, the trades differ."""
    fills = during(july, name, **params)

    assert fills[:otherwise] == EXPECTED[name][:otherwise]
    assert fills[otherwise:][:1] != EXPECTED[name][otherwise:][:1]


SHAPED = [  # symbol, entry, exit, reasons
    ("BTC", at(2, "17:04:05"), at(3, "01:04:05"), "rich_basis", "timeout"),
    ("SOL", at(3, "03:04:55"), at(3, "03:26:25"), "rich_basis", "hedge_divergence"),
    ("SOL", at(4, "08:01:05"), at(4, "16:01:05"), "high_funding", "funding_faded"),
    ("SOL", at(4, "16:04:35"), at(4, "16:10:15"), "rich_basis", "basis_reverted"),
    ("SOL", at(4, "23:40:05"), at(5, "00:10:05"), "rich_basis", "basis_reverted"),
    ("ETH", at(5, "13:44:55"), at(5, "14:25:05"), "rich_basis", "basis_reverted"),
    ("BTC", at(6, "01:02:15"), at(6, "09:02:15"), "rich_basis", "basis_reverted"),
    ("ETH", at(7, "00:01:05"), at(7, "08:01:05"), "high_funding", "timeout"),
]


@pytest.mark.parametrize(("symbol", "entry", "exit_", "entered", "left"), SHAPED)
def test_a_shape_makes_the_round_trip_it_was_made_for(
    july, result, symbol, entry, exit_, entered, left
):
    """In the run of the whole week, to the decision."""
    entry_ts, exit_ts = (july.start_ns + time * 1000 for time in (entry, exit_))

    trips = [t for t in result.round_trips if (t.symbol, t.entry_ts) == (symbol, entry_ts)]

    assert [(t.exit_ts, t.entry_reason, t.exit_reason) for t in trips] == [(exit_ts, entered, left)]


@pytest.mark.parametrize(
    ("symbol", "exit_", "armed"),
    [
        ("BTC", at(3, "01:04:05"), at(3, "01:30:00")),  # rich from 01:21 to 01:30
        ("SOL", at(3, "03:26:25"), at(3, "04:06:00")),  # from 03:26 to 04:05
        ("ETH", at(7, "08:01:05"), at(7, "08:04:15")),  # from 08:03 to 08:04
    ],
)
def test_a_disarmed_entry_waits_for_a_low_basis(july, result, symbol, exit_, armed):
    """Rich as the basis is, nothing is bought from the exit until it has been low."""
    bought = [(f.ts - july.start_ns) // 1000 for f in spot(result, symbol) if f.side == "BUY"]

    assert not [ts for ts in bought if exit_ <= ts < armed]
    assert [ts for ts in bought if armed <= ts < armed + 10 * MINUTE]


def test_at_the_thresholds_float64_is_a_little_off(july):
    """Without rounding the basis is not 5 where it enters, nor 1 where it exits."""
    spots, perps = july.quotes[SPOT.format("BTC")], july.quotes[PERP.format("BTC")]

    def basis(us: int) -> float:
        spot, perp = (
            (quotes.bid[row] / 100 + quotes.ask[row] / 100) / 2
            for quotes in (spots, perps)
            for row in [np.searchsorted(quotes.ts, july.start_ns + us * 1000, side="right") - 1]
        )
        return (perp / spot - 1) * 1e4

    entry, exit_ = basis(at(1, "03:02:45")), basis(at(1, "03:04:15"))
    assert entry < 5 == round(entry, 9)
    assert exit_ > 1 == round(exit_, 9)


@pytest.mark.parametrize("gap", GAPS)
def test_in_a_gap_there_is_no_quote(july, gap):
    """And right before it there is one of each instrument."""
    for instrument in july.instruments:
        ts = (july.quotes[instrument.id].ts - july.start_ns) // 1000
        inside = (gap.start <= ts) & (ts < gap.end)
        assert inside.any() != ((instrument.symbol, instrument.leg) in gap.instruments)
        assert ((gap.start - 20 * SECOND <= ts) & (ts < gap.start)).any()


@pytest.mark.parametrize(
    ("symbol", "begin", "end"),
    [
        ("BTC", at(5, "09:56:00"), at(5, "10:05:00")),
        ("ETH", at(5, "13:40:00"), at(5, "14:10:00")),
    ],
)
def test_who_does_not_notice_old_quotes_trades_in_a_gap(july, symbol, begin, end):
    """An entry goes on, or a position is closed, at prices that are gone."""
    rules = {"end_of_run_minutes": 0}
    careful = spot(trade(july, begin, end, **rules), symbol)

    careless = spot(trade(july, begin, end, **rules, max_quote_age_seconds=900), symbol)

    assert careless[: len(careful)] == careful
    assert len(careless) > len(careful) > 0


def test_an_entry_goes_on_for_30_s_of_a_gap(july):
    """The last quotes are those of the decision at 09:59:55."""
    result = trade(july, at(5, "09:56:00"), at(5, "10:04:00"), end_of_run_minutes=0)

    clocks = ["09:59:45", "09:59:55", "10:00:05", "10:00:15", "10:00:25"]
    assert [said(fill) for fill in spot(result, "BTC")] == [f"{each} {IN}" for each in clocks]


def test_in_the_outage_the_spot_is_60_bp_away(july):
    """From the price at which the perp was quoted last."""
    quotes, start = july.quotes[SPOT.format("ETH")], july.start_ns
    mids = [
        (quotes.bid + quotes.ask)[np.searchsorted(quotes.ts, start + at(5, clock) * 1000)]
        for clock in ("14:00:00", "14:01:00")
    ]

    assert mids[1] / mids[0] == pytest.approx(1 - 0.0060, abs=0.0005)


def test_only_a_fee_that_is_rounded_half_to_even_is_right(july):
    """Among the fees are ties that go up and ties that go down."""
    begin = SCRIPTS["touches"].start - 5 * SECOND
    fills = trade(july, begin, begin + 10 * MINUTE, end_of_run_minutes=0).fills
    exact = [(f.px * f.qty * Decimal("0.0005"), f.fee) for f in fills if f.leg == "perp"]
    unit = Decimal("1e-8")

    assert any(value.quantize(unit, ROUND_HALF_UP) != fee for value, fee in exact)
    assert any(value.quantize(unit, ROUND_HALF_DOWN) != fee for value, fee in exact)


def test_no_rest_is_left_that_could_not_be_sold(july):
    """413 of 414 lots are shown: it sells 411, then three, and not two when two are shown."""
    begin = SCRIPTS["touches"].start - 5 * SECOND
    fills = spot(trade(july, begin, begin + 10 * MINUTE, end_of_run_minutes=0), "ETH")

    sold = [fill.qty for fill in fills if fill.side == "SELL"]
    assert sold == [Decimal("0.411"), Decimal("0.003")]


def test_the_spot_shows_parts_of_the_perps_lot(july, result):
    """Lots differ on every symbol; what is traded is whole in both."""
    for symbol in SYMBOLS:
        lots = [i.lot for i in july.instruments if i.symbol == symbol]
        shown = july.quotes[SPOT.format(symbol)].ask_size
        assert (shown % int(max(lots) / min(lots)) != 0).mean() > 0.5
        assert not any(fill.qty % max(lots) for fill in result.fills if fill.symbol == symbol)


def test_a_settlement_finds_what_was_entered_just_before_it(july, result):
    """At 2 July 08:00 BTC, entered 65 s before, is paid; ETH, exited 65 s before, is not."""
    due = july.start_ns + at(2, "08:00:00") * 1000
    paid = [each.symbol for each in result.settlements if each.ts == due]

    assert "BTC" in paid
    assert "ETH" not in paid


def test_quotes_share_the_time_of_a_decision_and_of_a_settlement(july):
    """Both legs at once, and two rows of the perp."""
    spot_ts, perp_ts = (july.quotes[name.format("BTC")].ts.tolist() for name in (SPOT, PERP))
    decision, settled = (july.start_ns + each * 1000 for each in (at(5, "09:59:55"), 32 * HOUR))

    assert (spot_ts.count(decision), perp_ts.count(decision)) == (1, 1)
    assert (spot_ts.count(settled), perp_ts.count(settled)) == (1, 2)
    assert settled in july.funding[PERP.format("BTC")].ts


def test_at_the_end_the_perp_of_sol_shows_nothing(july, result):
    """So what is bought before stays, though end_of_run has fired."""
    quotes = july.quotes[PERP.format("SOL")]
    late = quotes.ts >= july.start_ns + SHOWS_NOTHING.start * 1000

    assert late.sum() > 100
    assert not (quotes.bid_size[late].any() or quotes.ask_size[late].any())
    assert result.exits["end_of_run"] == 2


def test_the_last_fill_comes_after_the_last_quote(july, result):
    """A program that stops with its data keeps what is sold then."""
    last = max(quotes.ts[-1] for quotes in july.quotes.values())

    assert [said(fill) for fill in result.fills if fill.ts > last] == [
        "23:58:55 SELL end_of_run",
        "23:58:55 BUY end_of_run",
    ]


def test_in_the_last_ten_minutes_nothing_is_entered(july, result):
    """ETH is rich from their first second on; without the rule it is bought soon."""
    begin = at(7, "23:40:00")

    other = trade(july, begin, WEEK, end_of_run_minutes=0)

    assert f"23:50:05 {IN}" <= said(spot(other, "ETH")[0]) < "23:51"
    assert not [f for f in spot(result, "ETH") if f.ts >= july.start_ns + begin * 1000]
