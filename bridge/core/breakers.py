"""Daily loss and drawdown: what was made -> whether trading must halt."""

from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from bridge.core.limits import Limits

DAY_NS = 86_400 * 10**9
ZERO = Decimal(0)


class Carried(NamedTuple):
    """What outlives a process: the UTC day (since 1970), what it made so far, and how far equity
    is below its peak; amounts in US dollars."""

    day: int = 0
    day_pnl: Decimal = ZERO
    below_peak: Decimal = ZERO


@dataclass(slots=True)
class Breakers:
    """Follows the profit and loss of a process that began with `capital` US dollars.

    `pnl` is always that since its beginning, marked and net of fees. What an earlier process of the
    same day lost counts as lost today; capital itself is never counted as a loss.
    """

    capital: Decimal
    day: int
    day_began: Decimal
    peak: Decimal

    @classmethod
    def begin(cls, capital: Decimal, carried: Carried, now_ns: int) -> "Breakers":
        """Return them as they stand before anything was traded."""
        day = now_ns // DAY_NS
        lost = -carried.day_pnl if carried.day == day else ZERO
        return cls(capital, day, lost, capital + carried.below_peak)

    def follow(self, pnl: Decimal, now_ns: int) -> None:
        """Take note of what was made by now."""
        day = now_ns // DAY_NS
        if day > self.day:  # a clock that is set back does not make a new day
            self.day, self.day_began = day, pnl
        self.peak = max(self.peak, self.capital + pnl)

    def forgive(self, pnl: Decimal) -> None:
        """Count drawdown from here: an operator has looked at it, and resumed."""
        self.peak = self.capital + pnl

    def drawdown(self, pnl: Decimal) -> Decimal:
        """Return how far equity is below its peak, as a fraction; 0 without capital."""
        below = self.peak - self.capital - pnl
        return below / self.peak if self.capital > 0 and self.peak > 0 else ZERO

    def breach(self, pnl: Decimal, limits: Limits) -> str | None:
        """Return why trading must halt, None when it need not."""
        lost = self.day_began - pnl
        if lost > limits.max_daily_loss:
            return f"max_daily_loss: {lost:.2f} lost today is more than {limits.max_daily_loss}"
        drawdown = self.drawdown(pnl)
        if drawdown > limits.max_drawdown:
            return f"max_drawdown: {drawdown:.4f} below the peak is more than {limits.max_drawdown}"
        return None

    def carried(self, pnl: Decimal) -> Carried:
        """Return what the next process has to know."""
        return Carried(self.day, pnl - self.day_began, self.peak - self.capital - pnl)
