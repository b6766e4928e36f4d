"""How trading is ended: cancel until every order is terminal, then, where wanted, flatten."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog
from nautilus_trader.common.factories import OrderFactory
from nautilus_trader.core.uuid import UUID4
from nautilus_trader.execution.messages import CancelOrder, SubmitOrder
from nautilus_trader.model.enums import OrderSide, TimeInForce, TriggerType
from nautilus_trader.model.events import (
    OrderAccepted,
    OrderCanceled,
    OrderCancelRejected,
    OrderEvent,
)
from nautilus_trader.model.identifiers import ClientOrderId
from nautilus_trader.model.orders import Order
from nautilus_trader.model.position import Position
from nautilus_trader.system.kernel import NautilusKernel

from bridge.core.control import State
from bridge.core.limits import Refusal
from bridge.source import Action, HaltAccount
from integrations.nautilus.guard import Guard

log = structlog.get_logger("nautilus_bridge.halt")

# A cancel that nothing came of is sent again behind the first pause, then behind longer ones.
AGAIN_SECONDS_MIN: Final = 0.5
AGAIN_SECONDS_MAX: Final = 5.0
# One that the venue refused, or that overtook its order, is worth another try at once.
REFUSED_SECONDS: Final = 0.02
POLL_SECONDS: Final = 0.05
FLATTEN_SECONDS_MAX: Final = 10.0


class Sweep:
    """Cancels for one kernel behind its guard; at most one `run` at a time."""

    def __init__(self, kernel: NautilusKernel, guard: Guard) -> None:
        self._kernel = kernel
        self._guard = guard
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._told = asyncio.Event()
        self._asked: dict[ClientOrderId, tuple[int, float]] = {}
        self._canceled: set[ClientOrderId] = set()
        guard.on_event = self._on_event

    async def run(self, action: Action) -> HaltAccount:
        """Cancel what `action` wants gone until it is; then close positions for `flatten`.

        Returns only when every such order is terminal and no command waits in a queue.
        """
        self._asked.clear()
        self._canceled.clear()
        await self.until_gone(self._guard.excess if action == "reduce" else self._live)
        if action == "flatten":
            await self._flatten()
        left = len(self._kernel.cache.positions_open())
        return HaltAccount(len(self._canceled), self._guard.refused, left)

    async def until_gone(
        self,
        wanted: Callable[[], Sequence[ClientOrderId]],
        has_settled: Callable[[], bool] = lambda: True,
    ) -> None:
        """Cancel until nothing is wanted gone any more, nothing waits in a queue, and it has
        settled otherwise, too."""
        while True:
            self._told.clear()
            orders = [o for each in wanted() if (o := self._order(each)) is not None]
            if not orders and self._is_drained() and has_settled():
                return
            now = self._loop.time()
            due = [self._cancel_when_due(order, now) for order in orders]
            pause = max(0.0, min([*due, now + POLL_SECONDS]) - now)
            try:
                async with asyncio.timeout(pause):
                    await self._told.wait()
            except TimeoutError:
                continue

    def _live(self) -> list[ClientOrderId]:
        return list(self._guard.live)

    def _order(self, order_id: ClientOrderId) -> Order | None:
        order = self._kernel.cache.order(order_id)
        return None if order is None or order.is_closed else order

    def _is_drained(self) -> bool:
        """Whether no command and no event waits in the engines' queues."""
        risk, execution = self._kernel.risk_engine, self._kernel.exec_engine
        return not (risk.cmd_qsize() or execution.cmd_qsize() or execution.evt_qsize())

    def _cancel_when_due(self, order: Order, now: float) -> float:
        """Ask for a cancel, if it is time; return when the next one is due."""
        times, due = self._asked.get(order.client_order_id, (0, 0.0))
        if now < due:
            return due
        self._guard.swept.add(order.client_order_id)
        self._cancel(order)
        due = now + min(AGAIN_SECONDS_MIN * 2**times, AGAIN_SECONDS_MAX)
        self._asked[order.client_order_id] = (times + 1, due)
        return due

    def _cancel(self, order: Order) -> None:
        """Send a cancel to who holds the order; what nobody holds any more ends here."""
        if order.is_emulated or order.emulation_trigger != TriggerType.NO_TRIGGER:
            endpoint = "OrderEmulator.execute"
        elif order.exec_algorithm_id is not None and order.is_active_local:
            endpoint = f"{order.exec_algorithm_id}.execute"
        elif order.is_active_local:
            # On its way through the queues, where the gates end it, or forgotten in the cache.
            if self._is_drained():
                self._guard.deny(order, Refusal(State.HALTED, self._guard.reason))
            return
        else:
            endpoint = "ExecEngine.execute"
        self._kernel.msgbus.send(
            endpoint,
            CancelOrder(
                trader_id=order.trader_id,
                strategy_id=order.strategy_id,
                instrument_id=order.instrument_id,
                client_order_id=order.client_order_id,
                venue_order_id=order.venue_order_id,
                command_id=UUID4(),
                ts_init=self._kernel.clock.timestamp_ns(),
            ),
        )

    def _on_event(self, event: OrderEvent) -> None:
        """Look again behind every event; it may come on the thread of Nautilus's timers."""
        if threading.get_ident() == self._thread_id:
            self._look_again(event)
        else:
            self._loop.call_soon_threadsafe(self._look_again, event)

    def _look_again(self, event: OrderEvent) -> None:
        asked = self._asked.get(event.client_order_id)
        if asked is not None and isinstance(event, OrderCanceled):
            self._canceled.add(event.client_order_id)
        elif asked is not None and isinstance(event, OrderAccepted):
            self._asked[event.client_order_id] = (asked[0], 0.0)
        elif asked is not None and isinstance(event, OrderCancelRejected):
            due = self._loop.time() + REFUSED_SECONDS * 2 ** min(asked[0], 8)
            self._asked[event.client_order_id] = (asked[0], due)
        self._told.set()

    async def _flatten(self) -> None:
        """Close every position, until all are closed or the time is up."""
        closing: dict[Any, ClientOrderId] = {}
        try:
            async with asyncio.timeout(FLATTEN_SECONDS_MAX):
                while positions := self._kernel.cache.positions_open():
                    self._told.clear()
                    for position in positions:
                        order_id = closing.get(position.id)
                        if order_id is None or self._order(order_id) is None:
                            closing[position.id] = self.close(position, "HALT_FLATTEN")
                    try:
                        async with asyncio.timeout(POLL_SECONDS):
                            await self._told.wait()
                    except TimeoutError:
                        continue
        except TimeoutError:
            log.error("halt.not_flat", positions=len(self._kernel.cache.positions_open()))

    def close(self, position: Position, tag: str) -> ClientOrderId:
        """Send a reduce-only market order for the whole position, past the closed gates."""
        kernel, guard = self._kernel, self._guard
        factory = OrderFactory(
            trader_id=kernel.trader_id,
            strategy_id=position.strategy_id,
            clock=kernel.clock,
            use_uuid_client_order_ids=True,
        )
        order = factory.market(
            position.instrument_id,
            OrderSide.SELL if position.is_long else OrderSide.BUY,
            position.quantity,
            # What finds no taker must not stay: in a sandbox it would for ever.
            time_in_force=TimeInForce.IOC,
            reduce_only=True,
            tags=[tag],
        )
        guard.let_pass(order.client_order_id)
        topic = f"events.order.{order.strategy_id}"
        kernel.msgbus.publish(topic=topic, msg=order.init_event)
        kernel.cache.add_order(order, position_id=position.id)
        kernel.msgbus.send(
            "ExecEngine.execute",
            SubmitOrder(
                trader_id=order.trader_id,
                strategy_id=order.strategy_id,
                order=order,
                position_id=position.id,
                command_id=UUID4(),
                ts_init=kernel.clock.timestamp_ns(),
            ),
        )
        return ClientOrderId(order.client_order_id.value)
