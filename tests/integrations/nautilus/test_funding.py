"""Funding in a backtest settles on the position that earlier events left, and on no other."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nautilus_trader.backtest.config import BacktestDataConfig
from nautilus_trader.model.enums import PositionAdjustmentType
from nautilus_trader.model.events import AccountState, PositionAdjusted

from integrations.binance.dataset import Dataset
from integrations.nautilus import backtest, backtest_data, backtest_settings
from integrations.nautilus.books import Books
from integrations.nautilus.funding import amount_of
from tests.integrations.nautilus.backtests import (
    DUE,
    HEARD,
    PERP,
    at,
    both,
    dataset,
    played,
)

RATE, MARK = "0.0001", "100.03"
type Play = Callable[..., Books]


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Quotes before, at and behind a settlement."""
    return dataset(both(1, DUE, DUE + 1, 90), {PERP: [(DUE, RATE, MARK)]})


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tests' data are converted, once."""
    return tmp_path_factory.mktemp("catalog")


@pytest.fixture
def play(data: Dataset, catalog: Path) -> Play:
    """Return `play(script)`."""
    return lambda script: played(data, catalog, script)


@pytest.mark.parametrize(
    ("position", "mark", "rate", "amount"),
    [
        ("1", "100.03", "0.0001", "-0.01000300"),  # a long pays a positive rate
        ("-1", "100.03", "0.0001", "0.01000300"),
        ("-1", "100.03", "-0.0001", "-0.01000300"),
        ("-0.5", "0.01", "0.000001", "0.00000000"),  # a tie: 5e-9
        ("-1.5", "0.01", "0.000001", "0.00000002"),  # a tie: 1.5e-8
    ],
)
def test_the_amount(position: str, mark: str, rate: str, amount: str) -> None:
    """It is minus position times mark times rate, rounded half to even to eight decimals."""
    found = amount_of(Decimal(position), Decimal(mark), Decimal(rate), decimals=8)
    assert f"{found:f}" == amount


def test_what_is_held_pays(play: Play) -> None:
    """A short gets a positive rate on the settlement's own mark price; the books say on what."""
    [paid] = play({f"30 {PERP}": "-0.2"}).settlements
    assert paid == (
        at(DUE), "BTC", Decimal("-0.2"), Decimal(RATE), Decimal(MARK), Decimal("0.00200060"),
    )  # fmt: skip


def test_what_is_closed_at_the_time_pays(play: Play) -> None:
    """An order of the very time comes behind the settlement."""
    books = play({f"30 {PERP}": "0.2", f"{DUE} {PERP}": "-0.2"})
    assert [row.amount for row in books.settlements] == [Decimal("-0.00200060")]
    assert books.fills[-1].ts == at(DUE)


@pytest.mark.parametrize("seconds", [DUE, DUE + 0.5])
def test_what_is_opened_at_the_time_or_later_does_not(play: Play, seconds: float) -> None:
    """Neither an order of the settlement's time nor a later one is charged."""
    books = play({f"{seconds} {PERP}": "0.2"})
    assert len(books.fills) == 1
    assert books.settlements == []


def test_the_last_order_before_it_counts(play: Play) -> None:
    """What a timer a nanosecond earlier does is in the position."""
    books = play({f"{DUE - 1e-9:.9f} {PERP}": "0.2"})
    assert [row.position for row in books.settlements] == [Decimal("0.2")]


def test_the_strategy_is_told(play: Play) -> None:
    """It gets the adjustment of its position before the rate itself."""
    play({f"30 {PERP}": "-0.2"})
    told = [
        (name, event) for name, event in HEARD if name in ("PositionAdjusted", f"funding {PERP}")
    ]
    assert [name for name, _ in told] == ["PositionAdjusted", f"funding {PERP}"]
    event: PositionAdjusted = told[0][1]
    assert event.adjustment_type == PositionAdjustmentType.FUNDING
    assert (str(event.pnl_change), event.ts_event) == ("0.00200060 USDT", at(DUE))


def test_account_and_position_agree(data: Dataset, catalog: Path) -> None:
    """The account changes by the amount, at the settlement's time; realized PnL has it, too."""
    settings = backtest_settings.load(
        overrides={
            "strategy": "tests.integrations.nautilus.backtests:Scripted",
            "params": {f"30 {PERP}": "-0.2"},
        }
    )
    states: list[AccountState] = []
    with backtest.Backtest(data, settings=settings, catalog=catalog) as built:
        built.engine.kernel.msgbus.subscribe("events.account.*", states.append)
        built.run()
        [position] = built.engine.cache.positions()
    before, behind = [s for s in states if s.account_id.value.startswith("BINANCE_FUTURES")][-2:]
    changed = [s.balances[0].total.as_decimal() for s in (before, behind)]
    assert changed[1] - changed[0] == Decimal("0.00200060")
    assert (before.ts_event, behind.ts_event) == (at(30), at(DUE))
    fee = Decimal("100.05") * Decimal("0.2") * Decimal("0.0005")
    assert position.realized_pnl.as_decimal() == Decimal("0.00200060") - fee


def test_a_rate_without_its_mark_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark price of an earlier settlement is not taken for that of a later one."""
    real = backtest_data.data_configs

    def with_the_first_mark(*arguments: Any) -> list[BacktestDataConfig]:
        marks, *others = real(*arguments)
        return [msgspec.structs.replace(marks, end_time=at(DUE)), *others]

    monkeypatch.setattr("integrations.nautilus.backtest.data_configs", with_the_first_mark)
    data = dataset(both(1, 110), {PERP: [(DUE, RATE, MARK), (100, RATE, MARK)]})
    with pytest.raises(RuntimeError, match=f"no mark price at {at(100)}"):
        played(data, tmp_path, {f"30 {PERP}": "-0.2"})
