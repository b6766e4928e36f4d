"""The command line: `python -m bridge COMMAND`."""

import signal

if __name__ == "__main__":
    # Until the daemon takes the signals over, Ctrl-C ends us as SIGTERM does: without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bridge import config, daemon, exits
from bridge.config import ConfigError
from bridge.exits import Exit
from bridge.settings import Config
from bridge.terminal import Writer

DESCRIPTION = "The bridge between NautilusTrader and a Redis-based trading stack."
SETTINGS = """\
Every setting can stand in the file (TOML), in the environment as BRIDGE_<SECTION>__<KEY>, or both;
the command line wins over the environment, that over the file. `check-config --settings` lists
them all."""
RUN_CODES = """\
exit codes:
  0   done: SIGINT or SIGTERM, and every execution entry is in Redis
  2   usage
  65  the dataset cannot be used
  69  Redis cannot be had, or the node did not start
  73  a port is taken
  74  cannot record: execution entries were lost at the end, or too many wait for Redis
  75  the node stopped by itself: start it again
  77  Redis refuses the credentials
  78  configuration"""
CHECK_CODES = """\
exit codes:
  0   the settings are usable
  2   usage
  78  configuration"""

# How long a reader of what is printed may take.
TERMINAL_SECONDS_MAX: Final = 10.0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    form = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(
        prog="python -m bridge",
        description=DESCRIPTION,
        epilog=f"{SETTINGS}\n\n{RUN_CODES}",
        formatter_class=form,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="run the daemon; without a file: the demo",
        epilog=f"{SETTINGS}\n\n{RUN_CODES}",
        formatter_class=form,
    )
    run.add_argument("--strategy", metavar="MODULE:CLASS", help="the strategy that the node runs")
    run.add_argument("--rate", metavar="N", help="replay N market events a second")
    check = commands.add_parser(
        "check-config",
        help="explain what is wrong with the settings",
        epilog=f"{SETTINGS}\n\n{CHECK_CODES}",
        formatter_class=form,
    )
    check.add_argument("--settings", action="store_true", help="list every setting and its default")
    for command in (run, check):
        command.add_argument("--config", type=Path, metavar="FILE", help="settings, as TOML")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, call, return the exit code."""
    arguments = parser().parse_args(argv)
    try:
        if arguments.command == "check-config":
            return check_config(arguments)
        return daemon.run(_settings(arguments))
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return exits.CONFIGURATION
    except Exit as error:
        print(error, file=sys.stderr)
        return error.code


def check_config(arguments: argparse.Namespace) -> int:
    """Say that the settings are usable, or list all of them. Raises ConfigError."""
    out = Writer(sys.stdout)
    if arguments.settings:
        for setting in config.describe():
            out.lines(
                f"{setting.path} = {setting.default}   [{setting.allowed}]",
                f"    {setting.description}",
            )
        out.drain(TERMINAL_SECONDS_MAX)
        return exits.DONE
    settings = _settings(arguments)
    where = settings.redis.safe_url or f"embedded, port {settings.embedded.port}"
    out.lines(f"usable: role {settings.role}, Redis {where}, prefix '{settings.stream_prefix}'")
    out.drain(TERMINAL_SECONDS_MAX)
    return exits.DONE


def _settings(arguments: argparse.Namespace) -> Config:
    given = {
        "source.strategy": getattr(arguments, "strategy", None),
        "replay.rate": getattr(arguments, "rate", None),
    }
    overrides = {path: value for path, value in given.items() if value is not None}
    return config.load(arguments.config, environ=os.environ, overrides=overrides)


if __name__ == "__main__":
    sys.exit(main())
