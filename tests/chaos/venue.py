"""A stand-in for a venue that remembers: its orders and fills outlive the node that sent them.

After a restart it reports them again, as venues do. What it has done stands in a file, one JSON
line a change, before the node is told: a node that is killed in between learns of it at its start.
"""

import asyncio
import json
import os
import random
import time
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from nautilus_trader.common.providers import InstrumentProvider
from nautilus_trader.config import LiveExecClientConfig
from nautilus_trader.core.uuid import UUID4
from nautilus_trader.execution.reports import FillReport, OrderStatusReport
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
    TradeId,
    VenueOrderId,
)
from nautilus_trader.model.objects import AccountBalance, Money, Price, Quantity

from tests.chaos.generator import INSTRUMENT, VENUE, instrument

# How much of the past a venue reports.
REPORTED_ORDERS_MAX: Final = 200
DELAY_SECONDS_MAX: Final = 0.01


class VenueConfig(LiveExecClientConfig, frozen=True):
    """`path` is where the venue's memory is."""

    path: str = ""


class Book:
    """What the venue knows: orders by its own id, with their fills."""

    def __init__(self, path: Path) -> None:
        self.orders: dict[str, dict[str, Any]] = {}
        for line in path.read_text().splitlines() if path.exists() else []:
            order = json.loads(line)
            self.orders[order["id"]] = order
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def add(self, order: Any) -> dict[str, Any]:
        """Take an order; return what is kept of it."""
        kept = {
            "id": f"V-{len(self.orders) + 1}",
            "client": order.client_order_id.value,
            "side": order.side.name,
            "qty": str(order.quantity),
            "px": str(order.price),
            "status": "ACCEPTED",
            "fills": [],
        }
        self.orders[str(kept["id"])] = kept
        self.keep(kept)
        return kept

    def keep(self, order: dict[str, Any]) -> None:
        """Remember how an order stands now."""
        order["ts"] = time.time_ns()
        os.write(self._fd, json.dumps(order).encode() + b"\n")

    @property
    def latest(self) -> list[dict[str, Any]]:
        """The orders that are reported, oldest first."""
        return list(self.orders.values())[-REPORTED_ORDERS_MAX:]


class VenueClient(LiveExecutionClient):
    """Fills two orders of three, in two parts; one rests until it is canceled."""

    def __init__(self, loop: asyncio.AbstractEventLoop, config: VenueConfig, **parts: Any) -> None:
        super().__init__(
            loop=loop,
            client_id=ClientId(VENUE),
            venue=INSTRUMENT.venue,
            oms_type=OmsType.NETTING,
            account_type=AccountType.MARGIN,
            base_currency=None,
            instrument_provider=InstrumentProvider(),
            config=config,
            **parts,
        )
        self._chance = random.Random()
        self._book = Book(Path(config.path))
        self._set_account_id(AccountId(f"{VENUE}-001"))

    async def _connect(self) -> None:
        free = Money.from_str("1000000 USDT")
        none = Money.from_str("0 USDT")
        self.generate_account_state(
            [AccountBalance(free, none, free)], [], True, self._clock.timestamp_ns()
        )
        await self._await_account_registered()

    async def _disconnect(self) -> None:
        """Nothing to leave."""

    async def _submit_order(self, command: Any) -> None:
        order = command.order
        names = (order.strategy_id, order.instrument_id, order.client_order_id)
        self.generate_order_submitted(*names, self._clock.timestamp_ns())
        kept = self._book.add(order)
        await self._delay()
        self.generate_order_accepted(*names, VenueOrderId(kept["id"]), kept["ts"])
        if self._chance.random() < 2 / 3:
            half = Quantity(order.quantity.as_double() / 2, order.quantity.precision)
            for number, qty in enumerate((half, order.quantity - half), start=1):
                await self._fill(order, kept, number, qty)

    async def _fill(self, order: Any, kept: dict[str, Any], number: int, qty: Quantity) -> None:
        await self._delay()
        trade = f"{kept['id']}-{number}"
        fee = Money.from_str("0.01 USDT")
        kept["status"] = "FILLED" if number == 2 else "PARTIALLY_FILLED"
        kept["fills"].append([trade, str(qty), time.time_ns()])
        self._book.keep(kept)
        await self._delay()
        self.generate_order_filled(
            *(order.strategy_id, order.instrument_id, order.client_order_id),
            *(VenueOrderId(kept["id"]), None, TradeId(trade), order.side, OrderType.LIMIT),
            *(qty, order.price, instrument().quote_currency, fee, LiquiditySide.MAKER, kept["ts"]),
        )

    async def _cancel_order(self, command: Any) -> None:
        kept = self._book.orders[command.venue_order_id.value]
        if kept["status"] != "ACCEPTED":
            return
        kept["status"] = "CANCELED"
        self._book.keep(kept)
        await self._delay()
        self.generate_order_canceled(
            *(command.strategy_id, command.instrument_id, command.client_order_id),
            *(command.venue_order_id, kept["ts"]),
        )

    async def _delay(self) -> None:
        await asyncio.sleep(self._chance.uniform(0, DELAY_SECONDS_MAX))

    # What a node asks for at its start.

    async def generate_order_status_reports(self, _: Any) -> list[OrderStatusReport]:
        """Return the latest orders, however they ended."""
        return [self._report(kept) for kept in self._book.latest]

    async def generate_fill_reports(self, _: Any) -> list[FillReport]:
        """Return the fills of the latest orders, each time again."""
        latest = self._book.latest
        return [self._fill_report(kept, *fill) for kept in latest for fill in kept["fills"]]

    async def generate_position_status_reports(self, _: Any) -> list[Any]:
        """Return nothing: positions follow from the fills."""
        return []

    async def generate_order_status_report(self, _: Any) -> None:
        """Return nothing: nobody asks."""

    def _report(self, kept: dict[str, Any]) -> OrderStatusReport:
        filled = sum([Decimal(qty) for _, qty, _ in kept["fills"]])
        return OrderStatusReport(
            account_id=self.account_id,
            instrument_id=INSTRUMENT,
            client_order_id=ClientOrderId(kept["client"]),
            venue_order_id=VenueOrderId(kept["id"]),
            order_side=OrderSide[kept["side"]],
            order_type=OrderType.LIMIT,
            time_in_force=TimeInForce.GTC,
            order_status=OrderStatus[kept["status"]],
            price=Price.from_str(kept["px"]),
            quantity=Quantity.from_str(kept["qty"]),
            filled_qty=Quantity.from_str(f"{filled:.3f}"),
            avg_px=Price.from_str(kept["px"]).as_decimal() if kept["fills"] else None,
            report_id=UUID4(),
            ts_accepted=kept["ts"],
            ts_last=kept["ts"],
            ts_init=self._clock.timestamp_ns(),
        )

    def _fill_report(self, kept: dict[str, Any], trade: str, qty: str, ts_ns: int) -> FillReport:
        return FillReport(
            account_id=self.account_id,
            instrument_id=INSTRUMENT,
            client_order_id=ClientOrderId(kept["client"]),
            venue_order_id=VenueOrderId(kept["id"]),
            trade_id=TradeId(trade),
            order_side=OrderSide[kept["side"]],
            last_qty=Quantity.from_str(qty),
            last_px=Price.from_str(kept["px"]),
            commission=Money.from_str("0.01 USDT"),
            liquidity_side=LiquiditySide.MAKER,
            report_id=UUID4(),
            ts_event=ts_ns,
            ts_init=self._clock.timestamp_ns(),
        )


class VenueFactory(LiveExecClientFactory):
    """Makes the client."""

    @staticmethod
    def create(
        loop: asyncio.AbstractEventLoop, name: str, config: VenueConfig, **parts: Any
    ) -> VenueClient:
        """Return the client."""
        return VenueClient(loop, config, **parts)
