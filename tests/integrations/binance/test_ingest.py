"""`ingest`: each row once, whatever is there already, and nothing of a file that is refused."""

import fcntl
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from nautilus_trader.model.data import (
    Bar,
    FundingRateUpdate,
    MarkPriceUpdate,
    QuoteTick,
    TradeTick,
)
from nautilus_trader.model.objects import PRICE_MAX, QUANTITY_MAX

from integrations.binance import dumps, exact
from tests.integrations.binance.dump_files import DAY_MS, put, trades
from tests.integrations.binance.ingest_rig import Ingest

US = DAY_MS * 1000
DAY_US = 86_400_000_000
ROOT = Path(__file__).parents[3]
DAY_1, DAY_2 = "BTCUSDT-trades-2025-07-01.csv", "BTCUSDT-trades-2025-07-02.zip"


@pytest.fixture
def ingest(tmp_path, capsys, monkeypatch):
    """With small blocks and chunks, so that a file has several."""
    monkeypatch.setattr("integrations.binance.source_files.BLOCK_BYTES", 300)
    monkeypatch.setitem(dumps.chunks.__kwdefaults__, "limit", 10)
    return Ingest(tmp_path, capsys)


def day(number: int, rows: int = 25) -> str:
    first = number * rows + 1
    return trades([US + number * DAY_US + n for n in range(rows)], first_id=first)


def test_a_day_goes_in_and_comes_out(ingest):
    """In order, in as many files as chunks."""
    put(ingest.source, DAY_1, day(0))

    assert ingest() == 0
    assert ingest.ids == [*range(1, 26)]
    assert len(ingest.files()) == 1 + 3  # the instrument, the chunks
    assert ingest.out.splitlines() == [
        f"{DAY_1}: trades, 25 rows",
        f"{ingest.catalog}: 25 new rows of 1 files, 0 refused",
    ]


def test_again_there_is_nothing_new(ingest):
    """Idempotent, by content: another name makes no difference."""
    path = put(ingest.source, DAY_1, day(0))
    ingest()
    before = ingest.files()
    path.rename(path.with_name("BTCUSDT-trades-again.csv"))

    assert ingest() == 0
    assert ingest.files() == before
    assert "nothing new" in ingest.out


def test_days_are_added(ingest):
    """Incremental: only the new file is read, whichever comes first in time."""
    put(ingest.source, DAY_2, day(1))
    ingest()
    before = ingest.files()
    put(ingest.source, DAY_1, day(0))

    assert ingest() == 0
    assert ingest.ids == [*range(1, 51)]
    assert ingest.files().items() > before.items()
    assert f"{DAY_2}: trades, nothing new" in ingest.out


def test_other_symbols_are_left_alone(ingest):
    """What was not asked for is not looked at, not even refused."""
    put(ingest.source, DAY_1, day(0))
    put(ingest.source, "ETHUSDT-trades-2025-07-01.csv", "no data\n")

    assert ingest() == 0
    assert len(ingest.ids) == 25


def test_a_refused_file_leaves_nothing(ingest):
    """Its third chunk is bad; the day before is in all the same. Repaired, it goes in."""
    put(ingest.source, DAY_1, day(0))
    bad = put(ingest.source, DAY_2, day(1).replace("0.00025000", "0.000251"))

    assert ingest() == 65
    assert ingest.ids == [*range(1, 26)]
    assert ingest.err.startswith(f"refused: {bad}: line 25, column qty: '0.000251' has more")
    assert "25 new rows of 2 files, 1 refused" in ingest.out

    put(ingest.source, DAY_2, day(1))
    assert ingest() == 0
    assert ingest.ids == [*range(1, 51)]


def test_a_refused_file_is_in_nobodys_way(ingest):
    """What it had brought may come from another file, in the same run."""
    put(ingest.source, "BTCUSDT-trades-a.csv", day(0) + "26,broken\n")
    put(ingest.source, "BTCUSDT-trades-b.csv", day(0))

    assert ingest() == 65
    assert ingest.ids == [*range(1, 26)]


@pytest.mark.parametrize(("first", "other"), [(25, 50), (50, 25), (25, 13)])
def test_two_sources_of_the_same_time(ingest, first, other):
    """A month beside one of its days: the second is refused, and takes nothing with it."""
    rows = (day(0) + day(1)).splitlines(keepends=True)
    put(ingest.source, "BTCUSDT-trades-a.csv", "".join(rows[:first]))
    ingest()
    before = ingest.files()
    put(ingest.source, "BTCUSDT-trades-b.csv", "".join(rows[:other]))

    assert ingest() == 65
    assert ingest.files() == before
    assert f"refused: {ingest.source}/BTCUSDT-trades-b.csv: " in ingest.err
    assert "keep one" in ingest.err


@pytest.mark.parametrize(
    "line", ['{"content": "1', '{"content": "x", "kind": "trades", "instrument": "y", "rows": 5']
)
def test_a_torn_line_of_the_journal_is_dropped(ingest, line):
    """The process was killed while it wrote the line: its chunk is written again, as it was."""
    put(ingest.source, DAY_1, day(0))
    ingest()
    before = ingest.files()
    path = ingest.catalog / "ingest.jsonl"
    kept = path.read_text().splitlines(keepends=True)[:2]
    path.write_text("".join(kept) + line)

    assert ingest() == 0
    assert ingest.files() == before
    assert [record["rows"] for record in ingest.journal()] == [10, 20, 25, 25]


def test_one_process_at_a_time(ingest):
    """Two would write the same chunks."""
    put(ingest.source, DAY_1, day(0))
    ingest()
    with (ingest.catalog / "ingest.jsonl").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        assert ingest() == 75
    assert "another process writes into this catalog" in ingest.err


def test_an_unknown_symbol(ingest):
    """Ticks and lots are never guessed: 2, and how to write them down."""
    put(ingest.source, "DOGEUSDT-trades-2025-07-01.csv", day(0))

    assert ingest(symbols="DOGEUSDT") == 2
    assert "DOGEUSDT: no instrument of the spot market is known" in ingest.err
    assert "--instruments FILE.json" in ingest.err
    assert not ingest.catalog.exists()


def test_instruments_of_the_user(ingest, tmp_path):
    """The example of the message is a file that works; a broken one says what is wrong."""
    row = f"1,0.17001,3,0.51,{US},True,True\n"
    put(ingest.source, "DOGEUSDT-trades-2025-07-01.csv", row)
    ingest(symbols="DOGEUSDT")
    example = ingest.err[ingest.err.index("[{") : ingest.err.index("}]") + 2]
    table = tmp_path / "instruments.json"
    table.write_text(example)

    assert ingest("--instruments", str(table), symbols="DOGEUSDT") == 0
    assert ingest.ids == [1]

    table.write_text(example.replace('"tick": "0.00001", ', ""))
    assert ingest("--instruments", str(table), symbols="DOGEUSDT") == 2
    assert f"{table}: a row lacks 'tick'; write it like" in ingest.err


def test_a_catalog_of_other_ticks(ingest, tmp_path):
    """An instrument does not change under its rows."""
    put(ingest.source, DAY_1, day(0))
    ingest()
    row = {"id": "BTCUSDT.BINANCE_SPOT", "symbol": "BTC", "leg": "spot", "tick": "0.1"}
    row |= {"lot": "1", "min_notional": "1", "fee": "0", "base": "BTC", "quote": "USDT"}
    (tmp_path / "i.json").write_text(json.dumps([row]))

    assert ingest("--instruments", str(tmp_path / "i.json")) == 2
    assert "has other ticks, lots or fees here" in ingest.err


def test_futures(ingest):
    """Funding on the hour, marks at the minute, quotes and bars, each of its own type."""
    kline = f"{DAY_MS},107000.1,107000.3,107000.0,107000.2,1.5,{DAY_MS + 59_999},1,9,1,1,0\n"
    put(ingest.source, "fundingRate/BTCUSDT-fundingRate-2025-07.csv", f"{DAY_MS + 7},8,0.0001\n")
    put(ingest.source, "markPriceKlines/BTCUSDT-1m-2025-07-01.csv", kline)
    put(ingest.source, "klines/BTCUSDT-1m-2025-07-01.csv", kline)
    put(ingest.source, "BTCUSDT-bookTicker-1.csv", f"9,1.1,1,1.2,1,{DAY_MS},{DAY_MS}\n")

    assert ingest("--market", "futures") == 0

    found = [ingest.reader.query(c) for c in (FundingRateUpdate, MarkPriceUpdate, Bar, QuoteTick)]
    assert [len(rows) for rows in found] == [1, 1, 1, 1]
    ((rate,), (mark,), (bar,), (quote,)) = found
    assert rate.ts_event == mark.ts_event == DAY_MS * 10**6
    assert str(mark.value) == "107000.10"
    assert bar.ts_event == (DAY_MS + 59_999) * 10**6
    assert str(bar.close) == "107000.20"
    assert str(quote.instrument_id) == "BTCUSDT-PERP.BINANCE_FUTURES"


def test_funding_is_of_futures(ingest):
    """Spot has none: the file is refused, with the option that is missing."""
    put(ingest.source, "BTCUSDT-fundingRate-2025-07.csv", f"{DAY_MS + 7},8,0.0001\n")

    assert ingest() == 65
    assert "belongs to futures; use --market futures" in ingest.err


# Raised inside nautilus_trader 1.231.
@pytest.mark.filterwarnings("ignore:The inplace keyword:pandas.errors.Pandas4Warning")
def test_both_wranglers(ingest):
    """The option changes how rows are converted, not what comes out."""
    put(ingest.source, DAY_1, day(0))
    ingest()
    fast = ingest.files()
    ingest.catalog = ingest.catalog.with_name("v1")
    ingest("--wrangler", "v1")

    assert [*ingest.files()] == [*fast]
    for name in fast:
        a, b = (pq.read_table(pa.BufferReader(files[name])) for files in (fast, ingest.files()))
        assert a.equals(b)


def test_progress(ingest, monkeypatch):
    """What takes longer than two seconds says how far it is; here everything does."""
    monkeypatch.setattr("integrations.binance.progress.AFTER_SECONDS", -1)
    monkeypatch.setattr("integrations.binance.progress.EVERY_SECONDS_IN_LOGS", 0)
    put(ingest.source, DAY_1, day(0))
    put(ingest.source, DAY_2, day(1))

    ingest()

    shares = [int(line.split()[-1].rstrip("%")) for line in ingest.err.splitlines()]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 100)
    assert f"ingest: {DAY_1} " in ingest.err


def test_nothing_to_ingest(ingest):
    """Usage: how files must be named."""
    assert ingest() == 2
    assert "no file of BTCUSDT was found; name them as" in ingest.err


def test_the_largest_numbers(ingest):
    """Nautilus reads them back; what is above them would end the process that reads it."""
    row = "1,{0},{1},1.5,{2},True,True\n"
    put(ingest.source, DAY_1, row.format("17014118346046.00", "34028236692093.00000", US))

    assert ingest() == 0
    (tick,) = ingest.reader.query(TradeTick)
    assert (str(tick.price), str(tick.size)) == ("17014118346046.00", "34028236692093.00000")
    assert (exact.PRICE_MAX, exact.QUANTITY_MAX) == (PRICE_MAX, QUANTITY_MAX)


def test_a_catalog_that_cannot_be_written(ingest):
    """A file is in the way."""
    put(ingest.source, DAY_1, day(0))
    ingest.catalog.write_text("")

    assert ingest() == 74
    assert "cannot read or write" in ingest.err


def test_without_nautilus(tmp_path):
    """`verify` works; `ingest` says what to install."""
    put(tmp_path, DAY_1, day(0))
    code = (
        "import sys; sys.modules['nautilus_trader'] = None\n"
        "from integrations.binance.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    words = ["--source", str(tmp_path), "--symbols", "BTCUSDT"]
    ended = [
        subprocess.run(
            [sys.executable, "-c", code, *command, *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
        )
        for command in (["verify"], ["ingest", "--catalog", str(tmp_path / "catalog")])
    ]

    assert [each.returncode for each in ended] == [0, 2], ended
    assert ended[1].stderr == "nautilus_trader is not installed: pip install -r requirements.txt\n"
