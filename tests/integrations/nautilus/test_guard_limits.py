"""Every limit denies on purpose, names itself, and counts all that is out already."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from nautilus_trader.model.enums import OrderStatus, TriggerType
from nautilus_trader.model.objects import Quantity

from bridge.core.control import State
from strategies.example import Example, ExampleConfig
from tests.integrations.nautilus.control_rig import ASK, BUY, SELL, Rig, make, run, trading
from tests.integrations.nautilus.engines import PERP, SPOT, until

# 0.010 of the perpetual are worth 600 dollars.
NOTIONAL = {"limits.max_order_notional": "1000"}
POSITION = {"limits.max_position": "1000"}
TOTAL = {"limits.max_position_total": "1000"}
RATE = {"limits.max_order_rate": "2"}


class QuickConfig(ExampleConfig, frozen=True):
    interval_seconds: float = 0.05


class Quick(Example):
    """The demo's strategy, forty times as fast."""


async def resting(rig: Rig) -> None:
    await rig.rest(rig.limit(BUY, "0.010"))


async def in_flight(rig: Rig) -> None:
    rig.client.holds_acks = True
    order = rig.submit(rig.limit(BUY, "0.010"))
    await until(lambda: order.status == OrderStatus.SUBMITTED, "the submit")


async def queued(rig: Rig) -> None:
    rig.submit(rig.limit(BUY, "0.010"))


async def held(rig: Rig) -> None:
    await rig.hold("0.010")


async def held_and_resting(rig: Rig) -> None:
    await rig.hold("0.005")
    await rig.rest(rig.limit(BUY, "0.005"))


async def resting_on_spot(rig: Rig) -> None:
    await rig.rest(rig.limit(BUY, "0.010", instrument_id=SPOT))


async def nothing(_: Rig) -> None:
    pass


def stop_the_clock(rig: Rig) -> None:
    """Let no time pass for the rate, however slow the machine is."""
    now_ns = rig.guard._now_ns()
    rig.guard._now_ns = lambda: now_ns


def big(rig: Rig) -> Any:
    return rig.market(BUY, "0.020")


def big_on_spot(rig: Rig) -> Any:
    return rig.market(BUY, "0.02000", instrument_id=SPOT)


def small(rig: Rig) -> Any:
    return rig.limit(BUY, "0.010")


def reduce_only_on_spot(rig: Rig) -> Any:
    """Nothing keeps a spot venue from opening a position with it."""
    return rig.limit(BUY, "0.010", instrument_id=SPOT, reduce_only=True)


def in_dollars(rig: Rig) -> Any:
    return rig.strategy.order_factory.market(
        SPOT, BUY, Quantity.from_str("1001"), quote_quantity=True
    )


def cheap_in_dollars(rig: Rig) -> Any:
    """Half the price, so twice the quantity: 0.02 for 600 dollars."""
    price = rig.cache.instrument(SPOT).make_price(30_000)
    return rig.strategy.order_factory.limit(
        SPOT, BUY, Quantity.from_str("600"), price, quote_quantity=True
    )


@pytest.mark.parametrize(
    ("role", "limit", "before", "order"),
    [
        ("demo", NOTIONAL, nothing, big),
        ("demo", NOTIONAL, nothing, big_on_spot),
        ("demo", NOTIONAL, nothing, in_dollars),
        ("demo", POSITION, nothing, cheap_in_dollars),
        ("demo", POSITION, held, small),
        ("demo", POSITION, resting, small),
        ("demo", POSITION, queued, small),
        ("demo", POSITION, held_and_resting, small),
        ("live", POSITION, in_flight, small),
        ("demo", POSITION, resting_on_spot, reduce_only_on_spot),
        ("demo", TOTAL, resting_on_spot, small),
        ("demo", TOTAL, held, lambda rig: rig.limit(instrument_id=SPOT)),
    ],
)
async def test_what_is_too_much_is_denied(
    folder: Path,
    role: str,
    limit: dict[str, Any],
    before: Callable[[Rig], Any],
    order: Callable[[Rig], Any],
) -> None:
    """On margin and on cash accounts, with what is held, rests, is queued or in flight."""
    async with trading(folder, role=role, **limit) as rig:
        (name,) = limit
        cause = name.removeprefix("limits.")
        await before(rig)

        denied = rig.submit(order(rig))

        assert (await rig.denied(denied)).startswith(f"{cause}: ")
        assert rig.metrics.orders_refused[cause]._value.get() == 1
        assert rig.guard.refused == 1


@pytest.mark.parametrize("limit", [NOTIONAL, POSITION, TOTAL])
@pytest.mark.parametrize("order", [small, lambda rig: rig.limit(instrument_id=SPOT)])
async def test_what_fits_passes(
    folder: Path, limit: dict[str, Any], order: Callable[[Rig], Any]
) -> None:
    """An order below the limit is sent."""
    async with trading(folder, **limit) as rig:
        await rig.rest(order(rig))

        assert rig.guard.refused == 0


async def test_a_symbol_has_its_own_limit(folder: Path) -> None:
    """It holds from the moment that it is given, for this symbol only."""
    async with trading(folder) as rig:
        rig.source.limit(replace(rig.guard.limits, positions={"BTCUSDT-PERP": Decimal(500)}))

        reason = await rig.denied(rig.submit(rig.limit()))

        assert reason.startswith("max_position: ")
        assert "BTCUSDT-PERP" in reason
        await rig.rest(rig.limit(instrument_id=SPOT))


async def test_no_more_orders_a_second_than_allowed(folder: Path) -> None:
    """The third of three at once is denied, when two a second may leave."""
    async with trading(folder, stop_the_clock, **RATE) as rig:
        orders = [rig.limit() for _ in range(3)]
        rig.submit(*orders)

        assert (await rig.denied(orders[2])).startswith("max_order_rate: ")
        await until(lambda: rig.submits == 2, "the two others")


async def test_a_change_counts_for_the_rate_once(folder: Path) -> None:
    """However many gates it passes; the next one is one too many."""
    async with trading(folder, stop_the_clock, **RATE) as rig:
        order = await rig.rest(rig.limit(qty="0.020"))
        instrument = rig.cache.instrument(PERP)
        rig.strategy.modify_order(order, instrument.make_qty("0.010"))
        await until(lambda: "updated" in rig.statuses(order), "the change")

        rig.strategy.modify_order(order, instrument.make_qty("0.005"))

        await until(lambda: rig.strategy.events_of(order, "ModifyRejected"), "the rejection")
        (event,) = rig.strategy.events_of(order, "ModifyRejected")
        assert event.reason.startswith("max_order_rate: ")


@pytest.mark.parametrize(
    ("resting_side", "resting_price", "order"),
    [
        (SELL, ASK, lambda rig: rig.market(BUY)),
        (SELL, ASK + 100, lambda rig: rig.limit(BUY, price=ASK + 100)),
        (BUY, 59_000, lambda rig: rig.limit(SELL, price=58_000)),
    ],
)
async def test_the_newer_of_two_own_orders_is_denied(
    folder: Path, resting_side: Any, resting_price: Any, order: Callable[[Rig], Any]
) -> None:
    """An order that would meet an own one in the book does not leave; the older one rests on."""
    async with trading(folder) as rig:
        older = await rig.rest(rig.limit(resting_side, price=resting_price))

        reason = await rig.denied(rig.submit(order(rig)))

        assert reason.startswith("self_trade: ")
        assert older.status == OrderStatus.ACCEPTED


async def test_the_price_before_a_change_still_counts(folder: Path) -> None:
    """Until the venue has told that an order moved away, it stands where it stood."""
    async with trading(folder, role="live") as rig:
        order = await rig.rest(rig.limit(BUY, price=59_000))
        rig.strategy.modify_order(order, price=rig.cache.instrument(PERP).make_price(50_000))

        reason = await rig.denied(rig.submit(rig.limit(SELL, price=58_000)))

        assert reason.startswith("self_trade: ")
        assert order.price == 50_000  # told by now
        await rig.rest(rig.limit(SELL, price=58_000))


async def test_without_a_price_nothing_can_be_judged(folder: Path) -> None:
    """An order in an instrument that was never quoted is denied."""
    rig = make(folder)
    rig.source.apply(State.ACTIVE, "")
    async with run(rig):
        assert (await rig.denied(rig.submit(rig.limit()))).startswith("no_price: ")


async def test_an_empty_side_is_no_price(folder: Path) -> None:
    """A quote of zero does not replace the last price: a venue says so that a side is empty."""
    async with trading(folder, **NOTIONAL) as rig:
        await rig.rest(rig.limit())
        await rig.quote(0, ASK)

        reason = await rig.denied(rig.submit(rig.market(SELL, "0.020")))

        assert reason.startswith("max_order_notional: ")


@pytest.mark.parametrize(
    ("limit", "make_order", "change"),
    [
        (NOTIONAL, small, {"quantity": "0.030"}),
        (NOTIONAL, small, {"price": "150000"}),
        (NOTIONAL, lambda rig: rig.stop(BUY, 70_000), {"trigger_price": "150000"}),
        (POSITION, small, {"quantity": "0.020"}),
        (TOTAL, small, {"quantity": "0.020"}),
    ],
)
async def test_a_change_is_judged_too(
    folder: Path, limit: dict[str, Any], make_order: Callable[[Rig], Any], change: dict[str, str]
) -> None:
    """As the order that it would make; OrderModifyRejected names the limit."""
    async with trading(folder, role="live", **limit) as rig:
        (name,) = limit
        order = await rig.rest(make_order(rig))
        instrument = rig.cache.instrument(PERP)
        made = {
            what: instrument.make_qty(to) if what == "quantity" else instrument.make_price(to)
            for what, to in change.items()
        }

        rig.strategy.modify_order(order, **made)

        await until(lambda: rig.strategy.events_of(order, "ModifyRejected"), "the rejection")
        (event,) = rig.strategy.events_of(order, "ModifyRejected")
        assert event.reason.startswith(name.removeprefix("limits.") + ": ")
        assert rig.client.changes == []
        assert order.status == OrderStatus.ACCEPTED


async def test_a_change_in_flight_counts_as_the_larger_order(folder: Path) -> None:
    """A smaller quantity makes no room before it is told; then it does."""
    async with trading(folder, role="live", **POSITION) as rig:
        order = await rig.rest(rig.limit(qty="0.015"))
        rig.strategy.modify_order(order, rig.cache.instrument(PERP).make_qty("0.005"))

        reason = await rig.denied(rig.submit(rig.limit(qty="0.010")))

        assert reason.startswith("max_position: ")
        assert order.quantity == Decimal("0.005")  # told by now
        await rig.rest(rig.limit(qty="0.010"))


async def test_a_list_is_denied_as_a_whole(folder: Path) -> None:
    """When one of its orders is too much, none leaves, and none stays reserved."""
    async with trading(folder, **POSITION) as rig:
        orders = [rig.limit(qty="0.010"), rig.limit(qty="0.010")]
        rig.strategy.submit_order_list(rig.strategy.order_factory.create_list(orders))

        for order in orders:
            assert (await rig.denied(order)).startswith("max_position: ")
        assert rig.submits == 0
        await rig.rest(rig.limit(qty="0.015"))


async def test_an_emulated_order_is_judged_when_it_leaves(folder: Path) -> None:
    """While it is held back it takes no room; released, it is denied like any other."""
    async with trading(folder, **POSITION) as rig:
        held_back = rig.submit(
            rig.limit(qty="0.010", price=55_000, emulation_trigger=TriggerType.BID_ASK)
        )
        await rig.rest(rig.limit(qty="0.010"))

        await rig.quote(54_000, 54_010)

        assert (await rig.denied(held_back)).startswith("max_position: ")


async def test_the_demo_never_trips(folder: Path) -> None:
    """Its own strategy trades on through a dataset that is looped as fast as it can be."""
    settings = {"source.strategy": f"{__name__}:Quick", "replay.rate": 5_000}
    rig = make(folder, **settings)
    rig.source.apply(State.ACTIVE, "")
    async with run(rig):
        await until(lambda: rig.submits > 50, "fifty orders")

        assert rig.guard.refused == 0
        assert rig.breaches == []
