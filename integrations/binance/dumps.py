"""Market data files in chunks of exact columns: constant memory, from any row on.

A chunk ends where the time changes, so that rows of the same time stay together and the files of a
catalog never overlap. Where chunks end depends on the file alone, not on where reading began.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from integrations.binance.columns import Columns
from integrations.binance.dataset import Integers
from integrations.binance.dump_columns import Rows, columns_of
from integrations.binance.layout import RATE_DECIMALS
from integrations.binance.manifest import Instrument
from integrations.binance.source_files import SUFFIXES, Decimals, FileError, Source

CHUNK_ROWS: Final = 100_000


class Chunk(NamedTuple):
    """Some rows of a file. `rows` counts the file's rows up to here, `done` is their share."""

    columns: Columns
    ts_init: Integers
    rows: int
    done: float


def files(folder: Path) -> list[Path]:
    """Return every file below `folder` that may hold market data, sorted by path."""
    return sorted(
        path for path in folder.rglob("*") if path.name.endswith(SUFFIXES) and path.is_file()
    )


def decimals_of(instrument: Instrument) -> Decimals:
    """Return how many decimals the instrument's numbers have."""
    return Decimals(instrument.price_decimals, instrument.size_decimals, RATE_DECIMALS)


def chunks(
    source: Source, instrument: Instrument, *, skip: int = 0, limit: int = CHUNK_ROWS
) -> Iterator[Chunk]:
    """Yield the rows after the first `skip`, which must be a chunk's end, about `limit` at a time.

    Raises FileError for the first row that is not as it must be.
    """
    decimals, start, last = decimals_of(instrument), skip, 0
    for table, done in _tables(source, decimals, skip, limit):
        columns, init = columns_of(Rows(source, table, decimals, start))
        if init[0] < last:
            where = source.place(start, "init" if "init" in source.layout.fields else "ts")
            raise FileError(source.path, f"{where}: goes back; sort the file by it")
        start, last = start + table.num_rows, int(init[-1])
        yield Chunk(columns, init, start, done)


def _tables(
    source: Source, decimals: Decimals, skip: int, limit: int
) -> Iterator[tuple[pa.Table, float]]:
    time = "init" if "init" in source.layout.fields else "ts"
    pending: list[pa.RecordBatch] = []
    done = 0.0
    for batch, done in source.batches(decimals, skip):
        pending.append(batch)
        while sum(each.num_rows for each in pending) > limit:
            table = pa.Table.from_batches(pending)
            end = _end(table.column(time), limit)
            if end is None:  # all of the same time
                break
            yield table.slice(0, end).combine_chunks(), done
            pending = table.slice(end).to_batches()
    if pending:
        yield pa.Table.from_batches(pending).combine_chunks(), done


def _end(times: pa.ChunkedArray, limit: int) -> int | None:
    """Return the last row up to `limit` that has another time than the one before; else the next.

    A row without a time counts as one of another time.
    """
    values = times.to_numpy()
    changes = np.flatnonzero(values[1:] != values[:-1]) + 1
    if not len(changes):
        return None
    return int(changes[max(0, int(np.searchsorted(changes, limit, side="right")) - 1)])
