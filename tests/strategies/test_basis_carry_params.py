"""strategies/basis_carry/params.py: defaults, conversion, refusals."""

import tomllib
from dataclasses import FrozenInstanceError, asdict, fields
from decimal import Decimal
from pathlib import Path

import pytest

from strategies.basis_carry import params as module
from strategies.basis_carry.params import BasisCarryParams

D = Decimal


def test_the_defaults_are_those_of_the_strategy_that_is_ported() -> None:
    """Every number has the published default."""
    assert asdict(BasisCarryParams()) == {
        "interval_seconds": 10,
        "offset_seconds": 5,
        "max_quote_age_seconds": 30,
        "funding_guard_seconds": 60,
        "cooldown_seconds": 60,
        "end_of_run_minutes": 10,
        "entry_basis_bps": 5.0,
        "exit_basis_bps": 1.0,
        "entry_funding_annual": 0.10,
        "exit_funding_annual": 0.05,
        "hedge_divergence_bps": 15.0,
        "stop_loss_pct": D("0.006"),
        "timeout_hours": 8,
        "initial_rate": 0.0,
        "initial_interval_hours": 8,
        "equity": 500_000,
        "max_gross": D("0.20"),
        "min_notional": 250,
        "max_notional": 50_000,
        "hedge_ratio": 1,
        "size_fraction": 1,
        "allow_reverse": False,
    }


def test_durations_are_whole_nanoseconds() -> None:
    """Seconds, minutes and hours with fractions become integers."""
    params = BasisCarryParams.from_mapping(
        {
            "interval_seconds": 0.1,
            "offset_seconds": 1.000000001,
            "max_quote_age_seconds": 2,
            "funding_guard_seconds": 0,
            "cooldown_seconds": 0.3,
            "end_of_run_minutes": 0.05,
            "timeout_hours": 0.001,
        }
    )

    assert (params.interval_ns, params.offset_ns) == (100_000_000, 1_000_000_001)
    assert (params.max_quote_age_ns, params.funding_guard_ns) == (2_000_000_000, 0)
    assert (params.cooldown_ns, params.end_of_run_ns) == (300_000_000, 3_000_000_000)
    assert params.timeout_ns == 3_600_000_000


def test_a_duration_that_no_float_holds_is_rounded() -> None:
    """A third of an hour is 20 minutes, not one nanosecond less."""
    assert BasisCarryParams.from_mapping({"timeout_hours": 1 / 3}).timeout_ns == 1200 * 10**9


def test_a_toml_table_overrides_the_defaults() -> None:
    """Integers, floats and strings of a TOML file become the parameters' own types, exactly."""
    table = tomllib.loads(
        'equity = 1_000\nmax_gross = 0.1\nmin_notional = "0.30"\nentry_basis_bps = 7\n'
    )

    params = BasisCarryParams.from_mapping(table)

    assert (params.equity, params.max_gross, params.min_notional) == (1000, D("0.1"), D("0.3"))
    assert (params.entry_basis_bps, type(params.entry_basis_bps)) == (7.0, float)
    assert params.exit_basis_bps == 1.0


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    """A misspelled name is not ignored."""
    with pytest.raises(ValueError, match="unknown parameter entry_bps; known are interval_seconds"):
        BasisCarryParams.from_mapping({"entry_bps": 5})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("interval_seconds", 0, "interval_seconds is 0, expected more than 0"),
        ("interval_seconds", -1, "interval_seconds is -1, expected more than 0"),
        ("interval_seconds", 1e-9, "interval_seconds is 1E-9, below 0.001"),
        ("offset_seconds", -0.5, "offset_seconds is -0.5, expected 0 or more"),
        ("interval_seconds", 315_360_001, "315360001, expected 315360000 .ten years. or less"),
        ("offset_seconds", 10**12, "offset_seconds is 1000000000000, expected 315360000 "),
        ("max_quote_age_seconds", 2e10, "max_quote_age_seconds is 20000000000.0, expected 31536"),
        ("funding_guard_seconds", "1e300", "funding_guard_seconds is 1E[+]300, expected 31536"),
        ("cooldown_seconds", 2 * 10**10, "cooldown_seconds is 20000000000, expected 315360000 "),
        ("end_of_run_minutes", 5_256_001, "end_of_run_minutes is 5256001, expected 5256000 "),
        ("timeout_hours", 87_601, "timeout_hours is 87601, expected 87600 .ten years. or less"),
        ("timeout_hours", "1e999999", "timeout_hours is 1E[+]999999, expected a finite number"),
        ("initial_interval_hours", 10**16, "initial_interval_hours is 1[0]+, expected 87600 "),
        ("initial_interval_hours", 10**400, "initial_interval_hours is 1[0]+, expected 87600 "),
        ("entry_basis_bps", 10**400, r"0 \(int\), expected float"),
        ("hedge_ratio", 0, "hedge_ratio is 0, expected more than 0"),
        ("hedge_ratio", 1.01, "hedge_ratio is 1.01, expected 1 or less"),
        ("size_fraction", 2, "size_fraction is 2, expected 1 or less"),
        ("equity", float("nan"), "equity is NaN, expected a finite number"),
        ("entry_basis_bps", float("inf"), "entry_basis_bps is inf, expected a finite number"),
        ("equity", "much", r"equity is 'much' \(str\), expected Decimal"),
        ("equity", True, r"equity is True \(bool\), expected Decimal"),
        ("entry_basis_bps", "5", r"entry_basis_bps is '5' \(str\), expected float"),
        ("initial_interval_hours", 7.5, r"initial_interval_hours is 7.5 \(float\), expected int"),
        ("allow_reverse", 1, r"allow_reverse is 1 \(int\), expected bool"),
        ("allow_reverse", True, "allow_reverse is true: short spot needs borrow"),
        ("exit_basis_bps", 5.5, "exit_basis_bps 5.5 is above entry_basis_bps 5.0"),
        ("exit_funding_annual", 0.2, "exit_funding_annual 0.2 is above entry_funding_annual 0.1"),
        ("min_notional", 60_000, "min_notional 60000 is above max_notional 50000"),
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, value: object, message: str) -> None:
    """What cannot be traded with is refused; the message says what was found and expected."""
    with pytest.raises(ValueError, match=message):
        BasisCarryParams.from_mapping({name: value})


def test_all_that_is_wrong_is_named_at_once() -> None:
    """The user need not correct one number after the other."""
    with pytest.raises(ValueError, match=r"equity is -1.*; max_gross is 0"):
        BasisCarryParams.from_mapping({"equity": -1, "max_gross": 0})


def test_a_float_is_not_taken_for_a_decimal() -> None:
    """Who builds parameters in Python and hands in a float is told, before it meets a price."""
    with pytest.raises(ValueError, match=r"equity is 0.5 \(float\), expected Decimal"):
        BasisCarryParams(equity=0.5)  # type: ignore[arg-type]


def test_they_cannot_be_changed() -> None:
    """A run has one set of numbers."""
    with pytest.raises(FrozenInstanceError):
        BasisCarryParams().equity = D(1)  # type: ignore[misc]


def test_every_number_says_what_it_means() -> None:
    """Each parameter has a comment on its own line."""
    lines = Path(module.__file__).read_text(encoding="utf-8").splitlines()

    for field in fields(BasisCarryParams):
        (line,) = [each for each in lines if each.startswith(f"    {field.name}: ")]
        assert len(line.partition("  # ")[2]) > 10
