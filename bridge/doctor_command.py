"""`python -m bridge doctor`: what would lose data or hurt, and what to change."""

import argparse
import os
import sys
from typing import Any, Final

from bridge import control_command, exits
from bridge.exits import Exit
from bridge.records import with_streams_of_journal
from bridge.section import check_redis_url
from bridge.settings import Config
from bridge.terminal import Writer

CODES: Final = """\
exit codes:
  0   nothing would lose data; what only hurts, or is not known, is named
  1   something would lose data: the lines that begin with LOSE (--json: level lose)
  2   usage
  69  Redis cannot be had, itself a LOSE; the rest is judged, and may hold more of them
  77  Redis refuses the credentials, itself a LOSE; the rest likewise
  78  configuration"""
TERMINAL_SECONDS_MAX: Final = 10.0


def doctor_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command to those of `python -m bridge`, and return its parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "doctor",
        help="what would lose data or hurt, and what to change",
        epilog=CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--url", help="the Redis, instead of redis.url; the demo's own where neither is set"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser


def doctor(arguments: argparse.Namespace, settings: Config) -> int:
    """Examine Redis and this machine, print what is found. Raises Exit."""
    from bridge.doctor_examination import Examination  # the other commands need not wait for it

    try:
        url = check_redis_url(arguments.url or control_command.url_of(settings))
    except ValueError as error:
        raise Exit(exits.USAGE, f"--url: {error}") from None
    is_ours = settings.redis.url is None and arguments.url is None
    settings = with_streams_of_journal(settings)
    found = Examination(settings, url, arguments.config, is_ours=is_ours)
    found.run(os.environ)
    out = Writer(sys.stdout)
    out.lines(*found.lines(as_json=arguments.json))
    out.drain(TERMINAL_SECONDS_MAX)
    if found.refusal is not None:
        raise Exit(found.code, "not all was judged: see what is said of redis")
    return found.code
