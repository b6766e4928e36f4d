"""The words and exit codes of the commands on what was recorded: ledger, archive, audit, replay,
trim."""

import argparse
from collections.abc import Iterator
from typing import Any, Final

from bridge import ledger_command

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
  69  with --url: Redis cannot be had
{FOLLOW_CODES}
  77  with --url: Redis refuses the credentials
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
  1   a stream was left alone: what is there is no stream
  2   usage
  65  the ledger or the archive cannot be read: nothing was removed
  69  Redis cannot be had
  77  Redis refuses the credentials
  78  configuration, or nobody keeps what would be removed"""


def parsers(commands: Any) -> Iterator[argparse.ArgumentParser]:
    """Yield the parsers of these commands."""

    def add(name: str, text: str, codes: str) -> argparse.ArgumentParser:
        form = argparse.RawDescriptionHelpFormatter
        found: argparse.ArgumentParser = commands.add_parser(
            name, help=text, epilog=codes, formatter_class=form
        )
        return found

    ledger = add("ledger", "print open lots and realized PnL, or feed the ledger", LEDGER_CODES)
    archive = add("archive", "check the archive, or feed it", ARCHIVE_CODES)
    audit = add("audit", "do journal, Redis, ledger and archive agree?", AUDIT_CODES)
    replay = add("replay", "publish a window of the archive into an empty Redis", REPLAY_CODES)
    trim = add("trim", "shorten the exec streams by what is kept elsewhere", TRIM_CODES)
    _ledger(ledger)
    _archive(archive)
    audit.add_argument("--json", action="store_true", help="for programs")
    audit.add_argument(
        "--notify", action="store_true", help="tell notify.urls when they do not agree"
    )
    _number(audit, "--timeout", 10.0, "SECONDS", "how long to wait for what is on its way (10)")
    _replay(replay)
    trim.add_argument(
        "--older-than", default="7d", metavar="SPAN", help="such as 90m, 12h, 7d (7d)"
    )
    trim.add_argument("--dry-run", action="store_true", help="say what would be removed")
    for each in (ledger, audit, trim):
        each.add_argument(
            "--url", help="the Redis, instead of redis.url; the demo's own where neither is set"
        )
    yield from (ledger, archive, audit, replay, trim)


def _ledger(parser: argparse.ArgumentParser) -> None:
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="for programs")
    shape.add_argument("--csv", action="store_true", help="for a spreadsheet")
    shape.add_argument("--follow", action="store_true", help="feed it, until Ctrl-C")
    parser.add_argument(
        "--by",
        default=",".join(ledger_command.COLUMNS),
        metavar="COLUMN,...",
        help="what sums are made by; without it by all: %(default)s",
    )
    parser.add_argument("--gains", action="store_true", help="each gain, its lot and its fills")


def _archive(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("verify", nargs="?", choices=["verify"], help="check every byte of it")
    parser.add_argument(
        "--head",
        action="append",
        default=[],
        metavar="ROOT",
        help="a root of exec:archive that must be in it; may be given again",
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--follow", action="store_true", help="feed it, until Ctrl-C")
    parser.add_argument(
        "--url", help="a Redis whose heads in exec:archive must be in it; to --follow: the one"
    )


def _replay(parser: argparse.ArgumentParser) -> None:
    times = "ISO time (UTC), or nanoseconds since 1970"
    parser.add_argument("--from", dest="begin", default="0", metavar="TIME", help=times)
    parser.add_argument("--to", dest="end", metavar="TIME", help=f"{times}; without: all behind")
    parser.add_argument("--url", required=True, help="the scratch Redis")
    pace = "1: the pace of the events; 0 (without it): as fast as it can"
    _number(parser, "--speed", 0.0, "FACTOR", pace)


def _number(
    parser: argparse.ArgumentParser, name: str, default: float, unit: str, text: str
) -> None:
    parser.add_argument(name, type=float, default=default, metavar=unit, help=text)
