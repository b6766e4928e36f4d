"""Fees are exact: no float64, and a tie goes to the even digit."""

from decimal import Decimal
from pathlib import Path

import pytest

from integrations.nautilus.fees import fee_of
from tests.integrations.nautilus.backtests import PERP, SPOT, both, dataset, played


@pytest.mark.parametrize(
    ("price", "quantity", "rate", "fee"),
    [
        ("100.00", "0.1", "0.001", "0.01000000"),
        ("0.00005", "0.1", "0.001", "0.00000000"),  # a tie: 5e-9, down to even
        ("0.00015", "0.1", "0.001", "0.00000002"),  # a tie: 1.5e-8, up to even
        ("123456789012.34", "98765432.1", "0.0004", "4877305244992916.93284560"),
    ],
)
def test_a_fee_has_eight_decimals(price: str, quantity: str, rate: str, fee: str) -> None:
    """It is rounded once, half to even, from the exact product."""
    found = fee_of(Decimal(price), Decimal(quantity), Decimal(rate), decimals=8)
    assert f"{found:f}" == fee


def test_the_engine_charges_it(tmp_path: Path) -> None:
    """Each fill carries price times quantity times its own instrument's rate, in USDT."""
    books = played(dataset(both(1, 2)), tmp_path, {f"1.5 {SPOT}": "0.123", f"1.6 {PERP}": "-0.7"})
    assert [fill.fee for fill in books.fills] == [
        Decimal("100.02") * Decimal("0.123") * Decimal("0.001"),
        Decimal("100.05") * Decimal("0.7") * Decimal("0.0005"),
    ]
