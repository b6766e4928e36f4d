"""What the reader returns for a good dataset, and that it refuses each kind of bad one."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.binance.dataset import FILES, DatasetError, content_hash, load, scale
from integrations.binance.sample import generate

START = datetime(2025, 7, 1, 7, 59, tzinfo=UTC)
SPOT, PERP = "BTCUSDT.BINANCE_SPOT", "BTCUSDT-PERP.BINANCE_FUTURES"

type Columns = dict[str, list[object]]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good") / "sample"
    generate(folder, start=START, minutes=2, seed=7)
    return folder


@pytest.fixture
def folder(good, tmp_path):
    return shutil.copytree(good, tmp_path / "sample")


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


def test_instruments_are_the_manifests_with_exact_decimals(good):
    """The instruments table comes back in its order, numbers as the Decimals written."""
    instruments = load(good).instruments

    assert [i.id for i in instruments][:2] == [SPOT, PERP]
    assert len(instruments) == 6
    perp = instruments[1]
    assert (perp.symbol, perp.leg, perp.base, perp.quote) == ("BTC", "perp", "BTC", "USDT")
    assert (str(perp.tick), str(perp.lot)) == ("0.10", "0.001")
    assert (str(perp.min_notional), str(perp.fee)) == ("100", "0.0005")
    assert (perp.price_decimals, perp.size_decimals) == (2, 3)


def test_time_range_is_the_manifests(good):
    """`start_ns` and `end_ns` are the manifest's start and end in ns UTC."""
    dataset = load(good)

    assert dataset.start_ns == 1_751_356_740 * 10**9
    assert dataset.end_ns == dataset.start_ns + 120 * 10**9


def test_a_path_may_be_text(good):
    """`load` takes the folder as a string too."""
    assert load(str(good)).path == good


@pytest.mark.parametrize("name", FILES)
def test_every_value_is_scaled_exactly(good, name):
    """Each number equals the shortest decimal of the stored float, shifted by its decimals."""
    leg, layout = FILES[name]
    dataset = load(good)
    rows = pq.read_table(good / name).to_pylist()
    kind = {"bid": dataset.quotes, "price": dataset.trades, "rate": dataset.funding}
    records = next(kind[column] for column in kind if column in layout)
    for instrument in dataset.instruments:
        if instrument.leg != leg:
            continue
        decimals = {"price": instrument.price_decimals, "size": instrument.size_decimals, "rate": 8}
        mine = [row for row in rows if row["symbol"] == instrument.symbol]
        record = records[instrument.id]
        assert record.ts.tolist() == [row["ts"] for row in mine]
        for column, how in layout.items():
            if how.unit:
                expected = [Decimal(repr(r[column])).scaleb(decimals[how.unit]) for r in mine]
                assert getattr(record, column).tolist() == expected


def test_side_is_a_sign(good):
    """BUYER is 1 and SELLER is -1."""
    words = pq.read_table(good / "perp_trades.parquet").to_pylist()

    expected = [{"BUYER": 1, "SELLER": -1}[r["side"]] for r in words if r["symbol"] == "BTC"]

    assert load(good).trades[PERP].side.tolist() == expected


def test_only_perpetuals_have_funding(good):
    """`funding` holds each perpetual and no spot instrument."""
    assert set(load(good).funding) == {
        f"{symbol}USDT-PERP.BINANCE_FUTURES" for symbol in ("BTC", "ETH", "SOL")
    }


def test_arrays_are_int64_and_read_only(good):
    """Every array is int64 and cannot be written to."""
    quotes = load(good).quotes[SPOT]

    for name in ("ts", "bid", "ask", "bid_size", "ask_size"):
        array = getattr(quotes, name)
        assert array.dtype == np.int64
        assert not array.flags.writeable


def test_a_file_without_rows_gives_empty_arrays(folder):
    """A dataset without trades is a dataset."""
    table = pq.read_table(folder / "spot_trades.parquet")
    replace_table(folder, "spot_trades.parquet", table.slice(0, 0))

    assert len(load(folder).trades[SPOT].ts) == 0


def test_an_empty_touch_and_equal_times_are_accepted(folder):
    """A displayed size of zero and two rows of one ts are what real books have."""

    def edit(columns):
        columns["bid_size"][3] = 0.0
        columns["ts"][4] = columns["ts"][3]

    edit_rows(folder, "spot.parquet", edit)

    assert sum((quotes.bid_size == 0).sum() for quotes in load(folder).quotes.values()) == 1


def test_large_strings_are_strings(folder):
    """Text that another writer stored as large_string reads the same, hash included."""
    path = folder / "spot_trades.parquet"
    table = pq.read_table(path)
    large = [pa.large_string() if f.type == pa.string() else f.type for f in table.schema]
    pq.write_table(table.cast(pa.schema(zip(table.column_names, large, strict=True))), path)

    assert len(load(folder).trades[SPOT].ts) > 0


def test_missing_folder(tmp_path):
    """A folder that does not exist is named, with the command that makes one."""
    error = refusal(tmp_path / "nowhere")

    assert error.path == tmp_path / "nowhere"
    assert f"python -m integrations.binance.sample {tmp_path / 'nowhere'}" in str(error)


@pytest.mark.parametrize("name", [*FILES, "MANIFEST.json"])
def test_missing_file(folder, name):
    """Every file of the dataset is needed."""
    (folder / name).unlink()

    error = refusal(folder)

    assert error.path == folder / name
    assert "does not exist" in str(error)


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


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "null", '"text"', "{}", "\udcff"])
def test_manifest_that_is_none(folder, text):
    """Whatever stands in MANIFEST.json, the answer is one error that names the file."""
    (folder / "MANIFEST.json").write_bytes(text.encode(errors="surrogateescape"))

    assert refusal(folder).path == folder / "MANIFEST.json"


@pytest.mark.parametrize("key", ["instruments", "files", "start", "end"])
def test_manifest_without_a_key(folder, key):
    """A missing key is named."""
    edit_manifest(folder, lambda content: content.pop(key))

    assert f"'{key}' is missing" in str(refusal(folder))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("tick", 0.01, "tick is 0.01, expected str"),
        ("tick", "0", "tick is '0', expected a number above 0"),
        ("lot", "-1", "lot is '-1', expected a number above 0"),
        ("lot", "NaN", "lot is 'NaN', expected a number above 0"),
        ("fee", "free", "fee is 'free', expected a number from 0"),
        ("min_notional", "Infinity", "min_notional is 'Infinity', expected a number from 0"),
        ("tick", "1E-17", "tick is '1E-17', expected at most 16 decimals"),
        ("leg", "future", "leg is 'future', expected spot or perp"),
        ("id", PERP, "two instruments have the same id"),
        ("symbol", "ETH", "two instruments have the same symbol and leg"),
    ],
)
def test_manifest_with_a_wrong_instrument(folder, key, value, message):
    """A wrong entry of the instruments table is named with what is expected."""
    edit_manifest(folder, lambda content: content["instruments"][0].update({key: value}))

    assert message in str(refusal(folder))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("yesterday", "Invalid isoformat"),
        ("2025-07-01T00:00:00", "without a time zone"),
        (1_751_328_000, "start is 1751328000, expected str"),
    ],
)
def test_manifest_with_a_wrong_time(folder, value, message):
    """Start and end are ISO times with a zone."""
    edit_manifest(folder, lambda content: content.update(start=value))

    assert message in str(refusal(folder))


def test_manifest_with_a_wrong_row_count(folder):
    """A row count is an integer."""
    edit_manifest(folder, lambda content: content["files"]["perp.parquet"].update(rows="9"))

    assert "rows is '9', expected int" in str(refusal(folder))


@given(units=st.integers(-(10**9), 10**9), decimals=st.integers(0, 8))
def test_what_has_the_decimals_is_scaled_to_the_same_integer(units, decimals):
    """The float64 nearest to n / 10**p comes back as n."""
    result, exact = scale(np.array([units / 10**decimals]), np.array([decimals]))

    assert exact.tolist() == [True]
    assert result.tolist() == [units]


@given(
    units=st.integers(-(10**9), 10**9),
    decimals=st.integers(0, 8),
    rest=st.floats(1e-5, 0.5) | st.floats(-0.5, -1e-5),
)
def test_what_lies_between_two_decimals_is_not_exact(units, decimals, rest):
    """A value 0.00001 units or more off is not taken for its neighbor."""
    _, exact = scale(np.array([(units + rest) / 10**decimals]), np.array([decimals]))

    assert exact.tolist() == [False]


@pytest.mark.parametrize("decimals", [0, 2])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e308, 2.0**53, -(2.0**53)])
def test_what_a_float_cannot_hold_is_not_exact(value, decimals):
    """NaN, infinities and numbers from 2**53 are never exact, and raise no warning."""
    _, exact = scale(np.array([value]), np.array([decimals]))

    assert exact.tolist() == [False]


def test_the_hash_ignores_how_the_rows_are_chunked():
    """Two tables of equal content have equal hashes, however arrow splits them."""
    whole = pa.table({"ts": [1, 2, 3], "symbol": ["B", "A", "B"]})
    parts = pa.concat_tables([whole.slice(0, 1), whole.slice(1)])

    assert content_hash(parts) == content_hash(whole)


def test_the_hash_tells_values_names_and_types_apart():
    """A change of a value, a name, a type or a row's place changes the hash."""
    tables = [
        pa.table({"a": [1, 2], "b": ["x", "y"]}),
        pa.table({"a": [1, 3], "b": ["x", "y"]}),
        pa.table({"a": [1, 2], "b": ["x", "z"]}),
        pa.table({"a": [1, 2], "b": ["y", "x"]}),
        pa.table({"c": [1, 2], "b": ["x", "y"]}),
        pa.table({"a": [1.0, 2.0], "b": ["x", "y"]}),
    ]

    assert len({content_hash(table) for table in tables}) == len(tables)
