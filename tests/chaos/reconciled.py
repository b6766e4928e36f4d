"""Fills as reconciliation tells them: made up from a venue's totals, replaced by its own, late.

Nautilus makes a fill up when a venue says that an order was filled and does not say how; the
venue's own come later, in pieces, also to the next process. What each fill counts for in the
position is written down before any of it is told.
"""

import random
import time
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Final

from nautilus_trader.common.factories import OrderFactory
from nautilus_trader.core.uuid import UUID4
from nautilus_trader.model.enums import LiquiditySide, OrderSide, OrderType
from nautilus_trader.model.events import OrderFilled
from nautilus_trader.model.identifiers import (
    AccountId,
    ClientOrderId,
    InstrumentId,
    StrategyId,
    TradeId,
    VenueOrderId,
)
from nautilus_trader.model.objects import Currency, Money, Price, Quantity
from nautilus_trader.system.kernel import NautilusKernel

from tests.chaos.stories import Stories, Story, Told

STRATEGY: Final = StrategyId("EXTERNAL")
USDT: Final = Currency.from_str("USDT")
SECOND_NS: Final = 10**9
# More than any of it fills: to the engine the order is never done.
ORDER_SIZE: Final = Quantity.from_str("1.000")
OPEN_MAX: Final = 8
NOTHING: Final = Decimal(0)


class Reconciled:
    """Tells such fills on a kernel's bus; `path` outlives the process."""

    def __init__(
        self,
        kernel: NautilusKernel,
        path: Path,
        *,
        account: AccountId,
        instrument: InstrumentId,
        chance: random.Random,
    ) -> None:
        self._kernel = kernel
        self._account = account
        self._instrument = instrument
        self._chance = chance
        self._stories = Stories(path)
        self._open = self._stories.unfinished
        self._orders = OrderFactory(kernel.trader_id, STRATEGY, kernel.clock)
        for story in self._open:
            self._know(story)

    def step(self, price: Price) -> None:
        """Tell a fill of one of the orders; begin with another order now and then."""
        if not self._open or (len(self._open) < OPEN_MAX and self._chance.random() < 0.3):
            story = self._new()
            self._stories.begin(story)
            self._know(story)
            self._open.append(story)
        story = self._chance.choice(self._open)
        told = story.fills.pop(0)
        if not story.fills:
            self._open.remove(story)
        self._stories.tell(told)
        self._tell(story, told, price)

    def _new(self) -> Story:
        """Invent what a venue has executed, and how it gets here."""
        chance, now_ns = self._chance, time.time_ns()
        side = chance.choice(("BUY", "SELL"))
        sign = 1 if side == "BUY" else -1
        times = sorted([now_ns - chance.randint(0, 5 * SECOND_NS) for _ in range(6)])
        sizes = [Decimal(chance.randint(1, 9)) / 1000 for _ in times]
        # What came in time, what was made up at two moments, and what was executed afterwards.
        first, second = sorted(chance.sample(range(len(times) + 1), 2))
        middle = chance.randint(first, second)
        made_up, own = [], []
        for begin, end in ((first, middle), (middle, second)):
            if total := sum(sizes[begin:end], start=NOTHING):
                at_ns = times[end - 1]
                made_up.append(Told(_invented(chance), str(total), at_ns, True, str(sign * total)))
                own += [self._own(sizes[n], times[n], NOTHING) for n in range(begin, end)]
        chance.shuffle(own)
        early = [self._own(sizes[n], times[n], sign * sizes[n]) for n in range(first)]
        later = range(second, len(times))
        late = [self._own(sizes[n], times[n], sign * sizes[n]) for n in later]
        order = f"{self._kernel.trader_id}-{uuid.UUID(int=chance.getrandbits(128)).hex[:16]}"
        return Story(order, side, [*early, *made_up, *own, *late])

    def _own(self, qty: Decimal, ts_ns: int, counts: Decimal) -> Told:
        number = str(self._chance.getrandbits(60))
        return Told(number, str(qty), ts_ns, self._chance.random() < 0.5, str(counts))

    def _know(self, story: Story) -> None:
        """Have the cache know the order, as it knows one that reconciliation has found."""
        order = self._orders.limit(
            self._instrument,
            OrderSide[story.side],
            ORDER_SIZE,
            Price.from_str("1.0"),
            client_order_id=ClientOrderId(story.order),
        )
        self._kernel.cache.add_order(order)

    def _tell(self, story: Story, told: Told, price: Price) -> None:
        event = OrderFilled(
            *(self._kernel.trader_id, STRATEGY, self._instrument, ClientOrderId(story.order)),
            *(VenueOrderId(f"V-{story.order}"), self._account, TradeId(told.trade_id), None),
            *(OrderSide[story.side], OrderType.LIMIT, Quantity.from_str(told.qty), price, USDT),
            *(Money.from_str("0.01 USDT"), LiquiditySide.TAKER, UUID4()),
            ts_event=told.ts_ns,
            ts_init=time.time_ns(),
            reconciliation=told.recon,
        )
        self._kernel.msgbus.publish(f"events.order.{STRATEGY}", event)


def _invented(chance: random.Random) -> str:
    """Return a trade id as Nautilus makes them up."""
    if chance.random() < 0.5:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, str(chance.getrandbits(64))))
    return f"S-{chance.getrandbits(48):x}-{chance.getrandbits(32):x}"
