"""No path of any strategy, emulator, execution algorithm or queue gets by a closed gate."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nautilus_trader.execution.algorithm import ExecAlgorithm
from nautilus_trader.model.enums import OrderStatus, TriggerType
from nautilus_trader.model.identifiers import ExecAlgorithmId

from bridge.core.control import State
from tests.integrations.nautilus.control_rig import ASK, BUY, SELL, Rig, make, run, trading
from tests.integrations.nautilus.engines import PERP, until

CLOSED = pytest.mark.parametrize("state", [State.HALTED, State.DISABLED])
# Who executes: the sandbox, whose methods are synchronous, or a live client with coroutines.
ROLES = pytest.mark.parametrize("role", ["demo", "live"])
EMULATED = {"emulation_trigger": TriggerType.BID_ASK}


class Slicer(ExecAlgorithm):
    """Sends a part of each order at once, and the rest when it is told to."""

    ID = ExecAlgorithmId("Slicer")

    def on_order(self, order: Any) -> None:
        self.primary = order
        self.child = self.slice()

    def slice(self) -> Any:
        qty = self.cache.instrument(PERP).make_qty("0.002")
        child = self.spawn_market(self.primary, qty, reduce_primary=True)
        self.submit_order(child)
        return child


def with_slicer(rig: Rig) -> None:
    rig.source.node.trader.add_exec_algorithm(Slicer())


def slicer_of(rig: Rig) -> Slicer:
    return rig.source.node.trader.exec_algorithms()[0]


def submit_market(rig: Rig) -> list[Any]:
    return [rig.submit(rig.market())]


def submit_limit(rig: Rig) -> list[Any]:
    return [rig.submit(rig.limit())]


def submit_bracket(rig: Rig) -> list[Any]:
    bracket = rig.bracket()
    rig.strategy.submit_order_list(bracket)
    return list(bracket.orders)


def submit_emulated(rig: Rig) -> list[Any]:
    return [rig.submit(rig.limit(**EMULATED))]


def submit_emulated_bracket(rig: Rig) -> list[Any]:
    bracket = rig.bracket(**EMULATED)
    rig.strategy.submit_order_list(bracket)
    return list(bracket.orders)


def submit_to_algorithm(rig: Rig) -> list[Any]:
    return [rig.submit(rig.market(exec_algorithm_id=Slicer.ID))]


def send_to_risk_engine(rig: Rig) -> list[Any]:
    order = rig.market()
    rig.kernel.msgbus.send("RiskEngine.execute", rig.command(order))
    return [order]


def send_to_exec_engine(rig: Rig) -> list[Any]:
    order = rig.market()
    rig.kernel.msgbus.send("ExecEngine.execute", rig.command(order))
    return [order]


@pytest.mark.parametrize(
    "path",
    [
        submit_market,
        submit_limit,
        submit_bracket,
        submit_emulated,
        submit_emulated_bracket,
        submit_to_algorithm,
        send_to_risk_engine,
        send_to_exec_engine,
    ],
)
@CLOSED
@ROLES
async def test_a_closed_gate_denies_on_every_path(
    folder: Path, path: Callable[[Rig], list[Any]], state: State, role: str
) -> None:
    """The strategy is told an ordinary OrderDenied with the state in its reason; nothing leaves."""
    async with trading(folder, with_slicer, role=role) as rig:
        rig.close_gates(state)

        orders = path(rig)

        for order in orders:
            assert await rig.denied(order) == f"{state}: a test"
            assert rig.cache.order(order.client_order_id).status == OrderStatus.DENIED
        assert rig.submits == 0


@CLOSED
async def test_closing_positions_is_denied(folder: Path, state: State) -> None:
    """close_position, close_all_positions and market_exit send nothing, reduce-only or not."""
    async with trading(folder) as rig:
        position = await rig.hold()
        rig.close_gates(state)

        rig.strategy.close_position(position)
        rig.strategy.close_all_positions(PERP, reduce_only=False)
        rig.strategy.market_exit()

        await until(lambda: rig.count()["denied"] >= 3, "three denials")
        assert rig.submits == 1
        assert rig.net > 0


@CLOSED
@ROLES
async def test_a_change_is_rejected(folder: Path, state: State, role: str) -> None:
    """The strategy is told OrderModifyRejected; the order stays as it was."""
    async with trading(folder, role=role) as rig:
        order = await rig.rest(rig.limit())
        rig.close_gates(state)

        rig.strategy.modify_order(order, price=rig.cache.instrument(PERP).make_price(51_000))

        await until(lambda: rig.strategy.events_of(order, "ModifyRejected"), "the rejection")
        (event,) = rig.strategy.events_of(order, "ModifyRejected")
        assert event.reason == f"{state}: a test"
        assert (order.status, order.price) == (OrderStatus.ACCEPTED, 50_000)
        assert "updated" not in rig.statuses(order)


@CLOSED
async def test_an_emulated_order_is_not_changed(folder: Path, state: State) -> None:
    """A change at the emulator is rejected as well: the order is not triggered by it."""
    async with trading(folder) as rig:
        order = rig.submit(rig.limit(**EMULATED))
        await until(lambda: order.status == OrderStatus.EMULATED, "the emulation")
        rig.close_gates(state)

        rig.strategy.modify_order(order, price=rig.cache.instrument(PERP).make_price(61_000))

        await until(lambda: rig.strategy.events_of(order, "ModifyRejected"), "the rejection")
        assert order.status == OrderStatus.EMULATED
        assert rig.submits == 0


@CLOSED
@ROLES
async def test_an_emulated_order_that_is_triggered_is_denied(
    folder: Path, state: State, role: str
) -> None:
    """The emulator releases it past the risk engine; the gate in front of the execution engine
    ends it."""
    async with trading(folder, role=role) as rig:
        order = rig.submit(rig.limit(price=55_000, **EMULATED))
        await until(lambda: order.status == OrderStatus.EMULATED, "the emulation")
        rig.close_gates(state)

        await rig.quote(54_000, 54_010)

        assert await rig.denied(order) == f"{state}: a test"
        assert rig.submits == 0


@CLOSED
@ROLES
async def test_children_of_an_execution_algorithm_are_denied(
    folder: Path, state: State, role: str
) -> None:
    """What an algorithm spawns from an order that it has held since before is denied."""
    async with trading(folder, with_slicer, role=role) as rig:
        rig.submit(rig.market(exec_algorithm_id=Slicer.ID))
        await until(lambda: rig.submits == 1, "the first child")
        rig.close_gates(state)

        child = slicer_of(rig).slice()

        assert await rig.denied(child) == f"{state}: a test"
        assert rig.submits == 1


@ROLES
async def test_a_released_primary_is_denied(folder: Path, role: str) -> None:
    """An algorithm cannot send the primary order itself, either."""
    async with trading(folder, with_slicer, role=role) as rig:
        primary = rig.submit(rig.market(exec_algorithm_id=Slicer.ID))
        await until(lambda: rig.submits == 1, "the first child")
        rig.close_gates()

        slicer_of(rig).submit_order(primary)

        assert await rig.denied(primary) == "HALTED: a test"
        assert rig.submits == 1


@ROLES
@pytest.mark.parametrize("path", [submit_market, submit_bracket, send_to_exec_engine])
async def test_a_command_in_a_queue_is_denied(
    folder: Path, path: Callable[[Rig], list[Any]], role: str
) -> None:
    """Commands that wait in the queues of the risk and the execution engine when the gates close
    end there, each with one OrderDenied."""
    async with trading(folder, role=role) as rig:
        orders = path(rig)  # nothing is read from a queue before this coroutine waits
        rig.close_gates()

        for order in orders:
            await rig.denied(order)
        assert rig.submits == 0


async def scheduled(rig: Rig, name: str) -> None:
    """Let the engines run until a client has made a task of a command, and no further."""
    while not any(task.get_name().startswith(name) for task in rig.client._tasks):  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_a_scheduled_coroutine_is_denied(folder: Path) -> None:
    """A live client's task that has not begun when the gates close sends nothing."""
    async with trading(folder, role="live") as rig:
        order = rig.submit(rig.market())
        await scheduled(rig, "submit_order:")
        rig.close_gates()

        assert await rig.denied(order) == "HALTED: a test"
        assert rig.client.submits == []


async def test_a_scheduled_list_is_denied(folder: Path) -> None:
    """So is the task of an order list."""
    async with trading(folder, role="live") as rig:
        orders = submit_bracket(rig)
        await scheduled(rig, "submit_order_list:")
        rig.close_gates()

        for order in orders:
            assert await rig.denied(order) == "HALTED: a test"
        assert rig.client.submits == []


async def test_a_scheduled_change_is_rejected(folder: Path) -> None:
    """So is the task of a change."""
    async with trading(folder, role="live") as rig:
        order = await rig.rest(rig.limit())
        rig.strategy.modify_order(order, price=rig.cache.instrument(PERP).make_price(51_000))
        await scheduled(rig, "modify_order:")
        rig.close_gates()

        await until(lambda: rig.strategy.events_of(order, "ModifyRejected"), "the rejection")
        assert rig.client.changes == []


async def test_the_last_gate_of_a_sandbox(folder: Path) -> None:
    """The sandbox's own methods are gated, not the coroutines that it inherits and never runs."""
    async with trading(folder) as rig:
        rig.close_gates()
        client = next(iter(rig.kernel.exec_engine._clients.values()))
        order = rig.market()
        rig.cache.add_order(order)

        client.submit_order(rig.command(order))

        assert await rig.denied(order) == "HALTED: a test"
        assert rig.submits == 0


@ROLES
@pytest.mark.parametrize("state", list(State))
async def test_cancels_always_pass(folder: Path, role: str, state: State) -> None:
    """A strategy can cancel in every state."""
    async with trading(folder, role=role) as rig:
        order = await rig.rest(rig.limit())
        rig.close_gates(state)

        rig.strategy.cancel_order(order)

        await until(lambda: order.status == OrderStatus.CANCELED, "the cancel")


async def test_gates_are_closed_by_default(folder: Path) -> None:
    """A node whose state nobody has set sends nothing."""
    rig = make(folder)
    async with run(rig):
        await rig.quote()

        order = rig.submit(rig.market())

        assert await rig.denied(order) == "DISABLED: the node starts"
        assert rig.submits == 0


async def test_gates_are_closed_before_the_book_is_open(folder: Path) -> None:
    """An open state alone lets nothing leave: limits cannot be judged before the node starts."""
    rig = make(folder)
    rig.source.apply(State.ACTIVE, "")
    order = rig.source.node.trader.strategies()[0].order_factory.market(
        PERP, BUY, rig.cache.instrument(PERP).make_qty("0.002")
    )

    rig.kernel.msgbus.send("ExecEngine.execute", rig.command(order))
    async with run(rig):
        await until(lambda: rig.count()["denied"], "the denial")

        assert rig.told()[-1]["reason"] == "DISABLED: the node starts"
        assert rig.submits == 0


@ROLES
async def test_open_gates_let_pass(folder: Path, role: str) -> None:
    """The same paths send, once each, when the gates are open."""
    async with trading(folder, with_slicer, role=role) as rig:
        submit_market(rig)
        submit_limit(rig)
        submit_bracket(rig)
        submit_to_algorithm(rig)
        send_to_risk_engine(rig)
        send_to_exec_engine(rig)
        rig.submit(rig.limit(SELL, price=ASK + 100, **EMULATED))
        await rig.quote(ASK + 200, ASK + 210)

        await until(lambda: rig.submits == 9, "all submits")
        assert rig.count()["denied"] == 0
