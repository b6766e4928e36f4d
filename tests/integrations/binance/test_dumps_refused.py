"""What does not fit is refused with file, line and column, never rounded or guessed."""

import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from integrations.binance.source_files import FileError, open_source
from tests.integrations.binance.dump_files import (
    DAY_MS,
    TRADES_HEADER,
    instrument,
    put,
    read,
    refusal,
)

GOOD = f"1,107000.12,0.00100,107.0,{DAY_MS},false"


def line_of(**changed: str) -> str:
    fields = dict(zip(TRADES_HEADER.split(","), GOOD.split(","), strict=True))
    return ",".join((fields | changed).values())


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"price": "107000.123"}, "column price: '107000.123' has more decimals than its inst"),
        ({"qty": "0.000001"}, "column qty: '0.000001' has more decimals than its instrument (5)"),
        ({"price": "1e-3"}, "column price: '1e-3' has more decimals than its instrument (2)"),
        ({"price": "abc"}, "column price: 'abc' is not a number"),
        ({"price": "NaN"}, "column price: 'NaN' is not a number"),
        ({"price": ""}, "column price: is empty; drop or"),
        ({"price": "0.00"}, "column price: 0.00 is not positive"),
        ({"qty": "-1"}, "column qty: -1.00000 is not positive"),
        ({"price": "99999999999999999999"}, "is too large"),
        ({"time": "1751328000"}, "column time: 1751328000 has another unit than the file's first"),
        ({"time": f"{DAY_MS}000"}, f"column time: {DAY_MS}000 has another unit"),
        ({"time": f"{DAY_MS - 1}"}, f"column time: {DAY_MS - 1} goes back; sort the file by it"),
        ({"time": "soon"}, "column time: 'soon' is not a number"),
        ({"is_buyer_maker": "maybe"}, "column is_buyer_maker: maybe is unknown; expected true, fa"),
        ({"id": "x1"}, "column id: 'x1' is not a number"),
        ({"price": "17014118346046.01"}, "17014118346046.01 is more than the 17014118346046 that"),
        ({"qty": "34028236692093.00001"}, "34028236692093.00001 is more than the 34028236692093"),
    ],
)
def test_a_value_that_does_not_fit(tmp_path, header, changed, said):
    """The third row is wrong: its line counts the header where there is one."""
    lines = [*[TRADES_HEADER] * header, GOOD, GOOD, line_of(**changed), GOOD]
    path = put(tmp_path, "BTCUSDT-trades-2025-07-01.csv", "\n".join(lines) + "\n")

    message = refusal(path)

    assert message.startswith(f"line {3 + header}, column")
    assert said in message


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1,107000.12", "line 2 has 2 fields, expected 6; repair or download it again"),
        ("", "line 2, column time: is empty; drop or repair the row"),
    ],
)
def test_a_line_that_is_cut_off(tmp_path, line, said):
    """A download that broke off, an empty line."""
    text = f"{GOOD}\n{line}\n{GOOD}\n"

    assert refusal(put(tmp_path, "BTCUSDT-trades-2025-07-01.csv", text)) == said


def test_the_line_is_right_far_into_a_file(tmp_path, monkeypatch):
    """Whatever block of the file the value is in."""
    monkeypatch.setattr("integrations.binance.source_files.BLOCK_BYTES", 1000)
    lines = [GOOD] * 700 + [line_of(price="1.001")] + [GOOD]
    path = put(tmp_path, "BTCUSDT-trades-2025-07-01.zip", "\n".join(lines) + "\n")

    assert refusal(path).startswith("line 701, column price: '1.001' has more decimals")


def test_time_that_goes_back_between_chunks(tmp_path):
    """The order is checked across chunks."""
    lines = [line_of(time=f"{DAY_MS + t}") for t in (1, 2, 3, 4, 0)]
    path = put(tmp_path, "BTCUSDT-trades-2025-07-01.csv", "\n".join(lines) + "\n")

    with pytest.raises(FileError, match="line 5, column time: goes back; sort the file by it"):
        read(path, limit=4)


@pytest.mark.parametrize(
    ("digits", "said"),
    [
        ("1751328000", "line 1, column time: 1751328000 is no time; expected 13 (ms), 16 (us) or"),
        ("12", "line 1, column time: 12 is no time; expected 13"),
    ],
)
def test_a_unit_of_time_that_is_unknown(tmp_path, digits, said):
    """Seconds are not in any dump; they are not guessed."""
    path = put(tmp_path, "BTCUSDT-trades-2025-07-01.csv", line_of(time=digits) + "\n")

    assert refusal(path).startswith(said)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("high", "107000.15", "column high: 107000.15 is below open or close"),
        ("low", "107000.11", "column low: 107000.11 is above open or close"),
        ("volume", "-1", "column volume: '-1'"),
    ],
)
def test_a_candle_that_cannot_be(tmp_path, column, value, said):
    """Nautilus could not read it back."""
    names = ("open_time", "open", "high", "low", "close", "volume", "close_time")
    good = (str(DAY_MS), "107000.1", "107000.3", "107000.0", "107000.2", "1", str(DAY_MS + 59_999))
    row = dict(zip(names, good, strict=True)) | {column: value}
    text = f"{','.join(names)}\n{','.join(row.values())}\n"

    message = refusal(put(tmp_path, "BTCUSDT-1m-2025-07-01.csv", text))

    assert message.startswith("line 2, ")
    assert said.replace("'", "") in message.replace("'", "").replace("-1.00000", "-1")


def test_klines_need_their_interval_in_the_name(tmp_path):
    """Else nobody knows the bar's type."""
    text = f"timestamp,open,high,low,close,volume\n{DAY_MS},1,1,1,1,1\n"

    assert "its name does not say the interval" in refusal(put(tmp_path, "BTCUSDT.csv", text))


def test_funding_far_from_the_hour(tmp_path):
    """A settlement is on the hour: what is minutes away is something else."""
    text = f"calc_time,funding_interval_hours,last_funding_rate\n{DAY_MS + 60_001},8,0.0001\n"
    path = put(tmp_path, "BTCUSDT-fundingRate-2025-07.csv", text)

    assert "line 2, column calc_time" in refusal(path)
    assert "is more than a minute from a full hour" in refusal(path)


def test_two_rows_of_one_settlement(tmp_path):
    """Both would be paid."""
    rows = [f"{DAY_MS + late},8,0.0001" for late in (0, 16)]
    text = "\n".join(["calc_time,funding_interval_hours,last_funding_rate", *rows, ""])
    path = put(tmp_path, "BTCUSDT-fundingRate-2025-07.csv", text)

    assert refusal(path) == (
        f"line 3, column calc_time: {DAY_MS + 16} is of the same settlement as the row before; "
        "drop one of them"
    )


@pytest.mark.parametrize("time", ["1969-12-31 23:01:00", "1969-12-31 23:59:59.999999"])
def test_a_time_before_1970(tmp_path, time):
    """The catalog counts from there."""
    text = f"timestamp,open,high,low,close,volume\n{time},1,1,1,1,1\n"

    message = refusal(put(tmp_path, "BTCUSDT-1m.csv", text))

    assert message == f"line 2, column timestamp: {time} is before 1970; drop or repair the row"


def test_two_symbols_in_a_file(tmp_path):
    """One file is of one instrument."""
    text = f"timestamp,symbol,price,amount,side\n{DAY_MS},A,1,1,buy\n{DAY_MS},B,1,1,buy\n"

    assert refusal(put(tmp_path, "trades.csv", text)) == (
        "line 3, column symbol: B is another symbol than in the first row; split the file by symbol"
    )


@pytest.mark.parametrize(
    ("price", "said"),
    [
        (107000.123, "row 1, column price: 107000.123 has more decimals than its instrument (2)"),
        (107000.1200001, "row 1, column price: 107000.1200001 has more decimals"),
        (float("nan"), "row 1, column price: nan has more decimals"),
        (None, "row 1, column price: is empty; drop or"),
    ],
)
def test_floats_that_are_not_exact(tmp_path, price, said):
    """A float must be within 1e-6 of an integer number of units."""
    path = tmp_path / "BTCUSDT.parquet"
    content = {"timestamp": [DAY_MS] * 2, "price": [1.01, price], "qty": [1.0] * 2}
    pq.write_table(pa.table(content | {"side": ["buy"] * 2}), path)

    assert refusal(path).startswith(said)


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("price", ["1.01", "x"], "x has more decimals than its instrument (2), is too large or no"),
        ("price", ["1.01", "1e40"], "1e40 has more decimals than its instrument (2), is too large"),
        ("price", [1.01, 2e13], "20000000000000.0 is more than the 17014118346046 that Nautil"),
        ("id", pa.array([1, 2**63], pa.uint64()), f"{2**63} is no integer of 64 bits"),
        (
            "timestamp",
            pa.array([DAY_MS, 2**63], pa.uint64()),
            f"{2**63} has another unit than the file's first row",
        ),
    ],
)
def test_parquet_of_other_types(tmp_path, column, values, said):
    """Text and unsigned integers: the row and the column are named."""
    path = tmp_path / "BTCUSDT.parquet"
    content = {"timestamp": [DAY_MS] * 2, "price": [1.01] * 2, "qty": [1.0] * 2}
    content |= {"side": ["buy"] * 2, "id": [1, 2], column: values}
    pq.write_table(pa.table(content), path)

    assert refusal(path).startswith(f"row 1, column {column}: {said}")


def test_floats_within_a_millionth_of_a_unit(tmp_path):
    """What arithmetic left behind is not what the venue said."""
    path = tmp_path / "BTCUSDT.parquet"
    content = {"timestamp": [DAY_MS], "price": [0.1 + 0.2], "qty": [1.0], "side": ["buy"]}
    pq.write_table(pa.table(content), path)

    assert read(path, instrument("0.1"))[0].columns.price.tolist() == [3]


@pytest.mark.parametrize("name", ["BTCUSDT-trades.zip", "BTCUSDT.parquet", "BTCUSDT.csv.gz"])
def test_a_file_that_is_damaged(tmp_path, name):
    """Neither an archive nor Parquet."""
    (tmp_path / name).write_bytes(b"no such format")

    with pytest.raises(FileError, match=r"cannot be read: .*; download it again"):
        open_source(tmp_path / name)


def test_an_archive_of_several_files(tmp_path):
    """Which of them would it be?"""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("a.csv", "b.csv"):
            archive.writestr(name, GOOD)

    with pytest.raises(FileError, match="holds 2 files, expected one CSV; unpack it"):
        open_source(tmp_path / "a.zip")
