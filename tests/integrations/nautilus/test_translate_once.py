"""What tells an entry that is reported again from one that is new: `Entry.once`."""

from typing import Any

import pytest
from nautilus_trader.model.events import (
    OrderCanceled,
    OrderEvent,
    OrderExpired,
    OrderRejected,
)
from nautilus_trader.model.identifiers import AccountId, VenueOrderId

from bridge.core.contract import identity
from integrations.nautilus.translate import STATUS_OF
from tests.integrations.nautilus.builders import (
    cache_of,
    event_of,
    fields_of,
    fill_of,
    known,
    limit,
    perpetual,
    translator_of,
)

BTC, ETH = perpetual(), perpetual("ETHUSDT-PERP")
ENDS = (OrderRejected, OrderCanceled, OrderExpired)
ends = pytest.mark.parametrize("end", ENDS)


def once_of(event: OrderEvent, *, run: str = "") -> tuple[bytes, ...]:
    """Return the identities of an event's entries."""
    return tuple([entry.once for entry in translator_of(cache_of(BTC, ETH), run).order(event)])


def test_a_fill_and_its_order_are_told_apart() -> None:
    """Both entries of a fill have an identity, made of the fill's id, and not the same one."""
    fill, order = translator_of(cache_of(BTC)).order(fill_of(BTC))
    fill_id = fields_of(fill)["fill_id"]

    assert (fill.once, order.once) == (identity(f"fill|{fill_id}"), identity(f"order|{fill_id}"))


def test_a_fill_that_is_reported_again_is_the_same() -> None:
    """Its event id, its position and its flags may differ."""
    again = fill_of(BTC, number=9, reconciliation=True, position_id="P-2", ts_event=1)

    assert once_of(fill_of(BTC)) == once_of(again)
    assert not set(once_of(fill_of(BTC))) & set(once_of(fill_of(BTC, trade_id="77002")))


@ends
def test_an_end_that_is_reported_again_is_the_same(end: type[OrderEvent]) -> None:
    """An order that is rejected, canceled or expired ends but once."""
    order = limit(BTC)
    again = event_of(end, order, number=9, reconciliation=True, ts_event=1)

    assert once_of(event_of(end, order)) == once_of(again) != (b"",)


@pytest.mark.parametrize(
    ("end", "change"),
    [
        *[(end, {"account_id": AccountId("BINANCE_FUTURES-002")}) for end in ENDS],
        *[(end, {"venue_order_id": VenueOrderId("8389766")}) for end in ENDS[1:]],
    ],
)
def test_ends_that_differ_are_told_apart(end: type[OrderEvent], change: dict[str, Any]) -> None:
    """The account tells two ends apart, and so does the venue's id of an order that has one."""
    order = limit(BTC)
    assert once_of(event_of(end, order)) != once_of(event_of(end, order, **change))


def test_every_end_is_one_of_its_own() -> None:
    """So do the instrument, the status and, on a simulated account, the run."""
    btc = [once_of(event_of(end, limit(BTC))) for end in ENDS]
    eth = [once_of(event_of(end, limit(ETH))) for end in ENDS]
    run = [once_of(event_of(end, limit(BTC)), run="r1") for end in ENDS]

    assert len({*btc, *eth, *run}) == 9


@pytest.mark.parametrize("change", [{"reason": "UNKNOWN"}, {"account_id": None}])
def test_what_is_no_end_may_come_again(change: dict[str, Any]) -> None:
    """A submit whose outcome is unknown, or an event without an account, has no identity."""
    kind = OrderRejected if "reason" in change else OrderCanceled
    assert once_of(event_of(kind, limit(BTC), **change)) == (b"",)


@pytest.mark.parametrize("kind", [kind for kind in STATUS_OF if kind not in ENDS])
def test_other_events_may_come_again(kind: type[OrderEvent]) -> None:
    """An order may be accepted, updated or denied as often as Nautilus says so."""
    order = limit(BTC)
    event = order.init_event if kind.__name__ == "OrderInitialized" else event_of(kind, order)

    (entry,) = translator_of(known(order)).order(event)
    assert entry.once == b""
