"""`python -m acceptance`: run a program, compare two results, build one, watch a shadow."""

import signal

if __name__ == "__main__":
    # Until `main` can catch it, Ctrl-C ends us as SIGTERM does: without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

from acceptance import commands
from acceptance.fills_csv import COLUMNS, moment

CODES: Final = """exit codes
  0    pass; done
  1    fail: a gate failed, or the shadow decided otherwise
  2    cannot judge: wrong arguments or files, an empty run, a run that stopped early or had a
       denied order, other data
  130  interrupted
`run nautilus` has those of integrations/nautilus/run_backtest.py."""
COLUMNS_HELP: Final = "columns of the CSV, named in its first line:\n" + "\n".join(
    f"  {name:<7} {column.about}{'' if column.required else ' (optional)'}"
    for name, column in COLUMNS.items()
)
PLACES_HELP: Final = (
    "SHADOW and REFERENCE are a result file, a CSV of fills (FILE.csv), or a Redis:\n"
    "  redis://127.0.0.1:6379/0?prefix=shadow:\n"
    "where ?strategy_id= and ?account= choose among several"
)
INTERRUPTED: Final = 130

type Call = Callable[[argparse.Namespace], int]
type Parsers = argparse._SubParsersAction[argparse.ArgumentParser]


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the arguments say; return the exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:2] == ["run", "nautilus"]:
        return commands.run_nautilus(words[2:])
    arguments = _parser().parse_args(words)
    call: Call = arguments.call
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return call(arguments)
    except commands.ERRORS as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return commands.CANNOT_JUDGE
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m acceptance",
        description="Does the port trade like the original?",
        epilog=CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, call: Call | None, about: str, *more: str) -> argparse.ArgumentParser:
        return _added(parsers, name, call, about, *more)

    _add_compare(add("compare", commands.compare, "hold a result against the legacy's"))
    _add_run(add("run", None, "run a program on a dataset"))
    _add_golden(add("golden", commands.check_golden, "hold a result against a pinned one"))
    add("schema", commands.schema, "print the JSON Schema of results")
    redis = add("from-redis", commands.from_redis, "build a result from a stream of fills")
    redis.add_argument("url", metavar="redis://...", help="the Redis")
    redis.add_argument("--prefix", help="of the stream names, such as shadow: (default: none)")
    redis.add_argument(
        "--strategy-id",
        nargs="+",
        metavar="ID",
        help="take fills of this strategy (default: the only one)",
    )
    redis.add_argument(
        "--account",
        nargs="+",
        metavar="ID",
        help="take fills of these accounts (default: all, where each leg of a symbol has one)",
    )
    _add_built(redis)
    csv = add("from-csv", commands.from_csv, "build a result from a CSV of fills", COLUMNS_HELP)
    csv.add_argument("file", type=Path, metavar="FILE", help="the CSV")
    _add_built(csv)
    about = "hold a shadow's fills against those of a live run or a backtest"
    _add_shadow(add("shadow", commands.compare_shadow, about, PLACES_HELP))
    return parser


def _added(
    parsers: Parsers, name: str, call: Call | None, about: str, *more: str
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = parsers.add_parser(
        name,
        help=about,
        description=about,
        epilog="\n\n".join([*more, CODES]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(call=call)
    return command


def _add_compare(command: argparse.ArgumentParser) -> None:
    command.add_argument("a", type=Path, metavar="A", help="the result to judge")
    command.add_argument("b", type=Path, metavar="B", help="the reference: the legacy's result")
    command.add_argument(
        "--tolerances", type=Path, metavar="FILE", help="TOML (default: acceptance/tolerances.toml)"
    )
    command.add_argument(
        "--tier", choices=("contract", "strict"), default="strict", help="default: strict"
    )
    command.add_argument("--golden", type=Path, metavar="FILE", help="what A must be, to the byte")
    command.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        default=commands.ARTIFACTS,
        help="for report.html, report.md and comparison.json (default: %(default)s)",
    )


def _add_run(run: argparse.ArgumentParser) -> None:
    programs = run.add_subparsers(required=True, metavar="PROGRAM")
    programs.add_parser("nautilus", help="the port; see `run nautilus --help`")
    command = _added(programs, "legacy", commands.run_legacy, "the legacy program")
    _add_window(command, commands.DATASET)
    command.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        default=commands.ARTIFACTS / "legacy_results.json",
        help="the result (default: %(default)s)",
    )
    command.add_argument(
        "--mode", choices=("fast", "full"), default="full", help="fast leaves out every single fill"
    )


def _add_golden(command: argparse.ArgumentParser) -> None:
    command.add_argument("result", type=Path, metavar="RESULT", help="the result")
    command.add_argument("golden", type=Path, metavar="GOLDEN", help="the pinned one")
    command.add_argument("--write", action="store_true", help="pin RESULT: this is deliberate")


def _add_window(command: argparse.ArgumentParser, dataset: Path | None) -> None:
    default = "none: only what fills can say" if dataset is None else "data/binance, made if absent"
    command.add_argument(
        "--dataset",
        type=Path,
        metavar="FILE",
        default=dataset,
        help=f"its spot.parquet; perp and funding lie beside it (default: {default})",
    )
    command.add_argument("--symbols", nargs="+", metavar="SYMBOL", help="such as BTC ETH SOL")
    for name, about in (("--start", "first day, UTC"), ("--end", "last day, all of it")):
        command.add_argument(name, type=date.fromisoformat, metavar="DAY", help=about)
    command.add_argument("--params", type=Path, metavar="FILE", help="parameters, as TOML")


def _add_built(command: argparse.ArgumentParser) -> None:
    _add_window(command, None)
    command.add_argument("--output", type=Path, metavar="FILE", required=True, help="the result")
    command.add_argument("--program", metavar="NAME", help="what made the fills")
    command.add_argument("--strategy", default="basis_carry", metavar="NAME", help="%(default)s")


def _add_shadow(command: argparse.ArgumentParser) -> None:
    command.add_argument("shadow", metavar="SHADOW")
    command.add_argument("reference", metavar="REFERENCE")
    for name, where, about in (("--from", "begin", "first time"), ("--to", "end", "time behind")):
        command.add_argument(
            name, dest=where, type=_checked(moment), metavar="TIME", help=f"{about}: ISO, or ns"
        )
    command.add_argument(
        "--size-fraction",
        type=_checked(_positive),
        default=Decimal("0.1"),
        metavar="F",
        help="of the reference's size that the shadow trades (default: %(default)s)",
    )
    command.add_argument(
        "--tolerance-seconds",
        type=_checked(_positive),
        default=Decimal(30),
        metavar="S",
        help="how far apart the same decision may be (default: %(default)s)",
    )
    command.add_argument(
        "--tolerance-percent",
        type=_checked(_positive),
        default=Decimal(5),
        metavar="P",
        help="how far apart its quantities may be; a lot always (default: %(default)s)",
    )
    command.add_argument("--json", action="store_true", help="all of it, as JSON")


def _positive(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not (number.is_finite() and number > 0):
        raise ValueError(f"{text!r} is no number above 0")
    return number


def _checked[T](parse: Callable[[str], T]) -> Callable[[str], T]:
    """Return `parse` as argparse wants it, with what is wrong in the message."""

    def checked(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return checked


if __name__ == "__main__":
    sys.exit(main())
