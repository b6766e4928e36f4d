"""bridge/status/books.py: books that stand still are told from books of a quiet hour."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from bridge.config import load
from bridge.ledger import Ledger
from bridge.readers import Places
from bridge.status import books as module
from bridge.status.books import Books
from bridge.status.recent import Recent
from tests.bridge.fills import PRODUCER, START_NS, STREAMS, fill
from tests.bridge.status.serving import NO_REDIS
from tests.bridge.status.test_recent import entry

BTC = ("BINANCE", "BTCUSDT")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was told before the last look is to be booked."""
    monkeypatch.setattr(module, "LATE_SECONDS", 0.0)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.open(tmp_path / "ledger.db", STREAMS)
    yield ledger
    ledger.close()


def books_of(folder: Path, recent: Recent, reader: str = "alone") -> Books:
    config = load(None, environ={"BRIDGE_LEDGER__READER": reader})
    return Books(Places(config, NO_REDIS, folder), recent)


def told(recent: Recent, *seqs: int, producer: str = PRODUCER) -> None:
    for seq in seqs:
        recent.take("fills", entry("fills", seq, producer))


def test_books_whose_reader_has_died(ledger: Ledger, tmp_path: Path) -> None:
    """Fills that were told before the last look and are not booked make them late: how many there
    are is told, and no price is asked for. Once they are booked all is well."""
    recent = Recent()
    books = books_of(tmp_path, recent)
    told(recent, 1, 2)
    ledger.take([fill(1), fill(2)], {})
    books.look()
    told(recent, 3, 4, 5)
    books.look()
    fresh = books.document()
    books.look()
    late, wanted = books.document(), books.instruments()
    ledger.take([fill(3), fill(4), fill(5)], {})
    books.look()

    assert (fresh["behind"], fresh["late"]) == (3, False)
    assert (late["behind"], late["late"], wanted) == (3, True, set())
    assert late["booked_ns"] == START_NS + 2 * 10**9
    now = books.document()
    assert (now["behind"], now["late"], books.instruments()) == (0, False, {BTC})
    assert now["read_ns"] > late["read_ns"] > fresh["read_ns"]


def test_what_an_earlier_process_told(ledger: Ledger, tmp_path: Path) -> None:
    """Fills from before the start, as Redis has them, are missed as well."""
    recent = Recent()
    books = books_of(tmp_path, recent)
    ledger.take([fill(1)], {})
    recent.recall([("fills", entry("fills", seq)) for seq in (1, 2, 3)])
    told(recent, 1, producer="T.0123abcd.2")
    books.look()

    assert books.behind == 3
    assert not books.document()["late"]
    books.look()
    assert books.document()["late"]


def test_books_that_cannot_be_read_any_more(ledger: Ledger, tmp_path: Path) -> None:
    """What they held stays, with the reason, and is not valued at prices of now."""
    ledger.take([fill(1)], {})
    books = books_of(tmp_path, Recent(), "inside")
    books.look()
    read_ns = books.document()["read_ns"]
    (tmp_path / "ledger.db").rename(tmp_path / "moved.db")
    books.look()

    said = books.document()
    assert (said["late"], said["read_ns"]) == (True, read_ns)
    assert "no ledger is there" in said["problem"]
    assert books.instruments() == set()
    [position] = books.positions({})
    assert (position["qty"], position["unrealized_pnl"]) == ("1", "")


def test_old_books_are_not_valued_at_prices_of_now(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were read for the last page that looked on."""
    ledger.take([fill(1)], {})
    books = books_of(tmp_path, Recent())
    books.look()
    assert books.instruments() == {BTC}
    monkeypatch.setattr(module, "OLD_SECONDS", 0.0)

    assert books.instruments() == set()
    assert not books.document()["late"]


def test_there_are_none(tmp_path: Path) -> None:
    """Before the first look, and where there is no ledger yet: nothing is known, nothing late."""
    books = books_of(tmp_path, Recent())
    before = books.document()
    books.look()
    said = books.document()

    assert (before["read_ns"], before["problem"]) == (None, "")
    assert "no ledger is there" in said["problem"]
    assert (said["read_ns"], said["behind"], said["late"]) == (None, None, False)
    assert books.day() is None


def test_without_a_ledger(tmp_path: Path) -> None:
    """Positions that were told, in the currency in which the last fills say they settle."""
    recent = Recent()
    books = books_of(tmp_path, recent, "off")
    spot = {"venue": "BINANCE", "symbol": "BTCUSDT"}
    inverse = {"venue": "DERIBIT", "symbol": "BTC-PERPETUAL"}
    ccys = {"base_ccy": "BTC", "quote_ccy": "USD"}
    recent.take("fills", entry("fills", 1, **spot, **ccys, inverse="0"))
    recent.take("fills", entry("fills", 2, **inverse, **ccys, inverse="1"))
    for seq, names in enumerate((spot, inverse, {"venue": "X", "symbol": "Y"})):
        held = entry("positions", seq, **names, side="LONG", position_id=f"P-{seq}")
        recent.take("positions", held)
    books.look()

    assert [each["ccy"] for each in books.positions({})] == ["USD", "BTC", ""]
    said = books.document()
    assert (said["reader"], said["positions_total"], said["problem"]) == ("off", 3, "")


def test_more_positions_than_are_sent(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many there are is told."""
    monkeypatch.setattr("bridge.status.holdings.POSITIONS_MAX", 2)
    ledger.take([fill(seq, symbol=f"B{seq}") for seq in (1, 2, 3)], {})
    books = books_of(tmp_path, Recent())
    books.look()

    assert len(books.positions({("BINANCE", "B1"): Decimal(7)})) == 2
    assert books.document()["positions_total"] == 3
