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
from nautilus_trader.model.enums import OrderSide, OrderStatus, OrderType, TimeInForce
from nautilus_trader.model.events import (
    OrderDenied,
    OrderEvent,
    OrderFilled,
    OrderModifyRejected,
    OrderTriggered,
)
from nautilus_trader.model.identifiers import ClientOrderId, InstrumentId
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
from integrations.nautilus.values import EXACT

# In front of the tap (6) and of strategies (0): a strategy that submits inside `on_order_filled`
# is checked against the fill.
PRIORITY: Final = 8
ENTRANCES: Final = ("RiskEngine.execute", "ExecEngine.execute", "OrderEmulator.execute")
PASSING: Final = (TimeInForce.IOC, TimeInForce.FOK)
DENIABLE: Final = (OrderStatus.INITIALIZED, OrderStatus.RELEASED)


class Guard:
    """The gates of one kernel. Closed until `open_book`, and whenever `state` says so."""

    def __init__(self, kernel: NautilusKernel, metrics: Metrics, limits: Limits) -> None:
        self.state = State.DISABLED
        self.reason = "the node starts"
        self.limits = limits
        self.book = Book()
        self.refused = 0
        # Orders that have not ended, and those among them that we cancel ourselves.
        self.live: set[ClientOrderId] = set()
        self.swept: set[ClientOrderId] = set()
        self.on_event: Callable[[OrderEvent], None] = _nothing
        self.fees = Decimal(0)
        self._kernel = kernel
        self._cache = kernel.cache
        self._prices = Prices(kernel.cache)
        self._refusals = metrics.orders_refused
        self._passes: set[ClientOrderId] = set()
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
                self.book.put(exposure, _intent(order, exposure))
            self.live = {o.client_order_id for o in self._cache.orders() if not o.is_closed}
            self._is_open = True

    def attach(self, client: ExecutionClient) -> None:
        """Stand in front of the last methods of a client: a sandbox's are synchronous."""
        if hasattr(client, "_submit_order"):
            client._submit_order = self._last(client._submit_order)
            client._submit_order_list = self._last(client._submit_order_list)
            client._modify_order = self._last(client._modify_order)
        else:
            client.submit_order = self._gate(client.submit_order)
            client.submit_order_list = self._gate(client.submit_order_list)
            client.modify_order = self._gate(client.modify_order)

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

    def _gate(self, inner: Callable[[Any], None], *, holds: bool = False) -> Callable[[Any], None]:
        def gate(command: Any) -> None:
            if self._passes_on(command, holds=holds):
                inner(command)

        return gate

    def _last(
        self, inner: Callable[[Any], Coroutine[Any, Any, None]]
    ) -> Callable[[Any], Coroutine[Any, Any, None]]:
        async def gate(command: Any) -> None:
            if self._passes_on(command):
                await inner(command)

        return gate

    def _passes_on(self, command: Any, *, holds: bool = False) -> bool:
        """Return whether a command may go on; refuse it where it may not."""
        if isinstance(command, SubmitOrder):
            return self._submits((command.order,), holds=holds)
        if isinstance(command, SubmitOrderList):
            return self._submits(command.order_list.orders, holds=holds)
        if isinstance(command, ModifyOrder):
            return self._modifies(command, holds=holds)
        return True

    def _submits(self, orders: Sequence[Order], *, holds: bool) -> bool:
        if any(order.is_closed for order in orders):
            return False  # ended here while it waited in a queue
        refusal = None
        with self._lock, localcontext(EXACT):
            for order in orders:
                refusal = self._refusal(order, holds=holds)
                if refusal is not None:
                    break
        if refusal is None:
            return True
        for order in orders:
            self.deny(order, refusal)
        return False

    def _refusal(self, order: Order, *, holds: bool) -> Refusal | None:
        if order.client_order_id in self._passes:
            return None
        refusal = self._closed()
        if refusal is not None or holds:
            return refusal
        exposure = self.exposure(order.instrument_id)
        is_new = order.client_order_id.value not in self.book.orders
        if is_new:
            self._mark(exposure, order.instrument_id)
        intent = _intent(order, exposure)
        if self.state is State.REDUCING:
            refusal = self.book.reducing_refusal(exposure, intent)
        if refusal is None and is_new:
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
                refusal = self._change_refusal(command, *known)
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
        self, command: ModifyOrder, exposure: Exposure, before: Intent
    ) -> Refusal | None:
        """Judge a change as the order that it makes; until it is told, the larger one counts."""
        intent = before
        if command.quantity is not None:
            order = self._cache.order(command.client_order_id)
            left = command.quantity.as_decimal() - order.filled_qty.as_decimal()
            intent = intent._replace(qty=max(Decimal(0), left))
        if command.price is not None:
            intent = intent._replace(price=command.price.as_decimal())
        if intent == before:
            return None
        self._mark(exposure, command.instrument_id)
        refusal = None
        if self.state is State.REDUCING:
            refusal = self.book.reducing_refusal(exposure, intent)
        refusal = (
            refusal
            or self.book.refusal(exposure, intent, self.limits)
            or self._bucket.take(self.limits.max_order_rate, self._now_ns())
        )
        if refusal is None:
            self.book.put(exposure, intent._replace(qty=max(intent.qty, before.qty)))
        return refusal

    def deny(self, order: Order, refusal: Refusal) -> None:
        """End an order that has not left, by an ordinary OrderDenied."""
        self._count(refusal)
        if order.status not in DENIABLE:
            return
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
            return self.book.exposure(name, Terms(symbol))
        multiplier = instrument.multiplier.as_decimal()
        return self.book.exposure(name, Terms(symbol, multiplier, bool(instrument.is_inverse)))

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
            if order is None or not order.is_closed:
                self.live.add(order_id)
            else:
                self.live.discard(order_id)
                self._passes.discard(order_id)
            if order is not None:
                self._follow(order, event)
        self.on_event(event)

    def _follow(self, order: Order, event: OrderEvent) -> None:
        """Bring what the book holds of an order to what is left of it."""
        known = self.book.orders.get(order.client_order_id.value)
        if known is None:
            return
        exposure, before = known
        if order.is_closed and not _is_unknown(event):
            self.book.end(before.key)
        elif order.status == OrderStatus.PENDING_UPDATE:
            # Until the change is told, the larger of both is out.
            if isinstance(event, OrderFilled):
                left = max(Decimal(0), before.qty - event.last_qty.as_decimal())
                self.book.put(exposure, before._replace(qty=left))
        elif order.venue_order_id is not None:
            rests = before.rests or isinstance(event, OrderTriggered)
            self.book.put(exposure, _intent(order, exposure)._replace(rests=rests))

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


def _intent(order: Order, exposure: Exposure) -> Intent:
    qty = order.leaves_qty.as_decimal()
    if order.is_quote_quantity and exposure.mark is not None:
        qty /= exposure.mark.bid
    trigger = order.trigger_price.as_decimal() if order.has_trigger_price else None
    return Intent(
        key=order.client_order_id.value,
        sign=BUY if order.side == OrderSide.BUY else SELL,
        qty=qty,
        price=order.price.as_decimal() if order.has_price and order.price is not None else None,
        trigger=None if order.status == OrderStatus.TRIGGERED else trigger,
        rests=order.order_type == OrderType.LIMIT and order.time_in_force not in PASSING,
        reduces=bool(order.is_reduce_only),
    )


def _is_unknown(event: OrderEvent) -> bool:
    """Return whether nobody knows what came of the order: it may fill all the same."""
    return getattr(event, "reason", None) == "UNKNOWN"


def _nothing(_: OrderEvent) -> None:
    """Nobody waits for events."""
