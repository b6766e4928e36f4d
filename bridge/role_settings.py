"""Settings of what trades: the node and its data, the control of it, the limits, the roles."""

from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import SecretStr, field_validator

from bridge.endpoints import parse_single
from bridge.section import (
    DOTTED,
    Section,
    check_secret_url,
    empty_is_unset,
    no_repetition,
    setting,
)

# What the repository has, by a word.
STRATEGIES: Final = {
    "example": "strategies.example:Example",
    "basis_carry": "strategies.basis_carry.port:NautilusBasisCarryStrategy",
}


def full_name(strategy: Any) -> Any:
    """Return `module:Class` of a short name, anything else as it is."""
    return STRATEGIES.get(strategy, strategy) if isinstance(strategy, str) else strategy


class SourceSettings(Section):
    factory: str = setting(
        "integrations.nautilus.node:factory", "module:function", "Builds the source of events.",
        pattern=DOTTED,
    )  # fmt: skip
    strategy: str = setting(
        STRATEGIES["example"], f"module:Class, or {', '.join(STRATEGIES)}",
        "The strategy that the node runs.", pattern=DOTTED,
    )  # fmt: skip
    params: Path | None = setting(
        None, "file", "The strategy's parameters, as TOML. Unset: its defaults; in the demo, those"
        " of demo.toml beside its module, where there is one.",
    )  # fmt: skip

    _unset = field_validator("params", mode="before")(empty_is_unset)

    _full_name = field_validator("strategy", mode="before")(full_name)


class ReplaySettings(Section):
    dataset: Path = setting(
        Path("data/demo"), "folder", "The dataset that the demo replays; made when absent."
    )
    rate: float | None = setting(
        None, "events per second", "Replay speed. Unset: the recorded pace.", gt=0, le=1_000_000
    )

    _unset = field_validator("rate", mode="before")(empty_is_unset)

    @field_validator("dataset", mode="before")
    @classmethod
    def _not_empty(cls, value: object) -> object:
        # An empty path means the working folder, which nobody asked for.
        if value == "":
            raise ValueError("it is empty")
        return value


class NodeSettings(Section):
    trader_id: str | None = setting(
        None, "NAME-TAG", "The trader id of the Nautilus node. Unset: the role's, as DEMO-001.",
        pattern=r"^[A-Za-z0-9_]+(-[A-Za-z0-9_]+)+$", max_length=64,
    )  # fmt: skip
    data: Literal["replay", "venue"] | None = setting(
        None, "", "Where market data come from: the dataset, or the venues, without keys. Unset:"
        " replay for the demo, else venue.",
    )  # fmt: skip
    venues: tuple[Literal["BINANCE", "DERIBIT"], ...] = setting(
        ("BINANCE",), "", "Venues of the roles shadow and live."
    )
    symbols: tuple[str, ...] = setting(
        ("BTC", "ETH", "SOL"), "base currency, ...", "What the roles shadow and live trade."
    )
    exec_client: str | None = setting(
        None, "module:Class",
        "A LiveExecClientFactory that executes for every venue, until the venues' own arrive.",
        pattern=DOTTED,
    )  # fmt: skip

    _unset = field_validator(
        "trader_id", "data", "exec_client", "purge_closed_minutes", mode="before"
    )(empty_is_unset)
    _distinct = field_validator("venues", "symbols")(no_repetition)

    start_timeout_seconds: float = setting(
        30, "seconds", "How long the node may take to connect and start.", gt=0, le=3600
    )
    stop_timeout_seconds: float = setting(
        2.0, "seconds", "How long the node waits for the last events on stop.", ge=0, le=300
    )
    purge_closed_minutes: int | None = setting(
        None, "minutes", "So long orders that have ended stay in the cache of a sandbox's node;"
        " unset: 5, 0: for ever, and memory grows. At a real venue they always stay.",
        ge=0, le=525_600,
    )  # fmt: skip
    log_level: Literal["OFF", "DEBUG", "INFO", "WARNING", "ERROR"] = setting(
        "ERROR", "", "What Nautilus itself logs, to stdout."
    )


class ControlSettings(Section):
    link_timeout_seconds: float = setting(
        5.0, "seconds", "Without a write that Redis accepted for so long, orders are refused.",
        ge=0.2, le=3600,
    )  # fmt: skip
    poll_seconds: float = setting(
        0.25, "seconds",
        "Flags and mode are read so often, beside each push. Without pushes: every 10 ms.",
        ge=0.01, le=60,
    )  # fmt: skip
    normal_modes: tuple[str, ...] = setting(
        ("normal", "auto", "run", "live", "failover"), "word, ...",
        "Words at `mode` that let trading go on; halt and reduce have their own meaning.",
    )  # fmt: skip
    halt_action: Literal["cancel", "flatten"] = setting(
        "cancel", "", "What a halt does: cancel all orders, or close all positions behind that."
    )
    on_disable: Literal["cancel", "hold"] = setting(
        "cancel", "", "Resting orders when the flag goes off or Redis is away: cancel or keep them."
    )

    @field_validator("normal_modes")
    @classmethod
    def _check_words(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        words = tuple([word.strip().casefold() for word in value])
        if taken := {"halt", "reduce", ""} & set(words):
            raise ValueError(f"{' '.join(sorted(taken)) or 'the empty word'} cannot be normal")
        return words


def _amount(default: str, text: str) -> Any:
    return setting(Decimal(default), "US dollars", text, ge=0, le=10**15)


def _share(default: str, text: str) -> Any:
    return setting(Decimal(default), "fraction", text, ge=0, le=1)


class LimitSettings(Section):
    max_order_notional: Decimal = _amount("100000", "Of one order.")
    max_position: Decimal = _amount("250000", "Of the net position in one instrument.")
    max_position_total: Decimal = _amount("500000", "Of all positions, added up without sign.")
    max_daily_loss: Decimal = _amount(
        "20000", "Lost since midnight UTC: trading halts. Demo: 1000000."
    )
    max_order_rate: Decimal = setting(
        Decimal(50), "orders and changes a second", "Sent to venues; as many at once. Demo: 1000.",
        ge=0, le=10**15,
    )  # fmt: skip
    stop_loss_pct: Decimal = _share("0.02", "Lost on a position: it is closed. Demo: 0.5.")
    max_drawdown: Decimal = _share("0.10", "Lost since the highest equity: trading halts. Demo: 1.")


# For ever looping a dataset, whose end does not meet its beginning, at any pace.
DEMO_LIMITS = {
    "max_daily_loss": Decimal(1_000_000),
    "max_order_rate": Decimal(1000),
    "stop_loss_pct": Decimal("0.5"),
    "max_drawdown": Decimal(1),
}


class ShadowSettings(Section):
    size_fraction: Decimal = setting(
        Decimal("0.1"), "fraction", "Handed to the strategy, which multiplies its size by it.",
        gt=0, le=1,
    )  # fmt: skip
    execution: Literal["sandbox", "venue"] = setting(
        "sandbox", "", "Who fills a shadow's orders: Nautilus's sandbox, or the venue itself."
    )
    perp_venue: Literal["BINANCE", "DERIBIT"] | None = setting(
        None, "",
        "Where perpetuals are traded; another venue gives data only. Unset: BINANCE, where it is"
        " among node.venues.",
    )  # fmt: skip

    _unset = field_validator("perp_venue", mode="before")(empty_is_unset)


class CacheSettings(Section):
    url: SecretStr | None = setting(
        None, "redis:// URL",
        "A Redis for Nautilus's own cache, of the role live: orders and positions outlive it.",
    )  # fmt: skip

    _unset = field_validator("url", mode="before")(empty_is_unset)
    _checked = field_validator("url")(check_secret_url)

    @field_validator("url")
    @classmethod
    def _database_zero(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and parse_single(value.get_secret_value()).db:
            raise ValueError("Nautilus keeps its cache in database 0, whatever the URL says")
        return value


def _address(of: str) -> Any:
    return setting(None, "URL", f"{of}. Unset: the venue's own.",
                   pattern=r"^(https?|wss?)://[^\s]+$")  # fmt: skip


class BinanceSettings(Section):
    spot_http_url: str | None = _address("REST of the spot market")
    spot_ws_url: str | None = _address("Stream of the spot market")
    futures_http_url: str | None = _address("REST of the USDT-M futures")
    futures_ws_url: str | None = _address("Stream of the USDT-M futures")

    _unset = field_validator("*", mode="before")(empty_is_unset)


class DeribitSettings(Section):
    http_url: str | None = _address("REST")
    ws_url: str | None = _address("Stream")

    _unset = field_validator("*", mode="before")(empty_is_unset)
