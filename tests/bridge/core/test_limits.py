"""bridge/core/limits.py: what may still leave, given all that may come of what is out."""

import dataclasses
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.limits import (
    BUY,
    SELL,
    Book,
    Exposure,
    Intent,
    Limits,
    Mark,
    Terms,
)

D = Decimal
LIMITS = Limits(
    max_order_notional=D(10**9),
    max_position=D(10_000),
    max_position_total=D(15_000),
    max_daily_loss=D(1),
    max_order_rate=D(1),
    stop_loss_pct=D(1),
    max_drawdown=D(1),
)
MARK = Mark(D(99), D(101))


def order(key: str, sign: int, qty: int | str, price: int | None = None, **more: object) -> Intent:
    """Return an order; one with a price rests unless told otherwise."""
    value = None if price is None else D(price)
    return Intent(key, sign, D(qty), value, **({"rests": price is not None} | more))


def exposed(book: Book, qty: int = 0, symbol: str = "A", mark: Mark | None = MARK) -> Exposure:
    """Return the exposure to an instrument that trades at 100."""
    exposure = book.exposure(symbol, Terms(symbol))
    exposure.mark = mark
    exposure.qty = D(qty)
    return exposure


def cause(book: Book, exposure: Exposure, intent: Intent, limits: Limits = LIMITS) -> str | None:
    refusal = book.refusal(exposure, intent, limits)
    return None if refusal is None else refusal.cause


@pytest.mark.parametrize(
    ("intent", "most"),
    [
        (order("x", BUY, 1), 101),  # at the market: the ask
        (order("x", SELL, 1), 99),
        (order("x", BUY, 1, 90), 90),
        (order("x", BUY, 1, 120), 120),
        (order("x", SELL, 1, 120), 120),
        (order("x", SELL, 1, 90), 99),  # it may bring the bid
        (order("x", BUY, 1, trigger=D(130)), 130),
        (order("x", SELL, 1, trigger=D(80)), 99),
        (order("x", BUY, 3, 100, reduces=True), 300),
    ],
)
def test_order_notional(intent: Intent, most: int) -> None:
    """An order costs what it may fill at, at worst; the limit itself is allowed."""
    book = Book()
    exposure = exposed(book)
    for limit, expected in ((D(most), None), (most - D("0.01"), "max_order_notional")):
        limits = dataclasses.replace(LIMITS, max_order_notional=limit)
        assert cause(book, exposure, intent, limits) == expected


@pytest.mark.parametrize("sign", [BUY, SELL])
def test_position_and_what_is_out(sign: int) -> None:
    """The position, open orders and the new one together may reach the limit, and not pass it;
    what is out on the other side does not make room."""
    book = Book()
    exposure = exposed(book, 30 * sign)
    book.put(exposure, order("resting", sign, 20, 100 - sign))
    book.put(exposure, order("in flight", sign, 20))
    book.put(exposure, order("other side", -sign, 40, 100 + sign * 50))
    assert cause(book, exposure, order("new", sign, 30)) is None
    assert cause(book, exposure, order("new", sign, "30.01")) == "max_position"
    book.end("in flight")
    assert cause(book, exposure, order("new", sign, 50, 100 - sign)) is None


@pytest.mark.parametrize("sign", [BUY, SELL])
def test_lowering_is_allowed_over_the_limit(sign: int) -> None:
    """A position over all limits may be brought closer to zero, up to the limit of the other side,
    and in no way made larger."""
    book = Book()
    exposure = exposed(book, 1000 * sign)
    assert cause(book, exposure, order("x", -sign, 1000)) is None
    assert cause(book, exposure, order("x", -sign, 1100)) is None
    assert cause(book, exposure, order("x", -sign, "1100.01")) == "max_position"
    assert cause(book, exposure, order("x", sign, "0.01")) == "max_position"
    assert cause(book, exposure, order("x", sign, 1, reduces=True)) is None


@pytest.mark.parametrize("sign", [BUY, SELL])
def test_what_only_reduces(sign: int) -> None:
    """A reduce-only order opens nothing, and makes no room for what does."""
    book = Book()
    exposure = exposed(book, 50 * sign)
    assert cause(book, exposure, order("x", sign, 50, reduces=True)) is None
    book.put(exposure, order("out", -sign, 50, 100 + 50 * sign, reduces=True))
    assert cause(book, exposure, order("x", sign, 50)) is None
    assert cause(book, exposure, order("x", sign, 51)) == "max_position"
    book.put(exposure, order("more", sign, 50, 100 - sign))
    assert cause(book, exposure, order("x", sign, 1)) == "max_position"


@pytest.mark.parametrize("sign", [BUY, SELL])
def test_what_only_reduces_may_fill_first(sign: int) -> None:
    """A take-profit may close the position before another order on its side fills: then that one
    opens all of its size. In whatever order the two come."""
    closing = order("close", -sign, 100, 100 + 50 * sign, reduces=True)
    flipping = order("flip", -sign, 200, 100 + 50 * sign)
    for first, second in ((closing, flipping), (flipping, closing)):
        book = Book()
        exposure = exposed(book, 100 * sign)
        assert cause(book, exposure, first) is None
        book.put(exposure, first)
        assert cause(book, exposure, second) == "max_position"
        assert cause(book, exposure, second._replace(qty=D(1))) == (
            None if second is flipping else "max_position"
        )


def test_total() -> None:
    """The total adds up the worst of every instrument, without sign; what lowers it may go."""
    book = Book()
    one, other = exposed(book, 80, "A"), exposed(book, -50, "B")
    assert cause(book, one, order("x", BUY, 20)) is None
    assert cause(book, one, order("x", BUY, "20.01")) == "max_position"
    assert cause(book, other, order("x", SELL, 20)) is None
    assert cause(book, other, order("x", SELL, "20.01")) == "max_position_total"
    book.put(one, order("out", BUY, 20))
    assert cause(book, other, order("x", SELL, "0.01")) == "max_position_total"
    assert cause(book, other, order("x", BUY, 50)) is None
    # Up to as far on the other side, the worst of B stays what it is.
    assert cause(book, other, order("x", BUY, 100)) is None
    assert cause(book, other, order("x", BUY, "100.01")) == "max_position_total"


def test_symbols_have_their_own_limit() -> None:
    """A symbol's own position limit holds for it alone."""
    book = Book()
    limits = dataclasses.replace(LIMITS, positions={"A": D(100)})
    assert cause(book, exposed(book, symbol="A"), order("x", BUY, "1.01"), limits) == "max_position"
    assert cause(book, exposed(book, symbol="A"), order("x", BUY, 1), limits) is None
    assert cause(book, exposed(book, symbol="B"), order("x", BUY, 40), limits) is None


@pytest.mark.parametrize(
    ("terms", "mark", "worth"),
    [
        (Terms("A"), MARK, 100),
        (Terms("A", D("0.1")), MARK, 10),
        (Terms("A", D(5)), Mark(D(99), D(101), D("0.5")), 250),
        (Terms("A", D(1), is_inverse=True), Mark(D(59_999), D(60_001)), 1),
        (Terms("A", D(10), is_inverse=True), Mark(D(59_999), D(60_001), D(2)), 20),
    ],
)
def test_contracts(terms: Terms, mark: Mark, worth: int) -> None:
    """Multiplied, inverse and foreign contracts count as what they are worth in dollars."""
    book = Book()
    exposure = book.exposure("A", terms)
    exposure.mark = mark
    assert exposure.notional(D(1)) == worth
    limits = dataclasses.replace(LIMITS, max_position=D(worth) * 7)
    assert cause(book, exposure, order("x", BUY, 7), limits) is None
    assert cause(book, exposure, order("x", SELL, "7.01"), limits) == "max_position"
    limits = dataclasses.replace(LIMITS, max_position_total=D(worth) * 7)
    assert cause(book, exposure, order("x", SELL, "7.01"), limits) == "max_position_total"


def test_without_a_price() -> None:
    """What cannot be valued may not leave, not even to reduce."""
    book = Book()
    exposure = exposed(book, 5, mark=None)
    for intent in (order("x", BUY, 1), order("x", SELL, 1, 5), order("x", SELL, 1, reduces=True)):
        assert cause(book, exposure, intent) == "no_price"


@pytest.mark.parametrize("sign", [BUY, SELL])
def test_self_trade(sign: int) -> None:
    """What could meet an own order on the other side is refused; what stays away from it is not."""
    book = Book()
    exposure = exposed(book, mark=Mark(D(95), D(105)))
    nearest, farther = 100 + 2 * sign, 100 + 9 * sign
    book.put(exposure, order("near", -sign, 1, nearest))
    book.put(exposure, order("far", -sign, 1, farther))
    book.put(exposure, order("own side", sign, 1, 100 - 9 * sign))
    for rests in (True, False):  # IOC and FOK meet it, too
        meets = order("x", sign, 1, nearest, rests=rests)
        assert cause(book, exposure, meets) == "self_trade"
        passes = meets._replace(price=D(nearest - sign))
        assert cause(book, exposure, passes) is None
    assert cause(book, exposure, order("x", sign, 1)) == "self_trade"  # the market is behind it
    assert cause(book, exposure, order("x", sign, 1, reduces=True)) == "self_trade"
    assert cause(book, exposure, order("x", sign, 1, farther, trigger=D(farther))) is None
    book.end("near")
    assert cause(book, exposure, order("x", sign, 1, nearest)) is None
    assert cause(book, exposure, order("x", sign, 1, farther)) == "self_trade"
    assert cause(book, exposure, order("x", sign, 1)) is None


def test_what_does_not_rest_is_not_met() -> None:
    """Market orders, stops and IOC orders that are out stand in no book."""
    book = Book()
    exposure = exposed(book)
    book.put(exposure, order("ioc", SELL, 1, 100, rests=False))
    book.put(exposure, order("stop", SELL, 1, trigger=D(90)))
    book.put(exposure, order("market", SELL, 1))
    assert cause(book, exposure, order("x", BUY, 1)) is None


def test_a_change_counts_once() -> None:
    """A change is judged as if the order were not there yet; judging leaves the book as it was."""
    book = Book()
    exposure = exposed(book, 50)
    book.put(exposure, order("x", BUY, 40, 98))
    before = dataclasses.replace(exposure, adding=dict(exposure.adding))
    assert cause(book, exposure, order("x", BUY, 50, 97)) is None
    assert cause(book, exposure, order("x", BUY, "50.01", 98)) == "max_position"
    assert cause(book, exposure, order("y", BUY, "10.01", 98)) == "max_position"
    assert exposure == before
    assert book.orders == {"x": (exposure, order("x", BUY, 40, 98))}


@pytest.mark.parametrize("sign", [BUY, SELL])
def test_reducing(sign: int) -> None:
    """Only what brings the position toward zero may leave, together with all that is out on its
    side, reduce-only or not; a change counts once."""
    book = Book()
    exposure = exposed(book, 10 * sign)

    def is_refused(intent: Intent) -> bool:
        refusal = book.reducing_refusal(exposure, intent)
        assert refusal is None or refusal.cause == "REDUCING"
        return refusal is not None

    assert is_refused(order("x", sign, "0.1"))
    assert is_refused(order("x", sign, "0.1", reduces=True))
    assert not is_refused(order("x", -sign, 10))
    assert is_refused(order("x", -sign, "10.1"))
    book.put(exposure, order("a", -sign, 4, 150))
    book.put(exposure, order("b", -sign, 4, reduces=True))
    book.put(exposure, order("c", sign, 99))  # may never fill
    assert not is_refused(order("x", -sign, 2))
    assert is_refused(order("x", -sign, "2.1"))
    assert not is_refused(order("a", -sign, 6))
    assert is_refused(order("a", -sign, "6.1"))
    exposure.qty = D(0)
    assert is_refused(order("x", BUY, "0.1"))
    assert is_refused(order("x", SELL, "0.1"))


def test_excess() -> None:
    """What may stay while positions shrink: the oldest orders that fit. The rest goes, the newest
    first; an order that was filled in part or changed is as old as it was."""
    book = Book()
    long, flat = exposed(book, 10, "A"), exposed(book, 0, "B")
    for each in (
        order("a", SELL, 6, 120), order("b", BUY, 1, 90), order("c", SELL, 5, 121),
        order("d", SELL, 4, 122), order("e", SELL, 1, 123, reduces=True),
    ):  # fmt: skip
        book.put(long, each)
    book.put(flat, order("f", SELL, 1, 120))
    assert list(book.excess()) == ["f", "e", "c", "b"]
    book.put(long, order("a", SELL, 5, 120))
    assert list(book.excess()) == ["f", "e", "d", "b"]


def test_profit_and_loss() -> None:
    """Fills and the open position, at the mark, in dollars; inverse contracts pay in their base."""
    book = Book()
    linear = book.exposure("A", Terms("A", D(2)))
    linear.fill(BUY, D(3), D(90))
    assert book.pnl == 0
    linear.mark = Mark(D(99), D(101), D("0.5"))
    assert book.pnl == 30
    linear.fill(SELL, D(3), D(110))
    assert book.pnl == 60
    inverse = book.exposure("B", Terms("B", D(10), is_inverse=True))
    inverse.mark = Mark(D(50), D(50))
    inverse.fill(SELL, D(20), D(40))  # 200 dollars: 5 coins sold at 40 are 4 at 50
    assert book.pnl == 60 - 50


ENTRIES = st.tuples(
    st.sampled_from(("put", "put", "end", "fill")), st.sampled_from("abcde"),
    st.sampled_from("AB"), st.sampled_from((BUY, SELL)), st.integers(0, 5),
    st.sampled_from((None, 99, 100, 101)), st.booleans(), st.booleans(),
)  # fmt: skip


@given(entries=st.lists(ENTRIES, min_size=12, max_size=30))
def test_sums_are_exact(entries: list[tuple]) -> None:
    """After any puts, changes, ends and fills the sums are those of the orders that are there."""
    book = Book()
    kept: dict[str, tuple[str, Intent]] = {}
    positions = {"A": 0, "B": 0}
    for does, key, symbol, sign, qty, price, rests, reduces in entries:
        symbol = kept[key][0] if key in kept else symbol
        exposure = exposed(book, positions[symbol], symbol)
        if does == "put":
            intent = order(key, sign, qty, price, rests=rests, reduces=reduces)
            book.refusal(exposure, intent, LIMITS)
            book.put(exposure, intent)
            kept[key] = (symbol, intent)
        elif does == "end":
            book.end(key)
            kept.pop(key, None)
        else:
            exposure.fill(sign, D(qty), D(100))
            positions[symbol] += sign * qty
    again = Book()
    for symbol, intent in kept.values():
        again.put(exposed(again, 0, symbol), intent)
    assert list(book.orders) == list(kept)
    for symbol, exposure in book.exposures.items():
        fresh = again.exposure(symbol, Terms(symbol))
        assert (exposure.adding, exposure.reducing) == (fresh.adding, fresh.reducing)
        assert exposure.resting == fresh.resting
        assert exposure.qty == positions[symbol]
