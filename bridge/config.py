"""Where the settings are read from, what is said about bad ones, and the table of all of them.

A TOML file, then environment variables `BRIDGE_<SECTION>__<KEY>`, then the command line: the later
one wins. A name that is no setting is an error wherever it stands. Secrets may come as systemd's
credentials: files of the folder that $CREDENTIALS_DIRECTORY names.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from bridge.log import MASK, mask_urls
from bridge.section import safe_url, with_password, with_sentinel_password
from bridge.settings import Config

ENV_PREFIX = "BRIDGE_"
# Which setting a credential belongs to: passwords join their URL, what is in WHOLE is set as it is.
CREDENTIALS = {
    "redis-password": "redis.url",
    "sentinel-password": "redis.url",
    "market-password": "redis.market_url",
    "cache-password": "cache.url",
    "notify-urls": "notify.urls",
    "status-token": "status.token",
}
WHOLE: Mapping[str, Callable[[str], object]] = {
    "notify.urls": lambda text: [line.strip() for line in text.splitlines() if line.strip()],
    "status.token": str,
}


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
    if folder := environ.get("CREDENTIALS_DIRECTORY"):
        problems += _take_credentials(folder, given)
    config, refused = _validate(given)
    if config is not None:
        refused = list(_contradictions(config))
    if config is None or problems or refused:
        raise ConfigError(problems + refused)
    return config


def _contradictions(config: Config) -> Iterator[str]:
    """Yield what does not go with the role."""
    role = config.role
    if role != "demo" and config.redis.url is None:
        yield f"redis.url: the role {role} needs a Redis of yours; only the demo has its own"
    if config.redis.market_url is not None and config.redis.url is None:
        yield "redis.market_url: without redis.url all goes to the demo's own Redis; unset it"
    if role == "shadow" and config.is_simulated and not config.stream_prefix:
        yield (
            "streams.prefix: simulated fills would stand among real ones; leave it unset for "
            "shadow:, or name another one"
        )
    if not config.is_simulated and config.node.exec_client is None:
        what = "live" if role == "live" else "shadow.execution = venue"
        yield (
            f"role: {what} on real venues arrives in a later version; until then it needs an "
            "execution client of yours (node.exec_client)"
        )
    if config.is_simulated and config.cache.url is not None:
        yield (
            "cache.url: a sandbox forgets its orders when it ends; what a cache keeps of them "
            "would never end. Unset it"
        )
    if not config.is_simulated and config.node.purge_closed_minutes:
        yield (
            "node.purge_closed_minutes: a real venue may report each order again, and Nautilus "
            "would book what it no longer knows once more. Leave it unset"
        )
    for name in ("venues", "symbols"):
        if not getattr(config.node, name):
            yield f"node.{name}: it is empty"
    if config.shadow.perp_venue not in (None, *config.node.venues):
        yield f"shadow.perp_venue: {config.shadow.perp_venue} is not among node.venues"


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
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"the closest is {close[0]}" if close else "check-config --settings lists all"
    return f"{name}: no such setting; {hint}; from {origin}"


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
    except RecursionError:
        raise ConfigError([f"file {path}: it is nested too deeply"]) from None
    except ValueError as error:
        found = re.search(r"at line (\d+)", str(error))
        line = int(found[1]) if found else data.count(b"\n") + 1
        raise ConfigError([f"file {path}, line {line}: is not TOML: {error}"]) from None


def _take_credentials(folder: str, given: dict[str, _Given]) -> Iterator[str]:
    """Put what systemd hands over into the settings; yield what is wrong with it.

    An empty one is none, and so is a password without a URL: a unit names them all.
    """
    for name, path in CREDENTIALS.items():
        file = Path(folder, name)
        try:
            text = file.read_text().strip()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            yield f"credential {name}: cannot be read from {file}: {type(error).__name__}"
            continue
        value, origin = (given[path].value, given[path].origin) if path in given else (None, "")
        if not text:
            continue
        if path in WHOLE:
            if value is not None:
                yield f"{path}: the credential {name} sets it, too; take one away; from {origin}"
            given[path] = _Given(WHOLE[path](text), f"credential {name}")
        elif isinstance(value, str) and "://" in value:
            join = with_sentinel_password if name == "sentinel-password" else with_password
            joined = join(value, text)
            if joined is None:
                who = f"it holds a password, and so does the credential {name}"
                yield f"{path}: {who}; take it out of the URL; from {origin}"
            else:
                given[path] = _Given(joined, origin)


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
    if path in ("notify.urls", "status.token"):
        return MASK  # a token may stand anywhere in them
    if path in ("redis.url", "redis.market_url"):
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
    if get_origin(kind) in (Union, UnionType):
        [kind] = [each for each in get_args(kind) if each is not NoneType]
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
