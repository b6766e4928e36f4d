"""`python -m bridge notify`: send a text to where alerts go, at once, and say who took it."""

import argparse
import socket
import sys
import threading
from typing import Any, Final

from bridge import exits
from bridge.exits import Exit
from bridge.settings import Config
from bridge.terminal import Writer

CODES: Final = """\
exit codes:
  0   every URL of notify.urls has taken it
  1   one has not; the lines say which, and why
  2   usage
  78  configuration, or notify.urls is empty"""
TEXT: Final = "a test: this is where alerts go"
TERMINAL_SECONDS_MAX: Final = 10.0


def notify_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command to those of `python -m bridge`, and return its parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "notify",
        help="send a text to where alerts go, and say whether it was taken",
        epilog=CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("text", nargs="?", default=TEXT, help="without it: that it is a test")
    return parser


def notify(arguments: argparse.Namespace, settings: Config) -> int:
    """Send to each URL once, whatever notify.kinds and the limits say; no daemon is needed.

    Raises Exit (CONFIGURATION).
    """
    if not settings.notify.urls:
        raise Exit(exits.CONFIGURATION, "notify.urls is empty: there is nobody to tell")
    # apprise takes its time, and the other commands need not wait for it.
    from bridge.metrics import Metrics
    from bridge.notify_channel import Channel

    out, code = Writer(sys.stdout), exits.DONE
    title = f"{settings.role} {settings.producer_id} on {socket.gethostname()}: notify"
    channels = [
        Channel(number, url.get_secret_value(), settings.notify, Metrics(), threading.Event())
        for number, url in enumerate(settings.notify.urls, start=1)
    ]
    for channel in channels:
        problem = channel.refusal(title, arguments.text, "info")
        out.lines(f"{channel.name}: {'taken' if problem is None else f'NOT taken: {problem}'}")
        code = code if problem is None else exits.FAILED
    out.drain(TERMINAL_SECONDS_MAX)
    return code
