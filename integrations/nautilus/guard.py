"""The guard: nothing leaves for a venue that the state or a limit forbids. Cancels always pass.

It has three gates, because a live node queues commands: in front of the endpoints that strategies,
emulator and execution algorithms send to; in front of the execution engine; and in the last method
of each client before a command is sent. The first denies with an ordinary OrderDenied; the last is
the one that counts. Limits are checked here because Nautilus ignores its own on margin accounts.

Strategies may call from the thread of Nautilus's timers: what both threads touch has a lock.
"""

import threading
from collections.abc import Callable, Coroutine, Sequence
from decimal import Decimal, localcontext
from typing import Any, Final

from nautilus_trader.core.uuid import UUID4
from nautilus_trader.execution.client import ExecutionClient
from nautilus_trader.execution.messages import ModifyOrder, SubmitOrder, SubmitOrderList
from nautilus_trader.live.execution_client import LiveExecutionClient
from nautilus_trader.model.enums import OrderSide, OrderStatus, OrderType
from nautilus_trader.model.events import (
    OrderAccepted,
    OrderCanceled,
    OrderDenied,
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

from bridge.core.control import State
from bridge.core.limits import (
    BUY,
    SELL,
    Book,
    Bucket,
    Exposure,
    Intent,
    Limits,
    Mark,
    Refusal,
    Terms,
)
from bridge.metrics import Metrics
from integrations.nautilus.prices import Prices
from integrations.nautilus.sandbox import PASSING
from integrations.nautilus.values import EXACT

# In front of the tap (6) and of strategies (0): a strategy that submits inside `on_order_filled`
# is checked against the fill.
PRIORITY: Final = 8
ENTRANCES: Final = ("RiskEngine.execute", "ExecEngine.execute", "OrderEmulator.execute")
DENIABLE: Final = (OrderStatus.INITIALIZED, OrderStatus.RELEASED)


class Guard:
    """The gates of one kernel. Closed until `open_book`, and whenever `state` says so."""

    def __init__(self, kernel: NautilusKernel, metrics: Metrics, limits: Limits) -> None:
        self.state = State.DISABLED
        self.reason = "the node starts"
        self.limits = limits
        self.book = Book()
        self.refused = 0
        # Orders that have not ended, those that a client was given, and those we cancel ourselves.
        self.live: set[ClientOrderId] = set()
        self.sent: set[ClientOrderId] = set()
        self.swept: set[ClientOrderId] = set()
        # Orders that Nautilus holds for rejected, and whose venue said later that they are not.
        self.revived: dict[ClientOrderId, VenueOrderId] = {}
        self.on_event: Callable[[OrderEvent], None] = _nothing
        self.fees = Decimal(0)
        self._kernel = kernel
        self._cache = kernel.cache
        self._prices = Prices(kernel.cache)
        self._refusals = metrics.orders_refused
        self._passes: set[ClientOrderId] = set()
        self._denied: set[ClientOrderId] = set()
        # The change of an order that was let through and that its venue has not answered.
        self._changes: dict[ClientOrderId, UUID4] = {}
        self._bucket = Bucket()
        self._lock = threading.RLock()
        self._is_open = False
        self._entrances: set[str] = set()
        for endpoint in ENTRANCES:
            self._stand_before(endpoint)
        kernel.msgbus.subscribe("events.order.*", self._on_order, PRIORITY)

    # How it stands.

    def set(self, state: State, reason: str) -> None:
        """Open or close the gates, at once."""
        with self._lock:
            if state is not self.state:
                self.refused = 0
            self.state, self.reason = state, reason

    def open_book(self) -> None:
        """Take what the cache knows once the node is connected and reconciled, before strategies
        start; stand before the execution algorithms too."""
        for endpoint in self._kernel.msgbus.endpoints():
            if endpoint.endswith(".execute"):
                self._stand_before(endpoint)
        with self._lock, localcontext(EXACT):
            self.book = Book()
            for position in self._cache.positions_open():
                exposure = self.exposure(position.instrument_id)
                self._mark(exposure, position.instrument_id)
                price = Decimal(repr(position.avg_px_open))
                if exposure.mark is not None:
                    price = exposure.mark.mid
                sign = BUY if position.is_long else SELL
                exposure.fill(sign, position.quantity.as_decimal(), price)
            for order in (*self._cache.orders_open(), *self._cache.orders_inflight()):
                exposure = self.exposure(order.instrument_id)
                self.book.put(exposure, self._intent(order, exposure))
            self.live = {o.client_order_id for o in self._cache.orders() if not o.is_closed}
            self.fees = Decimal(0)
            self._is_open = True

    def attach(self, client: ExecutionClient) -> None:
        """Stand in front of the last methods of a client: a sandbox's are synchronous, those of
        others coroutines, which a task begins later."""
        if type(client).submit_order is LiveExecutionClient.submit_order:
            client._submit_order = self._last(client._submit_order)
            client._submit_order_list = self._last(client._submit_order_list)
            client._modify_order = self._last(client._modify_order)
        else:
            client.submit_order = self._gate(client.submit_order, sends=True)
            client.submit_order_list = self._gate(client.submit_order_list, sends=True)
            client.modify_order = self._gate(client.modify_order, sends=True)

    def detach(self) -> None:
        """Take the subscription back; the gates stay."""
        self._kernel.msgbus.unsubscribe("events.order.*", self._on_order)

    # The gates.

    def _stand_before(self, endpoint: str) -> None:
        if endpoint in self._entrances:
            return
        self._entrances.add(endpoint)
        msgbus = self._kernel.msgbus
        name, _, _ = endpoint.partition(".")
        owners = {each.id.value: each for each in self._kernel.trader.exec_algorithms()}
        owners["RiskEngine"] = self._kernel.risk_engine
        owners["ExecEngine"] = self._kernel.exec_engine
        owners["OrderEmulator"] = self._kernel.emulator
        if name not in owners:
            return
        inner = owners[name].execute
        # The emulator and an algorithm hold an order back; limits are checked when it leaves them.
        gate = self._gate(inner, holds=name not in ("RiskEngine", "ExecEngine"))
        msgbus.deregister(endpoint, inner)
        msgbus.register(endpoint, gate)

    def _gate(
        self, inner: Callable[[Any], None], *, holds: bool = False, sends: bool = False
    ) -> Callable[[Any], None]:
        def gate(command: Any) -> None:
            if self._passes_on(command, holds=holds, sends=sends):
                inner(command)

        return gate

    def _last(
        self, inner: Callable[[Any], Coroutine[Any, Any, None]]
    ) -> Callable[[Any], Coroutine[Any, Any, None]]:
        async def gate(command: Any) -> None:
            if self._passes_on(command, sends=True):
                await inner(command)

        return gate

    def _passes_on(self, command: Any, *, holds: bool = False, sends: bool = False) -> bool:
        """Return whether a command may go on; refuse it where it may not."""
        if isinstance(command, SubmitOrder):
            return self._submits((command.order,), holds=holds, sends=sends)
        if isinstance(command, SubmitOrderList):
            return self._submits(command.order_list.orders, holds=holds, sends=sends)
        if isinstance(command, ModifyOrder):
            return self._modifies(command, holds=holds)
        return True

    def _submits(self, orders: Sequence[Order], *, holds: bool, sends: bool) -> bool:
        refusal = None
        with self._lock, localcontext(EXACT):
            if any(order.is_closed for order in orders):
                return False  # ended here while it waited in a queue
            for order in orders:
                refusal = self._refusal(order, holds=holds)
                if refusal is not None:
                    break
            else:
                if sends:
                    self.sent.update([order.client_order_id for order in orders])
        if refusal is None:
            return True
        for order in orders:
            self.deny(order, refusal)
        return False

    def _refusal(self, order: Order, *, holds: bool) -> Refusal | None:
        passes = order.client_order_id in self._passes
        refusal = None if passes else self._closed()
        if refusal is not None or holds:
            return refusal
        exposure = self.exposure(order.instrument_id)
        is_new = order.client_order_id.value not in self.book.orders
        if is_new:
            self._mark(exposure, order.instrument_id)
        intent = self._intent(order, exposure)
        if self.state is State.REDUCING and not passes:
            refusal = self.book.reducing_refusal(exposure, intent)
        if refusal is None and is_new:
            if not passes:
                refusal = self.book.refusal(exposure, intent, self.limits)
                refusal = refusal or self._bucket.take(self.limits.max_order_rate, self._now_ns())
            if refusal is None:
                self.book.put(exposure, intent)
                self.live.add(order.client_order_id)
        return refusal

    def _closed(self) -> Refusal | None:
        if not self._is_open:
            return Refusal(State.DISABLED, "the node starts")
        if self.state in (State.HALTED, State.DISABLED):
            return Refusal(self.state, self.reason)
        return None

    def _modifies(self, command: ModifyOrder, *, holds: bool) -> bool:
        order = self._cache.order(command.client_order_id)
        if order is None:
            return True  # the engine says so itself
        with self._lock, localcontext(EXACT):
            refusal = self._closed()
            known = self.book.orders.get(order.client_order_id.value)
            if refusal is None and known is not None and not holds:
                refusal = self._change_refusal(order, command, *known)
        if refusal is None:
            return True
        self._count(refusal)
        now_ns = self._now_ns()
        rejected = OrderModifyRejected(
            trader_id=order.trader_id,
            strategy_id=order.strategy_id,
            instrument_id=order.instrument_id,
            client_order_id=order.client_order_id,
            venue_order_id=order.venue_order_id,
            account_id=order.account_id,
            reason=f"{refusal.cause}: {refusal.reason}",
            event_id=UUID4(),
            ts_event=now_ns,
            ts_init=now_ns,
        )
        self._kernel.msgbus.send("ExecEngine.process", rejected)
        return False

    def _change_refusal(
        self, order: Order, command: ModifyOrder, exposure: Exposure, before: Intent
    ) -> Refusal | None:
        """Judge a change as the order that it makes; until it is told, the worse of both counts."""
        intent = before
        if command.quantity is not None:
            left = _qty(order, command.quantity, exposure) - _qty(order, order.filled_qty, exposure)
            intent = intent._replace(qty=max(Decimal(0), left))
        if command.price is not None:
            intent = intent._replace(price=command.price.as_decimal())
        if command.trigger_price is not None and before.trigger is not None:
            intent = intent._replace(trigger=command.trigger_price.as_decimal())
        refusal = None
        if self.state is State.REDUCING:
            refusal = self.book.reducing_refusal(exposure, intent)
        if refusal is not None or self._changes.get(order.client_order_id) == command.id:
            return refusal
        self._mark(exposure, command.instrument_id)
        refusal = self.book.refusal(exposure, intent, self.limits)
        refusal = refusal or self._bucket.take(self.limits.max_order_rate, self._now_ns())
        if refusal is None:
            self._changes[order.client_order_id] = command.id
            worse = intent._replace(qty=max(intent.qty, before.qty))
            if intent.price is not None and before.price is not None:
                closer = max if intent.sign == BUY else min
                worse = worse._replace(price=closer(intent.price, before.price))
            self.book.put(exposure, worse)
        return refusal

    def deny(self, order: Order, refusal: Refusal) -> None:
        """End an order that has not left, by an ordinary OrderDenied."""
        with self._lock:
            if order.status not in DENIABLE or order.client_order_id in self._denied:
                return
            self._denied.add(order.client_order_id)
        self._count(refusal)
        if not self._cache.order_exists(order.client_order_id):
            self._cache.add_order(order)
        denied = OrderDenied(
            trader_id=order.trader_id,
            strategy_id=order.strategy_id,
            instrument_id=order.instrument_id,
            client_order_id=order.client_order_id,
            reason=f"{refusal.cause}: {refusal.reason}",
            event_id=UUID4(),
            ts_init=self._now_ns(),
        )
        self._kernel.msgbus.send("ExecEngine.process", denied)

    def let_pass(self, order_id: ClientOrderId) -> None:
        """Let one order of ours through every gate, whatever the state."""
        with self._lock:
            self._passes.add(order_id)

    def _count(self, refusal: Refusal) -> None:
        with self._lock:
            self.refused += 1
        self._refusals[refusal.cause].inc()

    # What it knows.

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

    def _intent(self, order: Order, exposure: Exposure) -> Intent:
        trigger = order.trigger_price.as_decimal() if order.has_trigger_price else None
        has_price = order.has_price and order.price is not None
        is_spot = isinstance(self._cache.instrument(order.instrument_id), CurrencyPair)
        return Intent(
            key=order.client_order_id.value,
            sign=BUY if order.side == OrderSide.BUY else SELL,
            qty=_qty(order, order.leaves_qty, exposure),
            price=order.price.as_decimal() if has_price else None,
            trigger=None if order.status == OrderStatus.TRIGGERED else trigger,
            rests=order.order_type == OrderType.LIMIT and order.time_in_force not in PASSING,
            # A spot venue knows no positions: it would take such an order like any other.
            reduces=bool(order.is_reduce_only) and not is_spot,
        )

    def mark_all(self) -> None:
        """Value every position by the last prices."""
        with self._lock, localcontext(EXACT):
            for name, exposure in self.book.exposures.items():
                self._mark(exposure, InstrumentId.from_str(name))

    def pnl(self) -> Decimal:
        """Return what was made since the book was opened, fees included, in US dollars."""
        with self._lock, localcontext(EXACT):
            return self.book.pnl - self.fees

    def excess(self) -> list[ClientOrderId]:
        """Return the orders that must go when positions may only shrink."""
        with self._lock, localcontext(EXACT):
            return [ClientOrderId(key) for key in self.book.excess()]

    def _mark(self, exposure: Exposure, instrument_id: InstrumentId) -> None:
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

    def _on_order(self, event: OrderEvent) -> None:
        """Keep the book: it sees each event once, before strategies do."""
        order_id = event.client_order_id
        with self._lock, localcontext(EXACT):
            if isinstance(event, OrderFilled):
                self._fill(event)
            order = self._cache.order(order_id)
            if isinstance(event, OrderUpdated | OrderModifyRejected):
                self._changes.pop(order_id, None)
            if order is not None:
                self._revive(order, event)
                self._follow(order, event)
            if order is None or self.is_live(order):
                self.live.add(order_id)
            else:
                for ids in (self.live, self.sent, self._passes, self._denied):
                    ids.discard(order_id)
                self._changes.pop(order_id, None)
        self.on_event(event)

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
            if order.is_open and order_id not in self._passes:
                exposure = self.exposure(order.instrument_id)
                self._mark(exposure, order.instrument_id)
                self.book.put(exposure, self._intent(order, exposure))
        elif order_id in self._changes or order_id in self.revived:
            # Nautilus's own order is not what is out: of a change in flight the larger counts.
            if isinstance(event, OrderFilled):
                left = max(Decimal(0), before.qty - event.last_qty.as_decimal())
                self.book.put(exposure, before._replace(qty=left))
        elif order.is_closed:
            if not _is_unknown(event):
                self.book.end(before.key)
        elif order.venue_order_id is not None:
            rests = before.rests or isinstance(event, OrderTriggered)
            self.book.put(exposure, self._intent(order, exposure)._replace(rests=rests))

    def _fill(self, event: OrderFilled) -> None:
        exposure = self.exposure(event.instrument_id)
        sign = BUY if event.order_side == OrderSide.BUY else SELL
        exposure.fill(sign, event.last_qty.as_decimal(), event.last_px.as_decimal())
        if exposure.mark is None:
            self._mark(exposure, event.instrument_id)
        rate = self._prices.in_dollars(event.commission.currency)
        self.fees += event.commission.as_decimal() * (rate or 0)

    def _now_ns(self) -> int:
        return int(self._kernel.clock.timestamp_ns())


def _qty(order: Order, quantity: Quantity, exposure: Exposure) -> Decimal:
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


def _nothing(_: OrderEvent) -> None:
    """Nobody waits for events."""
