"""Nautilus execution events -> contract entries.

Runs in the tap's handler, when cache and portfolio already know the event.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Final

from nautilus_trader.cache.cache import Cache
from nautilus_trader.model.enums import (
    OrderSide,
    PositionAdjustmentType,
    order_side_to_str,
    order_type_to_str,
    time_in_force_to_str,
)
from nautilus_trader.model.events import (
    AccountState,
    OrderAccepted,
    OrderCanceled,
    OrderCancelRejected,
    OrderDenied,
    OrderEmulated,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderInitialized,
    OrderModifyRejected,
    OrderPendingCancel,
    OrderPendingUpdate,
    OrderRejected,
    OrderReleased,
    OrderSubmitted,
    OrderTriggered,
    OrderUpdated,
    PositionAdjusted,
    PositionEvent,
)
from nautilus_trader.model.identifiers import AccountId, ClientOrderId, TradeId
from nautilus_trader.model.objects import Money, Quantity

from bridge.core import contract
from bridge.core.contract import Entry
from bridge.core.lanes import Refused
from integrations.nautilus.fills import Fills
from integrations.nautilus.positions import Positions
from integrations.nautilus.values import exactly, flag, money, place, plain, text, value

STATUS_OF: Final[Mapping[type[OrderEvent], str]] = {
    OrderInitialized: "initialized",
    OrderDenied: "denied",
    OrderEmulated: "emulated",
    OrderReleased: "released",
    OrderSubmitted: "submitted",
    OrderAccepted: "accepted",
    OrderRejected: "rejected",
    OrderCanceled: "canceled",
    OrderExpired: "expired",
    OrderTriggered: "triggered",
    OrderPendingUpdate: "pending_update",
    OrderPendingCancel: "pending_cancel",
    OrderModifyRejected: "modify_rejected",
    OrderCancelRejected: "cancel_rejected",
    OrderUpdated: "updated",
}


# A second report of one of these says nothing new. An order filled is told of by its fill.
ENDS: Final = ("rejected", "canceled", "expired")


class Translator:
    """Turns execution events into entries.

    `run_of(account)` returns the run's id where an account is simulated, else the empty string:
    simulated trade ids repeat from run to run. `swept` are the orders that the bridge cancels.
    """

    def __init__(
        self,
        cache: Cache,
        *,
        venue_alias: Mapping[str, str],
        run_of: Callable[[AccountId], str],
        swept: Container[ClientOrderId] = (),
    ) -> None:
        self._cache = cache
        self._swept = swept
        self._venue_alias = venue_alias
        self._run_of = run_of
        self._fills = Fills(cache, venue_alias=venue_alias, run_of=run_of)
        self._positions = Positions(cache, venue_alias=venue_alias)
        # Fills that an order did not take, because it was rejected or had expired before.
        self._late: dict[ClientOrderId, dict[TradeId, Quantity]] = {}

    def reset(self) -> None:
        """Forget the orders and positions of a run that is over."""
        self._late.clear()
        self._positions.reset()

    @exactly
    def order(self, event: OrderEvent) -> Sequence[Entry]:
        """Return the entries of an order event: one of `orders`, for a fill one of `fills` first.

        Raises Refused for a class the contract does not know.
        """
        if isinstance(event, OrderInitialized):
            return (self._order(event, "initialized", event),)
        order = self._cache.order(event.client_order_id)
        if isinstance(event, OrderFilled):
            status = self._status_of_fill(event, order)
            fill = self._fills.entry(event)
            fill_id = fill.values[0]
            return (fill, self._order(event, status, order, once=f"order|{fill_id}"))
        known = STATUS_OF.get(type(event))
        if known is None:
            raise Refused("unknown", f"order event of unknown class {type(event).__name__}")
        once = self._end_of(event) if known in ENDS else ""
        return (self._order(event, known, order, once=once),)

    @exactly
    def position(self, event: PositionEvent | PositionAdjusted) -> Sequence[Entry]:
        """Return the entry of a position event; an adjustment counts only when it is funding.

        Raises Refused for a class the contract does not know.
        """
        if isinstance(event, PositionAdjusted):
            is_funding = event.adjustment_type == PositionAdjustmentType.FUNDING
            return (self._funding(event),) if is_funding else ()
        return (self._positions.entry(event),)

    @exactly
    def account(self, event: AccountState) -> Sequence[Entry]:
        """Return one entry a currency, with the margins of that currency summed."""
        balances = {balance.currency.code: balance for balance in event.balances}
        initial, maintenance = _margins(event, "initial"), _margins(event, "maintenance")
        entries = []
        for code in sorted({*balances, *initial}):
            balance = balances.get(code)
            entries.append(
                contract.entry(
                    "account",
                    {
                        "account": event.account_id.value,
                        "ccy": code,
                        "total": "" if balance is None else money(balance.total),
                        "free": "" if balance is None else money(balance.free),
                        "locked": "" if balance is None else money(balance.locked),
                        "margin_init": initial.get(code, "0"),
                        "margin_maint": maintenance.get(code, "0"),
                        "ts_ns": str(event.ts_event),
                    },
                )
            )
        return entries

    def _end_of(self, event: OrderEvent) -> str:
        """Return what tells this end of an order from any other, empty when it may come again.

        A client's order id alone does not: a backtest gives the same ones in every run. A submit
        whose outcome is unknown is no end.
        """
        if event.account_id is None or getattr(event, "reason", None) == "UNKNOWN":
            return ""
        order_id = value(event.venue_order_id) or event.client_order_id.value
        where = (event.account_id.value, event.instrument_id.value, self._run_of(event.account_id))
        return "|".join([STATUS_OF[type(event)], *where, order_id])

    def _order(self, event: OrderEvent, status: str, order: Any, *, once: str = "") -> Entry:
        return contract.entry(
            "orders",
            {
                "status": status,
                **place(event.instrument_id, self._venue_alias),
                "cl_ord_id": event.client_order_id.value,
                **self._terms(event, order),
                "ts_ns": str(event.ts_event),
                "reason": self._reason(event, order),
                "account": value(event.account_id),
                "venue_order_id": value(event.venue_order_id),
                "strategy_id": event.strategy_id.value,
                "trader_id": event.trader_id.value,
                "recon": flag(event.reconciliation),
                "event_id": event.id.value,
            },
            once=once,
        )

    def _reason(self, event: OrderEvent, order: Any) -> str:
        """Return why: the event's own words, or the cause of a cancel as far as it is known."""
        if isinstance(event, OrderCanceled):
            is_swept = event.client_order_id in self._swept
            return "halt" if is_swept else _cause_of_cancel(event, order)
        reason = getattr(event, "reason", None) or ""
        return "unknown" if reason == "UNKNOWN" else reason

    def _terms(self, event: OrderEvent, order: Any) -> dict[str, str]:
        """Return side, qty, tif, order_type, price, filled_qty, as far as they are known."""
        if order is None:
            terms = dict.fromkeys(("side", "qty", "tif", "order_type", "price", "filled_qty"), "")
            if isinstance(event, OrderFilled):
                terms["side"] = order_side_to_str(event.order_side)
                terms["order_type"] = order_type_to_str(event.order_type)
            return terms
        if order is event:  # OrderInitialized: the cache does not know the order yet
            price = order.options.get("price") or ""
            filled = Quantity.zero(order.quantity.precision)
        else:
            price = text(order.price) if order.has_price and order.price is not None else ""
            filled = self._filled_qty(order)
        return {
            "side": order_side_to_str(order.side) if order.side != OrderSide.NO_ORDER_SIDE else "",
            "qty": text(order.quantity),
            "tif": time_in_force_to_str(order.time_in_force),
            "order_type": order_type_to_str(order.order_type),
            "price": price,
            "filled_qty": text(filled),
        }

    def _status_of_fill(self, event: OrderFilled, order: Any) -> str:
        """Return how far the order is; a fill without an order, a spread's leg, is all of it."""
        if order is None:
            return "filled"
        if not any(taken is event for taken in reversed(order.events)):
            self._late.setdefault(order.client_order_id, {})[event.trade_id] = event.last_qty
        return "filled" if self._filled_qty(order) >= order.quantity else "partially_filled"

    def _filled_qty(self, order: Any) -> Quantity:
        late = self._late.get(order.client_order_id, {})
        return sum(late.values(), start=order.filled_qty)

    def _funding(self, event: PositionAdjusted) -> Entry:
        update = self._cache.funding_rate(event.instrument_id)
        booked = update is not None and update.ts_event == event.ts_event
        return contract.entry(
            "exec_funding",
            {
                "account": event.account_id.value,
                **place(event.instrument_id, self._venue_alias),
                "amount": money(event.pnl_change),
                "ccy": event.pnl_change.currency.code,
                "rate": plain(update.rate) if booked else "",
                "ts_ns": str(event.ts_event),
            },
        )


def _cause_of_cancel(event: OrderCanceled, order: Any) -> str:
    """Return `requested` or `venue`; OrderCanceled itself does not tell."""
    for earlier in reversed(order.events if order is not None else []):
        if isinstance(earlier, OrderPendingCancel):
            return "requested"
        if isinstance(earlier, OrderCancelRejected):
            return "venue"
    # An emulated order, or an algorithm's, that never left is canceled here or not at all.
    never_left = order is not None and order.account_id is None and event.venue_order_id is None
    return "requested" if never_left else "venue"


def _margins(event: AccountState, name: str) -> dict[str, str]:
    totals: dict[str, Money] = {}
    for margin in event.margins:
        amount = getattr(margin, name)
        code = amount.currency.code
        totals[code] = totals[code] + amount if code in totals else amount
    return {code: money(total) for code, total in totals.items()}
