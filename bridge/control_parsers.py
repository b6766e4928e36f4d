"""The words and exit codes of the commands that ask a bridge: status, flags, halt, resume."""

import argparse
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bridge import control_command

CODES: Final = """\
exit codes:
  0   done, and the bridge has said so
  2   usage
  69  Redis cannot be had or does not answer in time, or no bridge has answered
  77  Redis refuses the credentials
  78  configuration"""
RESUME_CODES: Final = """\
exit codes:
  0   no halt holds any more
  1   mode is halt: set it to normal first
  2   usage
  65  no bridge answers, and the folder holds no latch
  69  Redis cannot be had, or no bridge has answered
  73  --directory is that of a bridge that runs
  77  Redis refuses the credentials
  78  configuration"""

# Somebody looks at it and waits.
STATUS_SECONDS_MAX: Final = 1.0


def parsers(commands: Any) -> Iterator[argparse.ArgumentParser]:
    """Yield the parsers of these commands."""
    form = argparse.RawDescriptionHelpFormatter
    helps = {
        "status": "how the bridges stand",
        "flags": "show the flags and mode, or change them",
        "halt": "halt a bridge: cancel its orders, let nothing leave, until it is resumed",
        "resume": "end a halt",
    }
    for name, text in helps.items():
        epilog = RESUME_CODES if name == "resume" else CODES
        command = commands.add_parser(name, help=text, epilog=epilog, formatter_class=form)
        command.add_argument(
            "--url", help="the Redis, instead of redis.url; the demo's own where neither is set"
        )
        if name != "flags":
            command.add_argument("--role", choices=control_command.ROLES)
        if name != "status":
            command.add_argument(
                *("--timeout", "-t"),
                type=float,
                default=5.0,
                metavar="SECONDS",
                help="how long to wait for the bridge's answer (5)",
            )
        match name:
            case "status":
                command.add_argument("--json", action="store_true", help="as one JSON object")
                command.add_argument(
                    *("--timeout", "-t"),
                    type=_seconds,
                    default=STATUS_SECONDS_MAX,
                    metavar="SECONDS",
                    help="how long to wait for Redis, in all (%(default)g)",
                )
            case "flags":
                command.add_argument(
                    "changes", nargs="*", metavar="NAME=VALUE", help="such as shadow_exec=0"
                )
            case "halt":
                command.add_argument("--reason", required=True, help="for the record")
            case "resume":
                command.add_argument(
                    *("--directory",),
                    type=Path,
                    metavar="DIR",
                    help="the state.directory of a bridge that has ended",
                )
        yield command


def _seconds(text: str) -> float:
    """Return a time to wait. Raises argparse's error for what is none."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < threading.TIMEOUT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds
