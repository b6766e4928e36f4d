"""Write exact columns into a Nautilus ParquetDataCatalog.

A file is there whole or not at all (written aside, then renamed), and is named as the catalog
names its own: the first and the last ts_init. Files of one instrument and type never overlap.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from nautilus_trader.core.datetime import unix_nanos_to_iso8601
from nautilus_trader.model.instruments import Instrument
from nautilus_trader.persistence.funcs import class_to_filename, urisafe_identifier
from nautilus_trader.serialization.arrow.serializer import ArrowSerializer

from integrations.binance.columns import Columns, Klines
from integrations.binance.dataset import Integers
from integrations.nautilus.wranglers import TYPES, Wrangler, arrow_table, bar_type

SUFFIX: Final = ".parquet"
ASIDE: Final = ".partial"  # below the root, where no reader of the catalog looks
GROUP_ROWS: Final = 100_000


class CatalogError(ValueError):
    """What cannot be written beside what the catalog has; `path` is the file in the way."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


def write(
    root: Path,
    instrument: Instrument,
    columns: Columns,
    ts_init: Integers | None = None,
    wrangle: Wrangler = arrow_table,
) -> Path | None:
    """Write the columns as one file of the catalog at `root`; return it, None for no rows.

    `ts_init` (by default `columns.ts`) must not go back. A file that has exactly these rows stays
    as it is. Raises CatalogError when the catalog has other rows of that time, ValueError for
    times that go back or what `wrangle` cannot hold.
    """
    init = columns.ts if ts_init is None else ts_init
    if not len(init):
        return None
    if (init[1:] < init[:-1]).any():
        raise ValueError(f"{instrument.id}: ts_init goes back; sort the rows by it")
    target = target_of(root, instrument, columns, init)
    folder, (first, _, last) = target.parent, target.stem.partition("_")
    table = wrangle(instrument, columns, init)
    for other in folder.iterdir() if folder.is_dir() else ():
        start, _, end = other.stem.partition("_")  # they sort as text
        if start <= last and end >= first and not (other == target and _holds(target, table)):
            raise CatalogError(
                other,
                f"has rows between {first} and {last} already; of sources that hold the same time "
                "(days and their month, trades and aggTrades) keep one",
            )
    _store(root, table, target)
    return target


def write_instrument(root: Path, instrument: Instrument) -> Path:
    """Write the instrument, once. Raises CatalogError when the catalog has it otherwise."""
    kind = type(instrument)
    table = ArrowSerializer.serialize_batch([instrument], data_cls=kind)
    stamp = _stamp(instrument.ts_init)
    folder = root / "data" / class_to_filename(kind) / urisafe_identifier(instrument.id)
    target = folder / f"{stamp}_{stamp}{SUFFIX}"
    if target.exists() and not _holds(target, table):
        raise CatalogError(
            target,
            f"{instrument.id} has other ticks, lots or fees here; use the instruments that the "
            "catalog was made with, or another catalog",
        )
    _store(root, table, target)
    return target


def target_of(root: Path, instrument: Instrument, columns: Columns, ts_init: Integers) -> Path:
    """Return the file of the catalog that `write` puts such rows into; there must be some."""
    first, last = _stamp(int(ts_init[0])), _stamp(int(ts_init[-1]))
    return directory(root, instrument, columns) / f"{first}_{last}{SUFFIX}"


def discard_partial(root: Path) -> None:
    """Remove what a killed process has left. Nobody may be writing into the catalog."""
    shutil.rmtree(root / ASIDE, ignore_errors=True)


def directory(root: Path, instrument: Instrument, columns: Columns) -> Path:
    """Return the folder of the catalog that such columns of the instrument go to."""
    interval = columns.interval if isinstance(columns, Klines) else None
    name = instrument.id if interval is None else bar_type(instrument, interval)
    return root / "data" / class_to_filename(TYPES[type(columns)]) / urisafe_identifier(name)


def _stamp(ts_ns: int) -> str:
    return str(unix_nanos_to_iso8601(ts_ns)).replace(":", "-").replace(".", "-")


def _holds(path: Path, table: pa.Table) -> bool:
    with pq.ParquetFile(path) as file:
        return bool(file.read().equals(table))


def _store(root: Path, table: pa.Table, target: Path) -> None:
    if target.exists():
        return
    aside = root / ASIDE
    for folder in (aside, target.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=aside) as scratch:
        new = Path(scratch, target.name)
        pq.write_table(table, new, row_group_size=GROUP_ROWS, use_dictionary=False)
        new.replace(target)
