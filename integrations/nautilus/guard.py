"""The guard: nothing leaves for a venue that the state or a limit forbids. Cancels always pass.

It has three gates, because a live node queues commands: in front of the endpoints that strategies,
emulator and execution algorithms send to; in front of the execution engine; and in the last method
of each client before a command is sent. The first denies with an ordinary OrderDenied; the last is
the one that counts. Limits are checked here because Nautilus ignores its own on margin accounts.

Strategies may call from the thread of Nautilus's timers: what both threads touch has a lock.
"""

from collections.abc import Callable, Coroutine, Sequence
from decimal import Decimal, localcontext
from typing import Any, Final

from nautilus_trader.core.uuid import UUID4
from nautilus_trader.execution.client import ExecutionClient
from nautilus_trader.execution.messages import ModifyOrder, SubmitOrder, SubmitOrderList
from nautilus_trader.live.execution_client import LiveExecutionClient
from nautilus_trader.model.enums import OrderStatus
from nautilus_trader.model.events import OrderDenied, OrderEvent, OrderModifyRejected
from nautilus_trader.model.identifiers import ClientOrderId
from nautilus_trader.model.orders import Order
from nautilus_trader.system.kernel import NautilusKernel

from bridge.core.control import State
from bridge.core.limits import BUY, Bucket, Exposure, Intent, Limits, Refusal
from bridge.metrics import Metrics
from integrations.nautilus.outstanding import Outstanding, qty_of
from integrations.nautilus.values import EXACT

# In front of the tap (6) and of strategies (0): a strategy that submits inside `on_order_filled`
# is checked against the fill.
PRIORITY: Final = 8
ENTRANCES: Final = ("RiskEngine.execute", "ExecEngine.execute", "OrderEmulator.execute")
DENIABLE: Final = (OrderStatus.INITIALIZED, OrderStatus.RELEASED)


class Guard:
    """The gates of one kernel. Closed until `open_book`, and whenever `state` says so.

    `on_failure` is told when the book cannot follow an event: nothing it says holds any more.
    """

    def __init__(
        self,
        kernel: NautilusKernel,
        metrics: Metrics,
        limits: Limits,
        *,
        on_failure: Callable[[Exception], None],
    ) -> None:
        self.state = State.DISABLED
        self.reason = "the node starts"
        self.limits = limits
        self.out = Outstanding(kernel)
        self.refused = 0
        # Orders that a client was given, and those that we cancel ourselves.
        self.sent: set[ClientOrderId] = set()
        self.swept: set[ClientOrderId] = set()
        self.on_event: Callable[[OrderEvent], None] = _nothing
        self._on_failure = on_failure
        self._kernel = kernel
        self._cache = kernel.cache
        self._refusals = metrics.orders_refused
        self._denied: set[ClientOrderId] = set()
        self._bucket = Bucket()
        self._lock = self.out.lock
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
        self.out.load()
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
        passes = order.client_order_id in self.out.passes
        refusal = None if passes else self._closed()
        if refusal is not None or holds:
            return refusal
        exposure = self.out.exposure(order.instrument_id)
        is_new = order.client_order_id.value not in self.out.book.orders
        if is_new:
            self.out.mark(exposure, order.instrument_id)
        intent = self.out.intent(order, exposure)
        if self.state is State.REDUCING and not passes:
            refusal = self.out.book.reducing_refusal(exposure, intent)
        if refusal is None and is_new:
            if not passes:
                refusal = self.out.book.refusal(exposure, intent, self.limits)
                refusal = refusal or self._bucket.take(self.limits.max_order_rate, self._now_ns())
            if refusal is None:
                self.out.book.put(exposure, intent)
                self.out.live.add(order.client_order_id)
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
            known = self.out.book.orders.get(order.client_order_id.value)
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
            wanted, filled = command.quantity, order.filled_qty
            left = qty_of(order, wanted, exposure) - qty_of(order, filled, exposure)
            intent = intent._replace(qty=max(Decimal(0), left))
        if command.price is not None:
            intent = intent._replace(price=command.price.as_decimal())
        if command.trigger_price is not None and before.trigger is not None:
            intent = intent._replace(trigger=command.trigger_price.as_decimal())
        refusal = None
        if self.state is State.REDUCING:
            refusal = self.out.book.reducing_refusal(exposure, intent)
        if refusal is not None or self.out.changes.get(order.client_order_id) == command.id:
            return refusal
        self.out.mark(exposure, command.instrument_id)
        refusal = self.out.book.refusal(exposure, intent, self.limits)
        refusal = refusal or self._bucket.take(self.limits.max_order_rate, self._now_ns())
        if refusal is None:
            self.out.changes[order.client_order_id] = command.id
            worse = intent._replace(qty=max(intent.qty, before.qty))
            if intent.price is not None and before.price is not None:
                closer = max if intent.sign == BUY else min
                worse = worse._replace(price=closer(intent.price, before.price))
            self.out.book.put(exposure, worse)
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
            self.out.passes.add(order_id)

    def _count(self, refusal: Refusal) -> None:
        with self._lock:
            self.refused += 1
        self._refusals[refusal.cause].inc()

    def _on_order(self, event: OrderEvent) -> None:
        """Keep the book: it sees each event once, before strategies do.

        And before the tap does: an error that got out would keep the event from being recorded.
        """
        try:
            ended = self.out.take(event)
            if ended is not None:
                with self._lock:
                    self.sent.discard(ended.client_order_id)
                    self._denied.discard(ended.client_order_id)
            self.on_event(event)
        except Exception as error:  # noqa: BLE001 - whatever it is, the tap must still be told
            self._on_failure(error)

    def _now_ns(self) -> int:
        return int(self._kernel.clock.timestamp_ns())


def _nothing(_: OrderEvent) -> None:
    """Nobody waits for events."""
