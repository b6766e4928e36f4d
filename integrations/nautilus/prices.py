"""What a currency is worth in another one, by the last quotes and trades in the cache."""

from collections.abc import Container, Mapping
from decimal import Decimal
from typing import Final

from nautilus_trader.cache.cache import Cache
from nautilus_trader.model.currencies import Currency
from nautilus_trader.model.enums import InstrumentClass
from nautilus_trader.model.identifiers import InstrumentId
from nautilus_trader.model.instruments import Instrument

from bridge.core.limits import DOLLARS
from integrations.nautilus.values import place

# Instruments whose price is that of one unit of their base currency, the best first. The price of
# an option or a spread says nothing about its base.
OUTRIGHT: Final = (InstrumentClass.SPOT, InstrumentClass.SWAP, InstrumentClass.FUTURE)

ONE: Final = Decimal(1)


class Prices:
    """Prices currencies; remembers which instrument priced which pair."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._pricing: dict[tuple[str, str], InstrumentId] = {}

    def of(self, currency: Currency, quote: Currency) -> Decimal | None:
        """Return the price of one `currency` in `quote`, None when there is none."""
        pair = (currency.code, quote.code)
        known = self._pricing.get(pair)
        price = None if known is None else self.last(known)
        if price is not None:
            return price
        candidates = [i for i in self._cache.instruments() if is_price_of(i, currency, quote)]
        for instrument in sorted(candidates, key=lambda i: OUTRIGHT.index(i.instrument_class)):
            price = self.last(instrument.id)
            if price is not None:
                self._pricing[pair] = instrument.id
                return price
        return None

    def in_dollars(self, currency: Currency) -> Decimal | None:
        """Return the price of one `currency` in US dollars or a coin that stands for one."""
        if currency.code in DOLLARS:
            return ONE
        for code in DOLLARS:
            price = self.of(currency, Currency.from_str(code))
            if price is not None:
                return price
        return None

    def last(self, instrument_id: InstrumentId) -> Decimal | None:
        """Return the middle of the last quote, else the last trade's price."""
        quote = self._cache.quote_tick(instrument_id)
        if quote is not None:
            return (quote.bid_price.as_decimal() + quote.ask_price.as_decimal()) / 2
        trade = self._cache.trade_tick(instrument_id)
        return None if trade is None else trade.price.as_decimal()


def is_price_of(instrument: Instrument, currency: Currency, quote: Currency) -> bool:
    """Return whether the instrument's price is that of one `currency` in `quote`."""
    return (
        instrument.quote_currency == quote
        and instrument.get_base_currency() == currency
        and instrument.instrument_class in OUTRIGHT
    )


def marks(
    cache: Cache, venue_alias: Mapping[str, str], wanted: Container[tuple[str, str]]
) -> dict[tuple[str, str], Decimal]:
    """Return the last prices of instruments, as far as there are any, by venue, as the streams have
    it, and symbol; `wanted` holds those that are asked for."""
    prices, found = Prices(cache), {}
    for instrument_id in cache.instrument_ids():
        names = place(instrument_id, venue_alias)
        key = names["venue"], names["symbol"]
        if key in wanted and (price := prices.last(instrument_id)) is not None:
            found[key] = price
    return found
