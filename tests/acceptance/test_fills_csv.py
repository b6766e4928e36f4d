"""acceptance/fills_csv.py: fills out of a CSV, and what is refused."""

from pathlib import Path

import pytest

from acceptance import fills_csv
from acceptance.fills_csv import FillsError, moment
from tests.acceptance.fills_rig import bare, base, write_csv

FILLS = base().fills or ()
HEAD = "ts,symbol,leg,side,qty,px,fee"
GOOD = "1751413800000000000,BTC,spot,BUY,1.5,100.25,0.15"


def csv_of(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "fills.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_csv_comes_back_exactly(tmp_path: Path) -> None:
    """Every number keeps its digits; the optional columns are read where they are."""
    names = ("reason", "mid", "fee", "px", "qty", "side", "leg", "symbol", "ts")

    path = write_csv(tmp_path / "fills.csv", FILLS, names)

    assert fills_csv.read(path) == list(FILLS)
    assert fills_csv.read(write_csv(path, FILLS)) == bare(*FILLS)


def test_rows_of_a_csv_may_be_in_any_order(tmp_path: Path) -> None:
    """Fills come by time; those of one time as the file has them."""
    path = write_csv(tmp_path / "fills.csv", sorted(FILLS, key=lambda fill: -fill.ts))

    assert fills_csv.read(path) == bare(*FILLS)


def test_a_csv_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    """A byte order mark, empty lines, CRLF, blanks around values and ISO times are no trouble."""
    path = tmp_path / "fills.csv"
    line = "2025-07-01T23:50:00.000001+00:00, BTC,spot ,BUY,1.50,100.25,-0.15"
    path.write_bytes(f"\ufeff{HEAD}\r\n\r\n{line}\r\n".encode())

    (fill,) = fills_csv.read(path)

    assert (fill.ts, fill.symbol, fill.leg) == (1751413800000001000, "BTC", "spot")
    assert (str(fill.qty), str(fill.fee)) == ("1.50", "-0.15")


@pytest.mark.parametrize(
    ("lines", "where", "said"),
    [
        ((), "line 1", "column 'ts' is missing"),
        ((HEAD.replace(",fee", ""),), "line 1", "column 'fee' is missing"),
        ((f"{HEAD},color",), "line 1", "column 'color' is unknown; known are ts, symbol"),
        ((f"{HEAD},ts",), "line 1", "column 'ts' is there twice"),
        ((HEAD, GOOD, GOOD + ",7"), "line 3", "it has 8 values, line 1 names 7"),
        ((HEAD, GOOD.replace("spot", "future")), "line 2, column leg", "expected spot or perp"),
        ((HEAD, GOOD.replace("BUY", "buy")), "line 2, column side", "expected BUY or SELL"),
        ((HEAD, GOOD.replace("1.5", "1,5")), "line 2", "8 values"),
        ((HEAD, GOOD.replace("1.5", "1e3")), "line 2, column qty", "no decimal number"),
        ((HEAD, GOOD.replace("1.5", "-1")), "line 2, column qty", "not above 0"),
        ((HEAD, GOOD.replace("100.25", "0")), "line 2, column px", "not above 0"),
        ((HEAD, GOOD.replace("0.15", "")), "line 2, column fee", "no decimal number"),
        ((HEAD, GOOD.replace("0.15", "NaN")), "line 2, column fee", "no decimal number"),
        ((HEAD, GOOD.replace("BTC", " ")), "line 2, column symbol", "empty"),
        ((HEAD, "", GOOD, "noon" + GOOD), "line 4, column ts", "no time"),
        ((f"{HEAD},mid", f"{GOOD},x"), "line 2, column mid", "no decimal number"),
        ((HEAD, f'"{GOOD}'), "", "is no CSV"),
    ],
)
def test_a_wrong_csv_is_refused_with_its_place(
    tmp_path: Path, lines: tuple[str, ...], where: str, said: str
) -> None:
    """The message names file, line and column, and what was expected."""
    path = csv_of(tmp_path, *lines)

    with pytest.raises(FillsError) as error:
        fills_csv.read(path)

    text = str(error.value)
    assert text.startswith(f"{path}, {where}" if where else str(path)) and said in text


def test_what_is_no_text_file_is_refused(tmp_path: Path) -> None:
    """A missing file, a folder and a binary one are named."""
    (tmp_path / "binary.csv").write_bytes(b"ts,\xff\xfe\n")

    for name, said in (("none.csv", "No such file"), ("", "directory"), ("binary.csv", "UTF-8")):
        with pytest.raises(FillsError, match=said) as error:
            fills_csv.read(tmp_path / name)
        assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0", 0),
        ("1751413800000000123", 1751413800000000123),
        ("2025-07-01", 1751328000000000000),
        ("2025-07-01T23:50:00", 1751413800000000000),
        ("2025-07-01T23:50:00.123456Z", 1751413800123456000),
        ("2025-07-02T01:50:00+02:00", 1751413800000000000),
        ("1969-12-31T23:59:59Z", -1_000_000_000),
    ],
)
def test_a_time_is_read_to_the_nanosecond(text: str, ns: int) -> None:
    """Integers are ns; an ISO time without a zone is UTC."""
    assert moment(text) == ns


@pytest.mark.parametrize(
    "text", ["", "noon", "1.5", "-5", "2025-07-01T00:00:00.123456789Z", "9" * 20]
)
def test_a_time_that_would_lose_digits_is_refused(text: str) -> None:
    """What datetime would cut off silently, and what is no time at all."""
    with pytest.raises(ValueError, match="is no time"):
        moment(text)
