"""Generate a sample dataset: BTC, ETH and SOL, spot and perpetual, as if recorded at Binance.

The same arguments give the same content on every machine and NumPy version: all arithmetic is on
integers, and all randomness comes from `PCG64.random_raw`, whose output NumPy guarantees. Every
quantity draws from a stream of its own, so a longer dataset begins with the shorter one's rows.

Only the funding rates are facts: those Binance published for 1 to 7 July 2025.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from integrations.binance import generated
from integrations.binance import sample_market as market
from integrations.binance.generated import IntegerColumns
from integrations.binance.layout import FILES
from integrations.binance.manifest import Instrument
from integrations.binance.progress import Progress
from integrations.binance.sample_market import MARKETS

GENERATOR = "integrations.binance.sample"
VERSION = 1  # raise it with every change of the content
START = datetime(2025, 7, 1, 7, 45, tzinfo=UTC)  # the settlement at 08:00 falls inside
MINUTES = 30
MINUTES_MAX = 1440  # about 3.2 million rows, all in memory
SEED = 1

type Parts = dict[str, list[tuple[Instrument, IntegerColumns]]]


def generate(
    directory: Path | str, *, start: datetime = START, minutes: int = MINUTES, seed: int = SEED
) -> dict[str, int]:
    """Write the dataset for `minutes` from `start` (with a time zone); return rows by file name.

    The folder appears complete or not at all, and replaces an earlier generated one. Raises
    ValueError for arguments out of range, for a settlement whose rate is not known, and for a
    folder that holds something else; OSError when it cannot be written.
    """
    target = Path(directory).resolve()
    _check(start, minutes, seed)
    generated.check_target(target)
    return generated.write(
        target,
        {"generator": GENERATOR, "generator_version": VERSION, "seed": seed},
        start=start,
        end=start + timedelta(minutes=minutes),
        instruments=[instrument for instrument, _ in MARKETS],
        parts=_parts(generated.start_us(start), minutes * 60_000_000, seed),
    )


def _check(start: datetime, minutes: int, seed: int) -> None:
    if start.tzinfo is None:
        raise ValueError(f"start {start} has no time zone; write it as {START.isoformat()}")
    if not 1 <= minutes <= MINUTES_MAX:
        raise ValueError(f"minutes is {minutes}, expected 1 to {MINUTES_MAX}")
    if seed < 0:
        raise ValueError(f"seed is {seed}, expected 0 or more")


def _parts(start_us: int, span_us: int, seed: int) -> Parts:
    """Return the content of every file; say how far it is when that takes a while."""
    parts: Parts = {name: [] for name in FILES}
    due = market.settlements(start_us, span_us)
    with Progress("sample dataset") as progress:
        for done, (instrument, shown) in enumerate(MARKETS, 1):
            leg = instrument.leg
            path = market.fair_path(instrument, span_us // market.STEP_US + 2, seed)
            quotes = market.quotes(instrument, path, shown, span_us=span_us, seed=seed)
            trades = market.trades(instrument, quotes, span_us=span_us, seed=seed)
            parts[f"{leg}.parquet"].append((instrument, quotes))
            parts[f"{leg}_trades.parquet"].append((instrument, trades))
            if leg == "perp":
                funding = market.funding(instrument, path, due, start_us=start_us)
                parts["funding.parquet"].append((instrument, funding))
            progress.show(instrument.symbol, done / len(MARKETS))
    return parts


def main(argv: Sequence[str] | None = None) -> int:
    """Generate a dataset as the arguments say; return the exit code."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {GENERATOR}", description="Generate the demo's dataset."
    )
    parser.add_argument("directory", nargs="?", default="data/demo", help="default: %(default)s")
    parser.add_argument(
        "--start", type=datetime.fromisoformat, default=START, help="default: %(default)s"
    )
    parser.add_argument("--minutes", type=int, default=MINUTES, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=SEED, help="default: %(default)s")
    arguments = parser.parse_args(argv)
    try:
        rows = generate(**vars(arguments))
    except ValueError as error:
        print(f"{error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"cannot write the dataset: {error}", file=sys.stderr)
        return 74
    counts = ", ".join(f"{name} {count}" for name, count in rows.items())
    print(f"{arguments.directory}: {counts} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
