"""Edit the files of a dataset's folder, and read what the reader says about it."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from integrations.binance.dataset import content_hash, load
from integrations.binance.manifest import DatasetError

SPOT, PERP = "BTCUSDT.BINANCE_SPOT", "BTCUSDT-PERP.BINANCE_FUTURES"

type Columns = dict[str, list[object]]


def edit_manifest(folder: Path, edit: Callable[[dict], None]) -> None:
    path = folder / "MANIFEST.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def replace_table(folder: Path, name: str, table: pa.Table) -> None:
    """Write the table and a manifest that agrees with it, so that only its values are wrong."""
    pq.write_table(table, folder / name)
    entry = {"rows": table.num_rows, "sha256": content_hash(table)}
    edit_manifest(folder, lambda content: content["files"].update({name: entry}))


def edit_rows(folder: Path, name: str, edit: Callable[[Columns], None]) -> None:
    table = pq.read_table(folder / name)
    columns = table.to_pydict()
    edit(columns)
    replace_table(folder, name, pa.table(columns, schema=table.schema))


def put(column: str, row: int, value: object) -> Callable[[Columns], None]:
    return lambda columns: columns[column].__setitem__(row, value)


def refusal(folder: Path) -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        load(folder)
    return caught.value
