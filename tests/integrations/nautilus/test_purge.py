"""What has ended leaves the cache of a running node in time, and nothing else does."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from integrations.nautilus import purge
from integrations.nautilus.node_config import kept_minutes
from tests.integrations.nautilus.control_rig import BUY, SELL, load, trading
from tests.integrations.nautilus.engines import PERP, until
from tests.integrations.nautilus.purging import LIVE, filled, purge_all, purging


@pytest.mark.parametrize(
    ("settings", "minutes"),
    [
        ({}, 5),
        ({"node.purge_closed_minutes": 7}, 7),
        ({"node.purge_closed_minutes": 0}, 0),
        (LIVE, 0),
        (LIVE | {"node.purge_closed_minutes": 0}, 0),
    ],
)
def test_how_long_it_is_kept(folder: Path, settings: dict[str, Any], minutes: int) -> None:
    """A sandbox keeps what has ended for minutes, a real venue for ever."""
    assert kept_minutes(load(folder, **settings)) == minutes


async def test_it_runs_by_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A running node purges what has ended, and nothing that is open."""
    monkeypatch.setattr(purge, "ROUND_SECONDS", 0.01)
    async with trading(folder) as rig:
        rig.source.purge._seconds = 0.01
        resting = await rig.rest(rig.limit())
        order = rig.submit(rig.market())

        await until(lambda: order.is_closed and rig.cache.orders() == [resting], "the purge")
        assert rig.net == order.quantity.as_decimal()


async def test_not_before_its_time(folder: Path) -> None:
    """What has ended stays until its time is over."""
    async with purging(folder) as rig:
        order, seconds = await filled(rig), 1440 * 60
        now = asyncio.get_running_loop().time()

        rig.source.purge.take(now + seconds - 60)
        assert rig.cache.order_exists(order.client_order_id)
        rig.source.purge.take(now + seconds + 60)
        assert not rig.cache.order_exists(order.client_order_id)


async def test_never(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 0 nothing is ever purged, and nothing of Nautilus is changed."""
    async with trading(folder, **{"node.purge_closed_minutes": 0}) as rig:
        await rig.source.purge.run()  # returns
        rig.submit(order := rig.market())
        await until(lambda: order.is_closed, "the fill")

        purge_all(rig)
        assert rig.cache.order_exists(order.client_order_id)


async def test_related_orders(folder: Path) -> None:
    """An entry that has ended stays while its stop loss and its target are alive."""
    async with purging(folder) as rig:
        orders = rig.bracket().orders
        await rig.rest(*orders)
        entry, *children = orders
        rig.client.cancel(entry)
        await until(lambda: entry.is_closed, "the end of the entry")
        await rig.settle()

        purge_all(rig)
        assert rig.cache.order_exists(entry.client_order_id)

        for child in children:
            if not child.is_closed:
                rig.client.cancel(child)
        await until(lambda: all(order.is_closed for order in orders), "their end")
        await rig.settle()
        purge_all(rig)
        assert rig.cache.orders() == []


async def test_account_states(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an account's states the last one stays."""
    monkeypatch.setattr(purge, "ACCOUNT_SECONDS", 0)
    async with trading(folder) as rig:
        for side in (BUY, SELL):
            order = rig.submit(rig.market(side))
            await until(lambda order=order: order.is_closed, "the fill")
        await rig.settle()
        account = rig.cache.account_for_venue(PERP.venue)
        last, total = account.last_event, account.balances_total()
        assert account.event_count > 2

        purge_all(rig)

        assert account.events == [last]
        assert account.balances_total() == total


async def test_swept_orders(folder: Path) -> None:
    """That the bridge canceled an order is forgotten with it."""
    async with purging(folder) as rig:
        order = await rig.rest(rig.limit())
        await rig.halt()
        assert rig.guard.swept == {order.client_order_id}

        purge_all(rig)

        assert rig.guard.swept == set()


async def test_half_filled_orders(folder: Path) -> None:
    """Of orders that the sandbox ended behind their half fill it remembers the last one only."""
    async with trading(folder) as rig:
        (client,) = [c for c in rig.kernel.exec_engine._clients.values() if c.venue == PERP.venue]
        await rig.hold("0.020")
        await rig.quote(size="0.004")
        halting = asyncio.create_task(rig.halt("flatten"))
        while not halting.done():
            await until(lambda: halting.done() or rig.cache.orders_open() == [], "the rest")
            await rig.quote(size="0.004")

        assert len(client._forgotten) == 1


async def test_an_error_ends_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong in a round does not keep the next one from being made."""
    monkeypatch.setattr(purge, "ROUND_SECONDS", 0.01)
    taken = iter([RuntimeError("a test")])
    take = purge.Purge.take

    def fails_once(self: purge.Purge, now: float) -> bool:
        for error in taken:
            raise error
        return take(self, now)

    monkeypatch.setattr(purge.Purge, "take", fails_once)
    async with trading(folder) as rig:
        rig.source.purge._seconds = 0.01
        order = rig.submit(rig.market())
        await until(lambda: order.is_closed and not rig.cache.orders(), "the purge")
