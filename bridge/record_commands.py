"""The commands on what was recorded: ledger, archive, audit, replay, trim."""

import argparse
import contextlib
import functools
import re
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from bridge import (
    archive_command,
    archive_segments,
    control_command,
    exits,
    ledger_command,
    log,
    verdicts,
)
from bridge.audit_command import Audit, report
from bridge.exits import Exit
from bridge.metrics import Metrics
from bridge.notify import Notifier
from bridge.readers import Feed, Places
from bridge.records import with_streams_of_journal
from bridge.replay import moment, replay
from bridge.section import check_redis_url
from bridge.settings import Config
from bridge.terminal import Writer
from bridge.trim import trim

STATUS_SECONDS: Final = 5.0
TERMINAL_SECONDS_MAX: Final = 1.0
NOTIFY_SECONDS_MAX: Final = 60.0
NOTIFY_MEMORY: Final = "notify.audit.json"
UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
SPAN: Final = re.compile(r"(\d{1,9})([smhd])")
FOREVER_NS: Final = 1 << 63

type Call = Callable[[argparse.Namespace, Config], int]


def ledger(arguments: argparse.Namespace, settings: Config) -> int:
    """Print the ledger, or feed it. Raises Exit."""
    places = _places(arguments, settings)
    if arguments.follow:
        return _follow("ledger", places)
    form = "json" if arguments.json else "csv" if arguments.csv else "table"
    lines, code = ledger_command.report(
        places.ledger,
        form=form,
        by=[name.strip() for name in arguments.by.split(",")],
        gains=arguments.gains,
    )
    return _print(lines, code)


def archive(arguments: argparse.Namespace, settings: Config) -> int:
    """Verify the archive, or feed it. Raises Exit."""
    places = _places(arguments, settings)
    if arguments.follow:
        return _follow("archive", places)
    heads = list(arguments.head)
    if arguments.url:
        known = archive_segments.begun(places.archive)
        heads += archive_command.published(places.url, places.heads, known.archive)
    found = archive_command.report(
        places.archive, heads, stream=places.heads, as_json=arguments.json
    )
    return _print(*found)


def audit(arguments: argparse.Namespace, settings: Config) -> int:
    """Compare all places, and tell people that they do not agree where that is wanted.

    Raises Exit.
    """
    notifier = _notifier(settings) if arguments.notify else None
    try:
        found = _audited(arguments, settings)
    except Exit as error:
        _tell_failure(notifier, error.code, str(error))
        raise
    _keep(found, _required(settings.state_directory, "state.directory"))
    code = _print(report(found, as_json=arguments.json), found.code)
    if code != exits.DONE:
        _tell_failure(notifier, code, "\n".join(found.complaints()))
    return code


def _audited(arguments: argparse.Namespace, settings: Config) -> Audit:
    with _progress() as tell:
        found = Audit(_places(arguments, settings), seconds_max=arguments.timeout, tell=tell)
        try:
            found.run()
        except (OSError, sqlite3.Error) as error:
            raise Exit(exits.BAD_DATA, f"audit: {error}") from None
    return found


def _keep(found: Audit, state: Path) -> None:
    """Leave the verdict where the ops page of the bridge looks for it."""
    try:
        verdicts.keep_audit(state, found.verdict, "; ".join(found.complaints()))
    except OSError as error:
        sys.stderr.write(f"audit: the ops page will not show this verdict: {error}\n")


def _tell_failure(notifier: Notifier | None, code: int, said: str) -> None:
    if notifier is not None:
        notifier.tell("audit", f"exit code {code}: {said}")
        notifier.drain(NOTIFY_SECONDS_MAX)


def _notifier(settings: Config) -> Notifier:
    if not settings.notify.urls:
        raise Exit(exits.CONFIGURATION, "--notify: notify.urls is empty: there is nobody to tell")
    # A memory of its own: the bridge writes the other one.
    return Notifier(settings, settings.state_directory, Metrics(), memory=NOTIFY_MEMORY)


def replayed(arguments: argparse.Namespace, settings: Config) -> int:
    """Publish a window of the archive. Raises Exit."""
    try:
        begin = moment(arguments.begin)
        end = FOREVER_NS if arguments.end is None else moment(arguments.end)
    except ValueError as error:
        raise Exit(exits.USAGE, f"--from, --to: {error}") from None
    if begin >= end:
        raise Exit(exits.USAGE, "--from, --to: there is nothing between them")
    if not arguments.speed >= 0:
        raise Exit(exits.USAGE, "--speed: it is below 0")
    directory = _required(settings.archive_directory, "archive.directory")
    lines = replay(
        directory,
        _checked(arguments.url),
        from_ns=begin,
        to_ns=end,
        speed=arguments.speed,
        source_url=control_command.url_of(settings),
    )
    last = ""
    with _progress() as tell:
        try:
            for last in lines:
                tell(last)
        except OSError as error:
            raise Exit(
                exits.BAD_DATA, f"replay: {error}; published before it: {last or 'nothing'}"
            ) from None
    return _print([last], exits.DONE)


def trimmed(arguments: argparse.Namespace, settings: Config) -> int:
    """Shorten the streams. Raises Exit."""
    span = SPAN.fullmatch(arguments.older_than)
    if span is None:
        raise Exit(exits.USAGE, "--older-than: it is no span such as 90m, 12h or 7d")
    seconds = int(span[1]) * UNITS[span[2]]
    places = _places(arguments, settings)
    try:
        lines, code = trim(places, older_seconds=seconds, is_rehearsal=arguments.dry_run)
    except (OSError, sqlite3.Error) as error:
        raise Exit(exits.BAD_DATA, f"trim: {error}; nothing was removed") from None
    return _print(lines, code)


def _logging(call: Call, arguments: argparse.Namespace, settings: Config) -> int:
    """Keep the log out of what a command prints."""
    err = Writer(sys.stderr)
    log.configure(settings.log.level, settings.log.format, stream=err)
    try:
        return call(arguments, settings)
    finally:
        err.drain(TERMINAL_SECONDS_MAX)


COMMANDS: Final[dict[str, Call]] = {
    "ledger": ledger,
    "archive": archive,
    "audit": audit,
    "replay": replayed,
    "trim": trimmed,
}
CALLS: Final = {name: functools.partial(_logging, call) for name, call in COMMANDS.items()}


def _follow(name: str, places: Places) -> int:
    """Feed one reader's sink until told to stop. Raises Exit."""
    out, stopped = Writer(sys.stdout), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopped.set())
    feed = Feed(name, places, Metrics())
    shown = 0.0

    def tell(text: str) -> None:
        nonlocal shown
        if time.monotonic() > shown + STATUS_SECONDS:
            shown = time.monotonic()
            out.lines(f"{time.strftime('%H:%M:%S')}  {name}  {text}")

    try:
        feed.read(stopped, tell)
    except (OSError, sqlite3.Error) as error:
        raise Exit(exits.CANNOT_RECORD, f"{name}: it cannot be written: {error}") from None
    out.lines(f"stopped; {feed.said}")
    out.drain(TERMINAL_SECONDS_MAX)
    return exits.DONE


def _places(arguments: argparse.Namespace, settings: Config) -> Places:
    url = _checked(arguments.url) if arguments.url else control_command.url_of(settings)
    settings = with_streams_of_journal(settings)
    return Places(settings, url, _required(settings.state_directory, "state.directory"))


def _checked(url: str) -> str:
    try:
        return check_redis_url(url)
    except ValueError as error:
        raise Exit(exits.USAGE, f"--url: {error}") from None


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Yield what shows a text for a moment, where a person sees it."""
    err, is_terminal = Writer(sys.stderr), sys.stderr.isatty()

    def tell(text: str) -> None:
        if is_terminal:
            err.write(f"\r{text:<60}\r")

    try:
        yield tell
    finally:
        tell("")
        err.drain(TERMINAL_SECONDS_MAX)


def _required(folder: Path | None, name: str) -> Path:
    if folder is None:
        raise Exit(exits.CONFIGURATION, f"{name} is not set: there is nothing that is kept")
    return folder


def _print(lines: Sequence[str], code: int) -> int:
    """Print it all: a pager may take its time."""
    out = Writer(sys.stdout)
    out.lines(*lines)
    out.drain(threading.TIMEOUT_MAX)
    return code
