"""The sample files in a catalog, and the same files read plainly."""

import csv
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest
from nautilus_trader.persistence.catalog import ParquetDataCatalog

from integrations.binance.__main__ import main

DATA = Path(__file__).parents[4] / "shared" / "data"
SYMBOLS = ("BTCUSDT", "ADABTC", "BTC-PERP", "XBTUSD", "BTC-USD", "BTC-PERPETUAL")
TICKS = (  # id, base, quote, tick, lot: those of the time when the file was recorded
    ("BTCUSDT.BINANCE_SPOT", "BTC", "USDT", "0.01", "0.000001"),
    ("ADABTC.BINANCE_SPOT", "ADA", "BTC", "0.00000001", "0.00000001"),
    ("BTC-PERP.FTX", "BTC", "USD", "0.0001", "0.00000000001"),
    ("XBTUSD.BITMEX", "XBT", "USD", "0.5", "1"),
    ("BTC-USD.HUOBI", "BTC", "USD", "0.1", "1"),
    ("BTC-PERPETUAL.DERIBIT", "BTC", "USD", "0.5", "1"),
    ("BTCUSDT-PERP.BINANCE_FUTURES", "BTC", "USDT", "0.01", "0.001"),
)
FUTURES: Final = "binance-futures_"  # how names of files of that market begin

HERE = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"the sample files are not here: no folder {DATA}"
)

type Reader = Callable[..., list[Any]]


def ingest_samples(folder: Path) -> Reader:
    """Ingest every sample, by the command; return what reads one type of one instrument."""
    keys = ("id", "base", "quote", "tick", "lot")
    more = {"min_notional": "0", "fee": "0"}
    rows = [{**dict(zip(keys, row, strict=True)), **more, "symbol": row[1]} for row in TICKS]
    for row in rows:
        row["leg"] = "perp" if row["id"].endswith("FUTURES") else "spot"
    (folder / "instruments.json").write_text(json.dumps(rows))
    shared = ["--catalog", str(folder / "catalog"), "--instruments", f"{folder}/instruments.json"]
    for market in ("spot", "futures"):
        (folder / market).mkdir()
    for path in (DATA / "samples").iterdir():
        market = "futures" if path.name.startswith(FUTURES) else "spot"
        (folder / market / path.name).symlink_to(path)
    for source, symbols, market in (
        (folder / "spot", SYMBOLS, "spot"),
        (folder / "futures", ("BTCUSDT",), "futures"),
        (DATA / "binance_funding", ("BTCUSDT", "ETHUSDT", "SOLUSDT"), "futures"),
    ):
        command = ["ingest", "--source", str(source), "--market", market, *shared]
        assert main([*command, "--symbols", *symbols]) == 0
    catalog = ParquetDataCatalog(str(folder / "catalog"))
    return lambda kind, id_: catalog.query(kind, identifiers=[id_])


def rows_of(name: str) -> list[dict[str, str]]:
    with (DATA / name).open() as file:
        return [*csv.DictReader(file)]


def decimals(*values: Any) -> tuple[Decimal, ...]:
    return tuple(Decimal(str(value)) for value in values)
