"""Run `ingest` in this process and look at the catalog that it made."""

import json
from pathlib import Path

import pytest
from nautilus_trader.model.data import TradeTick
from nautilus_trader.persistence.catalog import ParquetDataCatalog

from integrations.binance.__main__ import main


class Ingest:
    """A source folder and a catalog; calling it ingests the one into the other."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.source, self.catalog, self.capsys = folder / "source", folder / "catalog", capsys
        self.source.mkdir()
        self.out = self.err = ""

    def words(self, *more: str, symbols: str = "BTCUSDT") -> list[str]:
        fixed = ["ingest", "--source", str(self.source), "--catalog", str(self.catalog)]
        return [*fixed, "--symbols", *symbols.split(), *more]

    def __call__(self, *more: str, symbols: str = "BTCUSDT") -> int:
        code = main(self.words(*more, symbols=symbols))
        self.out, self.err = self.capsys.readouterr()
        return code

    @property
    def ids(self) -> list[int]:
        """The ids of the trades, in the order that Nautilus reads them."""
        return [int(tick.trade_id.value) for tick in self.reader.query(TradeTick)]

    @property
    def reader(self) -> ParquetDataCatalog:
        return ParquetDataCatalog(str(self.catalog))

    def files(self) -> dict[str, bytes]:
        """The files of the catalog that hold data."""
        data = self.catalog / "data"
        return {str(path.relative_to(data)): path.read_bytes() for path in data.rglob("*.parquet")}

    def journal(self) -> list[dict[str, object]]:
        lines = (self.catalog / "ingest.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]
