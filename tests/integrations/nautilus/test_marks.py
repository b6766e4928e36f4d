"""integrations/nautilus/prices.py, `marks`: what the ops page values positions by."""

from decimal import Decimal

from nautilus_trader.cache.cache import Cache
from nautilus_trader.model.data import QuoteTick
from nautilus_trader.model.identifiers import InstrumentId, Symbol
from nautilus_trader.model.instruments import CurrencyPair
from nautilus_trader.model.objects import Price, Quantity
from nautilus_trader.test_kit.providers import TestInstrumentProvider

from integrations.nautilus.prices import marks

ALIAS = {"BINANCE_SPOT": "BINANCE"}
BTC, ETH, LTC = ("BINANCE", "BTCUSDT"), ("BINANCE", "ETHUSDT"), ("BINANCE", "LTCUSDT")


def test_the_last_middle_by_the_names_of_the_streams() -> None:
    """Of those that are asked for; an instrument without a quote has none."""
    cache = Cache()
    for symbol, bid, ask in (("BTCUSDT", "100.01", "100.04"), ("ETHUSDT", "7.00", "7.02")):
        instrument = _spot(symbol)
        cache.add_instrument(instrument)
        cache.add_quote_tick(_quote(instrument.id, bid, ask))
    cache.add_instrument(_spot("LTCUSDT"))

    assert marks(cache, ALIAS, {BTC, LTC}) == {BTC: Decimal("100.025")}
    assert marks(cache, {}, {BTC}) == {}
    assert marks(cache, ALIAS, {BTC, ETH})[ETH] == Decimal("7.01")


def _spot(symbol: str) -> CurrencyPair:
    known = CurrencyPair.to_dict(TestInstrumentProvider.btcusdt_binance())
    named = {"id": f"{symbol}.BINANCE_SPOT", "raw_symbol": Symbol(symbol).value}
    return CurrencyPair.from_dict(known | named)


def _quote(instrument_id: InstrumentId, bid: str, ask: str) -> QuoteTick:
    size = Quantity.from_str("1")
    return QuoteTick(instrument_id, Price.from_str(bid), Price.from_str(ask), size, size, 1, 1)
