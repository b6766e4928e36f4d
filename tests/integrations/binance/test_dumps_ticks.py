"""Raw ticks by their columns: CSV in the layouts of Tardis, Parquet as data frames have them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from integrations.binance import columns
from integrations.binance.dataset import Trades
from tests.integrations.binance.dump_files import DAY_MS, only, opened, put, read

DAY_NS = DAY_MS * 1_000_000


def parquet(path, **content):
    pq.write_table(pa.table(content), path)
    return path


@pytest.mark.parametrize("flag", ["is_buyer_maker", "buyer_maker"])
@pytest.mark.parametrize("size", ["qty", "quantity", "amount"])
def test_raw_trades_by_their_columns(tmp_path, flag, size):
    """Price, a size and a maker flag; floats are exact within 1e-6 units; ids count the rows."""
    content = {"timestamp": [DAY_NS, DAY_NS + 1], "price": [107000.12, 1.01], flag: [True, False]}

    found = only(parquet(tmp_path / "BTCUSDT.parquet", **content, **{size: [0.00003, 2.0]}))

    assert found["price"] == [10_700_012, 101]
    assert (found["size"], found["side"]) == ([3, 200_000], [-1, 1])
    assert found["trade_id"] == [1, 2]


def test_raw_trades_with_a_side(tmp_path):
    """Words of any case; ids that are text stay text."""
    found = only(
        parquet(
            tmp_path / "BTCUSDT.parquet",
            timestamp=pa.array([DAY_MS] * 3, pa.timestamp("ms", "UTC")),
            price=[1.0] * 3,
            amount=[1.0] * 3,
            side=["buy", "SELL", "unknown"],
            id=["a", "b-1", "c"],
        )
    )

    assert (found["ts"], found["side"]) == ([DAY_NS] * 3, [1, -1, 0])
    assert found["trade_id"].to_pylist() == ["a", "b-1", "c"]


@pytest.mark.parametrize(
    "name",
    ["{side}s[{level}].{field}", "{side}_{field}_{level}"],
)
@pytest.mark.parametrize("levels", [5, 25])
def test_raw_books_by_their_columns(tmp_path, name, levels):
    """Ten levels and fewer are depth; more are deltas that clear the book, then fill it."""
    content = {"timestamp": [DAY_NS], "local_timestamp": [DAY_NS + 5]}
    for level in range(levels):
        for side, price in (("ask", 100.0 + level), ("bid", 99.0 - level)):
            content[name.format(side=side, level=level, field="price")] = [price]
            content[name.format(side=side, level=level, field="amount")] = [level + 1.0]

    (chunk,) = read(parquet(tmp_path / "BTCUSDT.parquet", **content))

    found = chunk.columns
    assert chunk.ts_init[0] == DAY_NS + 5
    if levels == 5:
        assert isinstance(found, columns.Depth)
        assert found.bid.tolist() == [[9900, 9800, 9700, 9600, 9500]]
        assert found.ask_size.tolist() == [[100_000 * n for n in range(1, 6)]]
    else:
        assert isinstance(found, columns.Deltas)
        assert found.action.tolist() == [columns.CLEAR, *[columns.ADD] * 50]
        assert found.price.tolist()[1:] == [
            *(100 * (99 - n) for n in range(25)),
            *(100 * (100 + n) for n in range(25)),
        ]
        assert found.flags.tolist() == [32] * 50 + [32 | 128]


def test_missing_levels_are_no_levels(tmp_path):
    """A thin book leaves cells empty."""
    text = (
        "timestamp,asks[0].price,asks[0].amount,bids[0].price,bids[0].amount,asks[1].price,"
        f"asks[1].amount,bids[1].price,bids[1].amount\n{DAY_MS},101,2,100,1,102,3,,\n"
    )

    found = only(put(tmp_path, "book_snapshot_5_BTCUSDT.csv", text))

    assert (found["bid"], found["bid_size"]) == ([[10_000, 0]], [[100_000, 0]])


def test_updates_of_a_book(tmp_path):
    """A snapshot clears first; size 0 deletes; the last row of a message ends the event."""
    text = "timestamp,local_timestamp,is_snapshot,side,price,amount\n" + "".join(
        f"{DAY_MS},{DAY_MS + at},{snap},{side},{price},{size}\n"
        for at, snap, side, price, size in (
            (1, "true", "bid", 99, 1),
            (1, "true", "ask", 101, 2),
            (2, "false", "ask", 101, 0),
            (2, "false", "bid", 99, 3),
            (4, "true", "bid", 98, 1),
        )
    )

    found = only(put(tmp_path, "incremental_book_L2_BTCUSDT.csv", text))

    assert found["action"] == [4, 1, 1, 3, 2, 4, 1]
    assert found["flags"] == [32, 32, 160, 0, 128, 32, 160]
    assert found["side"] == [0, 1, -1, -1, 1, 0, 1]
    assert [ts - DAY_NS for ts in found["ts_init"]] == [10**6 * n for n in (1, 1, 1, 2, 2, 4, 4)]


def test_exchange_time_may_run_ahead(tmp_path):
    """The order is that of the recorder; the venue's clock may be later, or go back."""
    text = "timestamp,local_timestamp,price,amount,side\n" + "".join(
        f"{DAY_MS + venue},{DAY_MS + local},1,1,buy\n" for venue, local in ((9, 1), (7, 2), (8, 3))
    )
    path = put(tmp_path, "trades_BTCUSDT.csv", text)

    (chunk,) = read(path)

    assert np.all(chunk.columns.ts > chunk.ts_init)
    assert opened(path).layout.kind == "trades"
    assert isinstance(chunk.columns, Trades)
