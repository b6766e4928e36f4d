"""A venue for whole daemons: it fills at the touch, takes spot fees in kind, and remembers.

What it owes stands in a file of its own, written before the node is told: it outlives a daemon that
is killed. Name `basis_carry_venue:Factory` of this folder as node.exec_client.
"""

import asyncio
import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from nautilus_trader.core.uuid import UUID4
from nautilus_trader.execution.reports import PositionStatusReport
from nautilus_trader.live.config import LiveExecClientConfig
from nautilus_trader.live.factories import LiveExecClientFactory
from nautilus_trader.model.currencies import Currency
from nautilus_trader.model.enums import LiquiditySide, PositionSide
from nautilus_trader.model.identifiers import InstrumentId, TradeId
from nautilus_trader.model.instruments import CurrencyPair
from nautilus_trader.model.objects import AccountBalance, Money, Quantity

from tests.integrations.nautilus.standin import Standin, _names

FOLDER: Final = "CARRY_VENUE"  # of the environment: where the memories are
SPOT_FEE: Final = Decimal("0.001")


class CarryVenue(Standin):
    """Fills every market order whole, at the best price that the node itself has seen."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, **parts: Any) -> None:
        super().__init__(loop, name, **parts)
        self._file = Path(os.environ[FOLDER], f"{name}.json")
        self._held = {"USDT": "1000000"}
        self._trades = 0
        if self._file.exists():
            self._held, self._trades = json.loads(self._file.read_text())

    async def _connect(self) -> None:
        self._tell_balances()
        await self._await_account_registered()

    def _take(self, order: Any) -> None:
        self.submits.append(order.client_order_id)
        self.generate_order_submitted(*_names(order), self._now_ns())
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
            self.reject(order, "Account has insufficient balance for requested action.")
            return
        self._add(order.instrument_id, signed)
        self._trades += 1
        self._file.write_text(json.dumps([self._held, self._trades]))
        venue_order_id = self._venue_order_id(order.client_order_id)
        self.generate_order_accepted(*_names(order), venue_order_id, self._now_ns())
        self.generate_order_filled(
            *(*_names(order), venue_order_id, None, TradeId(f"{self._trades}")),
            *(order.side, order.order_type, order.quantity, price, instrument.quote_currency),
            *(fee, LiquiditySide.TAKER, self._now_ns()),
        )
        self._tell_balances()

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
