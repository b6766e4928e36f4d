"""Venues and symbols as a user names them -> instruments, and data clients without keys."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from nautilus_trader.adapters.binance import (
    BinanceAccountType,
    BinanceDataClientConfig,
    BinanceInstrumentProviderConfig,
    BinanceLiveDataClientFactory,
)
from nautilus_trader.adapters.deribit import DeribitDataClientConfig, DeribitLiveDataClientFactory
from nautilus_trader.config import InstrumentProviderConfig
from nautilus_trader.live.config import LiveDataClientConfig
from nautilus_trader.live.factories import LiveDataClientFactory
from nautilus_trader.model.data import BarType
from nautilus_trader.model.identifiers import InstrumentId, Venue

from bridge.exits import CONFIGURATION, Exit
from bridge.settings import Config, MarketSettings

log = structlog.get_logger("nautilus_bridge.venues")

SPOT: Final = "BINANCE_SPOT"
FUTURES: Final = "BINANCE_FUTURES"
DERIBIT: Final = "DERIBIT"

ACCOUNT_TYPES: Final = {
    SPOT: BinanceAccountType.SPOT,
    FUTURES: BinanceAccountType.USDT_FUTURES,
}

# What Deribit lists against the coin itself; the rest is settled in USDC.
DERIBIT_INVERSE: Final = ("BTC", "ETH")

# Where the adapters look for keys by themselves.
KEY_VARIABLES: Final = ("BINANCE_", "DERIBIT_")


@dataclass(frozen=True, slots=True)
class Universe:
    """The instruments of a role: those `traded`, and those that give data only."""

    traded: tuple[InstrumentId, ...]
    watched: tuple[InstrumentId, ...] = ()

    @property
    def all(self) -> tuple[InstrumentId, ...]:
        """All of them."""
        return self.traded + self.watched


def universe_of(venues: Sequence[str], symbols: Sequence[str], *, perp_venue: str) -> Universe:
    """Return the instruments of base currencies on venues: per symbol a spot and a perpetual leg.

    Perpetuals are traded on `perp_venue`; those of the other venue give data only.
    """
    traded: list[str] = []
    watched: list[str] = []
    for symbol in symbols:
        if "BINANCE" in venues:
            traded.append(f"{symbol}USDT.{SPOT}")
            (traded if perp_venue == "BINANCE" else watched).append(f"{symbol}USDT-PERP.{FUTURES}")
        if "DERIBIT" in venues:
            name = f"{symbol}-PERPETUAL"
            if symbol not in DERIBIT_INVERSE:
                name = f"{symbol}_USDC-PERPETUAL"
            (traded if perp_venue == "DERIBIT" else watched).append(f"{name}.{DERIBIT}")
    return Universe(
        tuple([InstrumentId.from_str(name) for name in traded]),
        tuple([InstrumentId.from_str(name) for name in watched]),
    )


type DataClients = dict[str, tuple[LiveDataClientConfig, type[LiveDataClientFactory]]]


def data_clients(config: Config, universe: Universe) -> DataClients:
    """Return the configuration and the factory of each venue's data client: none has a key."""
    clients: DataClients = {}
    for venue in dict.fromkeys([each.venue.value for each in universe.all]):
        ids = frozenset([each for each in universe.all if each.venue.value == venue])
        if venue == DERIBIT:
            clients[venue] = (
                DeribitDataClientConfig(
                    base_url_http=config.deribit.http_url,
                    base_url_ws=config.deribit.ws_url,
                    instrument_provider=InstrumentProviderConfig(load_ids=ids),
                ),
                DeribitLiveDataClientFactory,
            )
            continue
        is_spot = venue == SPOT
        urls = config.binance
        clients[venue] = (
            BinanceDataClientConfig(
                venue=Venue(venue),
                account_type=ACCOUNT_TYPES[venue],
                base_url_http=urls.spot_http_url if is_spot else urls.futures_http_url,
                base_url_ws=urls.spot_ws_url if is_spot else urls.futures_ws_url,
                instrument_provider=BinanceInstrumentProviderConfig(load_ids=ids),
            ),
            BinanceLiveDataClientFactory,
        )
    return clients


def drop_keys() -> None:
    """Take the venues' keys out of the environment: the adapters would find and use them."""
    names = sorted([name for name in os.environ if name.startswith(KEY_VARIABLES)])
    for name in names:
        del os.environ[name]
    if names:
        log.info("keys.dropped", variables=names, why="this process sends no order")


def check_symbols(known: Sequence[str], universe: Universe) -> None:
    """Raise Exit for traded instruments that are not `known`."""
    missing = [each.value for each in universe.traded if each.value not in known]
    if missing:
        raise Exit(
            CONFIGURATION,
            f"node.symbols: the dataset has no {', '.join(missing)}; it has "
            f"{', '.join(sorted(known))}",
        )


def check_published(market: MarketSettings, universe: Universe) -> None:
    """Raise Exit for market data of an instrument that the role does not have.

    A sandbox of its venue would end the node at the first quote.
    """
    known = [each.value for each in universe.all]
    bars = [BarType.from_str(name).instrument_id.value for name in market.bar_types]
    for setting, names in (("instruments", market.instruments), ("bar_types", bars)):
        if unknown := sorted({*names} - {*known}):
            raise Exit(
                CONFIGURATION,
                f"market.{setting}: this role has no {', '.join(unknown)}; it has "
                f"{', '.join(known)}",
            )
