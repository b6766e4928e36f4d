"""The commands on what was recorded: ledger, archive, audit, replay, trim."""

import argparse
import contextlib
import re
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from bridge import archive_command, control_command, exits, ledger_command, log
from bridge.audit_command import Audit, report
from bridge.exits import Exit
from bridge.metrics import Metrics
from bridge.readers import Feed, Places
from bridge.replay import moment, replay
from bridge.settings import Config
from bridge.terminal import Writer
from bridge.trim import trim

STATUS_SECONDS: Final = 5.0
UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
SPAN: Final = re.compile(r"(\d+)([smhd]?)")
FOREVER_NS: Final = 1 << 63

type Call = Callable[[argparse.Namespace, Config], int]

FOLLOW_CODES: Final = """\
  73  with --follow: another process feeds it
  74  with --follow: it cannot be written"""
LEDGER_CODES: Final = f"""\
exit codes:
  0   done
  2   usage
  65  there is no ledger, or it is damaged
{FOLLOW_CODES}
  78  configuration"""
ARCHIVE_CODES: Final = f"""\
exit codes:
  0   whole
  1   broken: the first record that cannot be trusted is named
  2   usage
  65  there is no archive, or it is damaged
{FOLLOW_CODES}
  78  configuration"""
AUDIT_CODES: Final = """\
exit codes:
  0   journal, Redis, ledger and archive agree
  1   they do not; what is wrong is named
  2   usage, or there is nothing to compare with
  65  a ledger is damaged
  69  Redis cannot be had
  77  Redis refuses the credentials
  78  configuration"""
REPLAY_CODES: Final = """\
exit codes:
  0   published
  2   usage
  65  there is no archive, or it is damaged
  69  Redis cannot be had
  73  the Redis is the one that the archive was taken from, or holds one of the streams
  77  Redis refuses the credentials
  78  configuration"""
TRIM_CODES: Final = """\
exit codes:
  0   done
  2   usage
  65  the ledger or the archive cannot be read: nothing was removed
  69  Redis cannot be had
  77  Redis refuses the credentials
  78  configuration, or nobody keeps what would be removed"""


def parsers(commands: Any) -> Iterator[argparse.ArgumentParser]:
    """Yield the parsers of these commands."""
    form = argparse.RawDescriptionHelpFormatter

    def add(name: str, text: str, codes: str) -> argparse.ArgumentParser:
        found: argparse.ArgumentParser = commands.add_parser(
            name, help=text, epilog=codes, formatter_class=form
        )
        return found

    ledger = add("ledger", "print open lots and realized PnL, or feed the ledger", LEDGER_CODES)
    shape = ledger.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="for programs")
    shape.add_argument("--csv", action="store_true", help="for a spreadsheet")
    shape.add_argument("--follow", action="store_true", help="feed it, until Ctrl-C")
    ledger.add_argument(
        "--by",
        default=",".join(ledger_command.COLUMNS),
        metavar="COLUMN,...",
        help="what sums are made by; without it by all: %(default)s",
    )
    ledger.add_argument("--gains", action="store_true", help="each gain, its lot and its fills")
    yield ledger
    archive = add("archive", "check the archive, or feed it", ARCHIVE_CODES)
    archive.add_argument("verify", nargs="?", choices=["verify"], help="check every byte of it")
    archive.add_argument(
        "--head",
        action="append",
        default=[],
        metavar="ROOT",
        help="a root of exec:archive that must be in it; may be given again",
    )
    archive.add_argument("--json", action="store_true", help="for programs")
    archive.add_argument("--follow", action="store_true", help="feed it, until Ctrl-C")
    yield archive
    audit = add("audit", "do journal, Redis, ledger and archive agree?", AUDIT_CODES)
    audit.add_argument("--json", action="store_true", help="for programs")
    audit.add_argument(
        "--timeout",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="how long to wait for what is on its way (10)",
    )
    yield audit
    again = add("replay", "publish a window of the archive into an empty Redis", REPLAY_CODES)
    times = "ISO time (UTC), or nanoseconds since 1970"
    again.add_argument("--from", dest="begin", default="0", metavar="TIME", help=times)
    again.add_argument("--to", dest="end", metavar="TIME", help=f"{times}; without: all behind")
    again.add_argument("--url", required=True, help="the scratch Redis")
    again.add_argument(
        "--speed",
        type=float,
        default=0.0,
        metavar="FACTOR",
        help="1: the pace of the events; 0 (without it): as fast as it can",
    )
    yield again
    short = add("trim", "shorten the exec streams by what is kept elsewhere", TRIM_CODES)
    short.add_argument(
        "--older-than", default="7d", metavar="SPAN", help="such as 90m, 12h, 7d (7d)"
    )
    short.add_argument("--dry-run", action="store_true", help="say what would be removed")
    yield short
    for each in (ledger, archive, audit, short):
        each.add_argument(
            "--url", help="the Redis, instead of redis.url; the demo's own where neither is set"
        )


def ledger(arguments: argparse.Namespace, settings: Config) -> int:
    """Print the ledger, or feed it. Raises Exit."""
    places = _places(arguments, settings)
    if arguments.follow:
        return _follow("ledger", places)
    form = "json" if arguments.json else "csv" if arguments.csv else "table"
    lines, code = ledger_command.report(
        places.ledger, form=form, by=arguments.by.split(","), gains=arguments.gains
    )
    return _print(lines, code)


def archive(arguments: argparse.Namespace, settings: Config) -> int:
    """Verify the archive, or feed it. Raises Exit."""
    places = _places(arguments, settings)
    if arguments.follow:
        return _follow("archive", places)
    return _print(*archive_command.report(places.archive, arguments.head, as_json=arguments.json))


def audit(arguments: argparse.Namespace, settings: Config) -> int:
    """Compare all places. Raises Exit."""
    err, is_terminal = Writer(sys.stderr), sys.stderr.isatty()

    def tell(text: str) -> None:
        if is_terminal:
            err.write(f"\r{text:<60}")

    found = Audit(_places(arguments, settings), seconds_max=arguments.timeout, tell=tell)
    try:
        found.run()
    except (OSError, sqlite3.Error) as error:
        raise Exit(exits.BAD_DATA, f"audit: {error}") from None
    if is_terminal:
        err.write("\r" + " " * 60 + "\r")
        err.drain(1.0)
    return _print(report(found, as_json=arguments.json), found.code)


def replayed(arguments: argparse.Namespace, settings: Config) -> int:
    """Publish a window of the archive. Raises Exit."""
    try:
        begin = moment(arguments.begin)
        end = FOREVER_NS if arguments.end is None else moment(arguments.end)
    except ValueError as error:
        raise Exit(exits.USAGE, f"--from, --to: {error}") from None
    if arguments.speed < 0:
        raise Exit(exits.USAGE, "--speed: it is below 0")
    directory = _required(settings.archive_directory, "archive.directory")
    lines = replay(
        directory,
        arguments.url,
        from_ns=begin,
        to_ns=end,
        speed=arguments.speed,
        source_url=settings.redis.secret_url,
    )
    last = ""
    shown = time.monotonic()
    for last in lines:
        if sys.stderr.isatty() and time.monotonic() > shown + 0.2:
            shown = time.monotonic()
            sys.stderr.write(f"\r{last:<40}")
    return _print([last], exits.DONE)


def trimmed(arguments: argparse.Namespace, settings: Config) -> int:
    """Shorten the streams. Raises Exit."""
    span = SPAN.fullmatch(arguments.older_than)
    if span is None:
        raise Exit(exits.USAGE, "--older-than: it is no span such as 90m, 12h or 7d")
    seconds = int(span[1]) * UNITS[span[2]]
    places = _places(arguments, settings)
    try:
        lines = list(trim(places, older_seconds=seconds, is_rehearsal=arguments.dry_run))
    except (OSError, sqlite3.Error) as error:
        raise Exit(exits.BAD_DATA, f"trim: {error}; nothing was removed") from None
    return _print(lines, exits.DONE)


CALLS: Final[dict[str, Call]] = {
    "ledger": ledger,
    "archive": archive,
    "audit": audit,
    "replay": replayed,
    "trim": trimmed,
}


def _follow(name: str, places: Places) -> int:
    """Feed one reader's sink until told to stop. Raises Exit."""
    settings, out = places.config, Writer(sys.stdout)
    log.configure(settings.log.level, settings.log.format, stream=Writer(sys.stderr))
    stopped = threading.Event()
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
    return _print([f"stopped; {feed.said}"], exits.DONE)


def _places(arguments: argparse.Namespace, settings: Config) -> Places:
    url = arguments.url or control_command.url_of(settings)
    return Places(settings, url, _required(settings.state_directory, "state.directory"))


def _required(folder: Path | None, name: str) -> Path:
    if folder is None:
        raise Exit(exits.CONFIGURATION, f"{name} is not set: there is nothing that is kept")
    return folder


def _print(lines: Sequence[str], code: int) -> int:
    out = Writer(sys.stdout)
    with contextlib.suppress(KeyboardInterrupt):
        out.lines(*lines)
        out.drain(10.0)
    return code
