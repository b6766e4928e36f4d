"""Stop losses close positions; a day's loss and a drawdown are told, over restarts as well."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bridge.core.control import State
from integrations.nautilus.breakers import NAME
from tests.integrations.nautilus.control_rig import ASK, BUY, SELL, Rig, trading
from tests.integrations.nautilus.engines import until

STOP_LOSS = {"limits.stop_loss_pct": "0.01"}


@pytest.fixture(autouse=True)
def day(monkeypatch: pytest.MonkeyPatch) -> None:
    """A day that does not end: at midnight what was lost is no loss of the day any more."""
    monkeypatch.setattr("bridge.core.breakers.DAY_NS", 10**20)


async def lose_ten_dollars(rig: Rig) -> None:
    """Buy 0.010, and see the price fall by a thousand."""
    await rig.hold("0.010")
    await rig.quote(59_005, 59_015)


async def look(rig: Rig) -> None:
    """Have the breakers look once, and all that comes of it happen."""
    rig.source._watch.look()
    await rig.settle()


def closings(rig: Rig) -> list[Any]:
    return [order for order in rig.cache.orders() if order.tags == ["STOP_LOSS"]]


@pytest.mark.parametrize("state", [State.ACTIVE, State.REDUCING])
@pytest.mark.parametrize(("side", "bid"), [(BUY, 59_400), (SELL, 60_620)])
async def test_a_stop_loss_closes_the_position(
    folder: Path, state: State, side: Any, bid: int
) -> None:
    """One percent lost: a reduce-only order for all of it, which the metrics count."""
    async with trading(folder, **STOP_LOSS) as rig:
        await rig.hold("0.010", side)
        rig.source.apply(state, "")

        await rig.quote(bid, bid + 10)

        await until(lambda: not rig.net, "the closing")
        (closing,) = closings(rig)
        assert closing.is_reduce_only
        assert closing.quantity == Decimal("0.010")
        assert rig.metrics.stop_losses._value.get() == 1
        assert rig.submits == 2


async def test_a_smaller_loss_closes_nothing(folder: Path) -> None:
    """Nine tenths of a percent are held."""
    async with trading(folder, **STOP_LOSS) as rig:
        await rig.hold("0.010")
        await rig.quote(ASK * Decimal("0.991"), ASK)

        await look(rig)

        assert rig.submits == 1


@pytest.mark.parametrize("state", [State.HALTED, State.DISABLED])
async def test_no_stop_loss_behind_closed_gates(folder: Path, state: State) -> None:
    """Nothing may be sent then: the position stays."""
    async with trading(folder, **STOP_LOSS) as rig:
        await rig.hold("0.010")
        rig.close_gates(state)
        await rig.quote(59_000, 59_010)

        await look(rig)

        assert rig.submits == 1


async def test_a_stop_loss_that_stays_open_is_sent_again(folder: Path) -> None:
    """A closing order that neither fills nor ends is canceled, and another one is sent."""
    async with trading(folder, role="live", **STOP_LOSS) as rig:
        rig.client.fills_at = "60000"
        await rig.hold("0.010")
        rig.client.fills_at = None
        await rig.quote(59_000, 59_010)
        await until(lambda: rig.client.cancels, "the cancel")
        rig.client.fills_at = "59000"

        await until(lambda: not rig.net, "the closing")

        ends = sorted(order.status.name for order in closings(rig))
        assert ends == ["CANCELED", "FILLED"]


@pytest.mark.parametrize(
    ("limit", "value"), [("max_daily_loss", "9"), ("max_drawdown", "0.000005")]
)
async def test_a_breach_is_told(folder: Path, limit: str, value: str) -> None:
    """By the name of the limit, as soon as open positions have lost too much."""
    async with trading(folder, **{f"limits.{limit}": value}) as rig:
        await rig.hold("0.010")
        await look(rig)
        assert rig.breaches == []

        await rig.quote(59_005, 59_015)

        await until(lambda: rig.breaches, "the breach")
        assert rig.breaches[0].startswith(f"{limit}: ")


async def test_a_loss_within_bounds_is_not_told(folder: Path) -> None:
    """Its size is shown by a metric: marked, and with the fees."""
    async with trading(folder, **{"limits.max_daily_loss": "11"}) as rig:
        await lose_ten_dollars(rig)

        await look(rig)

        fee = Decimal("0.010") * ASK * Decimal("0.0005")
        assert rig.breaches == []
        assert rig.metrics.day_pnl._value.get() == pytest.approx(-float(10 + fee))


async def test_the_days_loss_outlives_a_restart(folder: Path, tmp_path: Path) -> None:
    """What two processes lose on one day counts together."""
    settings = {"state.directory": str(tmp_path), "limits.max_daily_loss": "15"}
    async with trading(folder, **settings) as rig:
        await lose_ten_dollars(rig)
        await look(rig)
        assert rig.breaches == []

    async with trading(folder, **settings) as rig:
        await look(rig)
        assert rig.breaches == []
        await lose_ten_dollars(rig)
        await look(rig)
        assert rig.breaches[0].startswith("max_daily_loss: 20.")


async def test_a_resume_forgives_a_drawdown(folder: Path) -> None:
    """Else trading would halt again at once; what is lost from there on counts again."""
    async with trading(folder, **{"limits.max_drawdown": "0.000005"}) as rig:
        await lose_ten_dollars(rig)
        await until(lambda: rig.breaches, "the breach")
        rig.source.apply(State.HALTED, rig.breaches[0])
        rig.source.apply(State.ACTIVE, "")
        rig.breaches.clear()

        await look(rig)
        assert rig.breaches == []

        await rig.quote(58_000, 58_010)
        await until(lambda: rig.breaches, "another breach")


async def test_another_halt_forgives_nothing(folder: Path) -> None:
    """A halt and its end do not make the peak of equity forgotten."""
    async with trading(folder, **{"limits.max_drawdown": "0.000012"}) as rig:
        await lose_ten_dollars(rig)
        await look(rig)
        rig.source.apply(State.HALTED, "mode is halt")
        rig.source.apply(State.ACTIVE, "")
        assert rig.breaches == []

        await rig.quote(58_005, 58_015)
        await until(lambda: rig.breaches, "the breach of both losses together")


@pytest.mark.parametrize("text", ["{", "{}", "7", '["x", "1", "1"]', '[1, "NaN", "0"]', ""])
async def test_a_file_that_cannot_be_read(folder: Path, tmp_path: Path, text: str) -> None:
    """The node trades, as if there had been none; the next save replaces it."""
    (tmp_path / NAME).write_text(text)
    settings = {"state.directory": str(tmp_path), "limits.max_daily_loss": "15"}
    async with trading(folder, **settings) as rig:
        await lose_ten_dollars(rig)
        await look(rig)
        assert rig.breaches == []

    assert (tmp_path / NAME).read_text() != text


async def test_a_folder_that_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    """It is logged, and the node trades on."""
    settings = {"state.directory": str(tmp_path / "nowhere")}
    async with trading(folder, **settings) as rig:
        rig.source._watch.save()

        await rig.hold("0.010")
