"""bridge/status/holdings.py: what the page shows of a ledger is what closing it would bring."""

import random
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from bridge.exits import Exit
from bridge.ledger import Ledger
from bridge.reading import Item
from bridge.status import holdings
from tests.bridge.fills import DAY_NS, INVERSE, PERP, PRODUCER, START_NS, STREAMS, fill, funding

D = Decimal
BOOKS = {"spot": {}, "perpetual": PERP, "inverse": INVERSE}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.open(tmp_path / "ledger.db", STREAMS)
    yield ledger
    ledger.close()


def shown(path: Path, mark: str = "", **changes: str) -> list[dict[str, object]]:
    """Return the page's positions, all of them valued at one price."""
    known = holdings.read(path, START_NS)
    marks = {(each.venue, each.symbol): D(mark) for each in known.open} if mark else {}
    return holdings.positions(known, marks)


def take(ledger: Ledger, *items: Item) -> None:
    assert ledger.take(items, {}) == []


def test_a_position_with_its_lots(ledger: Ledger, tmp_path: Path) -> None:
    """Two purchases, a part of the first sold again: what is left of both, its average, what the
    sale brought less all fees."""
    take(
        ledger,
        fill(1, qty="2", price="100.0", fee="0.2"),
        fill(2, qty="1", price="110.0", fee="0.11"),
        fill(3, side="SELL", qty="1", price="120.0", fee="0.12"),
    )

    [position] = shown(tmp_path / "ledger.db", "130")

    assert position == {
        "account": "A-1",
        "venue": "BINANCE",
        "symbol": "BTCUSDT",
        "side": "LONG",
        "qty": "2",
        "avg_px": "105",
        "realized_pnl": "19.57",
        "unrealized_pnl": "50",
        "ccy": "USDT",
        "lots_total": 2,
        "lots": [
            {"qty": "1", "price": "100.0", "ts_ns": START_NS + 10**9},
            {"qty": "1", "price": "110.0", "ts_ns": START_NS + 2 * 10**9},
        ],
    }


@pytest.mark.parametrize("book", BOOKS)
@pytest.mark.parametrize("side", ["BUY", "SELL"])
def test_unrealized_is_what_closing_brings(
    ledger: Ledger, tmp_path: Path, book: str, side: str
) -> None:
    """At random prices and quantities, long and short, linear and inverse: closing everything at
    the mark realizes the very amount that was shown before."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    rng = random.Random(seed)
    path, terms = tmp_path / "ledger.db", BOOKS[book]
    qtys = [rng.randrange(1, 1000) for _ in range(25)]
    opening = [
        fill(seq, **terms, side=side, qty=str(qty), price=str(rng.randrange(1, 10**6)))
        for seq, qty in enumerate(qtys, 1)
    ]
    take(ledger, *opening)
    mark = str(rng.randrange(1, 10**6))
    [before] = shown(path, mark)

    other = {"BUY": "SELL", "SELL": "BUY"}[side]
    take(ledger, fill(99, **terms, side=other, qty=str(sum(qtys)), price=mark))

    gained = sum([each.pnl for each in ledger.gains()], start=D(0))
    assert shown(path) == []
    # Quotients of inverse contracts are rounded in the 24th place, each of them.
    assert abs(D(str(before["unrealized_pnl"])) - gained) < D("1e-20")
    assert (before["side"], before["lots_total"]) == ("LONG" if side == "BUY" else "SHORT", 25)
    assert len(before["lots"]) == holdings.LOTS_MAX  # type: ignore[arg-type]


def test_without_a_price_nothing_is_made_up(ledger: Ledger, tmp_path: Path) -> None:
    """A position that has no mark has no unrealized PnL."""
    take(ledger, fill(1))

    [position] = shown(tmp_path / "ledger.db")

    assert position["unrealized_pnl"] == ""


def test_the_day_by_currency(ledger: Ledger, tmp_path: Path) -> None:
    """Gains, fees and funding since midnight UTC, net, dollars of all kinds together; yesterday's
    do not count."""
    take(
        ledger,
        fill(1, qty="4", price="100"),
        fill(2, side="SELL", qty="1", price="900", ts_ns=str(START_NS - DAY_NS)),
        fill(3, side="SELL", qty="1", price="107", fee="0.5"),
        funding(1, amount="-1.5"),
        fill(4, **INVERSE, qty="10", price="100"),
        fill(5, **INVERSE, side="SELL", qty="10", price="200"),
    )

    known = holdings.read(tmp_path / "ledger.db", START_NS)
    assert holdings.day(known) == [{"amount": "5", "ccy": "USD"}, {"amount": "0.5", "ccy": "BTC"}]
    assert (known.taken, known.booked_ns) == ({PRODUCER: 5}, START_NS + 5 * 10**9)


def test_a_day_without_gains(ledger: Ledger, tmp_path: Path) -> None:
    """It brought no dollars."""
    known = holdings.read(tmp_path / "ledger.db", START_NS)

    assert holdings.day(known) == [{"amount": "0", "ccy": "USD"}]
    assert (known.taken, known.booked_ns, known.total) == ({}, None, 0)


@pytest.mark.parametrize("mark", ["NaN", "Infinity", "0"])
def test_what_is_no_price(ledger: Ledger, tmp_path: Path, mark: str) -> None:
    """A position is not valued at it."""
    take(ledger, fill(1))

    assert shown(tmp_path / "ledger.db", mark)[0]["unrealized_pnl"] == ""


def test_no_ledger(tmp_path: Path) -> None:
    """It is an Exit that says so."""
    with pytest.raises(Exit, match="no ledger"):
        holdings.read(tmp_path / "nowhere.db", START_NS)
