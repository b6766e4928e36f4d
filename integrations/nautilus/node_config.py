"""The settings of a role's node, in Nautilus's own terms."""

from typing import Final

from nautilus_trader.config import (
    CacheConfig,
    DatabaseConfig,
    LiveDataEngineConfig,
    LiveExecEngineConfig,
    LiveRiskEngineConfig,
    LoggingConfig,
    TradingNodeConfig,
)
from nautilus_trader.model.identifiers import TraderId

from bridge import endpoints
from bridge.settings import Config
from integrations.nautilus.roles import Plan

UNLIMITED: Final = "10000/00:00:01"
# How long what has ended stays in a sandbox's cache, unless set.
KEPT_MINUTES: Final = 5


def kept_minutes(config: Config) -> int:
    """Return for how many minutes closed orders stay in the cache, 0 for ever."""
    given = config.node.purge_closed_minutes
    if not config.is_simulated:
        return 0  # a venue may report each of them again, and fill it
    return KEPT_MINUTES if given is None else given


def node_config(config: Config, plan: Plan) -> TradingNodeConfig:
    """Return the configuration of a node that is made of `plan`."""
    return TradingNodeConfig(
        trader_id=TraderId(config.trader_id),
        logging=LoggingConfig(log_level=config.node.log_level, log_colors=False),
        cache=_cache_config(config),
        data_engine=LiveDataEngineConfig(graceful_shutdown_on_exception=True),
        risk_engine=LiveRiskEngineConfig(
            graceful_shutdown_on_exception=True,
            # The guard's own limits hold, and can be changed while it runs.
            max_order_submit_rate=UNLIMITED,
            max_order_modify_rate=UNLIMITED,
        ),
        exec_engine=LiveExecEngineConfig(
            graceful_shutdown_on_exception=True,
            # What it invents for a spot account would sell everything that is held.
            generate_missing_orders=config.is_simulated,
        ),
        data_clients={venue: client for venue, (client, _) in plan.data.items()},
        exec_clients={venue: client for venue, (client, _) in plan.execution.items()},
        timeout_connection=config.node.start_timeout_seconds,
        timeout_post_stop=config.node.stop_timeout_seconds,
        timeout_disconnection=1.0,
    )


def _cache_config(config: Config) -> CacheConfig | None:
    if config.cache.url is None:
        return None
    target = endpoints.parse_single(config.cache.url.get_secret_value())
    database = DatabaseConfig(
        type="redis",
        host=target.host,
        port=target.port,
        username=target.username,
        password=target.password,
        ssl=target.tls is not None,
    )
    return CacheConfig(database=database, encoding="msgpack")
