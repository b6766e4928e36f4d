"""The command line: `python -m bridge COMMAND`."""

import signal

if __name__ == "__main__":
    # Until the daemon takes the signals over, Ctrl-C ends us as SIGTERM does: without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bridge import (
    config,
    console,
    control_command,
    control_parsers,
    exits,
    hints,
    record_parsers,
)
from bridge.doctor_command import doctor, doctor_parser
from bridge.exits import Exit
from bridge.notify_command import notify, notify_parser
from bridge.settings import Config
from bridge.terminal import Writer

if TYPE_CHECKING:
    import redis

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
  74  cannot record: the journal cannot be written, or execution entries were lost at the end
  75  the node stopped by itself, or has to be built anew with its flag on: start it again
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
# How long a reader of what is printed may take.
TERMINAL_SECONDS_MAX: Final = 10.0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    form = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(
        prog=hints.command(),
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
    run.add_argument("--strategy", metavar="MODULE:CLASS", help="what trades, or its short name")
    run.add_argument("--params", metavar="FILE", help="the strategy's parameters, as TOML")
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
    journal.add_argument(
        "--directory", type=Path, metavar="DIR", help="instead of journal.directory of the settings"
    )
    others = (*control_parsers.parsers(commands), *record_parsers.parsers(commands))
    for command in (run, check, journal, doctor_parser(commands), notify_parser(commands), *others):
        command.add_argument("--config", type=Path, metavar="FILE", help="settings, as TOML")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, call, return the exit code."""
    arguments = parser().parse_args(argv)
    commands: dict[str, Callable[[argparse.Namespace], int]] = {
        "run": run,
        "check-config": check_config,
        "journal": journal,
        "status": status,
        "flags": flags,
        "halt": halt,
        "resume": resume,
        "doctor": lambda words: doctor(words, _settings(words)),
        "notify": lambda words: notify(words, _settings(words)),
    }
    return console.told(lambda: commands.get(arguments.command, _recorded)(arguments))


# What a command imports inside its function the others need not wait for: `status` least of all.


def _recorded(arguments: argparse.Namespace) -> int:
    """Call a command on what was recorded. Raises ConfigError, Exit."""
    from bridge.record_commands import CALLS

    return CALLS[arguments.command](arguments, _settings(arguments))


def run(arguments: argparse.Namespace) -> int:
    """Run the daemon. Raises ConfigError, Exit."""
    from bridge import daemon

    return daemon.run(lambda: _settings(arguments), takeover=arguments.takeover)


def check_config(arguments: argparse.Namespace) -> int:
    """Say that the settings are usable, or list all of them. Raises ConfigError, Exit."""
    out = Writer(sys.stdout)
    if arguments.settings:
        for setting in config.describe():
            out.lines(
                f"{setting.path} = {setting.default}   [{setting.allowed}]",
                f"    {setting.description}",
            )
        out.drain(TERMINAL_SECONDS_MAX)
        return exits.DONE
    from bridge import notify_channel

    settings = _settings(arguments)
    for number, url in enumerate(settings.notify.urls, start=1):
        notify_channel.service(number, url.get_secret_value())
    where = settings.redis.safe_url or f"embedded, port {settings.embedded.port}"
    if settings.redis.market_url is not None:
        where = f"{where}, market data in {settings.redis.safe_market_url}"
    out.lines(f"usable: role {settings.role}, Redis {where}, prefix '{settings.stream_prefix}'")
    out.drain(TERMINAL_SECONDS_MAX)
    return exits.DONE


def journal(arguments: argparse.Namespace) -> int:
    """List and check the journal, or repair it. Raises ConfigError, Exit."""
    from bridge import journal_command

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


def status(arguments: argparse.Namespace) -> int:
    """Say how the bridges stand. Raises ConfigError, Exit."""
    roles = [arguments.role] if arguments.role else control_command.ROLES
    with control_command.connected(_url(arguments), arguments.timeout) as client:
        return _print(control_command.status(client, roles, as_json=arguments.json))


def flags(arguments: argparse.Namespace) -> int:
    """Show flags and mode, or change them. Raises ConfigError, Exit."""
    changes = control_command.changes_of(arguments.changes)
    with control_command.connected(_url(arguments)) as client:
        return _print(control_command.flags(client, changes, seconds_max=arguments.timeout))


def halt(arguments: argparse.Namespace) -> int:
    """Halt a role. Raises ConfigError, Exit."""
    with control_command.connected(_url(arguments)) as client:
        role = arguments.role or _role(client, _settings(arguments))
        seconds = arguments.timeout
        return _print(control_command.halt(client, role, arguments.reason, seconds_max=seconds))


def resume(arguments: argparse.Namespace) -> int:
    """End a halt, of a bridge that runs or of one that has ended. Raises ConfigError, Exit."""
    if arguments.directory is not None:
        return _print([control_command.resume_on_disk(arguments.directory)])
    settings = _settings(arguments)
    try:
        with control_command.connected(_url(arguments)) as client:
            role = arguments.role or _role(client, settings)
            return _print(control_command.resume(client, role, seconds_max=arguments.timeout))
    except Exit as error:
        folder = settings.state_directory
        if error.code != exits.UNAVAILABLE or folder is None:
            raise
        return _print([control_command.resume_on_disk(folder)])


def _print(lines: Iterable[str]) -> int:
    out = Writer(sys.stdout)
    try:
        for line in lines:
            out.lines(line)
    finally:
        out.drain(TERMINAL_SECONDS_MAX)
    return exits.DONE


def _role(client: "redis.Redis", settings: Config) -> str:
    """Return the role that the settings name, else that of the only bridge which answers."""
    answering = control_command.role_of(client, settings.role)  # or what keeps Redis from saying
    return settings.role if "role" in settings.model_fields_set else answering


def _url(arguments: argparse.Namespace) -> str:
    return str(arguments.url or control_command.url_of(_settings(arguments)))


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
        "source.params": getattr(arguments, "params", None),
        "replay.rate": getattr(arguments, "rate", None),
    }
    overrides = {path: value for path, value in given.items() if value is not None}
    return config.load(arguments.config, environ=os.environ, overrides=overrides)


if __name__ == "__main__":
    sys.exit(main())
