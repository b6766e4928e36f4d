"""Nautilus execution events -> contract entries.

Runs in the tap's handler, when cache and portfolio already know the event. Everything exact:
`str` of prices and quantities, decimals of money; the only floats of Nautilus that are near,
average prices, are computed again from the fills.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import Any, Final, NamedTuple

from nautilus_trader.cache.cache import Cache
from nautilus_trader.model.currencies import Currency
from nautilus_trader.model.enums import (
    OrderSide,
    PositionAdjustmentType,
    liquidity_side_to_str,
    order_side_to_str,
    order_type_to_str,
    position_side_to_str,
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
    PositionChanged,
    PositionClosed,
    PositionEvent,
    PositionOpened,
)
from nautilus_trader.model.identifiers import AccountId, InstrumentId, PositionId
from nautilus_trader.model.instruments import Instrument
from nautilus_trader.model.objects import Money

from bridge.core import contract
from bridge.core.contract import Entry
from bridge.core.lanes import Refused
from integrations.nautilus.market import plain

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

POSITION_STATUS_OF: Final[Mapping[type[PositionEvent], str]] = {
    PositionOpened: "opened",
    PositionChanged: "changed",
    PositionClosed: "closed",
}

# Shapes of trade ids that Nautilus makes up in reconciliation: a UUID of version 5 for a fill
# inferred from an order report, S-<hex>-<hex> for one that squares a position window.
INVENTED_TRADE_ID: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}|S-[0-9a-fA-F]+-[0-9a-fA-F]+"
)

# Prices and money of Nautilus have up to 30 digits each: Python's default of 28 would round.
EXACT: Final = Context(prec=80)

# Digits behind the tick's own that an average price keeps.
AVERAGE_DIGITS: Final = 8


def exactly[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """Run `function` in a decimal context that never rounds a product of ours."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with localcontext(EXACT):
            return function(*args, **kwargs)

    return wrapper


class Average(NamedTuple):
    """An open quantity, unsigned, and its volume-weighted open price."""

    qty: Decimal
    price: Decimal


class Translator:
    """Turns execution events into entries; remembers open averages and who prices a fee.

    `run_of(account)` returns the run's id where an account is simulated, else the empty string:
    simulated trade ids repeat from run to run.
    """

    def __init__(
        self,
        cache: Cache,
        *,
        venue_alias: Mapping[str, str],
        run_of: Callable[[AccountId], str],
    ) -> None:
        self._cache = cache
        self._venue_alias = venue_alias
        self._run_of = run_of
        self._averages: dict[PositionId, Average] = {}
        self._pricing: dict[tuple[str, str], InstrumentId] = {}

    @exactly
    def order(self, event: OrderEvent) -> Sequence[Entry]:
        """Return the entries of an order event: one of `orders`, for a fill one of `fills` first.

        Raises Refused for a class the contract does not know.
        """
        if isinstance(event, OrderFilled):
            return (self._fill(event), self._order(event, self._status_of_fill(event)))
        status = STATUS_OF.get(type(event))
        if status is None:
            raise Refused("unknown", f"order event of unknown class {type(event).__name__}")
        return (self._order(event, status),)

    @exactly
    def position(self, event: PositionEvent | PositionAdjusted) -> Sequence[Entry]:
        """Return the entry of a position event; an adjustment counts only when it is funding.

        Raises Refused for a class the contract does not know.
        """
        if isinstance(event, PositionAdjusted):
            is_funding = event.adjustment_type == PositionAdjustmentType.FUNDING
            return (self._funding(event),) if is_funding else ()
        status = POSITION_STATUS_OF.get(type(event))
        if status is None:
            raise Refused("unknown", f"position event of unknown class {type(event).__name__}")
        return (self._position(event, status),)

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

    def _order(self, event: OrderEvent, status: str) -> Entry:
        order = event if isinstance(event, OrderInitialized) else self._order_of(event)
        return contract.entry(
            "orders",
            {
                "status": status,
                **self._place(event.instrument_id),
                "cl_ord_id": event.client_order_id.value,
                **_terms(order),
                "ts_ns": str(event.ts_event),
                "reason": _reason(event, order),
                "account": _value(event.account_id),
                "venue_order_id": _value(event.venue_order_id),
                "strategy_id": event.strategy_id.value,
                "trader_id": event.trader_id.value,
                "recon": _flag(event.reconciliation),
                "event_id": event.id.value,
            },
        )

    def _order_of(self, event: OrderEvent) -> Any:
        return self._cache.order(event.client_order_id)

    def _status_of_fill(self, event: OrderFilled) -> str:
        order = self._order_of(event)
        return "filled" if order is None or not order.leaves_qty else "partially_filled"

    def _fill(self, event: OrderFilled) -> Entry:
        instrument = self._cache.instrument(event.instrument_id)
        fee = event.commission
        return contract.entry(
            "fills",
            {
                "fill_id": self._fill_id(event),
                "cl_ord_id": event.client_order_id.value,
                "price": str(event.last_px),
                "qty": str(event.last_qty),
                "fee": money(fee),
                **self._place(event.instrument_id),
                "ts_ns": str(event.ts_event),
                "account": event.account_id.value,
                "side": order_side_to_str(event.order_side),
                **_terms_of_instrument(instrument),
                "quote_ccy": event.currency.code,
                "fee_ccy": fee.currency.code,
                "fee_quote": self._fee_quote(event, instrument),
                "liquidity": liquidity_side_to_str(event.liquidity_side),
                "trade_id": event.trade_id.value,
                "venue_order_id": _value(event.venue_order_id),
                "position_id": _value(event.position_id),
                "strategy_id": event.strategy_id.value,
                "trader_id": event.trader_id.value,
                "provisional": _flag(is_invented(event)),
                "recon": _flag(event.reconciliation),
                "event_id": event.id.value,
            },
        )

    def _fill_id(self, event: OrderFilled) -> str:
        parts = [
            event.account_id.value,
            event.instrument_id.value,
            _value(event.venue_order_id) or event.client_order_id.value,
            order_side_to_str(event.order_side),
            event.trade_id.value,
        ]
        run = self._run_of(event.account_id)
        if run:
            parts.append(run)
        return "|".join([part.replace("|", "%7C") for part in parts])

    def _fee_quote(self, event: OrderFilled, instrument: Instrument | None) -> str:
        """Return the fee in quote currency, empty when there is no price for its currency."""
        fee, quote = event.commission, event.currency
        if fee.currency == quote:
            return money(fee)
        if not fee.raw:
            return "0"
        if instrument is not None and instrument.get_base_currency() == fee.currency:
            return plain(exact(fee) * event.last_px.as_decimal())
        price = self._price_of(fee.currency, quote)
        return "" if price is None else plain(exact(fee) * price)

    def _price_of(self, currency: Currency, quote: Currency) -> Decimal | None:
        pair = (currency.code, quote.code)
        instrument_id = self._pricing.get(pair)
        if instrument_id is None:
            for instrument in self._cache.instruments():
                codes = (_code(instrument.get_base_currency()), instrument.quote_currency.code)
                if codes == pair and not instrument.is_inverse:
                    instrument_id = self._pricing[pair] = instrument.id
                    break
            else:
                return None
        tick = self._cache.quote_tick(instrument_id)
        if tick is not None:
            return (tick.bid_price.as_decimal() + tick.ask_price.as_decimal()) / 2
        trade = self._cache.trade_tick(instrument_id)
        return None if trade is None else trade.price.as_decimal()

    def _position(self, event: PositionEvent, status: str) -> Entry:
        return contract.entry(
            "positions",
            {
                "status": status,
                "account": event.account_id.value,
                **self._place(event.instrument_id),
                "strategy_id": event.strategy_id.value,
                "position_id": event.position_id.value,
                "side": position_side_to_str(event.side),
                "qty": str(event.quantity),
                "avg_px": price_text(self._average(event), precision=event.last_px.precision),
                "realized_pnl": money(event.realized_pnl),
                "ts_ns": str(event.ts_event),
            },
        )

    def _average(self, event: PositionEvent) -> Decimal:
        """Return the open average behind the event, exactly as the fills make it."""
        position_id, last_qty = event.position_id, event.last_qty.as_decimal()
        qty = event.quantity.as_decimal()
        known = self._averages.get(position_id)
        if isinstance(event, PositionOpened):
            known = Average(Decimal(0), Decimal(0))
        elif known is None:  # attached behind the opening
            return self._recall(event)
        price = known.price
        if qty > known.qty:
            cost = known.price * known.qty + event.last_px.as_decimal() * last_qty
            price = cost / (known.qty + last_qty)
        if isinstance(event, PositionClosed):
            self._averages.pop(position_id, None)
        else:
            self._averages[position_id] = Average(qty, price)
        return price

    def _recall(self, event: PositionEvent) -> Decimal:
        position = self._cache.position(event.position_id)
        fills = position.events if position is not None else []
        average = average_open(fills) if fills else Decimal(repr(event.avg_px_open))
        if not isinstance(event, PositionClosed):
            self._averages[event.position_id] = Average(event.quantity.as_decimal(), average)
        return average

    def _funding(self, event: PositionAdjusted) -> Entry:
        update = self._cache.funding_rate(event.instrument_id)
        booked = update is not None and update.ts_event == event.ts_event
        return contract.entry(
            "exec_funding",
            {
                "account": event.account_id.value,
                **self._place(event.instrument_id),
                "amount": money(event.pnl_change),
                "ccy": event.pnl_change.currency.code,
                "rate": plain(update.rate) if booked else "",
                "ts_ns": str(event.ts_event),
            },
        )

    def _place(self, instrument_id: InstrumentId) -> dict[str, str]:
        venue = instrument_id.venue.value
        return {
            "venue": self._venue_alias.get(venue, venue),
            "symbol": instrument_id.symbol.value,
        }


def _terms(order: Any) -> dict[str, str]:
    """Return side, qty, tif, order_type, price, filled_qty of an order or its OrderInitialized."""
    if order is None:  # an event of an order that the cache does not know
        return dict.fromkeys(("side", "qty", "tif", "order_type", "price", "filled_qty"), "")
    if isinstance(order, OrderInitialized):
        price = order.options.get("price")
        filled = str(order.quantity.zero(order.quantity.precision))
    else:
        price = order.price if order.has_price else None
        filled = str(order.filled_qty)
    return {
        "side": order_side_to_str(order.side) if order.side != OrderSide.NO_ORDER_SIDE else "",
        "qty": str(order.quantity),
        "tif": time_in_force_to_str(order.time_in_force),
        "order_type": order_type_to_str(order.order_type),
        "price": "" if price is None else str(price),
        "filled_qty": filled,
    }


def _terms_of_instrument(instrument: Instrument | None) -> dict[str, str]:
    if instrument is None:
        return {"base_ccy": "", "multiplier": "", "inverse": ""}
    return {
        "base_ccy": _code(instrument.get_base_currency()),
        "multiplier": str(instrument.multiplier),
        "inverse": _flag(instrument.is_inverse),
    }


def _reason(event: OrderEvent, order: Any) -> str:
    """Return why: the event's own words, or the cause of a cancel as far as it can be known."""
    if isinstance(event, OrderCanceled):
        events = order.events if order is not None else []
        asked = any(isinstance(earlier, OrderPendingCancel) for earlier in events)
        return "requested" if asked else "venue"
    reason = getattr(event, "reason", None) or ""
    return "unknown" if reason == "UNKNOWN" else reason


def is_invented(event: OrderFilled) -> bool:
    """Return whether Nautilus made the fill up in reconciliation, until the venue's own comes."""
    return bool(event.reconciliation and INVENTED_TRADE_ID.fullmatch(event.trade_id.value))


def average_open(fills: Sequence[OrderFilled]) -> Decimal:
    """Return the volume-weighted price of what `fills`, oldest first, left open or last closed."""
    qty, average = Decimal(0), Decimal(0)
    for fill in fills:
        price, signed = fill.last_px.as_decimal(), fill.last_qty.as_decimal()
        if not fill.is_buy:
            signed = -signed
        if qty * signed >= 0:
            average = (average * abs(qty) + price * abs(signed)) / abs(qty + signed)
        elif abs(signed) > abs(qty):
            average = price
        qty += signed
    return average


def _margins(event: AccountState, name: str) -> dict[str, str]:
    totals: dict[str, Decimal] = {}
    for margin in event.margins:
        amount = getattr(margin, name)
        code = amount.currency.code
        totals[code] = totals.get(code, Decimal(0)) + exact(amount)
    return {code: plain(total) for code, total in totals.items()}


def exact(amount: Money) -> Decimal:
    """Return the money with its currency's digits."""
    return amount.as_decimal().quantize(Decimal(1).scaleb(-amount.currency.precision))


def money(amount: Money) -> str:
    """Return the money as an exact decimal with its currency's digits."""
    return plain(exact(amount))


def price_text(price: Decimal, *, precision: int) -> str:
    """Return an average price: the tick's digits and at most eight more, no idle zeros behind."""
    rounded = price.quantize(Decimal(1).scaleb(-precision - AVERAGE_DIGITS), ROUND_HALF_EVEN)
    text = plain(rounded)
    idle = len(text) - len(text.rstrip("0"))
    return text[: len(text) - min(idle, AVERAGE_DIGITS)].rstrip(".")


def _value(identifier: Any) -> str:
    return "" if identifier is None else identifier.value


def _code(currency: Currency | None) -> str:
    return "" if currency is None else currency.code


def _flag(value: Any) -> str:
    return "1" if value else "0"
