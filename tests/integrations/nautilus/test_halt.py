"""A halt ends every order, wherever it is, and gives account of it."""

import asyncio
import contextlib
import itertools
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from nautilus_trader.execution.algorithm import ExecAlgorithm
from nautilus_trader.model.enums import OrderStatus, TriggerType
from nautilus_trader.model.identifiers import ExecAlgorithmId

from bridge.core.control import State
from tests.integrations.nautilus.control_rig import BUY, SELL, Rig, make, run, trading
from tests.integrations.nautilus.engines import PERP, SPOT, until

EMULATED = {"emulation_trigger": TriggerType.BID_ASK}


class Holder(ExecAlgorithm):
    """Keeps every order."""

    ID = ExecAlgorithmId("Holder")


def with_holder(rig: Rig) -> None:
    rig.source.node.trader.add_exec_algorithm(Holder())


def canceled(rig: Rig) -> list[dict[str, str]]:
    return [fields for fields in rig.told() if fields["status"] == "canceled"]


async def test_many_resting_orders(folder: Path) -> None:
    """Each of 500 has one `canceled` entry, with the reason halt; the account counts them."""
    async with trading(folder) as rig:
        # Nautilus looks at all orders of an instrument at each event: here at no more than 84.
        ids = [instrument.id for instrument in rig.cache.instruments()]
        for instrument_id in ids:
            await rig.quote(500, 501, instrument_id)
        terms = itertools.islice(itertools.cycle(ids), 500)
        await rig.rest(*[rig.limit(qty="1", price=450, instrument_id=each) for each in terms])

        account = await rig.halt()

        assert account == (500, 0, 0)
        each = Counter([fields["cl_ord_id"] for fields in canceled(rig)])
        assert len(each) == 500
        assert set(each.values()) == {1}
        assert {fields["reason"] for fields in canceled(rig)} == {"halt"}
        assert rig.cache.orders_open_count() == 0


async def test_all_instruments_and_sides(folder: Path) -> None:
    """Limits, stops and brackets, on both venues."""
    async with trading(folder) as rig:
        bracket = rig.bracket()
        rig.strategy.submit_order_list(bracket)
        await until(lambda: bracket.first.status == OrderStatus.ACCEPTED, "the entry")
        orders = [
            rig.limit(BUY),
            rig.limit(SELL),
            rig.stop(BUY, 70_000),
            rig.limit(instrument_id=SPOT),
        ]
        await rig.rest(*orders)

        account = await rig.halt()

        for order in (*orders, bracket.first):
            assert order.status == OrderStatus.CANCELED
            assert rig.statuses(order).count("canceled") == 1
        assert all(order.is_closed for order in bracket.orders)
        assert account == (len(orders) + 1, 0, 0)


async def test_a_strategys_own_cancel_keeps_its_reason(folder: Path) -> None:
    """Only what the halt cancels has the reason halt."""
    async with trading(folder) as rig:
        order = await rig.rest(rig.limit())
        rig.strategy.cancel_order(order)
        await until(lambda: order.is_closed, "the cancel")

        assert await rig.halt() == (0, 0, 0)
        assert [fields["reason"] for fields in canceled(rig)] == ["requested"]


async def test_emulated_orders(folder: Path) -> None:
    """What the emulator holds ends there, children that wait for their parent included."""
    async with trading(folder) as rig:
        bracket = rig.bracket(**EMULATED)
        rig.strategy.submit_order_list(bracket)
        order = rig.submit(rig.limit(**EMULATED))
        await until(lambda: order.status == OrderStatus.EMULATED, "the emulation")

        account = await rig.halt()

        assert account == (4, 0, 0)
        for each in (order, *bracket.orders):
            assert rig.statuses(each)[-1] == "canceled"
            assert rig.statuses(each).count("canceled") == 1
        assert rig.submits == 0


async def test_orders_that_an_algorithm_holds(folder: Path) -> None:
    """They end, and do not come back."""
    async with trading(folder, with_holder) as rig:
        order = rig.submit(rig.market(exec_algorithm_id=Holder.ID))

        account = await rig.halt()

        assert account == (1, 0, 0)
        assert rig.statuses(order) == ["initialized", "canceled"]


@pytest.mark.parametrize(
    "terms", [{}, {"exec_algorithm_id": ExecAlgorithmId("Gone")}], ids=["lost", "no such algorithm"]
)
async def test_orders_that_nobody_holds(folder: Path, terms: dict[str, Any]) -> None:
    """What lies in the cache and is known to nobody is denied, once: a halt comes to an end."""
    async with trading(folder) as rig:
        order = rig.market(**terms)
        if terms:
            rig.submit(order)
        else:
            topic = f"events.order.{order.strategy_id}"
            rig.kernel.msgbus.publish(topic=topic, msg=order.init_event)
            rig.cache.add_order(order)

        account = await rig.halt()

        assert account == (0, 1, 0)
        assert rig.statuses(order) == ["initialized", "denied"]


async def test_commands_in_the_queues(folder: Path) -> None:
    """When the halt is done, what waited in the queues has ended, each with one denial."""
    async with trading(folder) as rig:
        resting = await rig.rest(rig.limit())
        bracket = rig.bracket()
        rig.strategy.submit_order_list(bracket)
        rig.submit(rig.market())
        late = rig.market()
        rig.submit(late)

        account = await rig.halt()

        assert account.canceled == 1
        assert resting.status == OrderStatus.CANCELED
        assert rig.count()["denied"] == 5
        assert not rig.cache.orders_inflight()
        assert all(order.is_closed for order in rig.cache.orders())
        assert rig.submits == 1


async def test_a_halt_is_done_when_the_queues_are_empty(folder: Path) -> None:
    """A command that nobody announced, on its way into a queue, ends before the halt does."""
    async with trading(folder) as rig:
        order = rig.market()
        rig.kernel.msgbus.send("ExecEngine.execute", rig.command(order))

        await rig.halt()

        assert order.status == OrderStatus.DENIED
        assert rig.submits == 0


async def test_what_is_refused_meanwhile_is_counted(folder: Path) -> None:
    """Orders and changes; the count begins with the state."""
    async with trading(folder) as rig:
        order = await rig.rest(rig.limit())
        rig.close_gates()
        for _ in range(3):
            rig.submit(rig.market())
        rig.strategy.modify_order(order, price=rig.cache.instrument(PERP).make_price(51_000))

        assert await rig.source.halt("cancel") == (1, 4, 0)


@pytest.mark.parametrize("state", [State.HALTED, State.ACTIVE])
async def test_an_order_is_denied_once(folder: Path, state: State) -> None:
    """And never leaves: not even when the gates open before the engine has told of the denial."""
    async with trading(folder) as rig:
        rig.close_gates()
        order = rig.submit(rig.market())
        rig.source.apply(state, "a test")
        rig.kernel.msgbus.send("ExecEngine.execute", rig.command(order))
        await rig.settle()

        assert rig.statuses(order) == ["initialized", "denied"]


async def test_twice_in_a_row(folder: Path) -> None:
    """The second halt finds nothing, and says so; after a resume a third one works again."""
    async with trading(folder) as rig:
        await rig.rest(rig.limit())

        assert await rig.halt() == (1, 0, 0)
        assert await rig.halt() == (0, 0, 0)

        rig.source.apply(State.ACTIVE, "")
        await rig.rest(rig.limit())
        assert await rig.halt() == (1, 0, 0)


async def test_a_halt_that_is_cut_off_is_taken_up_again(folder: Path) -> None:
    """The daemon cancels a halt whose action has changed, and begins another one."""
    async with trading(folder) as rig:
        await rig.rest(*[rig.limit() for _ in range(10)])
        rig.close_gates()
        first = asyncio.create_task(rig.source.halt("cancel"))
        await asyncio.sleep(0)
        first.cancel()

        await rig.halt("flatten")

        assert len(canceled(rig)) == 10
        with contextlib.suppress(asyncio.CancelledError):
            await first


async def test_flatten(folder: Path) -> None:
    """Orders first, then every position, past the closed gates; what strategies send meanwhile
    is denied."""
    async with trading(folder) as rig:
        await rig.hold("0.010")
        rig.submit(rig.market(BUY, "0.010", instrument_id=SPOT))
        await until(lambda: rig.cache.positions_open_count() == 2, "the positions")
        await rig.rest(rig.limit())
        rig.close_gates()
        halting = asyncio.create_task(rig.source.halt("flatten"))
        while not halting.done():
            rig.submit(rig.market())
            await asyncio.sleep(0.01)

        account = halting.result()

        refused = rig.count()["denied"]
        assert account == (1, account.refused, 0)
        assert 0 < account.refused <= refused
        assert rig.cache.positions_open_count() == 0
        assert rig.submits == 5  # two positions, one resting order, two closings


async def test_orders_from_another_thread(folder: Path) -> None:
    """What a timer's thread submits while the halt runs is denied, and nothing breaks."""
    async with trading(folder) as rig:
        await rig.rest(*[rig.limit(qty="0.002") for _ in range(100)])
        orders = [rig.limit(qty="0.002") for _ in range(200)]
        rig.close_gates()
        thread = threading.Thread(target=rig.submit, args=orders)
        thread.start()

        account = await rig.source.halt("cancel")
        await asyncio.to_thread(thread.join)

        await until(lambda: rig.count()["denied"] == 200, "the denials")
        assert account.canceled == 100
        assert rig.submits == 100
        assert rig.guard.refused == 200
        assert rig.source.is_running


async def test_a_thread_that_submits_as_the_gates_close(folder: Path) -> None:
    """Each order either was sent and is canceled, or is denied; none is left."""
    async with trading(folder) as rig:
        orders = [rig.limit(qty="0.002") for _ in range(200)]
        thread = threading.Thread(target=rig.submit, args=orders)
        thread.start()
        await until(lambda: rig.submits, "the first order")

        await rig.halt()
        await asyncio.to_thread(thread.join)

        await until(lambda: all(order.is_closed for order in orders), "the end of all")
        histories = list(rig.histories().values())
        assert len(histories) == 200
        # One that was acknowledged after its cancel is canceled again, which may be rejected.
        for history in histories:
            assert history.count("canceled") + history.count("denied") == 1


async def test_a_halt_during_startup(folder: Path) -> None:
    """Halted before it runs, the node sends nothing; the account comes when it has started."""
    rig = make(folder)
    rig.source.apply(State.HALTED, "mode is halt")
    halting = asyncio.create_task(rig.source.halt("cancel"))
    await asyncio.sleep(0)
    assert not halting.done()

    async with run(rig):
        await rig.quote()
        order = rig.submit(rig.market())

        assert await rig.denied(order) == "HALTED: mode is halt"
        assert (await halting).canceled == 0
        assert rig.submits == 0


async def test_a_half_filled_order_does_not_hold_a_halt_up(folder):
    """What the sandbox fills in part and forgets is canceled, and the rest of a position closed."""
    async with trading(folder) as rig:
        await rig.hold("0.010")
        await rig.quote(size="0.004")
        halting = asyncio.create_task(rig.halt("flatten"))
        for _ in range(3):
            await until(lambda: halting.done() or rig.cache.orders_open() == [], "the rest")
            await rig.quote(size="0.004")

        account = await halting

        assert account.positions_left == 0
        assert not rig.guard.out.live
