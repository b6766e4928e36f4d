"""Generate the acceptance dataset: 1 to 7 July 2025, BTC, ETH and SOL, spot and perpetual.

An ordinary week with the cases of `planted` in it. The content is the same on every machine and
NumPy version: all arithmetic is on integers, and all randomness comes from `PCG64.random_raw`.
Only the funding rates are facts: those Binance published for these days.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from integrations.binance import generated, week_market
from integrations.binance import sample_market as market
from integrations.binance.generated import IntegerColumns
from integrations.binance.layout import REQUIRED
from integrations.binance.manifest import Instrument
from integrations.binance.progress import Progress
from integrations.binance.sample_market import MARKETS

GENERATOR = "integrations.binance.week"
VERSION = 1  # raise it with every change of the content
DIRECTORY = "data/binance"
START = datetime(2025, 7, 1, tzinfo=UTC)
END = START + timedelta(microseconds=week_market.SPAN_US)
PAIRS = tuple(zip(MARKETS[::2], MARKETS[1::2], strict=True))


def generate(directory: Path | str = DIRECTORY) -> dict[str, int]:
    """Write the dataset; return rows by file name. It has no trades: fills come from quotes.

    The folder appears complete or not at all, and replaces an earlier generated one. Raises
    ValueError for a folder that holds something else; OSError when it cannot be written.
    """
    target = Path(directory).resolve()
    generated.check_target(target)
    parts: dict[str, list[tuple[Instrument, IntegerColumns]]] = {name: [] for name in REQUIRED}
    start_us = generated.start_us(START)
    due = market.settlements(start_us, week_market.SPAN_US)
    with Progress("acceptance dataset") as progress:
        for done, (spot, perp) in enumerate(PAIRS, 1):
            legs = week_market.legs(spot, perp)
            funding = market.funding(perp[0], legs.perp_path, due, start_us=start_us)
            parts["spot.parquet"].append((spot[0], legs.spot))
            parts["perp.parquet"].append((perp[0], legs.perp))
            parts["funding.parquet"].append((perp[0], funding))
            progress.show(spot[0].symbol, done / len(PAIRS))
    return generated.write(
        target,
        {"generator": GENERATOR, "generator_version": VERSION},
        start=START,
        end=END,
        instruments=[instrument for instrument, _ in MARKETS],
        parts=parts,
    )
