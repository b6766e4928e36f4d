"""The parameters of a strategy: which file they come from, and what is said about a bad one."""

from pathlib import Path

import pytest
from nautilus_trader.config import StrategyConfig
from nautilus_trader.trading.strategy import Strategy

from bridge import exits
from bridge.exits import Exit
from integrations.nautilus.loading import load_strategy

HERE = __name__
CARRY = "strategies.basis_carry.port:NautilusBasisCarryStrategy"


class TunedConfig(StrategyConfig, frozen=True):
    """Takes parameters."""

    params: dict[str, object] = {}  # noqa: RUF012 - msgspec copies it


class Tuned(Strategy):
    """Does nothing."""


class Plain(Strategy):
    """Takes none."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of parameters."""
    path = tmp_path / "params.toml"
    path.write_text("speed = 1.5\nname = 'fast'\n")
    return path


def test_the_file_is_the_params(file):
    """The strategy's config is given the table of the file, also in a demo."""
    table = {"speed": 1.5, "name": "fast"}

    assert load_strategy(f"{HERE}:Tuned", {}, file).config.params == table
    assert load_strategy(CARRY, {}, None).config.params == {}
    assert load_strategy(f"{HERE}:Tuned", {}, file, is_demo=True).config.params == table


def test_without_a_file_known_params_stay():
    """What the caller gives is kept."""
    assert load_strategy(f"{HERE}:Tuned", {"params": {"a": 1}}).config.params == {"a": 1}


def test_the_demo_takes_the_file_beside_the_module():
    """Without a file, a demo takes demo.toml of the strategy's folder, where there is one."""
    assert load_strategy(CARRY, {}, is_demo=True).config.params["interval_seconds"] == 1
    assert load_strategy(f"{HERE}:Tuned", {}, is_demo=True).config.params == {}


@pytest.mark.parametrize(
    ("path", "content", "says"),
    [
        (f"{HERE}:Tuned", None, "cannot read {file}: [Errno 2] No such file"),
        (f"{HERE}:Tuned", "speed = \n", "cannot read {file}: Invalid value (at line 1, column 9)"),
        (f"{HERE}:Plain", "speed = 1\n", "has no field params"),
        (CARRY, "speed = 1\n", "{file}: ValueError: unknown parameter speed"),
        (CARRY, "equity = 0\n", "{file}: ValueError: equity is 0, expected more than 0"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path, path, content, says):
    """Exit 78 names the setting, the file, and what is wrong with it."""
    file = tmp_path / "params.toml"
    if content is not None:
        file.write_text(content)

    with pytest.raises(Exit) as caught:
        load_strategy(path, {}, file)

    assert caught.value.code == exits.CONFIGURATION
    assert str(caught.value).startswith("source.")
    assert says.format(file=file) in str(caught.value)
