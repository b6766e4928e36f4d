"""The numbers of the basis carry strategy: what each means, its unit, its default, its bounds.

Both programs read them from here and share nothing else. Signal thresholds are float64, as the
signals they are compared with; money, sizes and durations are exact decimals.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from functools import cached_property
from math import isfinite
from typing import Any, Self

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
HOUR_NS = 60 * MINUTE_NS
INTERVAL_SECONDS_MIN = Decimal("0.001")
DURATION_NS_MAX = 10 * 365 * 24 * HOUR_NS  # ten years: more is a typing error, and int64 has an end


@dataclass(frozen=True, kw_only=True)
class BasisCarryParams:
    """The parameters. Raises ValueError that names everything that is wrong with them."""

    # When it decides. Durations may have fractions.
    interval_seconds: Decimal = Decimal(10)  # between two decisions
    offset_seconds: Decimal = Decimal(5)  # from the start to the first decision
    max_quote_age_seconds: Decimal = Decimal(30)  # no decision when a leg's last quote is older
    funding_guard_seconds: Decimal = Decimal(60)  # no decision nearer to a funding time
    cooldown_seconds: Decimal = Decimal(60)  # from the decision that finds flat to an entry
    end_of_run_minutes: Decimal = Decimal(10)  # at the end of a backtest: exits only

    # When it enters and exits. Basis in basis points, funding and its rates as fractions.
    entry_basis_bps: float = 5.0  # enters at or above
    exit_basis_bps: float = 1.0  # what entered on the basis exits at or below
    entry_funding_annual: float = 0.10  # a year; enters at or above
    exit_funding_annual: float = 0.05  # a year; what entered on funding exits at or below
    hedge_divergence_bps: float = 15.0  # exits when the basis rose this much since the entry
    stop_loss_pct: Decimal = Decimal("0.006")  # exits at this loss, a fraction of the spot's cost
    timeout_hours: Decimal = Decimal(8)  # exits at this age; may have fractions
    initial_rate: float = 0.0  # per interval; holds until the first rate is published
    initial_interval_hours: int = 8  # between funding times; holds as long

    # How much it trades, in USDT where nothing else is said.
    equity: Decimal = Decimal(500_000)  # what sizes are taken from
    max_gross: Decimal = Decimal("0.20")  # of equity: what the spot legs of all symbols may cost
    min_notional: Decimal = Decimal(250)  # per leg; a smaller position is not opened
    max_notional: Decimal = Decimal(50_000)  # per leg; a position is not opened larger
    hedge_ratio: Decimal = Decimal(1)  # perp sold per spot bought, at most 1
    size_fraction: Decimal = Decimal(1)  # of the full size, at most 1; a shadow trades less
    allow_reverse: bool = False  # short spot needs borrow: refused in this version

    def __post_init__(self) -> None:
        problems = [*self._wrong_types()] or [*self._out_of_bounds()]
        if problems:
            raise ValueError("; ".join(problems))

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, object]) -> Self:
        """Return the defaults with what `mapping`, a TOML table, says instead.

        Exact numbers may be strings, too. Raises ValueError for names that are unknown, and for
        values of the wrong type or out of bounds.
        """
        types = {field.name: field.type for field in fields(cls)}
        if unknown := mapping.keys() - types.keys():
            names = ", ".join(sorted(unknown))
            raise ValueError(f"unknown parameter {names}; known are {', '.join(types)}")
        values: dict[str, Any] = {
            name: _converted(value, types[name]) for name, value in mapping.items()
        }
        return cls(**values)

    @cached_property
    def interval_ns(self) -> int:
        """Return the time between two decisions."""
        return _ns(self.interval_seconds, SECOND_NS)

    @cached_property
    def offset_ns(self) -> int:
        """Return the time from the start to the first decision."""
        return _ns(self.offset_seconds, SECOND_NS)

    @cached_property
    def max_quote_age_ns(self) -> int:
        """Return the greatest age of a quote that is decided on."""
        return _ns(self.max_quote_age_seconds, SECOND_NS)

    @cached_property
    def funding_guard_ns(self) -> int:
        """Return how near to a funding time a decision may be."""
        return _ns(self.funding_guard_seconds, SECOND_NS)

    @cached_property
    def cooldown_ns(self) -> int:
        """Return how long after the decision that finds a symbol flat it may be entered again."""
        return _ns(self.cooldown_seconds, SECOND_NS)

    @cached_property
    def end_of_run_ns(self) -> int:
        """Return how long before the end of a backtest only exits are made."""
        return _ns(self.end_of_run_minutes, MINUTE_NS)

    @cached_property
    def timeout_ns(self) -> int:
        """Return the age at which a position is left."""
        return _ns(self.timeout_hours, HOUR_NS)

    def _wrong_types(self) -> Iterator[str]:
        for field in fields(self):
            value, kind = getattr(self, field.name), field.type
            if type(value) is not kind:
                found, expected = type(value).__name__, getattr(kind, "__name__", kind)
                yield f"{field.name} is {value!r} ({found}), expected {expected}"
            elif isinstance(value, (float, Decimal)) and not isfinite(value):
                yield f"{field.name} is {value}, expected a finite number"

    def _out_of_bounds(self) -> Iterator[str]:
        for name in POSITIVE:
            if getattr(self, name) <= 0:
                yield f"{name} is {getattr(self, name)}, expected more than 0"
        for name in NOT_NEGATIVE:
            if getattr(self, name) < 0:
                yield f"{name} is {getattr(self, name)}, expected 0 or more"
        for name in AT_MOST_ONE:
            if getattr(self, name) > 1:
                yield f"{name} is {getattr(self, name)}, expected 1 or less"
        for name, unit_ns in DURATIONS.items():
            if getattr(self, name) > (most := DURATION_NS_MAX // unit_ns):
                yield f"{name} is {getattr(self, name)}, expected {most} (ten years) or less"
        for low, high in ORDERED:
            if getattr(self, low) > getattr(self, high):
                yield f"{low} {getattr(self, low)} is above {high} {getattr(self, high)}"
        if 0 < self.interval_seconds < INTERVAL_SECONDS_MIN:
            yield f"interval_seconds is {self.interval_seconds}, below {INTERVAL_SECONDS_MIN}"
        if self.allow_reverse:
            yield "allow_reverse is true: short spot needs borrow and is not in this version"


POSITIVE = (
    "interval_seconds",
    "hedge_divergence_bps",
    "stop_loss_pct",
    "timeout_hours",
    "initial_interval_hours",
    "equity",
    "max_gross",
    "max_notional",
    "hedge_ratio",
    "size_fraction",
)
NOT_NEGATIVE = (
    "offset_seconds",
    "max_quote_age_seconds",
    "funding_guard_seconds",
    "cooldown_seconds",
    "end_of_run_minutes",
    "min_notional",
)
DURATIONS = {
    "interval_seconds": SECOND_NS,
    "offset_seconds": SECOND_NS,
    "max_quote_age_seconds": SECOND_NS,
    "funding_guard_seconds": SECOND_NS,
    "cooldown_seconds": SECOND_NS,
    "end_of_run_minutes": MINUTE_NS,
    "timeout_hours": HOUR_NS,
    "initial_interval_hours": HOUR_NS,
}
AT_MOST_ONE = ("hedge_ratio", "size_fraction")
ORDERED = (
    ("exit_basis_bps", "entry_basis_bps"),
    ("exit_funding_annual", "entry_funding_annual"),
    ("min_notional", "max_notional"),
)


def _ns(duration: Decimal, unit_ns: int) -> int:
    return int((duration * unit_ns).to_integral_value())


def _converted(value: object, kind: object) -> object:
    """Return a TOML value as a parameter of this type; as it is when that cannot be done."""
    if isinstance(value, bool):
        return value
    if kind is Decimal and isinstance(value, (int, float, str)):
        try:
            return Decimal(str(value))
        except ArithmeticError:
            return value
    if kind is float and isinstance(value, (int, Decimal)):
        try:
            return float(value)
        except OverflowError:
            return value
    return value
