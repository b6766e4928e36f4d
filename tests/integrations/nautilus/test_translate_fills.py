"""Fills -> exec:fills: identity, money, and what they cost in quote currency."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nautilus_trader.cache.cache import Cache
from nautilus_trader.core import nautilus_pyo3
from nautilus_trader.model.data import TradeTick
from nautilus_trader.model.enums import AggressorSide, LiquiditySide, OrderSide
from nautilus_trader.model.events import OrderFilled
from nautilus_trader.model.identifiers import AccountId, TradeId, VenueOrderId
from nautilus_trader.model.instruments import Instrument
from nautilus_trader.model.objects import Money, Price, Quantity

from tests.integrations.nautilus.builders import (
    TS_NS,
    cache_of,
    currency,
    fields_of,
    fill_of,
    inverse,
    limit,
    option,
    pair,
    perpetual,
    quote_of,
    translator_of,
    uuid,
)
from tests.integrations.nautilus.ranges import ORACLE, PRICE_MAX, digits_of, oracle, precisions, prices, quantities, raws

BTC = perpetual()
BNB = pair("BNBUSDT", "BNB", "USDT", price_digits=2)


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


# --- what the fee is in quote currency


def cost(fill: OrderFilled, *instruments: Instrument, ticks: Any = ()) -> tuple[str, str, str]:
    cache = cache_of(*instruments)
    for tick in ticks:
        if isinstance(tick, TradeTick):
            cache.add_trade_tick(tick)
        else:
            cache.add_quote_tick(tick)
    fields = entry_of(fill, cache)
    return fields["fee"], fields["fee_ccy"], fields["fee_quote"]


def trade_of(instrument: Instrument, price: str) -> TradeTick:
    size, buyer = Quantity.from_int(1), AggressorSide.BUYER
    return TradeTick(instrument.id, Price.from_str(price), size, buyer, TradeId("1"), TS_NS, 0)


BNB_FEE = {"fee": "0.00001234 BNB"}
BNB_QUOTE = quote_of(BNB, "600.10", "600.13")


def test_a_rebate_is_a_negative_fee() -> None:
    """A maker may be paid."""
    assert cost(fill_of(BTC, fee="-0.02500000 USDT"), BTC) == ("-0.02500000", "USDT", "-0.02500000")


def test_a_fee_in_base_currency_costs_the_price_of_the_fill() -> None:
    """A spot buy pays in what it bought; the product is exact."""
    spot = pair()
    fee = cost(fill_of(spot, fee="0.00000123 BTC", price="50000.51"), spot)
    assert fee == ("0.00000123", "BTC", "0.0615006273")


def test_a_fee_in_a_third_currency_is_priced_by_its_quote() -> None:
    """The middle of the cached quote of BNB prices a fee in BNB, exactly."""
    product = ORACLE.multiply(Decimal("0.00001234"), Decimal("600.115"))
    found = cost(fill_of(BTC, **BNB_FEE), BTC, BNB, ticks=[BNB_QUOTE, trade_of(BNB, "1.00")])
    assert found == ("0.00001234", "BNB", f"{product:f}")


def test_without_a_quote_the_last_trade_prices_a_fee() -> None:
    """Where nobody subscribed to quotes, a trade will do."""
    found = cost(fill_of(BTC, **BNB_FEE), BTC, BNB, ticks=[trade_of(BNB, "600.00")])
    assert Decimal(found[2]) == Decimal("0.00740400")


def test_a_fee_that_nothing_prices_is_empty_never_zero() -> None:
    """No instrument, and an instrument that never ticked."""
    assert cost(fill_of(BTC, **BNB_FEE), BTC)[2] == ""
    assert cost(fill_of(BTC, **BNB_FEE), BTC, BNB)[2] == ""


def test_a_fee_of_nothing_costs_nothing_in_any_currency() -> None:
    """Zero needs no price."""
    assert cost(fill_of(BTC, fee="0 BNB"), BTC) == ("0.00000000", "BNB", "0")


def test_a_price_appears_later_and_an_instrument_without_ticks_is_passed_over() -> None:
    """What could not be priced is priced as soon as any instrument of that pair has a price."""
    silent = pair("BNBUSDT", "BNB", "USDT", venue="KRAKEN")
    cache = cache_of(BTC, silent, BNB)
    translator = translator_of(cache)
    fill = fill_of(BTC, **BNB_FEE)
    assert fields_of(translator.order(fill)[0])["fee_quote"] == ""

    cache.add_quote_tick(BNB_QUOTE)
    assert Decimal(fields_of(translator.order(fill)[0])["fee_quote"]) == Decimal("0.0074054191")

    cache.add_quote_tick(quote_of(BNB, "500.00", "500.00"))
    assert Decimal(fields_of(translator.order(fill)[0])["fee_quote"]) == Decimal("0.00617")


def test_an_option_does_not_price_its_underlying() -> None:
    """The premium of a BNB option is not the price of a BNB; that of a swap is, if need be."""
    call, swap = option(), perpetual("BNBUSDT-PERP", base_currency="BNB")
    ticks = [quote_of(call, "12.5", "12.5")]
    assert cost(fill_of(BTC, **BNB_FEE), BTC, call, ticks=ticks)[2] == ""

    ticks.append(quote_of(swap, "600.00", "600.00"))
    priced = cost(fill_of(BTC, **BNB_FEE), BTC, call, swap, ticks=ticks)
    assert Decimal(priced[2]) == Decimal("0.007404")


def test_an_option_does_not_price_its_own_fee() -> None:
    """Nor is the premium of the fill itself the price of its underlying."""
    call = option()
    fill = fill_of(call, limit(call, price="12.5", qty="1.00"), price="12.5", **BNB_FEE)
    assert Decimal(cost(fill, call, BNB, ticks=[BNB_QUOTE])[2]) == Decimal("0.0074054191")


def test_spot_prices_a_fee_rather_than_a_swap() -> None:
    """Of several instruments of the pair, the one without a basis is taken."""
    swap = perpetual("BNBUSDT-PERP", base_currency="BNB")
    ticks = [quote_of(swap, "700.00", "700.00"), BNB_QUOTE]
    priced = cost(fill_of(BTC, **BNB_FEE), BTC, swap, BNB, ticks=ticks)
    assert Decimal(priced[2]) == Decimal("0.0074054191")


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
    fields = entry_of(fill_of(BTC, **BNB_FEE), cache_of())
    names = ("base_ccy", "multiplier", "inverse", "fee_quote")
    assert [fields[name] for name in names] == [""] * 4
    assert (fields["quote_ccy"], fields["price"]) == ("USDT", "50000.50")
