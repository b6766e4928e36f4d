"""Every layout of Binance's dumps, read exactly."""

import gzip
import itertools
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from integrations.binance import columns
from integrations.binance.dataset import Quotes
from integrations.binance.dumps import files
from integrations.binance.source_files import open_source
from tests.integrations.binance.dump_files import (
    DAY_MS,
    TRADES_HEADER,
    instrument,
    only,
    put,
    read,
    trades,
)

DAY_NS = DAY_MS * 1_000_000
SEED = 20251120
PERP = instrument("0.1", "0.001", leg="perp")
SPOT_TRADE = f"7,107000.12000000,0.00100000,107.0,{DAY_MS}123,True,True\n"
FUTURES_TRADE = f"7,107000.1,0.001,107.0,{DAY_MS},false\n"
KLINE = f"{DAY_MS},107000.1,107000.3,107000.0,107000.2,1.5,{DAY_MS + 59999},160500.3,9,1,107000,0"
KLINE_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
    "taker_buy_quote_volume,ignore"
)


def test_spot_trades_have_no_header_and_microseconds(tmp_path):
    """Seven columns; the maker's side is turned into the aggressor's."""
    path = put(tmp_path, "BTCUSDT-trades-2025-07-01.csv", SPOT_TRADE)

    assert only(path) == {
        "ts": [DAY_NS + 123_000],
        "price": [10_700_012],
        "size": [100],
        "side": [-1],
        "trade_id": [7],
        "ts_init": [DAY_NS + 123_000],
    }


@pytest.mark.parametrize("header", ["", f"{TRADES_HEADER}\n"])
def test_futures_trades_with_a_header_or_without(tmp_path, header):
    """Six columns and milliseconds; both ways give the same row."""
    path = put(tmp_path, "BTCUSDT-trades-2025-07-01.csv", header + FUTURES_TRADE)

    assert only(path, PERP) == {
        "ts": [DAY_NS],
        "price": [1_070_001],
        "size": [1],
        "side": [1],
        "trade_id": [7],
        "ts_init": [DAY_NS],
    }


@pytest.mark.parametrize("best_match", ["", ",true"])
def test_aggregated_trades_are_told_from_trades(tmp_path, best_match):
    """Futures have as many columns as spot trades: where true or false stands tells them apart."""
    row = f"5,107000.1,0.002,11,12,{DAY_MS},false{best_match}\n"

    found = only(put(tmp_path, "BTCUSDT-aggTrades-2025-07-01.csv", row), PERP)

    assert (found["trade_id"], found["size"], found["side"]) == ([5], [2], [1])


@pytest.mark.parametrize(
    "header",
    [
        "",
        "update_id,best_bid_price,best_bid_qty,best_ask_price,best_ask_qty,transaction_time,"
        "event_time\n",
    ],
)
def test_book_tickers_are_quotes(tmp_path, header):
    """Their time is the transaction's; the other time is when the venue sent it."""
    row = f"9,107000.1,1.5,107000.2,0.002,{DAY_MS},{DAY_MS + 4}\n"
    path = put(tmp_path, "BTCUSDT-bookTicker-2025-07-01.csv", header + row)

    (chunk,) = read(path, PERP)

    assert isinstance(chunk.columns, Quotes)
    assert only(path, PERP) == {
        "ts": [DAY_NS],
        "bid": [1_070_001],
        "ask": [1_070_002],
        "bid_size": [1500],
        "ask_size": [2],
        "ts_init": [DAY_NS],
    }


@pytest.mark.parametrize("header", ["", f"{KLINE_HEADER}\n"])
def test_klines_have_the_time_of_their_close(tmp_path, header):
    """A candle is known when it is over; its length comes from the name of the file."""
    path = put(tmp_path, "BTCUSDT-1m-2025-07-01.csv", f"{header}{KLINE}\n")

    assert only(path, PERP) == {
        "ts": [DAY_NS + 59_999_000_000],
        "open": [1_070_001],
        "high": [1_070_003],
        "low": [1_070_000],
        "close": [1_070_002],
        "volume": [1500],
        "interval": "1m",
        "ts_init": [DAY_NS + 59_999_000_000],
    }


def test_mark_price_klines_are_marks(tmp_path):
    """The folder tells them from klines; the mark at the minute is the one it opened with."""
    path = put(tmp_path, "markPriceKlines/BTCUSDT/1m/BTCUSDT-1m-2025-07-01.csv", f"{KLINE}\n")

    (chunk,) = read(path, PERP)

    assert isinstance(chunk.columns, columns.Marks)
    assert only(path, PERP) == {"ts": [DAY_NS], "mark": [1_070_001], "ts_init": [DAY_NS]}


def test_funding_is_settled_on_the_hour(tmp_path):
    """The venue computes it up to 16 ms late; rates may be negative."""
    text = (
        "calc_time,funding_interval_hours,last_funding_rate\n"
        f"{DAY_MS},8,0.00010000\n{DAY_MS + 28_800_016},8,-0.00007235\n"
    )

    found = only(put(tmp_path, "BTCUSDT-fundingRate-2025-07.csv", text), PERP)

    assert found == {
        "ts": [DAY_NS, DAY_NS + 28_800 * 10**9],
        "rate": [10_000, -7_235],
        "interval_hours": [8, 8],
        "ts_init": [DAY_NS, DAY_NS + 28_800 * 10**9],
    }


@pytest.mark.parametrize(
    ("time", "ns"),
    [
        (DAY_MS, DAY_NS),
        (DAY_MS * 1000 + 1, DAY_NS + 1000),
        (DAY_NS + 1, DAY_NS + 1),
    ],
)
def test_units_of_time_go_by_digits(tmp_path, time, ns):
    """13 are ms, 16 are us, 19 are ns."""
    row = f"7,107000.1,0.001,107.0,{time},false\n"

    assert only(put(tmp_path, "BTCUSDT-trades-2025-07-01.csv", row))["ts"] == [ns]


@pytest.mark.parametrize("name", ["a.zip", "a.csv.gz", "a.csv"])
def test_archives_read_like_files(tmp_path, name):
    """A zip of one CSV, as the venue serves them, and gzip."""
    path = put(tmp_path, name, "")
    if name.endswith("gz"):
        path.write_bytes(gzip.compress(SPOT_TRADE.encode()))
    else:
        put(tmp_path, name, SPOT_TRADE)

    assert only(path)["price"] == [10_700_012]


@pytest.mark.parametrize("text", ["", f"{TRADES_HEADER}\n"])
def test_a_file_without_rows(tmp_path, text):
    """Nothing at all is no market data; a header alone has no chunk."""
    path = put(tmp_path, "BTCUSDT-trades-2025-07-01.csv", text)

    assert open_source(path) is None if not text else read(path) == []


def test_numbers_never_go_through_float(tmp_path):
    """Sixteen digits and more stay as they are written; trailing zeros are no decimals."""
    row = f"7,900719925474.09930000,0.00100000,1,{DAY_MS},false\n"

    found = only(put(tmp_path, "BTCUSDT-trades-2025-07-01.csv", row), instrument("0.0001"))

    assert found["price"] == [9_007_199_254_740_993]


@pytest.mark.parametrize("limit", [1, 3, 10, 1000])
def test_chunks_end_where_the_time_changes(tmp_path, limit):
    """No time is in two chunks, whatever their size; all rows are there, in order."""
    chance = random.Random(SEED)
    times = sorted(DAY_MS * 1000 + chance.randrange(60) for _ in range(200))
    path = put(tmp_path, "BTCUSDT-trades-2025-07-01.csv", trades(times))

    found = read(path, limit=limit)

    every = [chunk.ts_init.tolist() for chunk in found]
    assert [t for ts in every for t in ts] == [time * 1000 for time in times]
    assert all(a[-1] < b[0] for a, b in itertools.pairwise(every))
    assert max(len(ts) for ts in every) <= max(limit, max(map(times.count, times)))


def test_reading_goes_on_anywhere(tmp_path, monkeypatch):
    """After any chunk the rest is cut as if it had been read from the beginning."""
    monkeypatch.setattr("integrations.binance.source_files.BLOCK_BYTES", 500)
    chance = random.Random(SEED)
    times = sorted(DAY_MS * 1000 + chance.randrange(90) for _ in range(300))
    path = put(tmp_path, "BTCUSDT-trades-2025-07-01.zip", trades(times))
    parquet = tmp_path / "BTCUSDT-trades.parquet"
    table = {"timestamp": times, "price": [1.5] * 300, "qty": [1.0] * 300, "side": ["buy"] * 300}
    pq.write_table(pa.table(table), parquet, row_group_size=64)

    for source in (path, parquet):
        whole = read(source, limit=20)
        for number, chunk in enumerate(whole[:-1], 1):
            rest = read(source, limit=20, skip=chunk.rows)
            assert [c.rows for c in rest] == [c.rows for c in whole[number:]]
            assert [c.columns.trade_id.tolist() for c in rest] == [
                c.columns.trade_id.tolist() for c in whole[number:]
            ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("indexPriceKlines/BTCUSDT-1m-2025-07-01.csv", f"{KLINE}\n"),
        ("premiumIndexKlines/BTCUSDT-1m-2025-07-01.csv", f"{KLINE}\n"),
        ("BTCUSDT-metrics-2025-07-01.csv", "create_time,symbol,open_interest\n1,BTCUSDT,2\n"),
        ("BTCUSDT-notes.csv", "1,2\n"),
    ],
)
def test_what_is_no_known_market_data(tmp_path, name, text):
    """Other columns, and candles of what nobody trades at."""
    assert open_source(put(tmp_path, name, text)) is None


def test_files_are_found_in_order(tmp_path):
    """Days sort by name, in any depth; checksums and notes are left alone."""
    for name in ("b/BTCUSDT-trades-2025-07-02.csv", "b/BTCUSDT-trades-2025-07-01.zip", "README"):
        put(tmp_path, name, SPOT_TRADE)
    put(tmp_path, "b/BTCUSDT-trades-2025-07-01.zip.CHECKSUM", "x")

    assert [path.name[-8:] for path in files(tmp_path)] == ["7-01.zip", "7-02.csv"]
