"""Where market data goes: stream names, venues, and what is refused."""

import pytest
from nautilus_trader.model.enums import AssetClass

from bridge.core.contract import Names, default_names
from bridge.core.lanes import Refused
from integrations.nautilus import market
from integrations.nautilus.market import ASSET_WORDS, Routes, Trim
from tests.integrations.nautilus.builders import (
    ALIAS,
    cache_of,
    pair,
    perpetual,
    quote_of,
    routes_of,
)
from tests.integrations.nautilus.ranges import written

BTC = perpetual()


def test_an_instrument_that_is_missing_is_refused_until_it_is_there() -> None:
    """A tick of an instrument not in the cache is refused; once it is there, ticks go through."""
    cache = cache_of()
    routes = Routes(default_names(), cache, venue_alias=ALIAS, trim=Trim(1000))
    encode = market.quote_encoder(routes)
    tick = quote_of(BTC, "1.00", "1.01")
    with pytest.raises(Refused) as refused:
        encode([tick])
    assert refused.value.reason == "no_instrument" and str(BTC.id) in str(refused.value)

    cache.add_instrument(BTC)

    assert len(written("quotes", encode([tick]))) == 1


def test_two_instruments_never_share_a_stream() -> None:
    """The second instrument that maps to a stream is refused, with a hint; the first goes on."""
    twin = pair("BTCUSDT-PERP", venue="KRAKEN")
    encode = market.quote_encoder(routes_of(BTC, twin))
    first = quote_of(BTC, "1.00", "1.01")
    encode([first])

    with pytest.raises(Refused, match=r"streams\.quotes") as refused:
        encode([quote_of(twin, "1.00", "1.01")])

    assert refused.value.reason == "collision"
    assert len(written("quotes", encode([first]))) == 1


def test_instruments_that_collide_are_refused_at_the_start() -> None:
    """`check` finds two instruments for one stream before the first tick."""
    routes = routes_of()
    routes.check([BTC, perpetual("ETHUSDT-PERP")])
    with pytest.raises(Refused, match="would share the stream"):
        routes.check([pair("BTCUSDT-PERP", venue="KRAKEN")])


def test_a_brace_in_a_symbol_is_refused() -> None:
    """Braces move a key to another Cluster slot."""
    odd = perpetual("BTC{1}")
    with pytest.raises(Refused, match="brace") as refused:
        market.quote_encoder(routes_of(odd))([quote_of(odd, "1.00", "1.01")])
    assert refused.value.reason == "collision"


def test_templates_can_name_venue_base_and_quote() -> None:
    """{venue} is in the stack's words, {base} and {quote} are currencies."""
    templates = dict(default_names().templates) | {"quotes": "q.{venue}.{base}.{quote}.{asset}"}
    encode = market.quote_encoder(routes_of(BTC, names=Names("shadow:", templates)))

    (entry,) = written("quotes", encode([quote_of(BTC, "1.00", "1.01")]))

    assert entry.key == "shadow:q.BINANCE.BTC.USDT.crypto"


def test_a_venue_without_an_alias_keeps_its_name() -> None:
    """Only the venues of the alias table are renamed."""
    kraken = perpetual("BTCUSDT-PERP", venue="KRAKEN")
    encode = market.quote_encoder(routes_of(kraken))
    (entry,) = written("quotes", encode([quote_of(kraken, "1.00", "1.01")]))
    assert entry.fields["venue"] == "KRAKEN"


def test_every_asset_class_has_a_word() -> None:
    """No asset class of Nautilus is without a name in the stack's words."""
    assert set(ASSET_WORDS) == set(AssetClass)
    assert [ASSET_WORDS[kind] for kind in (AssetClass.FX, AssetClass.EQUITY)] == ["fx", "equity"]
    assert market.describe(BTC, {})["asset"] == "crypto"
    assert market.describe(pair("EUR/USD", "EUR", "USD"), {})["asset"] == "fx"
