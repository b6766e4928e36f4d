"""What the node of a role is made of: instruments, data clients, execution clients."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

import structlog
from nautilus_trader.adapters.sandbox.config import SandboxExecutionClientConfig
from nautilus_trader.live.config import LiveDataClientConfig, LiveExecClientConfig
from nautilus_trader.live.factories import LiveDataClientFactory, LiveExecClientFactory
from nautilus_trader.model.identifiers import InstrumentId
from nautilus_trader.model.instruments import Instrument

from bridge.exits import BAD_DATA, CONFIGURATION, Exit
from bridge.settings import Config, MarketSettings
from integrations.binance import sample
from integrations.binance.dataset import Dataset, load
from integrations.binance.manifest import DatasetError
from integrations.nautilus import venues
from integrations.nautilus.loading import load_client
from integrations.nautilus.replay import ReplayClientConfig, instrument_of, replay_factory
from integrations.nautilus.sandbox import SandboxLiveExecClientFactory
from integrations.nautilus.venues import Universe

log = structlog.get_logger("nautilus_bridge.roles")

# Account types of the sandbox by venue; what is not named here is a margin account.
ACCOUNT_TYPES: Final = {"BINANCE_SPOT": "CASH"}
BALANCES: Final = {"DERIBIT": ["500000 USD", "500000 USDC", "10 BTC", "100 ETH"]}
BALANCES_ELSEWHERE: Final = ["500000 USDT"]


@dataclass(frozen=True, slots=True)
class Plan:
    """The parts of a node. `instruments` are those known before it runs; clients by venue."""

    universe: Universe
    instruments: Sequence[Instrument]
    data: dict[str, tuple[LiveDataClientConfig, type[LiveDataClientFactory]]]
    execution: dict[str, tuple[LiveExecClientConfig, type[LiveExecClientFactory]]]
    size_fraction: Decimal

    @property
    def symbols(self) -> list[str]:
        """The symbols that are traded."""
        return [each.symbol.value for each in self.universe.traded]


def plan_of(config: Config, *, executes: bool) -> Plan:
    """Return the plan of a role; without `executes` there is nothing to trade through.

    Raises Exit when the dataset or a client cannot be used.
    """
    if config.role != "demo" and (config.is_simulated or not executes):
        venues.drop_keys()
    fraction = config.shadow.size_fraction if config.role == "shadow" else Decimal(1)
    if config.data == "venue":
        universe = _universe(config)
        instruments: list[Instrument] = []
        data = venues.data_clients(config, universe)
    else:
        universe, instruments, data = _replayed(config)
    venues.check_published(config.market, universe)
    trading = list(dict.fromkeys([each.venue.value for each in universe.traded]))
    return Plan(universe, instruments, data, _execution(config, trading, executes), fraction)


def demo_data(folder: Path) -> Dataset:
    """Return the dataset in `folder`, made first when there is no such folder."""
    try:
        if not folder.exists():
            log.info("dataset.making", folder=str(folder))
            sample.generate(folder)
        return load(folder)
    except (DatasetError, OSError, ValueError) as error:
        remedy = f"remove the folder {folder} to have it made again"
        raise Exit(BAD_DATA, f"replay.dataset: {error}; {remedy}") from None


def check_market(market: MarketSettings, data: Dataset) -> None:
    """Raise Exit for market data that the dataset does not have."""
    known = {row.id for row in data.instruments}
    unknown = sorted({*market.instruments} - known)
    if unknown:
        raise Exit(
            CONFIGURATION,
            f"market.instruments: the demo's dataset has no {', '.join(unknown)}; it has "
            f"{', '.join(sorted(known))}",
        )
    external = [name for name in market.bar_types if not name.endswith("-INTERNAL")]
    if external:
        raise Exit(
            CONFIGURATION,
            f"market.bar_types: the demo's dataset has no bars ({', '.join(external)}); "
            "-INTERNAL bars are built by Nautilus from its trades or quotes",
        )


def _universe(config: Config) -> Universe:
    node = config.node
    elsewhere = "BINANCE" if "BINANCE" in node.venues else node.venues[0]
    perp_venue = config.shadow.perp_venue or elsewhere
    return venues.universe_of(node.venues, node.symbols, perp_venue=perp_venue)


def _replayed(
    config: Config,
) -> tuple[
    Universe,
    list[Instrument],
    dict[str, tuple[LiveDataClientConfig, type[LiveDataClientFactory]]],
]:
    """Return what the dataset offers of a role's instruments: the demo trades all of them."""
    data = demo_data(config.replay.dataset)
    check_market(config.market, data)
    known = [row.id for row in data.instruments]
    if config.role == "demo":
        universe = Universe(tuple([InstrumentId.from_str(name) for name in known]))
    else:
        universe = _universe(config)
        venues.check_symbols(known, universe)
        if absent := [each.value for each in universe.watched if each.value not in known]:
            log.info("replay.without", instruments=absent, why="the dataset does not have them")
        universe = Universe(
            universe.traded, tuple([each for each in universe.watched if each.value in known])
        )
    wanted = {each.value for each in universe.all}
    instruments = [instrument_of(row) for row in data.instruments if row.id in wanted]
    client = ReplayClientConfig(dataset=str(config.replay.dataset), rate=config.replay.rate)
    factory = replay_factory(data)
    names = dict.fromkeys([each.id.venue.value for each in instruments])
    return universe, instruments, dict.fromkeys(names, (client, factory))


def _execution(
    config: Config, trading: Sequence[str], executes: bool
) -> dict[str, tuple[LiveExecClientConfig, type[LiveExecClientFactory]]]:
    if config.is_simulated:
        return {venue: (_sandbox_config(venue), SandboxLiveExecClientFactory) for venue in trading}
    if not executes:
        return {}
    factory = load_client(str(config.node.exec_client))
    return {venue: (LiveExecClientConfig(), factory) for venue in trading}


def _sandbox_config(venue: str) -> SandboxExecutionClientConfig:
    account_type = ACCOUNT_TYPES.get(venue, "MARGIN")
    return SandboxExecutionClientConfig(
        venue=venue,
        account_type=account_type,
        starting_balances=BALANCES.get(venue, BALANCES_ELSEWHERE),
        default_leverage=Decimal(10) if account_type == "MARGIN" else Decimal(1),
    )
