"""Run a strategy in shadow, or live, beside the rest of the stack.

    python integrations/nautilus/run_shadow_live.py --venues BINANCE DERIBIT \\
        --symbols BTC ETH SOL --shadow

A shadow takes the venues' market data, without keys, and fills its orders in Nautilus's sandbox.
It is the daemon of `python -m bridge run`, with the settings that its options name.
"""

import importlib.util
import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    # A script's own folder comes first on sys.path, where `import bridge` would find another file.
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    sys.path.append("")  # the working folder, for a strategy
    # Until the daemon takes the signals over, Ctrl-C ends us as SIGTERM does: without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Before all imports: an interpreter without it has none of the other packages, either.
    if importlib.util.find_spec("nautilus_trader") is None:
        sys.stderr.write("nautilus_trader is not installed: pip install -r requirements.txt\n")
        sys.exit(2)

import argparse
import functools
import os
from collections.abc import Sequence
from typing import Final

from bridge import config, console, daemon
from bridge.settings import Config

ROOT: Final = Path(__file__).resolve().parents[2]
DEFAULT_URL: Final = "redis://127.0.0.1:6379/0"
CODES: Final = """\
Orders are sent while features:nautilus_shadow_exec (live: features:nautilus_live_exec) is 1 and
`mode` says neither halt nor reduce. The Redis is redis.url of the settings, BRIDGE_REDIS__URL, or
redis://127.0.0.1:6379/0. exit codes: as `python -m bridge run --help` says."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="run_shadow_live.py",
        description="Run a strategy in shadow or live.",
        epilog=CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    role = top.add_mutually_exclusive_group(required=True)
    role.add_argument("--shadow", action="store_const", dest="role", const="shadow")
    role.add_argument("--live", action="store_const", dest="role", const="live")
    top.add_argument("--venues", nargs="+", metavar="VENUE", help="BINANCE, DERIBIT or both")
    top.add_argument("--symbols", nargs="+", metavar="SYMBOL", help="base currencies: BTC ETH SOL")
    top.add_argument(
        "--data", choices=("venue", "replay"), help="replay: the sample dataset, without a network"
    )
    top.add_argument("--strategy", metavar="MODULE:CLASS", help="what trades; unset: the example")
    top.add_argument("--config", type=Path, metavar="FILE", help="settings, as TOML")
    top.add_argument("--takeover", action="store_true", help="end another bridge of this name")
    return top


def settings_of(arguments: argparse.Namespace, environ: dict[str, str]) -> Config:
    """Return the settings: options before the environment, that before the file.

    Raises ConfigError.
    """
    if arguments.config is None:
        environ.setdefault("BRIDGE_REDIS__URL", DEFAULT_URL)
        # The repository's, wherever the script is started.
        environ.setdefault("BRIDGE_REPLAY__DATASET", str(ROOT / "data" / "demo"))
    given = {
        "role": arguments.role,
        "node.venues": ",".join(arguments.venues or ()),
        "node.symbols": ",".join(arguments.symbols or ()),
        "node.data": arguments.data,
        "source.strategy": arguments.strategy,
    }
    overrides = {path: value for path, value in given.items() if value}
    return config.load(arguments.config, environ=environ, overrides=overrides)


def main(argv: Sequence[str] | None = None) -> int:
    """Run until told to stop; return the exit code."""
    arguments = parser().parse_args(argv)

    def run() -> int:
        read = functools.partial(settings_of, arguments, dict(os.environ))
        return daemon.run(read, takeover=arguments.takeover)

    return console.told(run)


if __name__ == "__main__":
    sys.exit(main())
