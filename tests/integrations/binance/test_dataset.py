"""What the reader returns for a good dataset; exact scaling; the hash of the content."""

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.binance.dataset import content_hash, load, scale
from integrations.binance.layout import FILES
from tests.integrations.binance.folders import (
    PERP,
    SPOT,
    edit_manifest,
    edit_rows,
    put,
    replace_table,
)


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


def test_the_spot_file_names_the_dataset(good):
    """`load` takes a file of the folder for the folder: the others stand beside it."""
    assert load(good / "spot.parquet").path == good


def test_trade_files_may_be_absent(folder):
    """A dataset without them is a dataset, with empty trades for every instrument."""
    whole = load(folder)
    for name in ("spot_trades.parquet", "perp_trades.parquet"):
        (folder / name).unlink()
        edit_manifest(folder, lambda content, name=name: content["files"].pop(name))

    dataset = load(folder)

    assert dataset.trades.keys() == whole.trades.keys()
    assert not any(len(trades.ts) for trades in dataset.trades.values())
    assert dataset.quotes[SPOT].ts.tolist() == whole.quotes[SPOT].ts.tolist()


def test_symbols_leave_the_others_out(good):
    """Their instruments, quotes and funding are as ever, in the manifest's order."""
    whole, part = load(good), load(good, symbols=("SOL", "BTC"))

    ids = [i.id for i in whole.instruments if i.symbol != "ETH"]
    assert [i.id for i in part.instruments] == ids
    assert part.quotes.keys() == part.trades.keys() == set(ids)
    assert list(part.funding) == ids[1::2]
    assert part.quotes[PERP].bid.tolist() == whole.quotes[PERP].bid.tolist()
    assert part.sha256 == whole.sha256


@pytest.mark.parametrize(
    "edit",
    [
        lambda content: content.update(end="2025-07-01T08:02:00+00:00"),
        lambda content: content["instruments"][3].update(fee="0.0004"),
        lambda content: content["files"].pop("perp_trades.parquet"),
    ],
)
def test_the_sha256_is_over_range_instruments_and_files(good, folder, edit):
    """A copy has the same hash, another end, fee or set of files another one."""
    copied = load(folder).sha256
    edit_manifest(folder, edit)

    assert copied == load(good).sha256 != load(folder).sha256


def test_the_sha256_is_over_the_content(good, folder):
    """One other value of one file makes another hash."""
    edit_rows(folder, "funding.parquet", put("rate", 1, 0.00012345))

    assert load(folder).sha256 != load(good).sha256


def test_the_sha256_ignores_how_the_manifest_is_written(good, folder):
    """Comments of the generator and the order of the files are not content."""

    def edit(content):
        content["seed"] = 12
        content["files"] = dict(sorted(content["files"].items()))

    edit_manifest(folder, edit)

    assert load(folder).sha256 == load(good).sha256


def test_a_file_without_rows_gives_empty_arrays(folder):
    """A trade file may have no row."""
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
