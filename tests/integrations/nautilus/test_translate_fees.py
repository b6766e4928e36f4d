"""What a fill costs in quote currency: priced exactly, or empty, never guessed."""

from decimal import Decimal
from typing import Any

from nautilus_trader.model.data import TradeTick
from nautilus_trader.model.enums import AggressorSide
from nautilus_trader.model.events import OrderFilled
from nautilus_trader.model.identifiers import TradeId
from nautilus_trader.model.instruments import Instrument
from nautilus_trader.model.objects import Price, Quantity

from tests.integrations.nautilus.builders import (
    TS_NS,
    cache_of,
    fields_of,
    fill_of,
    limit,
    option,
    pair,
    perpetual,
    quote_of,
    translator_of,
)
from tests.integrations.nautilus.ranges import (
    ORACLE,
)

BTC = perpetual()
BNB = pair("BNBUSDT", "BNB", "USDT", price_digits=2)


def cost(fill: OrderFilled, *instruments: Instrument, ticks: Any = ()) -> tuple[str, str, str]:
    cache = cache_of(*instruments)
    for tick in ticks:
        if isinstance(tick, TradeTick):
            cache.add_trade_tick(tick)
        else:
            cache.add_quote_tick(tick)
    fields = fields_of(translator_of(cache).order(fill)[0])
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
