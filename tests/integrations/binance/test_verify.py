"""`verify` counts what is wrong with files, says where the first problem is, and exits 1."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from integrations.binance.__main__ import main
from tests.integrations.binance.dump_files import DAY_MS, put, trades

US = DAY_MS * 1000


def found(folder, capsys, *words: str) -> tuple[int, dict[str, dict[str, str]], list[str]]:
    """Return the exit code, the table by file and column, and what was said of problems."""
    code = main(["verify", "--source", str(folder), "--symbols", "BTCUSDT", *words])
    said = capsys.readouterr()
    head, *rows = (line.split() for line in said.out.splitlines())
    return (
        code,
        {row[0]: dict(zip(head[2:], row[2:], strict=True)) for row in rows},
        said.err.splitlines(),
    )


def problems(row: dict[str, str]) -> dict[str, int]:
    return {name: int(n) for name, n in row.items() if name != "rows" and n != "0"}


def test_good_files(tmp_path, capsys):
    """Nothing to say, and 0; days follow on each other across files."""
    put(tmp_path, "BTCUSDT-trades-2025-07-01.csv", trades([US, US + 1, US + 1]))
    put(tmp_path, "BTCUSDT-trades-2025-07-02.zip", trades([US + 86_400_000_000], first_id=4))

    code, table, said = found(tmp_path, capsys)

    assert (code, said) == (0, [])
    assert [row["rows"] for row in table.values()] == ["3", "1"]
    assert not any(problems(row) for row in table.values())


def test_ids_that_are_missing_or_came_before(tmp_path, capsys):
    """Trades are numbered: 1, 2, 5, 5, 6; then a day that begins with 6 again."""
    rows = trades([US + n for n in range(6)]).splitlines(keepends=True)
    put(tmp_path, "BTCUSDT-trades-1.csv", "".join(rows[i - 1] for i in (1, 2, 5, 5, 6)))
    put(tmp_path, "BTCUSDT-trades-2.csv", trades([US + 9, US + 10], first_id=6))

    code, table, said = found(tmp_path, capsys)

    assert code == 1
    assert problems(table["BTCUSDT-trades-1.csv"]) == {"gaps": 1, "duplicates": 1}
    assert problems(table["BTCUSDT-trades-2.csv"]) == {"duplicates": 1}
    assert said[0].endswith("BTCUSDT-trades-1.csv: line 3, column id comes after a gap")
    assert said[1].endswith("BTCUSDT-trades-2.csv: line 1, column id came before")


def test_unsorted_rows_and_lost_decimals(tmp_path, capsys):
    """Each is counted, and none of them stops the others."""
    lines = trades([US + 5, US + 4, US + 6]).splitlines()
    lines[2] = lines[2].replace(",0.00003000,", ",0.000031,")

    put(tmp_path, "BTCUSDT-trades-1.csv", "\n".join(lines) + "\n")
    code, table, _ = found(tmp_path, capsys)

    assert (code, problems(table["BTCUSDT-trades-1.csv"])) == (1, {"unsorted": 1, "precision": 1})


def test_numbers_that_no_catalog_holds(tmp_path, capsys):
    """Text that is none, and a size above Nautilus's largest."""
    pq.write_table(
        pa.table(
            {
                "timestamp": [US, US + 1, US + 2],
                "price": ["1.01", "x", "1.01"],
                "qty": ["1", "1", "34028236692093.1"],
                "side": ["buy"] * 3,
            }
        ),
        tmp_path / "BTCUSDT.parquet",
    )

    code, table, said = found(tmp_path, capsys)

    assert (code, problems(table["BTCUSDT.parquet"])) == (1, {"precision": 2})
    assert "row 1, column price has more decimals" in said[0]
    assert said[0].endswith("is too large or no number")


def kline(minute: int, prices: str = "100,102,99,101", volume: str = "5") -> str:
    opened = US + minute * 60_000_000
    return f"{opened},{prices},{volume},{opened + 59_999_999},0,0,0,0,0\n"


def test_candles(tmp_path, capsys):
    """A missing minute, a repeated one, a high below the close, a low above the open."""
    text = kline(0) + kline(1) + kline(1) + kline(3, "100,102,99,103") + kline(4, "100,105,101,102")
    put(tmp_path, "BTCUSDT-1m-2025-07-01.csv", text)

    code, table, said = found(tmp_path, capsys)

    assert code == 1
    (row,) = table.values()
    assert problems(row) == {"gaps": 1, "duplicates": 1, "ohlc": 2}
    assert said[0].endswith("line 4, column high is too low")


def test_quotes(tmp_path, capsys):
    """More than a minute of silence; a row like the one before."""
    row = "1,100.0,1,100.1,1,{0},{0}\n"
    text = "".join(row.format(DAY_MS + ms) for ms in (0, 0, 60_000, 120_001))
    put(tmp_path, "BTCUSDT-bookTicker-2025-07-01.csv", text)

    code, table, _ = found(tmp_path, capsys, "--market", "futures")

    assert code == 1
    assert problems(table["BTCUSDT-bookTicker-2025-07-01.csv"]) == {"gaps": 1, "duplicates": 1}


def test_funding_that_is_missing(tmp_path, capsys):
    """Every eight hours, whatever milliseconds the venue took."""
    hour = 3_600_000
    rows = "".join(
        f"{DAY_MS + at * hour + late},8,0.0001\n" for at, late in ((0, 0), (8, 7), (24, 3))
    )
    name = "BTCUSDT-fundingRate-2025-07.csv"
    put(tmp_path, name, f"calc_time,funding_interval_hours,last_funding_rate\n{rows}")

    code, table, said = found(tmp_path, capsys, "--market", "futures")

    assert (code, problems(table[name])) == (1, {"gaps": 1})
    assert said[0].endswith("line 4, column calc_time comes after a gap")


@pytest.mark.parametrize("line", ["1,2", "9,abc,1,1,1751328000000000,True,True"])
def test_a_file_that_breaks_off(tmp_path, capsys, line):
    """What cannot be read is broken, with the line; the other files are still looked at."""
    put(tmp_path, "BTCUSDT-trades-1.csv", trades([US]) + line + "\n")
    put(tmp_path, "BTCUSDT-trades-2.csv", trades([US + 1]))

    code, table, said = found(tmp_path, capsys)

    assert code == 1
    assert problems(table["BTCUSDT-trades-1.csv"])["broken"] == 1
    assert "line 2" in said[0]
    assert table["BTCUSDT-trades-2.csv"]["rows"] == "1"


def test_problems_across_batches(tmp_path, capsys, monkeypatch):
    """Counts are the same however the file is cut while it is read."""
    monkeypatch.setattr("integrations.binance.source_files.BLOCK_BYTES", 700)
    lines = trades([US + n for n in range(500)]).splitlines(keepends=True)
    del lines[250:260]
    lines.insert(300, lines[299])
    put(tmp_path, "BTCUSDT-trades-1.csv", "".join(lines))

    _, table, said = found(tmp_path, capsys)

    row = table["BTCUSDT-trades-1.csv"]
    assert (row["rows"], problems(row)) == ("491", {"gaps": 1, "duplicates": 1})
    assert "line 251, column id comes after a gap" in said[0]


def test_nothing_to_verify(tmp_path, capsys):
    """No file of the symbol: usage."""
    assert main(["verify", "--source", str(tmp_path), "--symbols", "BTCUSDT"]) == 2
    assert "no file of BTCUSDT was found" in capsys.readouterr().err
