"""Account states -> exec:account; and the translator in a real backtest."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nautilus_trader.model.data import FundingRateUpdate
from nautilus_trader.model.enums import (
    AccountType,
    PositionAdjustmentType,
)
from nautilus_trader.model.events import AccountState
from nautilus_trader.model.identifiers import InstrumentId
from nautilus_trader.model.objects import AccountBalance, MarginBalance, Money

from tests.integrations.nautilus.builders import (
    ACCOUNT,
    TS_NS,
    adjustment,
    cache_of,
    currency,
    fields_of,
    money,
    perpetual,
    translator_of,
    uuid,
)
from tests.integrations.nautilus.ranges import PRICE_MAX, oracle, raws

BTC = perpetual()


def balance(total: str, locked: str, free: str) -> AccountBalance:
    return AccountBalance(money(total), money(locked), money(free))


def margin(initial: str, maintenance: str, instrument_id: InstrumentId | None) -> MarginBalance:
    return MarginBalance(money(initial), money(maintenance), instrument_id)


def state(balances: list[AccountBalance], margins: list[MarginBalance]) -> AccountState:
    kind = AccountType.MARGIN
    return AccountState(ACCOUNT, kind, None, True, balances, margins, {}, uuid(1), TS_NS, TS_NS)


def told(event: AccountState) -> list[dict[str, str]]:
    entries = translator_of(cache_of()).account(event)
    assert {entry.kind for entry in entries} <= {"account"}
    return [fields_of(entry) for entry in entries]


def test_an_account_has_one_entry_a_currency() -> None:
    """Every field, for two currencies in the order of their codes; no margin is 0."""
    balances = [
        balance("1000.5 USDT", "0.25 USDT", "1000.25 USDT"),
        balance("0.12345678 BTC", "0 BTC", "0.12345678 BTC"),
    ]

    entries = told(state(balances, [margin("1 USDT", "0.5 USDT", BTC.id)]))

    assert entries == [
        {
            "account": "BINANCE_FUTURES-001",
            "ccy": "BTC",
            "total": "0.12345678",
            "free": "0.12345678",
            "locked": "0.00000000",
            "margin_init": "0",
            "margin_maint": "0",
            "ts_ns": str(TS_NS),
        },
        {
            "account": "BINANCE_FUTURES-001",
            "ccy": "USDT",
            "total": "1000.50000000",
            "free": "1000.25000000",
            "locked": "0.25000000",
            "margin_init": "1.00000000",
            "margin_maint": "0.50000000",
            "ts_ns": str(TS_NS),
        },
    ]


def test_margins_of_one_currency_add_up() -> None:
    """Margins are kept per instrument, and per account where a venue reports no instrument."""
    margins = [
        margin("0.00000001 USDT", "1 USDT", BTC.id),
        margin("17014118346000 USDT", "0.1 USDT", perpetual("ETHUSDT-PERP").id),
        margin("0.1 USDT", "0.01 USDT", None),
    ]

    (entry,) = told(state([balance("1 USDT", "0 USDT", "1 USDT")], margins))

    assert entry["margin_init"] == "17014118346000.10000001"
    assert entry["margin_maint"] == "1.11000000"


def test_a_currency_with_margin_and_no_balance_is_told() -> None:
    """Its balance is empty: not known, which is not zero."""
    (entry,) = told(state([], [margin("2 USDC", "1 USDC", BTC.id)]))
    assert [entry[name] for name in ("ccy", "total", "free", "locked")] == ["USDC", "", "", ""]
    assert (entry["margin_init"], entry["margin_maint"]) == ("2.00000000", "1.00000000")


def test_an_empty_account_says_nothing() -> None:
    """Without balances and margins there is no currency to tell of."""
    assert told(state([], [])) == []


@given(st.data())
def test_every_amount_of_an_account_is_exact(data: st.DataObject) -> None:
    """Over all that Nautilus can hold, debts included."""
    btc = currency("BTC")
    half = raws(8, low=-PRICE_MAX // 2, high=PRICE_MAX // 2)
    free, locked = data.draw(half), data.draw(half)
    amounts = [Money.from_raw(raw, btc) for raw in (free + locked, locked, free)]

    (entry,) = told(state([AccountBalance(*amounts)], []))

    expected = zip(("total", "locked", "free"), amounts, strict=True)
    assert all(entry[name] == f"{oracle(amount.raw):.8f}" for name, amount in expected)


@pytest.mark.parametrize("rate_ts_ns", [TS_NS, TS_NS - 1, None])
def test_booked_funding_is_told_with_its_rate(rate_ts_ns: int | None) -> None:
    """An adjustment of kind FUNDING is a settlement; its rate is the one of that very time."""
    cache = cache_of(BTC)
    if rate_ts_ns is not None:
        rate = Decimal("1.0E-7")
        cache.add_funding_rate(FundingRateUpdate(BTC.id, rate, rate_ts_ns, rate_ts_ns))
    event = adjustment(BTC, PositionAdjustmentType.FUNDING, "-5.00005 USDT")

    (entry,) = translator_of(cache).position(event)

    assert entry.kind == "exec_funding"
    assert fields_of(entry) == {
        "account": "BINANCE_FUTURES-001",
        "venue": "BINANCE",
        "symbol": "BTCUSDT-PERP",
        "amount": "-5.00005000",
        "ccy": "USDT",
        "rate": "0.00000010" if rate_ts_ns == TS_NS else "",
        "ts_ns": str(TS_NS),
    }


def test_other_adjustments_are_not_told() -> None:
    """A commission that Nautilus takes off a position is part of the position's own entry."""
    event = adjustment(BTC, PositionAdjustmentType.COMMISSION, "-1 USDT")
    assert translator_of(cache_of(BTC)).position(event) == ()
