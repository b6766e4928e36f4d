"""The acceptance week: the same everywhere, like a real one, and enough to trade on."""

import json
import sys
from collections import Counter
from decimal import Decimal

import numpy as np
import pyarrow.parquet as pq
import pytest

from integrations.binance import week, week_market
from integrations.binance.dataset import Dataset
from integrations.binance.planted import DAY, HOUR, MINUTE
from integrations.binance.sample_market import CALC_DELAYS_MS, MARKETS, RATES, STEP_US
from strategies.basis_carry.legacy import DISARMING, Result
from tests.integrations.binance.weeks import PERP, SPOT, SYMBOLS, trade

PINNED = {
    "spot.parquet": "9c070bf7e24858ae16ea96b350068054e4e7acbed6b1082e0a93fd82c3814844",
    "perp.parquet": "fae6a35ece5747effa6cedfebf8efcbcfda6d8d4acedba5073e8f66ec086d5de",
    "funding.parquet": "a0bed8aa36e35168256c2ccb32cd1eacd0db5332d3f98b0ea268517eed3093d4",
}


@pytest.fixture(scope="module")
def result(july: Dataset) -> Result:
    return trade(july)


def test_content_is_pinned(july):
    """Every machine, NumPy and pyarrow makes this very content; a change needs a new VERSION."""
    files = json.loads((july.path / "MANIFEST.json").read_text())["files"]

    assert (week.VERSION, {name: files[name]["sha256"] for name in files}) == (1, PINNED)


def test_it_replaces_a_generated_dataset(generated_week):
    """A sample in its place gives way, the rows are returned, nothing is left beside it."""
    folder, rows, _ = generated_week

    assert rows == {name: pq.read_metadata(folder / name).num_rows for name in PINNED}
    assert {path.name for path in folder.iterdir()} == {"MANIFEST.json", *PINNED}
    assert [path.name for path in folder.parent.iterdir()] == ["week"]


def test_it_says_how_far_it_is(generated_week):
    """A line on stderr for each symbol, were it slow."""
    said = [f"acceptance dataset: {s} {n}%" for s, n in zip(SYMBOLS, (33, 67, 100), strict=True)]

    assert generated_week[2] == said


def test_it_replaces_nothing_else(tmp_path):
    """A folder of something else is left alone."""
    (tmp_path / "precious.txt").write_text("mine")

    with pytest.raises(ValueError, match="not a generated dataset"):
        week.generate(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_it_is_seven_days_of_quotes_and_funding(july):
    """1 to 7 July 2025, 1.2 to 1.5 million quotes of six instruments, no trades."""
    assert july.start_ns == 1_751_328_000 * 10**9
    assert july.end_ns == july.start_ns + 7 * DAY * 1000
    assert 1_200_000 < sum(len(quotes.ts) for quotes in july.quotes.values()) < 1_500_000
    for quotes in july.quotes.values():
        assert len(quotes.ts) > 200_000
        assert july.start_ns <= quotes.ts[0]
        assert quotes.ts[-1] < july.end_ns
    assert not any(len(trades.ts) for trades in july.trades.values())


def test_funding_is_the_published(july):
    """21 settlements of each symbol, at the venue's rates, a few ms late in `calc_time`."""
    rows = pq.read_table(july.path / "funding.parquet").to_pylist()
    for symbol, rates in RATES.items():
        funding = july.funding[PERP.format(symbol)]
        assert tuple(funding.rate.tolist()) == rates
        assert funding.ts.tolist() == [july.start_ns + n * 8 * HOUR * 1000 for n in range(21)]
        delays = [row["calc_time"] - row["ts"] for row in rows if row["symbol"] == symbol]
        assert delays == [delay * 10**6 for delay in CALC_DELAYS_MS]


def test_quotes_come_in_bursts(july):
    """One in about 3 s, most much sooner, and never 30 s later but where that is planted."""
    for quotes in july.quotes.values():
        gaps = np.diff(quotes.ts) / 10**9
        assert 2 < gaps.mean() < 3.5
        assert gaps.std() > 1.2 * gaps.mean()
        assert np.median(gaps) < gaps.mean() / 2
        assert (gaps > 30).sum() <= 3


def test_spreads_are_1_to_4_ticks(july):
    """Bid and ask are multiples of the tick, one to four ticks apart."""
    for instrument in july.instruments:
        quotes = july.quotes[instrument.id]
        tick = int(instrument.tick.scaleb(instrument.price_decimals))
        assert not (quotes.bid % tick).any()
        assert set(((quotes.ask - quotes.bid) // tick).tolist()) == {1, 2, 3, 4}


def test_the_volatility_is_0_6_to_0_8_percent_a_day(july):
    """The spot's moves from minute to minute add up to that, planted ones included."""
    for symbol in SYMBOLS:
        quotes = july.quotes[SPOT.format(symbol)]
        minutes = july.start_ns + np.arange(1, 7 * DAY // MINUTE) * MINUTE * 1000
        mids = (quotes.bid + quotes.ask)[np.searchsorted(quotes.ts, minutes) - 1]
        moves = np.diff(np.log(mids))
        assert 0.006 < np.sqrt((moves**2).sum() / 7) < 0.008


def test_the_basis_is_dislocated_around_settlements():
    """At a settlement it is further off on the side of the rate than two hours before."""
    (spot, _), (perp, _) = MARKETS[4:]

    _, basis = week_market.fair_paths(spot, perp)

    due = np.arange(1, 21) * 8 * HOUR // STEP_US
    off = np.sign(RATES[spot.symbol][1:]) * (basis[due] - basis[due - 2 * HOUR // STEP_US])
    assert np.mean(off) > week_market.HUNDREDTH_PPB * 100


def test_what_the_program_makes_of_it(result):
    """100 to 300 round trips, every exit, both signs of funding, a rest; the counts are printed."""
    trips = result.round_trips
    sys.stdout.write(
        f"\n{len(trips)} round trips, {len(result.fills)} fills"
        f"\nentries {dict(Counter(trip.entry_reason for trip in trips))}"
        f"\nexits {dict(result.exits)}, without a fill {dict(result.unfilled)}"
        f"\nsettlements {len(result.settlements)}, skipped {dict(result.skipped)}\n"
    )
    assert 100 <= len(trips) <= 300
    assert set(result.exits) == {
        "stop_loss", "hedge_divergence", "basis_reverted", "funding_faded", "timeout", "end_of_run",
    }  # fmt: skip
    assert result.unfilled == {"basis_reverted": 1}
    assert {trip.entry_reason for trip in trips} == {"rich_basis", "high_funding"}
    assert {each.amount > 0 for each in result.settlements} == {True, False}


def test_only_sol_is_left_at_the_end(result):
    """Its perp shows nothing in the last minutes, so both legs stay open."""
    left = {symbol: totals.spot_position for symbol, totals in result.symbols.items()}

    assert left["BTC"] == left["ETH"] == 0
    assert left["SOL"] > Decimal(100)
    assert result.symbols["SOL"].perp_position == -left["SOL"]


def test_most_entries_take_several_clips(result):
    """What is shown is less than most positions, so an entry has many fills."""
    bought = Counter(
        (fill.symbol, trip.entry_ts)
        for trip in result.round_trips
        for fill in result.fills
        if (fill.symbol, fill.leg, fill.side) == (trip.symbol, "spot", "BUY")
        and trip.entry_ts <= fill.ts < trip.flat_ts
    )

    assert np.median(list(bought.values())) > 2


def test_what_was_disarmed_is_armed_again(result):
    """After each exit that disarms there is a later entry on the basis in the symbol."""
    entries = [t for t in result.round_trips if t.entry_reason == "rich_basis"]
    for trip in result.round_trips:
        if trip.exit_reason in DISARMING:
            assert any(e.symbol == trip.symbol and e.entry_ts > trip.flat_ts for e in entries)
