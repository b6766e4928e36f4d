"""What the Nautilus port remembers of a symbol beyond its positions, and how that is kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Final

import msgspec

from strategies.basis_carry.params import HOUR_NS, BasisCarryParams

ZERO: Final = Decimal(0)
RICH_BASIS: Final = "rich_basis"
HIGH_FUNDING: Final = "high_funding"


@dataclass(slots=True)
class Record:
    """An entry and what came of it; amounts in quote currency."""

    ts_ns: int
    reason: str
    quantity: Decimal
    reserved: Decimal  # quantity at the ask of the entry, until found flat
    basis_bps: float  # at the entry, not rounded
    spot_cost: Decimal = ZERO
    perp_proceeds: Decimal = ZERO
    funding: Decimal = ZERO
    has_fill: bool = False
    is_complete: bool = False
    exit_reason: str = ""

    def book(self, amount: Decimal, *, is_spot: bool, is_buy: bool) -> None:
        """Add a fill that is worth `amount`."""
        self.has_fill = True
        if not is_spot:
            self.perp_proceeds += -amount if is_buy else amount
        elif is_buy:
            self.spot_cost += amount


@dataclass(slots=True)
class Memory:
    """What of a symbol has to survive a restart."""

    rate: float
    interval_hours: Annotated[int, msgspec.Meta(ge=1)]
    record: Record | None = None
    dust: Decimal = ZERO  # what earlier exits could not sell
    flat_ns: int | None = None  # when the last record was found flat
    is_rich_armed: bool = True
    is_funding_armed: bool = True

    def funding_annual(self) -> float:
        """Return the last settled rate of funding, for a year, rounded as a signal is."""
        return round(self.rate * 8760 / self.interval_hours, 9)

    def entry_reason(
        self, params: BasisCarryParams, basis_bps: float, funding_annual: float
    ) -> str:
        """Return which armed signal says to enter, or nothing."""
        if self.is_rich_armed and basis_bps >= params.entry_basis_bps:
            return RICH_BASIS
        if self.is_funding_armed and funding_annual >= params.entry_funding_annual:
            return HIGH_FUNDING
        return ""

    def arm(self, params: BasisCarryParams, basis_bps: float, funding_annual: float) -> bool:
        """Allow what has come down to its exit to enter again; return whether that is new."""
        rich = not self.is_rich_armed and basis_bps <= params.exit_basis_bps
        funding = not self.is_funding_armed and funding_annual <= params.exit_funding_annual
        self.is_rich_armed |= rich
        self.is_funding_armed |= funding
        return rich or funding

    def is_cooling(self, ts_ns: int, cooldown_ns: int) -> bool:
        """Whether the last record was found flat too short a time ago."""
        return self.flat_ns is not None and ts_ns - self.flat_ns < cooldown_ns

    def is_guarded(self, ts_ns: int, guard_ns: int) -> bool:
        """Whether a funding time is nearer than the guard."""
        past_ns = ts_ns % (self.interval_hours * HOUR_NS)
        return past_ns < guard_ns or self.interval_hours * HOUR_NS - past_ns < guard_ns


def dumped(memories: Mapping[str, Memory]) -> bytes:
    """Return the memories by symbol as JSON, for `loaded`."""
    return msgspec.json.encode(memories)


def loaded(content: bytes) -> dict[str, Memory]:
    """Return memories by symbol. Raises ValueError when this is not what `dumped` has written."""
    return msgspec.json.decode(content, type=dict[str, Memory])
