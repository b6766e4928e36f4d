"""bridge/core/breakers.py: when the day, or the way down from the peak, was too costly."""

import dataclasses
from decimal import Decimal

import pytest

from bridge.core.breakers import DAY_NS, Breakers, Carried
from bridge.core.limits import Limits

D = Decimal
DAY = 20_000
NOON = DAY * DAY_NS + DAY_NS // 2
LIMITS = Limits(
    max_order_notional=D(1),
    max_position=D(1),
    max_position_total=D(1),
    max_daily_loss=D(100),
    max_order_rate=D(1),
    stop_loss_pct=D("0.01"),
    max_drawdown=D("0.10"),
)
LOSS_ALONE = dataclasses.replace(LIMITS, max_drawdown=D(1))
DRAWDOWN_ALONE = dataclasses.replace(LIMITS, max_daily_loss=D(10**9))


def breakers(capital: int = 10_000, carried: Carried | None = None) -> Breakers:
    return Breakers.begin(D(capital), carried or Carried(), NOON)


def is_broken(over: Breakers, pnl: int | str, limits: Limits = LIMITS, now_ns: int = NOON) -> bool:
    """Follow the result, as a look does, and return whether trading must halt."""
    over.follow(D(pnl), now_ns)
    return over.breach(D(pnl), limits) is not None


def test_daily_loss() -> None:
    """The limit itself may be lost in a day, and not more; what was made before counts."""
    day = breakers()
    assert not is_broken(day, -100)
    assert is_broken(day, "-100.01")
    assert day.breach(D(-250), LIMITS) == "max_daily_loss: 250.00 lost today is more than 100"
    assert not is_broken(day, 500)
    assert not is_broken(day, -100)


def test_no_loss_is_no_breach() -> None:
    """With limits of zero, nothing lost is still allowed, and nothing more."""
    none = dataclasses.replace(LIMITS, max_daily_loss=D(0), max_drawdown=D(0))
    assert not is_broken(breakers(), 0, none)
    assert is_broken(breakers(), "-0.01", none)


def test_a_new_day() -> None:
    """At midnight UTC the loss of the day begins at zero again; drawdown does not."""
    day = breakers()
    midnight = (DAY + 1) * DAY_NS
    assert is_broken(day, -150, LOSS_ALONE, midnight - 1)
    assert not is_broken(day, -150, LOSS_ALONE, midnight)
    assert not is_broken(day, -250, LOSS_ALONE, midnight + 1)
    assert is_broken(day, -251, LOSS_ALONE, midnight + 2)
    assert day.drawdown(D(-250)) == D("0.025")


def test_a_clock_that_is_set_back() -> None:
    """Yesterday is no new day: what was lost today stays lost."""
    day = breakers()
    assert is_broken(day, -150, LOSS_ALONE)
    assert is_broken(day, -150, LOSS_ALONE, NOON - DAY_NS)
    assert is_broken(day, -150, LOSS_ALONE, NOON)


def test_drawdown() -> None:
    """How far equity is below its highest, as a fraction of that; a new high counts at once."""
    way = breakers(1000)
    assert not is_broken(way, -100, DRAWDOWN_ALONE)
    assert is_broken(way, "-100.01", DRAWDOWN_ALONE)
    assert not is_broken(way, 1000, DRAWDOWN_ALONE)
    assert not is_broken(way, 800, DRAWDOWN_ALONE)
    assert is_broken(way, 799, DRAWDOWN_ALONE)
    assert way.drawdown(D(500)) == D("0.25")
    told = way.breach(D(500), DRAWDOWN_ALONE)
    assert told == "max_drawdown: 0.2500 below the peak is more than 0.10"


def test_forgiven() -> None:
    """Behind a resume drawdown counts from there; the loss of the day does not."""
    way = breakers(1000)
    assert is_broken(way, -200, DRAWDOWN_ALONE)
    way.forgive(D(-200))
    assert not is_broken(way, -280, DRAWDOWN_ALONE)
    assert is_broken(way, -281, DRAWDOWN_ALONE)
    assert is_broken(way, -200, LOSS_ALONE)


@pytest.mark.parametrize("made", [-70, 70])
def test_carried_over_a_restart(made: int) -> None:
    """What a process made of the day, the next one goes on from; its capital is what is left."""
    first = breakers(1000)
    assert not is_broken(first, made, LOSS_ALONE)
    carried = first.carried(D(made))
    assert carried == Carried(DAY, D(made), D(max(0, -made)))
    second = breakers(1000 + made, carried)
    assert not is_broken(second, -100 - made, LOSS_ALONE)
    assert is_broken(second, -101 - made, LOSS_ALONE)
    assert second.carried(D(-5)).day_pnl == made - 5


def test_another_day_carries_no_loss() -> None:
    """What was lost on another day, before or by a wrong clock after, does not count today."""
    for day in (DAY - 1, DAY + 1):
        today = breakers(carried=Carried(day, D(-90), D(0)))
        assert not is_broken(today, -100, LOSS_ALONE)


@pytest.mark.parametrize("day", [DAY, DAY - 1])
def test_the_peak_is_carried(day: int) -> None:
    """How far it is below its peak counts on after a restart, on any day."""
    way = breakers(950, Carried(day, D(0), D(50)))
    assert way.drawdown(D(0)) == D("0.05")
    assert not is_broken(way, -50, DRAWDOWN_ALONE)
    assert is_broken(way, -51, DRAWDOWN_ALONE)


def test_many_restarts() -> None:
    """However often it is restarted, the day and the peak are those of one process."""
    whole, carried, capital, made = breakers(1000), Carried(), D(1000), D(0)
    for change in (30, -60, 10, -40, -45, 20):
        part = Breakers.begin(capital, carried, NOON)
        part.follow(D(change), NOON)
        made += change
        whole.follow(made, NOON)
        assert part.drawdown(D(change)) == whole.drawdown(made)
        assert part.breach(D(change), LIMITS) == whole.breach(made, LIMITS)
        carried, capital = part.carried(D(change)), capital + change
        assert carried == whole.carried(made)
    assert whole.breach(made, LIMITS) is not None


@pytest.mark.parametrize("capital", [0, -10])
def test_without_capital(capital: int) -> None:
    """Where nobody knows the capital there is no drawdown, after gains and restarts neither; the
    loss of the day still counts."""
    for carried in (Carried(), Carried(DAY, D(0), D(500))):
        unknown = breakers(capital, carried)
        assert not is_broken(unknown, 80)
        assert not is_broken(unknown, -100)
        assert unknown.drawdown(D(-100)) == 0
        assert is_broken(unknown, -101)
