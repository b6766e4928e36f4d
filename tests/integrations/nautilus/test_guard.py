"""What the guard knows of positions and orders, and what passes while they may only shrink."""

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from nautilus_trader.model.enums import OrderStatus
from nautilus_trader.model.objects import Price

from bridge.core.control import State
from tests.integrations.nautilus.control_rig import BUY, SELL, Rig, trading
from tests.integrations.nautilus.engines import PERP, SPOT, until

# 0.010 of the perpetual are worth 600 dollars.
POSITION = {"limits.max_position": "1000"}


def reduce(rig: Rig) -> None:
    rig.close_gates(State.REDUCING)


async def has_room(rig: Rig, qty: str) -> None:
    """Fail unless so much fits below the limit, and no more."""
    over = str(Decimal(qty) + Decimal("0.002"))
    reason = await rig.denied(rig.submit(rig.limit(qty=over)))
    assert reason.startswith("max_position: ")
    order = rig.submit(rig.limit(qty=qty))
    await until(lambda: order.status != OrderStatus.INITIALIZED, "the submit")
    assert order.status in (OrderStatus.SUBMITTED, OrderStatus.ACCEPTED)


# Positions may only shrink.


@pytest.mark.parametrize("side", [BUY, SELL])
async def test_reducing_opens_nothing(folder: Path, side: Any) -> None:
    """Without a position neither side may trade."""
    async with trading(folder) as rig:
        reduce(rig)

        reason = await rig.denied(rig.submit(rig.market(side)))

        assert reason == "REDUCING: BTCUSDT-PERP may be reduced by 0, not by 0.01"


@pytest.mark.parametrize("held", [BUY, SELL])
async def test_reducing_lets_a_position_be_closed(folder: Path, held: Any) -> None:
    """The whole of it may be closed, with one order or with close_position."""
    async with trading(folder) as rig:
        position = await rig.hold("0.010", held)
        reduce(rig)

        rig.submit(rig.market(SELL if held is BUY else BUY, "0.004"))
        await until(lambda: abs(rig.net) == Decimal("0.006"), "the reduction")
        rig.strategy.close_position(position)

        await until(lambda: not rig.net, "the closing")


@pytest.mark.parametrize(
    ("side", "terms"),
    [
        (BUY, {"qty": "0.001"}),
        (SELL, {"qty": "0.011"}),
        (SELL, {"qty": "0.011", "reduce_only": True}),
        (SELL, {"qty": "0.010", "instrument_id": SPOT}),
    ],
    ids=["more", "through zero", "through zero, reduce-only", "elsewhere"],
)
async def test_reducing_denies_all_else(folder: Path, side: Any, terms: dict[str, Any]) -> None:
    """What adds to a position, or would turn it round, is denied as a whole."""
    async with trading(folder) as rig:
        await rig.hold("0.010")
        reduce(rig)

        assert (await rig.denied(rig.submit(rig.market(side, **terms)))).startswith("REDUCING: ")
        assert rig.net == Decimal("0.010")


async def test_reducing_counts_what_reduces_already(folder: Path) -> None:
    """Two orders that together are larger than the position do not both leave."""
    async with trading(folder) as rig:
        await rig.hold("0.010")
        reduce(rig)
        await rig.rest(rig.limit(SELL, "0.006"))

        reason = await rig.denied(rig.submit(rig.limit(SELL, "0.005")))

        assert reason == "REDUCING: BTCUSDT-PERP may be reduced by 0.004, not by 0.005"
        await rig.rest(rig.limit(SELL, "0.004"))


async def test_reducing_counts_what_is_in_flight(folder: Path) -> None:
    """So it is when the first of them has not been acknowledged."""
    async with trading(folder, role="live") as rig:
        rig.client.fills_at = "60000"
        await rig.hold("0.010")
        reduce(rig)
        rig.client.holds_acks = True
        rig.submit(rig.market(SELL, "0.010"))

        reason = await rig.denied(rig.submit(rig.market(SELL, "0.010")))

        assert reason == "REDUCING: BTCUSDT-PERP may be reduced by 0, not by 0.01"
        assert len(rig.client.submits) == 2


async def test_reducing_ends_what_waits_in_a_queue(folder: Path) -> None:
    """An order that was let through in front is judged again before it is sent."""
    async with trading(folder) as rig:
        order = rig.submit(rig.limit())
        reduce(rig)

        assert (await rig.denied(order)).startswith("REDUCING: ")
        assert rig.submits == 0


async def test_reducing_rejects_a_larger_change(folder: Path) -> None:
    """A resting order that closes a position must not grow beyond it."""
    async with trading(folder) as rig:
        await rig.hold("0.010")
        order = await rig.rest(rig.limit(SELL, "0.010"))
        reduce(rig)
        instrument = rig.cache.instrument(PERP)

        rig.strategy.modify_order(order, instrument.make_qty("0.020"))

        await until(lambda: rig.strategy.events_of(order, "ModifyRejected"), "the rejection")
        (event,) = rig.strategy.events_of(order, "ModifyRejected")
        assert event.reason.startswith("REDUCING: ")
        rig.strategy.modify_order(order, instrument.make_qty("0.005"))
        await until(lambda: order.quantity == Decimal("0.005"), "the smaller change")


async def test_reducing_cancels_what_could_enlarge(folder: Path) -> None:
    """Entering it, orders that only close the position stay; all others are canceled."""
    async with trading(folder) as rig:
        await rig.hold("0.010")
        closing = await rig.rest(rig.limit(SELL, "0.010"))
        others = [
            rig.limit(BUY, "0.010"),
            rig.limit(SELL, "0.001"),
            rig.limit(BUY, "0.010", instrument_id=SPOT),
        ]
        await rig.rest(*others)

        account = await rig.halt("reduce", State.REDUCING)

        assert account == (3, 0, 1)
        assert closing.status == OrderStatus.ACCEPTED
        assert {order.status for order in others} == {OrderStatus.CANCELED}


async def test_reducing_follows_the_position(folder: Path) -> None:
    """An order that was right is canceled later, when the position that it closes is gone."""
    async with trading(folder) as rig:
        position = await rig.hold("0.010")
        closing = await rig.rest(rig.limit(SELL, "0.010"))
        await rig.halt("reduce", State.REDUCING)

        rig.source.sweep.close(position, "STOP_LOSS")

        await until(lambda: closing.status == OrderStatus.CANCELED, "the cancel")


async def test_active_again(folder: Path) -> None:
    """When the state opens, orders leave again, and refusals are counted from zero."""
    async with trading(folder) as rig:
        rig.close_gates()
        await rig.denied(rig.submit(rig.limit()))
        rig.source.apply(State.ACTIVE, "")

        await rig.rest(rig.limit())

        assert rig.guard.refused == 0


# What is known of orders and positions.


async def test_room_comes_back_when_an_order_ends(folder: Path) -> None:
    """Canceled, rejected by the venue, or denied by Nautilus's own risk engine."""
    async with trading(folder, role="live", **POSITION) as rig:
        canceled = await rig.rest(rig.limit())
        rig.strategy.cancel_order(canceled)
        await until(lambda: canceled.is_closed, "the cancel")
        rig.client.holds_acks = True
        rejected = rig.submit(rig.limit())
        await until(lambda: rejected.status == OrderStatus.SUBMITTED, "the submit")
        rig.client.reject(rejected, "too poor")
        await until(lambda: rejected.is_closed, "the rejection")
        factory = rig.strategy.order_factory
        qty = rig.cache.instrument(PERP).make_qty("0.010")
        crooked = rig.submit(factory.limit(PERP, BUY, qty, Price.from_str("50000.1234567")))
        assert "precision" in await rig.denied(crooked)

        await has_room(rig, "0.016")


async def test_room_is_held_for_what_nobody_knows(folder: Path) -> None:
    """An order that Nautilus gave up may fill all the same: its room stays taken."""
    async with trading(folder, role="live", **POSITION) as rig:
        rig.client.holds_acks = True
        lost = rig.submit(rig.limit())
        await until(lambda: lost.status == OrderStatus.SUBMITTED, "the submit")
        rig.client.reject(lost, "UNKNOWN")
        await until(lambda: lost.is_closed, "the rejection")

        await has_room(rig, "0.006")


async def test_what_nobody_knew_fills_in_parts(folder: Path) -> None:
    """The position grows, what is left of the order stays taken, and its end frees it."""
    async with trading(folder, role="live", **POSITION) as rig:
        rig.client.holds_acks = True
        lost = rig.submit(rig.limit())
        await until(lambda: lost.status == OrderStatus.SUBMITTED, "the submit")
        rig.client.reject(lost, "UNKNOWN")
        rig.client.fill(lost, "0.004", "50000")
        await until(lambda: rig.net == Decimal("0.004"), "the fill")
        assert rig.guard.out.is_live(lost)

        rig.client.fill(lost, "0.006", "50000")

        await until(lambda: rig.net == Decimal("0.010"), "the rest")
        assert not rig.guard.out.is_live(lost)
        assert lost.client_order_id not in rig.guard.out.live
        await has_room(rig, "0.006")


async def test_a_fill_during_a_change(folder: Path) -> None:
    """It moves from the order to the position; what the change adds is still out."""
    async with trading(folder, role="live", **POSITION) as rig:
        order = await rig.rest(rig.limit(qty="0.010"))
        rig.client.holds_acks = True
        rig.strategy.modify_order(order, rig.cache.instrument(PERP).make_qty("0.014"))
        await until(lambda: rig.client.changes, "the change")

        rig.client.fill(order, "0.004", "50000")

        await until(lambda: rig.net == Decimal("0.004"), "the fill")
        assert order.status == OrderStatus.PARTIALLY_FILLED
        await has_room(rig, "0.002")


async def test_what_reconciliation_finds_counts(folder: Path) -> None:
    """An order that was entered elsewhere takes its room as well."""
    async with trading(folder, role="live", **POSITION) as rig:
        rig.client.report(PERP, "ELSEWHERE", "0.010", "50000.00")
        await until(rig.cache.orders_open, "the order")

        await has_room(rig, "0.006")


async def test_the_book_is_opened_with_what_the_cache_knows(folder: Path) -> None:
    """Positions, open orders and orders in flight from before count; what was made does not."""
    async with trading(folder, role="live", **{"limits.max_position": "2400"}) as rig:
        rig.client.fills_at = "60000"
        await rig.hold("0.010")
        rig.client.fills_at = None
        await rig.rest(rig.limit())
        rig.client.holds_acks = True
        in_flight = rig.submit(rig.limit())
        await until(lambda: in_flight.status == OrderStatus.SUBMITTED, "the submit")

        rig.guard.open_book()

        assert rig.guard.out.pnl() == 0
        await has_room(rig, "0.008")


async def test_pnl_is_marked_and_net_of_fees(folder: Path) -> None:
    """What was paid beyond the middle of bid and ask, and the fee, are lost at once."""
    async with trading(folder) as rig:
        await rig.hold("0.010")
        fee = Decimal("0.010") * 60_010 * Decimal("0.0005")
        spread = Decimal("0.010") * 5

        assert rig.guard.out.pnl() == pytest.approx(-(fee + spread), abs=Decimal("1e-6"))

        await rig.quote(61_000, 61_010)
        rig.guard.out.mark_all()
        assert rig.guard.out.pnl() == pytest.approx(10 - (fee + spread), abs=Decimal("1e-6"))


async def test_an_order_from_another_thread_is_judged(folder: Path) -> None:
    """Nautilus calls timers of strategies on a thread of its own: an order from there is sent when
    it may, and denied when it may not."""
    async with trading(folder, **POSITION) as rig:
        orders = [rig.limit(qty="0.010") for _ in range(2)]

        await asyncio.to_thread(rig.submit, *orders)

        assert (await rig.denied(orders[1])).startswith("max_position: ")
        await until(lambda: orders[0].status == OrderStatus.ACCEPTED, "the other")


async def test_what_closes_by_itself_leaves_no_room_for_more(folder):
    """While a stop loss is out in REDUCING, a strategy's own closing order is refused."""
    async with trading(folder, role="live") as rig:
        rig.client.fills_at = "60000"
        position = await rig.hold("0.010")
        rig.close_gates(State.REDUCING)
        rig.client.holds_acks = True
        assert rig.source.sweep.close(position, "STOP_LOSS")
        await until(lambda: len(rig.client.submits) == 2, "the closing order")

        order = rig.submit(rig.market(SELL, "0.010"))

        assert (await rig.denied(order)).startswith("REDUCING: ")
