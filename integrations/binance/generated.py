"""Write a generated dataset: its folder appears complete or not at all.

Generators count: times in us from the start, prices in ticks, sizes in lots. The files have what
market data mostly has: times in ns UTC, prices and sizes as float64.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from integrations.binance.dataset import Integers, content_hash
from integrations.binance.layout import FILES, MANIFEST, RATE_DECIMALS
from integrations.binance.manifest import EPOCH, Instrument

GENERATORS = "integrations.binance."  # what every generator's name begins with
RATE_UNIT = Decimal(1).scaleb(-RATE_DECIMALS)
SIDES = ["SELLER", "BUYER"]

type IntegerColumns = dict[str, Integers]
type Stored = dict[str, NDArray[np.int64] | NDArray[np.float64]]
type Parts = Mapping[str, Sequence[tuple[Instrument, IntegerColumns]]]


def start_us(start: datetime) -> int:
    """Return the time in us since 1970."""
    return (start - EPOCH) // timedelta(microseconds=1)


def check_target(directory: Path) -> None:
    """Raise ValueError for a path that is neither free, nor empty, nor a generated dataset."""
    occupied = directory.is_dir() and any(directory.iterdir())
    if directory.is_file() or (occupied and not _is_generated(directory)):
        message = f"{directory} is not a generated dataset; remove it or choose another folder"
        raise ValueError(message)


def write(
    directory: Path,
    about: Mapping[str, object],
    *,
    start: datetime,
    end: datetime,
    instruments: Sequence[Instrument],
    parts: Parts,
) -> dict[str, int]:
    """Replace `directory` by the dataset; return rows by file name.

    `parts` has each file's rows by instrument; `about` goes into the manifest, and its `generator`
    begins with `GENERATORS`. Raises OSError where the folder cannot be written.
    """
    symbols = list(dict.fromkeys(instrument.symbol for instrument in instruments))
    tables = {name: _table(name, rows, symbols, start_us(start)) for name, rows in parts.items()}
    manifest = {
        **about,
        "start": start.astimezone(UTC).isoformat(),
        "end": end.astimezone(UTC).isoformat(),
        "instruments": [
            {field.name: str(getattr(instrument, field.name)) for field in fields(instrument)}
            for instrument in instruments
        ],
        "files": {
            name: {"rows": table.num_rows, "sha256": content_hash(table)}
            for name, table in tables.items()
        },
    }
    directory.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{directory.name}-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=directory.parent) as scratch:
        new = Path(scratch, "new")
        new.mkdir()
        for name, table in tables.items():
            pq.write_table(table, new / name)
        (new / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        if directory.exists():
            directory.rename(Path(scratch, "old"))
        new.rename(directory)
    return {name: table.num_rows for name, table in tables.items()}


def _is_generated(directory: Path) -> bool:
    try:
        manifest = json.loads((directory / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return False
    generator = manifest.get("generator") if isinstance(manifest, dict) else None
    return isinstance(generator, str) and generator.startswith(GENERATORS)


def _table(
    name: str,
    parts: Sequence[tuple[Instrument, IntegerColumns]],
    symbols: Sequence[str],
    start_us: int,
) -> pa.Table:
    """Return one file's table, its parts merged by time and then by symbol."""
    stored = [_stored(name, columns, each, symbols, start_us) for each, columns in parts]
    columns = {c: np.concatenate([part[c] for part in stored]) for c in FILES[name][1]}
    order = np.lexsort((columns["symbol"], columns["ts"]))
    arrays = {column: pa.array(values[order]) for column, values in columns.items()}
    for column, words in (("symbol", symbols), ("side", SIDES)):
        if column in arrays:
            encoded = pa.DictionaryArray.from_arrays(arrays[column], words)
            arrays[column] = encoded.cast(pa.string())
    return pa.table(arrays)


def _stored(
    name: str,
    columns: IntegerColumns,
    instrument: Instrument,
    symbols: Sequence[str],
    start_us: int,
) -> Stored:
    """Return the columns as the file has them; symbols and sides still as numbers."""
    units = {"price": instrument.tick, "size": instrument.lot, "rate": RATE_UNIT}
    stored: Stored = {"symbol": np.full(len(columns["ts"]), symbols.index(instrument.symbol))}
    for column, values in columns.items():
        unit = units.get(FILES[name][1][column].unit)
        if column in ("ts", "calc_time"):
            stored[column] = (values + start_us) * 1000
        elif unit is None:
            stored[column] = values
        else:
            numerator, denominator = unit.as_integer_ratio()
            # One division of exact integers: the float64 nearest to the decimal, everywhere.
            stored[column] = values * numerator / denominator
    return stored
