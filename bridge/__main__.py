"""The command line: `python -m bridge COMMAND`."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bridge import config, daemon, exits
from bridge.config import Config, ConfigError
from bridge.exits import Exit

DESCRIPTION = "The bridge between NautilusTrader and a Redis-based trading stack."
EPILOG = """\
Every setting can stand in the file (TOML), in the environment as BRIDGE_<SECTION>__<KEY>, or both;
`check-config --settings` lists them. Exit codes: 0 done, 2 usage, 65 data unusable, 69 Redis
unavailable at start, 73 port taken, 74 cannot record, 75 restart wanted, 77 credentials refused,
78 configuration."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    form = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(
        prog="python -m bridge", description=DESCRIPTION, epilog=EPILOG, formatter_class=form
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run the daemon; without a file: the demo")
    run.add_argument("--strategy", metavar="MODULE:CLASS", help="the strategy that the node runs")
    run.add_argument("--rate", metavar="N", help="replay N market events a second")
    check = commands.add_parser("check-config", help="explain what is wrong with the settings")
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
    if arguments.settings:
        for setting in config.describe():
            print(f"{setting.path} = {setting.default}   [{setting.allowed}]")
            print(f"    {setting.description}")
        return exits.DONE
    settings = _settings(arguments)
    where = settings.redis.safe_url or f"embedded, port {settings.embedded.port}"
    print(f"usable: role {settings.role}, Redis {where}, prefix '{settings.stream_prefix}'")
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
