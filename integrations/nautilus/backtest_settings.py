"""The settings of a backtest: one JSON file, every value of it with a default."""

import json
import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)
from pydantic_core import ErrorDetails

from bridge.role_settings import STRATEGIES, full_name
from bridge.section import DOTTED

ROOT: Final = Path(__file__).resolve().parents[2]
BALANCE: Final = r"^\d+(\.\d+)? [A-Z0-9]+$"
RATE: Final = r"^\d+/\d\d:\d\d:\d\d$"

type Balance = Annotated[str, StringConstraints(pattern=BALANCE)]
type Positive = Annotated[Decimal, Field(gt=0)]
type NotNegative = Annotated[Decimal, Field(ge=0)]
type Chance = Annotated[float, Field(ge=0, le=1)]
type Scalar = bool | int | float | str


class SettingsError(ValueError):
    """Settings that cannot be used. `problems` holds one line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _dotted(strategy: object) -> str:
    name = full_name(strategy)
    if not isinstance(name, str) or not re.fullmatch(DOTTED, name):
        raise ValueError(f"expected module:Class, or {', '.join(STRATEGIES)}")
    return name


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Account(_Section):
    """The account at a venue. `type` unset: CASH where all instruments are spot, else MARGIN."""

    type: Literal["CASH", "MARGIN"] | None = None
    balances: Annotated[tuple[Balance, ...], Field(min_length=1)] = ("500000 USDT",)
    leverage: Positive = Decimal(10)  # of a MARGIN account


class InstrumentTerms(_Section):
    """What takes the place of a row's values in the dataset's table, where it is set."""

    tick: Positive | None = None
    lot: Positive | None = None
    min_notional: NotNegative | None = None
    fee: NotNegative | None = None


class Fees(_Section):
    """The taker's rates of all instruments of a leg, where they are set."""

    spot: NotNegative | None = None
    perp: NotNegative | None = None


class Risk(_Section):
    """Nautilus's own risk engine. Notionals, by instrument id, hold on CASH accounts only."""

    bypass: bool = False
    max_order_submit_rate: Annotated[str, StringConstraints(pattern=RATE)] = "100/00:00:01"
    max_notional_per_order: dict[str, Annotated[int, Field(gt=0)]] = {}


class FillModelTerms(_Section):
    """How Nautilus draws its chances; at 1 and 0 it draws none."""

    seed: int = 1
    prob_fill_on_limit: Chance = 1.0
    prob_slippage: Chance = 0.0


class BacktestSettings(_Section):
    """Everything a run depends on. Paths are relative to the working folder."""

    strategy: Annotated[str, BeforeValidator(_dotted)] = STRATEGIES["basis_carry"]
    params: dict[str, Scalar] = {}  # of the strategy
    symbols: tuple[str, ...] = ()  # none: all of the dataset
    start: date | None = None  # the first day; unset: the dataset's start
    end: date | None = None  # the last day, all of it; unset: the dataset's end
    dataset: Path = ROOT / "data/binance/spot.parquet"
    catalog: Path = ROOT / "artifacts/catalog"
    output: Path = ROOT / "artifacts/acceptance/nautilus_results.json"
    mode: Literal["fast", "full"] = "full"
    accounts: dict[str, Account] = {}  # by venue
    instruments: dict[str, InstrumentTerms] = {}  # by id
    fees: Fees = Fees()
    risk: Risk = Risk()
    fill_model: FillModelTerms = FillModelTerms()


def load(path: Path | None = None, overrides: Mapping[str, Any] = {}) -> BacktestSettings:
    """Read the settings from a JSON file, `overrides` by name in front of it.

    Raises SettingsError, also when the file cannot be read.
    """
    given = {} if path is None else _read(path)
    try:
        return BacktestSettings.model_validate(given | dict(overrides))
    except ValidationError as error:
        problems = []
        for each in error.errors():
            is_of_file = path is not None and each["loc"][0] not in overrides
            problems.append(f"{path}: {_problem(each)}" if is_of_file else _problem(each))
    raise SettingsError(problems)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read: {error.strerror}"]) from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise SettingsError([f"{path}: {where}: no JSON: {error.msg}"]) from None
    except UnicodeDecodeError as error:
        raise SettingsError([f"{path}: no JSON: {error.reason} at byte {error.start}"]) from None
    if not isinstance(content, dict):
        raise SettingsError([f"{path}: a {type(content).__name__}, expected an object: {{...}}"])
    return content


def _problem(error: ErrorDetails) -> str:
    """Return where, what was found, and what was expected."""
    where = ".".join(str(step) for step in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{where} is no setting"
    return f"{where} is {error['input']!r}: {error['msg'].removeprefix('Value error, ')}"
