"""What tests of the purge do and look at."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from nautilus_trader.model.enums import OrderStatus

from integrations.nautilus.purge import Purge
from tests.integrations.nautilus.control_rig import BUY, Rig, trading
from tests.integrations.nautilus.engines import PERP, until

LIVE = {"role": "live"}
DAY_SECONDS = 86_400
DAYS = itertools.count(2, 2)


@contextlib.asynccontextmanager
async def purging(folder: Path, **settings: Any) -> AsyncIterator[Rig]:
    """Run a node that purges what ended a day ago, over a stand-in that tests can move."""
    async with trading(folder, **LIVE, **settings) as rig:
        rig.source.purge = Purge(rig.kernel, rig.guard, 1440)
        yield rig


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
