"""integrations/nautilus/trading_metrics.py: slippage against the middle, positions, quotes' age."""

from decimal import Decimal
from pathlib import Path

import pytest
from nautilus_trader.model.data import QuoteTick
from nautilus_trader.model.objects import Price, Quantity
from structlog.testing import capture_logs

from tests.integrations.nautilus.control_rig import ASK, BID, BUY, SELL, Rig, trading
from tests.integrations.nautilus.engines import PERP, SPOT, until

MIDDLE = (BID + ASK) / 2
QTY = Decimal("0.010")
HOUR_NS = 3_600_000_000_000


def counted(rig: Rig) -> dict[str, float]:
    """Return what was filled and slipped, in dollars."""
    signs = {sign: each._value.get() for sign, each in rig.metrics.slippage.items()}
    return {"filled": rig.metrics.filled._value.get(), **signs}


@pytest.mark.parametrize("side", [BUY, SELL])
async def test_crossing_the_spread_costs_half_of_it(folder: Path, side: object) -> None:
    """A market order pays five dollars a coin, whichever side it is on; what it filled is valued at
    the middle."""
    async with trading(folder) as rig:
        await rig.hold(str(QTY), side)

        filled, paid = float(QTY * MIDDLE), pytest.approx(float(QTY * 5))
        assert counted(rig) == {"filled": filled, "paid": paid, "earned": 0}


async def test_a_better_price_is_earned(folder: Path) -> None:
    """A buy that fills three dollars a coin below the middle of when it was submitted."""
    async with trading(folder, role="live") as rig:
        rig.client.fills_at = str(MIDDLE - 3)
        await rig.hold(str(QTY))

        assert counted(rig)["earned"] == pytest.approx(float(QTY * 3))
        assert counted(rig)["paid"] == 0


async def test_an_order_that_ended_is_forgotten(folder: Path) -> None:
    """Nothing is kept of orders that have filled."""
    async with trading(folder) as rig:
        await rig.hold(str(QTY))

        assert rig.source._watch._shown._middles == {}


async def test_the_levels(folder: Path) -> None:
    """A position that is open; the quote of the instrument that was silent longest counts."""
    async with trading(folder) as rig:
        await rig.hold(str(QTY))
        now_ns = rig.kernel.clock.timestamp_ns()
        price, size = Price.from_str("60000.0"), Quantity.from_str("1.000")
        old = QuoteTick(SPOT, price, price, size, size, now_ns, now_ns - HOUR_NS)
        rig.cache.add_quote_tick(old)
        await rig.quote(instrument_id=PERP)

        rig.source._watch._shown.look()

        assert rig.metrics.positions_open._value.get() == 1
        assert rig.metrics.quote_age._value.get() >= HOUR_NS / 1e9


async def test_a_quote_that_never_came(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An instrument that is subscribed and had none is as old as the run, beside one that has."""
    async with trading(folder) as rig:
        subscribed = rig.kernel.data_engine.subscribed_quote_ticks()
        had = [each for each in subscribed if rig.cache.quote_tick(each) is not None]
        assert 0 < len(had) < len(subscribed)
        monkeypatch.setattr(rig.kernel, "_ts_started", rig.kernel.ts_started - HOUR_NS)

        rig.source._watch._shown.look()

        assert rig.metrics.quote_age._value.get() >= HOUR_NS / 1e9


async def test_a_failure_stops_no_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be measured is left out and told once; the order fills."""
    async with trading(folder) as rig:
        monkeypatch.setattr(rig.source._watch._shown._prices, "last", lambda _: 1 / 0)
        with capture_logs() as logs:
            await rig.hold(str(QTY))
            await rig.hold(str(QTY))
            await until(lambda: rig.net == 2 * QTY, "both positions")

        assert counted(rig) == {"filled": 0, "paid": 0, "earned": 0}
        assert [each["event"] for each in logs].count("slippage.not_measured") == 1
