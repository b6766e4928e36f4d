"""What the ledger does not book: what it knows, what is in conflict, what cannot be used."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from bridge.core.spans import Spans
from bridge.ledger import Ledger
from bridge.reading import Item, Place, digest_of
from tests.bridge.fills import PERP, PRODUCER, STREAMS, fill, foreign, funding


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.open(tmp_path / "ledger.db", STREAMS)
    yield ledger
    assert ledger.state() == ledger.rebuilt()
    ledger.close()


def _lots(ledger: Ledger) -> list[tuple[str, Decimal, Decimal]]:
    return [(lot.symbol, lot.qty, lot.price) for lot in ledger.lots()]


def test_known_number(ledger: Ledger) -> None:
    """What was taken is passed over, in the same batch and in a later one."""
    for items in ([fill(1), fill(1)], [fill(1), funding(1), funding(1)], [funding(1), fill(1)]):
        assert ledger.take(items, {}) == []
    assert ledger.counts()[:2] == (1, 1)
    assert ledger.counts().duplicates == 0


def test_fill_told_twice(ledger: Ledger) -> None:
    """A fill that another producer tells again is taken and not booked again."""
    ledger.take([fill(1)], {})
    again = fill(7, producer="T.9.1", fill_id=f"{PRODUCER}-f1", qty="1.0", price="100.00")
    assert ledger.take([again], {}) == []
    assert _lots(ledger) == [("BTCUSDT", 1, 100)]
    assert ledger.counts().duplicates == 1
    assert list(ledger.digests("fills")) == [
        (PRODUCER, 1, digest_of(fill(1).fields)),
        ("T.9.1", 7, digest_of(again.fields)),
    ]


@pytest.mark.parametrize(
    "changes",
    [{"qty": "2"}, {"price": "101"}, {"side": "SELL"}, {"symbol": "BTC-USDT"}, {"account": "A-2"}],
    ids=lambda changes: next(iter(changes)),
)
@pytest.mark.parametrize("is_ours", [True, False])
def test_conflict(ledger: Ledger, changes: dict[str, str], is_ours: bool) -> None:
    """A fill that differs from the one of the same id is dead, and both are named."""
    ledger.take([fill(1)], {})
    changes = {"fill_id": f"{PRODUCER}-f1"} | changes
    other = fill(7, producer="T.9.1", **changes) if is_ours else foreign("7-1", **changes)
    [dead] = ledger.take([other], {})
    assert f"{PRODUCER}-f1 was told by {PRODUCER} 1" in dead.error
    assert dead.fields == other.fields
    assert _lots(ledger) == [("BTCUSDT", 1, 100)]
    assert (ledger.counts().dead, ledger.counts().conflicts) == (1, 1)
    assert ledger.take([other], {}) == []


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        (fill(1, side=""), "side"),
        (fill(1, qty="0"), "qty"),
        (fill(1, qty="nan"), "qty"),
        (fill(1, price="1e5"), "price"),
        (fill(1, multiplier=""), "multiplier"),
        (fill(1, account=""), "account"),
        (fill(1, ts_ns="-1"), "ts_ns"),
        (fill(1, ts_ns="9" * 19), "ts_ns"),
        (foreign("1-1", without=["side"]), "side"),
        (foreign("1-1", without=["symbol"]), "symbol"),
        (foreign("1-1", without=["fill_id"]), "fill_id"),
        (funding(1, amount="x"), "amount"),
        (funding(1, ts_ns=""), "ts_ns"),
        (funding(1, ccy=""), "ccy"),
        (Item("fills", "1-1", PRODUCER, 1, [b"side", b"\xff"]), "utf-8"),
    ],
)
def test_dead(ledger: Ledger, item: Item, problem: str) -> None:
    """What cannot be booked is dead and counted, told once, and the rest is booked."""
    place = {item.kind: Place("9-0", b"12345678")}
    [dead] = ledger.take([fill(8), item, fill(9)], place)
    assert problem in dead.error
    assert (dead.kind, dead.id, dead.fields) == (item.kind, item.id, item.fields)
    assert (ledger.counts().fills, ledger.counts().dead) == (2, 1)
    assert list(ledger.dead()) == [dead] == ledger.unpublished_dead()
    ledger.mark_published()
    assert ledger.unpublished_dead() == []
    assert ledger.take([item], {}) == []
    assert ledger.new_ones([] if item.producer else [item]) == []
    assert ledger.counts().dead == 1
    if item.producer:
        assert item.seq in ledger.taken[item.kind, item.producer]
        digest = (item.producer, item.seq, digest_of(item.fields))
        assert digest in list(ledger.digests(item.kind))


def test_other_terms(ledger: Ledger) -> None:
    """A fill whose multiplier is not that of its book is dead: its value would be wrong."""
    ledger.take([fill(1, **PERP)], {})
    [dead] = ledger.take([fill(2, multiplier="10", **PERP)], {})
    assert "multiplier 10 instead of 1" in dead.error


def test_foreign_fill(ledger: Ledger) -> None:
    """Somebody else's fill is booked once, known by its fill_id under whatever id it stands."""
    one, two = foreign("5-1", fill_id="X-1"), foreign("6-1", fill_id="X-2", price="120")
    assert ledger.new_ones([one, two]) == [one, two]
    ledger.take([one], {})
    assert ledger.new_ones([one, two, one._replace(id="9-1")]) == [two]
    ledger.take([one, two, two, one._replace(id="9-1")], {})
    assert _lots(ledger) == [("BTCUSDT", 1, 100), ("BTCUSDT", 1, 120)]
    assert ledger.counts().duplicates == 0
    assert list(ledger.digests("fills")) == []


def test_foreign_funding(ledger: Ledger) -> None:
    """Somebody else's funding is known by stream id and content: two equal ones are two."""
    first = funding(0, producer="", entry_id="1-1")
    second = first._replace(id="1-2")
    ledger.take([first, second], {})
    assert ledger.new_ones([first, second, first._replace(id="1-3")]) == [first._replace(id="1-3")]
    ledger.take([second, first], {})
    assert ledger.sums == {"USDT": (0, 0, -3)}


def test_forged_number(ledger: Ledger) -> None:
    """A number that no producer can have reached is somebody else's, and stops nothing."""
    forged = fill(1)._replace(seq=10**30)
    assert ledger.take([forged, fill(2)], {}) == []
    assert ledger.taken == {("fills", PRODUCER): Spans([(2, 2)])}
    assert ledger.counts().fills == 2
