"""How trading is ended: cancel until every order is terminal, then, where wanted, flatten."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Final

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
from nautilus_trader.model.identifiers import ClientOrderId, PositionId
from nautilus_trader.model.orders import Order
from nautilus_trader.model.position import Position
from nautilus_trader.system.kernel import NautilusKernel

from bridge.core.control import State
from bridge.core.limits import Refusal
from bridge.source import Action, HaltAccount
from integrations.nautilus.guard import DENIABLE, Guard

log = structlog.get_logger("nautilus_bridge.halt")

# A cancel that nothing came of is sent again behind the first pause, then behind longer ones.
AGAIN_SECONDS_MIN: Final = 0.5
AGAIN_SECONDS_MAX: Final = 5.0
# One that the venue refused, or that overtook its order, is worth another try at once.
REFUSED_SECONDS: Final = 0.02
POLL_SECONDS: Final = 0.05
# On its way from one queue to the next a message is in none of them for up to two turns of the
# loop: for so many they must have been empty.
QUIET_TURNS: Final = 4
TURN_SECONDS: Final = 0.001
# How long an order that closes a position may take before it is canceled and sent again.
CLOSING_SECONDS: Final = 0.5
FLATTEN_SECONDS_MAX: Final = 10.0


class Sweep:
    """Cancels for one kernel behind its guard; at most one `run` at a time.

    What a `run` was for stays so until the state changes: an order that turns up later goes, too.
    """

    def __init__(self, kernel: NautilusKernel, guard: Guard) -> None:
        self._kernel = kernel
        self._guard = guard
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._told = asyncio.Event()
        self._asked: dict[ClientOrderId, tuple[int, float]] = {}
        self._canceled: set[ClientOrderId] = set()
        # What the last `run` wanted gone, and in which state.
        self._kept: tuple[State, Callable[[], Sequence[ClientOrderId]]] | None = None
        self._late: asyncio.Task[None] | None = None
        self._closing: dict[PositionId, tuple[ClientOrderId, float]] = {}
        guard.on_event = self._on_event

    async def run(self, action: Action) -> HaltAccount:
        """Cancel what `action` wants gone until it is; then close positions for `flatten`.

        Returns only when every such order is terminal and no command waits in a queue.
        """
        self.stop()
        self._asked.clear()
        self._canceled.clear()
        wanted = self._guard.out.excess if action == "reduce" else self._live
        await self.until_gone(wanted)
        if action == "flatten":
            await self._flatten()
            await self.until_gone(wanted)
        self._kept = (self._guard.state, wanted)
        left = len(self._kernel.cache.positions_open())
        return HaltAccount(len(self._canceled), self._guard.refused, left)

    def stop(self) -> None:
        """Cancel nothing more by itself."""
        self._kept = None
        if self._late is not None:
            self._late.cancel()

    def _wanted_late(self) -> Sequence[ClientOrderId]:
        """Return what turned up behind the last sweep, while the state is still the same."""
        if self._kept is None or self._kept[0] is not self._guard.state:
            return ()
        return self._kept[1]()

    async def until_gone(
        self,
        wanted: Callable[[], Sequence[ClientOrderId]],
        has_settled: Callable[[], bool] = lambda: True,
    ) -> None:
        """Cancel until nothing is wanted gone any more, nothing waits in a queue, and it has
        settled otherwise, too."""
        quiet = 0
        while True:
            self._told.clear()
            orders = [o for each in wanted() if (o := self._order(each)) is not None]
            quiet = quiet + 1 if self._is_drained() else 0
            is_quiet = quiet > QUIET_TURNS
            if is_quiet and not orders and has_settled():
                return
            now = self._loop.time()
            due = [self._cancel_when_due(order, now, is_quiet=is_quiet) for order in orders]
            if not is_quiet:
                await asyncio.sleep(0 if quiet else TURN_SECONDS)
                continue
            try:
                async with asyncio.timeout(min([*due, now + POLL_SECONDS]) - now):
                    await self._told.wait()
            except TimeoutError:
                continue

    def _live(self) -> list[ClientOrderId]:
        return list(self._guard.out.live)

    def _order(self, order_id: ClientOrderId) -> Order | None:
        order = self._kernel.cache.order(order_id)
        return order if order is not None and self._guard.out.is_live(order) else None

    def _is_drained(self) -> bool:
        """Whether no command and no event waits in the engines' queues."""
        risk, execution = self._kernel.risk_engine, self._kernel.exec_engine
        return not (risk.cmd_qsize() or execution.cmd_qsize() or execution.evt_qsize())

    def _cancel_when_due(self, order: Order, now: float, *, is_quiet: bool) -> float:
        """Ask for a cancel, if it is time; return when the next one is due."""
        times, due = self._asked.get(order.client_order_id, (0, 0.0))
        if now < due:
            return due
        holder = self._holder(order, asked=times > 0)
        if holder is None:
            # On its way through the queues, where the gates end it, or forgotten in the cache.
            if is_quiet:
                self._guard.deny(order, self._why())
            return now + POLL_SECONDS
        due = now + min(AGAIN_SECONDS_MIN * 2**times, AGAIN_SECONDS_MAX)
        self._guard.swept.add(order.client_order_id)
        self._asked[order.client_order_id] = (times + 1, due)
        self._cancel(order, holder)  # an algorithm answers at once
        return due

    def _holder(self, order: Order, *, asked: bool) -> str | None:
        """Return the endpoint of who holds the order, None for one that nobody holds."""
        if order.client_order_id in self._guard.sent or not order.is_active_local:
            return "ExecEngine.execute"
        if asked and order.status in DENIABLE:
            return None  # whoever should have it did not answer
        if order.is_emulated or order.emulation_trigger != TriggerType.NO_TRIGGER:
            return "OrderEmulator.execute"
        return None if order.exec_algorithm_id is None else f"{order.exec_algorithm_id}.execute"

    def _why(self) -> Refusal:
        """Return why an order that has not left ends here."""
        guard = self._guard
        if guard.state is State.ACTIVE:
            return Refusal(State.DISABLED, "the bridge stops")
        return Refusal(guard.state, guard.reason)

    def _cancel(self, order: Order, endpoint: str) -> None:
        self._kernel.msgbus.send(
            endpoint,
            CancelOrder(
                trader_id=order.trader_id,
                strategy_id=order.strategy_id,
                instrument_id=order.instrument_id,
                client_order_id=order.client_order_id,
                venue_order_id=order.venue_order_id
                or self._guard.out.revived.get(order.client_order_id),
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
        if self._wanted_late() and (self._late is None or self._late.done()):
            self._late = self._loop.create_task(self.until_gone(self._wanted_late))

    async def _flatten(self) -> None:
        """Close every position, until all are closed or the time is up."""
        try:
            async with asyncio.timeout(FLATTEN_SECONDS_MAX):
                while positions := self._kernel.cache.positions_open():
                    for position in positions:
                        self.close(position, "HALT_FLATTEN")
                    # Not at every event: one that finds no taker would be sent again at once.
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            log.error("halt.not_flat", positions=len(self._kernel.cache.positions_open()))

    def close(self, position: Position, tag: str) -> bool:
        """Close a position past the closed gates, unless an order of ours is at it; return whether
        one was sent. What has not ended in time is canceled, and sent again at the next call."""
        now = self._loop.time()
        order_id, since = self._closing.get(position.id, (None, now))
        order = None if order_id is None else self._order(order_id)
        if order is None:
            self._closing[position.id] = (self._send_closing(position, tag), now)
        elif now - since > CLOSING_SECONDS:
            self._closing[position.id] = (order.client_order_id, now)
            self._cancel(order, "ExecEngine.execute")
        return order is None

    def _send_closing(self, position: Position, tag: str) -> ClientOrderId:
        """Send a reduce-only market order for the whole position."""
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
            # What finds no taker must not stay.
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
