"""A halt against a venue that is slow, refuses, or says something else than before."""

import asyncio
import contextlib
from pathlib import Path

import pytest
from nautilus_trader.model.enums import OrderStatus

from bridge.core.control import State
from integrations.nautilus import halt
from tests.integrations.nautilus.control_rig import BUY, SELL, Rig, trading
from tests.integrations.nautilus.engines import PERP, until

LIVE = {"role": "live"}


async def in_flight(rig: Rig) -> object:
    """Submit an order that the venue does not acknowledge."""
    rig.client.holds_acks = True
    order = rig.submit(rig.limit())
    await until(lambda: order.status == OrderStatus.SUBMITTED, "the submit")
    return order


async def lost(rig: Rig) -> object:
    """Submit an order that Nautilus gives up, because the venue never answered."""
    order = await in_flight(rig)
    rig.client.reject(order, "UNKNOWN")
    await until(lambda: order.is_closed, "the rejection")
    return order


async def test_resting_orders(folder: Path) -> None:
    """All are canceled, each once, with the reason halt."""
    async with trading(folder, **LIVE) as rig:
        orders = [rig.limit(qty="0.002") for _ in range(50)]
        for order in orders:  # the rate limit is 50 a second
            await rig.rest(order)

        assert await rig.halt() == (50, 0, 0)
        assert rig.client.open == {}
        assert all(history.count("canceled") == 1 for history in rig.histories().values())
        assert {f["reason"] for f in rig.told() if f["status"] == "canceled"} == {"halt"}


async def test_a_late_acknowledgement(folder: Path) -> None:
    """An order that was in flight answers its cancel with a rejection: it is canceled again as
    soon as it is accepted, and the halt is not done before."""
    async with trading(folder, **LIVE) as rig:
        order = await in_flight(rig)
        halting = asyncio.create_task(rig.halt())
        await until(lambda: "cancel_rejected" in rig.statuses(order), "the rejected cancel")
        assert not halting.done()

        rig.client.accept(order)

        assert await halting == (1, 0, 0)
        # One more cancel may have been on its way, and is rejected at last.
        told = [each for each in rig.statuses(order) if each != "cancel_rejected"]
        assert told[-2:] == ["accepted", "canceled"]


async def test_an_acknowledgement_is_followed_by_a_cancel(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, even if the venue never answered the cancel that had overtaken the order."""
    for name in ("AGAIN_SECONDS_MIN", "AGAIN_SECONDS_MAX"):
        monkeypatch.setattr(halt, name, 3600.0)
    async with trading(folder, **LIVE) as rig:
        order = await in_flight(rig)
        rig.client.holds_cancels = True
        halting = asyncio.create_task(rig.halt())
        await until(lambda: rig.client.cancels, "the first cancel")
        rig.client.holds_cancels = False

        rig.client.accept(order)

        assert await halting == (1, 0, 0)


async def test_an_order_that_was_sent_and_is_not_told_yet(folder: Path) -> None:
    """Nautilus still calls it initialized, but it has left: it is canceled, never denied."""
    async with trading(folder, **LIVE) as rig:
        sent = asyncio.Event()
        sending = asyncio.Event()
        take = rig.client._take

        async def slowly(command: object) -> None:
            sent.set()
            await sending.wait()
            take(command.order)

        rig.client._submit_order = rig.guard._last(slowly)
        order = rig.submit(rig.limit())
        await sent.wait()
        halting = asyncio.create_task(rig.halt())
        await until(lambda: rig.client.cancels, "the first cancel")
        assert order.status == OrderStatus.INITIALIZED
        assert not halting.done()

        sending.set()

        assert await halting == (1, 0, 0)
        assert rig.statuses(order)[-1] == "canceled"
        assert "denied" not in rig.statuses(order)


async def test_a_rejected_cancel_is_sent_again(folder: Path) -> None:
    """As often as it takes."""
    async with trading(folder, **LIVE) as rig:
        order = await rig.rest(rig.limit())
        rig.client.cancel_rejections = 3

        assert await rig.halt() == (1, 0, 0)
        assert rig.statuses(order).count("cancel_rejected") == 3
        assert len(rig.client.cancels) == 4


async def test_a_cancel_without_an_answer_is_sent_again(folder: Path) -> None:
    """A request that was lost does not keep the halt from ending."""
    async with trading(folder, **LIVE) as rig:
        order = await rig.rest(rig.limit())
        rig.client.holds_cancels = True
        halting = asyncio.create_task(rig.halt())
        await until(lambda: rig.client.cancels, "the first cancel")
        rig.client.holds_cancels = False

        assert await halting == (1, 0, 0)
        assert order.status == OrderStatus.CANCELED


async def test_a_venue_that_does_not_answer(folder: Path) -> None:
    """The halt is not done as long as an order may still trade."""
    async with trading(folder, **LIVE) as rig:
        await rig.rest(rig.limit())
        rig.client.holds_cancels = True
        halting = asyncio.create_task(rig.halt())

        await until(lambda: len(rig.client.cancels) >= 2, "the second cancel")

        assert not halting.done()
        halting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await halting


async def test_a_change_in_flight(folder: Path) -> None:
    """An order whose change nobody has answered is canceled like any other."""
    async with trading(folder, **LIVE) as rig:
        order = await rig.rest(rig.limit())
        rig.client.holds_acks = True
        rig.strategy.modify_order(order, rig.cache.instrument(PERP).make_qty("0.020"))
        await until(lambda: rig.client.changes, "the change")

        assert await rig.halt() == (1, 0, 0)
        assert rig.statuses(order)[-1] == "canceled"


async def test_an_order_that_fills_meanwhile(folder: Path) -> None:
    """It has ended as well; its position is in the account."""
    async with trading(folder, **LIVE) as rig:
        order = await rig.rest(rig.limit())
        rig.client.holds_cancels = True
        halting = asyncio.create_task(rig.halt())
        await until(lambda: rig.client.cancels, "the cancel")

        rig.client.fill(order, "0.010", "50000")

        assert await halting == (0, 0, 1)


async def test_flatten_without_a_taker(folder: Path) -> None:
    """A closing order that finds none is sent again, at a pace, until there is one."""
    async with trading(folder, **LIVE) as rig:
        rig.client.fills_at = "60000"
        await rig.hold("0.010")
        rig.client.takers = 0
        halting = asyncio.create_task(rig.halt("flatten"))
        await until(lambda: len(rig.client.submits) == 4, "the third try")
        rig.client.takers = 1

        assert (await halting).positions_left == 0
        assert len(rig.client.submits) <= 6


async def test_flatten_with_an_order_that_stays(folder: Path) -> None:
    """A closing order that neither fills nor ends is canceled, and sent again."""
    async with trading(folder, **LIVE) as rig:
        rig.client.fills_at = "60000"
        await rig.hold("0.010")
        rig.client.fills_at = None
        halting = asyncio.create_task(rig.halt("flatten"))
        await until(lambda: rig.client.cancels, "the cancel")
        rig.client.fills_at = "60000"

        assert await halting == (0, 0, 0)


async def test_flatten_passes_nothing_else(folder: Path) -> None:
    """While a position is being closed, what strategies send is denied, closing or not."""
    async with trading(folder, **LIVE) as rig:
        rig.client.fills_at = "60000"
        position = await rig.hold("0.010")
        rig.client.takers = 0
        halting = asyncio.create_task(rig.halt("flatten"))
        await until(lambda: len(rig.client.submits) == 2, "the closing order")

        rig.strategy.close_position(position)
        await rig.denied(rig.submit(rig.market(BUY)))
        await rig.denied(rig.submit(rig.market(SELL, reduce_only=True)))
        rig.client.takers = 1

        assert await halting == (0, 3, 0)


@pytest.mark.parametrize("state", [State.HALTED, State.DISABLED])
async def test_an_order_that_comes_back_is_swept_too(folder: Path, state: State) -> None:
    """What was given up as unknown is accepted behind the halt: it is canceled at once, by the id
    that its venue has told."""
    async with trading(folder, **LIVE) as rig:
        order = await lost(rig)
        assert await rig.halt(state=state) == (0, 0, 0)

        rig.client.accept(order)

        await until(lambda: rig.client.cancels, "the cancel")
        assert rig.client.cancels[0].venue_order_id.value == f"V-{order.client_order_id}"
        await until(lambda: "canceled" in rig.statuses(order), "its end")
        await until(lambda: not rig.guard.out.live, "the end of it")
        assert rig.client.open == {}
        assert len(rig.client.cancels) == 1


async def test_an_order_that_comes_back_during_the_halt(folder: Path) -> None:
    """It is one of those that the halt waits for."""
    async with trading(folder, **LIVE) as rig:
        order = await lost(rig)
        rig.client.holds_cancels = True
        rig.client.accept(order)
        await until(lambda: rig.guard.out.live, "the late acknowledgement")
        halting = asyncio.create_task(rig.halt())
        await until(lambda: rig.client.cancels, "the cancel")
        assert not halting.done()
        rig.client.holds_cancels = False

        assert await halting == (1, 0, 0)


@pytest.mark.parametrize("state", [State.HALTED, State.DISABLED])
async def test_an_order_that_reconciliation_finds_is_swept_too(folder: Path, state: State) -> None:
    """Behind the halt an order turns up that was entered elsewhere: it is canceled."""
    async with trading(folder, **LIVE) as rig:
        await rig.halt(state=state)

        rig.client.report(PERP, "ELSEWHERE", "0.010", "50000.00")

        await until(lambda: rig.client.cancels, "the cancel")
        await until(lambda: rig.client.open == {}, "its end")


@pytest.mark.parametrize("state", [State.ACTIVE, State.DISABLED])
async def test_what_comes_back_in_another_state_stays(folder: Path, state: State) -> None:
    """When the state has changed, the halt before it says nothing any more."""
    async with trading(folder, **LIVE) as rig:
        await rig.halt()
        rig.source.apply(state, "")

        rig.client.report(PERP, "ELSEWHERE", "0.010", "50000.00")
        await until(rig.cache.orders_open, "the order")
        await rig.settle()

        assert rig.client.cancels == []


async def test_the_flag_is_off(folder: Path) -> None:
    """DISABLED ends resting orders as a halt does, and counts apart."""
    async with trading(folder, **LIVE) as rig:
        await rig.rest(rig.limit())

        assert await rig.halt(state=State.DISABLED) == (1, 0, 0)
        await rig.denied(rig.submit(rig.market()))
        assert await rig.halt() == (0, 0, 0)
