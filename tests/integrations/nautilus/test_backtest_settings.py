"""integrations/nautilus/backtest_settings.py: what the settings of a backtest allow."""

import pytest

from integrations.nautilus.backtest_settings import SettingsError, load


@pytest.mark.parametrize(
    ("given", "module"),
    [("basis_carry", "strategies.basis_carry.port"), ("example", "strategies.example")],
)
def test_a_strategy_has_a_short_name(given: str, module: str) -> None:
    """The words of `make run STRATEGY=` mean the same here."""
    assert load(overrides={"strategy": given}).strategy.startswith(f"{module}:")


@pytest.mark.parametrize("given", ["nope", "a.b", "a:b:c", 7])
def test_a_strategy_that_is_none_is_refused(given: object) -> None:
    """The message says what is expected instead."""
    with pytest.raises(SettingsError, match="expected module:Class, or example, basis_carry"):
        load(overrides={"strategy": given})
