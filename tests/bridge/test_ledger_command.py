"""`python -m bridge ledger`: the three forms say the same, exactly."""

import csv
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bridge import exits
from bridge.exits import Exit
from bridge.ledger import Ledger
from bridge.ledger_command import report
from tests.bridge.fills import BNB, PERP, START_NS, STREAMS, fill, foreign, funding
from tests.bridge.journals import erase

D = Decimal
ORDER = {"venue_order_id": "V-1", "ts_ns": str(START_NS + 10**12)}
ITEMS = [
    fill(1, qty="3", price="100.123456789012", fee="0.1"),
    fill(2, side="SELL", qty="1", price="110", fee="0.000000000001", strategy_id='S "2", b'),
    fill(3, qty="5", price="10", **PERP),
    fill(4, side="SELL", qty="2", price="12.5", account="A-2", **BNB),
    funding(1),
    fill(5, fee="0.5", fee_ccy="BNB", fee_quote=""),
    fill(6, fee="0.25", fee_ccy="ETH", fee_quote="7", **PERP),
    fill(7, side="BUY", qty="2", price="1", symbol="ETHUSDT", base_ccy="ETH"),
    fill(8, qty="2", provisional="1", **ORDER),
    fill(9, qty="1", **ORDER),
    fill(10, qty="9", fill_id="T.0123abcd.1-f1"),
    foreign("77-1", without=["side"], symbol="\x1b[2JX"),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    ledger = Ledger.open(tmp_path / "ledger.db", STREAMS)
    ledger.take(ITEMS, {})
    ledger.close()
    return tmp_path / "ledger.db"


def _json(path: Path, **options: Any) -> Any:
    lines, code = report(path, form="json", **options)
    assert code == exits.DONE
    return json.loads("\n".join(lines))


def _csv(path: Path, **options: Any) -> list[dict[str, str]]:
    lines, code = report(path, form="csv", **options)
    assert code == exits.DONE
    text = "".join([f"{line}\n" for line in lines])
    assert text.count("\n") == text.count("\r\n")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def _table(path: Path, **options: Any) -> str:
    lines, code = report(path, **options)
    assert code == exits.DONE
    return "\n".join(lines)


def test_totals(path: Path) -> None:
    """Price PnL, fees, funding and net stand apart, a row a book and currency, exact."""
    totals = _json(path, by=["account", "venue", "symbol"])["totals"]
    rows = {(row["account"], row["symbol"]): row for row in totals}
    assert rows.keys() == {("A-1", "BTCUSDT"), ("A-1", "BTCUSDT-PERP")}
    spot, perp = rows["A-1", "BTCUSDT"], rows["A-1", "BTCUSDT-PERP"]
    assert (spot["pnl"], spot["fees"]) == ("9.876543210988", "0.100000000001")
    assert (spot["ccy"], spot["net"]) == ("USDT", "9.776543210987")
    assert (D(perp["fees"]), D(perp["funding"]), D(perp["net"])) == (7, D("-1.5"), D("-8.5"))


@pytest.mark.parametrize(
    "by", [(), ("day",), ("strategy", "account"), ("account", "venue", "symbol", "strategy", "day")]
)
def test_by(path: Path, by: tuple[str, ...]) -> None:
    """Whatever the rows are summed up by, they come to the same, in JSON and in CSV."""
    rows = _json(path, by=by)["totals"]
    assert all(tuple(row)[: len(by)] == by for row in rows)
    assert len({tuple(row[name] for name in (*by, "ccy")) for row in rows}) == len(rows)
    assert sum(D(row["net"]) for row in rows) == D("1.276543210987")
    assert _csv(path, by=by) == rows


def test_unknown_column(path: Path) -> None:
    """A column that there is not is a mistake of usage, and the known ones are named."""
    with pytest.raises(Exit, match="no such column: color; known: account") as error:
        report(path, by=["account", "color"])
    assert error.value.code == exits.USAGE


def test_gains(path: Path) -> None:
    """Each gain names its lot and the fill that closed it; the same in JSON, CSV and table."""
    assert "gains" not in _json(path)
    [gain] = _json(path, gains=True)["gains"]
    assert (gain["lot"], gain["fill_id"]) == ("T.0123abcd.1-f1", "T.0123abcd.1-f2")
    assert (gain["qty"], gain["open_price"], gain["close_price"]) == (
        "1",
        "100.123456789012",
        "110",
    )
    assert (gain["strategy"], gain["pnl"]) == ('S "2", b', "9.876543210988")
    assert gain["open_fee"] == f"{D('0.1') / 3:.24f}"
    assert _csv(path, gains=True) == [{name: str(value) for name, value in gain.items()}]
    assert f"{gain['lot']}  {gain['fill_id']}" in _table(path, gains=True)


def test_open_lots(path: Path) -> None:
    """Every open lot is told with what is left of it."""
    lots = {(lot["fill_id"][-2:]): lot for lot in _json(path)["lots"]}
    assert lots.keys() == {"f1", "f3", "f4", "f5", "f6", "f7", "f8"}
    assert (lots["f1"]["qty"], lots["f4"]["qty"]) == ("2", "-2")
    assert lots["f1"]["value"] == "200.246913578024"


def test_what_is_not_settled(path: Path) -> None:
    """What is not priced, waits, was replaced, is dead or in conflict is told with its numbers."""
    said = _json(path)
    assert [(row["ccy"], row["amount"]) for row in said["unpriced"]] == [("BNB", "0.5")]
    assert [(row["symbol"], row["amount"]) for row in said["unlotted"]] == [("ETHUSDT", "0.25")]
    assert [row["fill_id"][-2:] for row in said["waiting"]] == ["f9"]
    assert said["replaced"] == []
    assert [row["id"] for row in said["dead"]] == ["77-1"]
    assert [row["id"] for row in said["conflicts"]] == ["10-0"]
    counts = said["counts"]
    assert (counts["fills"], counts["funding"], counts["provisional"]) == (9, 1, 1)
    assert (counts["dead"], counts["conflicts"]) == (2, 1)


def test_table(path: Path) -> None:
    """The table rounds to what can be read, and shows nothing that a terminal would obey."""
    text = _table(path)
    assert "9.87654321" in text
    assert "9.876543210988" not in text
    for title in ("1 fees without a price", "1 payments", "1 fills of the venue", "1 entries"):
        assert f"\n{title}" in text
    assert "1 fills in conflict" in text
    assert all(each.isprintable() for line in text.split("\n") for each in line)
    assert text.endswith("2 dead, 1 own_dead, 1 conflicts")


def test_empty(tmp_path: Path) -> None:
    """An empty ledger is a ledger: nothing in it, and no complaint."""
    path = tmp_path / "ledger.db"
    Ledger.open(path, STREAMS).close()
    assert _table(path, gains=True).count("none") == 3
    assert _csv(path) == []
    assert _json(path)["totals"] == []


def test_beside_a_writer(path: Path) -> None:
    """It reads while somebody writes, also in the middle of the writer's transaction."""
    ledger = Ledger.open(path, STREAMS)
    ledger._database.execute("BEGIN IMMEDIATE")
    ledger._database.execute("DELETE FROM lot")
    assert len(_json(path)["lots"]) == 7
    ledger._database.execute("ROLLBACK")
    ledger.close()


def test_no_ledger(tmp_path: Path) -> None:
    """Where there is none it says so."""
    with pytest.raises(Exit, match="no ledger is there") as error:
        report(tmp_path / "ledger.db")
    assert error.value.code == exits.BAD_DATA


def test_damaged(path: Path) -> None:
    """A ledger that turns out to be damaged while it is read is refused, and named."""
    erase(path, 8192, path.stat().st_size)
    with pytest.raises(Exit, match=r"ledger\.db") as error:
        report(path)
    assert error.value.code == exits.BAD_DATA
