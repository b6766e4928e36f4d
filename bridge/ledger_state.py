"""All that a ledger has booked, from its tables and from scratch: both must come to the same."""

import sqlite3
from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

from bridge.core.bookings import Front
from bridge.core.fifo import ZERO, Gain, Lot, Terms
from bridge.core.fills import BookKey, Fill, cost_of, holds, pays
from bridge.ledger_books import front_of
from bridge.ledger_fills import booked_again
from bridge.ledger_totals import Sums, TotalKey, add, day_of, sum_up

BOOKS = "SELECT account, venue, symbol FROM book"
BOOK = """
SELECT n, base, quote, multiplier, inverse, is_spot, unlotted, front FROM book
WHERE account = ? AND venue = ? AND symbol = ?
"""
LOTS = "SELECT fill_id, ts_ns, qty, price, value, fee FROM lot WHERE book = ? ORDER BY n"
GAINS = """
SELECT lot, fill_id, opened_ns, closed_ns, qty, open_price, close_price, pnl, open_fee, close_fee,
    is_payment
FROM gain WHERE book = ? ORDER BY n
"""
WORTHS = "SELECT fill_id, cost, cost_ccy, pays FROM fill WHERE book = ?"
TOTALS = "SELECT account, venue, symbol, strategy, day, ccy, pnl, fees, funding FROM total"
FUNDING = "SELECT account, venue, symbol, ts_ns, ccy, amount FROM funding"

# What a fill's fee cost (None: it has no price), in which currency, and whether another book pays.
type Worth = tuple[Decimal | None, str, bool]
type Totals = dict[TotalKey, tuple[Decimal, ...]]


class BookState(NamedTuple):
    """A book: its open lots, oldest first, its gains in the order they were made, and by fill what
    the fees cost."""

    terms: Terms
    is_spot: bool
    lots: list[Lot]
    gains: list[Gain]
    unlotted: Decimal
    front: Front
    worths: dict[str, Worth]


class State(NamedTuple):
    """The books, what was realized, and the fills that wait or were replaced."""

    books: dict[BookKey, BookState]
    totals: Totals
    states: dict[str, str]


def state(database: sqlite3.Connection) -> State:
    """Return what the tables say."""
    keys = [BookKey(*names) for names in database.execute(BOOKS)]
    books = {key: _kept(database, key) for key in keys}
    return State(books, *_kept_rest(database))


def rebuilt(database: sqlite3.Connection) -> State:
    """Return what comes of the fill and funding tables alone."""
    books: dict[BookKey, BookState] = {}
    return State(books, *_rebuilt(database, books.__setitem__))


def is_consistent(database: sqlite3.Connection) -> bool:
    """Return whether both are the same; has one book at a time in memory."""
    differing: list[BookKey] = []
    missing = {BookKey(*names) for names in database.execute(BOOKS)}

    def compare(key: BookKey, book: BookState) -> None:
        missing.discard(key)
        if _kept(database, key) != book:
            differing.append(key)

    try:
        rest = _rebuilt(database, compare)
        return not differing and not missing and rest == _kept_rest(database)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return False  # somebody wrote what no ledger writes


def _kept(database: sqlite3.Connection, key: BookKey) -> BookState:
    [row] = database.execute(BOOK, key).fetchall()
    n, base, quote, multiplier, inverse, is_spot, unlotted, front = row
    return BookState(
        Terms(base, quote, Decimal(multiplier), bool(inverse)),
        bool(is_spot),
        [
            Lot(fill_id, ts_ns, *map(Decimal, numbers))
            for fill_id, ts_ns, *numbers in database.execute(LOTS, (n,))
        ],
        [
            Gain._make([*row[:4], *map(Decimal, row[4:-1]), bool(row[-1])])
            for row in database.execute(GAINS, (n,))
        ],
        Decimal(unlotted),
        front_of(key, front),
        {
            fill_id: (None if cost is None else Decimal(cost), ccy, bool(is_paying))
            for fill_id, cost, ccy, is_paying in database.execute(WORTHS, (n,))
        },
    )


def _kept_rest(database: sqlite3.Connection) -> tuple[Totals, dict[str, str]]:
    sums: Sums = {}
    for account, venue, symbol, strategy, day, ccy, *amounts in database.execute(TOTALS):
        sums[account, venue, symbol, strategy, day, ccy] = [Decimal(text) for text in amounts]
    states = database.execute("SELECT fill_id, state FROM fill WHERE state != 'counted'")
    return _without_zeros(sums), dict(states.fetchall())


def _rebuilt(
    database: sqlite3.Connection, take: Callable[[BookKey, BookState], None]
) -> tuple[Totals, dict[str, str]]:
    """Book all fills again, give each book to `take`; return what is not of one book."""
    sums, states = Sums(), dict[str, str]()
    for booked, fills, payments in booked_again(database):
        key, book = booked.front.book, booked.book
        strategies = {fill.fill_id: fill.strategy_id for fill in (*fills, *payments)}
        states |= {fill_id: state.value for fill_id, state in booked.states.items()}
        sum_up(sums, key, book.terms.settle, booked.gains, booked.costs, strategies)
        is_spot = holds(fills[0]) is not None
        worths = {fill.fill_id: _worth_of(fill) for fill in fills}
        lots, gains, front = list(book.lots), booked.gains, booked.front
        take(key, BookState(book.terms, is_spot, lots, gains, book.unlotted, front, worths))
    for account, venue, symbol, ts_ns, ccy, amount in database.execute(FUNDING):
        day = day_of(int(ts_ns))
        add(sums, (account, venue, symbol, "", day, ccy), funding=Decimal(amount))
    return _without_zeros(sums), states


def _worth_of(fill: Fill) -> Worth:
    cost = cost_of(fill)
    if cost is None:
        return ZERO, "", False
    return cost.amount if cost.is_priced else None, cost.ccy, pays(fill) is not None


def _without_zeros(sums: Sums) -> Totals:
    return {key: tuple(amounts) for key, amounts in sums.items() if any(amounts)}
