"""A venue for whole daemons: it fills at the touch, takes spot fees in kind, and remembers.

What it owes and what it has filled stands in files of its own, written before the node is told: it
outlives a daemon that is killed. Name `basis_carry_venue:Factory` of this folder as
node.exec_client. A file `<venue>.hangs` in its folder has it hang at the next order: in front of it
when the file says "unsent", with the order filled and the node not told when it says "untold".
"""

import asyncio
import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from nautilus_trader.core.uuid import UUID4
from nautilus_trader.execution.reports import (
    FillReport,
    OrderStatusReport,
    PositionStatusReport,
)
from nautilus_trader.live.config import LiveExecClientConfig
from nautilus_trader.live.factories import LiveExecClientFactory
from nautilus_trader.model.currencies import Currency
from nautilus_trader.model.enums import (
    LiquiditySide,
    OrderSide,
    OrderStatus,
    OrderType,
    PositionSide,
    TimeInForce,
)
from nautilus_trader.model.identifiers import ClientOrderId, InstrumentId, TradeId
from nautilus_trader.model.instruments import CurrencyPair
from nautilus_trader.model.objects import AccountBalance, Money, Price, Quantity

from tests.integrations.nautilus.standin import Standin, _names

FOLDER: Final = "CARRY_VENUE"  # of the environment: where the memories are
SPOT_FEE: Final = Decimal("0.001")


class CarryVenue(Standin):
    """Fills every market order whole, at the best price that the node itself has seen."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, **parts: Any) -> None:
        super().__init__(loop, name, **parts)
        self._file = Path(os.environ[FOLDER], f"{name}.json")
        self._hangs = self._file.with_suffix(".hangs")
        self._held = {"USDT": "1000000"}
        self._filled: list[dict[str, str]] = []
        if self._file.exists():
            self._held, self._filled = json.loads(self._file.read_text())

    async def _connect(self) -> None:
        self._tell_balances()
        await self._await_account_registered()

    async def _submit_order(self, command: Any) -> None:
        order = command.order
        if not self._hangs.exists():
            self.generate_order_submitted(*_names(order), self._now_ns())
            self._take(order)
            return
        if self._hangs.read_text() == "untold":
            self._fill(order)
        await asyncio.Event().wait()

    def _take(self, order: Any) -> None:
        fill = self._fill(order)
        if fill is None:
            self.reject(order, "Account has insufficient balance for requested action.")
            return
        venue_order_id = self._venue_order_id(order.client_order_id)
        self.generate_order_accepted(*_names(order), venue_order_id, self._now_ns())
        self.generate_order_filled(
            *(*_names(order), venue_order_id, None, TradeId(fill["trade"]), order.side),
            *(order.order_type, order.quantity, Price.from_str(fill["price"])),
            *(self._cache.instrument(order.instrument_id).quote_currency,),
            *(Money.from_str(fill["fee"]), LiquiditySide.TAKER, self._now_ns()),
        )
        self._tell_balances()

    def _fill(self, order: Any) -> dict[str, str] | None:
        """Fill an order and write it down; None when there is not enough to be sold."""
        quote = self._cache.quote_tick(order.instrument_id)
        instrument = self._cache.instrument(order.instrument_id)
        price = quote.ask_price if order.is_buy else quote.bid_price
        signed = order.quantity.as_decimal() * (1 if order.is_buy else -1)
        fee = Money.from_str("0.00000000 USDT")
        if isinstance(instrument, CurrencyPair) and order.is_buy:
            amount = (signed * SPOT_FEE).quantize(Decimal("1e-8"))
            fee = Money.from_str(f"{amount} {instrument.base_currency}")
            signed -= amount
        elif isinstance(instrument, CurrencyPair) and -signed > self._holds(order.instrument_id):
            return None
        self._add(order.instrument_id, signed)
        fill = {
            "instrument": str(order.instrument_id),
            "order": str(order.client_order_id),
            "trade": f"{len(self._filled) + 1}",
            "side": order.side_string(),
            "qty": str(order.quantity),
            "price": str(price),
            "fee": str(fee),
            "ts_ns": str(self._now_ns()),
        }
        self._filled.append(fill)
        whole = self._file.with_suffix(".new")
        whole.write_text(json.dumps([self._held, self._filled]))
        whole.replace(self._file)
        return fill

    def _holds(self, instrument_id: InstrumentId) -> Decimal:
        return Decimal(self._held.get(self._key(instrument_id), "0"))

    def _add(self, instrument_id: InstrumentId, signed: Decimal) -> None:
        self._held[self._key(instrument_id)] = str(self._holds(instrument_id) + signed)

    def _key(self, instrument_id: InstrumentId) -> str:
        """Return what is held by: a currency on the spot market, else the instrument."""
        instrument = self._cache.instrument(instrument_id)
        is_spot = isinstance(instrument, CurrencyPair)
        return str(instrument.base_currency if is_spot else instrument_id)

    def _tell_balances(self) -> None:
        held = {key: amount for key, amount in self._held.items() if "." not in key}
        balances = [
            AccountBalance(
                Money.from_str(f"{amount} {key}"),
                Money(0, Currency.from_str(key)),
                Money.from_str(f"{amount} {key}"),
            )
            for key, amount in held.items()
        ]
        self.generate_account_state(balances, [], True, self._now_ns())

    async def generate_order_status_reports(self, _: Any) -> list[Any]:
        """Return all orders: each is filled."""
        return [
            OrderStatusReport(
                **self._names_of(fill),
                order_side=OrderSide[fill["side"]],
                order_type=OrderType.MARKET,
                time_in_force=TimeInForce.IOC,
                order_status=OrderStatus.FILLED,
                quantity=Quantity.from_str(fill["qty"]),
                filled_qty=Quantity.from_str(fill["qty"]),
                avg_px=Decimal(fill["price"]),
                ts_accepted=int(fill["ts_ns"]),
                ts_last=int(fill["ts_ns"]),
            )
            for fill in self._filled
        ]

    async def generate_fill_reports(self, _: Any) -> list[Any]:
        """Return all fills."""
        return [
            FillReport(
                **self._names_of(fill),
                trade_id=TradeId(fill["trade"]),
                order_side=OrderSide[fill["side"]],
                last_qty=Quantity.from_str(fill["qty"]),
                last_px=Price.from_str(fill["price"]),
                commission=Money.from_str(fill["fee"]),
                liquidity_side=LiquiditySide.TAKER,
                ts_event=int(fill["ts_ns"]),
            )
            for fill in self._filled
        ]

    def _names_of(self, fill: dict[str, str]) -> dict[str, Any]:
        order_id = ClientOrderId(fill["order"])
        return {
            "account_id": self.account_id,
            "instrument_id": InstrumentId.from_str(fill["instrument"]),
            "client_order_id": order_id,
            "venue_order_id": self._venue_order_id(order_id),
            "report_id": UUID4(),
            "ts_init": self._now_ns(),
        }

    async def generate_position_status_reports(self, _: Any) -> list[Any]:
        """Return what is held of perpetuals."""
        held = {key: Decimal(amount) for key, amount in self._held.items() if "." in key}
        return [
            PositionStatusReport(
                account_id=self.account_id,
                instrument_id=InstrumentId.from_str(key),
                position_side=PositionSide.SHORT if amount < 0 else PositionSide.LONG,
                quantity=Quantity.from_str(str(abs(amount))),
                report_id=UUID4(),
                ts_last=self._now_ns(),
                ts_init=self._now_ns(),
            )
            for key, amount in held.items()
            if amount
        ]


class Factory(LiveExecClientFactory):
    """Makes the clients."""

    @staticmethod
    def create(
        loop: asyncio.AbstractEventLoop, name: str, config: LiveExecClientConfig, **parts: Any
    ) -> CarryVenue:
        """Return the client of one venue."""
        return CarryVenue(loop, name, config=config, **parts)
