"""bridge/core/fifo.py: lots and gains, by hand."""

from decimal import Decimal, localcontext
from fractions import Fraction

import pytest

from bridge.core.fifo import QUANTUM, Book, Gain, Lot, Terms, Trade, divided, share
from tests.bridge.core.books import (
    INVERSE,
    LINEAR,
    MULTIPLIED,
    TERMS,
    lots_of,
    realized,
    total,
    trade,
)

D = Decimal
HAND = [
    trade(1, 10, 100), trade(2, 10, 110), trade(3, -15, 120), trade(4, -10, 90), trade(5, 5, 95),
]  # fmt: skip


def test_the_hand_case() -> None:
    """Each closing fill gains what the acceptance spec says, and the last one leaves nothing."""
    book = Book(LINEAR)

    gains = [realized(book.apply(each)) for each in HAND]

    assert gains == [0, 0, 250, -100, -25]
    assert (lots_of(book), book.position, book.value) == ([], 0, 0)


def test_a_gain_names_its_lot_and_its_fills() -> None:
    """A closing fill gains once per lot, the oldest first, with both fills' share of the fee."""
    book = Book(LINEAR)
    book.apply(trade(1, 10, 100, "0.50"))
    book.apply(trade(2, 10, 110, "0.30"))

    gains = book.apply(trade(3, -15, 120, "0.90"))

    second = 10**9
    assert gains == [
        Gain(
            "f1", "f3", second, 3 * second, D(10), D(100), D(120), D(200), D("0.50"), D("0.60"),
            is_payment=False,
        ),
        Gain(
            "f2", "f3", 2 * second, 3 * second, D(5), D(110), D(120), D(50), D("0.15"), D("0.30"),
            is_payment=False,
        ),
    ]  # fmt: skip
    assert [*book.lots] == [Lot("f2", 2 * second, D(5), D(110), D(550), D("0.15"))]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_flip_is_a_close_and_an_open(sign: int) -> None:
    """A fill larger than the position closes it and opens the rest, its fee split by quantity."""
    book = Book(LINEAR)
    book.apply(trade(1, 4 * sign, 100))

    gains = book.apply(trade(2, -10 * sign, 130, "1.00"))

    assert [(gain.qty, gain.pnl, gain.close_fee) for gain in gains] == [
        (4 * sign, 120 * sign, D("0.40"))
    ]
    assert [*book.lots] == [
        Lot("f2", 2 * 10**9, D(-6 * sign), D(130), D(-780 * sign), D("0.60"))
    ]  # fmt: skip
    assert book.position == -6 * sign


@pytest.mark.parametrize(
    ("terms", "pnl"),
    [
        (LINEAR, D(250)),
        (MULTIPLIED, D("0.25")),
        (INVERSE, D("0.25")),  # 10 contracts of 10 USD: 100 USD at 100, and at 80 and 400
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_contracts_are_worth_what_their_terms_say(terms: Terms, pnl: Decimal, sign: int) -> None:
    """A multiplier multiplies; an inverse contract gains in its base currency."""
    prices = (80, 100) if terms.inverse else (100, 125)
    book = Book(terms)
    book.apply(trade(1, 10 * sign, prices[0]))

    assert book.unrealized(D(prices[1])) == pnl * sign
    assert realized(book.apply(trade(2, -10 * sign, prices[1]))) == Fraction(pnl * sign)


def test_an_inverse_contract_loses_nothing_to_rounding() -> None:
    """Thirds of a lot are rounded, but all of them together are the whole, to the last digit."""
    book = Book(INVERSE)
    book.apply(trade(1, 3, 7))
    gains = [book.apply(trade(number, -1, 7))[0] for number in (2, 3, 4)]

    values = [INVERSE.value(D(3), D(7)), *[INVERSE.value(D(-1), D(7)) for _ in range(3)]]
    assert realized(gains) == total(values) != 0
    assert max(abs(gain.pnl) for gain in gains) <= QUANTUM
    assert book.value == 0


@pytest.mark.parametrize("terms", TERMS)
def test_a_book_goes_on_from_its_lots(terms: Terms) -> None:
    """A book made of another one's lots, even read back from text, is that book."""
    book = Book(terms)
    for each in (trade(1, 3, 70, "0.1"), trade(2, 5, 90, "0.7"), trade(3, -1, 80, "0.1")):
        book.apply(each)
    texts = [tuple(str(value) for value in lot) for lot in book.lots]
    lots = [
        Lot(fill_id, int(ts_ns), *[D(value) for value in amounts])
        for fill_id, ts_ns, *amounts in texts
    ]
    copy = Book(terms, lots, book.unlotted)

    assert (copy.position, copy.value) == (book.position, book.value)
    assert copy.apply(trade(4, -9, 85, "0.3")) == book.apply(trade(4, -9, 85, "0.3"))
    assert copy.lots == book.lots


def test_contracts_settle_in_quote_or_base_currency() -> None:
    """An inverse contract is settled in its base currency, any other in the quote's."""
    assert [terms.settle for terms in (LINEAR, INVERSE)] == ["USDT", "BTC"]


def test_prices_at_and_below_zero_count() -> None:
    """An option that expires worthless is closed at 0; a spread may trade below."""
    book = Book(LINEAR)
    book.apply(trade(1, 2, 5))

    assert realized(book.apply(trade(2, -1, 0))) == -5
    assert realized(book.apply(trade(3, -1, -3))) == -8


def test_a_trade_of_nothing_does_nothing() -> None:
    """Where a fee takes all that was bought there is nothing left to book."""
    book = Book(LINEAR)

    assert book.apply(trade(1, 0, 100)) == []
    assert lots_of(book) == []


def test_a_payment_takes_the_lots_that_there_are() -> None:
    """A fee is paid from the oldest lots; what they do not reach is unlotted, never a short."""
    book = Book(LINEAR)
    book.apply(trade(1, 2, 100))
    book.apply(trade(2, 1, 110))

    gains = book.apply(trade(3, "-2.5", 120, is_payment=True))
    assert [(gain.lot, gain.qty, gain.pnl) for gain in gains] == [
        ("f1", 2, 40),
        ("f2", D("0.5"), 5),
    ]
    assert all(gain.is_payment for gain in gains)

    gains = book.apply(trade(4, -3, 90, is_payment=True))
    assert [(gain.lot, gain.pnl) for gain in gains] == [("f2", -10)]
    assert (lots_of(book), book.position, book.unlotted) == ([], 0, D("2.5"))


def test_a_payment_leaves_a_short_position_alone() -> None:
    """Where the currency is owed, a fee in it has no lot."""
    book = Book(LINEAR)
    book.apply(trade(1, -2, 100))

    assert book.apply(trade(2, -1, 120, is_payment=True)) == []
    assert (book.position, book.unlotted) == (-2, 1)


def test_what_a_rebate_brings_is_a_lot() -> None:
    """Currency that is received as a rebate opens a lot at what it was worth."""
    book = Book(LINEAR)
    book.apply(trade(1, 1, 300, is_payment=True))

    assert lots_of(book) == [("f1", 1, 300)]
    assert realized(book.apply(trade(2, -1, 310))) == 10


def test_quotients_keep_the_digits_they_have() -> None:
    """What divides evenly stays as short as it is; only what is longer is rounded, half to even."""
    assert str(divided(D(1), D(8))) == "0.125"
    assert divided(D(2), D(3)) == D("0.666666666666666666666667")
    assert divided(D("5E-25"), D(1)) == 0
    assert divided(D("15E-25"), D(1)) == D("2E-24")
    assert share(D(-1), D(1), D(3)) == D("-0.333333333333333333333333")


def test_the_callers_context_does_not_matter() -> None:
    """A book is as exact in a thread that rounds to a few digits."""
    with localcontext(prec=3):
        book = Book(LINEAR)
        book.apply(Trade("a", 1, D("1.23456789"), D("9876.54321")))
        gains = book.apply(Trade("b", 2, D("-1.23456789"), D("9876.54322")))
        again = Book(LINEAR, [Lot("a", 1, D("1.23456789"), D(1), D("1.23456789"), D(0))] * 2)

    assert gains[0].pnl == D("0.0000123456789")
    assert again.position == again.value == D("2.46913578")
