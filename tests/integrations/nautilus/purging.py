"""What tests of the purge do and look at."""

import asyncio
import itertools
from decimal import Decimal
from typing import Any

from nautilus_trader.core.uuid import UUID4
from nautilus_trader.execution.reports import OrderStatusReport
from nautilus_trader.model.enums import OrderStatus

from tests.integrations.nautilus.control_rig import BUY, Rig
from tests.integrations.nautilus.engines import PERP, until

LIVE = {"role": "live"}
DAY_SECONDS = 86_400
DAY_NS = DAY_SECONDS * 10**9
DAYS = itertools.count(2, 2)


def purge_all(rig: Rig) -> None:
    """Purge what has ended, as if its time were over; each time later than the time before."""
    later = asyncio.get_running_loop().time() + next(DAYS) * DAY_SECONDS
    while rig.source.purge.take(later):
        pass


def money(rig: Rig) -> tuple[Any, ...]:
    """Return everything that counts money, and how much was published."""
    out = rig.guard.out
    held = [(p.id.value, str(p.signed_decimal_qty())) for p in rig.cache.positions_open()]
    realized = rig.kernel.portfolio.realized_pnl(PERP)
    book = sorted(out.book.orders), frozenset(out.live), out.fees, out.pnl()
    return rig.net, held, str(realized), *book, len(rig.lane.given)


async def filled(rig: Rig, side: Any = BUY, price: str = "60000.00") -> Any:
    """Have a market order filled by the stand-in; return it."""
    rig.client.fills_at = price
    order = rig.submit(rig.market(side))
    await until(lambda: order.status == OrderStatus.FILLED, "the fill")
    await rig.settle()
    return order


def report_of(rig: Rig, order: Any, *, age_ns: int) -> OrderStatusReport:
    """Return what a venue would report of an order that was filled so long ago."""
    then_ns = rig.kernel.clock.timestamp_ns() - age_ns
    return OrderStatusReport(
        account_id=order.account_id,
        instrument_id=order.instrument_id,
        client_order_id=order.client_order_id,
        venue_order_id=order.venue_order_id,
        order_side=order.side,
        order_type=order.order_type,
        time_in_force=order.time_in_force,
        order_status=OrderStatus.FILLED,
        quantity=order.quantity,
        filled_qty=order.filled_qty,
        avg_px=Decimal("60000.00"),
        report_id=UUID4(),
        ts_accepted=then_ns,
        ts_last=then_ns,
        ts_init=then_ns,
    )
