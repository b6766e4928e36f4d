"""`python -m integrations.binance`: bring venue files into a catalog, verify them, make a sample.

Exit 0 when all is well, 1 when `verify` found something, 2 for usage or without Nautilus, 65 for a
file that was refused or a journal that is broken, 74 when the catalog or the sample cannot be
written, 75 while another process writes into the catalog, 130 for Ctrl-C.
"""

import signal

if __name__ == "__main__":
    # Until `main` can catch it, Ctrl-C ends us as SIGTERM does: without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from integrations.binance import week
from integrations.binance.columns import Columns
from integrations.binance.dataset import Integers
from integrations.binance.ingest import BlockedError, find_jobs, ingest, one_numbering
from integrations.binance.instruments import LEGS, InstrumentError, read_instruments
from integrations.binance.journal import BusyError, JournalError, open_journal
from integrations.binance.manifest import Instrument
from integrations.binance.verify import table_of, verify

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
BAD_DATA: Final = 65
CANNOT_WRITE: Final = 74
BUSY: Final = 75
INTERRUPTED: Final = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the commands; return the exit code."""
    options = _parse(argv)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return COMMANDS[options.command](options)
    except InstrumentError as error:
        print(error, file=sys.stderr)
        return USAGE
    except BusyError as error:
        print(error, file=sys.stderr)
        return BUSY
    except JournalError as error:
        print(error, file=sys.stderr)
        return BAD_DATA
    except OSError as error:
        print(f"cannot read or write: {error}", file=sys.stderr)
        return CANNOT_WRITE
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it was", file=sys.stderr)
        return INTERRUPTED


def _ingest(options: argparse.Namespace) -> int:
    try:
        from integrations.nautilus import catalog
        from integrations.nautilus.replay import instrument_of
        from integrations.nautilus.wranglers import wrangler
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "nautilus_trader":
            raise
        install = "pip install -r requirements.txt"
        print(f"nautilus_trader is not installed: {install}", file=sys.stderr)
        return USAGE
    root, wrangle = options.catalog.resolve(), wrangler(options.wrangler)

    def target(instrument: Instrument, columns: Columns, ts_init: Integers) -> Path:
        return catalog.target_of(root, instrument_of(instrument), columns, ts_init)

    def write(instrument: Instrument, columns: Columns, ts_init: Integers) -> None:
        try:
            catalog.write(root, instrument_of(instrument), columns, ts_init, wrangle)
        except catalog.CatalogError as error:
            raise BlockedError(error.path, str(error)) from error

    instruments = read_instruments(options.instruments)
    jobs, outcomes = find_jobs(options.source, options.symbols, options.market, instruments)
    if not jobs and not outcomes:
        wanted = " ".join(options.symbols)
        print(f"{options.source}: no file of {wanted} was found; name them as", file=sys.stderr)
        print("Binance does, such as BTCUSDT-trades-2025-07-01.zip", file=sys.stderr)
        return USAGE
    jobs, mixed = one_numbering(jobs)
    outcomes += mixed
    with open_journal(root) as journal:
        catalog.discard_partial(root)
        try:
            for instrument in {job.instrument.id: job.instrument for job in jobs}.values():
                catalog.write_instrument(root, instrument_of(instrument))
        except catalog.CatalogError as error:
            print(error, file=sys.stderr)
            return USAGE
        for outcome in ingest(jobs, journal, target, write):
            outcomes.append(outcome)
            if not outcome.refused:
                said = f"{outcome.rows:,} rows" if outcome.rows else "nothing new"
                print(f"{outcome.path.name}: {outcome.kind}, {said}")
    refused = [outcome.refused for outcome in outcomes if outcome.refused]
    for each in refused:
        print(f"refused: {each}", file=sys.stderr)
    rows = sum(outcome.rows for outcome in outcomes)
    print(f"{options.catalog}: {rows:,} new rows of {len(outcomes)} files, {len(refused)} refused")
    return BAD_DATA if refused else DONE


def _verify(options: argparse.Namespace) -> int:
    instruments = read_instruments(options.instruments)
    jobs, refused = find_jobs(options.source, options.symbols, options.market, instruments)
    if not jobs and not refused:
        wanted = " ".join(options.symbols)
        print(f"{options.source}: no file of {wanted} was found", file=sys.stderr)
        return USAGE
    findings = verify(jobs)
    print(table_of(findings))
    for each in [*(outcome.refused for outcome in refused), *(f.first for f in findings)]:
        if each:
            print(each, file=sys.stderr)
    return FAILED if refused or any(finding.total for finding in findings) else DONE


def _sample(options: argparse.Namespace) -> int:
    try:
        rows = week.generate(options.directory)
    except ValueError as error:
        print(error, file=sys.stderr)
        return USAGE
    counts = ", ".join(f"{name} {count}" for name, count in rows.items())
    print(f"{options.directory}: {counts} rows")
    return DONE


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m integrations.binance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in (
        ("ingest", "write venue files into a Nautilus catalog"),
        ("verify", "look for gaps, duplicates, bad candles, disorder and lost decimals in files"),
    ):
        command = commands.add_parser(name, help=about, description=about)
        command.add_argument("--source", type=_folder, required=True, help="folder of the files")
        command.add_argument("--symbols", nargs="+", required=True, metavar="SYMBOL")
        command.add_argument("--market", choices=list(LEGS), default="spot")
        command.add_argument(
            "--instruments",
            type=Path,
            metavar="FILE.json",
            help="ticks and lots, as in a dataset's MANIFEST.json; default: BTC, ETH, SOL of today",
        )
        if name == "ingest":
            command.add_argument("--catalog", type=Path, required=True, help="made when absent")
            command.add_argument(
                "--wrangler",
                choices=("arrow", "v1"),
                default="arrow",
                help="how rows become Nautilus's; both give the same, v1 through float64, slowly",
            )
    about = "generate the week of quotes and funding that `make accept` uses"
    sample = commands.add_parser("sample", help=about, description=about)
    sample.add_argument("directory", nargs="?", type=Path, default=week.DIRECTORY)
    return parser.parse_args(argv)


def _folder(text: str) -> Path:
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is not a folder")
    return path


COMMANDS: Final = {"ingest": _ingest, "verify": _verify, "sample": _sample}

if __name__ == "__main__":
    sys.exit(main())
