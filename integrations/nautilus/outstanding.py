"""What is out: positions and open orders of one kernel, kept as the limits see them.

Kept from events, because Nautilus's own portfolio lags behind them, and by what was let through,
because an order on its way counts as much as one that rests.
"""

import threading
from decimal import Decimal, localcontext

from nautilus_trader.core.uuid import UUID4
from nautilus_trader.model.enums import OrderSide, OrderStatus, OrderType
from nautilus_trader.model.events import (
    OrderAccepted,
    OrderCanceled,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderModifyRejected,
    OrderTriggered,
    OrderUpdated,
)
from nautilus_trader.model.identifiers import ClientOrderId, InstrumentId, VenueOrderId
from nautilus_trader.model.instruments import CurrencyPair
from nautilus_trader.model.objects import Quantity
from nautilus_trader.model.orders import Order
from nautilus_trader.system.kernel import NautilusKernel

from bridge.core.limits import BUY, SELL, Book, Exposure, Intent, Mark, Terms
from integrations.nautilus.prices import Prices
from integrations.nautilus.sandbox import PASSING
from integrations.nautilus.values import EXACT


class Outstanding:
    """The book of one kernel; empty until `load`. Whoever reads or changes it holds `lock`, which
    its public methods take themselves."""

    def __init__(self, kernel: NautilusKernel) -> None:
        self.lock = threading.RLock()
        self.book = Book()
        # Orders that have not ended.
        self.live: set[ClientOrderId] = set()
        # Orders that Nautilus holds for rejected, and whose venue said later that they are not.
        self.revived: dict[ClientOrderId, VenueOrderId] = {}
        # The change of an order that was let through and that its venue has not answered.
        self.changes: dict[ClientOrderId, UUID4] = {}
        # Closing orders of the bridge's own.
        self.passes: set[ClientOrderId] = set()
        self.fees = Decimal(0)
        self._cache = kernel.cache
        self._prices = Prices(kernel.cache)

    def load(self) -> None:
        """Take what the cache knows."""
        with self.lock, localcontext(EXACT):
            self.book = Book()
            for position in self._cache.positions_open():
                exposure = self.exposure(position.instrument_id)
                self.mark(exposure, position.instrument_id)
                price = Decimal(repr(position.avg_px_open))
                if exposure.mark is not None:
                    price = exposure.mark.mid
                sign = BUY if position.is_long else SELL
                exposure.fill(sign, position.quantity.as_decimal(), price)
            for order in (*self._cache.orders_open(), *self._cache.orders_inflight()):
                exposure = self.exposure(order.instrument_id)
                self.book.put(exposure, self.intent(order, exposure))
            self.live = {o.client_order_id for o in self._cache.orders() if not o.is_closed}
            self.fees = Decimal(0)

    def exposure(self, instrument_id: InstrumentId) -> Exposure:
        """Return the exposure to an instrument."""
        name = instrument_id.value
        known = self.book.exposures.get(name)
        if known is not None:
            return known
        instrument = self._cache.instrument(instrument_id)
        symbol = instrument_id.symbol.value
        if instrument is None:
            return Exposure(Terms(symbol))  # it may arrive yet
        multiplier = instrument.multiplier.as_decimal()
        return self.book.exposure(name, Terms(symbol, multiplier, bool(instrument.is_inverse)))

    def intent(self, order: Order, exposure: Exposure) -> Intent:
        """Return an order as limits see it, with what is left of it."""
        trigger = order.trigger_price.as_decimal() if order.has_trigger_price else None
        has_price = order.has_price and order.price is not None
        is_spot = isinstance(self._cache.instrument(order.instrument_id), CurrencyPair)
        return Intent(
            key=order.client_order_id.value,
            sign=BUY if order.side == OrderSide.BUY else SELL,
            qty=qty_of(order, order.leaves_qty, exposure),
            price=order.price.as_decimal() if has_price else None,
            trigger=None if order.status == OrderStatus.TRIGGERED else trigger,
            rests=order.order_type == OrderType.LIMIT and order.time_in_force not in PASSING,
            # A spot venue knows no positions: it would take such an order like any other.
            reduces=bool(order.is_reduce_only) and not is_spot,
        )

    def mark_all(self) -> None:
        """Value every position by the last prices."""
        with self.lock, localcontext(EXACT):
            for name, exposure in self.book.exposures.items():
                self.mark(exposure, InstrumentId.from_str(name))

    def pnl(self) -> Decimal:
        """Return what was made since the book was opened, fees included, in US dollars."""
        with self.lock, localcontext(EXACT):
            return self.book.pnl - self.fees

    def excess(self) -> list[ClientOrderId]:
        """Return the orders that must go when positions may only shrink."""
        with self.lock, localcontext(EXACT):
            return [ClientOrderId(key) for key in self.book.excess()]

    def mark(self, exposure: Exposure, instrument_id: InstrumentId) -> None:
        """Take the last prices of an instrument; where there are none, its last ones stay."""
        quote = self._cache.quote_tick(instrument_id)
        if quote is not None:
            bid, ask = quote.bid_price.as_decimal(), quote.ask_price.as_decimal()
        else:
            last = self._prices.last(instrument_id)
            if last is None:
                return
            bid = ask = last
        if min(bid, ask) <= 0:
            return  # so some venues say that a side is empty
        instrument = self._cache.instrument(instrument_id)
        rate = None if instrument is None else self._prices.in_dollars(instrument.quote_currency)
        if rate is not None:
            exposure.mark = Mark(bid, ask, rate)

    def take(self, event: OrderEvent) -> Order | None:
        """Keep the book by an event; return its order once nothing can come of it any more."""
        order_id = event.client_order_id
        with self.lock, localcontext(EXACT):
            if isinstance(event, OrderFilled):
                self._fill(event)
            order = self._cache.order(order_id)
            if isinstance(event, OrderUpdated | OrderModifyRejected):
                self.changes.pop(order_id, None)
            if order is not None:
                self._revive(order, event)
                self._follow(order, event)
            if order is None or self.is_live(order):
                self.live.add(order_id)
                return None
            self.live.discard(order_id)
            self.passes.discard(order_id)
            self.changes.pop(order_id, None)
            return order

    def is_live(self, order: Order) -> bool:
        """Return whether something may still come of an order."""
        return not order.is_closed or order.client_order_id in self.revived

    def _revive(self, order: Order, event: OrderEvent) -> None:
        """Follow an order that was rejected because nobody knew of it: Nautilus leaves it so."""
        known = self.book.orders.get(order.client_order_id.value)
        if known is None or order.status != OrderStatus.REJECTED:
            return
        filled = event.last_qty.as_decimal() if isinstance(event, OrderFilled) else Decimal(0)
        if isinstance(event, OrderAccepted | OrderFilled) and known[1].qty > filled:
            self.revived[order.client_order_id] = event.venue_order_id
        elif isinstance(event, OrderFilled | OrderCanceled | OrderExpired):
            self.revived.pop(order.client_order_id, None)

    def _follow(self, order: Order, event: OrderEvent) -> None:
        """Bring what the book holds of an order to what is left of it."""
        order_id = order.client_order_id
        exposure, before = self.book.orders.get(order_id.value, (None, None))
        if exposure is None or before is None:
            # One of ours has passed a gate; this is what reconciliation found.
            if order.is_open and order_id not in self.passes:
                exposure = self.exposure(order.instrument_id)
                self.mark(exposure, order.instrument_id)
                self.book.put(exposure, self.intent(order, exposure))
        elif order_id in self.changes or order_id in self.revived:
            # Nautilus's own order is not what is out: of a change in flight the larger counts.
            if isinstance(event, OrderFilled):
                left = max(Decimal(0), before.qty - event.last_qty.as_decimal())
                self.book.put(exposure, before._replace(qty=left))
        elif order.is_closed:
            if not _is_unknown(event):
                self.book.end(before.key)
        elif order.venue_order_id is not None:
            rests = before.rests or isinstance(event, OrderTriggered)
            self.book.put(exposure, self.intent(order, exposure)._replace(rests=rests))

    def _fill(self, event: OrderFilled) -> None:
        exposure = self.exposure(event.instrument_id)
        sign = BUY if event.order_side == OrderSide.BUY else SELL
        exposure.fill(sign, event.last_qty.as_decimal(), event.last_px.as_decimal())
        if exposure.mark is None:
            self.mark(exposure, event.instrument_id)
        rate = self._prices.in_dollars(event.commission.currency)
        self.fees += event.commission.as_decimal() * (rate or 0)


def qty_of(order: Order, quantity: Quantity, exposure: Exposure) -> Decimal:
    """Return a quantity of an order; one that is told in quote currency at the lowest price that
    it may be filled at."""
    qty: Decimal = quantity.as_decimal()
    if not order.is_quote_quantity or exposure.mark is None:
        return qty
    price = exposure.mark.bid
    if order.has_price and order.price is not None:
        price = min(price, order.price.as_decimal())
    return qty / price / exposure.terms.multiplier


def _is_unknown(event: OrderEvent) -> bool:
    """Return whether nobody knows what came of the order: it may fill all the same."""
    return getattr(event, "reason", None) == "UNKNOWN"
