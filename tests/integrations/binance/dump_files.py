"""Small files in the layouts of Binance's dumps, and what is read of them."""

import zipfile
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from integrations.binance.dumps import Chunk, chunks
from integrations.binance.manifest import Instrument
from integrations.binance.source_files import FileError, Source, open_source

DAY_MS = 1751328000000  # 2025-07-01
TRADES_HEADER = "id,price,qty,quote_qty,time,is_buyer_maker"
SPOT = "BTCUSDT.BINANCE_SPOT"


def instrument(tick: str = "0.01", lot: str = "0.00001", *, leg: str = "spot") -> Instrument:
    return Instrument(
        id=SPOT if leg == "spot" else "BTCUSDT-PERP.BINANCE_FUTURES",
        symbol="BTC",
        leg=leg,
        tick=Decimal(tick),
        lot=Decimal(lot),
        min_notional=Decimal(5),
        fee=Decimal("0.001"),
        base="BTC",
        quote="USDT",
    )


def put(folder: Path, name: str, text: str) -> Path:
    """Write a CSV; into an archive of one file where the name asks for a zip."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(path.with_suffix(".csv").name, text)
    else:
        path.write_text(text)
    return path


def trades(times_us: list[int], first_id: int = 1) -> str:
    """Return a spot dump: no header, microseconds, prices and sizes that tell the rows apart."""
    rows = [
        f"{first_id + i},{107000 + i % 1000}.{i % 100:02d}000000,0.{1 + i % 90000:05d}000,1.5,"
        f"{time},{'True' if i % 3 else 'False'},True\n"
        for i, time in enumerate(times_us)
    ]
    return "".join(rows)


def opened(path: Path) -> Source:
    source = open_source(path)
    assert source is not None
    return source


def read(path: Path, of: Instrument | None = None, **options: int) -> list[Chunk]:
    return list(chunks(opened(path), of or instrument(), **options))


def only(path: Path, of: Instrument | None = None) -> dict[str, list[object]]:
    """Return the columns of a file of one chunk as lists, `ts_init` with them."""
    (chunk,) = read(path, of)
    names = chunk.columns.__dataclass_fields__
    values = {name: getattr(chunk.columns, name) for name in names} | {"ts_init": chunk.ts_init}
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in values.items()
    }


def refusal(path: Path, of: Instrument | None = None) -> str:
    """Return what is said of a file, behind its name."""
    with pytest.raises(FileError) as caught:
        read(path, of)
    return str(caught.value).removeprefix(f"{path}: ")
