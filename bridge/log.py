"""Logs: structlog events through stdlib logging to stderr, secrets masked as the last step."""

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

ROOT = "nautilus_bridge"
MASK = "***"

_SECRET_KEY = re.compile(r"pass|secret|token|api[_-]?key|private", re.IGNORECASE)
# Everything up to the last "@" of the word goes: a password may itself hold "@" or "/".
_USER_INFO = re.compile(r"://(?:([^\s/?#@:]*:)\S*|[^\s/?#@:]*(?:@\S*)?)@")
_QUERY_OPTION = re.compile(r"([?&]([^=&\s]+)=)[^&\s]+")


def configure(level: str = "info", log_format: str = "auto", *, stream: Any = None) -> None:
    """Send logs to stderr, or to `stream`; repeating the call replaces the former setting.

    `level` (debug, info, warning, error) holds for `nautilus_bridge` and its children; other
    libraries speak from warning up. `log_format` is console, json, or auto: console on a
    terminal, JSON lines elsewhere.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.set_name(ROOT)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=_console() if console else _json()
        )
    )
    remove_handler()
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.WARNING)
    set_level(level)


def set_level(level: str) -> None:
    """Log `nautilus_bridge` and its children from this level up."""
    logging.getLogger(ROOT).setLevel(level.upper())


def remove_handler() -> None:
    """Take the handler of an earlier `configure` off the root logger, if there is one."""
    root = logging.getLogger()
    for handler in [each for each in root.handlers if each.get_name() == ROOT]:
        root.removeHandler(handler)


def get_logger(name: str = ROOT) -> structlog.stdlib.BoundLogger:
    """Return the logger `name`: `nautilus_bridge` or one of its children."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger


def mask_urls(text: str) -> str:
    """Return `text` with the passwords of its URLs masked, in the user part and in the query."""

    def masked(option: re.Match[str]) -> str:
        return option[1] + MASK if is_secret_name(unquote(option[2])) else option[0]

    return _QUERY_OPTION.sub(masked, _USER_INFO.sub(rf"://\1{MASK}@", text))


def is_secret_name(name: str) -> bool:
    """Return True when a value under this name must not be shown."""
    return _SECRET_KEY.search(name) is not None


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Mask what is secret by its key, and passwords in URLs, at any depth (a structlog processor).

    Objects become text here, so that a renderer behind this step finds nothing left to unfold.
    """
    return {key: MASK if is_secret_name(key) else _masked(value) for key, value in event.items()}


def _masked(value: Any) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, Mapping):
        return {
            mask_urls(str(key)): MASK if is_secret_name(str(key)) else _masked(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(item) for item in value]
    if isinstance(value, BaseException):
        return mask_urls(f"{type(value).__name__}: {value}")
    return mask_urls(str(value))


def _json() -> list[Processor]:
    transformer = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.ExceptionRenderer(transformer),
        redact,
        structlog.processors.JSONRenderer(),
    ]


def _console() -> list[Processor]:
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        redact,
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        ),
    ]
