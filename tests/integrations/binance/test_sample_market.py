"""The generated market: rates, spreads, sizes, volatility and funding like a real one's."""

from pathlib import Path

import numpy as np
import pytest

from integrations.binance import sample_market
from integrations.binance.dataset import load
from integrations.binance.sample import generate
from integrations.binance.sample_market import MARKETS, STEP_US, fair_path

ROOT = Path(__file__).parents[3]
WEEK_STEPS = 7 * 86_400_000_000 // STEP_US


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "sample"
    generate(folder)
    return load(folder)


def test_quotes_come_at_demo_rates_and_in_bursts(demo):
    """3 to 6 quotes a second for each instrument, gaps far more uneven than a steady feed's."""
    for quotes in demo.quotes.values():
        gaps = np.diff(quotes.ts)
        assert 3 < len(quotes.ts) / 1800 < 6
        assert gaps.min() > 0
        assert gaps.std() > 1.2 * gaps.mean()
        assert demo.start_ns <= quotes.ts[0]
        assert quotes.ts[-1] < demo.end_ns


def test_prices_stand_on_ticks_with_spreads_of_1_to_4(demo):
    """Bid and ask are multiples of the tick, one to four ticks apart, each spread seen."""
    for instrument in demo.instruments:
        quotes = demo.quotes[instrument.id]
        tick = int(instrument.tick.scaleb(instrument.price_decimals))
        assert not (quotes.bid % tick).any()
        assert set(((quotes.ask - quotes.bid) // tick).tolist()) == {1, 2, 3, 4}


def test_trades_are_at_the_touch_within_the_size_shown(demo):
    """A buyer pays the last ask, a seller gets the last bid, and none takes more than is there."""
    for id_, trades in demo.trades.items():
        quotes = demo.quotes[id_]
        last = np.searchsorted(quotes.ts, trades.ts, side="right") - 1
        buys = trades.side == 1
        assert 1 < len(trades.ts) / 1800 < 3
        assert 0.4 < buys.mean() < 0.6
        assert (trades.price == np.where(buys, quotes.ask[last], quotes.bid[last])).all()
        shown = np.where(buys, quotes.ask_size[last], quotes.bid_size[last])
        assert (trades.size <= shown).all()
        assert trades.trade_id.tolist() == list(range(1, len(trades.ts) + 1))


def test_the_demo_holds_one_published_settlement(demo):
    """The rates that Binance published for 2025-07-01 08:00, marked near the perpetual's price."""
    rates = {"BTC": 4334, "ETH": 1541, "SOL": 5050}
    for symbol, rate in rates.items():
        id_ = f"{symbol}USDT-PERP.BINANCE_FUTURES"
        funding, quotes = demo.funding[id_], demo.quotes[id_]
        assert funding.ts.tolist() == [1_751_356_800 * 10**9]
        assert (funding.rate.tolist(), funding.interval_hours.tolist()) == ([rate], [8])
        bid = quotes.bid[np.searchsorted(quotes.ts, funding.ts) - 1]
        assert abs(funding.mark - bid).tolist() < [bid[0] // 1000]


def test_the_published_week_has_21_settlements(project_funding):
    """The rates and delays in the generator are those of the venue's files."""
    for symbol, rows in project_funding.items():
        assert [round(float(row[2]) * 10**8) for row in rows] == list(sample_market.RATES[symbol])
        assert [int(row[0]) % 3_600_000 for row in rows] == list(sample_market.CALC_DELAYS_MS)


@pytest.fixture
def project_funding():
    folder = ROOT.parent / "shared" / "data" / "binance_funding"
    if not folder.is_dir():
        pytest.skip("the venue's funding files (../shared/data) are not on this machine")
    return {
        symbol: [
            line.split(",")
            for line in (folder / f"{symbol}USDT-fundingRate-2025-07.csv").read_text().split()[1:22]
        ]
        for symbol in ("BTC", "ETH", "SOL")
    }


def test_daily_volatility_is_between_0_6_and_0_8_percent():
    """The spot walk's squared moves over a week add up to 0.6 to 0.8 % a day."""
    for instrument, _ in MARKETS[::2]:
        moves = np.diff(fair_path(instrument, WEEK_STEPS, seed=1)) / sample_market.PPB
        assert 0.006 < np.sqrt((moves**2).sum() / 7) < 0.008


def test_the_basis_reverts_to_zero():
    """Mean near 0, deviation near 3 bp, half of a deviation gone in 15 to 20 minutes.

    The half-life comes from the regression of a minute's change on the level, over 6 weeks
    (2 seeds, 3 symbols), where its standard error is about 2 minutes.
    """
    levels, changes = [], []
    for seed in (1, 2):
        for (spot, _), (perp, _) in zip(MARKETS[::2], MARKETS[1::2], strict=True):
            apart = fair_path(perp, WEEK_STEPS, seed) - fair_path(spot, WEEK_STEPS, seed)
            minutes = apart[:: 60_000_000 // STEP_US] / 100_000
            levels.append(minutes[:-1])
            changes.append(np.diff(minutes))
    level, change = np.concatenate(levels), np.concatenate(changes)

    assert abs(level.mean()) < 0.3
    assert 2.7 < level.std() < 3.3
    half_life = np.log(0.5) / np.log1p((level * change).sum() / (level**2).sum())
    assert 15 < half_life < 20
