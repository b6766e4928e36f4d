"""The ledger: what is booked, once; what is not; what it keeps of where it was."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from bridge.core.spans import Spans
from bridge.ledger import Ledger
from bridge.reading import Item, Place
from tests.bridge.fills import (
    BNB,
    DAY_NS,
    INVERSE,
    PERP,
    PRODUCER,
    START_NS,
    STREAMS,
    fill,
    funding,
)

D = Decimal


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.open(tmp_path / "ledger.db", STREAMS)
    yield ledger
    assert ledger.state() == ledger.rebuilt()
    ledger.close()


def _pnl(ledger: Ledger) -> dict[str, tuple[Decimal, Decimal, Decimal]]:
    """By symbol and currency: price PnL, fees, funding."""
    sums: dict[str, tuple[Decimal, Decimal, Decimal]] = {}
    for total in ledger.totals():
        key = f"{total.symbol} {total.ccy}"
        pnl, fees, funding = sums.get(key, (D(0), D(0), D(0)))
        sums[key] = pnl + total.pnl, fees + total.fees, funding + total.funding
    return sums


def _lots(ledger: Ledger) -> list[tuple[str, Decimal, Decimal]]:
    return [(lot.symbol, lot.qty, lot.price) for lot in ledger.lots()]


HAND = [("BUY", 10, 100), ("BUY", 10, 110), ("SELL", 15, 120), ("SELL", 10, 90), ("BUY", 5, 95)]


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_hand_case(ledger: Ledger, batch: int) -> None:
    """Lots close oldest first and a flip closes and opens, whatever the size of the batches."""
    items = [
        fill(seq, side=side, qty=str(qty), price=str(price))
        for seq, (side, qty, price) in enumerate(HAND, 1)
    ]
    for start in range(0, len(items), batch):
        assert ledger.take(items[start : start + batch], {}) == []
    gains = [(gain.lot[-2:], gain.fill_id[-2:], gain.qty, gain.pnl) for gain in ledger.gains()]
    assert gains == [
        ("f1", "f3", 10, 200),
        ("f2", "f3", 5, 50),
        ("f2", "f4", 5, -100),
        ("f4", "f5", -5, -25),
    ]
    assert _lots(ledger) == []
    assert _pnl(ledger) == {"BTCUSDT USDT": (125, 0, 0)}


def test_open_lots_after_a_reopen(tmp_path: Path) -> None:
    """Books, cursor and places are the same after a close, and go on from there."""
    path, place = tmp_path / "ledger.db", Place("2-0", b"12345678")
    first = Ledger.open(path, STREAMS)
    first.take([fill(1, qty="2"), fill(2, price="110")], {"fills": place})
    state = first.state()
    first.close()
    again = Ledger.open(path, STREAMS)
    assert (again.state(), again.places) == (state, {"fills": place})
    assert again.taken == {("fills", PRODUCER): Spans([(1, 2)])}
    again.take([fill(3, side="SELL", qty="2.5", price="120")], {})
    assert _lots(again) == [("BTCUSDT", D("0.5"), D(110))]
    assert _pnl(again) == {"BTCUSDT USDT": (45, 0, 0)}
    again.close()


def test_totals_by_strategy_and_day(ledger: Ledger) -> None:
    """A gain belongs to strategy and UTC day of the closing fill, a fee to its fill's own."""
    midnight = START_NS // DAY_NS * DAY_NS
    ledger.take(
        [
            fill(1, fee="0.5", ts_ns=str(midnight - 1)),
            fill(2, side="SELL", price="101", fee="0.25", strategy_id="S-2", ts_ns=str(midnight)),
        ],
        {},
    )
    found = [(t.strategy, t.day, t.ccy, t.pnl, t.fees) for t in ledger.totals()]
    assert found == [
        ("S-1", "2025-10-08", "USDT", 0, D("0.5")),
        ("S-2", "2025-10-09", "USDT", 1, D("0.25")),
    ]


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        pytest.param(
            [fill(1, fee="0.1"), fill(2, side="SELL", price="102", fee="-0.04")],
            {"BTCUSDT USDT": (D(2), D("0.06"), 0)},
            id="quote-and-rebate",
        ),
        pytest.param(
            [
                fill(1, fee="0.01", fee_ccy="BTC", fee_quote="1"),
                fill(2, side="SELL", qty="0.99", price="110"),
            ],
            {"BTCUSDT USDT": (D("9.9"), D(1), 0)},
            id="base",
        ),
        pytest.param(
            [
                fill(1, qty="2", price="300", **BNB),
                fill(2, fee="0.5", fee_ccy="BNB", fee_quote="200"),
            ],
            {"BNBUSDT USDT": (D(50), 0, 0), "BTCUSDT USDT": (0, D(200), 0)},
            id="third-currency",
        ),
        pytest.param(
            [
                fill(1, side="BUY", qty="10", price="100", fee="0.001", **INVERSE),
                fill(2, side="SELL", qty="10", price="125", fee="0.001", **INVERSE),
            ],
            {"BTC-PERPETUAL BTC": (D("0.2"), D("0.002"), 0)},
            id="inverse",
        ),
        pytest.param(
            [
                fill(1, qty="3", multiplier="0.01", **PERP),
                fill(2, side="SELL", qty="3", price="200", multiplier="0.01", **PERP),
            ],
            {"BTCUSDT-PERP USDT": (D(3), 0, 0)},
            id="multiplied",
        ),
        pytest.param(
            [funding(1), funding(2, amount="4"), fill(1, **PERP)],
            {"BTCUSDT-PERP USDT": (0, 0, D("2.5"))},
            id="funding",
        ),
    ],
)
def test_money(ledger: Ledger, items: list[Item], expected: dict[str, object]) -> None:
    """Price PnL, fees and funding stay apart, each in the currency it was settled in."""
    for item in items:
        assert ledger.take([item], {}) == []
    assert _pnl(ledger) == expected


def test_fee_paid_before_its_currency_was_bought(ledger: Ledger) -> None:
    """A payment without a lot books no gain and is told; later lots do not pay for it."""
    ledger.take([fill(1, fee="0.5", fee_ccy="BNB", fee_quote="200")], {})
    assert _pnl(ledger) == {"BTCUSDT USDT": (0, 200, 0)}
    ledger.take([fill(2, qty="2", price="300", **BNB)], {})
    assert [(each.symbol, each.ccy, each.amount) for each in ledger.unlotted()] == [
        ("BNBUSDT", "BNB", D("0.5"))
    ]
    assert ("BNBUSDT", D(2), D(300)) in _lots(ledger)
    assert ledger.counts().unlotted == 1


def test_unpriced(ledger: Ledger) -> None:
    """A fee nobody could price is told as it was charged, and is in no sum."""
    ledger.take([fill(1, fee="0.5", fee_ccy="BNB", fee_quote="")], {})
    assert _pnl(ledger) == {}
    [unpriced] = ledger.unpriced()
    assert (unpriced.symbol, unpriced.ccy, unpriced.amount, unpriced.fills) == (
        *("BTCUSDT", "BNB"),
        *(D("0.5"), 1),
    )
    assert ledger.counts().unpriced == 1


def test_late_fill(ledger: Ledger) -> None:
    """A fill that arrives late takes its place in the line: its book is built again."""
    ledger.take([fill(1), fill(3, side="SELL", price="130")], {})
    assert _pnl(ledger) == {"BTCUSDT USDT": (30, 0, 0)}
    ledger.take([fill(2, side="SELL", price="120")], {})
    assert _pnl(ledger) == {"BTCUSDT USDT": (20, 0, 0)}
    assert _lots(ledger) == [("BTCUSDT", -1, 130)]


def test_late_payment(ledger: Ledger) -> None:
    """A fee that was paid before what is booked already builds the book that it is paid from."""
    ledger.take([fill(1, price="300", **BNB), fill(3, side="SELL", price="310", **BNB)], {})
    ledger.take([fill(2, fee="0.5", fee_ccy="BNB", fee_quote="200")], {})
    assert _pnl(ledger)["BNBUSDT USDT"] == (55, 0, 0)
    assert ("BNBUSDT", D("-0.5"), D(310)) in _lots(ledger)


def test_provisional_is_replaced(ledger: Ledger) -> None:
    """A made-up fill counts until the venue's own reach its quantity; then they count instead."""
    order = {"venue_order_id": "V-1", "ts_ns": str(START_NS)}
    made_up = fill(1, qty="3", price="100", provisional="1", **order)
    own = [fill(2, qty="1", price="101", **order), fill(3, qty="2", price="99", **order)]
    ledger.take([made_up], {})
    ledger.take(own[:1], {})
    assert _lots(ledger) == [("BTCUSDT", 3, 100)]
    assert ledger.counts()[:5] == (2, 0, 1, 1, 0)
    ledger.take(own[1:], {})
    assert _lots(ledger) == [("BTCUSDT", 1, 101), ("BTCUSDT", 2, 99)]
    assert ledger.counts()[:5] == (3, 0, 1, 0, 1)
    assert [(each.state, each.fill_id) for each in ledger.unbooked()] == [
        ("replaced", f"{PRODUCER}-f1")
    ]


@pytest.mark.parametrize("order", [(1, 2, 3), (2, 3, 1), (3, 2, 1), (3, 1, 2)])
def test_two_books_of_one_currency(ledger: Ledger, order: tuple[int, ...]) -> None:
    """A fee is taken from the first by symbol of several books that hold its currency."""
    items = [
        fill(1, price="300", symbol="BNB-USDT", base_ccy="BNB"),
        fill(2, price="310", **BNB),
        fill(3, fee="0.5", fee_ccy="BNB", fee_quote="200"),
    ]
    for number in order:
        ledger.take([items[number - 1]], {})
    assert [lot[:2] for lot in _lots(ledger) if "BNB" in lot[0]] == [
        ("BNB-USDT", D("0.5")),
        ("BNBUSDT", D(1)),
    ]


def test_replaced_fill_pays_no_fee(ledger: Ledger) -> None:
    """The fee of a fill that was replaced is given back to the book it was paid from."""
    order = {"venue_order_id": "V-1", "ts_ns": str(START_NS + 10**10)}
    fee = {"fee": "0.5", "fee_ccy": "BNB", "fee_quote": "200"}
    ledger.take([fill(1, price="300", **BNB), fill(2, provisional="1", **fee, **order)], {})
    assert ("BNBUSDT", D("0.5"), D(300)) in _lots(ledger)
    ledger.take([fill(3, **order)], {})
    assert ("BNBUSDT", D(1), D(300)) in _lots(ledger)
    assert _pnl(ledger) == {}


@pytest.mark.parametrize(
    "sql", ["UPDATE lot SET qty = '2'", "DELETE FROM gain", "DELETE FROM total"]
)
def test_is_consistent(tmp_path: Path, sql: str) -> None:
    """Tables that are not what the fills come to are found out."""
    ledger = Ledger.open(tmp_path / "ledger.db", STREAMS)
    ledger.take([fill(1, qty="3"), fill(2, side="SELL", price="120"), fill(3, **PERP)], {})
    assert ledger.is_consistent()
    ledger._database.execute(sql)
    assert not ledger.is_consistent()
    ledger.close()


def test_gaps_stay_open(tmp_path: Path) -> None:
    """Numbers that are missing are missing after a reopen as well, and can be taken then."""
    path = tmp_path / "ledger.db"
    ledger = Ledger.open(path, STREAMS)
    ledger.take([fill(1), fill(2), fill(5), fill(9)], {})
    ledger.close()
    ledger = Ledger.open(path, STREAMS)
    assert ledger.taken["fills", PRODUCER].holes() == [(3, 4), (6, 8)]
    ledger.take([fill(3), fill(4)], {})
    ledger.close()
    ledger = Ledger.open(path, STREAMS)
    assert ledger.taken["fills", PRODUCER] == Spans([(1, 5), (9, 9)])
    ledger.close()
