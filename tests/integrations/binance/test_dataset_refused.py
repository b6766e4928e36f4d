"""Each kind of bad dataset is refused, with the file, the row and what to do."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from integrations.binance.dataset import load
from integrations.binance.layout import FILES
from integrations.binance.manifest import DatasetError
from tests.integrations.binance.folders import edit_manifest, edit_rows, put, refusal, replace_table


def test_missing_folder(tmp_path):
    """A folder that does not exist is named, with the commands that make one."""
    error = refusal(tmp_path / "nowhere")

    assert error.path == tmp_path / "nowhere"
    for generator in ("integrations.binance sample", "integrations.binance.sample"):
        assert f"`python -m {generator} {tmp_path / 'nowhere'}`" in str(error)


@pytest.mark.parametrize("name", [*FILES, "MANIFEST.json"])
def test_missing_file(folder, name):
    """Every file that the manifest names is needed; a missing one is named, never made up."""
    (folder / name).unlink()

    error = refusal(folder)

    assert error.path == folder / name
    assert "does not exist" in str(error)
    assert "generate" in str(error)


@pytest.mark.parametrize("name", ["spot.parquet", "perp.parquet", "funding.parquet"])
def test_a_dataset_without_quotes_or_funding(folder, name):
    """Trades may be absent; quotes of both legs and funding may not, whatever the manifest says."""
    edit_manifest(folder, lambda content: content["files"].pop(name))

    error = refusal(folder)

    assert error.path == folder / "MANIFEST.json"
    assert f"files has no {name}" in str(error)


def test_file_of_an_unknown_name(folder):
    """A manifest that names a file nobody reads is not understood, so it is refused."""
    edit_manifest(folder, lambda c: c["files"].update({"klines.parquet": c["files"].popitem()[1]}))

    assert "files has 'klines.parquet', expected spot.parquet, " in str(refusal(folder))


def test_symbol_it_does_not_have(folder):
    """A symbol that is asked for and not there is named, with those that are."""
    with pytest.raises(DatasetError, match=r"has no symbol 'DOGE'; it has BTC, ETH, SOL"):
        load(folder, symbols=("BTC", "DOGE"))


def test_second_settlement_at_one_time(folder):
    """It would be paid twice: the later row is named. Those of other symbols are no error."""
    edit_rows(folder, "funding.parquet", lambda c: put("symbol", 2, c["symbol"][0])(c))

    error = refusal(folder)

    assert error.path == folder / "funding.parquet"
    assert "row 2: a settlement of this symbol and ts is there already" in str(error)


@pytest.mark.parametrize(
    ("name", "column"), [(name, column) for name, (_, layout) in FILES.items() for column in layout]
)
def test_missing_column(folder, name, column):
    """Every column of every file is needed."""
    replace_table(folder, name, pq.read_table(folder / name).drop_columns([column]))

    error = refusal(folder)

    assert error.path == folder / name
    assert f"column {column} is missing" in str(error)


def test_column_of_another_type(folder):
    """A timestamp column is not silently taken for nanoseconds."""
    table = pq.read_table(folder / "spot.parquet")
    stamps = table.column("ts").cast(pa.timestamp("ns")).cast(pa.timestamp("us"), safe=False)
    replace_table(folder, "spot.parquet", table.set_column(0, "ts", stamps))

    assert "column ts is timestamp[us]; write it as int64" in str(refusal(folder))


@pytest.mark.parametrize("kept", [0, 3, 1000])
def test_truncated_parquet(folder, kept):
    """A file that was cut off anywhere is named as unreadable."""
    path = folder / "perp.parquet"
    path.write_bytes(path.read_bytes()[:kept])

    error = refusal(folder)

    assert error.path == path
    assert "not a readable parquet file" in str(error)


def test_damaged_parquet(folder):
    """A file whose frame is whole but whose pages are not is refused too."""
    path = folder / "perp.parquet"
    content = bytearray(path.read_bytes())
    content[100:2000] = bytes(1900)
    path.write_bytes(content)

    assert refusal(folder).path == path


def test_row_count_is_not_the_manifests(folder):
    """Rows that went missing are counted, both numbers named."""
    path = folder / "spot.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(0, table.num_rows - 1), path)

    expected = f"has {table.num_rows - 1} rows, MANIFEST.json says {table.num_rows}"
    assert expected in str(refusal(folder))


@pytest.mark.parametrize("name", FILES)
def test_content_is_not_the_manifests(folder, name):
    """One changed time, plausible in itself, is found by the hash."""
    path = folder / name
    table = pq.read_table(path)
    columns = table.to_pydict()
    columns["ts"][-1] += 1
    pq.write_table(pa.table(columns, schema=table.schema), path)

    error = refusal(folder)

    assert error.path == path
    assert "content differs" in str(error)


@pytest.mark.parametrize("name", ["spot.parquet", "perp_trades.parquet"])
def test_unsorted_time(folder, name):
    """A row older than the one above it is named by its number."""
    edit_rows(folder, name, lambda columns: put("ts", 6, columns["ts"][5] - 1)(columns))

    assert "row 6: ts goes back" in str(refusal(folder))


@pytest.mark.parametrize("value", [0.0, -1.0])
@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("spot.parquet", "bid"),
        ("perp.parquet", "ask"),
        ("spot_trades.parquet", "price"),
        ("perp_trades.parquet", "size"),
        ("funding.parquet", "mark"),
    ],
)
def test_value_not_positive(folder, name, column, value):
    """Prices, marks and traded sizes are above zero."""
    edit_rows(folder, name, put(column, 2, value))

    assert f"row 2 ({value}): {column} is not positive" in str(refusal(folder))


def test_interval_not_positive(folder):
    """A settlement interval is at least an hour."""
    edit_rows(folder, "funding.parquet", put("interval_hours", 1, 0))

    assert "row 1 (0): interval_hours is not positive" in str(refusal(folder))


def test_negative_size(folder):
    """A displayed size may be zero, not less."""
    edit_rows(folder, "spot.parquet", put("ask_size", 2, -1.0))

    assert "row 2 (-1.0): ask_size is negative" in str(refusal(folder))


def test_crossed_quote(folder):
    """A bid above the ask is named by its row."""
    edit_rows(folder, "perp.parquet", lambda c: put("bid", 4, c["ask"][4] + 1)(c))

    assert "row 4: bid is above ask" in str(refusal(folder))


def test_locked_quote(folder):
    """A bid that equals the ask is no error: venues show it."""
    edit_rows(folder, "perp.parquet", lambda c: put("bid", 4, c["ask"][4])(c))

    load(folder)


@pytest.mark.parametrize("name", FILES)
def test_unknown_symbol(folder, name):
    """A symbol that the instruments table lacks is named, with those it has."""
    edit_rows(folder, name, put("symbol", 2, "DOGE"))

    expected = "row 2: symbol 'DOGE' is unknown; expected BTC, ETH, SOL"
    assert expected in str(refusal(folder))


def test_symbol_of_the_other_leg(folder):
    """An instrument counts for its own leg only."""
    edit_manifest(folder, lambda content: content["instruments"].pop(0))

    error = refusal(folder)

    assert error.path == folder / "spot.parquet"
    assert "symbol 'BTC' is unknown; expected ETH, SOL" in str(error)


def test_unknown_side(folder):
    """A side is BUYER or SELLER."""
    edit_rows(folder, "spot_trades.parquet", put("side", 3, "BUY"))

    assert "row 3: side 'BUY' is unknown; expected BUYER, SELLER" in str(refusal(folder))


@pytest.mark.parametrize("column", ["bid", "bid_size"])
def test_inexact_value(folder, column):
    """A value with a decimal more than its instrument has is not rounded, it is refused."""
    edit_rows(folder, "perp.parquet", lambda c: put(column, 5, c[column][5] - 0.0001)(c))

    assert f"{column} has more decimals" in str(refusal(folder))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_not_a_number(folder, value):
    """NaN and the infinities are refused wherever a number belongs."""
    edit_rows(folder, "funding.parquet", put("rate", 1, value))

    assert "row 1: rate is not a number" in str(refusal(folder))


@pytest.mark.parametrize("column", ["ts", "symbol", "bid"])
def test_null(folder, column):
    """A null is refused with its row, whatever the column's type."""
    path = folder / "spot.parquet"
    table = pq.read_table(path)
    columns = table.to_pydict()
    columns[column][3] = None
    pq.write_table(pa.table(columns, schema=table.schema), path)

    assert f"row 3: {column} is null" in str(refusal(folder))
