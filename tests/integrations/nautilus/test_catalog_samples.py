"""Real files of several venues: what Nautilus reads from the catalog is what the file says.

Each file is read a second time here, plainly, and compared row for row as exact decimals.
"""

import csv
from datetime import datetime, timedelta
from decimal import Decimal

import pyarrow.parquet as pq
import pytest
from nautilus_trader.model.data import (
    Bar,
    FundingRateUpdate,
    QuoteTick,
    TradeTick,
)
from nautilus_trader.model.enums import AggressorSide

from integrations.binance.manifest import EPOCH
from tests.integrations.nautilus.samples import (
    DATA,
    HERE,
    Reader,
    decimals,
    ingest_samples,
    rows_of,
)

pytestmark = HERE


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return ingest_samples(tmp_path_factory.mktemp("samples"))


def test_every_file_is_tested() -> None:
    """A new sample needs a test of its own."""
    assert {path.name for path in DATA.rglob("*") if path.suffix in (".csv", ".parquet")} == {
        "ADABTC-1m-2021-11-27.csv",
        "binance-futures_book_snapshot_25_BTCUSDT.csv",
        "binance-futures_book_snapshot_5_BTCUSDT.csv",
        "bitmex_trades_XBTUSD.csv",
        "btc-perp-20211231-20220201_1m.csv",
        "btcusdt-depth-snap.csv",
        "btcusdt-depth-update.csv",
        "btcusdt-quotes.parquet",
        "btcusdt-trades.parquet",
        "deribit_incremental_book_L2_BTC-PERPETUAL.csv",
        "huobi-dm-swap_quotes_BTC-USD.csv",
        "BTCUSDT-fundingRate-2025-07.csv",
        "ETHUSDT-fundingRate-2025-07.csv",
        "SOLUSDT-fundingRate-2025-07.csv",
    }


def test_spot_klines(read: Reader) -> None:
    """Twelve columns without a header; the bar has the time of its close."""
    with (DATA / "samples/ADABTC-1m-2021-11-27.csv").open() as file:
        expected = [(int(row[6]) * 10**6, *decimals(*row[1:6])) for row in csv.reader(file)]

    assert [
        (bar.ts_event, *decimals(bar.open, bar.high, bar.low, bar.close, bar.volume))
        for bar in read(Bar, "ADABTC.BINANCE_SPOT-1-MINUTE-LAST-EXTERNAL")
    ] == expected


def test_perpetual_klines(read: Reader) -> None:
    """45,031 bars with times as text and volumes that were summed as floats."""
    names = ("open", "high", "low", "close", "volume")
    expected = [
        (
            (datetime.fromisoformat(f"{row['timestamp']}+00:00") - EPOCH)
            // timedelta(microseconds=1)
            * 1000,
            *decimals(*(row[name] for name in names)),
        )
        for row in rows_of("samples/btc-perp-20211231-20220201_1m.csv")
    ]

    assert [
        (bar.ts_event, *decimals(bar.open, bar.high, bar.low, bar.close, bar.volume))
        for bar in read(Bar, "BTC-PERP.FTX-1-MINUTE-LAST-EXTERNAL")
    ] == expected


def test_trades_of_another_venue(read: Reader) -> None:
    """Ids that are text, both of the recorder's times, contracts as sizes."""
    sides = {AggressorSide.BUYER: "buy", AggressorSide.SELLER: "sell"}

    assert [
        (
            str(tick.trade_id),
            sides[tick.aggressor_side],
            *decimals(tick.price, tick.size),
            tick.ts_event,
            tick.ts_init,
        )
        for tick in read(TradeTick, "XBTUSD.BITMEX")
    ] == [
        (
            row["id"],
            row["side"],
            *decimals(row["price"], row["amount"]),
            int(row["timestamp"]) * 1000,
            int(row["local_timestamp"]) * 1000,
        )
        for row in rows_of("samples/bitmex_trades_XBTUSD.csv")
    ]


def test_quotes_of_another_venue(read: Reader) -> None:
    """Best bid and ask of an inverse swap."""
    assert [
        (
            *decimals(tick.bid_price, tick.ask_price, tick.bid_size, tick.ask_size),
            tick.ts_event,
            tick.ts_init,
        )
        for tick in read(QuoteTick, "BTC-USD.HUOBI")
    ] == [
        (
            *decimals(row["bid_price"], row["ask_price"], row["bid_amount"], row["ask_amount"]),
            int(row["timestamp"]) * 1000,
            int(row["local_timestamp"]) * 1000,
        )
        for row in rows_of("samples/huobi-dm-swap_quotes_BTC-USD.csv")
    ]


def near(size: float) -> Decimal:
    """Return what a size was before arithmetic: some are off by the last bit of a float64."""
    exact = Decimal(size).quantize(Decimal("0.000001"))
    assert abs(Decimal(size) - exact) <= Decimal("1e-12")
    return exact


def test_raw_quotes(read: Reader) -> None:
    """Parquet of float64: the decimals that the floats stand for."""
    assert [
        (
            *decimals(tick.bid_price, tick.ask_price, tick.bid_size, tick.ask_size),
            tick.ts_event,
        )
        for tick in read(QuoteTick, "BTCUSDT.BINANCE_SPOT")
    ] == [
        (
            *decimals(row["bid"], row["ask"], near(row["bid_size"]), near(row["ask_size"])),
            (row["timestamp"] - EPOCH) // timedelta(milliseconds=1) * 10**6,
        )
        for row in pq.read_table(DATA / "samples/btcusdt-quotes.parquet").to_pylist()
    ]


def test_raw_trades(read: Reader) -> None:
    """Parquet of float64, the maker's side as text."""
    sides = {"True": AggressorSide.SELLER, "False": AggressorSide.BUYER}

    assert [
        (str(tick.trade_id), tick.aggressor_side, *decimals(tick.price, tick.size), tick.ts_event)
        for tick in read(TradeTick, "BTCUSDT.BINANCE_SPOT")
    ] == [
        (
            str(row["trade_id"]),
            sides[row["buyer_maker"]],
            *decimals(row["price"], near(row["quantity"])),
            (row["timestamp"] - EPOCH) // timedelta(milliseconds=1) * 10**6,
        )
        for row in pq.read_table(DATA / "samples/btcusdt-trades.parquet").to_pylist()
    ]


@pytest.mark.parametrize("symbol", ["BTC", "ETH", "SOL"])
def test_funding(read: Reader, symbol: str) -> None:
    """The settlement is on the hour; the file's time is up to 16 ms later."""
    expected = rows_of(f"binance_funding/{symbol}USDT-fundingRate-2025-07.csv")
    found = read(FundingRateUpdate, f"{symbol}USDT-PERP.BINANCE_FUTURES")

    assert [(Decimal(each.rate), each.interval) for each in found] == [
        (Decimal(row["last_funding_rate"]), 60 * int(row["funding_interval_hours"]))
        for row in expected
    ]
    for each, row in zip(found, expected, strict=True):
        assert each.ts_event % (3600 * 10**9) == 0
        assert 0 <= int(row["calc_time"]) * 10**6 - each.ts_event <= 16 * 10**6
