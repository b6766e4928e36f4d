"""Every setting of the bridge, once: its unit, bounds, default and meaning, in frozen sections.

Where the values come from, and what is said about bad ones, is in `bridge.config`.
"""

from pathlib import Path
from string import Formatter
from typing import Any, Literal, Self

from pydantic import field_validator, model_validator

from bridge.core.contract import ARCHIVE_KIND, EXEC_KINDS, MARKET_KINDS, STREAMS
from bridge.core.limits import Limits
from bridge.notify_settings import NotifySettings
from bridge.reader_settings import ArchiveSettings, LedgerSettings, ReaderSettings
from bridge.redis_settings import EmbeddedSettings, RedisSettings
from bridge.role_settings import (
    DEMO_LIMITS,
    BinanceSettings,
    CacheSettings,
    ControlSettings,
    DeribitSettings,
    LimitSettings,
    NodeSettings,
    ReplaySettings,
    ShadowSettings,
    SourceSettings,
)
from bridge.section import (
    PLACEHOLDERS,
    BarTypeName,
    InstrumentName,
    Section,
    VenueName,
    empty_is_unset,
    no_repetition,
    setting,
)
from bridge.status_settings import StatusSettings


def _exec_stream(kind: str, holds: str) -> Any:
    return setting(
        STREAMS[kind].template, "stream name", f"Stream of {holds}.", pattern=r"^[^\s]+$"
    )


def _market_stream(kind: str, holds: str) -> Any:
    allowed = "stream name with " + " ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    return setting(STREAMS[kind].template, allowed, f"Streams of {holds}.", pattern=r"^[^\s]+$")


class StreamSettings(Section):
    prefix: str | None = setting(
        None, "text without spaces or braces",
        "Put before every stream name. Unset: empty for the demo on its embedded Redis,"
        " `demo:` elsewhere.",
        pattern=r"^[^\s{}]*$",
    )  # fmt: skip
    orders: str = _exec_stream("orders", "order events")
    fills: str = _exec_stream("fills", "fills")
    positions: str = _exec_stream("positions", "position events")
    account: str = _exec_stream("account", "account balances")
    exec_funding: str = _exec_stream("exec_funding", "funding settlements")
    control: str = _exec_stream("control", "what the bridge itself did: states, halts, holes")
    archive: str = _exec_stream("archive", "heads of the archive")
    quotes: str = _market_stream("quotes", "quotes")
    trades: str = _market_stream("trades", "trades")
    bars: str = _market_stream("bars", "bars")
    mark: str = _market_stream("mark", "mark prices")
    funding: str = _market_stream("funding", "funding rates")

    @property
    def templates(self) -> dict[str, str]:
        """The names and templates by kind of stream, without the prefix."""
        return {kind: getattr(self, kind) for kind in STREAMS}

    @field_validator(*EXEC_KINDS, ARCHIVE_KIND)
    @classmethod
    def _check_exec(cls, value: str) -> str:
        if "{" in value or "}" in value:
            raise ValueError("an exec stream has no placeholders and no braces")
        return value

    @field_validator(*MARKET_KINDS)
    @classmethod
    def _check_market(cls, value: str) -> str:
        try:
            parts = list(Formatter().parse(value))
        except ValueError:
            raise ValueError("its braces do not match") from None
        for text, name, form, conversion in parts:
            # A doubled brace would stay in the name, where it moves the Cluster slot.
            if "{" in text or "}" in text:
                raise ValueError("braces may only hold a placeholder")
            if name is not None and (name not in PLACEHOLDERS or form or conversion):
                raise ValueError(f"the placeholder {{{name}}} is not known")
        return value

    @model_validator(mode="after")
    def _check_distinct(self) -> Self:
        owners: dict[str, str] = {}
        for key in STREAMS:
            other = owners.setdefault(getattr(self, key), key)
            if other != key:
                raise ValueError(f"{other} and {key} name the same stream")
        return self


class ContractSettings(Section):
    venue_alias: dict[VenueName, VenueName] = setting(
        {"BINANCE_SPOT": "BINANCE", "BINANCE_FUTURES": "BINANCE"}, "table of Nautilus venue = word",
        "Venues as the stack calls them; others keep their name. Given: replaces the whole table.",
    )  # fmt: skip


class ProducerSettings(Section):
    id: str | None = setting(
        None, "letters, digits, _ . -", "Name of this producer. Unset: the trader id.",
        pattern=r"^[A-Za-z0-9_.-]+$", max_length=64,
    )  # fmt: skip

    _unset = field_validator("id", mode="before")(empty_is_unset)

    lease_seconds: float = setting(
        10.0, "seconds", "How long a lost bridge keeps its name from another one.", ge=1, le=3600
    )


class StateSettings(Section):
    directory: Path | None = setting(
        None,
        "folder",
        "Journal, index of fills, latch, ledger, archive. Unset: temporary, gone at the end.",
    )

    _unset = field_validator("directory", mode="before")(empty_is_unset)


class JournalSettings(Section):
    directory: Path | None = setting(
        None, "folder", "The write-ahead journal. Unset: `journal` below state.directory."
    )
    fsync: Literal["always", "group", "never"] = setting(
        "group", "", "When it is made durable: each entry before trading goes on, groups before"
        " they are sent, or never by us.",
    )  # fmt: skip
    retain: float = setting(
        604_800.0, "seconds",
        "How long what Redis has confirmed is kept: so far Redis may be set back.",
        ge=0, le=315_360_000,
    )  # fmt: skip
    bytes_max: int = setting(
        1 << 32, "bytes",
        "Limit on the disk. Confirmed segments go early; without any, trading halts (exit 74).",
        ge=1 << 18, le=1 << 50,
    )  # fmt: skip
    segment_bytes: int = setting(
        1 << 24, "bytes", "Size of a file of it; one more is always held in reserve.",
        ge=1 << 16, le=1 << 30,
    )  # fmt: skip

    _unset = field_validator("directory", mode="before")(empty_is_unset)

    @model_validator(mode="after")
    def _check_room(self) -> Self:
        if self.bytes_max < 3 * self.segment_bytes:
            raise ValueError("bytes_max is less than three times segment_bytes")
        return self


class ExecSettings(Section):
    entries_max: int = setting(
        100_000, "entries",
        "Without a journal: unconfirmed execution entries kept in memory, then exit 74.",
        ge=1, le=10_000_000,
    )  # fmt: skip
    in_flight_max: int = setting(
        4_096, "entries",
        "With a journal: entries of a stream kept in memory. Of each, as many may be in flight.",
        ge=1, le=1_000_000,
    )  # fmt: skip
    batch_entries_max: int = setting(
        256, "entries", "Execution entries sent at once.", ge=1, le=10_000
    )


class MarketSettings(Section):
    entries_max: int = setting(
        131_072, "entries per kind",
        "Waiting market entries; beyond it quotes conflate, trades and bars drop the oldest.",
        ge=2, le=10_000_000,
    )  # fmt: skip
    in_flight_max: int = setting(
        4_096,
        "entries",
        "About how many market entries may wait for Redis's answer.",
        ge=256,
        le=1_000_000,
    )
    maxlen: int = setting(
        100_000, "entries", "About how many entries a market stream keeps.", ge=1, le=100_000_000
    )
    subscribe: tuple[Literal["quotes", "trades", "mark", "funding"], ...] = setting(
        ("quotes", "trades"), "", "Market data to publish for every instrument."
    )
    instruments: tuple[InstrumentName, ...] = setting(
        (), "SYMBOL.VENUE, ...", "Instruments to publish. Empty: every one known at start."
    )
    instruments_max: int = setting(
        500,
        "instruments",
        "Beyond this many none is subscribed, and the log says so.",
        ge=1,
        le=100_000,
    )
    bar_types: tuple[BarTypeName, ...] = setting(
        (), "SYMBOL.VENUE-1-MINUTE-LAST-EXTERNAL, ...", "Bar types to publish."
    )

    _distinct = field_validator("subscribe", "instruments", "bar_types")(no_repetition)


class LogSettings(Section):
    level: Literal["debug", "info", "warning", "error"] = setting(
        "info", "", "What the bridge logs, to stderr."
    )
    format: Literal["auto", "console", "json"] = setting(
        "auto", "", "Form of the log. auto: JSON when stderr is not a terminal."
    )


class Config(Section):
    role: Literal["demo", "shadow", "live"] = setting("demo", "", "What this process is for.")
    redis: RedisSettings = RedisSettings()
    embedded: EmbeddedSettings = EmbeddedSettings()
    streams: StreamSettings = StreamSettings()
    contract: ContractSettings = ContractSettings()
    producer: ProducerSettings = ProducerSettings()
    state: StateSettings = StateSettings()
    journal: JournalSettings = JournalSettings()
    exec: ExecSettings = ExecSettings()
    market: MarketSettings = MarketSettings()
    readers: ReaderSettings = ReaderSettings()
    ledger: LedgerSettings = LedgerSettings()
    archive: ArchiveSettings = ArchiveSettings()
    source: SourceSettings = SourceSettings()
    replay: ReplaySettings = ReplaySettings()
    node: NodeSettings = NodeSettings()
    control: ControlSettings = ControlSettings()
    limits: LimitSettings = LimitSettings()
    shadow: ShadowSettings = ShadowSettings()
    cache: CacheSettings = CacheSettings()
    binance: BinanceSettings = BinanceSettings()
    deribit: DeribitSettings = DeribitSettings()
    status: StatusSettings = StatusSettings()
    notify: NotifySettings = NotifySettings()
    log: LogSettings = LogSettings()

    @property
    def stream_prefix(self) -> str:
        """The prefix in force: the one given, else that of the role.

        Empty for the one role that trades real money, and for the demo on its embedded Redis.
        """
        if self.streams.prefix is not None:
            return self.streams.prefix
        if self.role == "live" or (self.role == "demo" and self.redis.url is None):
            return ""
        return f"{self.role}:"

    @property
    def trader_id(self) -> str:
        """The trader id in force: the one given, else that of the role."""
        return self.node.trader_id or f"{self.role.upper()}-001"

    @property
    def data(self) -> str:
        """Where market data come from: `replay` or `venue`."""
        return self.node.data or ("replay" if self.role == "demo" else "venue")

    @property
    def is_simulated(self) -> bool:
        """Whether orders are filled by Nautilus's sandbox."""
        in_shadow = self.role == "shadow" and self.shadow.execution == "sandbox"
        return self.role == "demo" or in_shadow

    @property
    def limits_in_force(self) -> Limits:
        """The limits that hold where Redis names no others; the demo's own are wider."""
        names = LimitSettings.model_fields
        values = {name: getattr(self.limits, name) for name in names}
        if self.role == "demo":
            given = self.limits.model_fields_set
            values |= {name: value for name, value in DEMO_LIMITS.items() if name not in given}
        return Limits(**values)

    @property
    def journal_directory(self) -> Path | None:
        """Where the journal is: the folder given, else below that of the state; None: nowhere."""
        state = self.state.directory
        return self.journal.directory or (None if state is None else state / "journal")

    @property
    def state_directory(self) -> Path | None:
        """Where the index of fills and the latch are: the folder given, else beside the journal."""
        return self.state.directory or self.journal.directory

    @property
    def ledger_path(self) -> Path | None:
        """Where the ledger is: the file given, else below the state's folder; None: nowhere."""
        state = self.state_directory
        return self.ledger.path or (None if state is None else state / "ledger.db")

    @property
    def archive_directory(self) -> Path | None:
        """Where the archive is: the folder given, else below the state's; None: nowhere."""
        state = self.state_directory
        return self.archive.directory or (None if state is None else state / "archive")

    @property
    def producer_id(self) -> str:
        """The producer's name in force: the one given, else the trader id."""
        return self.producer.id or self.trader_id
