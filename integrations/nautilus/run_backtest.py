"""Run a strategy in Nautilus's backtest over a dataset, and write down what it did.

    python integrations/nautilus/run_backtest.py --symbols BTC ETH SOL \\
        --start 2025-07-01 --end 2025-07-07 --dataset data/binance/spot.parquet \\
        --output artifacts/acceptance/nautilus_results.json

The generated week is made when it is absent. With `--publish` the run is streamed to a Redis.
"""

import importlib.util
import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    # A script's own folder comes first on sys.path, where `import bridge` would find another file.
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    sys.path.append("")  # the working folder, for a strategy
    # Until `main` can catch it, Ctrl-C ends us as SIGTERM does: without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Before all imports: an interpreter without it has none of the other packages, either.
    if importlib.util.find_spec("nautilus_trader") is None:
        sys.stderr.write("nautilus_trader is not installed: pip install -r requirements.txt\n")
        sys.exit(2)

import argparse
import asyncio
import errno
import logging
import os
import shlex
import tomllib
from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal, localcontext
from typing import Any, Final

import redis
import structlog

from acceptance import record
from acceptance.run import named
from bridge import config, console, endpoints, exits
from bridge import log as logs
from bridge.core.contract import EXEC_KINDS, Names
from bridge.core.control import flag_of
from bridge.exits import Exit
from bridge.preflight import client_of, refusal_of
from bridge.section import check_redis_url, safe_url
from integrations.binance import dataset, week
from integrations.binance.dataset import Dataset
from integrations.binance.manifest import DatasetError
from integrations.binance.progress import Progress
from integrations.nautilus import backtest_settings
from integrations.nautilus.backtest import Backtest
from integrations.nautilus.backtest_settings import BacktestSettings, SettingsError
from integrations.nautilus.books import EXACT, Books
from integrations.nautilus.bridge import NautilusRedisBridge

log = structlog.get_logger("nautilus_backtest")

ENGINE_FLAG: Final = "features:nautilus_engine"
INTERRUPTED: Final = 130
PROGRAM: Final = "nautilus"
CODES: Final = """\
A Redis that is named (--publish or BRIDGE_REDIS__URL) has to allow it: features:nautilus_engine
must be 1. exit codes: 0 done, 1 the strategy failed or not everything was published, 2 usage,
unusable dataset or a run that cannot be judged, 69 no Redis, 74 the result or the converted
dataset cannot be written, 77 Redis refuses, 78 settings or flag, 130 interrupted."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line. What is not named is left to the settings."""
    top = argparse.ArgumentParser(
        prog="run_backtest.py",
        description="Run a strategy in Nautilus's backtest.",
        epilog=CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    top.add_argument("--symbols", nargs="+", metavar="SYMBOL", help="base currencies: BTC ETH SOL")
    top.add_argument("--start", type=date.fromisoformat, metavar="DAY", help="first day, UTC")
    top.add_argument("--end", type=date.fromisoformat, metavar="DAY", help="last day, all of it")
    top.add_argument("--dataset", type=Path, help="its spot.parquet; perp and funding lie beside")
    top.add_argument("--output", type=Path, metavar="FILE", help="the result, as JSON")
    top.add_argument("--mode", choices=("fast", "full"), help="full: every fill, order, point")
    top.add_argument("--strategy", metavar="MODULE:CLASS", help="default: the port of basis carry")
    top.add_argument("--params", type=Path, metavar="FILE", help="parameters of it, as TOML")
    top.add_argument("--config", type=Path, metavar="FILE", help="all settings, as JSON")
    top.add_argument("--publish", metavar="URL", help="stream the run to this Redis")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run, write the result, say what came out; return the exit code."""
    given = vars(parser().parse_args(argv))
    logs.configure()
    logging.getLogger("nautilus_backtest").setLevel(logging.INFO)
    signal.signal(signal.SIGINT, _interrupt)  # asyncio would wait until the run is over
    try:
        return console.told(lambda: _main(given))
    except (SettingsError, DatasetError) as error:
        sys.stderr.write(f"{error}\n")
        return exits.CONFIGURATION if isinstance(error, SettingsError) else exits.USAGE
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _main(given: dict[str, Any]) -> int:
    publish = given.pop("publish", None)
    settings = _settings(given)
    url = publish or os.environ.get("BRIDGE_REDIS__URL")
    if url is not None:
        _check_flag(url)
    _check_output(settings.output)
    week.make_if_absent(settings.dataset)
    data = dataset.load(settings.dataset, symbols=settings.symbols or None)
    with Progress("backtest") as progress:
        backtest = Backtest(
            data, settings=settings, catalog=settings.catalog, progress=progress.show
        )

    def work() -> int:
        with progress:
            books = backtest.run()
        _write(books, backtest, data, settings)
        return _judged(books)

    with backtest:
        return _published(work, backtest, publish) if publish else work()


def _settings(given: dict[str, Any]) -> BacktestSettings:
    config, params = given.pop("config", None), given.pop("params", None)
    if params is not None:
        given["params"] = _params(params)
    return backtest_settings.load(config, given)


def _params(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read: {error.strerror}"]) from None
    except (ValueError, RecursionError) as error:
        raise SettingsError([f"{path}: no TOML: {error}"]) from None


def _check_flag(url: str) -> None:
    """Raise Exit unless the Redis allows backtests, or when it cannot be asked."""
    try:
        check_redis_url(url)
    except ValueError as error:
        raise Exit(exits.CONFIGURATION, f"the URL of Redis: {error}") from None
    client = client_of(url)
    try:
        raw: Any = client.get(ENGINE_FLAG)
    except redis.exceptions.ResponseError as error:
        if not str(error).startswith("WRONGTYPE"):
            raise refusal_of(error, url) from None
        raw = None
    except Exception as error:  # noqa: BLE001 - redis-py raises anything at what is no Redis
        raise refusal_of(error, url) from None
    finally:
        client.close()
    if not flag_of(raw):
        cli = shlex.join([*console.redis_cli(endpoints.parse(url)), "set", ENGINE_FLAG, "1"])
        raise Exit(
            exits.CONFIGURATION,
            f"{ENGINE_FLAG} is off in {safe_url(url)}; to allow backtests: {cli}",
        )


def _check_output(output: Path) -> None:
    """Make room for a result. Raises Exit, before anything is run, where none can be written."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if output.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder")
        record.discard(output)
    except OSError as error:
        raise _unwritable(output, error) from None


def _unwritable(output: Path, error: OSError) -> Exit:
    return Exit(exits.CANNOT_RECORD, f"{output} cannot be written: {error.strerror}")


def _published(work: Callable[[], int], backtest: Backtest, url: str) -> int:
    """Work with the bridge attached; return the exit code of it, or FAILED when that is DONE and
    not everything got to Redis."""
    bridge = NautilusRedisBridge(url)
    bridge.attach(backtest.engine)

    async def run() -> int:
        await bridge.start()
        try:
            return work()
        finally:
            await bridge.stop()

    code = asyncio.run(run())
    if problem := _unpublished(bridge, url):
        sys.stderr.write(f"{problem}\n")
        return code or exits.FAILED
    log.info("published", redis=safe_url(url), prefix=bridge.prefix)
    return code


def _unpublished(bridge: NautilusRedisBridge, url: str) -> str | None:
    """Return what of a published run is not in Redis, and why; None when all of it is."""
    settings = config.load(None, environ=os.environ, overrides={"redis.url": url})
    names = Names(bridge.prefix, settings.streams.templates)
    confirmed = int(bridge.metrics.snapshot(0)["nautilus_bridge_exec_published_total"])
    lost = [f"{count} {lane} entries" for lane, count in bridge.unpublished.items() if count]
    client = client_of(url)
    try:
        # Refused like any entry; without that stream it changes nothing.
        client.xadd(names.prefixed("exec:probe"), {"probe": "1"}, nomkstream=True)
        there: int = sum([client.xlen(names.key(kind)) for kind in EXEC_KINDS])
        if there < confirmed:
            lost.append(f"{confirmed - there} exec entries that it had confirmed")
        why = "Redis takes entries now; it was too slow, away, or restarted without its data"
    except Exception as error:  # noqa: BLE001 - redis-py raises anything at what is no Redis
        why = str(refusal_of(error, url))
        lost = lost or ["nobody knows what"]
    finally:
        client.close()
    return f"not published, and lost: {', '.join(lost)}; {why}" if lost else None


def _write(books: Books, backtest: Backtest, data: Dataset, settings: BacktestSettings) -> None:
    selection = backtest.selection
    strategy, params = named(settings.strategy, settings.params)
    made = record.of_books(
        books,
        program=PROGRAM,
        data=record.Data(
            start_ns=selection.start_ns,
            end_ns=selection.end_ns,
            symbols=selection.symbols,
            sha256=data.sha256,
            events=books.fed,
            last_ts=selection.last_ts(data),
        ),
        instruments=selection.rows,
        params=params,
        mode=settings.mode,
        strategy=strategy,
    )
    try:
        digest = record.save(made, settings.output)
    except OSError as error:
        raise _unwritable(settings.output, error) from None
    log.info("result.written", file=str(settings.output), sha256=digest)


def _judged(books: Books) -> int:
    """Say what came out, or why nothing can be said; return the exit code."""
    if problems := books.problems:
        sys.stderr.write(f"cannot judge this run: {'; '.join(problems)}\n")
        return exits.USAGE
    with localcontext(EXACT):
        rows = books.symbols.values()
        sums = {
            name: sum((getattr(row, name) for row in rows), Decimal(0))
            for name in ("price_spot", "price_perp", "funding", "fees", "net")
        }
    shown = "  ".join(f"{name} {value:.2f}" for name, value in sums.items())
    counts = f"{books.events} events, {len(books.orders)} orders, {len(books.fills)} fills"
    sys.stdout.write(f"{counts}; in USDT: {shown}\n")
    return exits.DONE


if __name__ == "__main__":
    sys.exit(main())
