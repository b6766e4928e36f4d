"""A purge changes nothing that counts money, nor does anything that is told again behind it."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.model.enums import OrderStatus

from integrations.nautilus import purge, strategy_basis_carry_nt
from tests.integrations.nautilus.builders import fields_of
from tests.integrations.nautilus.control_rig import BUY, SELL
from tests.integrations.nautilus.engines import PERP, until
from tests.integrations.nautilus.purging import filled, money, purge_all, purging


async def test_repeated_after_the_purge(folder: Path) -> None:
    """A fill or an end that is told again after the purge is neither published nor booked."""
    async with purging(folder) as rig:
        order, canceled = await filled(rig), await rig.rest(rig.limit())
        rig.client.cancel(canceled)
        await until(lambda: canceled.is_closed, "the cancel")
        await rig.settle()
        before = money(rig)
        purge_all(rig)
        assert rig.cache.orders() == []

        rig.client._trades -= 1
        rig.client.fill(order, str(order.quantity), "60000.00")
        rig.client.cancel(canceled)
        await rig.settle()

        assert money(rig) == before
        assert rig.net == order.quantity.as_decimal()


async def test_nobody_knew_of_it(folder: Path) -> None:
    """An order that was given up because its venue did not answer stays: its late fill counts."""
    async with purging(folder) as rig:
        rig.client.holds_acks = True
        order = rig.submit(rig.limit())
        await until(lambda: order.status == OrderStatus.SUBMITTED, "the submit")
        rig.client.reject(order, "UNKNOWN")
        await until(lambda: order.is_closed, "the rejection")

        purge_all(rig)
        rig.client.fill(order, str(order.quantity), "50000.00")
        await rig.settle()

        fills = [fields_of(entry) for entry in rig.lane.given if entry.kind == "fills"]
        assert [fill["cl_ord_id"] for fill in fills] == [order.client_order_id.value]
        exposure = rig.guard.out.book.exposures[PERP.value]
        assert exposure.qty == order.quantity.as_decimal()


async def test_a_netted_position(folder: Path) -> None:
    """However often a position was opened again, few snapshots are kept, and the portfolio still
    says what all of them have realized."""
    rounds = 30
    async with purging(folder) as rig:
        for number in range(rounds):
            await filled(rig, BUY, "60000.00")
            await filled(rig, SELL, f"{60000 + number}.00")
            if number % 3 == 0:
                purge_all(rig)
        purge_all(rig)
        closed = [
            fields
            for entry in rig.lane.given
            if entry.kind == "positions" and (fields := fields_of(entry))["status"] == "closed"
        ]

        assert len(closed) == rounds
        realized = rig.kernel.portfolio.realized_pnl(PERP).as_decimal()
        assert realized == sum([Decimal(fields["realized_pnl"].split()[0]) for fields in closed])
        (position,) = rig.cache.positions()
        assert len(rig.cache.position_snapshot_bytes(position.id)) <= purge.CYCLES_MAX
        assert rig.cache.orders() == []
        assert not rig.kernel.portfolio.analyzer._recorded_realized_pnls


def test_basis_carry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The port does the same round trips when each order leaves the cache as soon as it ended."""

    def trades(engine_type: type[BacktestEngine]) -> tuple[Any, ...]:
        monkeypatch.setattr(strategy_basis_carry_nt, "BacktestEngine", engine_type)
        engine, strategy = strategy_basis_carry_nt.trade()
        left, balances = len(engine.cache.orders()), balances_of(engine)
        engine.dispose()
        return left, dict(strategy.counts), balances

    left, counts, balances = trades(BacktestEngine)
    assert left and counts["round_trips"] == 3
    assert trades(Forgetful) == (0, counts, balances)


def balances_of(engine: BacktestEngine) -> list[str]:
    return [str(account.balances_total()) for account in engine.cache.accounts()]


class Forgetful(BacktestEngine):
    """Purges each order behind the event that ends it."""

    def run(self, *parts: Any, **named: Any) -> None:
        def forget(event: Any) -> None:
            order = self.cache.order(event.client_order_id)
            if order is not None and order.is_closed:
                self.cache.purge_order(order.client_order_id)

        self.kernel.msgbus.subscribe("events.order.*", forget)
        super().run(*parts, **named)
