"""What an engine emits, written down by plain subscribers of its bus, with no code of the bridge.

They stand behind the tap: what they have written, a handler of the bridge had returned for. One
line an event, by one write with O_APPEND: it outlives a SIGKILL as the journal does.
"""

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from nautilus_trader.model.enums import PositionAdjustmentType
from nautilus_trader.model.events import OrderFilled, PositionAdjusted
from nautilus_trader.system.kernel import NautilusKernel

from tests.chaos.record import FIELDS

# Behind the tap (6), in front of strategies (0): one that submits in its handler emits again.
PRIORITY: Final = 5

type Told = Iterator[tuple[str, dict[str, str]]]
type Publish = Callable[[str, dict[str, str]], None]


class Recorder:
    """Appends each execution event of a kernel to the file `path`; `count` of them so far.

    `publish`, where it is given, gets each entry first: then it stands in the place of the tap.
    """

    def __init__(
        self, kernel: NautilusKernel, path: Path, *, publish: Publish | None = None
    ) -> None:
        self.count = 0
        self._publish = publish
        self._cache = kernel.cache
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._write({"life": os.getpid()})
        topics = {"order": self._order, "position": self._position, "account": self._account}
        for topic, told in topics.items():
            kernel.msgbus.subscribe(f"events.{topic}.*", self._handler(told), PRIORITY)

    def _handler(self, told: Callable[[Any], Told]) -> Callable[[Any], None]:
        def handle(event: Any) -> None:
            entries = []
            for kind, fields in told(event):
                if self._publish is not None:
                    self._publish(kind, fields)
                entries.append((kind, [fields[name] for name in FIELDS[kind]]))
            if entries:
                thread = threading.get_ident()
                self._write({"id": str(event.id), "thread": thread, "entries": entries})
                self.count += 1

        return handle

    def _write(self, line: dict[str, Any]) -> None:
        os.write(self._fd, json.dumps(line).encode() + b"\n")

    def _order(self, event: Any) -> Told:
        order = self._cache.order(event.client_order_id) or event
        name = type(event).__name__.removeprefix("Order")
        status = "".join([f"_{c.lower()}" if c.isupper() else c for c in name]).lstrip("_")
        common = {
            "event_id": str(event.id),
            "cl_ord_id": str(event.client_order_id),
            "venue_order_id": _text(event.venue_order_id),
            "account": _text(event.account_id),
            "symbol": str(event.instrument_id.symbol),
            "strategy_id": str(event.strategy_id),
            "trader_id": str(event.trader_id),
            "recon": str(int(event.reconciliation)),
            "ts_ns": str(event.ts_event),
        }
        if isinstance(event, OrderFilled):
            status = "partially_filled" if order.filled_qty < order.quantity else "filled"
            yield "fills", common | _fill(event)
        sides = {"side": order.side.name, "qty": str(order.quantity)}
        yield "orders", common | sides | {"status": status}

    def _position(self, event: Any) -> Told:
        common = {
            "account": str(event.account_id),
            "symbol": str(event.instrument_id.symbol),
            "ts_ns": str(event.ts_event),
        }
        if not isinstance(event, PositionAdjusted):
            yield (
                "positions",
                common
                | {
                    "status": type(event).__name__.removeprefix("Position").lower(),
                    "strategy_id": str(event.strategy_id),
                    "position_id": str(event.position_id),
                    "side": event.side.name,
                    "qty": str(event.quantity),
                    "realized_pnl": _amount(event.realized_pnl),
                },
            )
        elif event.adjustment_type == PositionAdjustmentType.FUNDING:
            change = event.pnl_change
            yield "exec_funding", common | {"amount": _amount(change), "ccy": change.currency.code}

    def _account(self, event: Any) -> Told:
        for balance in sorted(event.balances, key=lambda each: each.currency.code):
            yield (
                "account",
                {
                    "account": str(event.account_id),
                    "ccy": balance.currency.code,
                    "total": _amount(balance.total),
                    "free": _amount(balance.free),
                    "locked": _amount(balance.locked),
                    "ts_ns": str(event.ts_event),
                },
            )


def _fill(event: OrderFilled) -> dict[str, str]:
    return {
        "trade_id": str(event.trade_id),
        "side": "BUY" if event.is_buy else "SELL",
        "price": str(event.last_px),
        "qty": str(event.last_qty),
        "fee": _amount(event.commission),
        "fee_ccy": event.commission.currency.code,
        "liquidity": event.liquidity_side.name,
        "position_id": _text(event.position_id),
    }


def _text(identifier: Any) -> str:
    return "" if identifier is None else str(identifier)


def _amount(money: Any) -> str:
    return str(money).split()[0]
