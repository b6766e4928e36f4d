"""acceptance/tolerance.py: the file of tolerances."""

from pathlib import Path

import pytest

from acceptance import gates, tolerance
from acceptance.tolerance import ToleranceError

TEXT = tolerance.FILE.read_text()
SPEC = {
    "pnl": (0.05, True),
    "is_gross": (0.5, True),
    "is_net": (0.5, True),
    "slippage": (1.0, True),
    "fills": (0.0, True),
    "fill_fees": (1e-8, False),
    "fill_mids": (0.0, True),
    "funding_events": (0.0, True),
    "funding_amounts": (1e-6, True),
    "fees_by_day": (1e-6, True),
    "funding_by_day": (1e-6, True),
    "basis_pnl_by_day": (1e-6, True),
    "positions": (0.0, True),
    "equity": (0.05, True),
    "max_drawdown": (0.05, True),
    "sharpe": (1e-6, True),
    "turnover": (1e-9, True),
    "events": (0.0, True),
    "orders": (0.0, True),
    "counts": (0.0, True),
    "inputs": (0.0, True),
}


def changed(tmp_path: Path, old: str, new: str) -> Path:
    """Return the file with one change."""
    assert TEXT.count(old) == 1
    path = tmp_path / "tolerances.toml"
    path.write_text(TEXT.replace(old, new))
    return path


def test_the_defaults_are_the_specs() -> None:
    """Every gate has the published limit, and every tolerance has a gate."""
    default = tolerance.load().default

    assert {name: (row.limit, row.reached) for name, row in default.items()} == SPEC
    assert default.keys() == gates.MEASURES.keys() == tolerance.GATES.keys()
    assert [name for name, row in default.items() if row.tier == "contract"] == list(SPEC)[:4]


def test_a_limit_is_reached_or_not() -> None:
    """`at_most` passes at the limit, `below` does not, and what is no number never passes."""
    default = tolerance.load().default

    assert default["pnl"].holds(0.05) and not default["pnl"].holds(0.0500001)
    assert default["fill_fees"].holds(9e-9) and not default["fill_fees"].holds(1e-8)
    assert not default["pnl"].holds(float("nan")) and not default["pnl"].holds(float("inf"))


def test_a_strategy_has_its_own(tmp_path: Path) -> None:
    """A strategy's table takes the place of the default for that strategy and that gate alone."""
    table = '[strategy.grid.pnl]\nunit = "%"\nat_most = 2\nreason = "live fills"\n'
    path = tmp_path / "tolerances.toml"
    path.write_text(TEXT + table)

    loaded = tolerance.load(path)

    assert (loaded.of("grid")["pnl"].limit, loaded.of("grid")["is_net"].limit) == (2, 0.5)
    assert loaded.of("basis_carry") == loaded.default


PNL = '[default.pnl]\nunit = "%"\nat_most = 0.05\n'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[default.slippage]", "[default.slipage]", "default: slipage is unknown; known are pnl,"),
        ("[default.slippage]", "[other.slippage]", "the file: other is unknown"),
        ("[default.slippage]", "[strategy.x.slippage]", "default: slippage is missing"),
        (PNL, '[default.pnl]\nunit = "bp"\nat_most = 0.05\n', "default.pnl.unit is 'bp', expecte"),
        (PNL, '[default.pnl]\nunit = "%"\n', "default.pnl: expected either at_most or below"),
        (PNL, PNL + "below = 1\n", "default.pnl: expected either at_most or below"),
        (PNL, PNL + "above = 1\n", "default.pnl: above is unknown; known are unit, at_most"),
        (PNL, PNL.replace("0.05", "nan"), "default.pnl.at_most is nan, expected a number from 0"),
        (PNL, PNL.replace("0.05", "inf"), "default.pnl.at_most is inf, expected a number from 0"),
        (PNL, PNL.replace("0.05", "-1"), "default.pnl.at_most is -1, expected a number from 0"),
        (PNL, PNL.replace("0.05", "1" + 400 * "0"), "0, expected a number from 0"),
        (PNL, PNL.replace("0.05", "0x1" + 5000 * "0"), "limit (4300 digits)"),
        (PNL, PNL.replace("0.05", "true"), "default.pnl.at_most is True, expected a number"),
        (PNL, PNL.replace("0.05", '"1"'), "default.pnl.at_most is '1', expected a number"),
        (PNL, PNL.replace("at_most = 0.05", "below = 0"), "default.pnl.below is 0, which nothing"),
        ('reason = "published; implementation shortfall with fees"', 'reason = " "',
         "default.is_net.reason is ' ', expected why"),
        ('reason = "published; implementation shortfall with fees"', "",
         "default.is_net.reason is None, expected why"),
        (PNL, PNL + "x\n", "not a TOML file"),
        (PNL, PNL + "x = " + 20_000 * "[", "not a TOML file"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    """The message names the file, the table and the key, and what was expected."""
    with pytest.raises(ToleranceError) as caught:
        tolerance.load(changed(tmp_path, old, new))

    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path}/tolerances.toml: ")


def test_a_limit_that_is_wider_than_ours_says_so(tmp_path: Path) -> None:
    """Of each gate, of a strategy's own too; what is equal or narrower has no note."""
    own = '[strategy.grid.fill_fees]\nunit = "USDT"\nat_most = 1e-8\nreason = "rounded otherwise"\n'
    path = changed(tmp_path, PNL, PNL.replace("0.05", "0.06"))
    path.write_text(path.read_text().replace("at_most = 0.5\n", "at_most = 0.4\n") + own)

    loaded = tolerance.load(path)

    notes = {name: row.note for name, row in loaded.of("grid").items() if row.note}
    assert notes == {
        "pnl": "wider than the limit of tolerances.toml, at most 0.05",
        "fill_fees": "wider than the limit of tolerances.toml, below 1e-08",
    }
    assert not loaded.default["fill_fees"].note
    assert not any(row.note for row in tolerance.load().default.values())


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Its path and the reason are told."""
    with pytest.raises(ToleranceError, match=r"no\.toml: cannot be read"):
        tolerance.load(tmp_path / "no.toml")
