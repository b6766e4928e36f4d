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

from bridge import config, daemon, exits, journal_command, latch
from bridge.config import ConfigError
from bridge.exits import Exit
from bridge.latch import Latch
from bridge.settings import Config
from bridge.terminal import Writer

DESCRIPTION = "The bridge between NautilusTrader and a Redis-based trading stack."
SETTINGS = """\
Every setting can stand in the file (TOML), in the environment as BRIDGE_<SECTION>__<KEY>, or both;
the command line wins over the environment, that over the file. `check-config --settings` lists
them all."""
RUN_CODES = """\
exit codes:
  0   done: SIGINT or SIGTERM, and every execution entry is in Redis, or in a journal that is kept
  2   usage
  65  the journal is damaged, or the dataset cannot be used
  69  Redis cannot be had, or the node did not start
  73  a port is taken, or another bridge has this one's name, prefix or journal
  74  cannot record: the journal cannot be written, or did fail before (resume clears that), or
      execution entries were lost at the end
  75  the node stopped by itself: start it again
  76  fenced: another bridge has taken this one's place
  77  Redis refuses the credentials
  78  configuration"""
CHECK_CODES = """\
exit codes:
  0   the settings are usable
  2   usage
  78  configuration"""

JOURNAL_CODES = """\
exit codes:
  0   every segment is whole; what was damaged is cut out
  2   usage
  65  a segment is damaged, or there is no journal
  73  a bridge writes to it: stop that before a repair
  78  configuration"""
RESUME_CODES = """\
exit codes:
  0   the next start may trade
  2   usage
  65  there is no latch
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
    run.add_argument(
        "--takeover", action="store_true", help="take the place of a bridge of the same name"
    )
    run.add_argument("--rate", metavar="N", help="replay N market events a second")
    check = commands.add_parser(
        "check-config",
        help="explain what is wrong with the settings",
        epilog=f"{SETTINGS}\n\n{CHECK_CODES}",
        formatter_class=form,
    )
    check.add_argument("--settings", action="store_true", help="list every setting and its default")
    journal = commands.add_parser(
        "journal",
        help="list the journal, check every byte of it, repair it",
        epilog=JOURNAL_CODES,
        formatter_class=form,
    )
    journal.add_argument("--json", action="store_true", help="for programs")
    journal.add_argument(
        "--repair", action="store_true", help="cut out what is damaged, and say what is lost by it"
    )
    resume = commands.add_parser(
        "resume",
        help="clear the latch that a failed journal has set",
        epilog=RESUME_CODES,
        formatter_class=form,
    )
    for command, folder in ((journal, "journal.directory"), (resume, "state.directory")):
        command.add_argument(
            "--directory", type=Path, metavar="DIR", help=f"instead of {folder} of the settings"
        )
    for command in (run, check, journal, resume):
        command.add_argument("--config", type=Path, metavar="FILE", help="settings, as TOML")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, call, return the exit code."""
    arguments = parser().parse_args(argv)
    try:
        match arguments.command:
            case "check-config":
                return check_config(arguments)
            case "journal":
                return journal(arguments)
            case "resume":
                return resume(arguments)
        return daemon.run(_settings(arguments), takeover=arguments.takeover)
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


def journal(arguments: argparse.Namespace) -> int:
    """List and check the journal, or repair it. Raises ConfigError, Exit."""
    out = Writer(sys.stdout)
    directory = arguments.directory or _folder("journal.directory", arguments)
    if arguments.repair:
        out.lines(*journal_command.mend(directory))
        code = exits.DONE
    else:
        lines, code = journal_command.report(directory, as_json=arguments.json)
        out.lines(*lines)
    out.drain(TERMINAL_SECONDS_MAX)
    return code


def resume(arguments: argparse.Namespace) -> int:
    """Clear the latch. Raises ConfigError, Exit."""
    directory = arguments.directory or _folder("state.directory", arguments)
    if not (directory / latch.NAME).exists():
        raise Exit(exits.BAD_DATA, f"{directory} holds no latch; see state.directory")
    held = Latch(directory)
    reason = held.reason
    held.clear()
    print("nothing was halted" if reason is None else f"cleared: {reason}; start the bridge again")
    return exits.DONE


def _folder(name: str, arguments: argparse.Namespace) -> Path:
    """Return the folder that the settings name. Raises ConfigError, Exit."""
    settings = _settings(arguments)
    folder = settings.journal_directory if name == "journal.directory" else settings.state_directory
    if folder is None:
        raise Exit(exits.CONFIGURATION, f"{name} is not set; name the folder with --directory")
    return folder


def _settings(arguments: argparse.Namespace) -> Config:
    given = {
        "source.strategy": getattr(arguments, "strategy", None),
        "replay.rate": getattr(arguments, "rate", None),
    }
    overrides = {path: value for path, value in given.items() if value is not None}
    return config.load(arguments.config, environ=os.environ, overrides=overrides)


if __name__ == "__main__":
    sys.exit(main())
