"""Fills -> exec:fills: identity, money, and what they cost in quote currency."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nautilus_trader.cache.cache import Cache
from nautilus_trader.core import nautilus_pyo3
from nautilus_trader.model.enums import LiquiditySide, OrderSide
from nautilus_trader.model.events import OrderFilled
from nautilus_trader.model.identifiers import AccountId, VenueOrderId
from nautilus_trader.model.objects import Money, Quantity

from tests.integrations.nautilus.builders import (
    TS_NS,
    cache_of,
    currency,
    fields_of,
    fill_of,
    inverse,
    limit,
    perpetual,
    translator_of,
    uuid,
)
from tests.integrations.nautilus.ranges import (
    PRICE_MAX,
    digits_of,
    oracle,
    precisions,
    prices,
    quantities,
    raws,
)

BTC = perpetual()


def entry_of(fill: OrderFilled, cache: Cache | None = None, run: str = "") -> dict[str, str]:
    """Return the fields of the first entry, which is the fill's."""
    cache = cache_of(BTC) if cache is None else cache
    return fields_of(translator_of(cache, run).order(fill)[0])


def test_every_field_of_a_fill() -> None:
    """A taken fill of a linear perpetual, its fee in quote currency."""
    assert entry_of(fill_of(BTC)) == {
        "fill_id": "BINANCE_FUTURES-001|BTCUSDT-PERP.BINANCE_FUTURES|8389765|BUY|77001",
        "cl_ord_id": "O-1",
        "price": "50000.50",
        "qty": "0.004",
        "fee": "0.10000000",
        "venue": "BINANCE",
        "ts_ns": str(TS_NS),
        "account": "BINANCE_FUTURES-001",
        "symbol": "BTCUSDT-PERP",
        "side": "BUY",
        "base_ccy": "BTC",
        "quote_ccy": "USDT",
        "multiplier": "1",
        "inverse": "0",
        "fee_ccy": "USDT",
        "fee_quote": "0.10000000",
        "liquidity": "TAKER",
        "trade_id": "77001",
        "venue_order_id": "8389765",
        "position_id": "P-1",
        "strategy_id": "CARRY-001",
        "trader_id": "DESK-001",
        "provisional": "0",
        "recon": "0",
        "event_id": uuid(8).value,
    }


@given(st.data(), precisions, precisions)
def test_price_quantity_and_fee_are_exact(data: st.DataObject, price: int, qty: int) -> None:
    """Over all that Nautilus can hold, each with its own digits; fees may be negative."""
    px, size = data.draw(prices(price)), data.draw(quantities(qty, low=1))
    fee_raw = data.draw(raws(8, low=-PRICE_MAX, high=PRICE_MAX))
    template = fill_of(BTC)
    fill = OrderFilled(
        *(template.trader_id, template.strategy_id, BTC.id, template.client_order_id),
        *(template.venue_order_id, template.account_id, template.trade_id, template.position_id),
        *(OrderSide.SELL, template.order_type, size, px, template.currency),
        *(Money.from_raw(fee_raw, currency("USDT")), LiquiditySide.MAKER, uuid(1), TS_NS, TS_NS),
    )

    fields = entry_of(fill)

    for name, number in (("price", px), ("qty", size)):
        assert Decimal(fields[name]) == oracle(number.raw)
        assert digits_of(fields[name]) == number.precision
    assert Decimal(fields["fee"]) == Decimal(fields["fee_quote"]) == oracle(fee_raw)
    assert digits_of(fields["fee"]) == 8 and fields["liquidity"] == "MAKER"


# --- identity


def test_a_fill_has_the_same_id_after_a_restart() -> None:
    """Event id and flags differ when a fill is told again; its identity does not."""
    again = fill_of(BTC, number=9, reconciliation=True, position_id="P-2", ts_event=1)
    assert entry_of(fill_of(BTC))["fill_id"] == entry_of(again)["fill_id"]


@pytest.mark.parametrize(
    "change",
    [
        {"trade_id": "77002"},
        {"side": OrderSide.SELL},  # both legs of a self-trade share a trade id
        {"venue_order_id": VenueOrderId("8389766")},
        {"account_id": AccountId("BINANCE_FUTURES-002")},
    ],
)
def test_fills_that_differ_have_different_ids(change: dict[str, Any]) -> None:
    """Each part of the identity tells two fills apart."""
    assert entry_of(fill_of(BTC))["fill_id"] != entry_of(fill_of(BTC, **change))["fill_id"]


def test_instruments_with_equal_trade_ids_have_different_fills() -> None:
    """Binance numbers trades per symbol."""
    eth = perpetual("ETHUSDT-PERP")
    assert entry_of(fill_of(BTC))["fill_id"] != entry_of(fill_of(eth), cache_of(eth))["fill_id"]


def test_only_a_simulated_account_has_the_run_in_its_fills() -> None:
    """Simulated trade ids repeat from run to run; a venue's do not, and must outlive the run."""
    run = uuid(5).value
    real, simulated = entry_of(fill_of(BTC))["fill_id"], entry_of(fill_of(BTC), run=run)["fill_id"]
    assert simulated == f"{real}|{run}" and run not in real


def test_separators_inside_an_id_are_escaped() -> None:
    """Two fills whose parts join to the same text still have different ids."""
    pairs = [("a|b", "c"), ("a", "b|c"), ("a%7Cb", "c"), ("a%257Cb", "c")]
    ids = [
        entry_of(fill_of(BTC, venue_order_id=VenueOrderId(order), trade_id=trade))["fill_id"]
        for order, trade in pairs
    ]
    assert len(set(ids)) == len(pairs) and all(name.count("|") == 4 for name in ids)


INFERRED = nautilus_pyo3.create_inferred_reconciliation_trade_id(
    nautilus_pyo3.AccountId("BINANCE_FUTURES-001"),
    nautilus_pyo3.InstrumentId.from_str("BTCUSDT-PERP.BINANCE_FUTURES"),
    nautilus_pyo3.ClientOrderId("O-1"),
    nautilus_pyo3.VenueOrderId("8389765"),
    nautilus_pyo3.OrderSide.BUY,
    nautilus_pyo3.OrderType.LIMIT,
    nautilus_pyo3.Quantity.from_str("0.004"),
    nautilus_pyo3.Quantity.from_str("0.004"),
    nautilus_pyo3.Price.from_str("50000.50"),
    nautilus_pyo3.PositionId("P-1"),
    TS_NS,
).value


@pytest.mark.parametrize(
    ("trade_id", "recon", "provisional"),
    [
        (INFERRED, True, "1"),
        ("50eed5ef-44aa-5c1b-9d6e-1f2a3b4c5d6e", True, "1"),
        ("S-18b3f2a1c9d04e00-7f3a9c", True, "1"),
        (INFERRED, False, "0"),  # some venues' own ids look like that
        ("S-18b3f2a1c9d04e00-7f3a9c", False, "0"),
        ("77001", True, "0"),  # missed while the bridge was down, and real
        ("BTC-123", True, "0"),
        ("T-5c4eb946e84ad7d4-001", True, "0"),
        ("50eed5ef-44aa-4c1b-9d6e-1f2a3b4c5d6e", True, "0"),  # a random UUID, not a derived one
    ],
)
def test_only_fills_that_nautilus_invented_are_provisional(
    trade_id: str, recon: bool, provisional: str
) -> None:
    """An id of an invented shape counts only together with reconciliation."""
    fields = entry_of(fill_of(BTC, trade_id=trade_id, reconciliation=recon))
    assert (fields["provisional"], fields["recon"]) == (provisional, "01"[recon])


# --- contracts


def test_an_inverse_contract_says_so_and_its_fee_is_priced_by_the_fill() -> None:
    """Contracts of 10 USD, fee in BTC, quoted in USD."""
    perp = inverse()
    order = limit(perp, qty="100", price="50000.5")
    fields = entry_of(
        fill_of(perp, order, qty="100", price="50000.5", fee="0.00000500 BTC"), cache_of(perp)
    )
    assert (fields["inverse"], fields["multiplier"], fields["venue"]) == ("1", "10", "DERIBIT")
    assert (fields["base_ccy"], fields["quote_ccy"], fields["fee_ccy"]) == ("BTC", "USD", "BTC")
    assert Decimal(fields["fee_quote"]) == Decimal("0.2500025")


def test_a_multiplier_keeps_its_digits() -> None:
    """A contract of a hundredth is 0.01, not 0.010000000000000000208."""
    small = perpetual(multiplier=Quantity.from_str("0.01"))
    assert entry_of(fill_of(small), cache_of(small))["multiplier"] == "0.01"


def test_a_fill_of_an_instrument_that_is_missing_is_told() -> None:
    """What only the instrument knows is empty; a fee in a third currency has no price."""
    fields = entry_of(fill_of(BTC, fee="0.00001234 BNB"), cache_of())
    names = ("base_ccy", "multiplier", "inverse", "fee_quote")
    assert [fields[name] for name in names] == [""] * 4
    assert (fields["quote_ccy"], fields["price"]) == ("USDT", "50000.50")
