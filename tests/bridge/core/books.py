"""What the tests of books share: fills and trades in few words, and sums that never round."""

import itertools
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any

from bridge.core.bookings import Booked, Key, book
from bridge.core.fifo import Book, Gain, Terms, Trade
from bridge.core.fills import (
    BUY,
    SELL,
    BookKey,
    Fill,
    Pair,
    cost_of,
    holds,
    key_of,
    payment_of,
    pays,
    trade_of,
)

D = Decimal
SECOND = 10**9
LINEAR = Terms("BTC", "USDT", D(1), inverse=False)
MULTIPLIED = Terms("BTC", "USDT", D("0.001"), inverse=False)
INVERSE = Terms("BTC", "USD", D(10), inverse=True)
TERMS = (LINEAR, MULTIPLIED, INVERSE)

SPOT: dict[str, Any] = {"symbol": "BTCUSDT"}
BNB: dict[str, Any] = {"symbol": "BNBUSDT", "base": "BNB"}
# A contract whose fees are paid in BNB.
PAID_IN_BNB: dict[str, Any] = {"fee_ccy": "BNB"}


def books(fills: Iterable[Fill]) -> dict[BookKey, Booked]:
    """Book all fills there are, in any order.

    Fees go to the spot book that holds their currency, when there are several to the one whose
    symbol is the first. Raises ValueError when fills of one book disagree about its terms.
    """
    own: dict[BookKey, list[Fill]] = {}
    for fill in fills:
        own.setdefault(key_of(fill), []).append(fill)
    holders: dict[Pair, BookKey] = {}
    for key in sorted(own):
        if (pair := holds(own[key][0])) is not None:
            holders.setdefault(pair, key)
    payments: dict[BookKey, list[Fill]] = {key: [] for key in own}
    for fill in itertools.chain.from_iterable(own.values()):
        pair = pays(fill)
        if pair in holders:
            payments[holders[pair]].append(fill)
    # What counts in a book does not depend on what is paid from it: only its fills and their order.
    unsure = [key for key in own if any(fill.provisional for fill in own[key])]
    idle = {each for key in unsure for each in book(own[key], payments[key]).states}
    return {key: book(own[key], payments[key], idle) for key in own}


def trade(number: int, qty: str | int, price: str | int, fee: str | int = 0, **more: Any) -> Trade:
    """Return a trade at second `number`; `qty` is negative for a sale."""
    return Trade(f"f{number}", number * 10**9, D(qty), D(price), D(fee), **more)


def fill(number: int, qty: str | int, price: str | int, **changes: Any) -> Fill:
    """Return the producer P's fill `number`, at that second; `qty` is negative for a sale."""
    usual = Fill(
        fill_id=f"f{number}",
        producer="P",
        seq=number,
        ts_ns=number * 10**9,
        account="A",
        venue="V",
        symbol="BTCUSDT-PERP",
        side=BUY if D(qty) > 0 else SELL,
        qty=D(qty).copy_abs(),
        price=D(price),
        fee=D(0),
        fee_ccy="USDT",
        fee_quote=None,
        base="BTC",
        quote="USDT",
        multiplier=D(1),
        inverse=False,
        order=f"O{number}",
        strategy_id="S",
        provisional=False,
    )
    return usual._replace(**changes)


def provisional(number: int, qty: str | int, price: str | int, order: str, **more: Any) -> Fill:
    """Return a fill that Nautilus made up."""
    return fill(number, qty, price, order=order, provisional=True, **more)


def own(number: int, qty: str | int, price: str | int, order: str, at: int, **more: Any) -> Fill:
    """Return the venue's own fill, executed at second `at`."""
    return fill(number, qty, price, order=order, ts_ns=at * SECOND, **more)


def total(amounts: Iterable[Decimal]) -> Fraction:
    """Return an exact sum, whatever the digits."""
    return sum([Fraction(amount) for amount in amounts], start=Fraction())


def realized(gains: Iterable[Gain]) -> Fraction:
    """Return the price PnL of gains."""
    return total([gain.pnl for gain in gains])


def cash(terms: Terms, trades: Iterable[Trade]) -> Fraction:
    """Return what trades brought in, in the currency of settlement."""
    values = total([terms.value(each.qty, each.price) for each in trades])
    return values if terms.inverse else -values


def worth(terms: Terms, qty: Decimal, mark: Decimal) -> Fraction:
    """Return what a position brings in when it is closed at a mark."""
    return -cash(terms, [Trade("", 0, qty, mark)])


def lots_of(book: Book) -> list[tuple[str, Decimal, Decimal]]:
    """Return the open lots: fill, quantity, price."""
    return [(lot.fill_id, lot.qty, lot.price) for lot in book.lots]


def view(booked: Booked) -> tuple[object, ...]:
    """Return all there is to compare of a book."""
    return (
        [*booked.book.lots],
        booked.book.position,
        booked.book.value,
        booked.book.unlotted,
        booked.front,
        booked.gains,
        booked.costs,
        booked.states,
    )


class Shelf:
    """Takes fills as they arrive, as the ledger does: on top of a book, or by building it again.

    One symbol for a pair.
    """

    def __init__(self) -> None:
        self.fills: list[Fill] = []
        self.books: dict[BookKey, Booked] = {}

    def take(self, fill: Fill) -> None:
        """Take one fill."""
        self.fills.append(fill)
        key = key_of(fill)
        if (place := self._place(key, fill)) is None:
            self._build(key)
        else:
            self._put(key, place, fill, trade_of(fill))
            if cost := cost_of(fill):
                self.books[key].costs.append(cost)
        if (payer := self._payer(fill)) is None:
            return
        if (place := self._place(payer, fill)) is None:
            self._build(payer)
        else:
            counts = fill.fill_id not in self.books[key].states
            self._put(payer, place, fill, payment_of(fill) if counts else None)

    def _place(self, key: BookKey, fill: Fill) -> Key | None:
        return self.books[key].front.next(fill) if key in self.books else None

    def _put(self, key: BookKey, place: Key, fill: Fill, trade: Trade | None) -> None:
        booked = self.books[key]
        booked.front.put(place, fill)
        booked.gains += booked.book.apply(trade) if trade else []

    def _payer(self, fill: Fill) -> BookKey | None:
        """Return the book that a fill's fee is paid from."""
        pair = pays(fill)
        for each in self.fills:
            if pair is not None and holds(each) == pair and key_of(each) in self.books:
                return key_of(each)
        return None

    def _build(self, key: BookKey) -> None:
        own = [each for each in self.fills if key_of(each) == key]
        holder = holds(own[0])
        payments = [each for each in self.fills if holder is not None and pays(each) == holder]
        idle = {each for booked in self.books.values() for each in booked.states}
        before = self.books[key].states if key in self.books else {}
        self.books[key] = booked = book(own, payments, idle)
        if before != booked.states:
            for payer in {self._payer(each) for each in own}:
                if payer is not None:
                    self._build(payer)
