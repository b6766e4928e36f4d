"""`ingest` of files of another market than the one asked for: never into the wrong instrument."""

import pytest

from tests.integrations.binance.dump_files import DAY_MS, TRADES_HEADER, put, trades
from tests.integrations.binance.ingest_rig import Ingest

US = DAY_MS * 1000
TARDIS = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n{0},BTCUSDT,"
TARDIS += f"{US},{US},1,buy,100.5,0.5\n"
TRADE = f"1,100.5,0.5,50.25,{DAY_MS},true\n"
AGGREGATE = f"1,100.5,0.5,1,3,{DAY_MS},true\n"
AGGREGATE_HEADER = (
    "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker\n"
)
TICKER = f"9,100.1,1,100.2,1,{DAY_MS},{DAY_MS}\n"


def kline(opened: int, minute: int) -> str:
    return f"{opened},100,102,99,101,5,{opened + minute - 1},0,0,0,0,0\n"


FUTURES = [
    ("BTCUSDT.csv", TARDIS.format("binance-futures"), "binance-futures in its column exchange"),
    ("futures/um/daily/BTCUSDT-trades-1.csv", trades([US]), "what is below futures/um"),
    ("futures/cm/daily/BTCUSDT-trades-1.csv", trades([US]), "what is below futures/cm"),
    ("BTCUSDT-trades-1.csv", TRADE, "a dump of trades without is_best_match"),
    ("BTCUSDT-trades-1.zip", f"{TRADES_HEADER}\n{TRADE}", "trades without is_best_match"),
    ("BTCUSDT-aggTrades-1.csv", AGGREGATE, "a dump of aggTrades without is_best_match"),
    ("BTCUSDT-aggTrades-1.csv", AGGREGATE_HEADER + AGGREGATE, "aggTrades without is_best_match"),
    ("BTCUSDT-bookTicker-1.csv", TICKER, "a dump of bookTicker"),
    ("BTCUSDT-1m-1.csv", kline(DAY_MS, 60_000), "a dump of klines in milliseconds since 2025"),
]
SPOT = [
    ("BTCUSDT.csv", TARDIS.format("Binance"), "what has binance in its column exchange"),
    ("spot/daily/BTCUSDT-trades-1.csv", TRADE, "what is below spot/daily"),
    ("BTCUSDT-trades-1.csv", trades([US]), "a dump with is_best_match"),
    ("BTCUSDT-aggTrades-1.csv", AGGREGATE.strip() + ",true\n", "a dump with is_best_match"),
    ("BTCUSDT-1m-1.csv", kline(US, 60_000_000), "a dump of klines in microseconds"),
]


@pytest.fixture
def ingest(tmp_path, capsys):
    return Ingest(tmp_path, capsys)


@pytest.mark.parametrize(
    ("market", "name", "text", "why"),
    [("futures", *each) for each in FUTURES] + [("spot", *each) for each in SPOT],
)
def test_the_other_market(ingest, market, name, text, why):
    """It is refused with the reason and the option that is right; the option helps."""
    path = put(ingest.source, name, text)
    other = "spot" if market == "futures" else "futures"

    assert ingest("--market", other) == 65
    assert f"refused: {path}: " in ingest.err
    assert f"{why} belongs to {market}; use --market {market}" in ingest.err
    assert not [name for name in ingest.files() if "BTCUSDT" in name]

    if "/" not in name:  # there, the rows say otherwise than the folder
        assert ingest("--market", market) == 0, ingest.err


def test_the_folder_that_source_names_counts(ingest, monkeypatch):
    """Only the end of the path may be on the command line."""
    put(ingest.source, "futures/um/daily/BTCUSDT-trades-1.csv", trades([US]))
    monkeypatch.chdir(ingest.source / "futures/um/daily")

    assert ingest("--source", ".") == 65
    assert "what is below futures/um belongs to futures" in ingest.err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("BTCUSDT.csv", TARDIS.format("okex")),
        ("spot/daily/trades/BTCUSDT-trades-1.csv", trades([US])),
        ("BTCUSDT-1m-2024.csv", kline(1_735_689_540_000, 60_000)),
        ("BTCUSDT-1m.csv", f"timestamp,open,high,low,close,volume\n{DAY_MS},1,1,1,1,1\n"),
    ],
)
def test_what_may_be_spot(ingest, name, text):
    """Another venue, the folder of spot, spot until 2024, what is no dump."""
    put(ingest.source, name, text)

    assert ingest() == 0, ingest.err


def test_two_exchanges_in_a_file(ingest):
    """One file is of one instrument."""
    text = TARDIS.format("binance") + TARDIS.format("binance-futures").splitlines()[1] + "\n"
    put(ingest.source, "BTCUSDT.csv", text)

    assert ingest() == 65
    assert "line 3, column exchange: binance-futures is another exchange than in" in ingest.err


def test_trades_and_aggregated_trades(ingest):
    """Both would be trades of one instrument: the second kind is refused, the next files go in."""
    aggregate = f"1,100.50,0.5,1,3,{US},true,true\n"
    put(ingest.source, "BTCUSDT-aggTrades-2025-07-01.csv", aggregate)
    mixed = put(ingest.source, "BTCUSDT-trades-2025-07-02.csv", trades([US + 86_400_000_000]))
    put(ingest.source, "a/ETHUSDT-trades-2025-07-02.csv", f"1,1.5,0.5,1,{US},true,true\n")

    assert ingest(symbols="BTCUSDT ETHUSDT") == 65
    message = f"refused: {mixed}: numbers its trades in another way than BTCUSDT-aggTrades-2025"
    assert message in ingest.err
    assert "2 new rows of 3 files, 1 refused" in ingest.out
