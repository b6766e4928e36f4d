"""The small market of `rigs` as a dataset, and the fills of a result where others keep theirs."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import redis

from acceptance.record import Fill, Record
from bridge.core.contract import STREAMS, TAIL
from integrations.binance import sample
from integrations.binance.dataset import Dataset, Funding, Quotes
from integrations.binance.layout import RATE_DECIMALS
from integrations.binance.manifest import Instrument
from strategies.basis_carry import legacy
from tests.acceptance.rigs import END, SHA, START, TABLE, market, result

QUICK = """
interval_seconds = 1
offset_seconds = 0.5
funding_guard_seconds = 2
cooldown_seconds = 2
end_of_run_minutes = 0.2
entry_basis_bps = 0.5
exit_basis_bps = 0.0
hedge_divergence_bps = 1.5
"""
NAMES = {"spot": "{}USDT.BINANCE_SPOT", "perp": "{}USDT-PERP.BINANCE_FUTURES"}


def dataset(events: Sequence[Any] = ()) -> Dataset:
    """Return the events (the small market) as a dataset of instruments with names of a venue."""
    rows = {
        each.id: Instrument(*name_of(each)[:1], *each[1:], base=each.symbol, quote="USDT")
        for each in TABLE
    }
    quotes: dict[str, list[legacy.Quote]] = {row.id: [] for row in rows.values()}
    funding: dict[str, list[legacy.Funding]] = {}
    perps = {row.symbol: row for row in rows.values() if row.leg == "perp"}
    for event in events or market():
        if isinstance(event, legacy.Quote):
            quotes[rows[event.instrument].id].append(event)
        else:
            funding.setdefault(perps[event.symbol].id, []).append(event)
    return Dataset(
        path=Path("small"),
        start_ns=START,
        end_ns=END,
        instruments=tuple(rows.values()),
        quotes={id_: Quotes(*_columns(each, (0, 2, 3, 4, 5))) for id_, each in quotes.items()},
        trades={},
        funding={row.id: _settlements(funding.get(row.id, []), row) for row in perps.values()},
        sha256=SHA,
    )


def small(folder: Path) -> list[str]:
    """Make a dataset of a few minutes around a settlement, and quick parameters to trade it with;
    return the arguments that name both."""
    start = datetime(2025, 7, 1, 7, 57, tzinfo=UTC)
    sample.generate(folder / "data", start=start, minutes=6, seed=7)
    (folder / "quick.toml").write_text(QUICK)
    return ["--dataset", str(folder / "data/spot.parquet"), "--params", str(folder / "quick.toml")]


def name_of(instrument: Any) -> tuple[str]:
    """Return the id that the instrument has in the dataset."""
    return (NAMES[instrument.leg].format(instrument.symbol),)


def base() -> Record:
    """Return the result of the legacy program on this dataset."""
    made = result()
    named = tuple(
        type(row)(*name_of(row), *[getattr(row, name) for name in row.__slots__[1:]])
        for row in made.instruments or ()
    )
    return type(made)(**{n: getattr(made, n) for n in made.__slots__} | {"instruments": named})


def _columns(rows: Sequence[Any], places: Sequence[int]) -> list[Any]:
    return [np.array([row[place] for row in rows], dtype=np.int64) for place in places]


def _settlements(rows: Sequence[legacy.Funding], instrument: Instrument) -> Funding:
    def integers(values: Sequence[float], decimals: int) -> Any:
        exact = [Decimal(repr(value)).scaleb(decimals) for value in values]
        return np.array([int(each) for each in exact], dtype=np.int64)

    return Funding(
        ts=np.array([row.ts for row in rows], dtype=np.int64),
        rate=integers([row.rate for row in rows], RATE_DECIMALS),
        interval_hours=np.array([row.interval_hours for row in rows], dtype=np.int64),
        mark=integers([row.mark for row in rows], instrument.price_decimals),
    )


def bare(*fills: Fill) -> list[Fill]:
    """Return the fills without what only the program knows."""
    return [replace(fill, mid=None, reason=None) for fill in fills]


def write_csv(path: Path, fills: Sequence[Fill], columns: Sequence[str] = ()) -> Path:
    """Write a CSV of fills, the first seven columns unless others are named."""
    names = list(columns or ("ts", "symbol", "leg", "side", "qty", "px", "fee"))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([[getattr(fill, name) for name in names] for fill in fills])
    return path


def entry(fill: Fill, number: int, **changes: str) -> dict[str, str]:
    """Return the entry that a bridge writes to exec:fills for a fill."""
    instrument_id = NAMES[fill.leg].format(fill.symbol)
    name, _, venue = instrument_id.partition(".")
    values = {
        "fill_id": f"{venue}-001|{instrument_id}|{number}|{fill.side}|{number}|run",
        "cl_ord_id": f"O-{number}",
        "price": str(fill.px),
        "qty": str(fill.qty),
        "fee": str(fill.fee),
        "venue": "BINANCE",
        "ts_ns": str(fill.ts),
        "account": f"{venue}-001",
        "symbol": name,
        "side": fill.side,
        "base_ccy": fill.symbol,
        "quote_ccy": "USDT",
        "multiplier": "1",
        "inverse": "0",
        "fee_ccy": "USDT",
        "fee_quote": str(fill.fee),
        "liquidity": "TAKER",
        "trade_id": str(number),
        "venue_order_id": str(number),
        "position_id": "P-1",
        "strategy_id": "CARRY-001",
        "trader_id": "BACKTEST-001",
        "provisional": "0",
        "recon": "0",
        "event_id": f"e-{number}",
    } | changes
    tail = dict(zip(TAIL, ("D.0.1", str(number), str(number), "1"), strict=True))
    packed = STREAMS["fills"].pack({name: values[name] for name in STREAMS["fills"].names})
    return dict(zip(STREAMS["fills"].names, packed, strict=True)) | tail


def publish(client: redis.Redis, fills: Sequence[Fill], prefix: str = "", **changes: str) -> None:
    """Write fills to the stream, as a bridge does."""
    for number, fill in enumerate(fills, 1):
        add(client, entry(fill, number, **changes), prefix)


def add(client: redis.Redis, fields: Mapping[str, str], prefix: str = "") -> str:
    """Write one entry; return its id."""
    found: Any = client.xadd(f"{prefix}exec:fills", dict(fields))  # type: ignore[arg-type]
    return str(found)
