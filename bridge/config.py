"""Every setting of the bridge: its unit, bounds, default and meaning; and where it is read from.

A TOML file, then environment variables `BRIDGE_<SECTION>__<KEY>`, then the command line: the later
one wins. A name that is no setting is an error wherever it stands.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from redis.connection import parse_url

from bridge.log import MASK, mask_urls

ENV_PREFIX = "BRIDGE_"
PLACEHOLDERS = ("asset", "symbol", "venue", "base", "quote")
MARKET_STREAMS = ("quotes", "trades", "bars", "mark", "funding")
EXEC_STREAMS = ("orders", "fills", "positions", "account", "exec_funding")
_DOTTED = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*"
_BAR_TYPE = r"^\S+\.\S+-\d+-[A-Z_]+-[A-Z_]+-(INTERNAL|EXTERNAL)(@\S+)?$"

InstrumentName = Annotated[str, StringConstraints(pattern=r"^\S+\.[^\s.]+$")]
BarTypeName = Annotated[str, StringConstraints(pattern=_BAR_TYPE)]
VenueName = Annotated[str, StringConstraints(pattern=r"^[^\s{}]+$")]


class ConfigError(Exception):
    """Settings that cannot be used. `problems` holds one line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Setting(NamedTuple):
    """One row of the settings table, all text."""

    path: str
    default: str
    allowed: str
    description: str


def safe_url(url: str) -> str:
    """Return a Redis URL fit to be shown: its password masked, also where the scheme is missing."""
    if "://" not in url and "@" in url:
        return f"{MASK}@{url.rpartition('@')[2]}"
    return mask_urls(url)


def check_redis_url(url: str) -> str:
    """Return `url`, or raise ValueError with a reason that never repeats a part of it."""
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("it does not begin with redis://, rediss:// or unix://")
    try:
        options = parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError:
        raise ValueError("it cannot be read as a Redis URL") from None
    if url.startswith("unix://"):
        if not options.get("path"):
            raise ValueError("the path of the socket is missing")
        return url
    # redis-py takes database 0 when the path is not a number; that would be somebody else's data.
    path = re.sub(r"^\w+://[^/?#]*|[?#].*", "", url).strip("/")
    if path and not path.isdecimal():
        raise ValueError("the database behind the last / is not a number")
    return url


def _setting(default: Any, allowed: str, text: str, **bounds: Any) -> Any:
    """A field: `allowed` names its unit or form in words, `bounds` are checked and shown."""
    return Field(default, description=text, json_schema_extra={"allowed": allowed}, **bounds)


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        str_strip_whitespace=True,
        hide_input_in_errors=True,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value(cls, value: object) -> object:
        # pydantic reads true as 1: a port of 1, one entry.
        if isinstance(value, bool):
            raise ValueError("true and false are no values here")
        return value


def _empty_is_unset(value: object) -> object:
    return None if value == "" else value


def _no_repetition(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(value)) < len(value):
        raise ValueError("a name is listed twice")
    return value


class RedisSettings(_Section):
    url: SecretStr | None = _setting(
        None, "redis://, rediss:// or unix:// URL", "The Redis to write to. Unset: an embedded one."
    )
    start_timeout_seconds: float = _setting(
        10, "seconds", "How long to wait at start while Redis answers LOADING.", ge=0, le=3600
    )
    reconnect_seconds_max: float = _setting(
        1.0, "seconds", "Longest pause between two attempts to reconnect.", ge=0.01, le=60
    )

    _unset = field_validator("url", mode="before")(_empty_is_unset)

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_redis_url(value.get_secret_value())
        return value

    @property
    def secret_url(self) -> str | None:
        """The URL with its password; None when unset. Never log it."""
        return None if self.url is None else self.url.get_secret_value()

    @property
    def safe_url(self) -> str | None:
        """The URL with its password masked; None when unset."""
        return None if self.url is None else safe_url(self.url.get_secret_value())


class EmbeddedSettings(_Section):
    port: int = _setting(
        6399, "TCP port", "Loopback port of the embedded Redis; if busy, the next free one of 20.",
        ge=1, le=65_535,
    )  # fmt: skip


def _exec_stream(default: str, holds: str) -> Any:
    return _setting(default, "stream name", f"Stream of {holds}.", pattern=r"^[^\s]+$")


def _market_stream(default: str, holds: str) -> Any:
    allowed = "stream name with " + " ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    return _setting(default, allowed, f"Streams of {holds}.", pattern=r"^[^\s]+$")


class StreamSettings(_Section):
    prefix: str | None = _setting(
        None, "text without spaces or braces",
        "Put before every stream name. Unset: empty for the demo on its embedded Redis,"
        " `demo:` elsewhere.",
        pattern=r"^[^\s{}]*$",
    )  # fmt: skip
    orders: str = _exec_stream("exec:orders", "order events")
    fills: str = _exec_stream("exec:fills", "fills")
    positions: str = _exec_stream("exec:positions", "position events")
    account: str = _exec_stream("exec:account", "account balances")
    exec_funding: str = _exec_stream("exec:funding", "funding settlements")
    quotes: str = _market_stream("market.raw.{asset}.{symbol}", "quotes")
    trades: str = _market_stream("market.raw.trades.{symbol}", "trades")
    bars: str = _market_stream("market.raw.bars.{symbol}", "bars")
    mark: str = _market_stream("market.raw.mark.{symbol}", "mark prices")
    funding: str = _market_stream("market.raw.funding.{symbol}", "funding rates")

    @property
    def templates(self) -> dict[str, str]:
        """The names and templates by kind of stream, without the prefix."""
        return {kind: getattr(self, kind) for kind in (*EXEC_STREAMS, *MARKET_STREAMS)}

    @field_validator(*EXEC_STREAMS)
    @classmethod
    def _check_exec(cls, value: str) -> str:
        if "{" in value or "}" in value:
            raise ValueError("an exec stream has no placeholders and no braces")
        return value

    @field_validator(*MARKET_STREAMS)
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
        for key in (*EXEC_STREAMS, *MARKET_STREAMS):
            other = owners.setdefault(getattr(self, key), key)
            if other != key:
                raise ValueError(f"{other} and {key} name the same stream")
        return self


class ContractSettings(_Section):
    venue_alias: dict[VenueName, VenueName] = _setting(
        {"BINANCE_SPOT": "BINANCE", "BINANCE_FUTURES": "BINANCE"}, "table of Nautilus venue = word",
        "Venues as the stack calls them; others keep their name. Given: replaces the whole table.",
    )  # fmt: skip


class ProducerSettings(_Section):
    id: str | None = _setting(
        None, "letters, digits, _ . -", "Name of this producer. Unset: the trader id.",
        pattern=r"^[A-Za-z0-9_.-]+$", max_length=64,
    )  # fmt: skip

    _unset = field_validator("id", mode="before")(_empty_is_unset)


class ExecSettings(_Section):
    entries_max: int = _setting(
        100_000, "entries",
        "Unacknowledged execution entries kept in memory; beyond it the bridge stops (exit 74).",
        ge=1, le=10_000_000,
    )  # fmt: skip
    batch_entries_max: int = _setting(
        256, "entries", "Execution entries sent at once.", ge=1, le=10_000
    )


class MarketSettings(_Section):
    entries_max: int = _setting(
        131_072, "entries per kind",
        "Waiting market entries; beyond it quotes conflate, trades and bars drop the oldest.",
        ge=1, le=10_000_000,
    )  # fmt: skip
    in_flight_max: int = _setting(
        4_096, "entries", "Market entries sent and not yet acknowledged.", ge=1, le=1_000_000
    )
    maxlen: int = _setting(
        100_000, "entries", "About how many entries a market stream keeps.", ge=1, le=100_000_000
    )
    subscribe: tuple[Literal["quotes", "trades", "mark", "funding"], ...] = _setting(
        ("quotes", "trades"), "", "Market data to publish for every instrument."
    )
    instruments: tuple[InstrumentName, ...] = _setting(
        (), "SYMBOL.VENUE, ...", "Instruments to publish. Empty: every one known at start."
    )
    instruments_max: int = _setting(
        500, "instruments", "More than this many are refused at start.", ge=1, le=100_000
    )
    bar_types: tuple[BarTypeName, ...] = _setting(
        (), "SYMBOL.VENUE-1-MINUTE-LAST-EXTERNAL, ...", "Bar types to publish."
    )

    _distinct = field_validator("subscribe", "instruments", "bar_types")(_no_repetition)


class SourceSettings(_Section):
    factory: str = _setting(
        "integrations.nautilus.node:factory", "module:function", "Builds the source of events.",
        pattern=f"^{_DOTTED}$",
    )  # fmt: skip
    strategy: str = _setting(
        "strategies.example:Example", "module:Class", "The strategy that the node runs.",
        pattern=f"^{_DOTTED}$",
    )  # fmt: skip


class ReplaySettings(_Section):
    dataset: Path = _setting(
        Path("data/demo"), "folder", "The dataset that the demo replays; made when absent."
    )
    rate: float | None = _setting(
        None, "events per second", "Replay speed. Unset: the recorded pace.", gt=0, le=1_000_000
    )

    _unset = field_validator("rate", mode="before")(_empty_is_unset)

    @field_validator("dataset", mode="before")
    @classmethod
    def _not_empty(cls, value: object) -> object:
        # An empty path means the working folder, which nobody asked for.
        if value == "":
            raise ValueError("it is empty")
        return value


class NodeSettings(_Section):
    trader_id: str = _setting(
        "DEMO-001", "NAME-TAG", "The trader id of the Nautilus node.",
        pattern=r"^[A-Za-z0-9_]+(-[A-Za-z0-9_]+)+$", max_length=64,
    )  # fmt: skip
    start_timeout_seconds: float = _setting(
        30, "seconds", "How long the node may take to connect and start.", gt=0, le=3600
    )
    stop_timeout_seconds: float = _setting(
        2.0, "seconds", "How long the node waits for the last events on stop.", ge=0, le=300
    )
    log_level: Literal["OFF", "DEBUG", "INFO", "WARNING", "ERROR"] = _setting(
        "ERROR", "", "What Nautilus itself logs, to stdout."
    )


class StatusSettings(_Section):
    host: str = _setting(
        "127.0.0.1", "host name or address", "Where /metrics and /health listen.",
        pattern=r"^\S+$",
    )  # fmt: skip
    port: int = _setting(
        9309, "TCP port", "Port of /metrics and /health. 0: any free one.", ge=0, le=65_535
    )


class LogSettings(_Section):
    level: Literal["debug", "info", "warning", "error"] = _setting(
        "info", "", "What the bridge logs, to stderr."
    )
    format: Literal["auto", "console", "json"] = _setting(
        "auto", "", "Form of the log. auto: JSON when stderr is not a terminal."
    )


class Config(_Section):
    role: Literal["demo"] = _setting("demo", "", "What this process is for.")
    redis: RedisSettings = RedisSettings()
    embedded: EmbeddedSettings = EmbeddedSettings()
    streams: StreamSettings = StreamSettings()
    contract: ContractSettings = ContractSettings()
    producer: ProducerSettings = ProducerSettings()
    exec: ExecSettings = ExecSettings()
    market: MarketSettings = MarketSettings()
    source: SourceSettings = SourceSettings()
    replay: ReplaySettings = ReplaySettings()
    node: NodeSettings = NodeSettings()
    status: StatusSettings = StatusSettings()
    log: LogSettings = LogSettings()

    @field_validator("role", mode="before")
    @classmethod
    def _later_roles(cls, value: object) -> object:
        if value in ("shadow", "live"):
            raise ValueError("the roles shadow and live arrive in a later version")
        return value

    @property
    def stream_prefix(self) -> str:
        """The prefix in force: the one given, else empty on the embedded Redis, else `demo:`."""
        if self.streams.prefix is not None:
            return self.streams.prefix
        return "" if self.redis.url is None else "demo:"

    @property
    def producer_id(self) -> str:
        """The producer's name in force: the one given, else the trader id."""
        return self.producer.id or self.node.trader_id


def load(
    path: Path | None, *, environ: Mapping[str, str], overrides: Mapping[str, str] = {}
) -> Config:
    """Read the settings: `overrides` by dotted path beat `environ`, that beats the file at `path`.

    Raises ConfigError with every problem found, one line each, passwords masked.
    """
    problems: list[str] = []
    given = {} if path is None else _from_file(path, problems)
    texts = [
        (name, _PATH_OF_ENV, value, f"environment variable {name}")
        for name, value in environ.items()
        if name.startswith(ENV_PREFIX)
    ]
    texts += [(name, _PATH_OF_OPTION, value, "command line") for name, value in overrides.items()]
    for name, known, text, origin in texts:
        if name in known:
            given[known[name]] = _Given(_parse(known[name], text), origin)
        else:
            problems.append(_unknown(name, known, origin))
    config, refused = _validate(given)
    if config is None or problems:
        raise ConfigError(problems + refused)
    return config


def describe() -> list[Setting]:
    """Return the settings table, one row a setting, in the order of the sections."""
    return [
        Setting(path, _shown_default(field.default), _allowed(field), field.description or "")
        for path, field in _FIELDS.items()
    ]


@dataclass(frozen=True, slots=True)
class _Given:
    value: object
    origin: str


def _fields() -> dict[str, FieldInfo]:
    fields: dict[str, FieldInfo] = {}
    for name, field in Config.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            fields |= {f"{name}.{key}": inner for key, inner in kind.model_fields.items()}
        else:
            fields[name] = field
    return fields


_FIELDS = _fields()
_SECTIONS = {path.partition(".")[0] for path in _FIELDS if "." in path}
_PATH_OF_OPTION = {path: path for path in _FIELDS}
_PATH_OF_ENV = {ENV_PREFIX + path.replace(".", "__").upper(): path for path in _FIELDS}


def _unknown(name: str, known: Mapping[str, str] | set[str], origin: str) -> str:
    closest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
    return f"{name}: no such setting; the closest is {closest}; from {origin}"


def _from_file(path: Path, problems: list[str]) -> dict[str, _Given]:
    """Return what the file sets, by dotted path; unknown names are added to `problems`."""
    given: dict[str, _Given] = {}
    origin = f"file {path}"
    for name, value in _read_toml(path).items():
        if name in _SECTIONS and isinstance(value, dict):
            for key, item in value.items():
                if f"{name}.{key}" in _FIELDS:
                    given[f"{name}.{key}"] = _Given(item, origin)
                else:
                    problems.append(_unknown(f"{name}.{key}", _PATH_OF_OPTION, origin))
        elif name in _SECTIONS:
            problems.append(f"{name}: must be a table, written [{name}]; from {origin}")
        elif name in _FIELDS:
            given[name] = _Given(value, origin)
        else:
            problems.append(_unknown(name, _SECTIONS | set(_FIELDS), origin))
    return given


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError([f"file {path}: cannot be read: {error.strerror}"]) from None
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"file {path}, line {line}: is not UTF-8 text"]) from None
    except ValueError as error:
        found = re.search(r"at line (\d+)", str(error))
        line = int(found[1]) if found else data.count(b"\n") + 1
        raise ConfigError([f"file {path}, line {line}: is not TOML: {error}"]) from None


def _parse(path: str, text: str) -> object:
    """Return a text from the environment or the command line as its setting wants it."""
    shape = get_origin(_FIELDS[path].annotation)
    if shape is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    if shape is dict:
        for read in (json.loads, lambda table: tomllib.loads(f"table = {table}")["table"]):
            try:
                return read(text)
            except ValueError:
                continue
    return text


def _validate(given: Mapping[str, _Given]) -> tuple[Config | None, list[str]]:
    tree: dict[str, Any] = {}
    for path, item in given.items():
        section, _, key = path.rpartition(".")
        (tree.setdefault(section, {}) if section else tree)[key] = item.value
    try:
        return Config.model_validate(tree), []
    except ValidationError as error:
        # Not raised from here: the traceback would carry pydantic's view of the values.
        return None, [_refused(each, given) for each in error.errors()]


def _refused(error: ErrorDetails, given: Mapping[str, _Given]) -> str:
    """Return the line for one value, or one section, that pydantic refused."""
    path = ".".join(str(part) for part in error["loc"][:2])
    path = path if path in _FIELDS else str(error["loc"][0])
    reason = error["msg"].removeprefix("Value error, ")
    if error["type"] == "string_pattern_mismatch":
        reason = "it is not of that form"  # `allowed` says it in words, pydantic as a regex
    if path not in _FIELDS:
        origins = {item.origin: None for name, item in given.items() if name.startswith(f"{path}.")}
        return f"{path}: {reason}; from {', '.join(origins)}"
    item = given[path]
    shown, allowed = _shown_value(path, item.value), _allowed(_FIELDS[path])
    return f"{path}: {shown} is refused: {reason}; allowed: {allowed}; from {item.origin}"


def _shown_value(path: str, value: object) -> str:
    if path == "redis.url":
        return repr(safe_url(value)) if isinstance(value, str) else MASK
    return mask_urls(repr(value))


def _shown_default(value: object) -> str:
    match value:
        case None:
            return "unset"
        case "" | ():
            return "empty"
        case dict():
            return json.dumps(value)
        case tuple():
            return ",".join(value)
        case _:
            return str(value)


def _allowed(field: FieldInfo) -> str:
    """Return unit or form, choices and bounds of a setting, as text."""
    extra = field.json_schema_extra
    parts = [str(extra["allowed"])] if isinstance(extra, dict) and extra["allowed"] else []
    kind = field.annotation
    many = get_origin(kind) is tuple
    kind = get_args(kind)[0] if many else kind
    if get_origin(kind) is Literal:
        parts.append(f"{'any' if many else 'one'} of {' '.join(map(str, get_args(kind)))}")
    for bound in field.metadata:
        match bound:
            case Gt():
                parts.append(f"> {bound.gt}")
            case Ge():
                parts.append(f">= {bound.ge}")
            case Lt():
                parts.append(f"< {bound.lt}")
            case Le():
                parts.append(f"<= {bound.le}")
    return ", ".join(parts)
