"""Venues and symbols as a user names them: instruments, data clients, and no keys."""

import dataclasses
import os
from decimal import Decimal

import pytest
from nautilus_trader.adapters.binance import BinanceAccountType
from nautilus_trader.model.identifiers import InstrumentId
from structlog.testing import capture_logs

from bridge import config, exits
from bridge.exits import Exit
from integrations.nautilus import venues
from integrations.nautilus.replay import instrument_of
from integrations.nautilus.sandbox import with_fee
from integrations.nautilus.venues import Universe
from tests.integrations.nautilus import engines

BOTH = ("BINANCE", "DERIBIT")
BTC = "BTCUSDT.BINANCE_SPOT"
BTC_PERP = "BTCUSDT-PERP.BINANCE_FUTURES"


def names(universe: Universe) -> tuple[list[str], list[str]]:
    """Return what is traded, and what gives data only."""
    return [each.value for each in universe.traded], [each.value for each in universe.watched]


def settings(**given: str) -> config.Config:
    given = {name.replace("__", "."): value for name, value in given.items()}
    return config.load(None, environ={}, overrides=given)


@pytest.mark.parametrize(
    ("where", "perp_venue", "traded", "watched"),
    [
        (("BINANCE",), "BINANCE", [BTC, BTC_PERP], []),
        (("DERIBIT",), "DERIBIT", ["BTC-PERPETUAL.DERIBIT"], []),
        (BOTH, "BINANCE", [BTC, BTC_PERP], ["BTC-PERPETUAL.DERIBIT"]),
        (BOTH, "DERIBIT", [BTC, "BTC-PERPETUAL.DERIBIT"], [BTC_PERP]),
    ],
)
def test_a_symbol_is_a_spot_and_a_perpetual_leg(where, perp_venue, traded, watched):
    """The perpetual is traded on one venue; that of another one gives data only."""
    universe = venues.universe_of(where, ["BTC"], perp_venue=perp_venue)

    assert names(universe) == (traded, watched)
    assert [each.value for each in universe.all] == traded + watched


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("BTC", "BTC-PERPETUAL.DERIBIT"),
        ("ETH", "ETH-PERPETUAL.DERIBIT"),
        ("SOL", "SOL_USDC-PERPETUAL.DERIBIT"),
    ],
)
def test_deribit_names_what_is_settled_in_usdc(symbol, name):
    """Perpetuals on bitcoin and ether are settled in the coin, all others in USDC."""
    assert names(venues.universe_of(["DERIBIT"], [symbol], perp_venue="DERIBIT"))[0] == [name]


def test_each_venue_has_one_data_client_without_keys():
    """It loads the venue's instruments and nothing else, from the addresses of the settings."""
    given = settings(
        binance__spot_http_url="http://127.0.0.1:1",
        binance__spot_ws_url="ws://127.0.0.1:2",
        binance__futures_http_url="http://127.0.0.1:3",
        binance__futures_ws_url="ws://127.0.0.1:4",
        deribit__http_url="http://127.0.0.1:5",
        deribit__ws_url="ws://127.0.0.1:6",
    )
    universe = venues.universe_of(BOTH, ["BTC", "ETH"], perp_venue="BINANCE")

    clients = {name: client for name, (client, _) in venues.data_clients(given, universe).items()}

    loads = {
        name: sorted([each.value for each in client.instrument_provider.load_ids])
        for name, client in clients.items()
    }
    assert loads == {
        "BINANCE_SPOT": [BTC, "ETHUSDT.BINANCE_SPOT"],
        "BINANCE_FUTURES": [BTC_PERP, "ETHUSDT-PERP.BINANCE_FUTURES"],
        "DERIBIT": ["BTC-PERPETUAL.DERIBIT", "ETH-PERPETUAL.DERIBIT"],
    }
    assert [(each.base_url_http[-1], each.base_url_ws[-1]) for each in clients.values()] == [
        ("1", "2"),
        ("3", "4"),
        ("5", "6"),
    ]
    assert {each.api_key or each.api_secret for each in clients.values()} == {None}
    assert clients["BINANCE_SPOT"].account_type is BinanceAccountType.SPOT
    assert clients["BINANCE_FUTURES"].account_type is BinanceAccountType.USDT_FUTURES


def test_keys_are_dropped(monkeypatch):
    """Variables of both venues leave the environment; the log has their names, not their values."""
    for name in ("BINANCE_API_KEY", "DERIBIT_TESTNET_API_SECRET", "OTHER_API_KEY"):
        monkeypatch.setenv(name, "secret")

    with capture_logs() as said:
        venues.drop_keys()
        venues.drop_keys()  # says nothing where there is nothing to drop

    dropped = ["BINANCE_API_KEY", "DERIBIT_TESTNET_API_SECRET"]
    assert [each["variables"] for each in said] == [dropped]
    assert not os.environ.keys() & {*dropped}
    assert os.environ["OTHER_API_KEY"] == "secret"
    assert "'secret'" not in str(said)


def test_the_dataset_must_have_what_is_traded():
    """Exit 78 names what it lacks and what it has; what gives data only may be missing."""
    universe = venues.universe_of(BOTH, ["BTC"], perp_venue="BINANCE")
    venues.check_symbols([BTC, BTC_PERP], universe)

    with pytest.raises(Exit, match=rf"no {BTC}; it has {BTC_PERP}") as caught:
        venues.check_symbols([BTC_PERP], universe)

    assert caught.value.code == exits.CONFIGURATION


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("market__instruments", "ETHUSDT.BINANCE_SPOT"),
        ("market__bar_types", "ETHUSDT.BINANCE_SPOT-1-MINUTE-LAST-INTERNAL"),
    ],
)
def test_market_data_of_other_instruments(setting, value):
    """Exit 78 names the setting: its first quote would end a node that trades there."""
    universe = venues.universe_of(["BINANCE"], ["BTC"], perp_venue="BINANCE")
    market = settings(**{setting: value}).market
    words = rf"{setting.replace('__', '.')}: this role has no ETHUSDT.BINANCE_SPOT; it has {BTC}"

    with pytest.raises(Exit, match=words) as caught:
        venues.check_published(market, universe)

    assert caught.value.code == exits.CONFIGURATION
    venues.check_published(settings(market__instruments=BTC_PERP).market, universe)


@pytest.mark.parametrize(
    ("name", "told", "charged"),
    [(BTC, "0", "0.001"), (BTC, "0.0004", "0.0004"), (BTC_PERP, "0", "0")],
)
def test_a_spot_market_that_tells_no_fee(name, told, charged):
    """The sandbox charges the standard one there; a fee that is told holds, as does all else."""
    row = engines.row_of(InstrumentId.from_str(name))
    listed = instrument_of(dataclasses.replace(row, fee=Decimal(told)))

    made = with_fee(listed)

    assert made.maker_fee == made.taker_fee == Decimal(charged)
    fields = type(listed).to_dict
    changed = {key for key, value in fields(made).items() if value != fields(listed)[key]}
    assert changed <= {"maker_fee", "taker_fee"}
