"""bridge/core/fifo.py: what holds of every book, exactly, whatever is traded."""

from collections import deque
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.fifo import QUANTUM, Book, Gain, Terms, Trade, divided
from tests.bridge.core.books import TERMS, cash, realized, total, worth

D = Decimal
OF_TERMS = pytest.mark.parametrize("terms", TERMS, ids=["linear", "multiplied", "inverse"])


def decimals(least: str, most: str, places: int) -> st.SearchStrategy[Decimal]:
    """Return numbers of up to `places` digits behind the point, exact ones."""
    unit = 10**places
    whole = st.integers(int(D(least) * unit), int(D(most) * unit))
    return st.builds(lambda number, scale: D(f"{number}E-{scale}"), whole, st.just(places))


def trades_of(qty: str, price: str, places: int) -> st.SearchStrategy[list[Trade]]:
    """Return sequences of trades; short round numbers are as likely as long ones."""
    small = st.integers(1, 9).map(D)
    sizes = small | decimals("0", qty, places)
    prices = small | decimals("0", price, places).filter(bool)
    one = st.tuples(st.sampled_from([1, -1]), sizes, prices, st.just(D(0)) | decimals("-9", "9", 8))
    return st.lists(one, max_size=25).map(
        lambda all_of: [
            Trade(f"f{number}", number, size if sign > 0 else size.copy_negate(), price, fee)
            for number, (sign, size, price, fee) in enumerate(all_of)
        ]
    )


def exact(amount: Decimal) -> Fraction:
    return Fraction(amount)


def applied(terms: Terms, trades: list[Trade]) -> tuple[Book, list[Gain]]:
    book, gains = Book(terms), []
    for trade in trades:
        gains += book.apply(trade)
    return book, gains


def check(terms: Terms, trades: list[Trade], mark: Decimal) -> None:
    """Check what the acceptance spec calls invariants, and that every piece finds its place."""
    book, gains = applied(terms, trades)
    unrealized = exact(book.unrealized(mark))
    assert realized(gains) + unrealized == cash(terms, trades) + worth(terms, book.position, mark)
    assert exact(book.position) == total([lot.qty for lot in book.lots])
    assert exact(book.position) == total([trade.qty for trade in trades])
    assert exact(book.value) == total([lot.value for lot in book.lots])
    assert len({lot.qty > 0 for lot in book.lots}) <= 1 and all(lot.qty for lot in book.lots)
    assert [lot.ts_ns for lot in book.lots] == sorted(lot.ts_ns for lot in book.lots)
    assert len({(gain.lot, gain.fill_id) for gain in gains}) == len(gains)
    fees = total([gain.open_fee for gain in gains] + [gain.close_fee for gain in gains])
    left = total([lot.fee for lot in book.lots])
    assert fees + left == total([trade.fee for trade in trades if trade.qty])


@OF_TERMS
@given(trades=trades_of("100", "1000", 4), mark=decimals("0.01", "1000", 4))
def test_nothing_is_gained_or_lost(terms: Terms, trades: list[Trade], mark: Decimal) -> None:
    """Realized and unrealized PnL are cash and what the position is worth; lots and fees add up."""
    check(terms, trades, mark)


@OF_TERMS
@given(trades=trades_of("1E+18", "1E+12", 18), mark=decimals("1", "1E+12", 18))
def test_no_digit_is_lost_in_extreme_books(
    terms: Terms, trades: list[Trade], mark: Decimal
) -> None:
    """The same with 18 digits on both sides of the point: nothing is rounded, nothing raises."""
    check(terms, trades, mark)


@OF_TERMS
@given(trades=trades_of("100", "1000", 4), price=decimals("0.01", "1000", 4))
def test_once_flat_the_method_does_not_matter(
    terms: Terms, trades: list[Trade], price: Decimal
) -> None:
    """A book that was closed has made what average cost makes of it."""
    position = applied(terms, trades)[0].position
    trades = [*trades, Trade("last", len(trades), position.copy_negate(), price)]

    book, gains = applied(terms, trades)

    assert not book.lots and not book.position and not book.value
    assert realized(gains) == average_cost(terms, trades)


def average_cost(terms: Terms, trades: list[Trade]) -> Fraction:
    """Return what is realized where each sale takes its share of all that was bought."""
    position = value = made = Fraction()
    for trade in trades:
        qty, worth_of = exact(trade.qty), exact(terms.value(trade.qty, trade.price))
        if position * qty < 0:
            closes = min(abs(qty), abs(position))
            opened, closed = value * closes / abs(position), worth_of * closes / abs(qty)
            made += -(opened + closed) if not terms.inverse else opened + closed
            value, worth_of = value - opened, worth_of - closed
        position, value = position + qty, value + worth_of
    return made


@OF_TERMS
@given(
    trades=st.lists(
        st.tuples(st.integers(-6, 6).filter(bool), st.integers(1, 99)), max_size=30
    )
)  # fmt: skip
def test_each_unit_finds_the_oldest_one(terms: Terms, trades: list[tuple[int, int]]) -> None:
    """Every closing fill makes what a queue of single units makes, to a quantum a piece."""
    book = Book(terms)
    units: deque[tuple[int, int]] = deque()  # sign, price
    for number, (qty, price) in enumerate(trades):
        sign, made = (1 if qty > 0 else -1), Fraction()
        for _ in range(abs(qty)):
            if not units or units[0][0] == sign:
                units.append((sign, price))
                continue
            _, opened = units.popleft()
            change = Fraction(1, price) - Fraction(1, opened) if terms.inverse else opened - price
            made += sign * change * Fraction(terms.multiplier)

        gains = book.apply(Trade(str(number), number, D(qty), D(price)))

        assert abs(realized(gains) - made) <= (4 * len(gains) * QUANTUM if terms.inverse else 0)
        assert total([lot.qty for lot in book.lots]) == sum(sign for sign, _ in units)


@given(
    trades=trades_of("100", "1000", 4),
    payments=st.lists(decimals("-20", "100", 4), max_size=25),
    mark=decimals("0.01", "1000", 4),
)
def test_payments_never_sell_short(
    trades: list[Trade], payments: list[Decimal], mark: Decimal
) -> None:
    """What fees take beyond the lots is unlotted: it changes neither the position nor the PnL."""
    book, gains, brought = Book(TERMS[0]), [], Fraction()
    paid = [
        Trade(f"p{number}", number, fee.copy_negate(), D(50), is_payment=True)
        for number, fee in enumerate(payments)
    ]
    for trade in sorted([*trades, *paid], key=lambda trade: trade.ts_ns):
        short, unlotted = min(book.position, D(0)), book.unlotted
        gains += book.apply(trade)
        beyond = exact(book.unlotted) - exact(unlotted)
        brought += cash(TERMS[0], [trade]) - beyond * exact(trade.price)
        if trade.is_payment:
            assert book.position >= short
    assert realized(gains) + exact(book.unrealized(mark)) == brought + worth(
        TERMS[0], book.position, mark
    )
    moved = total([trade.qty for trade in [*trades, *paid]])
    assert exact(book.position) - exact(book.unlotted) == moved


@given(
    whole=decimals("-1000", "1000", 8),
    parts=st.lists(st.integers(1, 99), min_size=1, max_size=12),
)
def test_shares_add_up(whole: Decimal, parts: list[int]) -> None:
    """Taken one by one, each from what is left, the shares of a fee are all of it."""
    book = Book(TERMS[0])
    book.apply(Trade("open", 0, D(sum(parts)), D(1), whole))
    gains = [book.apply(Trade(str(part), 1, D(-part), D(1)))[0] for part in parts]

    assert total([gain.open_fee for gain in gains]) == Fraction(whole)
    due = [divided(whole * part, D(sum(parts))) for part in parts]
    for gain, share in zip(gains, due, strict=True):
        assert abs(gain.open_fee - share) <= len(parts) * QUANTUM
