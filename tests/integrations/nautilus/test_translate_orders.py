"""Order events -> exec:orders: every class of Nautilus, every field."""

from typing import Any

import pytest
from nautilus_trader.model.enums import OrderStatus
from nautilus_trader.model.events import (
    OrderAccepted,
    OrderCanceled,
    OrderCancelRejected,
    OrderDenied,
    OrderEmulated,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderModifyRejected,
    OrderPendingCancel,
    OrderPendingUpdate,
    OrderRejected,
    OrderReleased,
    OrderSubmitted,
    OrderTriggered,
    OrderUpdated,
)
from nautilus_trader.model.objects import Price, Quantity

from bridge.core.contract import ORDER_STATUSES
from bridge.core.lanes import Refused
from integrations.nautilus.translate import STATUS_OF
from tests.integrations.nautilus.builders import (
    EVENT_FIELDS,
    TS_NS,
    cache_of,
    entry_of,
    event_of,
    fields_of,
    fill_of,
    happen,
    known,
    limit,
    market,
    perpetual,
    translator_of,
    uuid,
)

BTC = perpetual()

# What an order entry of a plain limit order says when nothing has happened to it.
RESTING = {
    "venue": "BINANCE",
    "cl_ord_id": "O-1",
    "symbol": "BTCUSDT-PERP",
    "side": "BUY",
    "qty": "0.010",
    "tif": "GTC",
    "ts_ns": str(TS_NS),
    "reason": "",
    "account": "BINANCE_FUTURES-001",
    "order_type": "LIMIT",
    "price": "50000.50",
    "filled_qty": "0.000",
    "venue_order_id": "8389765",
    "strategy_id": "CARRY-001",
    "trader_id": "DESK-001",
    "recon": "0",
    "event_id": uuid(7).value,
}
LOCAL = {"account": "", "venue_order_id": ""}
SENT = {"venue_order_id": ""}

# Of each class: the history before it, its own fields, and what its entry says beyond RESTING.
CASES: list[tuple[list[type[OrderEvent]], type[OrderEvent], dict[str, Any], dict[str, str]]] = [
    ([], OrderDenied, {"reason": "too large"}, LOCAL | {"status": "denied", "reason": "too large"}),
    ([], OrderEmulated, {}, LOCAL | {"status": "emulated"}),
    ([OrderEmulated], OrderReleased, {}, LOCAL | {"status": "released"}),
    ([], OrderSubmitted, {}, SENT | {"status": "submitted"}),
    ([OrderSubmitted], OrderAccepted, {}, {"status": "accepted"}),
    (
        [OrderSubmitted],
        OrderRejected,
        {"reason": "-2010 no funds"},
        SENT | {"status": "rejected", "reason": "-2010 no funds"},
    ),
    (
        [OrderSubmitted],
        OrderRejected,
        {"reason": "UNKNOWN", "reconciliation": True},
        SENT | {"status": "rejected", "reason": "unknown", "recon": "1"},
    ),
    ([OrderAccepted], OrderCanceled, {}, {"status": "canceled", "reason": "venue"}),
    ([OrderAccepted], OrderExpired, {}, {"status": "expired"}),
    ([OrderAccepted], OrderPendingUpdate, {}, {"status": "pending_update"}),
    ([OrderAccepted], OrderPendingCancel, {}, {"status": "pending_cancel"}),
    (
        [OrderAccepted, OrderPendingUpdate],
        OrderModifyRejected,
        {"reason": "price too far"},
        {"status": "modify_rejected", "reason": "price too far"},
    ),
    (
        [OrderAccepted, OrderPendingCancel],
        OrderCancelRejected,
        {"reason": "not found"},
        {"status": "cancel_rejected", "reason": "not found"},
    ),
    (
        [OrderAccepted],
        OrderUpdated,
        {"quantity": Quantity.from_str("0.007"), "price": Price.from_str("49999.10")},
        {"status": "updated", "qty": "0.007", "price": "49999.10"},
    ),
    (
        [],
        OrderAccepted,
        {"reconciliation": True, "ts_event": 1},
        {"status": "accepted", "recon": "1", "ts_ns": "1"},
    ),
]


@pytest.mark.parametrize(("before", "kind", "given", "expected"), CASES)
def test_an_event_becomes_its_entry(
    before: Any, kind: type[OrderEvent], given: dict[str, Any], expected: dict[str, str]
) -> None:
    """Every field of the entry, for every class of event that a limit order can see."""
    order = limit(BTC)
    happen(order, *before)
    event = event_of(kind, order, **given)
    order.apply(event)

    (entry,) = translator_of(known(order)).order(event)

    assert entry.kind == "orders"
    assert fields_of(entry) == RESTING | expected


def test_every_class_of_order_event_has_a_status() -> None:
    """The sixteen classes of Nautilus, and no status that no event has."""
    assert {*STATUS_OF.values(), "partially_filled", "filled"} == set(ORDER_STATUSES)
    assert {*STATUS_OF, OrderFilled} == set(OrderEvent.__subclasses__())
    assert len(STATUS_OF) == 15 and set(EVENT_FIELDS) < set(STATUS_OF)


def test_a_triggered_order_is_told() -> None:
    """Only orders with a trigger can see OrderTriggered; the entry needs no such order."""
    order = limit(BTC)
    event = event_of(OrderTriggered, order)
    assert entry_of(translator_of(known(order)), event) == RESTING | {"status": "triggered"}


def test_an_initialized_order_is_told_before_the_cache_knows_it() -> None:
    """OrderInitialized is published first: its entry is made from the event alone."""
    event = limit(BTC).init_event

    (entry,) = translator_of(cache_of()).order(event)

    assert fields_of(entry) == RESTING | LOCAL | {
        "status": "initialized",
        "event_id": uuid(1).value,
    }


def test_a_market_order_has_no_price() -> None:
    """The price of an order without one is empty, from its first event on."""
    order = market(BTC)
    first = entry_of(translator_of(cache_of()), order.init_event)
    submitted = entry_of(translator_of(known(order)), event_of(OrderSubmitted, order))

    for fields in (first, submitted):
        assert (fields["price"], fields["order_type"], fields["tif"]) == ("", "MARKET", "IOC")
        assert (fields["side"], fields["qty"], fields["filled_qty"]) == ("SELL", "0.010", "0.000")


def test_an_event_of_an_order_that_the_cache_does_not_know_is_told() -> None:
    """What the order would tell is empty, the rest is there."""
    fields = entry_of(translator_of(cache_of()), event_of(OrderAccepted, limit(BTC)))

    unknown = dict.fromkeys(("side", "qty", "tif", "order_type", "price", "filled_qty"), "")
    assert fields == RESTING | unknown | {"status": "accepted"}


def test_an_event_class_of_a_later_nautilus_is_refused() -> None:
    """A class that the contract does not know is an error with a name, not a guess."""

    class OrderTeleported(OrderAccepted):
        """An event that Nautilus does not have."""

    with pytest.raises(Refused, match="OrderTeleported") as refused:
        translator_of(cache_of()).order(event_of(OrderTeleported, limit(BTC)))
    assert refused.value.reason == "unknown"


# --- what a fill makes of its order


def test_fills_make_an_order_partially_filled_and_then_filled() -> None:
    """The status follows the filled quantity; each fill yields a fill and then an order entry."""
    order = limit(BTC)
    translator = translator_of(known(order))
    happen(order, OrderSubmitted, OrderAccepted)
    told = []
    for trade_id, qty in (("1", "0.004"), ("2", "0.005"), ("3", "0.001")):
        fill = fill_of(BTC, order, trade_id=trade_id, qty=qty)
        order.apply(fill)
        entries = translator.order(fill)
        assert [entry.kind for entry in entries] == ["fills", "orders"]
        fields = fields_of(entries[1])
        told.append((fields["status"], fields["filled_qty"], fields["reason"]))

    assert told == [
        ("partially_filled", "0.004", ""),
        ("partially_filled", "0.009", ""),
        ("filled", "0.010", ""),
    ]


def test_a_fill_behind_the_cancel_counts() -> None:
    """A canceled order takes late fills: it is partially filled, then filled."""
    order = limit(BTC)
    translator = translator_of(known(order))
    happen(order, OrderSubmitted, OrderAccepted, OrderCanceled)
    told = []
    for trade_id, qty in (("1", "0.004"), ("2", "0.006")):
        fill = fill_of(BTC, order, trade_id=trade_id, qty=qty)
        order.apply(fill)
        told.append(entry_of(translator, fill)["status"])

    assert told == ["partially_filled", "filled"] and order.status == OrderStatus.FILLED


@pytest.mark.parametrize("end", [OrderRejected, OrderExpired])
def test_a_fill_that_its_order_does_not_take_counts(end: type[OrderEvent]) -> None:
    """A rejected or expired order refuses fills; the entries count them, a repeated one once."""
    order = limit(BTC)
    translator = translator_of(known(order))
    happen(order, OrderSubmitted, OrderAccepted, end)
    first = fill_of(BTC, order, trade_id="1", qty="0.004")
    second = fill_of(BTC, order, trade_id="2", qty="0.006")

    told = [entry_of(translator, fill) for fill in (first, first, second)]

    assert [(fields["status"], fields["filled_qty"]) for fields in told] == [
        ("partially_filled", "0.004"),
        ("partially_filled", "0.004"),
        ("filled", "0.010"),
    ]


def test_a_fill_without_an_order_is_all_of_it() -> None:
    """The leg of a spread has no order: side and type are the fill's own."""
    fill = fill_of(BTC, limit(BTC))

    fields = entry_of(translator_of(cache_of(BTC)), fill)

    assert (fields["status"], fields["side"], fields["order_type"]) == ("filled", "BUY", "LIMIT")
    assert (fields["qty"], fields["tif"], fields["filled_qty"]) == ("", "", "")
