"""What has ended leaves the cache of a sandbox's node in time: it does not grow as long as it runs.

A venue may report an order again, or fill one that was held for canceled; Nautilus would take it
for somebody else's, and book it once more. So a node at a real venue keeps all, and grows.

Nautilus has timers for that, which are not used. They run on a thread of their own, beside the
engine; they know nothing of the orders that the guard still follows, nor of children that wait in
the emulator; they forget the PnL of what they purge; and what a netted position did before it was
opened again they leave in memory while it is traded, where the portfolio reads all of it again at
each close.
"""

import asyncio
import pickle
from collections import OrderedDict
from decimal import Decimal
from typing import Any, Final

import structlog
from nautilus_trader.core.uuid import UUID4
from nautilus_trader.model.enums import PositionAdjustmentType
from nautilus_trader.model.events import OrderEvent, PositionAdjusted, PositionEvent
from nautilus_trader.model.identifiers import ClientOrderId, PositionId
from nautilus_trader.model.objects import Money
from nautilus_trader.model.orders import Order
from nautilus_trader.system.kernel import NautilusKernel

from integrations.nautilus.guard import Guard

log = structlog.get_logger("nautilus_bridge.purge")

ROUND_SECONDS: Final = 1.0
# So many orders go before others have a turn on the loop.
CHUNK: Final = 50
# Nobody asks for an account's earlier states; they come with every order.
ACCOUNT_SECONDS: Final = 60
# What a netted position did before it was opened again: so many times are kept, and beyond the
# second number all others become one. The portfolio compares how many there are with how many it
# has read, and two are added at most before it looks again.
CYCLES_MIN: Final = 2
CYCLES_MAX: Final = 8


class Purge:
    """Purges the cache of one kernel of orders that ended `minutes` ago; 0: never anything.

    An order's time begins anew with every event that comes behind its end.
    """

    def __init__(self, kernel: NautilusKernel, guard: Guard, minutes: int) -> None:
        self._kernel = kernel
        self._cache = kernel.cache
        self._guard = guard
        self._seconds = minutes * 60
        # By id when it is due, by the loop's clock; the next one first.
        self._orders: OrderedDict[ClientOrderId, float] = OrderedDict()
        self._moved: set[PositionId] = set()
        self._loop = asyncio.get_running_loop()
        self._states_due = 0.0
        if not minutes:
            return
        kernel.msgbus.subscribe("events.order.*", self._on_order)
        kernel.msgbus.subscribe("events.position.*", self._on_position)
        # Each closed trade makes it copy all earlier ones, for statistics that only a backtest has.
        kernel.portfolio.analyzer.record_trade = lambda *_: None

    async def run(self) -> None:
        """Purge until cancelled."""
        while self._seconds:
            await asyncio.sleep(ROUND_SECONDS)
            try:
                is_behind = self.take(self._loop.time())
                while is_behind:
                    await asyncio.sleep(0)
                    is_behind = self.take(self._loop.time())
            except Exception as error:  # memory is no reason to stop trading
                log.error("purge.failed", exc_info=error)

    def take(self, now: float) -> bool:
        """Purge what is due at `now`, by the loop's clock; return whether more is."""
        for _ in range(CHUNK):
            if not (order_id := _pop_due(self._orders, now)):
                break
            self._purge_order(order_id, now)
        while self._moved:
            self._shorten(self._moved.pop())
        if now >= self._states_due:
            self._states_due = now + ACCOUNT_SECONDS
            self._cache.purge_account_events(self._kernel.clock.timestamp_ns(), ACCOUNT_SECONDS)
        return _is_due(self._orders, now)

    def _on_order(self, event: OrderEvent) -> None:
        """Note that an order has ended; it may come on the thread of Nautilus's timers."""
        order = self._cache.order(event.client_order_id)
        if order is not None and order.is_closed:
            self._orders[order.client_order_id] = self._loop.time() + self._seconds
            self._orders.move_to_end(order.client_order_id)

    def _on_position(self, event: PositionEvent | PositionAdjusted) -> None:
        if isinstance(event, PositionEvent):
            self._moved.add(event.position_id)

    def _purge_order(self, order_id: ClientOrderId, now: float) -> None:
        order = self._cache.order(order_id)
        if order is None or not order.is_closed:
            return  # its end will be told
        if self._is_needed(order):
            self._orders[order_id] = now + self._seconds
            return
        self._cache.purge_order(order_id)
        self._guard.swept.discard(order_id)

    def _is_needed(self, order: Order) -> bool:
        """Return whether something may still come of a closed order, or of one that refers to it.

        One that Nautilus holds for rejected because nobody knew of it is in the guard's book.
        """
        if order.client_order_id.value in self._guard.out.book.orders:
            return True
        others = [self._cache.order(each) for each in order.linked_order_ids or ()]
        if order.parent_order_id is not None:
            others.append(self._cache.order(order.parent_order_id))
        if order.exec_spawn_id is not None:
            others += self._cache.orders_for_exec_spawn(order.exec_spawn_id)
        return any(other is not None and not other.is_closed for other in others)

    def _shorten(self, position_id: PositionId) -> None:
        """Make one of all but the last times that a position was open."""
        snapshots = self._cache.position_snapshot_bytes(position_id)
        if len(snapshots) > CYCLES_MAX:
            count = len(snapshots) - CYCLES_MIN
            snapshots[:count] = [_as_one(snapshots[:count])]


def _pop_due[T](due: OrderedDict[T, float], now: float) -> T | None:
    return due.popitem(last=False)[0] if _is_due(due, now) else None


def _is_due(due: OrderedDict[Any, float], now: float) -> bool:
    return bool(due) and next(iter(due.values())) <= now


def _as_one(snapshots: list[bytes]) -> bytes:
    """Return the last snapshot, with what all of them have realized."""
    *earlier, last = [pickle.loads(each) for each in snapshots]
    amounts = [each.realized_pnl for each in earlier if each.realized_pnl is not None]
    if amounts:
        total = sum([amount.as_decimal() for amount in amounts], Decimal(0))
        last.apply_adjustment(
            PositionAdjusted(
                last.trader_id,
                last.strategy_id,
                last.instrument_id,
                last.id,
                last.account_id,
                PositionAdjustmentType.FUNDING,
                None,
                Money(total, amounts[0].currency),
                "earlier positions",
                UUID4(),
                last.ts_last,
                last.ts_last,
            )
        )
    return pickle.dumps(last)
