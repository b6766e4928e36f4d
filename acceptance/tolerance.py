"""The tolerances: one TOML file, by gate, each with its unit, its limit and its reason.

`[default.GATE]` holds for every strategy, `[strategy.NAME.GATE]` takes its place for one. Limits
are `at_most` (may be reached) or `below` (may not).
"""

import sys
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from acceptance.verdict import Tier

FILE: Final = Path(__file__).with_name("tolerances.toml")
WIDER: Final = "wider than the limit of"
KEYS: Final = ("unit", "at_most", "below", "reason")


class Kind(NamedTuple):
    """What the code measures for a gate: in which unit, for which tier."""

    tier: Tier
    unit: str


GATES: Final[Mapping[str, Kind]] = {
    "pnl": Kind("contract", "%"),
    "is_gross": Kind("contract", "bp"),
    "is_net": Kind("contract", "bp"),
    "slippage": Kind("contract", "bp"),
    "fills": Kind("strict", "fills"),
    "fill_fees": Kind("strict", "USDT"),
    "fill_mids": Kind("strict", "fills"),
    "funding_events": Kind("strict", "events"),
    "funding_amounts": Kind("strict", "USDT"),
    "fees_by_day": Kind("strict", "relative"),
    "funding_by_day": Kind("strict", "relative"),
    "basis_pnl_by_day": Kind("strict", "relative"),
    "positions": Kind("strict", "base currency"),
    "equity": Kind("strict", "%"),
    "max_drawdown": Kind("strict", "%"),
    "sharpe": Kind("strict", "ratio"),
    "turnover": Kind("strict", "relative"),
    "events": Kind("strict", "events"),
    "orders": Kind("strict", "orders"),
    "counts": Kind("strict", "counts"),
    "inputs": Kind("strict", "facts"),
}


class ToleranceError(ValueError):
    """A tolerance file that cannot be used: where, what, and what was expected."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The limit of one gate. `reached` says whether the limit itself still passes; `note` is what
    must be said wherever it is applied."""

    name: str
    tier: Tier
    unit: str
    limit: float
    reached: bool
    reason: str
    note: str = ""

    def holds(self, measured: float) -> bool:
        """Return whether a measured value passes. What is not a number does not."""
        return measured < self.limit or (self.reached and measured == self.limit)

    def beside(self, ours: "Tolerance") -> "Tolerance":
        """Return the same, with a note when it lets pass what our own file does not."""
        if (self.limit, self.reached) <= (ours.limit, ours.reached):
            return self
        limit = f"{'at most' if ours.reached else 'below'} {ours.limit:g}"
        return replace(self, note=f"{WIDER} {FILE.name}, {limit}")


@dataclass(frozen=True, slots=True)
class Tolerances:
    """All tolerances of a file: the default of each gate, and what strategies have instead."""

    default: Mapping[str, Tolerance]
    strategy: Mapping[str, Mapping[str, Tolerance]]

    def of(self, strategy: str) -> Mapping[str, Tolerance]:
        """Return the tolerance of each gate for a strategy."""
        return {**self.default, **self.strategy.get(strategy, {})}


def load(path: Path | str = FILE) -> Tolerances:
    """Return the tolerances in a file; those of another than ours that are wider say so.

    Raises ToleranceError.
    """
    found = _load(path)
    if Path(path).resolve() == FILE:
        return found
    ours = _load(FILE)
    return Tolerances(
        default={name: row.beside(ours.default[name]) for name, row in found.default.items()},
        strategy={
            strategy: {name: row.beside(ours.of(strategy)[name]) for name, row in rows.items()}
            for strategy, rows in found.strategy.items()
        },
    )


def _load(path: Path | str) -> Tolerances:
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ToleranceError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ToleranceError(f"{path}: not a TOML file: {error}") from error
    try:
        _known(content, ("default", "strategy"), "the file")
        default = _tables(content.get("default", {}), "default")
        if missing := [name for name in GATES if name not in default]:
            raise ToleranceError(f"default: {', '.join(missing)} is missing")
        strategies = _table(content.get("strategy", {}), "strategy")
        return Tolerances(
            default=default,
            strategy={
                name: _tables(table, f"strategy.{name}") for name, table in strategies.items()
            },
        )
    except ValueError as error:  # also of an integer too long to be shown
        raise ToleranceError(f"{path}: {error}") from None


def _tables(value: object, where: str) -> dict[str, Tolerance]:
    table = _table(value, where)
    _known(table, GATES, where)
    return {name: _tolerance(name, row, f"{where}.{name}") for name, row in table.items()}


def _tolerance(name: str, value: object, where: str) -> Tolerance:
    row, kind = _table(value, where), GATES[name]
    _known(row, KEYS, where)
    if row.get("unit") != kind.unit:
        raise ToleranceError(f"{where}.unit is {row.get('unit')!r}, expected {kind.unit!r}")
    reason = row.get("reason")
    if not isinstance(reason, str) or not reason.strip():
        raise ToleranceError(f"{where}.reason is {reason!r}, expected why it is as it is")
    limits = [key for key in ("at_most", "below") if key in row]
    if len(limits) != 1:
        raise ToleranceError(f"{where}: expected either at_most or below")
    limit: Any = row[limits[0]]
    if type(limit) not in (int, float) or not 0 <= limit <= sys.float_info.max:
        raise ToleranceError(f"{where}.{limits[0]} is {limit!r}, expected a number from 0")
    reached = limits[0] == "at_most"
    if not limit and not reached:
        raise ToleranceError(f"{where}.below is 0, which nothing can pass; write at_most = 0")
    return Tolerance(name, kind.tier, kind.unit, float(limit), reached, reason)


def _table(value: object, where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ToleranceError(f"{where} is {value!r}, expected a table")
    return value


def _known(table: Mapping[str, object], names: Collection[str], where: str) -> None:
    if unknown := [name for name in table if name not in names]:
        expected = ", ".join(names)
        raise ToleranceError(f"{where}: {', '.join(unknown)} is unknown; known are {expected}")
