"""Stop losses, daily loss and drawdown of a node, by the prices in its cache."""

import asyncio
import json
from collections.abc import Callable
from decimal import Decimal, InvalidOperation, localcontext
from pathlib import Path
from typing import Final

import structlog
from nautilus_trader.model.position import Position
from nautilus_trader.system.kernel import NautilusKernel

from bridge.core.breakers import Breakers, Carried
from bridge.core.control import State
from bridge.metrics import Metrics
from integrations.nautilus.guard import Guard
from integrations.nautilus.halt import Sweep
from integrations.nautilus.prices import Prices
from integrations.nautilus.trading_metrics import TradingMetrics
from integrations.nautilus.values import EXACT

log = structlog.get_logger("nautilus_bridge.breakers")

LOOK_SECONDS: Final = 0.1
SAVE_SECONDS: Final = 1.0
NAME: Final = "breakers.json"


class BreakerWatch:
    """Runs behind a guard whose book is open. `directory` keeps the day's result over a restart."""

    def __init__(
        self,
        kernel: NautilusKernel,
        guard: Guard,
        sweep: Sweep,
        metrics: Metrics,
        *,
        directory: Path | None,
        on_breach: Callable[[str], None],
    ) -> None:
        self._kernel = kernel
        self._guard = guard
        self._sweep = sweep
        self._metrics = metrics
        self._shown = TradingMetrics(kernel, metrics)
        self._path = None if directory is None else directory / NAME
        self._on_breach = on_breach
        self._breakers: Breakers | None = None
        self._is_broken = False

    async def run(self) -> None:
        """Look until cancelled."""
        now_ns = self._kernel.clock.timestamp_ns()
        self._breakers = Breakers.begin(self._capital(), _load(self._path), now_ns)
        looks = 0
        while True:
            self.look()
            looks += 1
            if looks % round(SAVE_SECONDS / LOOK_SECONDS) == 0:
                self.save()
                self._shown.look()
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Value everything once, and act on what is out of bounds."""
        breakers, guard = self._breakers, self._guard
        if breakers is None:
            return
        guard.out.mark_all()
        pnl = guard.out.pnl()
        with localcontext(EXACT):
            breakers.follow(pnl, self._kernel.clock.timestamp_ns())
            breach = breakers.breach(pnl, guard.limits)
            self._metrics.day_pnl.set(float(pnl - breakers.day_began))
            self._metrics.drawdown.set(float(breakers.drawdown(pnl)))
        if guard.state in (State.ACTIVE, State.REDUCING):
            for position in self._kernel.cache.positions_open():
                self._stop_loss(position)
        if breach is not None:
            self._is_broken = True
            self._on_breach(breach)

    def forgive(self) -> None:
        """Count drawdown from here on, if a limit was broken: any other halt changes nothing."""
        if self._breakers is not None and self._is_broken:
            self._is_broken = False
            self._breakers.forgive(self._guard.out.pnl())
            self.save()

    def save(self) -> None:
        """Keep what the next process has to know."""
        if self._path is None or self._breakers is None:
            return
        carried = self._breakers.carried(self._guard.out.pnl())
        fresh = self._path.with_suffix(".new")
        try:
            fresh.write_text(json.dumps([carried.day, *map(str, carried[1:])]))
            fresh.rename(self._path)
        except OSError as error:  # the journal tells of a disk that is full
            log.warning("breakers.not_saved", problem=str(error))

    def _stop_loss(self, position: Position) -> None:
        """Close a position that has lost too much of what it cost."""
        exposure = self._guard.out.exposure(position.instrument_id)
        if exposure.mark is None:
            return
        cost = Decimal(repr(position.avg_px_open))
        if not cost:
            return  # nothing was paid for it
        price = exposure.mark.bid if position.is_long else exposure.mark.ask
        lost = (cost - price) / cost if position.is_long else (price - cost) / cost
        if lost <= self._guard.limits.stop_loss_pct:
            return
        if not self._sweep.close(position, "STOP_LOSS"):
            return
        self._metrics.stop_losses.inc()
        log.warning(
            "stop_loss.closing",
            position=position.id.value,
            lost=f"{lost:.4f}",
            limit=str(self._guard.limits.stop_loss_pct),
        )

    def _capital(self) -> Decimal:
        """Return what all accounts hold, in US dollars, as far as it has a price."""
        prices, total = Prices(self._kernel.cache), Decimal(0)
        for account in self._kernel.cache.accounts():
            for currency, money in account.balances_total().items():
                total += money.as_decimal() * (prices.in_dollars(currency) or 0)
        return total


def _load(path: Path | None) -> Carried:
    """Return what the last process left behind; nothing where it left nothing that can be read."""
    if path is None:
        return Carried()
    try:
        day, *amounts = json.loads(path.read_text())
        day_pnl, below_peak = [Decimal(amount) for amount in amounts]
        if not (day_pnl.is_finite() and below_peak.is_finite()):
            raise ValueError(f"{day_pnl} and {below_peak} are no amounts")
        return Carried(int(day), day_pnl, below_peak)
    except FileNotFoundError:
        return Carried()
    except (OSError, ValueError, TypeError, InvalidOperation) as error:
        log.error("breakers.not_read", file=str(path), problem=str(error))
        return Carried()
