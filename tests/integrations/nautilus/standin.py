"""A live execution client for tests: it counts what reaches it, and answers as it is told to."""

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

from nautilus_trader.common.providers import InstrumentProvider
from nautilus_trader.core.uuid import UUID4
from nautilus_trader.execution.reports import OrderStatusReport
from nautilus_trader.live.config import LiveExecClientConfig
from nautilus_trader.live.execution_client import LiveExecutionClient
from nautilus_trader.live.factories import LiveExecClientFactory
from nautilus_trader.model.enums import (
    AccountType,
    LiquiditySide,
    OmsType,
    OrderSide,
    OrderStatus,
    OrderType,
    TimeInForce,
)
from nautilus_trader.model.identifiers import (
    AccountId,
    ClientId,
    ClientOrderId,
    InstrumentId,
    TradeId,
    Venue,
    VenueOrderId,
)
from nautilus_trader.model.objects import AccountBalance, Money, Price, Quantity


class Standin(LiveExecutionClient):
    """Accepts and cancels at once, unless its switches say otherwise.

    With `holds_acks` nothing is accepted before `accept`, and a cancel of what was not accepted is
    rejected, as venues do. `cancel_rejections` is how many cancels it still rejects; with
    `holds_cancels` it does not answer them. With `fills_at` market orders fill at that price, or
    are canceled once there are no more `takers`. `before_sending` runs inside the coroutine of a
    submit.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, **parts: Any) -> None:
        super().__init__(
            loop=loop,
            client_id=ClientId(name),
            venue=Venue(name),
            oms_type=OmsType.NETTING,
            account_type=AccountType.MARGIN,
            base_currency=None,
            instrument_provider=InstrumentProvider(),
            **parts,
        )
        self._set_account_id(AccountId(f"{name}-001"))
        self.submits: list[Any] = []
        self.changes: list[Any] = []
        self.cancels: list[Any] = []
        self.holds_acks = False
        self.holds_cancels = False
        self.fills_at: str | None = None
        self.takers = -1
        self.cancel_rejections = 0
        self.before_sending: Callable[[], None] = lambda: None
        self.open: dict[ClientOrderId, Any] = {}
        self._trades = 0

    async def _connect(self) -> None:
        free, none = Money.from_str("1000000 USDT"), Money.from_str("0 USDT")
        balances = [AccountBalance(free, none, free)]
        self.generate_account_state(balances, [], True, self._now_ns())
        await self._await_account_registered()

    async def _disconnect(self) -> None:
        """Nothing to leave."""

    async def _submit_order(self, command: Any) -> None:
        self.before_sending()
        self._take(command.order)

    async def _submit_order_list(self, command: Any) -> None:
        for order in command.order_list.orders:
            self._take(order)

    async def _modify_order(self, command: Any) -> None:
        self.changes.append(command)
        if self.holds_acks:
            return
        order = self._cache.order(command.client_order_id)
        self.generate_order_updated(
            *(*_names(order), command.venue_order_id, command.quantity or order.quantity),
            *(command.price or order.price, None, self._now_ns()),
        )

    async def _cancel_order(self, command: Any) -> None:
        self.cancels.append(command)
        if self.holds_cancels:
            return
        names = (command.strategy_id, command.instrument_id, command.client_order_id)
        venue_order_id = self._venue_order_id(command.client_order_id)
        if self.cancel_rejections or command.client_order_id not in self.open:
            self.cancel_rejections = max(0, self.cancel_rejections - 1)
            self.generate_order_cancel_rejected(*names, venue_order_id, "no", self._now_ns())
            return
        del self.open[command.client_order_id]
        self.generate_order_canceled(*names, venue_order_id, self._now_ns())

    async def _cancel_all_orders(self, command: Any) -> None:
        """Nobody asks in tests."""

    # What the venue does by itself.

    def accept(self, order: Any) -> None:
        """Acknowledge an order."""
        self.open[order.client_order_id] = order
        self.generate_order_accepted(
            *_names(order), self._venue_order_id(order.client_order_id), self._now_ns()
        )

    def cancel(self, order: Any) -> None:
        """Cancel an order, as a venue does of one that must not rest."""
        venue_order_id = self._venue_order_id(order.client_order_id)
        self.generate_order_canceled(*_names(order), venue_order_id, self._now_ns())

    def reject(self, order: Any, reason: str) -> None:
        """Reject an order; Nautilus itself says UNKNOWN when its venue never answered."""
        self.generate_order_rejected(*_names(order), reason, self._now_ns())

    def fill(self, order: Any, qty: str, price: str) -> None:
        """Fill some of an order."""
        self._trades += 1
        instrument = self._cache.instrument(order.instrument_id)
        self.generate_order_filled(
            *(*_names(order), self._venue_order_id(order.client_order_id), None),
            *(TradeId(f"T-{self._trades}"), order.side, order.order_type),
            *(instrument.make_qty(qty), instrument.make_price(price), instrument.quote_currency),
            *(Money.from_str("0.01 USDT"), LiquiditySide.TAKER, self._now_ns()),
        )

    def report(self, instrument_id: InstrumentId, name: str, qty: str, price: str) -> None:
        """Report an open order, as a venue does of one that was entered elsewhere."""
        order_id = ClientOrderId(name)
        self._send_order_status_report(
            OrderStatusReport(
                account_id=self.account_id,
                instrument_id=instrument_id,
                client_order_id=order_id,
                venue_order_id=self._venue_order_id(order_id),
                order_side=OrderSide.BUY,
                order_type=OrderType.LIMIT,
                time_in_force=TimeInForce.GTC,
                order_status=OrderStatus.ACCEPTED,
                price=Price.from_str(price),
                quantity=Quantity.from_str(qty),
                filled_qty=Quantity.from_str("0.000"),
                report_id=UUID4(),
                ts_accepted=self._now_ns(),
                ts_last=self._now_ns(),
                ts_init=self._now_ns(),
            )
        )
        self.open[order_id] = None

    def _take(self, order: Any) -> None:
        self.submits.append(order.client_order_id)
        self.generate_order_submitted(*_names(order), self._now_ns())
        if self.holds_acks:
            return
        self.accept(order)
        if self.fills_at is not None and order.order_type == OrderType.MARKET:
            del self.open[order.client_order_id]
            if self.takers:
                self.takers -= 1
                self.fill(order, str(order.quantity), self.fills_at)
            else:
                self.cancel(order)

    def _venue_order_id(self, order_id: ClientOrderId) -> VenueOrderId:
        return VenueOrderId(f"V-{order_id}")

    def _now_ns(self) -> int:
        return int(self._clock.timestamp_ns())

    # What a node asks for at its start.

    async def generate_order_status_report(self, _: Any) -> None:
        """Return nothing: it knows of no order."""

    async def generate_order_status_reports(self, _: Any) -> list[Any]:
        """Return nothing: a new venue."""
        return []

    async def generate_fill_reports(self, _: Any) -> list[Any]:
        """Return nothing: a new venue."""
        return []

    async def generate_position_status_reports(self, _: Any) -> list[Any]:
        """Return nothing: a new venue."""
        return []


def _names(order: Any) -> tuple[Any, Any, Any]:
    return order.strategy_id, order.instrument_id, order.client_order_id


class Factory(LiveExecClientFactory):
    """Makes the clients; `made` holds the last one of each venue."""

    made: ClassVar[dict[str, Standin]] = {}

    @staticmethod
    def create(
        loop: asyncio.AbstractEventLoop, name: str, config: LiveExecClientConfig, **parts: Any
    ) -> Standin:
        """Return the client of one venue."""
        client = Standin(loop, name, config=config, **parts)
        Factory.made[name] = client
        return client
