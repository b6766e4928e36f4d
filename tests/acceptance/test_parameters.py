"""The port and the legacy program on a day of the week, with parameters other than the defaults."""

from datetime import date
from pathlib import Path

import pytest

from acceptance import record, run, tolerance
from acceptance.compare import compare
from integrations.binance.dataset import Dataset
from integrations.nautilus import backtest, backtest_settings
from strategies.basis_carry.params import BasisCarryParams

DAY = date(2025, 7, 2)
SYMBOLS = ("ETH",)
# What the defaults never touch: ratios that leave a rest, caps that bind, boundaries on the clock.
SETS = {
    "part hedged, small": {"hedge_ratio": "0.777", "max_notional": 3000, "min_notional": 40},
    "on the full minute": {"offset_seconds": 0, "interval_seconds": 60, "cooldown_seconds": 120},
    "a tenth": {"size_fraction": "0.1"},
    "quick": {
        "interval_seconds": "2.5",
        "offset_seconds": "0.000000001",
        "timeout_hours": "0.05",
        "funding_guard_seconds": 0,
        "end_of_run_minutes": 120,
    },
    "funding at its threshold": {
        "entry_funding_annual": 0.1095,  # that of a rate of 0.0001 every eight hours
        "exit_funding_annual": 0.1095,
        "entry_basis_bps": 4,
    },
}


@pytest.mark.parametrize("params", SETS.values(), ids=SETS)
def test_both_trade_alike(week_data: Dataset, tmp_path: Path, params: dict[str, object]) -> None:
    """Every gate of the strict tier passes, and something was traded."""
    given = {"params": params, "symbols": SYMBOLS, "start": DAY, "end": DAY}
    settings = backtest_settings.load(overrides=given)
    b = run.legacy(week_data, BasisCarryParams.from_mapping(params), SYMBOLS, DAY, DAY)
    books = backtest.run(week_data, settings=settings, catalog=tmp_path)
    a = record.of_books(
        books,
        program="nautilus",
        data=b.data,
        instruments=b.instruments,
        params=b.params,
        mode="full",
    )

    found = compare(a, b, tolerance.load())

    assert (found.verdict, found.reasons) == ("pass", ())
    assert (books.fed, books.events) == (b.data.events, b.run.events)
    assert len(a.fills or ()) > 20
