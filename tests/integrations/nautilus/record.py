"""What an engine did, as told by plain subscribers of its bus; and what Redis holds."""

from collections.abc import Sequence
from typing import Any

from tests.integrations.nautilus.engines import PERP


class Record:
    """What plain subscribers of the bus saw, as fields that no code of the bridge has made.

    They stand in front of the tap, so they see the cache in the state in which the tap sees it.
    Of market data they keep what belongs to `PERP`.
    """

    def __init__(self, kernel: Any, *, venue: str = "BINANCE") -> None:
        self.by_kind: dict[str, list[dict[str, str]]] = {
            kind: [] for kind in ("orders", "fills", "positions", "account", "quotes", "trades")
        }
        self._cache = kernel.cache
        self._venue = venue
        for topic, handler in (
            ("events.order.*", self._order),
            ("events.position.*", self._position),
            ("events.account.*", self._account),
            ("data.quotes.*", self._quote),
            ("data.trades.*", self._trade),
        ):
            kernel.msgbus.subscribe(topic, handler, 7)

    def _order(self, event: Any) -> None:
        name = type(event).__name__.removeprefix("Order")
        status = "".join([f"_{c.lower()}" if c.isupper() else c for c in name]).lstrip("_")
        order = self._cache.order(event.client_order_id)
        if name == "Filled":
            if order.filled_qty != order.quantity:
                status = "partially_filled"
            self._fill(event)
        self.by_kind["orders"].append(
            {
                "status": status,
                "cl_ord_id": str(event.client_order_id),
                "symbol": str(event.instrument_id.symbol),
                "venue": self._venue,
                "qty": str((order or event).quantity),
                "filled_qty": str(order.filled_qty)
                if order
                else f"{0:.{event.quantity.precision}f}",
                "strategy_id": str(event.strategy_id),
                "event_id": str(event.id),
                "ts_ns": str(event.ts_event),
            }
        )

    def _fill(self, event: Any) -> None:
        amount, currency = str(event.commission).split()
        self.by_kind["fills"].append(
            {
                "cl_ord_id": str(event.client_order_id),
                "price": str(event.last_px),
                "qty": str(event.last_qty),
                "fee": amount,
                "fee_ccy": currency,
                "side": "BUY" if event.is_buy else "SELL",
                "trade_id": str(event.trade_id),
                "position_id": str(event.position_id),
                "event_id": str(event.id),
                "ts_ns": str(event.ts_event),
            }
        )

    def _position(self, event: Any) -> None:
        self.by_kind["positions"].append(
            {
                "status": type(event).__name__.removeprefix("Position").lower(),
                "position_id": str(event.position_id),
                "side": event.side.name,
                "qty": str(event.quantity),
                "realized_pnl": str(event.realized_pnl).split()[0],
                "ts_ns": str(event.ts_event),
            }
        )

    def _account(self, event: Any) -> None:
        for balance in event.balances:
            self.by_kind["account"].append(
                {
                    "account": str(event.account_id),
                    "ccy": balance.currency.code,
                    "total": str(balance.total).split()[0],
                    "free": str(balance.free).split()[0],
                    "locked": str(balance.locked).split()[0],
                    "ts_ns": str(event.ts_event),
                }
            )

    def _quote(self, tick: Any) -> None:
        if tick.instrument_id != PERP:
            return
        self.by_kind["quotes"].append(
            {
                "bid_px": str(tick.bid_price),
                "bid_sz": str(tick.bid_size),
                "ask_px": str(tick.ask_price),
                "ask_sz": str(tick.ask_size),
                "ts_ns": str(tick.ts_event),
                "venue": self._venue,
            }
        )

    def _trade(self, tick: Any) -> None:
        if tick.instrument_id != PERP:
            return
        self.by_kind["trades"].append(
            {
                "price": str(tick.price),
                "size": str(tick.size),
                "side": tick.aggressor_side.name,
                "trade_id": str(tick.trade_id),
                "ts_ns": str(tick.ts_event),
                "venue": self._venue,
            }
        )


def rows_of(client: Any, key: str) -> list[dict[str, str]]:
    """Return the fields of every entry of a stream, oldest first."""
    return [fields for _, fields in client.xrange(key)]


def same_fields(found: Sequence[dict[str, str]], expected: Sequence[dict[str, str]]) -> Any:
    """Return the rows of `found`, each reduced to the fields that `expected` knows."""
    names = expected[0] if expected else {}
    return [{name: row[name] for name in names} for row in found]
